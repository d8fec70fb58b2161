"""How often a receipt finds the harm that is there, and how often it cries wolf.

    python benchmarks/receipt.py OUT [--runs 60] [--seeds 3] [--threads 1] [--kappas 0 1]

Made shops like those of ``transfer_map.py`` but smaller, a new one for each run: a dense task,
click, and a sparse one, order, share all their latent factors (kappa 1) or none (kappa 0). A shared
bottom is compared with a single-task twin as `daogou compare` does it: paired seeds, one store, the
interval of seeds and of users, the verdict at its margin; of order alone. Told is how many of the
runs end in each verdict, with the interval of Clopper and Pearson (1934). OUT gets
``receipt.json`` and ``receipt.md``; finished lines of an earlier try are kept.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from record import about, keep_line, kept_lines, show
from scipy.stats import beta
from transfer_map import make_shop

from daogou import artifact
from daogou.config import read_shop
from daogou.learn.answers import answers_of
from daogou.learn.fit import fit
from daogou.learn.judge import Judged, questions
from daogou.learn.machine import fast_memory
from daogou.learn.variant import twin_of, varied
from daogou.metrics.interval import replicates
from daogou.metrics.paired import Paired, combine, verdict
from daogou.schema import Shop

TASK: Final = "order"
MARGIN: Final = 0.001  # of `daogou compare`
DRAWS: Final = 200
SIZE: Final = {"users": 400, "items": 200, "exposures": 200_000}
SETTINGS: Final = (
    "split.test=0.4", "fit.epochs=5", "fit.row_learning_rate=0.2", "fit.row_l2=0.003",
    "model.width=4", "model.expert_widths=[32, 16]", "model.mixer=shared_bottom",
)  # fmt: skip
VERDICTS: Final = ("HELPS", "NEUTRAL", "HURTS", "UNDECIDED")


@dataclass(frozen=True)
class Line:
    """One made shop: what its receipt says of the sparse task."""

    kappa: float
    run: int
    verdict: str
    difference: float
    interval: tuple[float, float]
    single: float
    positives: int
    seconds: float  # of one fit, on average


def worth(shop: Shop, run: Path, like: Path | None) -> tuple[Judged, float]:
    """What a fit is worth on the sparse task of the test split, and its seconds."""
    started = time.perf_counter()
    fit(shop, run, like=like)
    seconds = time.perf_counter() - started
    made = artifact.load(run, verify=False)
    answers = answers_of(
        made.model, made.store, made.transform, "test", history_length=made.history_length
    )
    asked = {each.name: each for each in questions(made.shop, made.store, made.transform, "test")}
    return asked[TASK].judge(answers[TASK]), seconds


def measured(kappa: float, number: int, seeds: int) -> Line:
    """A new shop and its receipt."""
    with tempfile.TemporaryDirectory(prefix="daogou-receipt-") as temporary:
        folder = Path(temporary) / "shop"
        folder.mkdir()
        make_shop(folder, kappa, 1, 1000 + number, **SIZE)
        joint = read_shop(folder, SETTINGS)
        first: Path | None = None
        pairs: list[tuple[Judged, Judged]] = []
        seconds = []
        for seed in range(seeds):
            pair = []
            for name, shop in (("joint", joint), ("alone", twin_of(joint, TASK))):
                run = Path(temporary) / f"{name}-{seed}"
                found, took = worth(varied(shop, seed=seed), run, first)
                first = first or run
                seconds.append(took)
                pair.append(found)
            pairs.append((pair[0], pair[1]))
        gap = paired(pairs)
    return Line(
        kappa, number, verdict(gap, MARGIN), gap.value, (gap.low, gap.high),
        float(np.mean([theirs.value for _, theirs in pairs])), pairs[-1][1].positives,
        float(np.mean(seconds)),
    )  # fmt: skip


def paired(pairs: Sequence[tuple[Judged, Judged]]) -> Paired:
    """By how much the first of each seed's pair is ahead of the second, see `combine`."""
    drawn = [
        np.subtract(*(replicates(each.statistic, each.groups, n=DRAWS, seed=0) for each in pair))
        for pair in pairs
    ]
    return combine([ours.value - theirs.value for ours, theirs in pairs], np.stack(drawn))


def within(n: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a rate."""
    low = float(beta.ppf(0.025, n, of - n + 1)) if n else 0.0
    high = float(beta.ppf(0.975, n + 1, of - n)) if n < of else 1.0
    return low, high


def rows_of(lines: Sequence[Line]) -> list[list[str]]:
    """A row for each kappa."""
    rows = []
    for kappa in dict.fromkeys(line.kappa for line in lines):
        here = [line for line in lines if line.kappa == kappa]
        counts = Counter(line.verdict for line in here)
        low, high = within(counts["HURTS"], len(here))
        gaps = [line.difference for line in here]
        rows.append(
            [
                f"{kappa:g}", str(len(here)), *(str(counts[each]) for each in VERDICTS),
                f"{100 * counts['HURTS'] / len(here):.0f} % ({100 * low:.0f} to {100 * high:.0f})",
                f"{np.mean(gaps):+.4f} ({min(gaps):+.4f} to {max(gaps):+.4f})",
                f"{np.mean([line.single for line in here]):.3f}",
                f"{np.mean([line.seconds for line in here]):.1f} s",
            ]
        )  # fmt: skip
    return rows


def main(arguments: Sequence[str]) -> int:
    """Make the shops, write their receipts, count."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kappas", nargs="*", type=float, default=[0.0, 1.0])
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    log = given.out / "lines.jsonl"
    lines = {(line.kappa, line.run): line for line in kept_lines(log, Line)}
    with fast_memory():
        for number in range(given.runs):
            for kappa in given.kappas:
                if (kappa, number) not in lines:
                    lines[kappa, number] = measured(kappa, number, given.seeds)
                    keep_line(log, lines[kappa, number])
                    print(lines[kappa, number], file=sys.stderr)
    heading = [
        "kappa", "runs", *VERDICTS, "HURTS, 95 %", "shared less twin", "AUC of the twin", "a fit",
    ]  # fmt: skip
    show(
        given.out / "receipt.md",
        {f"Verdicts on {TASK}": (heading, rows_of(list(lines.values())))},
        width=150,
    )
    document = {
        **about("receipt.py", arguments),
        "settings": list(SETTINGS),
        "size": SIZE,
        "margin": MARGIN,
        "lines": [asdict(line) for line in lines.values()],
    }
    (given.out / "receipt.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
