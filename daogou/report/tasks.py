"""What each task of a run came to: its metrics, the receipt, how true its chances are."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from daogou.report.axes import Series
from daogou.report.found import Document, Found, split_of
from daogou.report.lying import Row
from daogou.report.numbers import DIGITS, arrow, between, count, dashed, plain
from daogou.report.page import folded, number, paragraph, section, table
from daogou.report.plot import calibration_curve, forest, grid
from daogou.report.svg import Frame
from daogou.report.terminal import leading, share_of_gap
from daogou.report.words import Words
from daogou.report.words.receipt import WORDS as RECEIPT_WORDS

_95: Final = 1.96


def verdict_sentences(found: Found, words: Words, lang: str) -> list[str]:
    """Which tasks a receipt gives which verdict."""
    by_verdict: dict[str, list[str]] = {}
    for name, entry in (found.receipt or {}).get("tasks", {}).items():
        by_verdict.setdefault(entry["verdict"], []).append(name)
    said = RECEIPT_WORDS[lang]
    return [
        words["receipt_says"].format(
            verdict=said.get(verdict, verdict), names=words["and"].join(names)
        )
        for verdict, names in by_verdict.items()
    ]


def metrics(found: Found, words: Words) -> str:
    """What each task came to on the split that was judged."""
    if found.evaluation is None:
        return ""
    by_metric: dict[str, list[Row]] = {}
    rows = []
    for name, entry in found.evaluation["tasks"].items():
        metric = leading(name, entry)
        value, ceiling = entry.get(metric), entry.get(f"ceiling_{metric}")
        low, high = entry.get(f"{metric}_interval") or (None, None)
        by_metric.setdefault(metric, []).append(Row(name, value, low, high, plain(value, 3)))
        rows.append(
            [
                name, metric, plain(value, 4), between(low, high), plain(ceiling, 4),
                dashed(share_of_gap(metric, value, ceiling)),
                plain(entry.get("log_loss"), 4), plain(entry.get("ece"), 4),
                plain(entry.get("predicted_over_observed"), 2), count(entry.get("n")),
                count(entry.get("positives")),
            ]
        )  # fmt: skip
    plots = []
    for metric, points in by_metric.items():
        name = words.get(f"metric.{metric}", metric)
        frame = Frame(name, words["metrics_note"].format(split=split_of(found, words)), name)
        plots.append(forest(frame, points, zero=0.5 if metric == "auc" else None))
    heads = [
        words[key] for key in (
            "task", "metric", "value", "interval", "ceiling", "gap", "log_loss", "ece", "over",
            "n", "positives",
        )
    ]  # fmt: skip
    return section(
        words["metrics"],
        paragraph(words["metrics_note"].format(split=split_of(found, words)), note=True),
        grid(plots),
        folded(words["numbers"], table(heads, rows, numbers_from=2)),
        paragraph(words["metrics_heads"], note=True),
    )


def verdicts(found: Found, words: Words, lang: str) -> str:
    """What a receipt.json says; a comparison's own page says more."""
    tasks = (found.receipt or {}).get("tasks", {})
    verdicts = RECEIPT_WORDS[lang]
    guards = (found.receipt or {}).get("kind") == "guard"
    note = words["guard_note" if guards else "receipt_note"]
    by_metric: dict[str, list[Row]] = {}
    rows = []
    for name, entry in tasks.items():
        low, high = entry.get("interval") or (None, None)
        difference = number(entry.get("difference"), DIGITS)
        verdict = verdicts.get(entry["verdict"], entry["verdict"])
        row = Row(
            name, entry.get("difference"), low, high, f"{difference} {verdict}",
            strong=entry["verdict"] in ("HELPS", "HURTS"),
        )  # fmt: skip
        by_metric.setdefault(entry.get("metric") or "", []).append(row)
        rows.append(
            [
                name, entry.get("metric") or "–", verdict, plain(entry.get("multi"), DIGITS),
                plain(entry.get("single"), DIGITS), difference,
                *([words[f"own.{entry['own']}"]] if guards else []), between(low, high),
                *([] if guards else [plain(entry.get("smallest_detectable"), DIGITS)]),
            ]
        )  # fmt: skip
    if not rows:
        return ""
    plots = []
    for metric, points in by_metric.items():
        name = words.get(f"metric.{metric}", metric) or words["metric"]
        title, axis = (
            verdicts[key].format(metric=name) for key in ("differences_of", "difference_axis")
        )
        frame = Frame(title, note, axis)
        margin = (found.receipt or {}).get("margin")
        plots.append(forest(frame, points, zero=0.0, margin=margin))
    keys = "task", "metric", "verdict", "together", "alone", "difference", "interval", "smallest"
    heads = [verdicts[key] for key in keys]
    if guards:
        heads[-2:] = [words["own"], heads[-2]]
    return section(
        words["receipt"],
        paragraph(note, note=True),
        grid(plots),
        folded(words["numbers"], table(heads, rows, numbers_from=3)),
    )


def calibration(found: Found, words: Words) -> str:
    """How true the chances of each task are."""
    plots = []
    for name, entry in found.evaluation["tasks"].items() if found.evaluation else ():
        if not entry.get("reliability"):
            continue
        series = []
        if entry.get("reliability_before"):
            series.append(_reliability(words["before"], entry["reliability_before"], bars=False))
        series.append(_reliability(words["after"], entry["reliability"], bars=True))
        frame = Frame(
            words["reliability_of"].format(task=name),
            words["reliability_said"],
            words["said"],
            words["came"],
            height=290,
        )
        plots.append(calibration_curve(frame, series))
    if not plots:
        return ""
    told = (found.manifest or {}).get("fit", {}).get("calibration") or {}
    return section(
        words["calibration"],
        paragraph(words["calibration_note"], note=True),
        grid(plots),
        folded(words["how_calibrated"], _calibrated(told, words)) if told else "",
    )


def _calibrated(told: Mapping[str, Document], words: Words) -> str:
    rows = [
        [
            name, one["method"], one.get("why", "–"), count(one.get("n")),
            arrow(one.get("nats")), arrow(one.get("ece")),
        ]
        for name, one in told.items()
    ]  # fmt: skip
    heads = [words[key] for key in ("task", "method", "why", "n", "nats", "eces")]
    return table(heads, rows, numbers_from=3)


def _reliability(name: str, points: Sequence[Sequence[float]], *, bars: bool) -> Series:
    ends = [_wilson(share, n) for _, share, n in points] if bars else []
    return Series(
        name,
        [said for said, _, _ in points],
        [share for _, share, _ in points],
        low=[low for low, _ in ends],
        high=[high for _, high in ends],
    )


def _wilson(share: float, n: float) -> tuple[float, float]:
    """A 95 % interval of a share of n (Wilson, 1927), which holds where the share is 0 too."""
    middle = (share + _95**2 / (2 * n)) / (1 + _95**2 / n)
    half = _95 / (1 + _95**2 / n) * math.sqrt(share * (1 - share) / n + _95**2 / (4 * n * n))
    return middle - half, middle + half
