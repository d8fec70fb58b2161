"""A run's epochs to curves of its losses."""

from collections.abc import Sequence
from typing import TypeGuard

from daogou.report.axes import Series
from daogou.report.found import Found, kept_epoch, over_constant
from daogou.report.numbers import is_number, plain
from daogou.report.page import folded, paragraph, section, table
from daogou.report.plot import grid, line_chart
from daogou.report.svg import Frame
from daogou.report.words import Words


def curves(found: Found, words: Words) -> str:
    """The losses of each task over the epochs, with the one that was kept."""
    if not found.epochs:
        return ""
    x = [epoch["epoch"] for epoch in found.epochs]
    kept = kept_epoch(found).get("epoch")
    plots = []
    for task in found.epochs[0]["validation"]:
        held = [epoch["validation"].get(task, {}).get("loss") for epoch in found.epochs]
        taught = [epoch["train"].get(task) for epoch in found.epochs]
        constant = found.epochs[-1]["validation"].get(task, {}).get("constant")
        start = _first(held)
        is_ratio = all((each or 0.0) > 0 for each in (start, _first(taught)))
        series = [
            Series(words["train"], x, _since_first(taught, is_ratio)),
            Series(words["validation"], x, _since_first(held, is_ratio)),
        ]
        level = _moved(constant, start, is_ratio)
        near = [value for each in series for value in each.y if is_number(value)]
        frame = Frame(
            words["curve_of"].format(task=task),
            words["curve_said"],
            words["epoch"],
            words["loss" if is_ratio else "loss_less"],
        )
        plots.append(
            line_chart(
                frame,
                series,
                marked=(kept, words["kept"]) if kept is not None else None,
                level=(level, words["constant"]) if _is_near(level, near) else None,
            )
        )
    return section(
        words["curves"],
        paragraph(words["curves_note"], note=True),
        grid(plots),
        folded(
            words["numbers"], paragraph(words["numbers_note"], note=True), _epochs(found, words)
        ),
    )


def _epochs(found: Found, words: Words) -> str:
    tasks = list(found.epochs[0]["validation"])
    rows = [
        [
            str(epoch["epoch"]),
            plain(epoch["score"], 4),
            *(plain(over_constant(epoch["validation"].get(task, {})), 4) for task in tasks),
        ]
        for epoch in found.epochs
    ]
    return table([words["epoch"], words["joint_score"], *tasks], rows)


def _first(values: Sequence[float | None]) -> float | None:
    return next((value for value in values if is_number(value)), None)


def _since_first(values: Sequence[float | None], is_ratio: bool) -> list[float | None]:
    start = _first(values)
    return [_moved(value, start, is_ratio) for value in values]


def _moved(value: float | None, start: float | None, is_ratio: bool) -> float | None:
    if value is None or start is None or not is_number(value):
        return None
    return value / start if is_ratio else value - start


def _is_near(level: float | None, values: Sequence[float | None]) -> TypeGuard[float]:
    """Whether a line there would leave the curves most of the plot."""
    known = [value for value in values if value is not None]
    if level is None or not known:
        return False
    low, high = min(known), max(known)
    return low - (high - low) <= level <= high + (high - low)
