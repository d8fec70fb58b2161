"""Words to rows: the fitted map from a shop's ids and categories to table rows."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

UNKNOWN: Final = 0  # the row every unseen or missing word shares; never given to a word


@dataclass(frozen=True)
class Vocab:
    """A fitted vocabulary. Made by `fit_vocab`; never changes afterwards.

    With a ``key`` the words are `digest`s, and what is encoded is hashed first: shops that share
    the key then agree on rows for products without telling anybody else what they sell.
    """

    words: tuple[str, ...]  # row 1 onwards, most frequent first
    counts: tuple[int, ...]  # how often each was seen in training
    key: str = ""

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
        if self.key:
            words = pa.array(
                [None if w is None else digest(w, self.key) for w in words.to_pylist()]
            )
        found = pc.index_in(words, value_set=self._set)
        rows: NDArray[np.int32] = pc.add(pc.fill_null(found, -1), 1).to_numpy(zero_copy_only=False)
        return rows.astype(np.int32, copy=False)

    def frequencies(self) -> NDArray[np.int64]:
        """Training counts by row, int64 ``[n_rows]``; the unknown row has none."""
        return np.array([0, *self.counts], dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """A document from which `from_json` makes an equal vocabulary."""
        document: dict[str, Any] = {"words": list(self.words), "counts": list(self.counts)}
        return document | ({"key": self.key} if self.key else {})

    def digested(self, key: str) -> "Vocab":
        """The same vocabulary under the digests of its words, without the key."""
        return replace(self, words=tuple(digest(word, key) for word in self.words))

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Vocab":
        """The vocabulary of a document made by `to_json`."""
        return Vocab(tuple(document["words"]), tuple(document["counts"]), document.get("key", ""))


NO_WORDS: Final = Vocab((), ())


def union(vocabs: Iterable[Vocab]) -> Vocab:
    """The words of all of them, each with how often all have seen it.

    >>> union([Vocab(("boot",), (1,)), Vocab(("clog", "boot"), (3, 1))])
    Vocab(words=('clog', 'boot'), counts=(3, 2), key='')
    """
    counts: dict[str, int] = {}
    for vocab in vocabs:
        for word, count in zip(vocab.words, vocab.counts, strict=True):
            counts[word] = counts.get(word, 0) + count
    return fit_vocab(counts)


def digest(word: str, key: str) -> str:
    """A word as nobody without the key can name it: keyed BLAKE2b (RFC 7693) in hex, 128 bits.

    >>> digest("boot", "k") == digest("boot", "k"), digest("boot", "k") == digest("boot", "l")
    (True, False)
    """
    secret = hashlib.blake2b(key.encode(), digest_size=32).digest()  # a key of any length
    return hashlib.blake2b(word.encode(), key=secret, digest_size=16).hexdigest()


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
