"""The transforms of several shops to one by which each of them reads its own tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from daogou.errors import ConfigError
from daogou.features import gazetteer
from daogou.features.numeric import Numeric, fit_numeric
from daogou.features.text import TextVocab
from daogou.features.transform import SETTLED, LogScale, Transform
from daogou.features.transform.fields import Fields
from daogou.features.vocab import NO_WORDS, Vocab, union

_FIELDS: Final = ("items", "users", "context", "profile", "many", "values", "traits")
_BUCKETS: Final = 32  # of a number, at least, so that a few distinct ones keep one each
_PARTS: Final = 128  # into which the weight of a usual quantile is cut


def told(mine: Transform, key: str) -> Transform:
    """What a shop says of its transform: no user at all, and products by their digests alone.

    The values of columns, the classes of profiles and the words of titles stay as they are, each
    with how often it came.
    """
    return replace(mine, user_ids=NO_WORDS, item_ids=mine.item_ids.digested(key))


def own(agreed: Transform, mine: Transform, key: str) -> Transform:
    """The agreed transform as a shop reads its tables by it: with its own users, and the key."""
    return replace(agreed, user_ids=mine.user_ids, item_ids=replace(agreed.item_ids, key=key))


def agree(shops: Mapping[str, Transform], rows: Mapping[str, int]) -> Transform:
    """One transform of what shops `told`: unions of vocabularies, quantiles of all their numbers.

    ``rows`` are the training exposures behind each, by which numbers weigh. Raises `ConfigError`
    where shops do not have the same columns, stages or attributes.

    What is rare stays as each shop decided.
    """
    names = list(shops)
    first = shops[names[0]]
    for name in names[1:]:
        _check_same(names[0], first, name, shops[name])
    weights = [max(rows[name], 1) for name in names]
    transforms = [shops[name] for name in names]
    fields: dict[str, Any] = {
        kind: _fields([getattr(t, kind) for t in transforms], weights) for kind in _FIELDS
    }
    return replace(
        first,
        item_ids=union(t.item_ids for t in transforms),
        text=_text([t.text for t in transforms if t.text is not None]),
        value=_scale([t.value for t in transforms], weights),
        **fields,
    )


def _check_same(name: str, one: Transform, other_name: str, other: Transform) -> None:
    told_by = {kind: [getattr(t, kind).names for t in (one, other)] for kind in _FIELDS}
    told_by |= {kind: [getattr(t, kind) for t in (one, other)] for kind in SETTLED}
    told_by["text"] = [_reading(one.text), _reading(other.text)]
    told_by["value"] = [one.value is not None, other.value is not None]
    for kind in _FIELDS:
        types = [[type(c).__name__ for c in getattr(t, kind).coders] for t in (one, other)]
        told_by[f"types of {kind}"] = types
    for kind, (here, there) in told_by.items():
        if here != there:
            raise ConfigError(
                f"{other_name}: its {kind.replace('_', ' ')} are {there!r}, those of {name} are "
                f"{here!r}; shops that learn together need the same: name the same columns in "
                "their shop.toml, and numbers that only name a kind in categories"
            )


def _reading(text: TextVocab | None) -> Any:
    """How titles are read, but for the words."""
    return None if text is None else (text.subwords.to_json() if text.subwords else "letters")


def _fields(fields: Sequence[Fields], weights: Sequence[int]) -> Fields:
    coders: list[Vocab | Numeric] = []
    for column in zip(*(each.coders for each in fields), strict=True):
        words = [coder for coder in column if isinstance(coder, Vocab)]
        numbers = [coder for coder in column if isinstance(coder, Numeric)]
        coders.append(union(words) if words else _numeric(numbers, weights))
    return Fields(fields[0].names, tuple(coders))


def _numeric(numbers: Sequence[Numeric], weights: Sequence[int]) -> Numeric:
    """Quantiles of all values, as if each shop's were spread evenly over its own quantiles."""
    values: list[np.ndarray[Any, np.dtype[np.float64]]] = []
    counts: list[np.ndarray[Any, np.dtype[np.float64]]] = []
    total = sum(weight for each, weight in zip(numbers, weights, strict=True) if each.knots)
    for each, weight in zip(numbers, weights, strict=True):
        if each.knots:
            values.append(np.array(each.knots))
            share = weight / total / len(each.knots)
            counts.append(np.full(len(each.knots), share))
    if not values:
        return Numeric((), ())
    distinct, place = np.unique(np.concatenate(values), return_inverse=True)
    mass = np.bincount(place, np.concatenate(counts))
    whole = np.maximum(np.round(mass * _PARTS * len(distinct)), 1).astype(np.int64)
    return fit_numeric(
        distinct, whole, buckets=max(_BUCKETS, *(each.n_rows - 1 for each in numbers))
    )


def _text(texts: Sequence[TextVocab]) -> TextVocab | None:
    if not texts:
        return None
    return replace(
        texts[0].of_words(_ranked(texts), texts),
        length=max(text.length for text in texts),
        gazetteer=gazetteer.union([text.gazetteer for text in texts]),
    )


def _ranked(texts: Sequence[TextVocab]) -> list[str]:
    """All words, the most frequent first as far as their places in each shop's order tell."""
    best: dict[str, int] = {}
    for text in texts:
        for word, row in text.words.items():
            best[word] = min(row, best.get(word, row))
    return sorted(best, key=lambda word: (best[word], word))


def _scale(scales: Sequence[LogScale | None], weights: Sequence[int]) -> LogScale | None:
    """Mean and spread of all amounts together, as if each exposure had as many."""
    known = [(each, w) for each, w in zip(scales, weights, strict=True) if each is not None]
    if not known:
        return None
    total = sum(weight for _, weight in known)
    mean = sum(weight * each.mean for each, weight in known) / total
    square = sum(weight * (each.spread**2 + each.mean**2) for each, weight in known) / total
    return LogScale(
        mean,
        float(np.sqrt(max(square - mean**2, 0.0))) or 1.0,
        min(each.least for each, _ in known),
        max(each.most for each, _ in known),
    )
