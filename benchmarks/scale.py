"""A log of 100 million exposures on two cores, and what a second process is worth.

    python benchmarks/scale.py OUT [--only size workers plan] [--exposures 1000000 100000000]
                               [--threads 2] [--rounds 3] [--rows 4096 8192 16384] [--free]

``size``: shops of `transform.py` (a made log many times over, each copy with users of its own) with
a flat model of the three stages: one bottom, no titles, no profiles, no matching, the last event of
a history. Each is read, compiled and taught for one epoch by `fit` in a process of its own, whose
seconds and peak memory are told; the bars are 6 GB of the process's own pages at the largest size,
60,000 exposures taught in a second, and 1.2 times the seconds an exposure takes at the smallest.
Sizes that are done are kept in ``size.jsonl`` and not run again.

``workers``: the first shop's fit by one and by two of Ray's processes in turn, each with one thread
and a core, where nothing else runs. Without ``--free`` one process and its cluster are held to one
core, two to two; with it both have all, and the one makes its batches beside its steps on the
other. What counts are exposures in a second of an epoch, its validation included; starts are
outside. Two processes share the ``--rows`` of a step. The bar is 1.6 times.

``plan``: what a hundred workers would do, from what one does. On the first shop, of the flat model
and of the default one (all four tasks), it measures a step's seconds in one thread by its rows, and
what of it would travel: the dense gradients, and the touched rows of tables with their numbers. A
network of ``--gbit`` then says how many exposures so many workers teach in a second: each sends a
sum of the dense gradients around a ring and hears everybody's rows. Latency and stragglers are left
out.

OUT gets ``scale.json`` and ``scale.md``. Needs the extra ``ray`` and Linux. The exit status is 1 if
a bar is missed.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from memory import peak_gb
from record import about, keep_line, kept_lines, show
from transform import copy_shop, make_shop

from daogou import artifact
from daogou.artifact.counts import model_of
from daogou.config import read_shop
from daogou.learn.compile import Tables, compile_tables
from daogou.learn.fit import fit
from daogou.learn.loop import Learner
from daogou.learn.machine import fast_memory
from daogou.learn.optimise import distinct_rows, weights_of
from daogou.learn.settings import settings_of
from daogou.learn.variant import varied
from daogou.schema import Shop

MEMORY_GB: Final = 6.0
TAUGHT: Final = 60_000.0  # exposures in a second
GROWTH: Final = 1.2  # of the seconds of an exposure
WORTH: Final = 1.6  # of two workers, in exposures in a second
STEP_ROWS: Final = (512, 2_048, 8_192)
WORKERS: Final = (1, 2, 4, 16, 100)
STEPS: Final = 22
_LEFT_OUT: Final = ("profile =", "text =", "attributes =", "spans =", "[truth]", 'path = "truth/"')
FLAT: Final = (
    "fit.epochs=1", "fit.history_length=1", "fit.rows_per_step=4096", "fit.calibration='none'",
    "model.mixer='shared_bottom'",
)  # fmt: skip
_SAID: Final = {True: "PASS", False: "MISS"}
Table = tuple[Sequence[str], Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Line:
    """A whole fit: seconds of the transform, the epoch and all, and the peak in GB."""

    exposures: int
    taught: int
    transform: float
    epoch: float
    whole: float
    rss: float
    anon: float
    validation: Mapping[str, Any]


@dataclass(frozen=True)
class Check:
    """A number against its bar."""

    what: str
    value: float
    bar: str
    holds: bool


def flat(folder: Path) -> Path:
    """The shop of a folder without what a flat model does not read, and without its tasks."""
    path = folder / "flat.toml"
    lines = (folder / "shop.toml").read_text("utf-8").split("\n[tasks.")[0].splitlines()
    kept = [line for line in lines if not line.startswith(_LEFT_OUT)]
    path.write_text("\n".join([*kept, "", "[tasks.match]", "enabled = false", ""]), "utf-8")
    return path


def shop_of(out: Path, exposures: int, least: int) -> Path:
    """The made shop of a size, made once."""
    folder = out / f"shop-{exposures}"
    if exposures == least:
        make_shop(folder, exposures)
    else:
        copy_shop(out / f"shop-{least}", folder, exposures // least)
    return flat(folder)


def measured(shop: Path, run: Path, threads: int) -> Line:
    """Fit a shop in this process."""
    torch.set_num_threads(threads)
    described = read_shop(shop, FLAT)
    started = time.perf_counter()
    at: dict[str, float] = {}

    def told(what: str, done: int, total: int, words: str) -> None:
        at.setdefault(f"{what} {done}" if what == "prepare" else what, time.perf_counter())
        at[f"last {what}"] = time.perf_counter()

    with peak_gb() as peak:
        answer = fit(described, run, progress=told)
    store = json.loads((run / "store" / "store.json").read_text("utf-8"))
    first, last = store["ranges"]["train"]
    return Line(
        exposures=sum(end - begin for begin, end in store["ranges"].values()),
        taught=last - first,
        transform=at["prepare 3"] - started,
        epoch=at["last steps"] - at["prepare 3"],
        whole=time.perf_counter() - started,
        rss=peak["rss"],
        anon=peak["anon"],
        validation=answer["validation"],
    )


def by_size(given: argparse.Namespace) -> tuple[list[Line], list[Check], dict[str, Table]]:
    """Each size, one after the other."""
    sizes = sorted(given.exposures)
    path = given.out / "size.jsonl"
    lines = kept_lines(path, Line)
    for size in sizes[len(lines) :]:
        shop, run = shop_of(given.out, size, sizes[0]), given.out / f"run-{size}"
        shutil.rmtree(run, ignore_errors=True)
        answer = subprocess.run(
            [sys.executable, __file__, "--measure", shop, run, str(given.threads)],
            env={**os.environ, "OMP_NUM_THREADS": str(given.threads)},
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        line = Line(**json.loads(answer.stdout.strip().splitlines()[-1]))
        shutil.rmtree(run)
        keep_line(path, line)
        lines.append(line)
    rows = [
        [f"{each.exposures:,}", f"{each.transform:.0f}", f"{each.exposures / each.transform:,.0f}",
         f"{each.epoch:.0f}", f"{each.taught / each.epoch:,.0f}", f"{each.whole:.0f}",
         f"{1e6 * each.whole / each.exposures:.1f}", f"{each.anon:.2f}", f"{each.rss:.2f}"]
        for each in lines
    ]  # fmt: skip
    heads = ("exposures", "transform, s", "in a second", "epoch, s", "taught in a second",
             "whole, s", "us an exposure", "own GB", "with mapped files, GB")  # fmt: skip
    least, most = lines[0], lines[-1]
    growth = (most.whole / most.exposures) / (least.whole / least.exposures)
    rate = most.taught / most.epoch
    checks = [
        Check(f"own GB at {most.exposures:,}", most.anon, f"<= {MEMORY_GB}",
              most.anon <= MEMORY_GB),
        Check("taught in a second there", rate, f">= {TAUGHT:,.0f}", rate >= TAUGHT),
        Check("seconds of an exposure there, over those of the least size", growth,
              f"<= {GROWTH}", growth <= GROWTH),
    ]  # fmt: skip
    return lines, checks, {"a flat model, by size": (heads, rows)}


def by_workers(given: argparse.Namespace) -> tuple[Any, list[Check], dict[str, Table]]:
    """One worker and two, by the rows of a step."""
    os.environ["OMP_NUM_THREADS"] = "1"
    least = min(given.exposures)
    shop = read_shop(shop_of(given.out, least, least), [*FLAT, "fit.epochs=2", "fit.patience=9"])
    found, checks, rows = {}, [], []
    for size in given.rows:
        rates, losses = in_turn(varied(shop, training={"rows_per_step": size}), given)
        found[str(size)] = {"rates": rates, "losses": losses}
        ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
        worth = statistics.median(ratios)
        checks.append(Check(
            f"two workers over one, {size:,} rows a step, median of {len(ratios)} "
            f"({min(ratios):.2f} to {max(ratios):.2f})", worth, f">= {WORTH}", worth >= WORTH,
        ))  # fmt: skip
        rows += [
            [f"{size:,}", str(workers), f"{statistics.median(rates[workers]):,.0f}",
             *(f"{each['loss'] / each['constant']:.4f}" for each in losses[workers].values())]
            for workers in rates
        ]  # fmt: skip
    heads = ("rows a step", "workers", "taught in a second",
             *(f"{task}, relative loss" for task in losses[1]))  # fmt: skip
    return found, checks, {"processes of one thread": (heads, rows)}


def in_turn(
    shop: Shop, given: argparse.Namespace
) -> tuple[dict[int, list[float]], dict[int, Mapping[str, Any]]]:
    """Exposures that one worker and two taught in a second in each round, and their last losses."""
    from daogou.scale.cluster import cluster
    from daogou.scale.train import fit_by

    rates: dict[int, list[float]] = {1: [], 2: []}
    losses: dict[int, Mapping[str, Any]] = {}
    ours = os.sched_getaffinity(0)
    for turn in range(given.rounds):
        for workers in (1, 2) if turn % 2 else (2, 1):
            run = given.out / f"workers-{workers}"
            shutil.rmtree(run, ignore_errors=True)
            # What the cluster starts has the processors that this process has.
            os.sched_setaffinity(0, ours if given.free else sorted(ours)[:workers])
            try:
                with cluster("local", workers):
                    losses[workers] = fit_by(shop, run, workers=workers)["validation"]
            finally:
                os.sched_setaffinity(0, ours)
            first, last = artifact.load(run, verify=False).store.ranges["train"]
            told = [json.loads(line) for line in (run / "events.jsonl").open()]
            second = told[1]["seconds"] - told[0]["seconds"]  # the first one warms up
            rates[workers].append((last - first) / second)
    return rates, losses


def by_plan(given: argparse.Namespace) -> tuple[Any, list[Check], dict[str, Table]]:
    """A step's seconds and bytes by its rows, and what many workers would make of them."""
    torch.set_num_threads(1)
    least = min(given.exposures)
    flat_shop = shop_of(given.out, least, least)
    shops = {"flat": read_shop(flat_shop, FLAT), "default": read_shop(flat_shop.parent)}
    found: dict[str, Any] = {}
    rows = []
    for name, shop in shops.items():
        tables = compile_tables(shop, given.out / f"tables-{name}")
        for size in STEP_ROWS:
            seconds, dense, sparse = step_of(shop, tables, size)
            found[f"{name} {size}"] = {"seconds": seconds, "dense": dense, "sparse": sparse}
            rates = []
            for workers in WORKERS:
                wire = dense * 2 * (workers - 1) / workers + sparse * (workers - 1)
                rates.append(workers * size / (seconds + wire / (given.gbit * 1e9 / 8)))
            rows.append(
                [name, f"{size:,}", f"{1e3 * seconds:.1f}", f"{dense / 1e6:.2f}",
                 f"{sparse / 1e6:.2f}", *(f"{rate / 1e3:,.0f}" for rate in rates)]
            )  # fmt: skip
    heads = ("model", "rows a step and worker", "ms", "dense, MB", "rows, MB",
             *(f"{workers} workers" for workers in WORKERS))  # fmt: skip
    return found, [], {f"thousands of exposures in a second, {given.gbit} Gbit/s": (heads, rows)}


def step_of(shop: Shop, tables: Tables, size: int) -> tuple[float, int, int]:
    """Seconds of a step of so many exposures, and the bytes of its dense and its row gradients."""
    described = varied(shop, training={"rows_per_step": size})
    settings, shape = settings_of(described)
    torch.manual_seed(0)
    learner = Learner(model_of(tables.transform, tables.store, described, shape), settings)
    plan = learner.plan(tables.store, 0, 0)
    seconds = []
    with fast_memory():
        for step in range(min(STEPS, len(plan))):
            batch = learner.batch(tables.store, plan, step)  # made beside a step, as in training
            started = time.perf_counter()
            learner.step(batch)
            seconds.append(time.perf_counter() - started)
    dense = sum(4 * weight.numel() for weight in learner.dense)
    sparse = 0
    for weight in weights_of(learner.rows):
        if weight.grad is not None:
            touched, values = distinct_rows(weight.grad)
            sparse += 8 * len(touched) + 4 * values.numel()
    return statistics.median(seconds[2:]), dense, sparse


PARTS: Final[Mapping[str, Callable[[argparse.Namespace], tuple[Any, list[Check], Any]]]] = {
    "size": by_size,
    "workers": by_workers,
    "plan": by_plan,
}


def main(arguments: Sequence[str]) -> int:
    """Run the parts, print tables and checks; 1 if a bar is missed."""
    if arguments[:1] == ["--measure"]:
        shop, run, threads = arguments[1:]
        print(json.dumps(asdict(measured(Path(shop), Path(run), int(threads)))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--exposures", type=int, nargs="+", default=[10**6, 10**8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[4096, 8192, 16_384])
    parser.add_argument("--free", action="store_true", help="one worker may use both cores")
    parser.add_argument("--gbit", type=float, default=10.0)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {**about("scale.py", arguments), "parts": {}}
    checks: list[Check] = []
    tables: dict[str, Table] = {}
    for name in given.only:
        found, of_part, pages = PARTS[name](given)
        document["parts"][name] = [asdict(each) for each in found] if name == "size" else found
        checks += of_part
        tables |= pages
    rows = [[each.what, f"{each.value:,.2f}", each.bar, _SAID[each.holds]] for each in checks]
    show(
        given.out / "scale.md", {**tables, "bars": (("what", "value", "bar", ""), rows)}, width=150
    )
    artifact.write_document(
        given.out / "scale.json", {**document, "checks": [asdict(each) for each in checks]}
    )
    return int(not all(each.holds for each in checks))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
