"""Words in the order of the numbers that they speak of, as a reader of the shop's tables would."""

import random

import pytest

from daogou.errors import ConfigError
from daogou.features.order import in_order

LADDERS = {
    "ages": ["<18", "18-24", "25-34", "65+"],
    "in words": ["Under 18", "18 to 24", "25 - 34", "over 65"],
    "with units": ["18 years and under", "19-24 years", "65 years or older"],
    "of both kinds": ["18岁以下", "18-24岁", "25至34岁", "65岁以上"],
    "thousands": ["0-999", "1,000-4,999", "5,000–49,999", "50,000+", "1,000,000+"],
    "with spaces": ["500 to 999", "1 000 to 9 999", "10 000 and over"],
    "money": ["$5", "$50", "¥1,000"],
    "incomes": ["Under 15K", "15-24K", "35-49K", "100-124K", "250K+"],
    "at one number": ["<=50K", "50K", ">50K"],
    "counts in Chinese": ["不足1千", "1千-5千", "5000-1万", "1万～3万", "10万以上", "1亿以上"],
    "full width": ["＜１８", "１８－２４", "６５＋"],
    "decimals": ["-1.5", "0.25", "1.5", "1.75", "12"],
    "ranks": ["1st", "2nd", "3rd", "10th"],
    "named": ["1 bronze", "2 silver", "3 gold"],
    "not a thousand": ["1 kid", "2 kids", "3+ kids"],
}


@pytest.mark.parametrize("name", LADDERS)
def test_words_stand_where_a_reader_would_put_them(name: str) -> None:
    ladder = LADDERS[name]
    words = list(ladder)
    random.Random(0).shuffle(words)
    assert [words[place] for place in in_order(words, where="here")] == ladder


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["18-24", "old", "young"], "no number to go by in 'old', 'young'"),
        (["a", "b", "c", "d", "e"], "no number to go by in 'a', 'b', 'c' and 2 more"),
        (["18-24", "unknown", "25+"], "no number to go by in 'unknown'"),
        (["1 small", "1 large", "2"], "'1 small', '1 large' stand at the same number"),
        (["65+", ">65", "64"], r"'65\+', '>65' stand at the same number"),
        (["1,000", "1000"], "'1,000', '1000' stand at the same number"),
    ],
)
def test_an_order_that_cannot_be_read_is_asked_for(words: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=f"^here: {why}; list all classes here from"):
        in_order(words, where="here")


def test_a_given_order_wins_and_may_name_what_the_column_lacks() -> None:
    given = ["3", "none", "2", "1"]
    assert in_order(["1", "2", "3"], given, where="here") == (2, 1, 0)


def test_a_given_order_that_lacks_a_word_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^here: lacks 'mid', which the column holds"):
        in_order(["low", "mid"], ["low", "high"], where="here")


def test_one_word_or_none_needs_no_order() -> None:
    assert in_order([], where="here") == ()
    assert in_order(["any"], where="here") == (0,)
