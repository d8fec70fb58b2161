"""Predicted and gold spans of texts to precision, recall and F1, with counts that add up."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from daogou.errors import DataError
from daogou.metrics.binary import checked_weights

Span: TypeAlias = tuple[int, int, str]  # start, end (exclusive), attribute; in code points
Answer: TypeAlias = tuple[str, object]  # attribute and place, or attribute and value
Annotated: TypeAlias = Sequence[Collection[str] | None]  # of a text; None = none of them


def _no_texts() -> NDArray[np.int64]:
    return np.zeros((0, 3), dtype=np.int64)


@dataclass(frozen=True)
class Tagging:
    """How many were said, were there, and both: over all (micro), by attribute, by text.

    ``by_text`` is int64 ``[texts, 3]``: correct, predicted, gold. With it
    ``bootstrap(lambda w: f1_of(result.by_text, w), titles, seed=0)`` gives an interval.
    The entries of ``by_attribute`` hold their own counts alone.
    """

    correct: int
    predicted: int
    gold: int
    by_attribute: Mapping[str, "Tagging"] = field(default_factory=dict)
    by_text: NDArray[np.int64] = field(default_factory=_no_texts, compare=False, repr=False)

    @property
    def precision(self) -> float:
        """The share of what was said that is right; NaN if nothing was said."""
        return self.correct / self.predicted if self.predicted else float("nan")

    @property
    def recall(self) -> float:
        """The share of what was there that was said; NaN if nothing was there."""
        return self.correct / self.gold if self.gold else float("nan")

    @property
    def f1(self) -> float:
        """Twice the correct over said plus there; NaN if there was nothing to find."""
        return f1_of([[self.correct, self.predicted, self.gold]])


def span_f1(
    predicted: Sequence[Iterable[Span]],
    gold: Sequence[Iterable[Span]],
    annotated: Annotated | None = None,
) -> Tagging:
    """Compare spans: right only if start, end and attribute all are; micro over all spans.

    All arguments hold one entry per text. ``annotated`` names the attributes that were labelled
    on a text, None for none; where it is not given all were. Spans of other attributes, said or
    gold, do not count: nobody knows if they are right. Raises DataError on lengths that differ.

    >>> found = span_f1([[(0, 4, "brand"), (5, 9, "type")]], [[(0, 4, "brand"), (5, 8, "type")]])
    >>> found.precision, found.recall, found.f1, found.by_attribute["type"].f1
    (0.5, 0.5, 0.5, 0.0)
    >>> span_f1([[(0, 4, "brand")]], [[]]).f1  # nothing was there to find
    nan
    """
    _same_texts(predicted=predicted, gold=gold)
    return _compared(
        [_places(spans) for spans in predicted], [_places(spans) for spans in gold], annotated
    )


def value_f1(
    predicted: Sequence[Iterable[Span]],
    gold: Sequence[Iterable[Span]],
    texts: Sequence[str],
    annotated: Annotated | None = None,
    *,
    normal: Callable[[str], str] = str.strip,
) -> Tagging:
    """Compare what the spans say: (attribute, value) pairs, each once per text, wherever it stood.

    The usual measure of attribute-value extraction (Zheng et al., "OpenTag", KDD 2018). Values
    are equal if they are after ``normal``, which by default only trims. The rest as `span_f1`.

    Raises DataError also on a span that lies outside its text.

    >>> text = "ACME boot by ACME"
    >>> value_f1([[(13, 17, "brand")]], [[(0, 4, "brand")]], [text]).f1
    1.0
    >>> value_f1([[]], [[]], [text]).f1
    nan
    """
    _same_texts(predicted=predicted, gold=gold, texts=texts)
    said = [_values(i, spans, texts[i], normal) for i, spans in enumerate(predicted)]
    true = [_values(i, spans, texts[i], normal) for i, spans in enumerate(gold)]
    return _compared(said, true, annotated)


def pool(results: Iterable[Tagging]) -> Tagging:
    """One result from those of several folds: counts add, then F1 is taken. Exact.

    The mean of the folds' F1 is another number, and undefined if one fold has nothing to find.

    >>> one = span_f1([[(0, 1, "size")]], [[(0, 1, "size")]])
    >>> other = span_f1([[]], [[(0, 1, "size"), (2, 3, "size")]])
    >>> pool([one, other]).f1, pool([]).f1
    (0.5, nan)
    """
    together = list(results)
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for result in together:
        for attribute, counts in result.by_attribute.items():
            _add(totals[attribute], counts.correct, counts.predicted, counts.gold)
    return _tagging(totals, np.concatenate([_no_texts(), *(result.by_text for result in together)]))


def f1_of(counts: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The micro F1 of ``[texts, 3]`` counts (correct, predicted, gold), texts weighted.

    NaN if there was nothing to find, even if something was said: recall is then undefined.

    >>> f1_of([[1, 1, 1], [0, 0, 2]]), f1_of([[1, 1, 1], [0, 0, 2]], [1, 0])
    (0.5, 1.0)
    >>> f1_of([[0, 1, 0]])
    nan
    """
    table = np.asarray(counts, dtype=np.float64).reshape(-1, 3)
    correct, predicted, gold = checked_weights(weights, len(table)) @ table
    return float(2.0 * correct / (predicted + gold)) if gold > 0 else float("nan")


def _compared(
    said: Sequence[set[Answer]],
    true: Sequence[set[Answer]],
    annotated: Annotated | None,
) -> Tagging:
    if annotated is not None:
        _same_texts(predicted=said, annotated=annotated)
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    by_text = np.zeros((len(said), 3), dtype=np.int64)
    for i, (ours, theirs) in enumerate(zip(said, true, strict=True)):
        asked = None if annotated is None else frozenset(annotated[i] or ())
        for answer in ours | theirs:
            if asked is not None and answer[0] not in asked:
                continue
            is_said, is_true = answer in ours, answer in theirs
            _add(totals[answer[0]], is_said and is_true, is_said, is_true)
            by_text[i] += (is_said and is_true, is_said, is_true)
    return _tagging(totals, by_text)


def _tagging(totals: Mapping[str, Sequence[int]], by_text: NDArray[np.int64]) -> Tagging:
    correct, predicted, gold = (int(count) for count in by_text.sum(axis=0))
    by_attribute = {name: Tagging(c, p, g) for name, (c, p, g) in sorted(totals.items())}
    return Tagging(correct, predicted, gold, by_attribute, by_text)


def _add(counts: list[int], correct: int, predicted: int, gold: int) -> None:
    counts[0] += correct
    counts[1] += predicted
    counts[2] += gold


def _places(spans: Iterable[Span]) -> set[Answer]:
    return {(attribute, (start, end)) for start, end, attribute in spans}


def _values(
    text_row: int, spans: Iterable[Span], text: str, normal: Callable[[str], str]
) -> set[Answer]:
    pairs: set[Answer] = set()
    for start, end, attribute in spans:
        if not 0 <= start < end <= len(text):
            raise DataError(
                f"text {text_row}: span ({start}, {end}, {attribute!r}) lies outside its "
                f"{len(text)} code points; count code points, the end exclusive"
            )
        pairs.add((attribute, normal(text[start:end])))
    return pairs


def _same_texts(**lists: Sequence[object]) -> None:
    if len({len(each) for each in lists.values()}) > 1:
        found = ", ".join(f"{len(each)} {name}" for name, each in lists.items())
        raise DataError(f"texts: {found}; give one of each per text")
