"""Every promotion of completejourney, 271 million exposures, beside the sampled million.

    python benchmarks/promotions.py OUT [--households 1] [--threads 1]

The public shop that ``daogou import completejourney`` writes holds a sample of the exposures
without purchase. Here none is left out: each product on display or in the mailer of a store that a
household visited in a week, once (319 million, were each store's counted). Stages, each in a
process of its own, whose seconds and peak of own memory are told:

``import``    the exposures, a file a week (`import_promotions`), and the sampled shop;
``compile``   the tables of all exposures, read, checked and compiled;
``fit``       one epoch of the flat model of `scale.py`: one bottom, the stages alone, the last
              event of a history;
``sampled``   the same model of the sampled exposures, with their weights: of so few in smaller
              steps and up to three epochs, of which validation picks one;
``answer``    the chances of both for all exposures of the last four weeks, the sampled model's
              through its own transform;
``judge``     AUC of each task over those exposures, with intervals over households, and how far
              one model is ahead of the other on the same draws.

Validation is the two weeks before the last four; nothing is calibrated. A stage that is done is not
done again, a week that is written is not written again, and a fit goes on at its last checkpoint:
the same command goes on after a kill. A stage's seconds are of the try that ended it.

``--households`` N takes one in N of the households. OUT gets ``promotions.json`` and
``promotions.md``. Needs the extra ``public`` and Linux.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from memory import peak_gb
from numpy.typing import NDArray
from record import about, between, keep_line, kept_lines, show
from scale import FLAT, flat

from daogou import artifact
from daogou.config import read_shop
from daogou.features.store import Store, open_store
from daogou.features.store.compile import compile_store
from daogou.learn.compile import compile_tables
from daogou.learn.fit import fit
from daogou.metrics.binary import auc
from daogou.metrics.interval import auc_interval, paired_difference
from daogou.model import predict
from daogou.schema import Shop
from daogou.tables import prepare
from daogou.tables.engine import Engine
from daogou.tables.public.completejourney import (
    import_completejourney,
    import_promotions,
    installed_files,
)

SAMPLED: Final = 1_000_000  # exposures without purchase that the public shop keeps
SPLIT: Final = ("split.validation_from='2017-11-20'", "split.test_from='2017-12-04'")
OF_FEW: Final = ("fit.epochs=3", "fit.rows_per_step=512")
LAST_WEEKS: Final = ("49", "50", "51", "52", "53")  # a week that teaches, and those of the test
Array = NDArray[Any]


@dataclass(frozen=True)
class Line:
    """A stage that is done: its seconds and peaks in GB, and what it has to say."""

    stage: str
    seconds: float
    anon: float
    rss: float
    told: Mapping[str, Any]


@dataclass(frozen=True)
class Bench:
    """Where everything lies."""

    out: Path
    households: int
    threads: int

    def described(self, name: str, *sets: str) -> Shop:
        """A shop, ``whole`` or ``sampled``, of which a flat model reads the stages alone."""
        return read_shop(
            flat(self.out / name), [*FLAT, *SPLIT, f"fit.threads={self.threads}", *sets]
        )


def import_all(bench: Bench) -> dict[str, Any]:
    """Both shops."""
    source = installed_files()

    def told(done: int, total: int) -> None:
        print(f"week {done} of {total}", file=sys.stderr, flush=True)

    import_promotions(source, bench.out / "whole", households=bench.households, progress=told)
    counts = import_completejourney(
        source, bench.out / "sampled", n_negatives=SAMPLED // bench.households,
        households=bench.households,
    )  # fmt: skip
    return {"exposures": counts["all_shown"], "sampled": counts["positives"] + counts["negatives"]}


def compile_whole(bench: Bench) -> dict[str, Any]:
    """The tables of all exposures."""
    tables = compile_tables(bench.described("whole"), bench.out / "tables", progress=said)
    ranges = tables.store.ranges
    return {split: last - first for split, (first, last) in ranges.items()}


def fit_whole(bench: Bench) -> dict[str, Any]:
    """One epoch of all exposures."""
    run = bench.out / "run"
    return _fitted(fit(
        bench.described("whole"), run, resume=run.exists(), like=bench.out / "tables",
        progress=said,
    ))  # fmt: skip


def fit_sampled(bench: Bench) -> dict[str, Any]:
    """The sampled ones."""
    run = bench.out / "run-sampled"
    shop = bench.described("sampled", *OF_FEW)
    return _fitted(fit(shop, run, resume=run.exists(), progress=said))


def _fitted(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in ("seconds", "parameters", "validation")}


def answer_both(bench: Bench) -> dict[str, Any]:
    """Chances of all exposures of the test, by both models, and what came of them."""
    whole = artifact.load(bench.out / "run", verify=False)
    n = _answered(bench, "whole", whole, whole.store)
    first, last = whole.store.ranges["test"]
    users = whole.store["queries/user"][whole.store["exposures/query"][first:last]]
    np.save(bench.out / "households.npy", users)
    np.save(bench.out / "labels.npy", whole.store["exposures/labels"][first:last])
    sampled = artifact.load(bench.out / "run-sampled", verify=False)
    store = _last_weeks(bench, sampled)
    of_whole, of_sampled = (
        np.asarray(each["exposures/item"])[slice(*each.ranges["test"])]
        for each in (whole.store, store)
    )
    assert np.array_equal(of_whole, of_sampled), "the two answer for other exposures"
    _answered(bench, "sampled", sampled, store)
    return {"answered": n}


def _answered(bench: Bench, name: str, run: artifact.Artifact, store: Store) -> int:
    """Keep the chances ``[n, T]`` of a model."""
    path = bench.out / f"chances-{name}.npy"
    if not path.exists():
        said = predict.funnel_scores(run.model, store, "test", history_length=run.history_length)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, said.chances)
        partial.replace(path)
    return len(np.load(path, mmap_mode="r"))


def _last_weeks(bench: Bench, run: artifact.Artifact) -> Store:
    """A store of the last weeks' exposures, with all that was bought before, for a run."""
    folder = bench.out / "last"
    if not (folder / "store" / "store.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        listed = [f"shown/week-{week}.parquet" for week in LAST_WEEKS]
        more = [*listed[1:], "bought"]
        shop = bench.described(
            "whole", f"events.path='{listed[0]}'", f"events.more={more}", "split.validation=0",
            "split.validation_from=''",
        )  # fmt: skip
        with Engine(threads=bench.threads, spill=folder) as engine:
            prepare(engine, shop)
            compile_store(engine, shop, run.transform, folder / "store")
    return open_store(folder / "store")


def judge(bench: Bench) -> dict[str, Any]:
    """How well each model's chances tell who buys."""
    labels = np.load(bench.out / "labels.npy", mmap_mode="r")
    households = np.load(bench.out / "households.npy", mmap_mode="r")
    both = [np.load(bench.out / f"chances-{name}.npy", mmap_mode="r")
            for name in ("whole", "sampled")]  # fmt: skip
    found: dict[str, Any] = {}
    tasks = [task.name for task in bench.described("whole").tasks]
    for place, task in enumerate(tasks):
        known = labels[:, place] >= 0
        happened, of = labels[known, place] == 1, households[known]
        whole, sampled = (each[known, place] for each in both)
        ahead = paired_difference(whole, sampled, happened, of)
        found[task] = {
            "n": int(known.sum()),
            "positives": int(happened.sum()),
            "whole": [auc(whole, happened), *auc_interval(whole, happened, of)],
            "sampled": [auc(sampled, happened), *auc_interval(sampled, happened, of)],
            "ahead": [ahead.value, ahead.low, ahead.high],
        }
    return found


def said(what: str, done: int, total: int, words: str) -> None:
    """A line for whoever watches the log; of steps every thousandth."""
    if what != "steps" or done % 1000 == 1 or done == total:
        print(f"{time.strftime('%H:%M:%S')} {what} {done}/{total} {words}", file=sys.stderr,
              flush=True)  # fmt: skip


STAGES: Final[Mapping[str, Callable[[Bench], dict[str, Any]]]] = {
    "import": import_all,
    "compile": compile_whole,
    "fit": fit_whole,
    "sampled": fit_sampled,
    "answer": answer_both,
    "judge": judge,
}


def measured(stage: str, bench: Bench) -> Line:
    """Do a stage in this process."""
    torch.set_num_threads(bench.threads)
    started = time.perf_counter()
    with peak_gb() as peak:
        told = STAGES[stage](bench)
    return Line(stage, time.perf_counter() - started, peak["anon"], peak["rss"], told)


def tables_of(lines: Sequence[Line]) -> dict[str, tuple[Sequence[str], list[list[str]]]]:
    """What to print: the stages, and what the two models are worth."""
    rows = [
        [line.stage, f"{line.seconds:,.0f}", f"{line.anon:.2f}", f"{line.rss:.2f}",
         ", ".join(f"{name} {value:,}" for name, value in line.told.items()
                   if isinstance(value, int))]
        for line in lines
    ]  # fmt: skip
    worth = []
    for task, each in lines[-1].told.items():
        value, low, high = each["ahead"]
        worth.append(
            [task, f"{each['n']:,}", f"{each['positives']:,}", between(*each["whole"]),
             between(*each["sampled"]), between(value, low, high, "+")]
        )  # fmt: skip
    return {
        "stages": (("stage", "s", "own GB", "with mapped files, GB", "of what"), rows),
        "test AUC, 95 % over households": (
            ("task", "n", "positives", "of all exposures", "of the sample", "ahead"), worth
        ),
    }  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Do the stages that are not done, then print tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--households", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    bench = Bench(given.out.absolute(), given.households, given.threads)
    if given.stage:
        print(json.dumps(asdict(measured(given.stage, bench))))
        return 0
    bench.out.mkdir(parents=True, exist_ok=True)
    path = bench.out / "stages.jsonl"
    lines = kept_lines(path, Line)
    for stage in list(STAGES)[len(lines) :]:
        answer = subprocess.run(
            [sys.executable, __file__, *arguments, "--stage", stage],
            env={**os.environ, "OMP_NUM_THREADS": str(given.threads)},
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        lines.append(Line(**json.loads(answer.stdout.strip().splitlines()[-1])))
        keep_line(path, lines[-1])
    show(bench.out / "promotions.md", tables_of(lines), width=150)
    artifact.write_document(
        bench.out / "promotions.json",
        {**about("promotions.py", arguments), "stages": [asdict(line) for line in lines]},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
