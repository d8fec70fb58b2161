"""Numbers to small plots: SVG that anyone reads, at any width, without script, network or colour.

Series differ by dash and marker before they differ by colour; a page's style sheet adds the colour
(`report.page`), and without it a plot is black on white. Each says what it shows in words, and a
pointer over a mark shows its number.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from daogou.report.axes import Canvas, Series, canvas_of
from daogou.report.lying import Lying, Row, hatched, interval_of, said_rows, whisker, written
from daogou.report.numbers import is_number
from daogou.report.page import width_of
from daogou.report.svg import COLOURS, LETTER, Frame, hover, marker, path_of, short, svg, text_at


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
    canvas = canvas_of(frame, series, more_y=reference)
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
    spots = [spot for each in series for run in runs(canvas, each) for spot in _along(run)]
    words = [_free(canvas, text, places, spots) for text, places in said]
    parts = [canvas.legend(series), canvas.axes(), *lines, *drawn, *words]
    return svg(frame, canvas.height, parts, _said_series(series))


def scatter(frame: Frame, series: Sequence[Series]) -> str:
    """Points of several kinds; those of a joined series are also a line, a Pareto front say."""
    canvas = canvas_of(frame, series)
    parts = [canvas.legend(series), canvas.axes()]
    parts += [_drawn(canvas, each, place) for place, each in enumerate(series)]
    return svg(frame, canvas.height, parts, _said_series(series))


def calibration_curve(frame: Frame, series: Sequence[Series]) -> str:
    """What was said against what came true, beside the line on which the two are one."""
    ends = [
        value
        for each in series
        for column in (each.x, each.y)
        for value in column
        if is_number(value)
    ]
    most = max(ends, default=1.0) or 1.0
    frame = replace(frame, x_range=(0.0, most), y_range=(0.0, most))
    canvas = canvas_of(frame, series, clip=True)
    end = min(canvas.x.high, canvas.y.high)
    parts = [
        canvas.legend(series),
        canvas.axes(),
        f'<line class="reference" x1="{canvas.x.at(0):.1f}" y1="{canvas.y.at(0):.1f}" '
        f'x2="{canvas.x.at(end):.1f}" y2="{canvas.y.at(end):.1f}" stroke="currentColor"/>',
    ]
    parts += [_drawn(canvas, each, place) for place, each in enumerate(series)]
    return svg(frame, canvas.height, parts, _said_series(series))


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
    lying = Lying.of(frame, rows, sides)
    parts = []
    if zero is not None:
        if margin:
            parts.append(hatched(lying, zero - margin, zero + margin))
        x = lying.x.at(zero)
        parts.append(
            f'<line class="reference" x1="{x:.1f}" x2="{x:.1f}" y1="{lying.top:.1f}" '
            f'y2="{lying.bottom:.1f}" stroke="currentColor"/>'
        )
    parts.append(lying.axis())
    for place, row in enumerate(rows):
        parts.append(lying.words(place, row) + interval_of(lying, place, row))
    return svg(frame, lying.height, parts, said_rows(rows))


def bars(frame: Frame, rows: Sequence[Row]) -> str:
    """A bar for each row from 0 on, one under the other, with its interval where it has one."""
    lying = Lying.of(frame, rows, [0.0])
    parts = [lying.axis()]
    start = lying.x.at(0.0)
    for place, row in enumerate(rows):
        bar = ""
        if is_number(row.value):
            x, y = lying.x.at(row.value), lying.middle(place) - 7
            bar = (
                f'<rect class="bar" x="{min(start, x):.1f}" y="{y:.1f}" '
                f'width="{abs(x - start):.1f}" height="14" fill="currentColor" fill-opacity=".35" '
                f'stroke="currentColor">{hover(row.name, written(row))}</rect>'
            )
            bar += whisker(lying, place, row)
        parts.append(lying.words(place, row) + bar)
    parts.append(
        f'<line class="frame" x1="{start:.1f}" x2="{start:.1f}" y1="{lying.top:.1f}" '
        f'y2="{lying.bottom:.1f}" stroke="currentColor"/>'
    )
    return svg(frame, lying.height, parts, said_rows(rows))


def grid(plots: Sequence[str]) -> str:
    """Plots side by side as far as the page is wide."""
    inside = "\n".join(f"<figure>{each}</figure>" for each in plots if each)
    return f'<div class="plots">\n{inside}\n</div>' if inside else ""


def _drawn(canvas: Canvas, series: Series, place: int) -> str:
    """Intervals, then the line, then the points and what stands beside them."""
    parts = []
    if series.low and series.high:
        for value, low, high in zip(series.x, series.low, series.high, strict=True):
            if not (is_number(value) and is_number(low) and is_number(high)):
                continue
            x = canvas.x.at(value)
            ends = [min(max(canvas.y.at(end), canvas.top), canvas.bottom) for end in (low, high)]
            parts.append(
                f'<line class="series s{place % COLOURS}" x1="{x:.1f}" x2="{x:.1f}" '
                f'y1="{ends[0]:.1f}" y2="{ends[1]:.1f}" stroke="currentColor" '
                f'stroke-opacity=".55"/>'
            )
    if series.joined:
        parts += [path_of(run, place) for run in runs(canvas, series) if len(run) > 1]
    for i, (value, height) in enumerate(zip(series.x, series.y, strict=True)):
        if not (is_number(value) and is_number(height)):
            continue
        x, y = canvas.x.at(value), canvas.y.at(height)
        said = f"{short(value)}, {short(height)}"
        words = series.labels[i] if series.labels else ""
        parts.append(marker(place, x, y, hover(series.name or words, said)))
        if words:
            side = "end" if x > (canvas.left + canvas.right) / 2 else "start"
            parts.append(text_at(words, x + (-8 if side == "end" else 8), y - 6, side, soft=True))
    return "".join(parts)


def runs(canvas: Canvas, series: Series) -> Iterator[list[tuple[float, float]]]:
    """Stretches of points without a gap."""
    run: list[tuple[float, float]] = []
    for x, y in zip(series.x, series.y, strict=True):
        if is_number(x) and is_number(y):
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
    canvas: Canvas,
    words: str,
    places: Sequence[tuple[float, float, str]],
    spots: Sequence[tuple[float, float]],
) -> str:
    """Words at the first of the places where they cover the fewest spots."""
    wide = LETTER * width_of(words)

    def covered(place: tuple[float, float, str]) -> int:
        x, y, side = place
        left = x - wide if side == "end" else x
        if not (canvas.left <= left and left + wide <= canvas.right + 8):
            return len(spots) + 1
        if not (canvas.top <= y - 11 and y <= canvas.bottom):
            return len(spots) + 1
        return sum(left - 4 < at < left + wide + 4 and y - 14 < up < y + 5 for at, up in spots)

    x, y, side = min(places, key=covered)
    return text_at(words, x, y, side, soft=True)


def _said_series(series: Sequence[Series]) -> str:
    """Where each series starts and ends, for who cannot see it."""
    said = []
    for each in series:
        known = [value for value in each.y if is_number(value)]
        if known and each.joined:
            said.append(f"{each.name}: {short(known[0])} → {short(known[-1])}")
    return "; ".join(said)
