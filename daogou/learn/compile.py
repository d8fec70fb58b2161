"""A shop's tables read, checked and compiled, once for as many runs as want them."""

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from daogou import artifact
from daogou.errors import DataError
from daogou.features.store import Ranges, Store, open_store
from daogou.features.store.compile import compile_store
from daogou.features.store.writer import Writer, link_store
from daogou.features.transform import Transform
from daogou.features.transform.fit import fit_transform
from daogou.learn.loop import Progress, quiet
from daogou.learn.settings import Settings, settings_of
from daogou.schema import Shop
from daogou.tables import Counts, Seam, engine_for, prepare
from daogou.tables.check import STOPPING, check
from daogou.tables.checks.finding import Finding
from daogou.tables.engine import Engine


class Tables(NamedTuple):
    """A shop's tables compiled, and the document of what was read and left out."""

    transform: Transform
    store: Store
    prepared: Mapping[str, Any]


class Others(Protocol):
    """Who prepares and compiles a log in this process's place."""

    def prepare(self, engine: Engine, shop: Shop, validation_teaches: bool) -> Counts:
        """As `daogou.tables.prepare`, and what `count_log` counts of it all."""

    def write(self, engine: Engine, shop: Shop, transform: Transform, writer: Writer) -> Ranges:
        """The ``log`` of `compile_store`."""

    def over(self) -> None:
        """The tables are there whole."""


def compile_tables(
    shop: Shop,
    folder: Path,
    *,
    progress: Progress = quiet,
    cut: Callable[[Engine], None] | None = None,
    blend: Callable[[Engine, Transform], Transform] | None = None,
    seam: Seam | None = None,
) -> Tables:
    """Transform and store of a shop's tables, for the ``like`` of many runs; and their counts.

    One that is there whole is left as it is, one that a kill cut short is made anew. ``cut`` takes
    rows out of the prepared tables, ``blend`` makes the transform that is kept of the fitted one.
    With a ``seam`` the tables are of what came since.
    """
    settings, _ = settings_of(shop)
    folder.mkdir(exist_ok=True)
    return compiled(shop, settings, folder, progress, cut=cut, blend=blend, seam=seam)


def compile_by(
    others: Others, shop: Shop, folder: Path, *, validation_teaches: bool, progress: Progress
) -> Tables:
    """`compile_tables` of a log that others compile."""
    settings, _ = settings_of(shop)
    return compiled(
        shop, settings, folder, progress, validation_teaches=validation_teaches, others=others
    )


def fit_tables(
    shop: Shop, folder: Path, *, cut: Callable[[Engine], None] | None = None
) -> tuple[Transform, int]:
    """The transform that a shop's training split fits, and the rows of that split.

    ``cut`` takes rows out of the prepared tables first.
    """
    settings, _ = settings_of(shop)
    folder.mkdir(exist_ok=True)
    with _prepared(shop, settings, folder) as (engine, _):
        if cut is not None:
            cut(engine)
        transform = _fitted(engine, shop, settings)
        counted = "SELECT count(*) FROM {} WHERE split = 'train'"
        exposures, titles = (
            int(engine.rows(counted.format(table))[0][0]) for table in ("exposures", "title_split")
        )
    return transform, exposures or titles


def take_over(like: Path, run: Path) -> None:
    """Transform and store of a finished run in place of our own, unless ours are there."""
    if (run / "transform.json").exists():
        return
    shutil.rmtree(run / "store", ignore_errors=True)  # of a try that was killed
    link_store(like / "store", run / "store")
    for name in ("prepared.json", "transform.json"):  # the last one makes it count
        artifact.write_whole(run / name, (like / name).read_text("utf-8"))


def compiled(  # noqa: PLR0913 - ways to make the same tables
    shop: Shop,
    settings: Settings,
    run: Path,
    progress: Progress,
    *,
    validation_teaches: bool = False,
    cut: Callable[[Engine], None] | None = None,
    blend: Callable[[Engine, Transform], Transform] | None = None,
    seam: Seam | None = None,
    others: Others | None = None,
) -> Tables:
    """Transform and store of the shop's tables; those of an earlier try where it got so far."""
    done = run / "transform.json"
    if done.exists() and (run / "store" / "store.json").exists():
        document = json.loads(done.read_text("utf-8"))
        prepared = json.loads((run / "prepared.json").read_text("utf-8"))
        return Tables(Transform.from_json(document), open_store(run / "store"), prepared)
    progress("prepare", 0, 3, "reading tables")
    with _prepared(shop, settings, run, validation_teaches, seam, others) as (engine, counts):
        if cut is not None:
            cut(engine)
        progress("prepare", 1, 3, "fitting the transform")
        transform = _fitted(engine, shop, settings, counted=others is not None)
        if blend is not None:
            transform = blend(engine, transform)
        progress("prepare", 2, 3, "compiling the store")
        log = None if others is None else others.write
        store = compile_store(engine, shop, transform, run / "store", log=log)
        progress("prepare", 3, 3, "ready")
    prepared = counts.document()
    artifact.write_whole(run / "prepared.json", json.dumps(prepared, default=str))
    artifact.write_whole(done, json.dumps(transform.to_json(), ensure_ascii=False))
    if others is not None:
        others.over()
    return Tables(transform, store, prepared)


@contextmanager
def _prepared(
    shop: Shop,
    settings: Settings,
    run: Path,
    validation_teaches: bool = False,
    seam: Seam | None = None,
    others: Others | None = None,
) -> Iterator[tuple[Engine, Counts]]:
    """The shop's relations, checked, while the block runs; what does not fit memory is in run."""
    spill = run / "spill"
    shutil.rmtree(spill, ignore_errors=True)  # of a try that was killed
    spill.mkdir()
    with engine_for(shop, memory_limit=settings.memory_limit, spill=spill) as engine:
        if others is None:
            counts = prepare(engine, shop, validation_teaches=validation_teaches, seam=seam)
            found = check(engine, shop, counts)
        else:
            counts = others.prepare(engine, shop, validation_teaches)
            found = check(engine, shop, counts, STOPPING)
        _sound(found, settings.waive)
        yield engine, counts
    spill.rmdir()


def _fitted(engine: Engine, shop: Shop, settings: Settings, *, counted: bool = False) -> Transform:
    return fit_transform(
        engine,
        shop,
        min_count=settings.min_count,
        buckets=settings.buckets,
        text_length=settings.text_length,
        word_count=settings.word_count,
        counted=counted,
    )


def _sound(findings: Iterable[Finding], waived: Collection[str]) -> None:
    """A check that fails stops the fit, unless it is waived by name."""
    failed = [found for found in findings if found.level == "FAIL" and found.name not in waived]
    if failed:
        lines = [f"check {found.name}: {found.text}" for found in failed]
        names = ", ".join(dict.fromkeys(f'"{found.name}"' for found in failed))
        raise DataError("\n".join([*lines, f"to fit all the same: --set 'fit.waive=[{names}]'"]))
