"""Points to places in a picture: scales, their ticks, and a legend above."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from daogou.report.numbers import is_number
from daogou.report.page import width_of
from daogou.report.svg import LETTER, WIDTH, Frame, Number, marker, path_of, text_at


@dataclass(frozen=True)
class Series:
    """Points of one name, in the order they are joined; None and NaN leave a gap.

    ``low`` and ``high`` are ends of each point's interval, ``labels`` words beside each point.
    """

    name: str
    x: Sequence[Number]
    y: Sequence[Number]
    low: Sequence[Number] = ()
    high: Sequence[Number] = ()
    labels: Sequence[str] = ()
    joined: bool = True


@dataclass(frozen=True)
class Scale:
    """Values from ``low`` to ``high`` to places from ``start`` to ``end``, and round values."""

    low: float
    high: float
    start: float
    end: float
    step: float

    def at(self, value: float) -> float:
        """Where a value stands."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """The round values that are within."""
        first = math.ceil(self.low / self.step - 1e-6)
        last = math.floor(self.high / self.step + 1e-6)
        return [place * self.step for place in range(first, last + 1)]

    def written(self, value: float) -> str:
        """A round value as it is written at its tick.

        >>> Scale(0.0, 1.0, 0, 100, 0.25).written(0.5), Scale(0, 9e4, 0, 100, 3e4).written(30000)
        ('0.50', '30,000')
        """
        if abs(value) < self.step / 2:
            return "0"
        if self.step < 1e-5:
            return f"{value:.3g}".replace("-", "−")
        return f"{value:,.{_digits(self.step)}f}".replace("-", "−")


def _digits(step: float) -> int:
    """How many digits behind the point a step needs."""
    return next((n for n in range(8) if abs(step * 10**n - round(step * 10**n)) < 1e-6), 8)


def scale(
    values: Sequence[Number], start: float, end: float, *, n_ticks: int = 5, round_ends: bool = True
) -> Scale:
    """A scale over the finite values; of whole numbers no tick falls between two.

    >>> scale([0.13, 0.87], 0, 100).ticks
    [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
    >>> scale([1, 3], 0, 100, round_ends=False).ticks
    [1, 2, 3]
    """
    known = [float(value) for value in values if is_number(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    whole = all(value == round(value) for value in known)
    if low == high:
        wide = 0.5 if whole else abs(low) / 2 or 1.0
        low, high = low - wide, high + wide
    rough = (high - low) / n_ticks
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * 0.999)
    if whole:
        step = max(1, math.ceil(step))
    if round_ends:
        low, high = math.floor(low / step + 1e-6) * step, math.ceil(high / step - 1e-6) * step
    return Scale(low, high, start, end, step)


@dataclass(frozen=True)
class Canvas:
    """Where the plot of a frame lies in its picture."""

    frame: Frame
    x: Scale
    y: Scale
    top: float
    bottom: float
    left: float
    right: float

    @property
    def height(self) -> float:
        return self.bottom + 40

    def axes(self) -> str:
        """Grid, ticks and names of both axes; the name of y lies flat above it."""
        parts = [text_at(self.frame.y, 0, self.top - 10, soft=True)]
        for value in self.y.ticks:
            y = self.y.at(value)
            parts.append(
                f'<line class="rule" x1="{self.left:.1f}" x2="{self.right:.1f}" y1="{y:.1f}" '
                f'y2="{y:.1f}" stroke="currentColor" stroke-opacity=".15"/>'
                + text_at(self.y.written(value), self.left - 6, y + 4, "end", soft=True)
            )
        for value in self.x.ticks:
            x = self.x.at(value)
            parts.append(
                f'<line class="frame" x1="{x:.1f}" x2="{x:.1f}" y1="{self.bottom:.1f}" '
                f'y2="{self.bottom + 4:.1f}" stroke="currentColor"/>'
                + text_at(self.x.written(value), x, self.bottom + 17, "middle", soft=True)
            )
        parts.append(
            f'<path class="frame" d="M{self.left:.1f} {self.top:.1f}V{self.bottom:.1f}'
            f'H{self.right:.1f}" fill="none" stroke="currentColor"/>'
        )
        middle = (self.left + self.right) / 2
        parts.append(text_at(self.frame.x, middle, self.bottom + 35, "middle", soft=True))
        return "".join(parts)

    def legend(self, series: Sequence[Series]) -> str:
        """Name, dash and marker of each series; nothing where there is but one without a name."""
        parts = []
        for place, (each, x, y) in enumerate(_legend_places(series)):
            sample = ""
            if each.joined:
                sample = path_of([(x, y - 4), (x + 26, y - 4)], place)
            parts.append(sample + marker(place, x + 13, y - 4) + text_at(each.name, x + 32, y))
        return "".join(parts)


def canvas_of(
    frame: Frame, series: Sequence[Series], *, more_y: Sequence[float] = (), clip: bool = False
) -> Canvas:
    """The scales that hold all points, and intervals too unless they may be cut."""
    columns = [each.y for each in series]
    if not clip:
        columns += [ends for each in series for ends in (each.low, each.high)]
    ys = [value for column in columns for value in column]
    ys += [*more_y, *(frame.y_range or ())]
    xs = [value for each in series for value in each.x] + [*(frame.x_range or ())]
    rows = [y for _, _, y in _legend_places(series)]
    top = max(rows, default=14.0) + (34 if frame.y else 14)
    bottom = top + frame.height - 70
    y = scale(ys, bottom, top)
    left = 12 + LETTER * max([3, *(len(y.written(value)) for value in y.ticks)])
    right = WIDTH - 14.0
    x = scale(xs, left + 8, right - 8, round_ends=clip)
    if clip:
        x = replace(x, start=left, end=right)
    return Canvas(frame, x, y, top, bottom, left, right)


def _legend_places(series: Sequence[Series]) -> list[tuple[Series, float, float]]:
    """Where each name of a legend begins; a line that is full goes on below."""
    places = []
    x, y = 0.0, 36.0
    for each in series:
        wide = 32 + LETTER * width_of(each.name) + 14
        if x and x + wide > WIDTH:
            x, y = 0.0, y + 20
        places.append((each, x, y))
        x += wide
    return places if any(each.name for each in series) else []
