"""Words to rows: the fitted map from a shop's ids and categories to table rows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

UNKNOWN: Final = 0  # the row every unseen or missing word shares; never given to a word


@dataclass(frozen=True)
class Vocab:
    """A fitted vocabulary. Made by `fit_vocab`; never changes afterwards."""

    words: tuple[str, ...]  # row 1 onwards, most frequent first
    counts: tuple[int, ...]  # how often each was seen in training

    @property
    def n_rows(self) -> int:
        """Rows of the table that this vocabulary needs, the unknown one included."""
        return len(self.words) + 1

    @cached_property
    def _set(self) -> pa.Array:
        return pa.array(self.words, pa.string())

    def encode(self, words: Iterable[str | None] | pa.Array | pa.ChunkedArray) -> NDArray[np.int32]:
        """Rows of the words, int32 ``[len(words)]``; unseen and missing ones are `UNKNOWN`."""
        if not isinstance(words, pa.Array | pa.ChunkedArray):
            words = pa.array(list(words), pa.string())
        found = pc.index_in(words, value_set=self._set)
        rows: NDArray[np.int32] = pc.add(pc.fill_null(found, -1), 1).to_numpy(zero_copy_only=False)
        return rows.astype(np.int32, copy=False)

    def frequencies(self) -> NDArray[np.int64]:
        """Training counts by row, int64 ``[n_rows]``; the unknown row has none."""
        return np.array([0, *self.counts], dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """A document from which `from_json` makes an equal vocabulary."""
        return {"words": list(self.words), "counts": list(self.counts)}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Vocab":
        """The vocabulary of a document made by `to_json`."""
        return Vocab(tuple(document["words"]), tuple(document["counts"]))


def fit_vocab(counts: Mapping[str, int], *, min_count: int = 1) -> Vocab:
    """Give a row to each word seen at least ``min_count`` times, most frequent first.

    Ties are broken by the word itself, so that the same counts always give the same rows.

    >>> shoes = fit_vocab({"clog": 1, "boot": 2, "mule": 2}, min_count=2)
    >>> shoes.words, shoes.encode(["mule", "boot", "clog", None]).tolist()
    (('boot', 'mule'), [2, 1, 0, 0])
    """
    kept = [(-count, word) for word, count in counts.items() if count >= min_count]
    kept.sort()
    return Vocab(tuple(word for _, word in kept), tuple(-count for count, _ in kept))
