"""Gold spans of titles to tags, and tags to spans."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from daogou.errors import DataError
from daogou.features.tokens import Span, Token, tokenise

OUTSIDE, BEGIN, INSIDE, MASKED = 0, 1, 2, -1


def tags_of(
    tokens: Sequence[Token],
    spans: Iterable[Span],
    attributes: Sequence[str],
    annotated: Collection[str],
    length: int,
) -> npt.NDArray[np.int8]:
    """Tags of the tokens for each attribute, int8 ``[A, L]``: 0 outside, 1 begin, 2 inside.

    -1 beyond the title's end and in the whole row of an attribute that is not ``annotated``.
    A span that cuts a token is widened to it; of two spans of one attribute that meet in a token,
    the earlier keeps it. Spans beyond ``length`` tokens are cut. Raises DataError if a span is
    empty or begins before the text.
    """
    tags = np.full((len(attributes), length), MASKED, dtype=np.int8)
    kept = tokens[:length]
    rows = {name: row for row, name in enumerate(attributes) if name in annotated}
    for row in rows.values():
        tags[row, : len(kept)] = OUTSIDE
    for start, end, attribute in sorted(spans):
        if not 0 <= start < end:
            raise DataError(f"span [{start}, {end}) of {attribute!r}: needs 0 <= start < end")
        row = rows.get(attribute, -1)
        if row < 0:
            continue
        free = BEGIN
        for place, token in enumerate(kept):
            if token.start < end and start < token.end and tags[row, place] == OUTSIDE:
                tags[row, place] = free
                free = INSIDE
    return tags


def spans_of(
    raw: str,
    tokens: Sequence[Token],
    tags: npt.NDArray[np.integer[Any]],
    attributes: Sequence[str],
    confidence: npt.NDArray[np.floating[Any]],
) -> list[tuple[int, int, str, float]]:
    """The spans that tags ``[A, L]`` say, in code points of ``raw``, in order of their start.

    A span's confidence is the product of its tokens' (``confidence`` is ``[A, L]``). An inside tag
    that follows nothing begins a span; -1 reads as outside.
    """
    found: list[tuple[int, int, str, float]] = []
    for row, first, after in runs_of(tags[:, : len(tokens)]).tolist():
        sure = float(np.prod(confidence[row, first:after]))
        end = min(tokens[after - 1].end, len(raw))
        found.append((tokens[first].start, end, attributes[row], sure))
    return sorted(found)


def runs_of(tags: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """The spans ``[S, 3]`` that tags ``[R, L]`` say: row, first token, the one after the last.

    In order; an inside tag that follows nothing begins a span.

    >>> runs_of(np.array([[0, 1, 2, 1], [0, 0, 0, 0]])).tolist()
    [[0, 1, 3], [0, 3, 4]]
    """
    said = tags > OUTSIDE
    goes_on = np.zeros_like(said)
    goes_on[:, 1:] = (tags[:, 1:] == INSIDE) & said[:, :-1]
    ends = said.copy()
    ends[:, :-1] &= ~goes_on[:, 1:]
    row, first = np.nonzero(said & ~goes_on)
    return np.stack([row, first, np.nonzero(ends)[1] + 1], axis=1)


def find_values(text: str, values_by_attribute: Mapping[str, str | Iterable[str]]) -> list[Span]:
    """Where an item's known values stand in its title: spans for distant supervision.

    Whole tokens are compared, normalised. Of one attribute the longest value wins where two
    overlap, and each value counts once, where it first occurs.

    >>> find_values("Red dark-red boot", {"colour": ["red", "dark-red"], "kind": "boots"})
    [(0, 3, 'colour'), (4, 12, 'colour')]
    """
    tokens = tokenise(text)
    words = [token.text for token in tokens]
    spans: list[Span] = []
    for attribute, given in values_by_attribute.items():
        values = [given] if isinstance(given, str) else given
        wanted = {tuple(token.text for token in tokenise(value)) for value in values}
        taken = [False] * len(words)
        for value in sorted(wanted - {()}, key=lambda value: (-len(value), value)):
            n = len(value)
            for i in range(len(words) - n + 1):
                if tuple(words[i : i + n]) == value and not any(taken[i : i + n]):
                    taken[i : i + n] = [True] * n
                    spans.append((tokens[i].start, tokens[i + n - 1].end, attribute))
                    break
    return sorted(spans)
