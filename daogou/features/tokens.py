"""Product titles to tokens, with their places in the title as it was written."""

import re
import unicodedata
import zlib
from functools import lru_cache
from typing import Final, NamedTuple

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

# Everything in a text, token or space: put together again it is the text.
_ALL: Final = re.compile(rf"{_TOKEN.pattern}|\s+")

_ALONE: Final = re.compile(f"[{_SINGLE}]")


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
        Token(match.start(), match.end(), _word(match.group())) for match in _TOKEN.finditer(raw)
    ]


@lru_cache(maxsize=65_536)  # a shop's titles are made of the same words
def _word(piece: str) -> str:
    return normalised(piece)


def words_of(raw: str) -> list[str]:
    """The normalised texts of a title's tokens, for whoever needs no offsets."""
    return [_word(piece) for piece in _TOKEN.findall(raw)]


def pieces_of(raw: str) -> list[str]:
    """The tokens of a title as they are written, and the runs of space between them.

    >>> pieces_of("Red  boot")
    ['Red', '  ', 'boot']
    """
    return _ALL.findall(raw)


def is_single(character: str) -> bool:
    """Whether a character is a token of its own wherever it stands."""
    return _ALONE.match(character) is not None


def hash_of(text: str) -> int:
    """The same on every machine and in every run, unlike `hash`; never 0."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) + 1


def title_hash(text: str) -> int:
    """The hash by which a title is known again, however it is spelt."""
    return hash_of(normalised(text))
