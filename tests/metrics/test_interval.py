"""Laws and coverage of `daogou.metrics.interval`."""

import math
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from daogou.errors import DataError
from daogou.metrics.binary import auc, mean_of
from daogou.metrics.interval import (
    auc_interval,
    auc_replicates,
    bootstrap,
    paired_difference,
    percentiles,
    replicates,
    standard_error,
)

Column: TypeAlias = NDArray[Any]


def made_rows(seed: int, n: int = 400, n_groups: int = 60) -> tuple[Column, Column, Column, Column]:
    random = np.random.default_rng(seed)
    groups = random.integers(0, n_groups, n)
    p = 1 / (1 + np.exp(-random.normal(-1, 1, n)))
    return p, random.random(n) < p, groups, random.integers(1, 4, n).astype(float)


def test_the_fast_path_gives_the_same_draws_and_numbers_as_the_plain_one() -> None:
    p, labels, groups, weights = made_rows(0)
    plain = replicates(lambda w: auc(p, labels, weights * w), groups, n=30, seed=5)
    fast = auc_replicates(p, labels, groups, weights, n=30, seed=5)
    np.testing.assert_allclose(fast, plain, rtol=1e-12)
    assert auc_interval(p, labels, groups, weights, n=30, seed=5) == pytest.approx(
        bootstrap(lambda w: auc(p, labels, weights * w), groups, n=30, seed=5)
    )


def test_whole_groups_are_drawn_and_their_number_stays() -> None:
    groups = np.array(["ann", "bo", "ann", "cy"])
    seen = []
    replicates(lambda w: seen.append(w.copy()) or 0.0, groups, n=50, seed=0)
    for w in seen:
        assert w[0] == w[2]  # both of ann's rows, as often as ann
        assert w[0] + w[1] + w[3] == 3
    assert len({tuple(w) for w in seen}) > 5


def test_a_seed_names_its_draws() -> None:
    p, labels, groups, _ = made_rows(1)
    one, same, other = (auc_interval(p, labels, groups, n=20, seed=seed) for seed in (3, 3, 4))
    assert one == same != other


def test_the_interval_of_a_mean_covers_it_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(150):
        user = random.normal(0, 1, 40)  # rows of one user share a draw: 40 facts, not 200
        values, groups = np.repeat(user, 5), np.repeat(np.arange(40), 5)
        low, high = bootstrap(lambda w, v=values: mean_of(v, w), groups, n=100, seed=seed)
        covered += low <= 0.0 <= high
    assert 0.88 <= covered / 150 <= 0.98


def test_drawing_rows_instead_of_users_would_be_too_sure_of_itself() -> None:
    random = np.random.default_rng(0)
    values, groups = np.repeat(random.normal(0, 1, 40), 5), np.repeat(np.arange(40), 5)
    by_user = replicates(lambda w: mean_of(values, w), groups, n=200, seed=0)
    by_row = replicates(lambda w: mean_of(values, w), np.arange(200), n=200, seed=0)
    # Five equal rows per user: the error is sqrt(5) = 2.2 times as large as rows suggest.
    assert standard_error(by_user) / standard_error(by_row) == pytest.approx(2.2, abs=0.5)


def test_the_standard_error_of_an_auc_is_near_the_formula_of_hanley_and_mcneil() -> None:
    p, labels, _, _ = made_rows(2, n=2000)
    area, up, down = auc(p, labels), labels.sum(), (~labels).sum()
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (up - 1) * (q1 - area**2) + (down - 1) * (q2 - area**2)
    found = standard_error(auc_replicates(p, labels, np.arange(2000), n=200))
    assert found == pytest.approx(math.sqrt(variance / (up * down)), rel=0.2)


def test_a_paired_difference_sees_what_two_intervals_cannot() -> None:
    p, labels, groups, _ = made_rows(3, n=3000, n_groups=500)
    worse = p + np.random.default_rng(0).normal(0, 0.08, len(p))
    found = paired_difference(p, worse, labels, groups, n=100)
    assert found.value == pytest.approx(auc(p, labels) - auc(worse, labels))
    assert 0 < found.low < found.value < found.high
    assert auc_interval(p, labels, groups)[0] < auc_interval(worse, labels, groups)[1]


def test_a_score_does_not_differ_from_itself() -> None:
    p, labels, groups, weights = made_rows(4)
    found = paired_difference(p, np.exp(p), labels, groups, weights, n=20)
    assert (found.value, found.low, found.high, found.se) == (0, 0, 0, 0)


def test_swapping_the_scores_flips_the_difference() -> None:
    p, labels, groups, weights = made_rows(5)
    q = np.random.default_rng(1).random(len(p))
    one = paired_difference(p, q, labels, groups, weights, n=40)
    other = paired_difference(q, p, labels, groups, weights, n=40)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert one.se == pytest.approx(other.se)


def test_undefined_draws_are_left_out_until_they_are_the_most() -> None:
    assert percentiles([math.nan, 2.0, 2.0]) == (2.0, 2.0)
    assert percentiles([math.nan, 2.0]) == (2.0, 2.0)
    assert all(math.isnan(end) for end in percentiles([math.nan, math.nan, 2.0]))
    assert math.isnan(standard_error([math.nan, math.nan, 2.0]))
    assert standard_error([math.nan, 1.0, 3.0]) == pytest.approx(math.sqrt(2))


def test_no_interval_comes_from_one_user_or_none() -> None:
    assert all(math.isnan(end) for end in auc_interval([0.1, 0.9], [0, 1], [7, 7]))
    assert all(math.isnan(end) for end in auc_interval([], [], []))


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(DataError, match="n: 1 draws; at least two"):
        auc_interval([0.1, 0.9], [0, 1], [1, 2], n=1)
    with pytest.raises(DataError, match=r"groups: shape \[1\] for 2 rows"):
        auc_interval([0.1, 0.9], [0, 1], [1])
