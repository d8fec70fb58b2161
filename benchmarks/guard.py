"""Whether `fit --guard` leaves no task worse than alone, and keeps what sharing gives.

    python benchmarks/guard.py OUT [--seeds 1] [--threads 1] [--shared ...] [--static ...]

The made shops of ``transfer_map.py``, whose two tasks share ``kappa`` of their latent factors, with
either sign. Each is fitted with the guard, on the mixer and settings of the map's ``mmoe``; the
twins are the guard's own single-task runs. Told are the AUC of the test split, for each task: the
guarded run less its twin, what it keeps of the gain over the twin of the best static mixer (the
``mmoe`` as it is, and those of ``--static``), and its parameters over the shared model's. OUT keeps
the shops, the map's lines (``lines.jsonl``) and the guard's (``guard.jsonl``), and gets
``guard.json`` and ``guard.md``.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transfer_map
from record import about, keep_line, kept_lines, show
from transfer_map import MODELS, SETTINGS, SHARED, SINGLE, TASKS, folder_of

from daogou import artifact
from daogou.config import read_shop
from daogou.learn.answers import answers_of
from daogou.learn.guard import guard
from daogou.learn.judge import questions
from daogou.learn.machine import fast_memory

MARGIN: Final = 0.005
GUARDED: Final = "mmoe"  # the mixer that the guard begins with
STATIC: Final = tuple(model for model in MODELS if model not in (SINGLE, GUARDED))
WORTH: Final = 0.01  # a gain below this has no share that means something


@dataclass(frozen=True)
class Guarded:
    """A guarded run on one made shop: test AUC of each task in it, in its twin, and shared."""

    shared: str
    seed: int
    guarded: dict[str, float]
    twin: dict[str, float]
    joint: dict[str, float]
    own: dict[str, str]
    verdict: dict[str, str]  # of the shared model
    memory: float
    seconds: float


def judged(run: Path) -> dict[str, float]:
    """Test AUC of each task of a run."""
    made = artifact.load(run, verify=False)
    answers = answers_of(
        made.model, made.store, made.transform, "test", history_length=made.history_length
    )
    return {
        asked.name: asked.judge(answers[asked.name]).value
        for asked in questions(made.shop, made.store, made.transform, "test")
    }


def measured(folder: Path, shared: str, seed: int) -> Guarded:
    """The guard on one made shop."""
    if not (folder / "shop.toml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        transfer_map.make_shop(folder, *SHARED[shared], seed)
    shop = read_shop(folder, [*SETTINGS, *MODELS[GUARDED]])
    with tempfile.TemporaryDirectory(prefix="daogou-guard-") as temporary:
        run = Path(temporary) / "run"
        found: dict[str, Any] = guard(shop, run, margin=MARGIN)["guard"]
        alone = {
            task: judged(run / "guard" / f"alone-{place}")[task] for place, task in enumerate(TASKS)
        }
        guarded, joint = judged(run), judged(run / "guard" / "shared")
        shutil.rmtree(run)
    return Guarded(
        shared, seed, guarded, alone, joint,
        {task: found["tasks"][task]["own"] for task in TASKS},
        {task: found["tasks"][task]["steps"][0]["verdict"] for task in TASKS},
        found["cost"]["memory"], sum(found["cost"]["seconds"].values()),
    )  # fmt: skip


def kept_share(line: Guarded, best: float, task: str) -> float:
    """What of the best static mixer's gain over the twin the guarded run has; NaN without one."""
    gain = best - line.twin[task]
    return (line.guarded[task] - line.twin[task]) / gain if gain >= WORTH else float("nan")


def rows_of(
    lines: Sequence[Guarded], static: Sequence[transfer_map.Line]
) -> tuple[list[list[str]], list[list[str]]]:
    """A row per shop and task, and a row per way of sharing with means over seeds."""
    every, means = [], []
    for shared in dict.fromkeys(line.shared for line in lines):
        here = [line for line in lines if line.shared == shared]
        for task in TASKS:
            shares, gaps = [], []
            for line in here:
                told = {GUARDED: line.joint[task]} | {
                    each.model: each.joint[task]
                    for each in static
                    if (each.shared, each.seed, each.model in STATIC) == (shared, line.seed, True)
                }
                best = max(told, key=lambda model: told[model])
                share = kept_share(line, told[best], task)
                gap = line.guarded[task] - line.twin[task]
                shares.append(share)
                gaps.append(gap)
                every.append(
                    [
                        f"{shared}, seed {line.seed}", task, f"{line.twin[task]:.4f}",
                        f"{line.joint[task]:.4f}", line.verdict[task], line.own[task],
                        f"{line.guarded[task]:.4f}", f"{gap:+.4f}",
                        f"{told[best]:.4f} ({best})",
                        "-" if np.isnan(share) else f"{100 * share:.0f} %", f"{line.memory:.2f}",
                    ]
                )  # fmt: skip
            known = [share for share in shares if not np.isnan(share)]
            means.append(
                [
                    shared, task, f"{np.mean(gaps):+.4f} ({min(gaps):+.4f} to {max(gaps):+.4f})",
                    f"{100 * np.mean(known):.0f} %" if known else "-",
                    f"{max(line.memory for line in here):.2f}",
                ]
            )  # fmt: skip
    return every, means


def main(arguments: Sequence[str]) -> int:
    """Guard every shop and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shared", nargs="*", choices=SHARED, default=list(SHARED))
    parser.add_argument("--static", nargs="*", choices=STATIC, default=list(STATIC))
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    log, ours = given.out / "lines.jsonl", given.out / "guard.jsonl"
    static = {(x.shared, x.seed, x.model): x for x in kept_lines(log, transfer_map.Line)}
    lines = {(x.shared, x.seed): x for x in kept_lines(ours, Guarded)}
    shops = [(shared, seed) for seed in range(given.seeds) for shared in given.shared]
    with fast_memory():
        for shop in shops:
            if shop not in lines:
                lines[shop] = measured(folder_of(given.out, *shop), *shop)
                keep_line(ours, lines[shop])
                print(lines[shop], file=sys.stderr)
        for shared, seed in shops:
            for model in given.static:
                if (shared, seed, model) not in static:
                    folder = folder_of(given.out, shared, seed)
                    static[shared, seed, model] = transfer_map.line(folder, shared, seed, model)
                    keep_line(log, static[shared, seed, model])
    every, means = rows_of(list(lines.values()), list(static.values()))
    heading = [
        "shop", "task", "twin", "shared", "verdict", "own", "guarded", "less twin", "best static",
        "of its gain", "memory",
    ]  # fmt: skip
    pages = {
        "Test AUC, each shop": (heading, every),
        "Over seeds": (
            ["sharing", "task", "guarded less twin", "of the best static gain", "memory"], means,
        ),
    }  # fmt: skip
    show(given.out / "guard.md", pages, width=170)
    document = {
        **about("guard.py", arguments),
        "margin": MARGIN,
        "lines": [asdict(line) for line in lines.values()],
        "static": [asdict(line) for line in static.values()],
    }
    (given.out / "guard.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
