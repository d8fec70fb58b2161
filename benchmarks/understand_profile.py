"""How well users are understood: households nobody told us of, and made shops against the truth.

    python benchmarks/understand_profile.py SHOPS OUT [--only households easy] [--threads 1]

SHOPS holds what ``daogou import completejourney`` wrote. Households are answered out of fold: each
by the run that saw no label of theirs, beside a logistic regression on what they bought, which
reads the same folds. Made shops are judged by their planted posterior. OUT keeps the runs, which
are taken up again if they are finished, and gets ``profile.json`` and ``profile.md``.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from real import DRAWS, SETTINGS, Bench, household_answers
from record import about, between, show

from daogou.artifact import plain
from daogou.errors import DaogouError
from daogou.learn.evaluate import evaluate
from daogou.metrics import (
    auc,
    auc_interval,
    bias_corrected_calibration_error,
    paired_difference,
)
from daogou.tables.simulate import simulate

BINS: Final = 10
CALIBRATION: Final = 0.05  # at most, corrected for what luck makes of so few
CEILING: Final = 0.9  # of the posterior's macro-F1, at least
MADE: Final[dict[str, tuple[dict[str, int], tuple[str, ...]]]] = {
    "easy": ({"exposures": 100_000}, ("fit.epochs=6", "model.text_width=32")),
    "default": ({"exposures": 600_000}, ("fit.epochs=6", "model.text_width=32")),
}


def households(bench: Bench) -> list[dict[str, Any]]:
    """Each question about the households: AUCs, their paired difference, and calibration."""
    found = []
    for asked, (y, ours, linear) in household_answers(bench).items():
        users = np.arange(len(y))
        gap = paired_difference(ours, linear, y, users, n=DRAWS)
        found.append(
            {
                "question": asked,
                "n": len(y),
                "yes": int(y.sum()),
                "auc": [auc(ours, y), *auc_interval(ours, y, users, n=DRAWS)],
                "logistic": [auc(linear, y), *auc_interval(linear, y, users, n=DRAWS)],
                "difference": [gap.value, gap.low, gap.high],
                "calibration": bias_corrected_calibration_error(ours, y, bins=BINS),
            }
        )
    return found


def made(bench: Bench, presets: Sequence[str]) -> list[dict[str, Any]]:
    """Each profile column of the made shops: its share of the ceiling."""
    found = []
    for preset in presets:
        size, sets = MADE[preset]
        shop = bench.out / f"shop-{preset}"
        if not (shop / "shop.toml").exists():
            simulate(shop, preset, **size)
        report = evaluate(bench.run(shop, f"made-{preset}", *sets))
        found += [
            {"shop": preset, "column": name, **entry}
            for name, entry in report["tasks"].items()
            if name.startswith("profile.")
        ]
    return found


def main(arguments: Sequence[str]) -> int:
    """Fit what is not fitted yet, judge it, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("shops", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=["households", *MADE],
                        default=["households", *MADE])  # fmt: skip
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    bench = Bench(given.shops, given.out, given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = about("understand_profile.py", arguments)
    tables: dict[str, tuple[Sequence[str], list[list[str]]]] = {}
    try:
        if "households" in given.only:
            document["settings"] = SETTINGS["profiles"]
            document["households"] = households(bench)
            heading = ("question", "n", "yes", "AUC", "logistic on purchase counts", "difference",
                       "calibration error")  # fmt: skip
            tables["households"] = heading, [
                [
                    line["question"], str(line["n"]), str(line["yes"]), _score(line["auc"]),
                    _score(line["logistic"]), _score(line["difference"], "+"),
                    f"{line['calibration']:.3f}",
                ]
                for line in document["households"]
            ]  # fmt: skip
        presets = [name for name in given.only if name in MADE]
        if presets:
            document["made"] = made(bench, presets)
            tables["made"] = ("shop", "column", "macro-F1", "ceiling", "share"), [
                [
                    line["shop"], line["column"], f"{line['macro_f1']:.3f}",
                    f"{line['ceiling_macro_f1']:.3f}", f"{line['share_of_ceiling']:.3f}",
                ]
                for line in document["made"]
            ]  # fmt: skip
    except DaogouError as error:
        print(f"understand_profile: {error}", file=sys.stderr)
        return 1
    show(given.out / "profile.md", tables, 160)
    text = json.dumps(plain(document), indent=1)
    (given.out / "profile.json").write_text(text, encoding="utf-8")
    missed = [
        line["question"] for line in document.get("households", ())
        if line["difference"][1] <= 0 or line["calibration"] > CALIBRATION
    ] + [
        f"{line['shop']} {line['column']}" for line in document.get("made", ())
        if line["share_of_ceiling"] < CEILING
    ]  # fmt: skip
    print(f"missed: {', '.join(missed)}" if missed else "all bars met", file=sys.stderr)
    return 1 if missed else 0


def _score(numbers: Sequence[float], sign: str = "") -> str:
    value, low, high = numbers
    return between(value, low, high, sign)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
