"""A made shop to its acceptance table: what the joint model reaches of what was planted.

    python benchmarks/simulated.py OUT [--exposures 600000] [--seed 0] [--threads 1] [--set KEY=VAL]

OUT keeps the shop and the run, which are taken up again if they are finished, and gets
``simulated.json``. The exit status is 1 if a bar is missed.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from record import about
from rich.console import Console
from rich.table import Table

from daogou import artifact
from daogou.config import read_shop
from daogou.errors import DaogouError
from daogou.learn.evaluate import evaluate
from daogou.learn.fit import fit
from daogou.tables.simulate import simulate

GAP: Final = 0.85  # of the way from 0.5 to the ceiling's AUC
ORDER: Final = 0.9  # Spearman to the knowable chance, of the stage below
ORDERED: Final = "click"
SPANS: Final = 0.95  # span F1
PROFILE: Final = 0.85  # of the ceiling's macro-F1
MATCH: Final = 0.7  # of the oracle's recall@50
SETTINGS: Final = ("fit.epochs=6", "model.text_width=32")


@dataclass(frozen=True)
class Check:
    """One number of the report against its bar; without a bar it is only told."""

    task: str
    what: str
    value: float
    ceiling: float | None
    bar: float | None
    holds: bool | None


def checks(tasks: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    """The acceptance table of a report's tasks."""
    found: list[Check] = []
    for name, entry in tasks.items():
        if "gap_closed" in entry:
            found += _ranked(name, entry)
        elif "recall@50" in entry:
            found.append(
                _at_least(name, "share of the oracle's recall@50", entry["share_of_ceiling"], MATCH,
                          entry["ceiling_recall@50"])
            )  # fmt: skip
        elif "macro_f1" in entry:
            found.append(
                _at_least(name, "share of the ceiling's macro-F1", entry["share_of_ceiling"],
                          PROFILE, entry["ceiling_macro_f1"])
            )  # fmt: skip
        elif "value_f1" in entry:
            found.append(_at_least(name, "span F1", entry["f1"], SPANS))
    return found


def _ranked(name: str, entry: Mapping[str, Any]) -> list[Check]:
    # The bars are for a stage over all exposures; the conditional ones are told beside them.
    told = "|" in name
    alarm = entry["leak_alarm"]
    return [
        _at_least(name, "AUC's share of the gap", entry["gap_closed"], None if told else GAP,
                  entry["ceiling_auc"]),
        _at_least(name, "Spearman", entry["spearman_true"], ORDER if name == ORDERED else None),
        Check(name, "above the ceiling", entry["above_ceiling"], None, None, not alarm),
    ]  # fmt: skip


def _at_least(
    task: str, what: str, value: float, bar: float | None, ceiling: float | None = None
) -> Check:
    return Check(task, what, value, ceiling, bar, None if bar is None else bool(value >= bar))


def main(arguments: Sequence[str]) -> int:
    """Make the shop, fit, judge, print; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--exposures", type=int, default=600_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        report, seconds = _report(given)
    except DaogouError as error:
        print(error, file=sys.stderr)
        return 1
    found = checks(report["tasks"])
    table = Table("task", "what", "value", "ceiling", "bar", "")
    for check in found:
        verdict = {None: "", True: "PASS", False: "MISS"}[check.holds]
        numbers = [check.value, check.ceiling, check.bar]
        words = ["-" if number is None else f"{number:.4f}" for number in numbers]
        table.add_row(check.task, check.what, *words, verdict)
    Console(width=120).print(table)
    document = {
        **about("simulated.py", arguments),
        "threads": given.threads,
        "settings": [*SETTINGS, *given.sets],
        "seconds": seconds,
        "checks": [asdict(check) for check in found],
        "report": report,
    }
    text = json.dumps(document, indent=1, default=float)
    (given.out / "simulated.json").write_text(text, encoding="utf-8")
    print(", ".join(f"{what} {time_s:.0f} s" for what, time_s in seconds.items()))
    return int(any(check.holds is False for check in found))


def _report(given: argparse.Namespace) -> tuple[dict[str, Any], dict[str, float]]:
    """Evaluate's document of the test split, and the seconds of what was done for it."""
    shop, run = given.out / "shop", given.out / "run"
    seconds: dict[str, float] = {}

    def clock(what: str, started: float) -> None:
        seconds[what] = time.perf_counter() - started

    started = time.perf_counter()
    if not (shop / "shop.toml").exists():
        simulate(shop, "easy", seed=given.seed, exposures=given.exposures)
        clock("simulate", started)
    started = time.perf_counter()
    if not (run / "manifest.json").exists():
        shutil.rmtree(run, ignore_errors=True)
        fit(read_shop(shop, (*SETTINGS, *given.sets, f"fit.threads={given.threads}")), run)
        clock("fit", started)
    loaded = artifact.load(run)
    started = time.perf_counter()
    report = evaluate(loaded)
    clock("evaluate", started)
    return report, seconds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
