"""Numbers worked by hand, laws, and a lesson for `daogou.metrics.calibration`."""

import math
from random import Random
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from daogou.errors import DataError
from daogou.metrics.calibration import (
    bias_corrected_calibration_error,
    calibration_error,
    predicted_over_observed,
    reliability,
)

Table: TypeAlias = list[tuple[int, ...]]
Column: TypeAlias = NDArray[Any]

ROW = st.tuples(st.integers(0, 8), st.integers(0, 1), st.integers(0, 3))
TABLE = st.lists(ROW, min_size=1, max_size=40)


def columns(table: Table) -> tuple[Column, ...]:
    p, labels, weights = (np.array(column) for column in zip(*table, strict=True))
    return p / 8, labels, weights


def test_calibration_error_is_the_mean_gap_of_equal_bins() -> None:
    # Bins {0.1, 0.3} and {0.6, 0.8}: said 0.2 and 0.7, came 0.5 and 1. (0.3 + 0.3) / 2.
    assert calibration_error([0.1, 0.3, 0.6, 0.8], [0, 1, 1, 1], bins=2) == pytest.approx(0.3)


def test_bins_have_equal_weight_not_equal_width() -> None:
    # By width all four would share the lowest of two bins.
    plot = reliability([0.01, 0.02, 0.03, 0.04], [0, 0, 1, 1], bins=2)
    np.testing.assert_allclose(plot.predicted, [0.015, 0.035])
    np.testing.assert_allclose(plot.observed, [0, 1])
    np.testing.assert_allclose(plot.weight, [2, 2])


def test_rows_of_one_probability_share_a_bin() -> None:
    plot = reliability([0.25] * 8, [1, 0, 0, 0, 1, 0, 0, 0], bins=4)
    assert plot.predicted.tolist() == [0.25]
    assert calibration_error([0.25] * 8, [1, 0, 0, 0, 1, 0, 0, 0], bins=4) == 0.0


def test_the_noise_of_a_bin_is_that_of_coin_tosses() -> None:
    # 100 tosses at 0.2: sqrt(2 / pi * 100 * 0.16) / 100.
    plot = reliability([0.2] * 100, [0] * 100)
    assert plot.noise[0] == pytest.approx(math.sqrt(2 / math.pi * 16) / 100)
    # One toss at 0.001: E|y - p| = 2 p (1 - p) exactly, where the normal law says 0.025.
    assert reliability([0.001], [0]).noise[0] == pytest.approx(2 * 0.001 * 0.999)


def test_the_corrected_error_of_a_calibrated_model_is_about_nothing() -> None:
    # A lesson: 2000 honest rows show an error of about 3 %, all of it luck.
    plain, corrected = [], []
    for seed in range(40):
        random = np.random.default_rng(seed)
        p = random.uniform(0.05, 0.6, 2000)
        labels = random.random(2000) < p
        plain.append(calibration_error(p, labels))
        corrected.append(bias_corrected_calibration_error(p, labels))
    assert np.mean(plain) > 0.025
    assert np.mean(corrected) < 0.004


def test_the_corrected_error_still_sees_a_model_that_says_double() -> None:
    random = np.random.default_rng(0)
    p = random.uniform(0.05, 0.45, 20_000)
    labels = random.random(20_000) < p
    assert bias_corrected_calibration_error(2 * p, labels) == pytest.approx(0.25, abs=0.01)


@given(TABLE, st.integers(1, 6), st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_repeating_them_for_weight_matters(
    table: Table, bins: int, random: Random
) -> None:
    p, labels, weights = columns(table)
    mixed = list(table)
    random.shuffle(mixed)
    q, marks, masses = columns(mixed)
    whole = calibration_error(p, labels, weights, bins)
    assert whole == pytest.approx(calibration_error(q, marks, masses, bins), nan_ok=True)
    repeated = calibration_error(np.repeat(p, weights), np.repeat(labels, weights), bins=bins)
    assert whole == pytest.approx(repeated, nan_ok=True)


@given(TABLE, st.integers(1, 6))
def test_bins_together_are_the_rows(table: Table, bins: int) -> None:
    p, labels, weights = columns(table)
    plot = reliability(p, labels, weights, bins)
    assert len(plot.weight) <= bins
    assert plot.weight.sum() == pytest.approx(weights.sum())
    assert (plot.weight * plot.predicted).sum() == pytest.approx((weights * p).sum())
    assert (plot.weight * plot.observed).sum() == pytest.approx((weights * labels).sum())
    assert (np.diff(plot.predicted) > 0).all()


def test_predicted_over_observed_is_how_much_too_much_was_said() -> None:
    # Said 0.5 * 3 + 0.2 * 1 = 1.7, came 3.
    assert predicted_over_observed([0.5, 0.2], [1, 0], [3, 1]) == pytest.approx(1.7 / 3)
    assert math.isnan(predicted_over_observed([0.5, 0.2], [0, 0]))


def test_without_rows_or_weight_nothing_is_known() -> None:
    assert math.isnan(calibration_error([], []))
    assert math.isnan(calibration_error([0.5], [1], [0]))
    assert math.isnan(bias_corrected_calibration_error([0.5], [1], [0]))


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(DataError, match="bins: 0; at least one"):
        reliability([0.5], [1], bins=0)
    with pytest.raises(DataError, match=r"p: found -2\.0; .* is this a logit"):
        calibration_error([-2.0], [1])
