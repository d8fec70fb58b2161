"""Titles with gold spans to a list of values, and the list to the spans of other titles."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from daogou.features.tokens import Span, Token, tokenise

_LONGEST: Final = 10  # tokens of a listed value


def fit_lookup(
    texts: Sequence[str], gold: Sequence[Sequence[Span]], annotated: Sequence[Collection[str]]
) -> dict[tuple[str, ...], str]:
    """The words of training titles that were an attribute's value more often than not.

    >>> values = fit_lookup(["red boot", "red"], [[(0, 3, "colour")], [(0, 3, "colour")]],
    ...                     [["colour"], ["colour"]])
    >>> look_up("A red shoe", values)
    [(2, 5, 'colour')]
    """
    hits: Counter[tuple[tuple[str, ...], str]] = Counter()
    for text, spans in zip(texts, gold, strict=True):
        tokens = tokenise(text)
        for start, end, attribute in spans:
            words = tuple(token.text for token in tokens if start <= token.start < end)
            hits[words, attribute] += 1
    known = {words for words, _ in hits if words}
    seen: Counter[tuple[tuple[str, ...], str]] = Counter()
    for text, names in zip(texts, annotated, strict=True):
        for _, _, words in _known_words(tokenise(text), known):
            seen.update((words, name) for name in names)
    values: dict[tuple[str, ...], str] = {}
    for (words, attribute), count in hits.most_common():
        if words and 2 * count > seen[words, attribute]:
            values.setdefault(words, attribute)
    return values


def look_up(text: str, values: Mapping[tuple[str, ...], str]) -> list[Span]:
    """Spans of the listed values in a title, the longest first, none overlapping."""
    tokens = tokenise(text)
    spans: list[Span] = []
    taken = np.zeros(len(tokens), dtype=bool)
    found = _known_words(tokens, values.keys())
    for first, last, words in sorted(found, key=lambda each: (each[0] - each[1], each[0])):
        if not taken[first:last].any():
            taken[first:last] = True
            spans.append((tokens[first].start, tokens[last - 1].end, values[words]))
    return sorted(spans)


def _known_words(
    tokens: Sequence[Token], known: Collection[tuple[str, ...]]
) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    words = [token.text for token in tokens]
    for first in range(len(words)):
        for last in range(first + 1, min(first + _LONGEST, len(words)) + 1):
            piece = tuple(words[first:last])
            if piece in known:
                yield first, last, piece
