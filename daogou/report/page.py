"""Pieces of HTML to one self-contained page, and numbers to tables and heat maps that anyone reads.

A page needs no network and no script; it is legible in the dark, in print and without colours.
"""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

# Colours are those of a blue-green against an amber, which the colour-blind tell apart.
STYLE: Final = """
:root {
  color-scheme: light dark;
  --ink: #1c2126; --soft: #5c6670; --line: #dde1e6; --paper: #f7f7f4; --card: #ffffff;
  --help: #0d7d74; --hurt: #c26a0a; --hatch: #1c212638; --third: #4a5fb5; --fourth: #a33b6c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e8eaed; --soft: #a0a9b3; --line: #353c44; --paper: #14171a; --card: #1d2125;
    --help: #35b3a7; --hurt: #e09a45; --hatch: #e8eaed3d; --third: #93a4ee; --fourth: #e184b0;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink); line-height: 1.6;
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "PingFang SC", "Hiragino Sans GB",
    "Microsoft YaHei", "Noto Sans CJK SC", "Noto Sans SC", sans-serif;
  -webkit-text-size-adjust: 100%;
}
main { max-width: 58rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .25rem; text-wrap: balance; }
h2 { font-size: 1.2rem; line-height: 1.35; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p { margin: .5rem 0; max-width: 46rem; }
.lead, .note, figcaption { color: var(--soft); }
.lead { margin-bottom: 1.5rem; }
.note, figcaption { font-size: .875rem; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1.25rem 1.25rem 1.1rem; margin: 1rem 0;
}
ul { margin: .5rem 0; padding-left: 1.2rem; max-width: 46rem; }
li { margin: .35rem 0; }
figure { margin: .75rem 0 0; }
.wide { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); white-space: nowrap; }
tbody th { color: var(--ink); font-weight: 500; }
td.number, th.number { text-align: right; white-space: nowrap; }
details { margin-top: .75rem; }
summary { cursor: pointer; color: var(--soft); }
summary:focus-visible, .wide:focus-visible { outline: 2px solid var(--help); outline-offset: 2px; }
svg { display: block; max-width: none; font: 13px system-ui, -apple-system, "Segoe UI", Roboto,
  "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif; }
svg text { fill: var(--ink); font-variant-numeric: tabular-nums; }
svg .axis, svg .own { fill: var(--soft); }
svg .helps { fill: var(--help); }
svg .hurts { fill: var(--hurt); }
svg .cell { stroke: var(--line); }
svg .framed { fill: none; stroke: var(--ink); stroke-width: 2; }
svg .hatch { stroke: var(--hatch); stroke-width: 1.5; }
svg .number { text-anchor: middle; paint-order: stroke; stroke: var(--card); stroke-width: 2px;
  stroke-opacity: .55; stroke-linejoin: round; }
svg .sure { font-weight: 700; }
.plots { display: grid; gap: 1rem 1.5rem; margin-top: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
.plots figure { margin: 0; min-width: 0; }
svg.plot { height: auto; color: var(--ink); }
.plot .axis { fill: var(--soft); }
.plot text { paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round; }
.plot .frame, .plot .reference { stroke: var(--soft); }
.plot .s0 { color: var(--help); }
.plot .s1 { color: var(--hurt); }
.plot .s2 { color: var(--third); }
.plot .s3 { color: var(--fourth); }
.plot .s4 { color: var(--ink); }
.plot .s5 { color: var(--soft); }
.plot .bar { color: var(--help); }
.plot .hollow { fill: var(--card); }
@media (max-width: 40rem) {
  main { padding: 1.5rem .75rem 3rem; }
  section { padding: 1rem .9rem; border-radius: 10px; }
  h1 { font-size: 1.45rem; }
}
@media print { section { break-inside: avoid; border-color: #999; } body { background: #fff; } }
"""
_LANGUAGES: Final = {"en": "en", "zh": "zh-Hans"}
_CELL, _LINE, _CHARACTER = 58, 34, 7.2  # width and height of a cell, width of a character


def page(title: str, body: Sequence[str], *, lead: str = "", lang: str = "en") -> str:
    """A whole HTML document of these pieces under a heading; texts of it are escaped here."""
    return (
        f'<!doctype html>\n<html lang="{_LANGUAGES[lang]}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n'
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *body: str) -> str:
    """A titled card of pieces of HTML."""
    inside = "\n".join(each for each in body if each)
    return f"<section>\n<h2>{escape(title)}</h2>\n{inside}\n</section>"


def paragraph(text: str, *, note: bool = False) -> str:
    """A paragraph of plain text; a note is smaller."""
    kind = ' class="note"' if note else ""
    return f"<p{kind}>{escape(text)}</p>"


def bullets(sentences: Sequence[str]) -> str:
    """A list of plain sentences; nothing where there is none."""
    lines = "".join(f"<li>{escape(each)}</li>\n" for each in sentences)
    return f"<ul>\n{lines}</ul>" if lines else ""


def folded(summary: str, *body: str) -> str:
    """Pieces of HTML behind a line that opens them."""
    return f"<details>\n<summary>{escape(summary)}</summary>\n" + "\n".join(body) + "\n</details>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers_from: int = 1) -> str:
    """A table of plain texts whose columns from ``numbers_from`` on are numbers."""
    kinds = [' class="number"' if place >= numbers_from else "" for place in range(len(heads))]
    head = "".join(
        f'<th scope="col"{kind}>{escape(text)}</th>'
        for kind, text in zip(kinds, heads, strict=True)
    )
    lines = []
    for first, *rest in rows:
        cells = "".join(
            f"<td{kind}>{escape(text)}</td>" for kind, text in zip(kinds[1:], rest, strict=True)
        )
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    body = "\n".join(lines)
    return (
        f'<div class="wide" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


@dataclass(frozen=True)
class HeatMap:
    """Numbers ``values[row][column]`` of a square or other grid, above 0 good and below 0 bad.

    ``marked`` cells are framed and bold. None or NaN is a dash. ``own`` says that row i and column
    i are the same thing: the diagonal is written and not coloured. ``full`` has the deepest colour;
    None is the largest number there is. Numbers are written with their sign unless ``unsigned``.
    """

    name: str  # unique on its page
    title: str
    description: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    marked: Sequence[Sequence[bool]] = field(default_factory=tuple)
    axes: tuple[str, str] = ("", "")  # what rows and what columns are
    own: bool = False
    digits: int = 1
    full: float | None = None
    unsigned: bool = False


def heat_map(drawn: HeatMap) -> str:
    """A heat map as an SVG that a screen reader reads as a table.

    Colour repeats what sign and hatching say: above 0 is plain, below 0 hatched.
    """
    n_rows, n_columns = len(drawn.rows), len(drawn.columns)
    left = 16 + _CHARACTER * max([8, *map(width_of, drawn.rows)])
    slant = 0.64 * _CHARACTER * max([4, *map(width_of, drawn.columns)])
    top = (34 if any(drawn.axes) else 12) + slant
    width, height = left + n_columns * _CELL + 0.8 * slant, top + n_rows * _LINE + 2
    parts = [
        f'<svg role="table" aria-label="{escape(drawn.title)}: {escape(drawn.description)}" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">',
        f'<defs><pattern id="{drawn.name}-hatch" width="7" height="7" patternTransform="rotate(45)"'
        ' patternUnits="userSpaceOnUse"><line class="hatch" x1="0" y1="0" x2="0" y2="7"/>'
        "</pattern></defs>",
        _axes(drawn, left, top) if any(drawn.axes) else "",
        '<g role="row">',
        f'<g role="columnheader"><title>{escape(" / ".join(drawn.axes))}</title></g>',
    ]
    for place, name in enumerate(drawn.columns):
        x, y = left + (place + 0.42) * _CELL, top - 9
        parts.append(
            f'<text role="columnheader" x="{x:.0f}" y="{y:.0f}" '
            f'transform="rotate(-38 {x:.0f} {y:.0f})">{escape(name)}</text>'
        )
    parts.append("</g>")
    full = drawn.full or _largest(drawn)
    for i, name in enumerate(drawn.rows):
        y = top + i * _LINE
        parts.append('<g role="row">')
        parts.append(
            f'<text role="rowheader" x="0" y="{y + 0.5 * _LINE + 5:.0f}">{escape(name)}</text>'
        )
        parts += [_cell(drawn, (i, j), (left + j * _CELL, y), full) for j in range(n_columns)]
        parts.append("</g>")
    return f'<div class="wide" tabindex="0">{"".join([*parts, "</svg>"])}</div>'


def _axes(drawn: HeatMap, left: float, top: float) -> str:
    down, across = map(escape, drawn.axes)
    return (
        f'<text class="axis" aria-hidden="true" x="0" y="{top - 10:.0f}">{down} ↓</text>'
        f'<text class="axis" aria-hidden="true" x="{left:.0f}" y="14">{across} →</text>'
    )


def _cell(drawn: HeatMap, at: tuple[int, int], corner: tuple[float, float], full: float) -> str:
    i, j = at
    x, y = corner
    value = drawn.values[i][j]
    own = drawn.own and i == j
    box = f'x="{x:.0f}" y="{y:.0f}" width="{_CELL}" height="{_LINE}"'
    middle = f'x="{x + _CELL / 2:.0f}" y="{y + _LINE / 2 + 5:.0f}"'
    pair = f"{drawn.rows[i]} → {drawn.columns[j]}"
    said = number(value, drawn.digits)
    if drawn.unsigned:
        said = said.lstrip("+")
    shapes = [f'<rect class="cell" {box} fill="none"/>']
    sure = bool(drawn.marked) and drawn.marked[i][j] and not own
    if value is not None and math.isfinite(value) and not own and said != number(0.0, drawn.digits):
        depth = 0.08 + 0.55 * min(abs(value) / full, 1.0)
        kind = "helps" if value > 0 else "hurts"
        shapes.append(f'<rect class="{kind}" {box} fill-opacity="{depth:.2f}"/>')
        if value < 0:
            shapes.append(f'<rect {box} fill="url(#{drawn.name}-hatch)"/>')
    if sure:
        inset = f'x="{x + 2:.0f}" y="{y + 2:.0f}" width="{_CELL - 4}" height="{_LINE - 4}"'
        shapes.append(f'<rect class="framed" {inset} rx="3"/>')
    style = "number own" if own else "number sure" if sure else "number"
    return (
        f'<g role="cell"><title>{escape(pair)}: {said}</title>{"".join(shapes)}'
        f'<text class="{style}" {middle}>{said}</text></g>'
    )


def _largest(drawn: HeatMap) -> float:
    sizes = [
        abs(value)
        for i, row in enumerate(drawn.values)
        for j, value in enumerate(row)
        if value is not None and math.isfinite(value) and not (drawn.own and i == j)
    ]
    return max(sizes, default=0.0) or 1.0


def number(value: float | None, digits: int = 1) -> str:
    """A signed number as people write it; an undefined one is a dash, and what rounds to 0 is 0.

    >>> number(1.25, 2), number(-0.5), number(-0.01), number(float("nan"))
    ('+1.25', '−0.5', '0.0', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    said = f"{abs(value):.{digits}f}"
    if float(said) == 0:
        return said
    return ("+" if value > 0 else "−") + said


def width_of(text: str) -> int:
    """How wide a text is in Latin characters: a Chinese one counts two.

    >>> width_of("ab"), width_of("点击")
    (2, 4)
    """
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)
