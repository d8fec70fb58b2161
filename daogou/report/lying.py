"""Rows under one another to a picture: names, a value with its interval, and its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from daogou.report.axes import Scale, scale
from daogou.report.numbers import is_number
from daogou.report.page import width_of
from daogou.report.svg import LETTER, WIDTH, Frame, Number, cut, hover, short, text_at

ROW: Final = 26  # height of a line of a forest plot or of bars

_NARROW: Final = 150  # what intervals need beside names and numbers


@dataclass(frozen=True)
class Row:
    """A line of a forest plot or of bars: a value, its interval and what is written beside it."""

    name: str
    value: Number
    low: Number = None
    high: Number = None
    said: str = ""  # the value in words; made from it where empty
    strong: bool = False


@dataclass(frozen=True)
class Lying:
    """Where rows lie, their names left and their numbers right of them."""

    frame: Frame
    x: Scale
    n_rows: int
    left: float
    right: float
    above: bool  # whether names and numbers stand above the rows, for want of room beside them
    top: float = 26.0

    @classmethod
    def of(cls, frame: Frame, rows: Sequence[Row], more: Sequence[float]) -> "Lying":
        names = max([2, *(width_of(cut(row.name)) for row in rows)])
        said = max([2, *(width_of(written(row)) for row in rows)])
        left, right = 12 + LETTER * names, WIDTH - 12 - LETTER * said
        above = right - left < _NARROW
        if above:
            left, right = 20.0, WIDTH - 20.0
        ends = [end for row in rows for end in (row.value, row.low, row.high)]
        values = [*ends, *more, *(frame.x_range or ())]
        x = scale(values, left, right, n_ticks=min(max(int((right - left) / 75), 2), 5))
        return cls(frame, x, len(rows), left, right, above)

    @property
    def row(self) -> float:
        """The height that a row takes."""
        return ROW * 1.7 if self.above else ROW

    @property
    def bottom(self) -> float:
        return self.top + self.n_rows * self.row

    @property
    def height(self) -> float:
        return self.bottom + 40

    def middle(self, place: int) -> float:
        """Where the interval of a row lies."""
        return self.top + (place + (0.75 if self.above else 0.5)) * self.row

    def axis(self) -> str:
        parts = []
        for value in self.x.ticks:
            x = self.x.at(value)
            parts.append(
                f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{self.top:.1f}" '
                f'y2="{self.bottom + 4:.1f}" stroke="currentColor" stroke-opacity=".15"/>'
                + text_at(self.x.written(value), x, self.bottom + 17, "middle", soft=True)
            )
        parts.append(
            f'<line class="frame" x1="{self.left:.1f}" x2="{self.right:.1f}" '
            f'y1="{self.bottom:.1f}" y2="{self.bottom:.1f}" stroke="currentColor"/>'
        )
        wide = LETTER * width_of(self.frame.x) / 2
        middle = min(max((self.left + self.right) / 2, wide), WIDTH - wide)
        parts.append(text_at(self.frame.x, middle, self.bottom + 35, "middle", soft=True))
        return "".join(parts)

    def words(self, place: int, row: Row) -> str:
        y = self.top + place * self.row + 17
        name = text_at(cut(row.name), 0, y, strong=row.strong, whole=row.name)
        return name + text_at(written(row), WIDTH, y, "end", strong=row.strong)


def interval_of(lying: Lying, place: int, row: Row) -> str:
    """A row's value and its interval."""
    if not is_number(row.value):
        return ""
    x, y = lying.x.at(row.value), lying.middle(place)
    inside = hover(row.name, written(row))
    return whisker(lying, place, row) + (
        f'<rect class="mark s0" x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" '
        f'fill="currentColor">{inside}</rect>'
    )


def whisker(lying: Lying, place: int, row: Row) -> str:
    """A row's interval alone."""
    if not (is_number(row.low) and is_number(row.high)):
        return ""
    low, high, y = lying.x.at(row.low), lying.x.at(row.high), lying.middle(place)
    return (
        f'<path class="series s0" d="M{low:.1f} {y - 4:.1f}v8m0 -4H{high:.1f}m0 -4v8" fill="none" '
        f'stroke="currentColor" stroke-width="{2.2 if row.strong else 1.4}"/>'
    )


def hatched(lying: Lying, low: float, high: float) -> str:
    """The stretch that counts as nothing: slanted lines, which need no name on the page."""
    first, last = lying.x.at(low), lying.x.at(high)
    lines = []
    x = first
    while x < last:
        lines.append(f"M{x:.1f} {lying.top:.1f}V{lying.bottom:.1f}")
        x += 5
    return (
        f'<path class="within" d="{"".join(lines)}M{last:.1f} {lying.top:.1f}'
        f'V{lying.bottom:.1f}" fill="none" stroke="currentColor" stroke-opacity=".25" '
        f'stroke-dasharray="2 3"/>'
    )


def said_rows(rows: Sequence[Row]) -> str:
    """What rows say, for who cannot see them."""
    return "; ".join(f"{row.name}: {written(row)}" for row in rows)


def written(row: Row) -> str:
    """A row's number as it is written beside it."""
    return row.said or short(row.value)
