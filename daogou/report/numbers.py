"""Numbers to the words that pages have for them: a dash where one is undefined."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

from daogou.report.page import number

DIGITS: Final = 4


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a document has a number there that is defined."""
    return value is not None and math.isfinite(value)


def plain(value: float | None, digits: int = DIGITS) -> str:
    """A number without a plus.

    >>> plain(0.25), plain(-1.0, 1), plain(1234.5, 1), plain(None)
    ('0.2500', '−1.0', '1,234.5', '–')
    """
    return f"{value:,.{digits}f}".replace("-", "−") if is_number(value) else "–"


def interval(entry: Mapping[str, Any], digits: int = DIGITS) -> str:
    """The interval of a difference, with its signs.

    >>> interval({"interval": [-0.01, 0.02]})
    '−0.0100 … +0.0200'
    """
    low, high = entry["interval"]
    return f"{number(low, digits)} … {number(high, digits)}" if is_number(low) else "–"


def between(low: float | None, high: float | None) -> str:
    """An interval of a value, without signs."""
    return f"{plain(low)} – {plain(high)}" if is_number(low) and is_number(high) else "–"


def arrow(both: Sequence[float | None] | None) -> str:
    """What a value was before and after."""
    return " → ".join(map(plain, both)) if both else "–"


def count(value: Any) -> str:
    """A whole number, its thousands apart."""
    return f"{value:,}" if is_number(value) else "–"


def percent(share: float | None) -> str:
    """A share in hundredths, with its sign."""
    return f"{number(100 * share, 1)} %" if is_number(share) else "–"


def times(value: float | None, scale: float) -> float | None:
    """A number in a unit of so many; what is undefined is None."""
    return value * scale if is_number(value) else None


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of the numbers that are known."""
    known = [value for value in values if is_number(value)]
    return sum(known) / len(known) if known else None


def dashed(text: str) -> str:
    """A number's minus as people write it, and a dash where there is no number."""
    return "–" if text == "-" else text.replace("-", "−")
