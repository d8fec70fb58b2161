"""Product titles to tokens and table rows, and gold spans to tags and back."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, compress, islice
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from daogou.errors import ArtifactError, ConfigError, DataError
from daogou.features import subwords as sub
from daogou.features.gazetteer import MATCHES, Gazetteer
from daogou.features.tokens import (
    Span,
    Token,
    hash_of,
    is_single,
    normalised,
    pieces_of,
    title_hash,
    tokenise,
)

PADDING: Final = 0  # the row of every channel where there is no token or nothing to say
UNKNOWN: Final = 1  # the word row that unseen words share
CHANNELS: Final = ("word", "left", "right", "prefix", "suffix", "shape", *["listed"] * MATCHES)
LISTED: Final = CHANNELS.index("listed")  # the first of its channels, which are the last

OUTSIDE, BEGIN, INSIDE, MASKED = 0, 1, 2, -1


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

    def rows(self, laid: "Laid") -> npt.NDArray[np.int32]:
        """What `encode` makes of texts that are laid out, none of more tokens than ``length``."""
        ids = np.zeros((len(laid.texts), self.length, self.n_channels), dtype=np.int32)
        if not len(laid.piece):
            return ids
        if self.subwords is not None:
            ids[..., len(CHANNELS) :] = self.subwords.encode(laid.texts, self.length)
        words, hashes, rows = zip(*map(self._read, laid.pieces), strict=True)
        found = np.zeros((len(laid.piece), len(CHANNELS)), dtype=np.int64)
        found[:, [0, 3, 4, 5]] = np.array(rows, dtype=np.int64)[laid.piece]
        left, right = _pairs(laid, np.array(hashes, dtype=np.uint64))
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
        for place, code in enumerate(_affixes(word)):
            number = self._known_affixes.get(code)
            if number is not None:
                affixes[place] = self._offsets[3 + place] + number
        shape = self._offsets[5] + _shape(piece, word)
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
    pairs = _Tally()
    several = iter(texts)
    while chunk := list(islice(several, _CHUNK)):
        laid = lay_out(chunk, length)
        spelt = [normalised(piece) for piece in laid.pieces]
        # A title's last token has no right neighbour to count it: its right pair is added.
        left, right = _pairs(laid, np.fromiter(map(hash_of, spelt), np.uint64, len(spelt)))
        last = laid.place == laid.counts[laid.text] - 1
        pairs.add(np.concatenate([left, right[last]]))
        counted = np.bincount(laid.piece, minlength=len(spelt)).tolist()
        for word, count in zip(spelt, counted, strict=True):
            words[word] += count
            for code in _affixes(word):
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


_CHUNK = 65536  # titles whose pairs are counted at a time
_MOST_READ = 262_144  # pieces that are remembered
_LENGTHS = 6
_KINDS = ("han", "kana", "hangul", "letter", "digit", "other")
_CASES = 3
N_SHAPES = len(_KINDS) * _LENGTHS * _CASES


class _Read(NamedTuple):
    """What a vocabulary makes of a piece."""

    word: str
    code: int  # the word's hash
    rows: tuple[int, ...]  # of word, prefix, suffix and shape


class Laid(NamedTuple):
    """The tokens of several texts, one after another. Made by `lay_out`."""

    texts: Sequence[str]
    pieces: Sequence[str]  # distinct raw tokens
    piece: npt.NDArray[np.int64]  # [P] each token's number among them
    text: npt.NDArray[np.int64]  # [P] its text
    place: npt.NDArray[np.int64]  # [P] its place among the text's tokens
    start: npt.NDArray[np.int64]  # [P] where it begins in the text
    end: npt.NDArray[np.int64]  # [P] and before where it ends
    counts: npt.NDArray[np.int64]  # [N] tokens of each text


def lay_out(texts: Sequence[str], length: int | None = None) -> Laid:
    """The tokens of texts, of each the first ``length`` or all: what `tokenise` finds in them.

    >>> laid = lay_out(["Red  boot", "red"])
    >>> laid.pieces, laid.piece.tolist(), laid.text.tolist(), laid.start.tolist()
    (['Red', 'boot', 'red'], [0, 1, 2], [0, 0, 1], [0, 5, 0])
    """
    numbers = _Numbers()
    found = [[numbers[piece] for piece in pieces_of(text)] for text in texts]
    many = np.fromiter(map(len, found), np.int64, len(found))
    number = np.fromiter(chain.from_iterable(found), np.int64, many.sum())
    text = np.repeat(np.arange(len(many)), many)
    long = np.fromiter(map(len, numbers), np.int64, len(numbers))[number]
    end = np.cumsum(long) - np.repeat(
        _before(np.fromiter(map(len, texts), np.int64, len(texts))), many
    )
    # Runs of space have told where tokens are, and are none.
    is_token = np.fromiter((not piece.isspace() for piece in numbers), np.bool_, len(numbers))
    kept = np.flatnonzero(is_token[number])
    counts = np.bincount(text[kept], minlength=len(texts))
    place = np.arange(len(kept)) - _before(counts)[text[kept]]
    if length is not None:
        kept, place = kept[place < length], place[place < length]
        counts = counts.clip(max=length)
    renumbered = np.cumsum(is_token) - 1
    pieces = list(compress(numbers, is_token.tolist()))
    return Laid(
        texts, pieces, renumbered[number[kept]], text[kept], place,
        end[kept] - long[kept], end[kept], counts,
    )  # fmt: skip


def _before(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Of each of several pieces end to end, what those before it come to."""
    before: npt.NDArray[np.int64] = np.cumsum(counts) - counts
    return before


class _Numbers(dict[str, int]):
    """Pieces numbered in the order they are first asked for."""

    def __missing__(self, piece: str) -> int:
        self[piece] = number = len(self)
        return number


class _Tally:
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


def _pairs(
    laid: Laid, hashes: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Each token's hashed pairs with its left and with its right neighbour, ``[P]`` each.

    ``hashes`` are those of the pieces' words.
    """
    codes = hashes[laid.piece]
    before = np.where(laid.place > 0, np.roll(codes, 1), np.uint64(0))
    last = laid.place == laid.counts[laid.text] - 1
    after = np.where(last, np.uint64(0), np.roll(codes, -1))
    return _pair(before, codes), _pair(codes, after)


def _pair(left: npt.NDArray[np.uint64], right: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A hash of two hashes, in order: the finaliser of splitmix64 over both, to 48 bits."""
    mixed = left * np.uint64(0x9E3779B97F4A7C15) + right
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed ^ (mixed >> np.uint64(31))) >> np.uint64(16)


def _affixes(word: str) -> tuple[int, ...]:
    """Hashes of a word's first and last three letters; none of a short word or a number."""
    if len(word) < 4 or not word[0].isalpha():
        return ()
    return hash_of("^" + word[:3]), hash_of("$" + word[-3:])


def _shape(piece: str, text: str) -> int:
    """The number of a token's shape: script, class of length, capitals."""
    kind = _kind(text[0])
    length = min(len(text) - 1, 2) if len(text) < 4 else 3 + (len(text) > 5) + (len(text) > 8)
    case = 0 if not piece[0].isupper() else (1 if piece[1:].islower() else 2)
    return (kind * _LENGTHS + length) * _CASES + case


def _kind(character: str) -> int:
    if character.isdigit():
        return 4
    if not character.isalpha():
        return 5
    if "\u3040" <= character <= "\u30ff":
        return 1
    if "\uac00" <= character <= "\ud7af":
        return 2
    return 0 if is_single(character) else 3
