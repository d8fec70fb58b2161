"""What titles say to the catalogue's words."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daogou.guide import Guide
from daogou.guide.values import Normal, Vocabulary, each_value, fit_vocabularies, folded

COLOURS = Vocabulary({"Navy": 3, "Blue": 90, "Dark Red": 8, "蓝色": 9, "红色": 5, "深灰色": 2})


@pytest.mark.parametrize("raw", ["蓝色", " Navy", "ＮＡＶＹ", "dark-red", "DARK  RED"])
def test_case_width_space_and_punctuation_do_not_count(raw: str) -> None:
    found = COLOURS.normal(raw)
    assert (folded(found.value), found.sure, found.how) == (folded(raw), 1.0, "same")


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("Navy Blue", "Navy"),  # the one that fewer products have says more
        ("very dark red", "Dark Red"),  # the longest
        ("雾霾蓝", "蓝色"),  # the 色 says that it is a colour and not which
        ("蓝红", "红色"),  # the end is what the rest describes
        ("浅深灰", "深灰色"),
    ],
)
def test_a_shade_is_of_the_family_whose_word_is_part_of_it(raw: str, value: str) -> None:
    found = COLOURS.normal(raw)
    assert (found.value, found.how) == (value, "part")
    assert 0 < found.sure < 1


@pytest.mark.parametrize("raw", ["mauve", "蓝调", "navyblue", "", "!?", "色"])
def test_what_fits_nothing_stays_as_it_is(raw: str) -> None:
    assert COLOURS.normal(raw) == Normal(raw, 0.0, "raw")


def test_products_whose_title_says_so_outweigh_a_part_of_a_word() -> None:
    titles = pa.chunked_array([["rose gold ring", "Rose Gold hoop", "rose gold pin", "rose bowl"]])
    known = pa.chunked_array([["Copper", "Copper", "Copper", "Pink"]])
    lower = pa.chunked_array([[text.lower() for text in titles.to_pylist()]])
    made = Vocabulary({"Copper": 3, "Pink": 1, "Gold": 40}, lower, known)
    # All three products: 3 / (3 + 1).
    assert made.normal("Rose Gold") == Normal("Copper", 0.75, "seen")
    # None of the two words' products is gold; without any it would have been 0.7.
    assert made.normal("white gold") == Normal("Gold", 0.7, "part")


def test_products_that_disagree_say_nothing_but_how_unsure_a_part_is() -> None:
    titles = pa.chunked_array([["mint green"] * 4])
    known = pa.chunked_array([["Green", "Blue", "White", None]])
    made = Vocabulary({"Green": 1, "Blue": 1, "White": 1}, titles, known)
    # One of three products, and a prior of 0.7 that is worth two: (1 + 1.4) / (3 + 2).
    assert made.normal("Mint Green") == Normal("Green", pytest.approx(0.48), "part")


@given(st.text(max_size=12))
def test_any_text_has_an_answer_that_is_a_value_or_itself(raw: str) -> None:
    found = COLOURS.normal(raw)
    assert found.value in COLOURS.counts or (found.value == raw and found.how == "raw")
    assert 0 <= found.sure <= 1
    assert COLOURS.normal(raw) == found


def test_a_shop_teaches_the_words_of_its_own_catalogue(guide: Guide) -> None:
    made = fit_vocabularies(guide.artifact)
    assert list(made) == list(guide.artifact.transform.attributes)
    catalogue = guide.artifact.store.catalogue
    columns = [name for name in made if name in catalogue.column_names]
    assert columns
    for name in columns:
        column = {value for value in catalogue[name].to_pylist() if value}
        assert made[name].counts.keys() == column
    # An attribute without a column is known from the gold of training titles.
    assert made.keys() - set(columns)
    assert all(made[name].counts for name in made)


def test_a_product_with_a_list_of_values_counts_for_each_of_them() -> None:
    titles = pa.array(["red and blue", "plain", "red"])
    lists = pa.chunked_array([[["Red", "Blue"], None], [["Red", None]]])
    read, known = each_value(titles, lists)
    assert read.to_pylist() == ["red and blue", "red and blue", "red", "red"]
    assert known.to_pylist() == ["Red", "Blue", "Red", None]
    pairs = pa.chunked_array([pa.array([["Red", "Blue"]] * 3, pa.list_(pa.string(), 2))])
    assert each_value(titles, pairs)[1].to_pylist() == ["Red", "Blue"] * 3
    parts = pa.chunked_array([[{"name": "Red"}, {"name": "Blue"}, None]])
    assert [each.to_pylist() for each in each_value(titles, parts)] == [[], []]
    assert each_value(titles, pa.chunked_array([[1, None, 2]]))[1].to_pylist() == ["1", None, "2"]
