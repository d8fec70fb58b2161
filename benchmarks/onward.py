"""A shop whose log goes on: fitted in full at each step, going on at each step, or left as it is.

    python benchmarks/onward.py SHOPS OUT [--only made] [--seeds 1] [--ways refit] [--threads 1]

``made`` is a made shop whose taste drifts, in weeks; of ``completejourney`` (SHOPS holds what
``daogou import`` wrote) a tenth of the households are taken, in steps of five weeks. A first fit
has what came before the first step. Then at each step ``refit`` fits all there is, ``onward`` goes
on from its last run, ``frozen`` is the first fit as it was; all hold out the same latest days of
the log for validation and have no test split. Each is judged by the exposures of the step that
comes next, which it has not seen: AUC of each stage. Only the funnel's tasks are trained. Ways of
going on are told apart by the mean of their joint validation scores, and by nothing else. OUT gets
``onward.json`` and ``onward.md``; finished lines of an earlier try are kept.
"""

import argparse
import datetime
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import methods
import numpy as np
import torch
from real import SETTINGS
from record import about, keep_line, kept_lines, show

from daogou import artifact
from daogou.artifact import Artifact
from daogou.config import read_shop
from daogou.learn.drift import drift
from daogou.learn.fit import fit
from daogou.learn.onward import fit_onward, later, seam_of
from daogou.schema import Shop
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.simulate import simulate

HOUSEHOLDS: Final = 10  # one of so many of completejourney
WORLD: Final[dict[str, Any]] = {"users": 300, "items": 200, "exposures": 60_000, "drift": 1.0}
CLOSED: Final = "closed"
FROZEN, REFIT, ONWARD = "frozen", "refit", "onward"
WAYS: Final[dict[str, tuple[str, ...]]] = {
    FROZEN: (),
    REFIT: (),
    ONWARD: (),
    "pace 0.1": ("fit.onward_pace=0.1",),
    "pace 1": ("fit.onward_pace=1.0",),
    "half-life 28": ("fit.onward_half_life_days=28.0",),
    "replay 0.2": ("fit.onward_replay=0.2",),
}


@dataclass(frozen=True)
class Course:
    """How a shop's log is cut: days before the first step, of a step, and held out at its end."""

    before: int
    step: int
    held_out: int
    n_steps: int
    settings: tuple[str, ...]


COURSES: Final = {
    "made": Course(48, 7, 4, 5, ("fit.epochs=8", "fit.rows_per_step=512", "fit.extra_items=0")),
    "completejourney": Course(
        203, 35, 14, 4, (*SETTINGS["completejourney"], *methods.STEPS["completejourney"])
    ),
}


@dataclass(frozen=True)
class Line:
    """One way at one step: AUC of what comes next, the validation score, and exposures taught."""

    shop: str
    way: str
    seed: int
    step: int
    auc: dict[str, float]
    score: float
    taught: int
    verdict: str


class Log:
    """A shop's log cut into files at ``folder``, each closed by an event of its last moment."""

    def __init__(self, name: str, shop: Path, folder: Path) -> None:
        self.course, self.folder, self.name = COURSES[name], folder, name
        described = read_shop(shop)
        assert described.events is not None
        kind, time = (
            name_of(each or "") for each in (described.events.kind, described.events.time)
        )
        source = quoted(str(shop / described.events.path))
        with Engine() as engine:
            first = engine.value(f"SELECT CAST(min({time}) AS DATE) FROM {source}")
            self.first = datetime.datetime.combine(first, datetime.time())
            if not (folder / "shop.toml").exists():
                for place in range(self.course.n_steps + 1):
                    inside = (
                        f"{time} >= {_moment(self.begins(place))} AND "
                        f"{time} < {_moment(self.begins(place + 1))} AND {kind} <> '{CLOSED}'"
                    )
                    closing = (
                        f"SELECT {_moment(self.begins(place + 1))} - INTERVAL 1 MICROSECOND AS "
                        f"{time}, '{CLOSED}' AS {kind}"
                    )
                    engine.run(
                        f"COPY (SELECT * FROM {source} WHERE {inside} UNION ALL BY NAME {closing} "
                        f"ORDER BY {time}) TO {quoted(str(self.file(place)))}"
                    )
                for each in shop.iterdir():
                    if each.name != described.events.path:
                        target = folder / each.name
                        (shutil.copytree if each.is_dir() else shutil.copy)(each, target)

    def begins(self, place: int) -> datetime.datetime:
        """When a file begins; those before the first step are one, the 0th."""
        days = self.course.before + (place - 1) * self.course.step if place else -1
        return self.first + datetime.timedelta(days=days)

    def file(self, place: int) -> Path:
        """The events of a step."""
        return self.folder / f"events-{place}.parquet"

    def shop(self, place: int, sets: Sequence[str]) -> Shop:
        """The shop with all events before a step, the latest days of which choose."""
        files = [str(self.file(each)) for each in range(1, place)]
        held = self.begins(place) - datetime.timedelta(days=self.course.held_out)
        own = [
            f"events.path={json.dumps(self.file(0).name)}",
            f"events.more={json.dumps(files)}",
            "split.test=0.0",
            f"split.validation_from={json.dumps(held.isoformat())}",
        ]
        return read_shop(self.folder, [*self.course.settings, *own, *sets])


def _moment(time: datetime.datetime) -> str:
    return f"TIMESTAMP '{time.isoformat(sep=' ')}'"


def measured(log: Log, way: str, seed: int, out: Path, threads: int) -> list[Line]:
    """Every step of one way; the runs are kept under ``out``."""
    others = [
        f'tasks."{task.name}".enabled=false'
        for task in read_shop(log.folder).tasks
        if task.family != "funnel"
    ]
    sets = [*others, f"seed={seed}", f"fit.threads={threads}", *WAYS[way]]
    base = out / f"{log.name}-first-{seed}"
    if not (base / "manifest.json").exists():
        fit(log.shop(1, sets), base, resume=True)
    lines, run, taught = [], base, 0
    for place in range(1, log.course.n_steps + 1):
        if place > 1 and way != FROZEN:
            made = out / f"{log.name}-{artifact.legal_name(way)}-{seed}-{place}"
            shop = log.shop(place, sets)
            if (made / "manifest.json").exists():
                pass  # an earlier try came so far
            elif way == REFIT:
                fit(shop, made, resume=made.exists())
            else:
                source = artifact.read_manifest(run)
                fit_onward(run, later(source, shop), made, resume=made.exists())
            run = made
        loaded = artifact.load(run, verify=False)
        if place > 1 and way != FROZEN:
            first, last = loaded.store.ranges["train"]
            taught = loaded.manifest["fit"]["epochs"] * (last - first)
        lines.append(_line(log, loaded, (way, seed, place), taught, sets))
    return lines


def _line(
    log: Log, run: Artifact, at: tuple[str, int, int], taught: int, sets: Sequence[str]
) -> Line:
    """A run judged by the exposures of the step at which it stands."""
    way, seed, place = at
    shop = log.shop(place + 1, sets)
    end = (log.begins(place) - datetime.timedelta(microseconds=1)).isoformat(sep=" ")
    told = drift(run, shop, replace(seam_of(run, shop), end=end))
    aucs = {each["name"]: each["now"] for each in told["lines"] if each["kind"] == "auc"}
    losses: dict[str, Any] = run.manifest["fit"]["validation"]
    known = [each["loss"] / each["constant"] for each in losses.values() if each["n"]]
    return Line(log.name, way, seed, place, aucs, float(np.mean(known)), taught, told["verdict"])


def rows_of(lines: Sequence[Line], shop: str) -> list[list[str]]:
    """A heading, then a row per way: mean AUC over steps and seeds, by step, and what it cost."""
    here = [line for line in lines if line.shop == shop]
    tasks, steps = list(here[0].auc), sorted({line.step for line in here})
    heading = ["way", *tasks, *(f"{tasks[0]} at {step}" for step in steps)]
    rows = [[*heading, "validation", "exposures taught"]]
    whole = sum(line.taught for line in here if line.way == REFIT) or 1
    n_refits = len({line.seed for line in here if line.way == REFIT}) or 1
    for way in dict.fromkeys(line.way for line in here):
        own = [line for line in here if line.way == way]
        after = [line for line in own if line.step > 1]
        cells = [f"{np.nanmean([line.auc[task] for line in after]):.4f}" for task in tasks]
        cells += [
            f"{np.nanmean([line.auc[tasks[0]] for line in own if line.step == step]):.4f}"
            for step in steps
        ]
        share = sum(line.taught for line in own) / len({line.seed for line in own})
        cells.append(f"{np.mean([line.score for line in after]):.4f}")
        rows.append([way, *cells, f"{100 * share * n_refits / whole:.0f} %"])
    return rows


def main(arguments: Sequence[str]) -> int:
    """Fit what is not fitted yet, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("shops", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=COURSES, default=list(COURSES))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[FROZEN, REFIT, ONWARD])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(given.threads)
    kept = given.out / "lines.jsonl"
    lines = kept_lines(kept, Line)
    for name in given.only:
        if name == "made":
            shop = given.out / "made-whole"
            if not shop.exists():
                simulate(shop, "easy", **WORLD)
        else:
            shop = methods.prepared(given.shops, name, given.out, HOUSEHOLDS)
        folder = given.out / f"{name}-cut"
        folder.mkdir(exist_ok=True)
        log = Log(name, shop, folder)
        for seed in range(given.seeds):
            for way in given.ways:
                if not any((line.shop, line.way, line.seed) == (name, way, seed) for line in lines):
                    for line in measured(log, way, seed, given.out, given.threads):
                        keep_line(kept, line)
                        lines.append(line)
    document = about("onward.py", arguments) | {"lines": [asdict(line) for line in lines]}
    (given.out / "onward.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    tables = {}
    for name in given.only:
        heading, *rows = rows_of(lines, name)
        tables[name] = heading, rows
    show(given.out / "onward.md", tables, width=200)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
