"""Numbers to small plots: SVG that anyone reads, at any width, without script, network or colour.

Series differ by dash and marker before they differ by colour; a page's style sheet adds the colour
(`report.page`), and without it a plot is black on white. Each says what it shows in words, and a
pointer over a mark shows its number.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from typing import Final, TypeGuard

from daogou.report.page import width_of

Number = float | None

_WIDTH: Final = 400  # so that letters keep their size on a telephone
_LETTER: Final = 6.9  # width of a Latin letter at 13 px
_DASHES: Final = ("", "7 3", "2 3", "9 3 2 3", "5 2 1 2 1 2", "12 4")
_ROW: Final = 26  # height of a line of a forest plot or of bars
_COLOURS: Final = 6
_NARROW: Final = 150  # what intervals need beside names and numbers
_LONGEST: Final = 30  # letters of a row's name before it is cut


@dataclass(frozen=True)
class Frame:
    """What a plot says of itself. ``x`` and ``y`` name the axes and their units.

    ``x_range`` and ``y_range`` are shown at least; the data may widen them.
    """

    title: str
    description: str
    x: str
    y: str = ""
    height: int = 250
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None


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
class Row:
    """A line of a forest plot or of bars: a value, its interval and what is written beside it."""

    name: str
    value: Number
    low: Number = None
    high: Number = None
    said: str = ""  # the value in words; made from it where empty
    strong: bool = False


def line_chart(
    frame: Frame,
    series: Sequence[Series],
    *,
    marked: tuple[float, str] | None = None,
    level: tuple[float, str] | None = None,
) -> str:
    """Series over a common axis, each with a dash and marker of its own.

    ``marked`` is a place on the x axis and ``level`` one on the y axis, with words for each.
    """
    reference = (level[0],) if level is not None and math.isfinite(level[0]) else ()
    canvas = _canvas(frame, series, more_y=reference)
    lines, said = [], []
    if level is not None and reference:
        y = canvas.y.at(level[0])
        lines.append(
            f'<line class="reference" x1="{canvas.left:.1f}" x2="{canvas.right:.1f}" y1="{y:.1f}" '
            f'y2="{y:.1f}" stroke="currentColor" stroke-dasharray="1 3"/>'
        )
        ends = ((canvas.right, "end"), (canvas.left + 4, "start"))
        said.append((level[1], [(x, y + dy, side) for x, side in ends for dy in (-5, 14)]))
    if marked is not None:
        x = canvas.x.at(marked[0])
        lines.append(
            f'<line class="reference" x1="{x:.1f}" x2="{x:.1f}" y1="{canvas.top:.1f}" '
            f'y2="{canvas.bottom:.1f}" stroke="currentColor"/>'
        )
        heights = canvas.top + 12, canvas.bottom - 6
        ends = ((x - 5, "end"), (x + 5, "start"))
        said.append((marked[1], [(at, y, side) for y in heights for at, side in ends]))
    drawn = [_drawn(canvas, each, place) for place, each in enumerate(series)]
    spots = [spot for each in series for run in _runs(canvas, each) for spot in _along(run)]
    words = [_free(canvas, text, places, spots) for text, places in said]
    parts = [canvas.legend(series), canvas.axes(), *lines, *drawn, *words]
    return _svg(frame, canvas.height, parts, _said_series(series))


def scatter(frame: Frame, series: Sequence[Series]) -> str:
    """Points of several kinds; those of a joined series are also a line, a Pareto front say."""
    canvas = _canvas(frame, series)
    parts = [canvas.legend(series), canvas.axes()]
    parts += [_drawn(canvas, each, place) for place, each in enumerate(series)]
    return _svg(frame, canvas.height, parts, _said_series(series))


def calibration_curve(frame: Frame, series: Sequence[Series]) -> str:
    """What was said against what came true, beside the line on which the two are one."""
    ends = [
        value for each in series for column in (each.x, each.y) for value in column if _known(value)
    ]
    most = max(ends, default=1.0) or 1.0
    frame = replace(frame, x_range=(0.0, most), y_range=(0.0, most))
    canvas = _canvas(frame, series, clip=True)
    end = min(canvas.x.high, canvas.y.high)
    parts = [
        canvas.legend(series),
        canvas.axes(),
        f'<line class="reference" x1="{canvas.x.at(0):.1f}" y1="{canvas.y.at(0):.1f}" '
        f'x2="{canvas.x.at(end):.1f}" y2="{canvas.y.at(end):.1f}" stroke="currentColor"/>',
    ]
    parts += [_drawn(canvas, each, place) for place, each in enumerate(series)]
    return _svg(frame, canvas.height, parts, _said_series(series))


def forest(
    frame: Frame,
    rows: Sequence[Row],
    *,
    zero: float | None = None,
    margin: float | None = None,
) -> str:
    """A point and its interval for each row, one under the other.

    ``zero`` is where nothing is gained or lost; ``margin`` is hatched on both sides of it.
    """
    sides = [] if zero is None else [zero - (margin or 0.0), zero + (margin or 0.0)]
    lying = _Lying.of(frame, rows, sides)
    parts = []
    if zero is not None:
        if margin:
            parts.append(_hatched(lying, zero - margin, zero + margin))
        x = lying.x.at(zero)
        parts.append(
            f'<line class="reference" x1="{x:.1f}" x2="{x:.1f}" y1="{lying.top:.1f}" '
            f'y2="{lying.bottom:.1f}" stroke="currentColor"/>'
        )
    parts.append(lying.axis())
    for place, row in enumerate(rows):
        parts.append(lying.words(place, row) + _interval(lying, place, row))
    return _svg(frame, lying.height, parts, _said_rows(rows))


def bars(frame: Frame, rows: Sequence[Row]) -> str:
    """A bar for each row from 0 on, one under the other, with its interval where it has one."""
    lying = _Lying.of(frame, rows, [0.0])
    parts = [lying.axis()]
    start = lying.x.at(0.0)
    for place, row in enumerate(rows):
        bar = ""
        if _known(row.value):
            x, y = lying.x.at(row.value), lying.middle(place) - 7
            bar = (
                f'<rect class="bar" x="{min(start, x):.1f}" y="{y:.1f}" '
                f'width="{abs(x - start):.1f}" height="14" fill="currentColor" fill-opacity=".35" '
                f'stroke="currentColor">{_hover(row.name, _written(row))}</rect>'
            )
            bar += _whisker(lying, place, row)
        parts.append(lying.words(place, row) + bar)
    parts.append(
        f'<line class="frame" x1="{start:.1f}" x2="{start:.1f}" y1="{lying.top:.1f}" '
        f'y2="{lying.bottom:.1f}" stroke="currentColor"/>'
    )
    return _svg(frame, lying.height, parts, _said_rows(rows))


def grid(plots: Sequence[str]) -> str:
    """Plots side by side as far as the page is wide."""
    inside = "\n".join(f"<figure>{each}</figure>" for each in plots if each)
    return f'<div class="plots">\n{inside}\n</div>' if inside else ""


# ---- scales -------------------------------------------------------------------------------


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
    known = [float(value) for value in values if _known(value)] or [0.0, 1.0]
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


# ---- plots with two axes ------------------------------------------------------------------


@dataclass(frozen=True)
class _Canvas:
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
        parts = [_text(self.frame.y, 0, self.top - 10, soft=True)]
        for value in self.y.ticks:
            y = self.y.at(value)
            parts.append(
                f'<line class="rule" x1="{self.left:.1f}" x2="{self.right:.1f}" y1="{y:.1f}" '
                f'y2="{y:.1f}" stroke="currentColor" stroke-opacity=".15"/>'
                + _text(self.y.written(value), self.left - 6, y + 4, "end", soft=True)
            )
        for value in self.x.ticks:
            x = self.x.at(value)
            parts.append(
                f'<line class="frame" x1="{x:.1f}" x2="{x:.1f}" y1="{self.bottom:.1f}" '
                f'y2="{self.bottom + 4:.1f}" stroke="currentColor"/>'
                + _text(self.x.written(value), x, self.bottom + 17, "middle", soft=True)
            )
        parts.append(
            f'<path class="frame" d="M{self.left:.1f} {self.top:.1f}V{self.bottom:.1f}'
            f'H{self.right:.1f}" fill="none" stroke="currentColor"/>'
        )
        middle = (self.left + self.right) / 2
        parts.append(_text(self.frame.x, middle, self.bottom + 35, "middle", soft=True))
        return "".join(parts)

    def legend(self, series: Sequence[Series]) -> str:
        """Name, dash and marker of each series; nothing where there is but one without a name."""
        parts = []
        for place, (each, x, y) in enumerate(_legend_places(series)):
            sample = ""
            if each.joined:
                sample = _path([(x, y - 4), (x + 26, y - 4)], place)
            parts.append(sample + _marker(place, x + 13, y - 4) + _text(each.name, x + 32, y))
        return "".join(parts)


def _canvas(
    frame: Frame, series: Sequence[Series], *, more_y: Sequence[float] = (), clip: bool = False
) -> _Canvas:
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
    left = 12 + _LETTER * max([3, *(len(y.written(value)) for value in y.ticks)])
    right = _WIDTH - 14.0
    x = scale(xs, left + 8, right - 8, round_ends=clip)
    if clip:
        x = replace(x, start=left, end=right)
    return _Canvas(frame, x, y, top, bottom, left, right)


def _legend_places(series: Sequence[Series]) -> list[tuple[Series, float, float]]:
    """Where each name of a legend begins; a line that is full goes on below."""
    places = []
    x, y = 0.0, 36.0
    for each in series:
        wide = 32 + _LETTER * width_of(each.name) + 14
        if x and x + wide > _WIDTH:
            x, y = 0.0, y + 20
        places.append((each, x, y))
        x += wide
    return places if any(each.name for each in series) else []


def _drawn(canvas: _Canvas, series: Series, place: int) -> str:
    """Intervals, then the line, then the points and what stands beside them."""
    parts = []
    if series.low and series.high:
        for value, low, high in zip(series.x, series.low, series.high, strict=True):
            if not (_known(value) and _known(low) and _known(high)):
                continue
            x = canvas.x.at(value)
            ends = [min(max(canvas.y.at(end), canvas.top), canvas.bottom) for end in (low, high)]
            parts.append(
                f'<line class="series s{place % _COLOURS}" x1="{x:.1f}" x2="{x:.1f}" '
                f'y1="{ends[0]:.1f}" y2="{ends[1]:.1f}" stroke="currentColor" '
                f'stroke-opacity=".55"/>'
            )
    if series.joined:
        parts += [_path(run, place) for run in _runs(canvas, series) if len(run) > 1]
    for i, (value, height) in enumerate(zip(series.x, series.y, strict=True)):
        if not (_known(value) and _known(height)):
            continue
        x, y = canvas.x.at(value), canvas.y.at(height)
        said = f"{_short(value)}, {_short(height)}"
        words = series.labels[i] if series.labels else ""
        parts.append(_marker(place, x, y, _hover(series.name or words, said)))
        if words:
            side = "end" if x > (canvas.left + canvas.right) / 2 else "start"
            parts.append(_text(words, x + (-8 if side == "end" else 8), y - 6, side, soft=True))
    return "".join(parts)


def _runs(canvas: _Canvas, series: Series) -> Iterator[list[tuple[float, float]]]:
    """Stretches of points without a gap."""
    run: list[tuple[float, float]] = []
    for x, y in zip(series.x, series.y, strict=True):
        if _known(x) and _known(y):
            run.append((canvas.x.at(x), canvas.y.at(y)))
        else:
            yield run
            run = []
    yield run


def _along(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Spots of a line that are close to one another."""
    yield from points
    for (x0, y0), (x1, y1) in pairwise(points):
        for step in range(1, 20):
            yield x0 + (x1 - x0) * step / 20, y0 + (y1 - y0) * step / 20


def _free(
    canvas: _Canvas,
    words: str,
    places: Sequence[tuple[float, float, str]],
    spots: Sequence[tuple[float, float]],
) -> str:
    """Words at the first of the places where they cover the fewest spots."""
    wide = _LETTER * width_of(words)

    def covered(place: tuple[float, float, str]) -> int:
        x, y, side = place
        left = x - wide if side == "end" else x
        if not (canvas.left <= left and left + wide <= canvas.right + 8):
            return len(spots) + 1
        if not (canvas.top <= y - 11 and y <= canvas.bottom):
            return len(spots) + 1
        return sum(left - 4 < at < left + wide + 4 and y - 14 < up < y + 5 for at, up in spots)

    x, y, side = min(places, key=covered)
    return _text(words, x, y, side, soft=True)


def _path(points: Sequence[tuple[float, float]], place: int) -> str:
    dash = _DASHES[place % len(_DASHES)]
    steps = " ".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return (
        f'<path class="series s{place % _COLOURS}" d="M{steps}" fill="none" stroke="currentColor" '
        f'stroke-width="1.8"' + (f' stroke-dasharray="{dash}"' if dash else "") + "/>"
    )


def _polygon(*corners: tuple[float, float]) -> Callable[[float, float], str]:
    def shape(x: float, y: float) -> str:
        points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
        return f'<polygon points="{points}"'

    return shape


def _circle(x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4"'


_MARKERS: Final[Sequence[Callable[[float, float], str]]] = (
    _circle,
    _polygon((-3.2, -3.2), (3.2, -3.2), (3.2, 3.2), (-3.2, 3.2)),
    _polygon((0, -4.2), (4.2, 3.2), (-4.2, 3.2)),
    _polygon((0, -4.6), (4.6, 0), (0, 4.6), (-4.6, 0)),
    _polygon((0, 4.2), (4.2, -3.2), (-4.2, -3.2)),
    _polygon(
        (-1.2, -4), (1.2, -4), (1.2, -1.2), (4, -1.2), (4, 1.2), (1.2, 1.2), (1.2, 4), (-1.2, 4),
        (-1.2, 1.2), (-4, 1.2), (-4, -1.2), (-1.2, -1.2),
    ),
)  # fmt: skip


def _marker(place: int, x: float, y: float, inside: str = "") -> str:
    """The mark of a series: every other one is hollow once the shapes are used up."""
    shape = _MARKERS[place % len(_MARKERS)](x, y)
    hollow = place >= len(_MARKERS)
    kind = f"mark s{place % _COLOURS}" + (" hollow" if hollow else "")
    fill = "none" if hollow else "currentColor"
    tag = shape[1:].split(" ", 1)[0]
    return f'{shape} class="{kind}" fill="{fill}" stroke="currentColor">{inside}</{tag}>'


# ---- plots of rows ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Lying:
    """Where rows lie, their names left and their numbers right of them."""

    frame: Frame
    x: Scale
    n_rows: int
    left: float
    right: float
    above: bool  # whether names and numbers stand above the rows, for want of room beside them
    top: float = 26.0

    @classmethod
    def of(cls, frame: Frame, rows: Sequence[Row], more: Sequence[float]) -> "_Lying":
        names = max([2, *(width_of(_cut(row.name)) for row in rows)])
        said = max([2, *(width_of(_written(row)) for row in rows)])
        left, right = 12 + _LETTER * names, _WIDTH - 12 - _LETTER * said
        above = right - left < _NARROW
        if above:
            left, right = 20.0, _WIDTH - 20.0
        ends = [end for row in rows for end in (row.value, row.low, row.high)]
        values = [*ends, *more, *(frame.x_range or ())]
        x = scale(values, left, right, n_ticks=min(max(int((right - left) / 75), 2), 5))
        return cls(frame, x, len(rows), left, right, above)

    @property
    def row(self) -> float:
        """The height that a row takes."""
        return _ROW * 1.7 if self.above else _ROW

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
                + _text(self.x.written(value), x, self.bottom + 17, "middle", soft=True)
            )
        parts.append(
            f'<line class="frame" x1="{self.left:.1f}" x2="{self.right:.1f}" '
            f'y1="{self.bottom:.1f}" y2="{self.bottom:.1f}" stroke="currentColor"/>'
        )
        wide = _LETTER * width_of(self.frame.x) / 2
        middle = min(max((self.left + self.right) / 2, wide), _WIDTH - wide)
        parts.append(_text(self.frame.x, middle, self.bottom + 35, "middle", soft=True))
        return "".join(parts)

    def words(self, place: int, row: Row) -> str:
        y = self.top + place * self.row + 17
        name = _text(_cut(row.name), 0, y, strong=row.strong, whole=row.name)
        return name + _text(_written(row), _WIDTH, y, "end", strong=row.strong)


def _interval(lying: _Lying, place: int, row: Row) -> str:
    if not _known(row.value):
        return ""
    x, y = lying.x.at(row.value), lying.middle(place)
    inside = _hover(row.name, _written(row))
    return _whisker(lying, place, row) + (
        f'<rect class="mark s0" x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" '
        f'fill="currentColor">{inside}</rect>'
    )


def _whisker(lying: _Lying, place: int, row: Row) -> str:
    if not (_known(row.low) and _known(row.high)):
        return ""
    low, high, y = lying.x.at(row.low), lying.x.at(row.high), lying.middle(place)
    return (
        f'<path class="series s0" d="M{low:.1f} {y - 4:.1f}v8m0 -4H{high:.1f}m0 -4v8" fill="none" '
        f'stroke="currentColor" stroke-width="{2.2 if row.strong else 1.4}"/>'
    )


def _hatched(lying: _Lying, low: float, high: float) -> str:
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


# ---- words --------------------------------------------------------------------------------


def _svg(frame: Frame, height: float, parts: Sequence[str], said: str) -> str:
    spoken = " ".join(filter(None, (f"{frame.title}.", frame.description, said)))
    return (
        f'<svg class="plot" role="img" aria-label="{escape(spoken)}" width="100%" '
        f'viewBox="0 0 {_WIDTH} {height:.0f}" style="max-width:{1.25 * _WIDTH:.0f}px">'
        f"<title>{escape(frame.title)}</title><desc>{escape(frame.description)}</desc>"
        f"{_text(frame.title, 0, 14, strong=True)}"
        f"{''.join(parts)}</svg>"
    )


def _said_series(series: Sequence[Series]) -> str:
    """Where each series starts and ends, for who cannot see it."""
    said = []
    for each in series:
        known = [value for value in each.y if _known(value)]
        if known and each.joined:
            said.append(f"{each.name}: {_short(known[0])} → {_short(known[-1])}")
    return "; ".join(said)


def _said_rows(rows: Sequence[Row]) -> str:
    return "; ".join(f"{row.name}: {_written(row)}" for row in rows)


def _text(
    words: str,
    x: float,
    y: float,
    anchor: str = "start",
    *,
    soft: bool = False,
    strong: bool = False,
    whole: str = "",
) -> str:
    if not words:
        return ""
    kinds = " ".join(kind for kind, is_so in (("axis", soft), ("sure", strong)) if is_so)
    style = (f' class="{kinds}"' if kinds else "") + (
        f' text-anchor="{anchor}"' if anchor != "start" else ""
    )
    inside = f"<title>{escape(whole)}</title>" if whole and whole != words else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{style}>{inside}{escape(words)}</text>'


def _hover(name: str, said: str) -> str:
    return f"<title>{escape(f'{name}: {said}' if name else said)}</title>"


def _written(row: Row) -> str:
    return row.said or _short(row.value)


def _short(value: Number) -> str:
    """Three figures of a number; an undefined one is a dash.

    >>> _short(0.12345), _short(None), _short(-2.0), _short(123456.0)
    ('0.123', '–', '−2', '123,456')
    """
    if not _known(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def _cut(name: str) -> str:
    """A name that is not too wide; what was cut is shown when pointed at."""
    if width_of(name) <= _LONGEST:
        return name
    kept = ""
    for letter in name:
        if width_of(kept + letter) > _LONGEST - 1:
            break
        kept += letter
    return kept + "…"


def _known(value: Number) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
