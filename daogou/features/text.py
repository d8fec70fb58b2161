"""Product titles to table rows, by the words, pairs and affixes that training had."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from daogou.errors import ArtifactError, ConfigError
from daogou.features import subwords as sub
from daogou.features.gazetteer import MATCHES, Gazetteer
from daogou.features.laid import N_SHAPES, Laid, affixes_of, lay_out, pairs_of, shape_of
from daogou.features.tokens import hash_of, normalised, title_hash

PADDING: Final = 0  # the row of every channel where there is no token or nothing to say

UNKNOWN: Final = 1  # the word row that unseen words share

CHANNELS: Final = ("word", "left", "right", "prefix", "suffix", "shape", *["listed"] * MATCHES)

LISTED: Final = CHANNELS.index("listed")  # the first of its channels, which are the last


@dataclass(frozen=True)
class TextVocab:
    """A fitted reading of titles. Made by `fit_text`; never changes afterwards.

    Every token becomes one row of one table for each of `CHANNELS`: the word; the pairs it makes
    with its left and with its right neighbour; its first and its last three letters (words of four
    letters and more); its shape (script, length, capitals); and what it matches of the gazetteer.
    The rows of different channels do not overlap. Pairs and affixes are known by hash.
    """

    words: Mapping[str, int]  # word -> row, from 2 on
    pairs: tuple[int, ...]  # hashes of the frequent pairs, ascending
    affixes: tuple[int, ...]  # hashes of the frequent first and last letters, ascending
    length: int  # tokens kept of a title
    gazetteer: Gazetteer = field(default_factory=Gazetteer)
    subwords: sub.SubWords | None = None  # of a text encoder from elsewhere, in further channels

    def of_words(self, words: Iterable[str], others: Iterable["TextVocab"]) -> "TextVocab":
        """A reading of these words, in their order, and of all that ``others`` tell besides."""
        known = [self, *others]
        return replace(
            self,
            words={word: row for row, word in enumerate(words, start=2)},
            pairs=tuple(sorted({pair for each in known for pair in each.pairs})),
            affixes=tuple(sorted({affix for each in known for affix in each.affixes})),
        )

    @property
    def n_channels(self) -> int:
        """Numbers per token: table rows, and the sub-words of an encoder from elsewhere."""
        return len(CHANNELS) + (sub.N_CHANNELS if self.subwords is not None else 0)

    @property
    def n_rows(self) -> int:
        """Rows of the table that serves all channels."""
        return self.first_match + self.gazetteer.n_rows

    @property
    def first_match(self) -> int:
        """The row of the gazetteer's first match; those before are of the other channels."""
        return self._offsets[-1]

    @cached_property
    def _offsets(self) -> tuple[int, ...]:
        """The first row of each channel."""
        sizes = (2 + len(self.words), *2 * [len(self.pairs)], *2 * [len(self.affixes)], N_SHAPES)
        return (0, *(int(end) for end in np.cumsum(sizes)))

    @cached_property
    def _known_pairs(self) -> npt.NDArray[np.uint64]:
        return np.array(self.pairs, dtype=np.uint64)

    @cached_property
    def _known_affixes(self) -> Mapping[int, int]:
        return {code: number for number, code in enumerate(self.affixes)}

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.int32]:
        """Rows of the titles' tokens, int32 ``[N, L, F]``; `PADDING` beyond a title's end.

        Channel 0 is `PADDING` exactly where there is no token; the others are where they have
        nothing to say. Titles are cut to ``length`` tokens. Sub-words, if any, come after the rows.
        """
        return self.rows(lay_out(texts, self.length))

    def rows(self, laid: Laid) -> npt.NDArray[np.int32]:
        """What `encode` makes of texts that are laid out, none of more tokens than ``length``."""
        ids = np.zeros((len(laid.texts), self.length, self.n_channels), dtype=np.int32)
        if not len(laid.piece):
            return ids
        if self.subwords is not None:
            ids[..., len(CHANNELS) :] = self.subwords.encode(laid.texts, self.length)
        words, hashes, rows = zip(*map(self._read, laid.pieces), strict=True)
        found = np.zeros((len(laid.piece), len(CHANNELS)), dtype=np.int64)
        found[:, [0, 3, 4, 5]] = np.array(rows, dtype=np.int64)[laid.piece]
        left, right = pairs_of(laid, np.array(hashes, dtype=np.uint64))
        found[:, 1] = self._pair_rows(left, self._offsets[1])
        found[:, 2] = self._pair_rows(right, self._offsets[2])
        if self.gazetteer.names:
            codes = np.array([title_hash(text) for text in laid.texts], dtype=np.int64)
            matches = self.gazetteer.matches(words, laid.piece, laid.counts, codes)
            # Matches are numbered from 1.
            found[:, LISTED:] = np.where(matches > 0, self.first_match - 1 + matches, PADDING)
        ids[laid.text, laid.place, : len(CHANNELS)] = found
        return ids

    def _read(self, piece: str) -> "_Read":
        """A raw piece's word, its hash and its rows; those of known words are remembered."""
        kept = self._read_before.get(piece)
        if kept is not None:
            return kept
        word = normalised(piece)
        row, affixes = self.words.get(word, UNKNOWN), [PADDING, PADDING]
        for place, code in enumerate(affixes_of(word)):
            number = self._known_affixes.get(code)
            if number is not None:
                affixes[place] = self._offsets[3 + place] + number
        shape = self._offsets[5] + shape_of(piece, word)
        found = _Read(word, hash_of(word), (row, *affixes, shape))
        if row != UNKNOWN and len(self._read_before) < _MOST_READ:
            self._read_before[piece] = found
        return found

    @cached_property
    def _read_before(self) -> "dict[str, _Read]":
        return {}

    def _pair_rows(self, codes: npt.NDArray[np.uint64], first: int) -> npt.NDArray[np.int64]:
        """Rows from ``first`` on of the known pairs, `PADDING` for the others."""
        known = self._known_pairs
        if not len(known):
            return np.zeros(len(codes), dtype=np.int64)
        number = np.searchsorted(known, codes).clip(max=len(known) - 1)
        rows: npt.NDArray[np.int64] = np.where(known[number] == codes, first + number, PADDING)
        return rows

    def to_json(self) -> dict[str, Any]:
        """What `from_json` needs to make an equal vocabulary."""
        return {
            "words": list(self.words),
            "pairs": list(self.pairs),
            "affixes": list(self.affixes),
            "length": self.length,
            "gazetteer": self.gazetteer.to_json(),
            "subwords": self.subwords.to_json() if self.subwords is not None else None,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "TextVocab":
        """The vocabulary that `to_json` wrote. Raises ArtifactError if a part is missing."""
        missing = {"words", "pairs", "affixes", "length", "gazetteer"} - set(document)
        if missing:
            raise ArtifactError(f"text vocabulary: no {', '.join(sorted(missing))}; fit again")
        return cls(
            words={word: row for row, word in enumerate(document["words"], start=2)},
            pairs=tuple(document["pairs"]),
            affixes=tuple(document["affixes"]),
            length=int(document["length"]),
            gazetteer=Gazetteer.from_json(document["gazetteer"]),
            subwords=sub.SubWords.from_json(known) if (known := document.get("subwords")) else None,
        )


def fit_text(
    texts: Iterable[str],
    *,
    length: int,
    min_count: int = 2,
    pair_count: int = 4,
    n_pairs: int = 65536,
    gazetteer: Gazetteer | None = None,
    subwords: sub.SubWords | None = None,
) -> TextVocab:
    """Give rows to the words, pairs and affixes that are frequent enough in ``texts``.

    A word is kept if seen at least ``min_count`` times, a pair or an affix ``pair_count`` times,
    and of pairs the ``n_pairs`` most frequent: what is seen once or twice is learnt by heart and
    never met again.

    >>> vocab = fit_text(["red boot", "red hat"], length=4)
    >>> dict(vocab.words), vocab.encode(["Red coat"])[0, :, 0].tolist()
    ({'red': 2}, [2, 1, 0, 0])
    """
    given = {"length": length, "n_pairs": n_pairs, "min_count": min_count, "pair_count": pair_count}
    for name, value in given.items():
        if value < 1:
            raise ConfigError(f"text.{name}: {value}; give 1 or more")
    words: Counter[str] = Counter()
    affixes: Counter[int] = Counter()
    pairs = Tally()
    several = iter(texts)
    while chunk := list(islice(several, _CHUNK)):
        laid = lay_out(chunk, length)
        spelt = [normalised(piece) for piece in laid.pieces]
        # A title's last token has no right neighbour to count it: its right pair is added.
        left, right = pairs_of(laid, np.fromiter(map(hash_of, spelt), np.uint64, len(spelt)))
        last = laid.place == laid.counts[laid.text] - 1
        pairs.add(np.concatenate([left, right[last]]))
        counted = np.bincount(laid.piece, minlength=len(spelt)).tolist()
        for word, count in zip(spelt, counted, strict=True):
            words[word] += count
            for code in affixes_of(word):
                affixes[code] += count
    kept = sorted((word for word, n in words.items() if n >= min_count), key=_often(words))
    return TextVocab(
        words={word: row for row, word in enumerate(kept, start=2)},
        pairs=pairs.frequent(pair_count, n_pairs),
        affixes=tuple(sorted(code for code, n in affixes.items() if n >= pair_count)),
        length=length,
        gazetteer=gazetteer or Gazetteer(),
        subwords=subwords,
    )


def _often(counts: Mapping[str, int]) -> Callable[[str], tuple[int, str]]:
    """A sort key: most frequent first, then by spelling."""
    return lambda word: (-counts[word], word)


_CHUNK = 65536  # titles whose pairs are counted at a time

_MOST_READ = 262_144  # pieces that are remembered


class _Read(NamedTuple):
    """What a vocabulary makes of a piece."""

    word: str
    code: int  # the word's hash
    rows: tuple[int, ...]  # of word, prefix, suffix and shape


class Tally:
    """How often each code came, without keeping every coming."""

    def __init__(self) -> None:
        self.codes = np.zeros(0, dtype=np.uint64)
        self.counts = np.zeros(0, dtype=np.int64)

    def add(self, codes: npt.NDArray[np.uint64]) -> None:
        together = np.concatenate([self.codes, codes])
        weights = np.concatenate([self.counts, np.ones(len(codes), dtype=np.int64)])
        self.codes, number = np.unique(together, return_inverse=True)
        self.counts = np.bincount(number, weights=weights, minlength=len(self.codes)).astype("i8")

    def frequent(self, count: int, n: int) -> tuple[int, ...]:
        """The at most ``n`` codes that came most often and ``count`` times or more, ascending."""
        order = np.lexsort((self.codes, -self.counts))[:n]
        kept = order[self.counts[order] >= count]
        return tuple(np.sort(self.codes[kept]).tolist())
