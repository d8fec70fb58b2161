"""Amounts by hand, and what no order of rows and no currency may change."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daogou.errors import DataError
from daogou.metrics import log_error, mean_absolute_error, normalised_gini, value_ratio

PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=12)


def test_errors_by_hand_with_weights() -> None:
    # |2 - 1| once and |5 - 9| thrice: 13 / 4.
    assert mean_absolute_error([2, 5], [1, 9], [1, 3]) == 3.25
    # ln 2 once and ln 4 thrice, squared: (1 + 12) ln(2)^2 / 4.
    assert log_error([2, 4, 7], [1, 1, 0], [1, 3, 5]) == pytest.approx(
        math.log(2) * math.sqrt(13 / 4)
    )
    assert value_ratio([2, 5], [1, 3], [1, 3]) == 1.7


def test_the_gini_by_hand() -> None:
    # In the best order 3, 1, 0 the value's curve passes 0, 3/4, 1, 1: its area is (3/8 + 7/8 + 1)
    # / 3 = 3/4, a Gini of 1/2. In the order 1, 3, 0 it passes 0, 1/4, 1, 1: (1/8 + 5/8 + 1) / 3 =
    # 7/12, a Gini of 1/6.
    assert normalised_gini([5, 9, 1], [3, 1, 0]) == pytest.approx(1 / 3)
    assert normalised_gini([9, 5, 1], [3, 1, 0], [2, 2, 2]) == pytest.approx(1.0)


@given(PAIRS, st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_units_change_the_gini(
    pairs: list[tuple[int, int]], random: np.random.Generator
) -> None:
    said, actual = (np.array(each, dtype=float) for each in zip(*pairs, strict=True))
    found = normalised_gini(said, actual)
    order = sorted(range(len(pairs)), key=lambda _: random.random())
    assert normalised_gini(said[order] * 3, actual[order] * 0.5) == pytest.approx(
        found, nan_ok=True
    )
    assert math.isnan(found) or -1 - 1e-9 <= found <= 1 + 1e-9


@given(PAIRS)
def test_a_weight_of_two_is_the_row_twice(pairs: list[tuple[int, int]]) -> None:
    said, actual = (np.array(each, dtype=float) for each in zip(*pairs, strict=True))
    weights = np.array([1.0, 2.0] * len(pairs))[: len(pairs)]
    twice = np.repeat(np.arange(len(pairs)), weights.astype(int))
    for metric in (mean_absolute_error, log_error, normalised_gini, value_ratio):
        assert metric(said, actual, weights) == pytest.approx(
            metric(said[twice], actual[twice]), nan_ok=True
        )


def test_nothing_to_measure_is_nan() -> None:
    for metric in (mean_absolute_error, log_error, normalised_gini, value_ratio):
        assert math.isnan(metric([], []))
    assert math.isnan(normalised_gini([1, 2], [0, 0]))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match=r"predicted: shape \[2\], and actual has \[1\]"):
        mean_absolute_error([1, 2], [1])
    with pytest.raises(DataError, match="found NaN or infinity"):
        log_error([1.0], [math.nan])
    with pytest.raises(DataError, match="a value below 0"):
        normalised_gini([1, 2], [-1, 2])
