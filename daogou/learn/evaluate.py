"""A run and a split to the report: one entry per task, exact, with intervals, never pooled."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from daogou.artifact import Artifact
from daogou.errors import DataError, unknown
from daogou.features.store import SPLITS
from daogou.features.store.compile import compile_store
from daogou.learn.entries.asked import Asked, Entry
from daogou.learn.entries.extract import extract
from daogou.learn.entries.funnel import funnel
from daogou.learn.entries.match import match
from daogou.learn.entries.profile import profile
from daogou.learn.judge import truth_of
from daogou.learn.returning import judge_returning
from daogou.schema import Shop, Task
from daogou.tables import engine_for, prepare


def evaluate(run: Artifact, *, split: str = "test", data: Shop | None = None) -> dict[str, Any]:
    """The report of a split: ``{"split": ..., "tasks": {name: {metric: value}}}``.

    ``data`` judges the run on another shop's tables, through the run's own transform. Intervals
    are 95 % and draw whole users. A stage with a condition is reported twice: over all exposures
    under its name, and where it is defined as ``stage|given``. Undefined numbers are NaN here and
    null in JSON. ``returning`` says of the test how well the next purchase was foretold.
    """
    if split not in SPLITS:
        raise DataError(f"split: {unknown(split, SPLITS)}")
    if split == "validation" and run.refit and (data is None or _tables(data) == _tables(run.shop)):
        raise DataError(
            f"{run.folder}: its validation rows taught it in the end (fit.refit), what they "
            "said before is in its manifest's fit.validation: ask for --split test"
        )
    if data is None:
        return _report(run, split)
    with tempfile.TemporaryDirectory(prefix="daogou-") as folder, engine_for(data) as engine:
        prepare(engine, data)
        store = compile_store(engine, data, run.transform, Path(folder) / "store")
        store = replace(store, taught=run.store)
        return _report(replace(run, store=store, shop=data), split)


def _tables(shop: Shop) -> list[Path | None]:
    """Where a shop's tables lie."""
    tables = (shop.items, shop.users, shop.events)
    return [(shop.root / each.path).resolve() if each else None for each in tables]


def _report(run: Artifact, split: str) -> dict[str, Any]:
    asked = Asked(run, split, truth_of(run.shop), run.shop.seed)
    tasks: dict[str, Entry] = {}
    by_family: dict[str, list[Task]] = {}
    for task in run.model.tasks:
        by_family.setdefault(task.family, []).append(task)
    for family, members in by_family.items():
        tasks |= _FAMILIES[family](asked, members)
    report: dict[str, Any] = {"split": split, "tasks": tasks}
    if run.returning is not None and split == "test":
        report["returning"] = judge_returning(
            run.returning, run.store, run.transform,
            history_length=run.history_length, seed=run.shop.seed,
        )  # fmt: skip
    return report


_FAMILIES: dict[str, Callable[[Asked, list[Task]], dict[str, Entry]]] = {
    "funnel": funnel,
    "match": match,
    "profile": profile,
    "extract": extract,
}
