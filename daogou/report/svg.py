"""Words, marks and lines to pieces of SVG."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from daogou.report.numbers import is_number
from daogou.report.page import width_of

Number = float | None

WIDTH: Final = 400  # so that letters keep their size on a telephone

LETTER: Final = 6.9  # width of a Latin letter at 13 px

DASHES: Final = ("", "7 3", "2 3", "9 3 2 3", "5 2 1 2 1 2", "12 4")
COLOURS: Final = 6

LONGEST: Final = 30  # letters of a row's name before it is cut


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


def path_of(points: Sequence[tuple[float, float]], place: int) -> str:
    """A line through points, dashed by its place among others."""
    dash = DASHES[place % len(DASHES)]
    steps = " ".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return (
        f'<path class="series s{place % COLOURS}" d="M{steps}" fill="none" stroke="currentColor" '
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


def marker(place: int, x: float, y: float, inside: str = "") -> str:
    """The mark of a series: every other one is hollow once the shapes are used up."""
    shape = _MARKERS[place % len(_MARKERS)](x, y)
    hollow = place >= len(_MARKERS)
    kind = f"mark s{place % COLOURS}" + (" hollow" if hollow else "")
    fill = "none" if hollow else "currentColor"
    tag = shape[1:].split(" ", 1)[0]
    return f'{shape} class="{kind}" fill="{fill}" stroke="currentColor">{inside}</{tag}>'


def svg(frame: Frame, height: float, parts: Sequence[str], said: str) -> str:
    """A picture with its title, and in words what it shows."""
    spoken = " ".join(filter(None, (f"{frame.title}.", frame.description, said)))
    return (
        f'<svg class="plot" role="img" aria-label="{escape(spoken)}" width="100%" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" style="max-width:{1.25 * WIDTH:.0f}px">'
        f"<title>{escape(frame.title)}</title><desc>{escape(frame.description)}</desc>"
        f"{text_at(frame.title, 0, 14, strong=True)}"
        f"{''.join(parts)}</svg>"
    )


def text_at(
    words: str,
    x: float,
    y: float,
    anchor: str = "start",
    *,
    soft: bool = False,
    strong: bool = False,
    whole: str = "",
) -> str:
    """Words at a place."""
    if not words:
        return ""
    kinds = " ".join(kind for kind, is_so in (("axis", soft), ("sure", strong)) if is_so)
    style = (f' class="{kinds}"' if kinds else "") + (
        f' text-anchor="{anchor}"' if anchor != "start" else ""
    )
    inside = f"<title>{escape(whole)}</title>" if whole and whole != words else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{style}>{inside}{escape(words)}</text>'


def hover(name: str, said: str) -> str:
    """What is shown when something is pointed at."""
    return f"<title>{escape(f'{name}: {said}' if name else said)}</title>"


def short(value: Number) -> str:
    """Three figures of a number; an undefined one is a dash.

    >>> short(0.12345), short(None), short(-2.0), short(123456.0)
    ('0.123', '–', '−2', '123,456')
    """
    if not is_number(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def cut(name: str) -> str:
    """A name that is not too wide; what was cut is shown when pointed at."""
    if width_of(name) <= LONGEST:
        return name
    kept = ""
    for letter in name:
        if width_of(kept + letter) > LONGEST - 1:
            break
        kept += letter
    return kept + "…"
