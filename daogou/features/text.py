"""Product titles to tokens and table rows, and gold spans to tags and back."""

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from daogou.errors import ArtifactError, ConfigError, DataError

PADDING: Final = 0  # the row of every channel where there is no token or nothing to say
UNKNOWN: Final = 1  # the word row that unseen words share
CHANNELS: Final = ("word", "left", "right", "prefix", "suffix", "shape", "listed")

OUTSIDE, BEGIN, INSIDE, MASKED = 0, 1, 2, -1

# Scripts written without spaces: each character is a token of its own.
_SINGLE = "々-〇〡-〩ぁ-ゖゝ-ゟァ-ヺー-ヿㄅ-ㄯㇰ-ㇿ㐀-䶿一-鿿가-힯豈-﫿ｦ-ﾟ\U00020000-\U0003ffff"
_LETTER = rf"[^\W\d_{_SINGLE}]"
_MARKS = "[\u0300-\u036f\u3099\u309a]*"  # accents typed after their letter stay with it
# Digits and the letters of their unit are apart ("250ml" is two tokens), and so are the parts of
# a code or a list ("cz50,128"): a gold value may begin or end at any of these borders.
_TOKEN: Final = re.compile(
    rf"[{_SINGLE}]{_MARKS}|\d+(?:\.\d{{1,2}}(?!\d))?|(?:{_LETTER}{_MARKS})+"
    rf"(?:['’](?:{_LETTER}{_MARKS})+)*|\S"
)


class Token(NamedTuple):
    """A piece of a title: ``raw[start:end]``, and its normalised text."""

    start: int
    end: int
    text: str


Span = tuple[int, int, str]  # start, end (exclusive) in code points of the raw text, attribute


def normalised(text: str) -> str:
    """The text in compatibility form (NFKC), lower-cased.

    >>> normalised("Ｔ恤 ５０％")
    't恤 50%'
    """
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).lower()


def tokenise(raw: str) -> list[Token]:
    """The tokens of a title, in order, with offsets into ``raw``.

    A token is one character of a script written without spaces (Han, kana, Hangul), a run of other
    letters (an apostrophe inside stays), a number, or one other character; space is dropped.

    >>> [token.text for token in tokenise("Men's 纯棉T恤 250ml 15.6寸")]
    ["men's", '纯', '棉', 't', '恤', '250', 'ml', '15.6', '寸']
    """
    return [
        Token(match.start(), match.end(), normalised(match.group()))
        for match in _TOKEN.finditer(raw)
    ]


@dataclass(frozen=True)
class TextVocab:
    """A fitted reading of titles. Made by `fit_text`; never changes afterwards.

    Every token becomes one row of one table for each of `CHANNELS`: the word; the hashed pairs with
    its left and its right neighbour; its hashed first and last three letters (words of four letters
    and more); its shape (script, length, capitals); and its place in the longest listed value that
    covers it. The channels' rows do not overlap.
    """

    words: Mapping[str, int]  # word -> row, from 2 on
    n_hash: int  # buckets of each hashed channel
    length: int  # tokens kept of a title
    listed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # attribute -> values

    @property
    def n_channels(self) -> int:
        """Rows per token."""
        return len(CHANNELS)

    @property
    def n_rows(self) -> int:
        """Rows of the table that serves all channels."""
        return self._offsets[-1] + _PLACES * len(self.listed)

    @cached_property
    def _offsets(self) -> tuple[int, ...]:
        """The first row of each channel."""
        n_words = 2 + len(self.words)
        hashed = tuple(n_words + i * self.n_hash for i in range(_N_HASHED + 1))
        return (0, *hashed, hashed[-1] + _N_SHAPES)

    @cached_property
    def _trie(self) -> dict[str, Any]:
        """Nested dicts, token by token; at the key "" the number of the value's attribute."""
        root: dict[str, Any] = {}
        for number, values in enumerate(self.listed.values()):
            for value in values:
                node = root
                for token in tokenise(value):
                    node = node.setdefault(token.text, {})
                node.setdefault("", number)
        root.pop("", None)
        return root

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.int32]:
        """Rows of the titles' tokens, int32 ``[N, L, F]``; `PADDING` beyond a title's end.

        Channel 0 is `PADDING` exactly where there is no token. Titles are cut to ``length`` tokens.
        """
        ids = np.zeros((len(texts), self.length, self.n_channels), dtype=np.int32)
        pieces = _Numbers()
        titles = [[pieces[each] for each in _TOKEN.findall(text)[: self.length]] for text in texts]
        counts = np.fromiter(map(len, titles), dtype=np.int64, count=len(titles))
        if not counts.sum():
            return ids
        flat = np.fromiter((each for title in titles for each in title), np.int64, counts.sum())
        title = np.repeat(np.arange(len(titles)), counts)
        place = np.arange(len(flat)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows, codes = self._piece_rows(list(pieces))
        code = codes[flat]
        left = np.where(place > 0, np.roll(code, 1), 0)
        right = np.where(place < counts[title] - 1, np.roll(code, -1), 0)
        found = np.zeros((len(flat), self.n_channels), dtype=np.int64)
        found[:, [0, 3, 4, 5]] = rows[flat]
        found[:, 1] = self._offsets[1] + _pair(left, code) % np.uint64(self.n_hash)
        found[:, 2] = self._offsets[2] + _pair(code, right) % np.uint64(self.n_hash)
        if self.listed:
            texts_of = [normalised(piece) for piece in pieces]
            found[:, 6] = [
                row for each in titles for row in self._listed_rows([texts_of[i] for i in each])
            ]
        ids[title, place] = found
        return ids

    def _piece_rows(
        self, pieces: Sequence[str]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        """Word, prefix, suffix and shape rows ``[P, 4]`` of raw pieces; their hashes ``[P]``."""
        rows = np.zeros((len(pieces), 4), dtype=np.int64)
        codes = np.zeros(len(pieces), dtype=np.uint64)
        for i, piece in enumerate(pieces):
            text = normalised(piece)
            rows[i, 0] = self.words.get(text, UNKNOWN)
            if len(text) > 3 and text[0].isalpha():
                rows[i, 1] = self._offsets[3] + _hash("^" + text[:3]) % self.n_hash
                rows[i, 2] = self._offsets[4] + _hash("$" + text[-3:]) % self.n_hash
            rows[i, 3] = self._offsets[5] + _shape(piece, text)
            codes[i] = _hash(text) + 1
        return rows, codes

    def _listed_rows(self, words: Sequence[str]) -> list[int]:
        """For each token its row in the channel of listed values: longest match, left to right."""
        rows = [PADDING] * len(words)
        offset, root = self._offsets[6], self._trie
        i = 0
        while i < len(words):
            end, number = i, 0
            node = root.get(words[i])
            j = i
            while node is not None:
                j += 1
                if "" in node:
                    end, number = j, node[""]
                node = node.get(words[j]) if j < len(words) else None
            first = offset + _PLACES * number
            for k in range(i, end):
                rows[k] = first + (k == i) + 2 * (k == end - 1)
            i = max(end, i + 1)
        return rows

    def to_json(self) -> dict[str, Any]:
        """What `from_json` needs to make an equal vocabulary."""
        return {
            "words": list(self.words),
            "n_hash": self.n_hash,
            "length": self.length,
            "listed": {name: list(values) for name, values in self.listed.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "TextVocab":
        """The vocabulary that `to_json` wrote. Raises ArtifactError if a part is missing."""
        missing = {"words", "n_hash", "length", "listed"} - set(document)
        if missing:
            raise ArtifactError(f"text vocabulary: no {', '.join(sorted(missing))}; fit again")
        return cls(
            words={word: row for row, word in enumerate(document["words"], start=2)},
            n_hash=int(document["n_hash"]),
            length=int(document["length"]),
            listed={name: tuple(values) for name, values in document["listed"].items()},
        )


def fit_text(
    texts: Iterable[str],
    *,
    length: int,
    min_count: int = 1,
    n_hash: int = 16384,
    gazetteer: Mapping[str, Iterable[str]] | None = None,
) -> TextVocab:
    """Give a row to each word seen at least ``min_count`` times, most frequent first.

    ``gazetteer`` lists values by attribute, from training titles and the catalogue only.

    >>> vocab = fit_text(["red boot", "red hat"], length=4, min_count=2)
    >>> dict(vocab.words), vocab.encode(["Red coat"])[0, :, 0].tolist()
    ({'red': 2}, [2, 1, 0, 0])
    """
    for name, value in (("length", length), ("n_hash", n_hash), ("min_count", min_count)):
        if value < 1:
            raise ConfigError(f"text.{name}: {value}; give 1 or more")
    pieces: Counter[str] = Counter()
    for text in texts:
        pieces.update(_TOKEN.findall(text))
    counts: Counter[str] = Counter()
    for piece, count in pieces.items():
        counts[normalised(piece)] += count
    kept = sorted(
        (word for word, count in counts.items() if count >= min_count),
        key=lambda word: (-counts[word], word),
    )
    return TextVocab(
        words={word: row for row, word in enumerate(kept, start=2)},
        n_hash=n_hash,
        length=length,
        listed={name: tuple(sorted(set(values))) for name, values in (gazetteer or {}).items()},
    )


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
    the earlier keeps it. Spans beyond ``length`` tokens are cut. Raises DataError if a span does
    not lie within the tokens.
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
    n_tokens = min(len(tokens), tags.shape[1])
    for row in np.flatnonzero((tags[:, :n_tokens] > OUTSIDE).any(axis=1)).tolist():
        line = tags[row, :n_tokens].tolist()
        for first, tag in enumerate(line):
            if tag <= OUTSIDE or (tag == INSIDE and first > 0 and line[first - 1] > OUTSIDE):
                continue
            after = first + 1
            while after < n_tokens and line[after] == INSIDE:
                after += 1
            sure = float(np.prod(confidence[row, first:after]))
            end = min(tokens[after - 1].end, len(raw))
            found.append((tokens[first].start, end, attributes[row], sure))
    return sorted(found)


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


_N_HASHED = 4  # left, right, prefix, suffix
_PLACES = 4  # inside, first, last, whole
_LENGTHS = 6
_KINDS = ("han", "kana", "hangul", "letter", "digit", "other")
_CASES = 3
_N_SHAPES = len(_KINDS) * _LENGTHS * _CASES


class _Numbers(dict[str, int]):
    """Pieces numbered in the order they are first asked for."""

    def __missing__(self, piece: str) -> int:
        self[piece] = number = len(self)
        return number


def _hash(text: str) -> int:
    """The same on every machine and in every run, unlike `hash`."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def _pair(left: npt.NDArray[np.uint64], right: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A hash of two hashes, in order: the finaliser of splitmix64 over both."""
    mixed = left * np.uint64(0x9E3779B97F4A7C15) + right
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


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
    return 0 if _TOKEN_SINGLE.match(character) else 3


_TOKEN_SINGLE: Final = re.compile(f"[{_SINGLE}]")
