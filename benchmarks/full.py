"""All four tasks trained jointly on a made shop: exposures a second, and where the time goes.

    python benchmarks/full.py OUT [--preset default] [--threads 2] [--rounds 7] [--set KEY=VALUE]

Trains the product's own epochs on the shop that `daogou simulate` makes, with default settings,
``--rounds`` pieces of 30 steps after a warm-up. The share of each part is of a profiled run: an
operation counts for the innermost part that it ran in, and an operation of the backward pass for
the part whose forward operation it belongs to. ``waiting`` is how long a step waited for its batch.
OUT keeps the shop and its store and gets ``full.json``. The exit status is 1 if the bar is missed.
"""

import argparse
import functools
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from record import commit
from rich.console import Console
from rich.table import Table as Shown
from torch.profiler import ProfilerActivity, profile, record_function

from daogou.artifact.counts import model_of
from daogou.config import read_shop
from daogou.features.epoch import Epoch
from daogou.features.store.compile import compile_store
from daogou.features.transform.fit import fit_transform
from daogou.learn.loop import Learner
from daogou.learn.machine import fast_memory
from daogou.learn.settings import settings_of
from daogou.model.embed import Table
from daogou.tables import Engine, prepare
from daogou.tables.simulate import simulate

BAR: Final = 20_000.0  # exposures a second
_STEPS: Final = 30
_MARK: Final = "part: "
# Which methods of which module make a part; the innermost counts.
PARTS: Final[Sequence[tuple[str, str, str]]] = (
    ("text", "forward", "text encoder"),
    ("item", "forward", "items"),
    ("user", "read_history", "history"),
    ("user", "forward", "history"),
    ("user", "user", "users"),
    ("heads.funnel", "losses", "funnel head"),
    ("heads.funnel.meet", "forward", "meeting of user and item"),
    ("heads.funnel.mixer", "forward", "mixer"),
    ("heads.match", "losses", "match head"),
    ("heads.profile", "losses", "profile head"),
    ("heads.extract", "losses", "extract head"),
)


def prepared(out: Path, preset: str, sets: Sequence[str]) -> tuple[Learner, Any, Epoch]:
    """A learner at its start, the compiled store and an epoch's plan."""
    if not (out / "shop" / "shop.toml").exists():
        simulate(out / "shop", preset)
    shop = read_shop(out / "shop", list(sets))
    settings, shape = settings_of(shop)
    with Engine(memory_limit=settings.memory_limit) as engine:
        prepare(engine, shop)
        transform = fit_transform(engine, shop)
        store = compile_store(engine, shop, transform, out / "store")
    torch.manual_seed(shop.seed)
    learner = Learner(model_of(transform, store, shop, shape), settings)
    return learner, store, learner.plan(store, shop.seed, 0)


def piece(plan: Epoch, first: int, last: int) -> Epoch:
    """Some steps of a plan."""
    return Epoch(
        plan.exposures[first:last], plan.titles[first:last],
        plan.extra_items[first:last], plan.taught[first:last],
        None if plan.families is None else plan.families[first:last],
    )  # fmt: skip


def speed(learner: Learner, store: Any, plan: Epoch, rounds: int) -> dict[str, Any]:
    """Exposures a second, median over the rounds, and how long a batch takes to make."""
    learner.epoch(store, piece(plan, 0, 10), (0, 0))
    found = []
    for turn in range(rounds):
        first = (10 + turn * _STEPS) % (len(plan) - _STEPS)
        part = piece(plan, first, first + _STEPS)
        started = time.perf_counter()
        learner.epoch(store, part, (0, turn + 1))
        n = sum(len(rows) for rows in part.exposures)
        found.append(n / (time.perf_counter() - started))
        print(f"round {turn}: {found[-1]:,.0f} exposures/s")
    return {"exposures_a_second": statistics.median(found), "rounds": found}


def shares(learner: Learner, store: Any, plan: Epoch) -> dict[str, float]:
    """Each part's share of the time of 20 profiled steps."""
    unmark = _mark(learner)
    waited = 0.0
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        started = before = time.perf_counter()
        for batch in learner.batches(store, piece(plan, 0, 20)):
            waited += time.perf_counter() - before
            learner.step(batch)
            before = time.perf_counter()
        whole = time.perf_counter() - started
    unmark()
    seconds = _by_part(profiler.events())
    seconds["waiting for data"] = waited
    seconds["other"] = whole - sum(seconds.values())
    return {part: value / whole for part, value in sorted(seconds.items(), key=lambda x: -x[1])}


def _mark(learner: Learner) -> Callable[[], None]:
    """Name the parts to the profiler; returns what undoes it."""
    marked: list[tuple[Any, str]] = []

    def mark(module: Any, method: str, part: str) -> None:
        inner = getattr(module, method)

        @functools.wraps(inner)
        def named(*given: Any, **more: Any) -> Any:
            with record_function(_MARK + part):
                return inner(*given, **more)

        object.__setattr__(module, method, named)
        marked.append((module, method))

    modules = dict(learner.model.named_modules())
    for name, method, part in PARTS:
        if name in modules:
            mark(modules[name], method, part)
    for module in modules.values():
        if isinstance(module, Table):
            mark(module, "sums", "tables")

    def undo() -> None:
        for module, method in marked:
            object.__delattr__(module, method)

    return undo


def _by_part(events: Any) -> dict[str, float]:
    """Seconds of each part, forward, backward and optimiser."""
    part_of: dict[int, str] = {}  # sequence number of a forward operation -> its part
    seconds: dict[str, float] = defaultdict(float)
    for event in events:
        part = _part(event)
        if part and event.sequence_nr >= 0 and not event.name.startswith("autograd::"):
            part_of[event.sequence_nr] = part  # the last: others only look the number up
        if part and not event.name.startswith(_MARK):
            seconds[part] += event.self_cpu_time_total / 1e6
    for event in events:
        if event.name.startswith("autograd::engine::evaluate_function") and not _part(event):
            part = part_of.get(event.sequence_nr, "")
            if part:
                seconds[part] += event.cpu_time_total / 1e6
        elif event.name.startswith("Optimizer.step#"):
            part = "tables" if "RowAdagrad" in event.name else "AdamW"
            seconds[part] += event.cpu_time_total / 1e6
    return dict(seconds)


def _part(event: Any) -> str:
    """The innermost part that an operation ran in; nothing if none."""
    while event is not None:
        if event.name.startswith(_MARK):
            return str(event.name.removeprefix(_MARK))
        event = event.cpu_parent
    return ""


def show(found: Mapping[str, Any]) -> None:
    """The table in the terminal."""
    table = Shown("part", "share of a step")
    for part, share in found["shares"].items():
        table.add_row(part, f"{share:.1%}")
    console = Console(width=100)
    console.print(table)
    value = found["exposures_a_second"]
    verdict = "PASS" if value >= BAR else "MISS"
    console.print(f"{value:,.0f} exposures/s (bar {BAR:,.0f}): {verdict}; "
                  f"a batch is made in {found['ms_a_batch']:.1f} ms")  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write; 1 if the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    learner, store, plan = prepared(given.out, given.preset, given.sets)
    with fast_memory():
        found = speed(learner, store, plan, given.rounds)
        found["shares"] = shares(learner, store, plan)
    started = time.perf_counter()
    for step in range(20):
        learner.batch(store, plan, step)
    found["ms_a_batch"] = (time.perf_counter() - started) / 20 * 1e3
    document = {"commit": commit(), "preset": given.preset, "threads": given.threads, **found}
    (given.out / "full.json").write_text(json.dumps(document, indent=1))
    show(found)
    return 0 if found["exposures_a_second"] >= BAR else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
