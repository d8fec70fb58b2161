"""Titles to tokens end to end, and to the hashes and shapes that are read of them."""

from collections.abc import Sequence
from itertools import chain, compress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from daogou.features.tokens import hash_of, is_single, pieces_of

_LENGTHS = 6

_KINDS = ("han", "kana", "hangul", "letter", "digit", "other")

_CASES = 3

N_SHAPES = len(_KINDS) * _LENGTHS * _CASES


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
    numbers = Numbers()
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


class Numbers(dict[str, int]):
    """Pieces numbered in the order they are first asked for."""

    def __missing__(self, piece: str) -> int:
        self[piece] = number = len(self)
        return number


def pairs_of(
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


def affixes_of(word: str) -> tuple[int, ...]:
    """Hashes of a word's first and last three letters; none of a short word or a number."""
    if len(word) < 4 or not word[0].isalpha():
        return ()
    return hash_of("^" + word[:3]), hash_of("$" + word[-3:])


def shape_of(piece: str, text: str) -> int:
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
