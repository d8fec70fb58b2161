"""Numbers worked by hand and laws of `daogou.metrics.tagging`."""

import math
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daogou.errors import DataError
from daogou.metrics.interval import bootstrap
from daogou.metrics.tagging import Span, f1_of, pool, span_f1, value_f1

Texts: TypeAlias = list[tuple[list[Span], list[Span]]]

SPAN = st.tuples(st.integers(0, 2), st.integers(3, 5), st.sampled_from(["brand", "size"]))
TEXTS = st.lists(st.tuples(st.lists(SPAN, max_size=4), st.lists(SPAN, max_size=4)), max_size=6)


def test_a_span_is_right_only_if_its_ends_and_attribute_are() -> None:
    gold = [[(0, 4, "brand"), (5, 9, "type"), (10, 12, "size")]]
    said = [[(0, 4, "brand"), (5, 8, "type"), (10, 12, "type")]]
    found = span_f1(said, gold)
    assert (found.correct, found.predicted, found.gold) == (1, 3, 3)
    assert found.f1 == found.precision == found.recall == pytest.approx(1 / 3)
    assert found.by_attribute["brand"].f1 == 1.0
    assert found.by_attribute["type"].f1 == 0.0
    assert found.by_attribute["type"].predicted == 2
    assert found.by_attribute["size"].recall == 0.0
    assert math.isnan(found.by_attribute["size"].precision)


def test_f1_is_micro_over_all_texts() -> None:
    # 1 correct of 1 said of 1; 1 correct of 3 said of 1: 2 * 2 / (4 + 2), not (1 + 0.5) / 2.
    said = [[(0, 1, "a")], [(0, 1, "a"), (1, 2, "a"), (2, 3, "a")]]
    assert span_f1(said, [[(0, 1, "a")], [(0, 1, "a")]]).f1 == pytest.approx(4 / 6)


def test_only_annotated_attributes_are_judged() -> None:
    gold = [[(0, 4, "brand")], [(0, 4, "brand")], [(0, 4, "brand")]]
    said = [[(0, 4, "brand"), (5, 9, "type")], [(5, 9, "type")], [(0, 3, "brand")]]
    found = span_f1(said, gold, annotated=[["brand"], ["brand", "type"], None])
    # Text 1: type unjudged, 1 of 1. Text 2: type wrong, brand missed. Text 3: not annotated.
    assert (found.correct, found.predicted, found.gold) == (1, 2, 2)
    assert found.by_text.tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 0]]


def test_an_empty_annotation_says_that_nothing_was_labelled() -> None:
    assert math.isnan(span_f1([[(0, 1, "a")]], [[(0, 1, "a")]], annotated=[[]]).f1)


def test_values_count_once_per_text_wherever_they_stand() -> None:
    text = "ACME red boot ACME"
    gold = [[(0, 4, "brand"), (5, 8, "colour")]]
    said = [[(14, 18, "brand"), (0, 4, "brand"), (5, 13, "colour")]]
    found = value_f1(said, gold, [text])
    assert (found.correct, found.predicted, found.gold) == (1, 2, 2)
    assert span_f1(said, gold).predicted == 3


def test_the_same_value_in_two_texts_is_two() -> None:
    assert value_f1([[(0, 1, "a")]] * 2, [[(0, 1, "a")]] * 2, ["x", "x"]).correct == 2


def test_values_are_in_code_points_and_trimmed() -> None:
    text = "👟 李宁 跑鞋"
    assert value_f1([[(2, 5, "brand")]], [[(2, 4, "brand")]], [text]).f1 == 1.0
    assert value_f1([[(0, 1, "a")]], [[(1, 2, "a")]], ["Xx"]).f1 == 0.0
    assert value_f1([[(0, 1, "a")]], [[(1, 2, "a")]], ["Xx"], normal=str.lower).f1 == 1.0


def test_nothing_to_find_is_undefined_and_nothing_said_is_not() -> None:
    nothing_to_find = span_f1([[(0, 1, "a")]], [[]])
    assert math.isnan(nothing_to_find.f1) and nothing_to_find.precision == 0.0
    nothing_said = span_f1([[]], [[(0, 1, "a")]])
    assert nothing_said.f1 == 0.0 and math.isnan(nothing_said.precision)
    assert math.isnan(span_f1([], []).f1)


@given(TEXTS, st.integers(0, 6))
def test_pooled_folds_are_the_whole(texts: Texts, cut: int) -> None:
    said, gold = [spans for spans, _ in texts], [spans for _, spans in texts]
    whole = span_f1(said, gold)
    pooled = pool([span_f1(said[:cut], gold[:cut]), span_f1(said[cut:], gold[cut:])])
    assert pooled == whole
    np.testing.assert_array_equal(pooled.by_text, whole.by_text)


@given(TEXTS)
def test_swapping_said_and_gold_swaps_precision_and_recall(texts: Texts) -> None:
    said, gold = [spans for spans, _ in texts], [spans for _, spans in texts]
    one, other = span_f1(said, gold), span_f1(gold, said)
    assert one.precision == pytest.approx(other.recall, nan_ok=True)
    if one.gold and other.gold:
        assert one.f1 == other.f1


@given(TEXTS)
def test_attributes_and_texts_add_up_to_the_whole(texts: Texts) -> None:
    found = span_f1([spans for spans, _ in texts], [spans for _, spans in texts])
    for name in ("correct", "predicted", "gold"):
        parts = sum(getattr(counts, name) for counts in found.by_attribute.values())
        assert parts == getattr(found, name)
    assert found.by_text.sum(axis=0).tolist() == [found.correct, found.predicted, found.gold]
    assert f1_of(found.by_text) == pytest.approx(found.f1, nan_ok=True)


def test_the_counts_of_texts_give_an_interval() -> None:
    random = np.random.default_rng(0)
    gold = [[(0, 3, "brand"), (4, 6, "size")]] * 100
    said = [[(0, 3, "brand")] if random.random() < 0.7 else [(0, 2, "brand")] for _ in gold]
    found = span_f1(said, gold)
    low, high = bootstrap(lambda w: f1_of(found.by_text, w), np.arange(100), seed=0)
    assert low < found.f1 < high and high - low < 0.2


def test_wrong_texts_are_refused() -> None:
    with pytest.raises(DataError, match="texts: 1 predicted, 2 gold; give one of each"):
        span_f1([[]], [[], []])
    with pytest.raises(DataError, match="texts: 1 predicted, 2 annotated"):
        span_f1([[]], [[]], annotated=[None, None])
    with pytest.raises(DataError, match=r"text 0: span \(0, 9, 'a'\) lies outside its 2"):
        value_f1([[(0, 9, "a")]], [[]], ["ab"])
    with pytest.raises(DataError, match=r"text 0: span \(1, 1, 'a'\)"):
        value_f1([[]], [[(1, 1, "a")]], ["ab"])
