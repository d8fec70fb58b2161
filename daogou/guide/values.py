"""What a title says of an attribute to the word that the catalogue has for it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from daogou.artifact import Artifact
from daogou.features.store import SPLITS
from daogou.features.tokens import is_single, normalised, words_of

_LIKE: Final = 0.6  # of the products whose title says so: the share that must have the value
_FEW: Final = 3  # products, fewer of which say nothing
_PART: Final = 0.7  # how sure a part of a word is before any product is asked
_PRIOR: Final = 2.0  # products that this is worth
_CLASS: Final = 0.5  # the share of values whose last character says only what kind they are


class Normal(NamedTuple):
    """A value in the catalogue's words, how sure that is (0 to 1), and by what.

    ``how`` is "same" (but for case, width and punctuation), "seen" (products whose title says so
    have that value), "part" (a word of the catalogue is part of it), or "raw": nothing fits, the
    text stays as it is.
    """

    value: str
    sure: float
    how: str


@dataclass(frozen=True)
class Vocabulary:
    """The values that one attribute has in the catalogue. Made by `fit_vocabularies`.

    ``titles`` and ``known`` are the products' titles and values, as text, null where unknown.
    """

    counts: Mapping[str, int]  # values as they are written -> products
    titles: pa.ChunkedArray = field(default_factory=lambda: pa.chunked_array([[]], pa.string()))
    known: pa.ChunkedArray = field(default_factory=lambda: pa.chunked_array([[]], pa.string()))
    asked: dict[str, Normal] = field(default_factory=dict, compare=False)  # answers kept

    def normal(self, raw: str) -> Normal:
        """The catalogue's word for what a title says.

        >>> colours = Vocabulary({"Navy": 3, "Blue": 90, "蓝色": 9, "红色": 5})
        >>> colours.normal("NAVY blue").value, colours.normal("雾霾蓝").value
        ('Navy', '蓝色')
        >>> colours.normal("mauve")
        Normal(value='mauve', sure=0.0, how='raw')
        """
        if raw not in self.asked:
            self.asked[raw] = self._find(raw)
        return self.asked[raw]

    def _find(self, raw: str) -> Normal:
        words = words_of(raw)
        same = self._by_key.get(_folded(words))
        if same is not None:
            return Normal(same, 1.0, "same")
        values = self._values_with(raw)
        n = sum(values.values())
        part = self._part_of(tuple(words))
        if n >= _FEW:
            value, most = max(values.items(), key=lambda pair: (pair[1], pair[0]))
            if most >= _LIKE * n and value != part:
                return Normal(value, most / (n + 1), "seen")
        if part is None:
            return Normal(raw, 0.0, "raw")
        sure = (values[part] + _PRIOR * _PART) / (n + _PRIOR)
        return Normal(part, sure, "part")

    @cached_property
    def _by_key(self) -> dict[str, str]:
        """Each value by its folded form; of several spellings the one of most products."""
        order = sorted(self.counts, key=lambda value: (self.counts[value], value))
        return {folded(value): value for value in order if folded(value)}

    @cached_property
    def _stems(self) -> dict[tuple[str, ...], str]:
        """The words by which each value is looked for as a part of another.

        Without a last character that most values of the script have: the 色 of 蓝色 says that it
        is a colour and not which.
        """
        words = {value: tuple(words_of(value)) for value in self._by_key.values()}
        single = [each for each in words.values() if len(each) > 1 and is_single(each[-1][0])]
        ends = Counter(each[-1] for each in single)
        common = {end for end, n in ends.items() if n > max(_CLASS * len(single), 1)}
        found: dict[tuple[str, ...], str] = {}
        for value, each in words.items():
            stem = each[:-1] if len(each) > 1 and each[-1] in common else each
            found.setdefault(stem, value)
        return {stem: value for stem, value in found.items() if stem}

    def _part_of(self, words: tuple[str, ...]) -> str | None:
        """The value whose words are part of these: the longest, then the one of fewest products.

        Of characters written without spaces only the end is looked at, which is what the rest
        describes: 蓝灰 is a grey.
        """
        best: tuple[int, int, str] | None = None
        for n in range(len(words), 0, -1):
            for start in range(len(words) - n + 1):
                value = self._stems.get(words[start : start + n])
                if value is None or (is_single(words[-1][0]) and start + n < len(words)):
                    continue
                here = (-n, self.counts[value], value)
                best = here if best is None or here < best else best
            if best is not None:
                return best[2]
        return None

    def _values_with(self, raw: str) -> Counter[str]:
        """How many products of each value have this in their title."""
        if not len(self.titles) or not raw.strip():
            return Counter()
        has = pc.match_substring(self.titles, normalised(raw))
        said = pc.filter(self.known, has).drop_null()
        return Counter(
            {each["values"]: each["counts"] for each in pc.value_counts(said).to_pylist()}
        )


def folded(value: str) -> str:
    """A value without case, width, spaces and punctuation.

    >>> folded("Ｖ-Neck "), folded("v neck")
    ('vneck', 'vneck')
    """
    return _folded(words_of(value))


def _folded(words: Iterable[str]) -> str:
    return "".join(word for word in words if word.isalnum())


def each_value(
    titles: pa.Array, column: pa.ChunkedArray
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """A title and a value for each value of a column, of which a list has several.

    What has parts with names of their own is no value, and has none.
    """
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        whose = pc.list_parent_indices(column)
        titles, column = titles.take(whose.combine_chunks()), pc.list_flatten(column)
    if pa.types.is_nested(column.type):
        titles, column = titles[:0], pa.chunked_array([[]], pa.string())
    return pa.chunked_array([titles]), pc.cast(column, pa.string())


def fit_vocabularies(artifact: Artifact) -> dict[str, Vocabulary]:
    """Each attribute's values: those of its column in the catalogue, or else of gold spans.

    Spans are those of training titles.
    """
    store, shop = artifact.store, artifact.shop
    assert shop.items is not None
    catalogue = store.catalogue
    read = pa.array([normalised(text or "") for text in _texts(catalogue, shop.items.text)])
    by_spans = _gold_values(artifact)
    found: dict[str, Vocabulary] = {}
    for name in artifact.transform.attributes:
        if name in catalogue.column_names:
            titles, known = each_value(read, catalogue[name])
            counts = Counter(value for value in known.to_pylist() if value and value.strip())
            if counts:
                found[name] = Vocabulary(counts, titles, known)
                continue
        found[name] = Vocabulary(by_spans.get(name, Counter()))
    return found


def _texts(catalogue: pa.Table, columns: Sequence[str]) -> Iterable[str]:
    parts = [catalogue[name].to_pylist() for name in columns if name in catalogue.column_names]
    return (" ".join(str(each or "") for each in row) for row in zip(*parts, strict=True))


def _gold_values(artifact: Artifact) -> dict[str, Counter[str]]:
    store = artifact.store
    rows = np.flatnonzero(store["titles/split"] == SPLITS.index("train"))
    table = store.titles.take(rows)
    found: dict[str, Counter[str]] = {}
    for text, spans in zip(table["text"].to_pylist(), table["spans"].to_pylist(), strict=True):
        for span in spans:
            value = text[span["start"] : span["end"]].strip()
            found.setdefault(span["attribute"], Counter())[value] += 1
    return found
