"""A query to the products whose title, columns and attributes hold its words, best first."""

import math
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.features.tokens import Token, tokenise
from daogou.guide.catalogue import Catalogue
from daogou.guide.kept import NOWHERE, Kept

Array = NDArray[Any]
_K1: Final = 1.2  # how soon a term that is repeated counts no more
_B: Final = 0.75  # how much a long text is held back
_RANK_SHIFT: Final = 60  # the paper's
_SAMPLE: Final = 32  # products by which an index that was kept is judged
_NOBODY: Final = np.zeros((3, 0), dtype=np.int64)
_LEAST_LETTERS: Final = 4  # a shorter word is too near to many others to be corrected


@dataclass(frozen=True)
class Hits:
    """Products ``[N]`` that a query finds; ``relevance [N]`` is 0 or more, largest first."""

    rows: Array
    relevance: Array
    relaxed: bool  # no product holds all words, so these hold as many as any does
    corrected: Mapping[str, str]  # word -> the word of the catalogue that was read instead

    def mask(self, n: int) -> Array:
        """Which of ``n`` rows are found, bool ``[n]``."""
        found = np.zeros(n, dtype=bool)
        found[self.rows] = True
        return found


@dataclass(frozen=True)
class Postings:
    """Which products hold each term, and how much that counts. Made by `fit_postings`."""

    terms: Mapping[str, int]
    start: Array  # [V + 1]
    rows: Array  # [P] products, by term
    weights: Array  # [P] BM25 but for the term's rarity
    n: int  # products
    mean_length: float

    def of(self, term: str) -> slice:
        """Where a term's products stand; empty for one that no product holds."""
        place = self.terms.get(term)
        return slice(0, 0) if place is None else slice(*self.start[place : place + 2].tolist())

    def weighed(self, row: int) -> dict[str, float]:
        """The terms that a product holds and their weights: a walk over everything."""
        places = np.flatnonzero(self.rows == row)
        at = np.searchsorted(self.start, places, side="right") - 1
        names, weights = list(self.terms), self.weights[places]
        return {
            names[place]: each for place, each in zip(at.tolist(), weights.tolist(), strict=True)
        }

    def arrays(self) -> dict[str, Tensor]:
        """All of it as arrays, see `of_arrays`."""
        words = np.frombuffer("\n".join(self.terms).encode(), dtype=np.uint8)
        return {
            "terms": torch.from_numpy(words.copy()),
            "start": torch.from_numpy(self.start),
            "rows": torch.from_numpy(self.rows),
            "weights": torch.from_numpy(self.weights),
            "n": torch.tensor(self.n),
            "mean_length": torch.tensor(self.mean_length, dtype=torch.float64),
        }

    @staticmethod
    def of_arrays(found: Mapping[str, Tensor]) -> "Postings":
        """The way back from `arrays`."""
        words = found["terms"].numpy().tobytes().decode()
        terms = {word: place for place, word in enumerate(words.split("\n") if words else [])}
        start, rows, weights = (found[name].numpy() for name in ("start", "rows", "weights"))
        return Postings(terms, start, rows, weights, int(found["n"]), float(found["mean_length"]))

    def rarity(self, term: str) -> float:
        """The weight of a term: it grows as fewer products hold it."""
        part = self.of(term)
        held = part.stop - part.start
        return math.log(1 + (self.n - held + 0.5) / (held + 0.5))


@dataclass(frozen=True)
class Base:
    """The catalogue that an index is made of, when it is first asked."""

    catalogue: Catalogue
    kept: Kept = NOWHERE

    @cached_property
    def postings(self) -> Postings:
        """The index, made once."""
        rows = range(1, len(self.catalogue.keys))

        def made() -> dict[str, Tensor]:
            return fit_postings(text_of(self.catalogue, row) for row in rows).arrays()

        def fit(found: Mapping[str, Tensor]) -> bool:
            told, some = Postings.of_arrays(found), rows[:: max(len(rows) // _SAMPLE, 1)]
            return told.n == len(rows) and all(
                _weigh(told.weighed(row), text_of(self.catalogue, row), told.mean_length)
                for row in some
            )

        return Postings.of_arrays(self.kept.arrays("postings", made, fit))


@dataclass(frozen=True)
class Search:
    """An inverted index over a catalogue, and the products that changed since.

    Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009. Terms
    are the tokens of `features.text`, English plurals without their s, and in scripts without
    spaces the pairs of neighbouring characters too. Rarities and lengths are those of the catalogue
    that the index was made of.
    """

    base: Base
    changed: Mapping[int, Counter[str]] = field(default_factory=dict)  # row -> its terms

    def with_products(self, catalogue: Catalogue, rows: Iterable[int]) -> "Search":
        """The search that reads some products as a newer catalogue has them."""
        read = {row: Counter(terms_of(text_of(catalogue, row))) for row in rows}
        return replace(self, changed={**self.changed, **read})

    def hits(self, query: str, kept: Array) -> Hits | None:
        """What a query finds among the products of bool ``kept [I + 1]``; None without a word.

        A product is found if it holds all words of the query, each character being a word in
        scripts without spaces; where none does, those that hold the most are. A word that no
        product holds is read as the most frequent one that is one slip of the fingers away.
        """
        tokens, corrected = self._read(query)
        if not tokens:
            return None
        index = self.base.postings
        relevance, held = np.zeros(len(kept)), np.zeros(len(kept), dtype=np.int64)
        terms = Counter(_terms(tokens))
        words = {token.text for token in tokens}
        for term in terms:
            part = index.of(term)
            relevance[index.rows[part]] += index.rarity(term) * index.weights[part]
            held[index.rows[part]] += term in words
        anew = np.fromiter(self.changed, dtype=np.int64)
        relevance[anew] = held[anew] = 0
        for term in terms:
            rows, counts, lengths = self._holders.get(term, _NOBODY)
            weights = _saturated(counts, lengths / index.mean_length)
            relevance[rows] += index.rarity(term) * weights
            held[rows] += term in words
        held[~kept] = 0
        most = int(held.max(initial=0))
        rows = np.flatnonzero(held == most) if most else np.zeros(0, dtype=np.int64)
        order = np.lexsort((rows, -relevance[rows]))
        return Hits(rows[order], relevance[rows][order], most < len(words), corrected)

    def _read(self, query: str) -> tuple[list[Token], dict[str, str]]:
        """The words of a query, and those that were corrected."""
        tokens, corrected = [], {}
        for token in _words(query):
            near = None if self._frequency(token.text) else self._near(token.text)
            if near is not None:
                corrected[token.text] = near
            tokens.append(token._replace(text=near or token.text))
        return tokens, corrected

    @cached_property
    def _holders(self) -> dict[str, Array]:
        """Of each term the changed products that hold it: rows, times, and terms of each."""
        found: dict[str, list[tuple[int, int, int]]] = {}
        for row, own in self.changed.items():
            length = own.total()
            for term, count in own.items():
                found.setdefault(term, []).append((row, count, length))
        return {term: np.array(held).T for term, held in found.items()}

    def _frequency(self, term: str) -> int:
        part = self.base.postings.of(term)
        return int(part.stop - part.start) + len(self._holders.get(term, _NOBODY)[0])

    def _near(self, word: str) -> str | None:
        """The most frequent word one letter more, less, other or changed over; None if none is."""
        if len(word) < _LEAST_LETTERS or not (word.isascii() and word.isalpha()):
            return None
        cuts = [(word[:i], word[i:]) for i in range(len(word) + 1)]
        near = {head + tail[1:] for head, tail in cuts if tail}
        near |= {head + tail[1] + tail[0] + tail[2:] for head, tail in cuts if len(tail) > 1}
        for letter in string.ascii_lowercase:
            near |= {head + letter + tail for head, tail in cuts}
            near |= {head + letter + tail[1:] for head, tail in cuts if tail}
        known = [(-n, each) for each in near if (n := self._frequency(each))]
        return min(known)[1] if known else None


def fit_postings(texts: Iterable[str]) -> Postings:
    """Index the texts of products, of which the first is row 1."""
    places: dict[str, int] = {}
    term, row, count, lengths = [], [], [], [0]
    for number, text in enumerate(texts, start=1):
        own = Counter(terms_of(text))
        lengths.append(own.total())
        for word, n in own.items():
            term.append(places.setdefault(word, len(places)))
            row.append(number)
            count.append(n)
    terms, rows = np.array(term, dtype=np.int64), np.array(row, dtype=np.int32)
    mean = max(sum(lengths) / max(len(lengths) - 1, 1), 1.0)
    weights = _saturated(np.array(count, dtype=np.float64), np.array(lengths)[rows] / mean)
    order = np.argsort(terms, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(terms, minlength=len(places)))])
    return Postings(places, start, rows[order], weights[order], len(lengths) - 1, mean)


def _weigh(weighed: Mapping[str, float], text: str, mean_length: float) -> bool:
    """Whether these are a text's terms, and what each counts in it."""
    own = Counter(terms_of(text))
    length = own.total() / mean_length
    return weighed.keys() == own.keys() and all(
        math.isclose(weighed[term], _saturated(count, length)) for term, count in own.items()
    )


def terms_of(text: str) -> list[str]:
    """What a text is found by: its words, and the pairs of characters that stand together.

    >>> terms_of("Red boots 连衣裙")
    ['red', 'boot', '连', '衣', '裙', '连衣', '衣裙']
    """
    return _terms(_words(text))


def text_of(catalogue: Catalogue, row: int) -> str:
    """Everything that a product is found by: its title and the values that products share."""
    names = dict.fromkeys([*([catalogue.title] if catalogue.title else []), *catalogue.shared])
    values = (catalogue.value(name, row) for name in names)
    return "\n".join(str(value) for value in values if value is not None)


def _terms(tokens: Sequence[Token]) -> list[str]:
    pairs = [
        one.text + other.text
        for one, other in pairwise(tokens)
        if one.end == other.start and _is_character(one.text) and _is_character(other.text)
    ]
    return [*(token.text for token in tokens), *pairs]


def _words(text: str) -> list[Token]:
    found = []
    for start, end, piece in tokenise(text):
        word = _word(piece)
        if word:
            found.append(Token(start, end, word))
    return found


@lru_cache(maxsize=65_536)  # a catalogue is made of the same words
def _word(piece: str) -> str:
    """A token without a plural's s; empty for one that is no word."""
    if not any(letter.isalnum() for letter in piece):
        return ""
    is_plural = len(piece) > 3 and piece.endswith("s") and piece[-2] != "s" and piece.isascii()
    return piece.removesuffix("s").removesuffix("'") if is_plural else piece


def _is_character(word: str) -> bool:
    return len(word) == 1 and not word.isascii()


def _saturated(count: Any, length: Any) -> Any:
    """BM25's weight of a term that stands ``count`` times in a text ``length`` mean texts long."""
    return count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * length))


def fused(relevance: Array, scores: Array) -> Array:
    """Two rankings ``[N]`` of the same products as one, ``[N]``, larger is better.

    Reciprocal ranks (Cormack et al., "Reciprocal Rank Fusion outperforms Condorcet and individual
    Rank Learning Methods", SIGIR 2009): relevance and chance need no common scale. Unlike the
    paper, equal values share a rank.

    >>> fused(np.array([2.0, 1.0, 1.0]), np.array([0.1, 0.1, 0.3])).argsort()[::-1].tolist()
    [2, 0, 1]
    """
    return np.asarray(sum(1.0 / (_RANK_SHIFT + _ranks(each)) for each in (relevance, scores)))


def _ranks(values: Array) -> Array:
    """Place of each value among the distinct ones, the largest 1."""
    _, place = np.unique(-values, return_inverse=True)
    return place + 1
