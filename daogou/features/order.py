"""A column's words to their order from the lowest, by the numbers that they speak of."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from daogou.errors import ConfigError

_SCALES: Final = {"k": 1e3, "千": 1e3, "万": 1e4, "亿": 1e8}
_NUMBER: Final = (
    r"(?:\d{1,3}(?:[,'’ ]\d{3})+(?!\d)|\d+)(?:\.\d+)?",
    r"\s*(k(?![a-z])|千|万|亿)?",
)
_SIGN: Final = r"\s*[$€£¥]?\s*"
_WORD: Final = re.compile(
    r"\s*(?:(?P<below><=?|≤|under|below|(?:less|fewer|younger|lower) than|up to|at most"
    r"|不满|未满|不足|小于|低于|少于|至多)"
    r"|(?P<above>>=?|≥|over|above|(?:more|older|higher) than|at least"
    r"|大于|高于|超过|多于|至少))?"
    rf"{_SIGN}([+-]?{_NUMBER[0]}){_NUMBER[1]}"
    rf"(?:\s*(?:-|–|—|~|to|至|到){_SIGN}({_NUMBER[0]}){_NUMBER[1]})?"
)
_BELOW: Final = re.compile(r"以下|以内|\b(?:and|or) (?:under|below|less|fewer|younger|lower)\b")
_ABOVE: Final = re.compile(r"\+|以上|\b(?:and|or) (?:over|above|more|older|higher|up)\b")


def in_order(words: Sequence[str], given: Sequence[str] = (), *, where: str) -> tuple[int, ...]:
    """Places of the words from the lowest to the highest; ``given`` is that order, if it is said.

    Else by the number that a word begins with: ``1,000``, ``$50``, ``15-24K``, ``5千`` and ``1万``
    are read as such, and what is open at one side stands before (``<18``, ``under 18``, ``18以下``)
    or after (``>65``, ``65+``, ``65岁以上``) that number. Units are not read.

    Raises `ConfigError`, which begins with ``where`` the order can be said, if the words do not
    tell it or ``given`` lacks one of them.

    >>> in_order(["55+", "18-24", "under 18"], where="order")
    (2, 1, 0)
    >>> in_order(["gold", "bronze"], ["bronze", "silver", "gold"], where="order")
    (1, 0)
    """
    if given:
        lacking = sorted(set(words) - set(given))
        if lacking:
            raise ConfigError(
                f"{where}: lacks {_some(lacking)}, which the column holds; put every class in"
            )
        return tuple(sorted(range(len(words)), key=lambda place: given.index(words[place])))
    if len(words) < 2:
        return tuple(range(len(words)))
    found = [_place_of(word) for word in words]
    unread = [word for word, place in zip(words, found, strict=True) if place is None]
    places = [place for place in found if place is not None]
    alike = [word for word, place in zip(words, found, strict=True) if found.count(place) > 1]
    if unread or alike:
        why = f"{_some(alike)} stand at the same number"
        why = f"no number to go by in {_some(unread)}" if unread else why
        raise ConfigError(f"{where}: {why}; list all classes here from the lowest to the highest")
    return tuple(sorted(range(len(words)), key=places.__getitem__))


def _place_of(word: str) -> tuple[float, int] | None:
    """A word's number, and -1 or 1 where it speaks of all below or above it; None without one."""
    text = unicodedata.normalize("NFKC", word).casefold()
    found = _WORD.match(text)
    if found is None:
        return None
    first, scale, second, further = found.group(3, 4, 5, 6)
    number = _as_number(first)
    if scale is None and second is not None and number < _as_number(second):
        scale = further  # "15-24K" begins at 15 thousand, "5000-1万" at 5000
    number *= _SCALES.get(scale, 1.0)
    rest = text[found.end() :]
    if found["below"] or _BELOW.search(rest):
        return number, -1
    return number, int(bool(found["above"] or _ABOVE.search(rest)))


def _as_number(text: str) -> float:
    return float(re.sub(r"[,'’ ]", "", text))


def _some(words: Sequence[str]) -> str:
    shown = ", ".join(repr(word) for word in words[:3])
    return shown if len(words) <= 3 else f"{shown} and {len(words) - 3} more"
