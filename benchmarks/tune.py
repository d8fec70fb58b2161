"""Samplers against random search at equal trials, and a killed search against an unbroken one.

    python benchmarks/tune.py SHOP OUT [--samplers random tpe gp] [--trials 40] [--repeats 5]

SHOP is what ``daogou import adult`` wrote; one row in `KEPT` of it is taken, so that a fit takes a
few seconds. All samplers search `SPACE` with the joint validation score as the objective, a repeat
is a seed of the search and of its fits, and no trial is stopped early, so that the budgets are
equal. Then a search with early stopping is killed (SIGKILL) twice in the middle of a trial and
resumed, and compared with one that was not. Prints PASS or MISS for each bar and ends with status 1
if one is missed. OUT gets ``tune.json`` and ``tune.md``; finished lines of an earlier try are kept.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from record import about, keep_line, kept_lines, show

from daogou.config import read_shop
from daogou.learn.trials import SAMPLERS
from daogou.learn.tune import tune
from daogou.tables.engine import Engine, quoted

KEPT: Final = 4  # one row in so many
FIXED: Final = ("fit.epochs=8", "fit.rows_per_step=256")
SPACE: Final = {
    "fit.learning_rate": "{low = 0.0001, high = 0.05, log = true}",
    "fit.row_learning_rate": "{low = 0.005, high = 1.0, log = true}",
    "fit.weight_decay": "{low = 0.001, high = 1.0, log = true}",
    "fit.row_l2": "{low = 0.0001, high = 0.1, log = true}",
    "model.dropout": "{low = 0.0, high = 0.6}",
    "model.id_dropout": "{low = 0.0, high = 0.6}",
    "model.mixer": '{choices = ["shared_bottom", "mmoe", "ple"]}',
    "model.mixer_options.n_experts": '{low = 2, high = 8, when = {"model.mixer" = "mmoe"}}',
}
KILLS: Final = 2


@dataclass(frozen=True)
class Line:
    """One search: the least score after each trial."""

    sampler: str
    repeat: int
    least: list[float]
    seconds: float  # of training
    best: dict[str, Any]


def prepared(shop: Path, out: Path) -> Path:
    """A shop of fewer rows."""
    folder = out / "shop"
    if (folder / "shop.toml").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    source, target = (quoted(str(each / "events.parquet")) for each in (shop, folder))
    with Engine() as engine:
        engine.run(f"COPY (SELECT * FROM {source} WHERE id % {KEPT} = 0 ORDER BY id) TO {target}")
    shutil.copy(shop / "shop.toml", folder)
    return folder


def sets_of(*, seed: int, halving: int) -> list[str]:
    """What is said on the command line, each as key=value."""
    space = [f'tune.space."{key}"={table}' for key, table in SPACE.items()]
    return [*FIXED, *space, f"tune.halving={halving}", f"seed={seed}", "fit.threads=1"]


def searched(shop: Path, sampler: str, repeat: int, trials: int) -> Line:
    """One search, in a folder that is thrown away."""
    described = read_shop(shop, sets_of(seed=repeat, halving=0))
    with tempfile.TemporaryDirectory(prefix="daogou-tune-") as folder:
        found = tune(described, Path(folder) / "search", sampler=sampler, trials=trials)
    least: list[float] = []
    for trial in found["trials"]:
        scores = [*least[-1:], *([] if trial["score"] is None else [trial["score"]])]
        least.append(min(scores, default=float("inf")))
    seconds = sum(trial["seconds"] or 0.0 for trial in found["trials"])
    return Line(sampler, repeat, least, seconds, found["best"]["settings"])


# ---- kills --------------------------------------------------------------------------------


def command(shop: Path, out: Path, trials: int) -> list[str]:
    """A search by the command line, with early stopping."""
    sets = [word for each in sets_of(seed=0, halving=2) for word in ("--set", each)]
    words = ["tune", str(shop), "--out", str(out), "--trials", str(trials), *sets]
    return [sys.executable, "-m", "daogou", *words]


def kill_within(words: Sequence[str], trial: int, steps: int) -> bool:
    """Run it and kill it some lines of progress after a trial has ended; False if it ended."""
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        left = -1
        for line in process.stderr:
            left = steps if line.startswith(f"trial {trial}/") else left - 1
            if left == 0:
                os.kill(process.pid, signal.SIGKILL)
                return True
    return False


def resumed_equals_unbroken(shop: Path, out: Path, trials: int) -> dict[str, Any]:
    """Both searches, and what of them is equal."""
    for name in ("unbroken", "killed"):
        shutil.rmtree(out / name, ignore_errors=True)
    subprocess.run(
        command(shop, out / "unbroken", trials), check=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    draw = random.Random(0)
    words = command(shop, out / "killed", trials)
    killed = 0
    for kill in range(KILLS):
        after = max((kill + 1) * trials // (KILLS + 1), 1)
        killed += kill_within(words, after, draw.randint(2, 4))
        words = [*command(shop, out / "killed", trials), "--resume"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = {
        name: json.loads((out / name / "tune.json").read_text("utf-8"))
        for name in ("unbroken", "killed")
    }
    return {
        "kills": killed,
        "trials": {name: len(one["trials"]) for name, one in found.items()},
        "best": {name: one["best"]["score"] for name, one in found.items()},
        "stopped": {name: one["counts"]["stopped"] for name, one in found.items()},
        "all_equal": _scores(found["unbroken"]) == _scores(found["killed"]),
    }


def _scores(found: Mapping[str, Any]) -> list[Any]:
    return [(one["state"], one["settings"], one["score"]) for one in found["trials"]]


# ---- tables -------------------------------------------------------------------------------


def rows_of(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """A heading, then a row per sampler: the median over repeats, and each of them."""
    heading = ["sampler", "trials", "median", "after half", "each repeat", "training, s"]
    rows = []
    for sampler in dict.fromkeys(line.sampler for line in lines):
        own = [line for line in lines if line.sampler == sampler]
        ends = [line.least[-1] for line in own]
        half = [line.least[(len(line.least) - 1) // 2] for line in own]
        rows.append(
            [
                sampler,
                str(len(own[0].least)),
                f"{median(ends):.5f}",
                f"{median(half):.5f}",
                " ".join(f"{end:.5f}" for end in ends),
                f"{sum(line.seconds for line in own) / len(own):.0f}",
            ]
        )
    return heading, rows


def bars_of(lines: Sequence[Line], kill: Mapping[str, Any]) -> dict[str, bool]:
    """What must hold."""
    medians = {
        sampler: median(line.least[-1] for line in lines if line.sampler == sampler)
        for sampler in {line.sampler for line in lines}
    }
    clever = [medians[name] for name in ("tpe", "gp") if name in medians]
    return {
        "tpe or gp has a lower median than random": bool(clever)
        and min(clever) < medians.get("random", float("-inf")),
        "a killed and resumed search has as many trials and the same best": kill["kills"] == KILLS
        and len(set(kill["trials"].values())) == len(set(kill["best"].values())) == 1,
    }


def main(arguments: Sequence[str]) -> int:
    """Search what is not searched yet, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("shop", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=["random", "tpe", "gp"])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kill-trials", type=int, default=14, help="of the search that is killed")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    shop = prepared(given.shop, given.out)
    log = given.out / "lines.jsonl"
    lines = [line for line in kept_lines(log, Line) if len(line.least) == given.trials]
    done = {(line.sampler, line.repeat) for line in lines}
    for repeat in range(given.repeats):
        for sampler in given.samplers:
            if (sampler, repeat) in done:
                continue
            line = searched(shop, sampler, repeat, given.trials)
            lines.append(line)
            keep_line(log, line)
            print(
                sampler, repeat, f"{line.least[-1]:.5f}", f"{line.seconds:.0f} s", file=sys.stderr
            )
    kill = resumed_equals_unbroken(shop, given.out, given.kill_trials)
    bars = bars_of(lines, kill)
    show(given.out / "tune.md", {"least joint validation score": rows_of(lines)}, width=160)
    print(json.dumps(kill))
    for bar, holds in bars.items():
        print("PASS" if holds else "MISS", bar)
    document = {
        **about("tune.py", arguments),
        "settings": [*FIXED, *(f"{key} = {table}" for key, table in SPACE.items())],
        "kill": kill,
        "bars": bars,
        "lines": [asdict(line) for line in lines],
    }
    (given.out / "tune.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
