"""Numbers worked by hand, laws, and lessons for `daogou.metrics.binary`."""

import math
import time
from collections.abc import Callable
from random import Random
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as oracle

from daogou.errors import DataError
from daogou.metrics.binary import (
    accuracy,
    auc,
    average_precision,
    gauc,
    log_loss,
    macro_auc,
    macro_f1,
    mean_of,
    normalised_entropy,
)

Table: TypeAlias = list[tuple[int, ...]]
Column: TypeAlias = NDArray[Any]

# Score, label, weight, group of a row; few distinct scores, so that ties are common.
ROW = st.tuples(st.integers(-3, 3), st.integers(0, 1), st.integers(0, 4), st.integers(0, 3))
TABLE = st.lists(ROW, min_size=1, max_size=40)


def columns(table: Table) -> tuple[Column, ...]:
    return tuple(np.array(column) for column in zip(*table, strict=True))


def has_both(labels: Column, weights: Column) -> bool:
    return len({label for label, weight in zip(labels, weights, strict=True) if weight}) == 2


def slow_auc(scores: Column, labels: Column, weights: Column) -> float:
    """The definition, pair by pair."""
    won = total = 0.0
    for s, y, w in zip(scores, labels, weights, strict=True):
        for t, z, v in zip(scores, labels, weights, strict=True):
            if y == 1 and z == 0:
                won += w * v * ((s > t) + (s == t) / 2)
                total += w * v
    return won / total if total else math.nan


def test_auc_counts_pairs_and_halves_ties() -> None:
    # Positives 3 and 2, negatives 2 and 1: 3>2, 3>1, 2=2, 2>1 is 3.5 of 4.
    assert auc([3, 2, 2, 1], [1, 1, 0, 0]) == 3.5 / 4


def test_auc_weighs_pairs_by_the_product_of_their_weights() -> None:
    # Pairs won: weight 2 * 1. Lost: 2 * 3. Together 8.
    assert auc([0.5, 0.1, 0.9], [1, 0, 0], [2, 1, 3]) == 2 / 8


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_auc_without_one_of_the_classes_is_not_a_half(labels: list[int]) -> None:
    assert math.isnan(auc([0.1, 0.2], labels))


def test_auc_of_a_class_without_weight_is_undefined() -> None:
    assert math.isnan(auc([0.1, 0.2], [0, 1], [1, 0]))
    assert math.isnan(auc([], []))


def test_auc_takes_infinite_scores() -> None:
    assert auc([-np.inf, np.inf, np.inf], [0, 1, 0]) == 0.75


@given(TABLE)
def test_auc_is_its_definition(table: Table) -> None:
    scores, labels, weights, _ = columns(table)
    assert auc(scores, labels, weights) == pytest.approx(
        slow_auc(scores, labels, weights), nan_ok=True
    )


@given(TABLE)
def test_auc_equals_scikit_learn(table: Table) -> None:
    scores, labels, weights, _ = columns(table)
    if has_both(labels, weights):
        assert auc(scores, labels, weights) == pytest.approx(
            oracle.roc_auc_score(labels, scores, sample_weight=weights)
        )


@given(TABLE)
def test_auc_sees_only_the_order_of_scores(table: Table) -> None:
    scores, labels, weights, _ = columns(table)
    plain = auc(scores, labels, weights)
    assert auc(np.exp(scores), labels, weights) == pytest.approx(plain, nan_ok=True)
    assert auc(scores**3 * 7 - 2, labels, weights) == pytest.approx(plain, nan_ok=True)


@given(TABLE)
def test_auc_of_negated_scores_is_the_rest(table: Table) -> None:
    scores, labels, weights, _ = columns(table)
    assert auc(-scores, labels, weights) == pytest.approx(
        1 - auc(scores, labels, weights), nan_ok=True
    )


@given(TABLE)
def test_whole_weights_are_repeated_rows(table: Table) -> None:
    scores, labels, weights, groups = columns(table)
    s, y, g = (np.repeat(column, weights) for column in (scores, labels, groups))
    assert auc(scores, labels, weights) == pytest.approx(auc(s, y), nan_ok=True)
    assert average_precision(scores, labels, weights) == pytest.approx(
        average_precision(s, y), nan_ok=True
    )
    p = (scores + 4) / 8
    assert log_loss(p, labels, weights) == pytest.approx(log_loss((s + 4) / 8, y), nan_ok=True)
    assert gauc(scores, labels, groups, weights).value == pytest.approx(
        gauc(s, y, g).value, nan_ok=True
    )


def test_tasks_pooled_into_one_auc_make_skill_out_of_noise() -> None:
    # A lesson: two tasks of pure noise, base rates 60 % and 5 %, scored by their base rate.
    random = np.random.default_rng(0)
    task = np.repeat([0, 1], 20_000)
    rate = np.where(task == 0, 0.60, 0.05)
    labels = random.random(40_000) < rate
    scores = rate + random.normal(0, 0.01, 40_000)
    assert auc(scores, labels) > 0.8
    for one in (0, 1):
        assert auc(scores[task == one], labels[task == one]) == pytest.approx(0.5, abs=0.03)
    assert gauc(scores, labels, task).value == pytest.approx(0.5, abs=0.02)


def test_an_auc_by_200_thresholds_loses_the_order_of_rare_labels() -> None:
    # A lesson: of rare labels all probabilities lie below the first of 200 even thresholds.
    random = np.random.default_rng(1)
    p = random.beta(0.5, 500, 200_000)
    labels = random.random(len(p)) < p
    thresholds = np.linspace(0, 1, 200)
    binned = auc(np.searchsorted(thresholds, p), labels)
    exact = auc(p, labels)
    assert exact == pytest.approx(oracle.roc_auc_score(labels, p), abs=1e-12)
    assert exact > 0.75 and binned < exact - 0.1


def test_gauc_weighs_groups_by_their_rows_and_skips_users_of_one_class() -> None:
    # ann: 1 of 1 pairs, 2 rows. bo: 1 of 2 pairs, 3 rows. cy only clicks, di never does.
    groups = ["ann", "ann", "bo", "bo", "bo", "cy", "di"]
    labels = [1, 0, 1, 0, 0, 1, 0]
    scores = [0.9, 0.1, 0.5, 0.2, 0.8, 0.1, 0.9]
    result = gauc(scores, labels, groups)
    assert result.value == pytest.approx((1.0 * 2 + 0.5 * 3) / 5)
    assert (result.n_groups_used, result.n_groups_skipped, result.weight) == (2, 2, 5.0)


def test_gauc_of_one_class_users_alone_is_undefined_and_counts_them() -> None:
    result = gauc([0.1, 0.2, 0.3], [1, 0, 0], [1, 2, 2])
    assert math.isnan(result.value)
    assert (result.n_groups_used, result.n_groups_skipped, result.weight) == (0, 2, 0.0)
    assert math.isnan(gauc([], [], []).value)


def test_gauc_does_not_see_how_users_differ() -> None:
    # The same shift for all of a user's rows moves the AUC and leaves the GAUC.
    scores, labels, groups = np.array([1, 2, 3, 4]), [0, 1, 0, 1], np.array([0, 0, 1, 1])
    assert gauc(scores - 10 * groups, labels, groups) == gauc(scores, labels, groups)


@given(TABLE)
def test_gauc_is_the_mean_of_each_groups_auc(table: Table) -> None:
    scores, labels, weights, groups = columns(table)
    areas, sizes, skipped = [], [], 0
    for group in np.unique(groups):
        own = groups == group
        area = auc(scores[own], labels[own], weights[own])
        if math.isnan(area):
            skipped += 1
        else:
            areas.append(area)
            sizes.append(weights[own].sum())
    result = gauc(scores, labels, groups, weights)
    assert (result.n_groups_used, result.n_groups_skipped) == (len(areas), skipped)
    expected = np.average(areas, weights=sizes) if areas else math.nan
    assert result.value == pytest.approx(expected, nan_ok=True)


def test_gauc_of_many_users_is_quick() -> None:
    random = np.random.default_rng(0)
    n = 300_000
    scores, labels = random.random(n), random.random(n) < 0.1
    groups = random.integers(0, 15_000, n)
    start = time.perf_counter()
    gauc(scores, labels, groups)
    assert time.perf_counter() - start < 2.0  # a mask per user takes longer


def test_log_loss_is_in_nats() -> None:
    # (-log 0.8 - log 0.7) / 2
    assert log_loss([0.8, 0.3], [1, 0]) == pytest.approx(-(math.log(0.8) + math.log(0.7)) / 2)
    assert log_loss([0.8, 0.3], [1, 0], [3, 1]) == pytest.approx(
        -(3 * math.log(0.8) + math.log(0.7)) / 4
    )


def test_a_certain_and_wrong_probability_costs_a_finite_loss() -> None:
    assert log_loss([0.0], [1]) == pytest.approx(-math.log(1e-7))
    assert log_loss([1.0], [0]) == pytest.approx(-math.log(1e-7))


@given(TABLE)
def test_log_loss_equals_scikit_learn(table: Table) -> None:
    scores, labels, weights, _ = columns(table)
    if weights.sum():
        p = (scores + 4) / 8
        expected = oracle.log_loss(labels, p, sample_weight=weights, labels=[0, 1])
        assert log_loss(p, labels, weights) == pytest.approx(expected)


def test_normalised_entropy_of_the_base_rate_is_one_and_of_skill_is_less() -> None:
    labels = [1, 0, 0, 0]
    assert normalised_entropy([0.25] * 4, labels) == pytest.approx(1.0)
    # Base rate: 0.5623 nats; said: (-log 0.7 - 3 log 0.9) / 4 = 0.1682.
    assert normalised_entropy([0.7, 0.1, 0.1, 0.1], labels) == pytest.approx(0.2991, abs=1e-4)
    assert math.isnan(normalised_entropy([0.2, 0.3], [1, 1]))


@given(TABLE)
def test_average_precision_equals_scikit_learn(table: Table) -> None:
    scores, labels, weights, _ = columns(table)
    if (labels * weights).sum():
        expected = oracle.average_precision_score(labels, scores, sample_weight=weights)
        assert average_precision(scores, labels, weights) == pytest.approx(expected)
    else:
        assert math.isnan(average_precision(scores, labels, weights))


def test_average_precision_of_a_constant_is_the_base_rate() -> None:
    assert average_precision([1, 1, 1, 1], [0, 1, 0, 0]) == 0.25


def test_macro_f1_leaves_out_classes_that_are_not_there() -> None:
    # Class 0: 2 * 1 / (2 + 1). Class 1: 2 * 1 / (1 + 2). Class 2 is never asked for.
    assert macro_f1([0, 1, 1], [0, 0, 1], 3) == pytest.approx(2 / 3)
    # Saying class 2 once does not bring it into the mean; it costs class 1 its only row.
    assert macro_f1([0, 0, 2], [0, 0, 1], 3) == pytest.approx(1 / 2)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_macro_f1_equals_scikit_learn_over_the_classes_present(pairs: Table) -> None:
    predicted, actual = columns(pairs)
    present = np.unique(actual)
    expected = oracle.f1_score(
        actual, predicted, labels=present, average="macro", zero_division=0.0
    )
    assert macro_f1(predicted, actual, 4) == pytest.approx(expected)


def test_macro_auc_is_the_mean_of_one_against_the_rest() -> None:
    p = np.array([[0.6, 0.4, 0.0], [0.5, 0.2, 0.3], [0.7, 0.3, 0.0], [0.1, 0.8, 0.1]])
    actual = [0, 0, 1, 1]
    # Class 0: 0.6 and 0.5 against 0.7 and 0.1 is 2 of 4. Class 1: 0.3, 0.8 against 0.4, 0.2: 3.
    assert macro_auc(p, actual) == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert math.isnan(macro_auc(p[:2], [0, 0]))


def test_accuracy_and_mean_take_weights_and_know_nothing_of_nothing() -> None:
    assert accuracy([1, 0], [1, 1], [3, 1]) == 0.75
    assert math.isnan(accuracy([1], [1], [0]))
    assert mean_of([1.0, math.nan, 4.0], [2, 5, 1]) == 2.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auc([0.1, 0.2], [1]), r"scores \[2\] and labels \[1\]; give one of each per row"),
        (lambda: auc([0.1, np.nan], [1, 0]), "scores: 1 of 2 are NaN"),
        (lambda: auc([0.1, 0.2], [1, -1]), "labels: found -1 in 1 of 2 rows; .* label is missing"),
        (lambda: auc([0.1, 0.2], [1.0, np.nan]), "labels: found nan in 1 of 2"),
        (lambda: auc([0.1, 0.2], np.ma.masked_equal([1, 0], 0)), "labels: some are masked"),
        (lambda: auc([0.1, 0.2], [1, None]), "labels: found None in 1 of 2"),
        (lambda: auc([0.1, 0.2], [1, 0], [1]), r"weights: shape \[1\] for 2 rows"),
        (lambda: auc([0.1, 0.2], [1, 0], [1, -2]), "weights: found -2.0"),
        (lambda: auc([0.1, 0.2], [1, 0], [1, np.inf]), "weights: found inf"),
        (lambda: log_loss([1.2, 0.2], [1, 0]), "p: found 1.2; a probability is 0 to 1"),
        (lambda: gauc([0.1, 0.2], [1, 0], ["a"]), r"groups: shape \[1\] for 2 rows"),
        (lambda: gauc([0.1, 0.2], [1, 0], np.array(["a", None])), "groups: .*without nulls"),
        (lambda: macro_f1([0, 3], [0, 1], 3), "predicted: found 3; a class is 0 to 2"),
        (lambda: macro_f1([0, 1], [0, -1], 3), "actual: found -1"),
        (lambda: macro_auc([0.1, 0.2], [0, 1]), r"probabilities: shape \[2\]; give"),
    ],
)
def test_wrong_rows_are_refused_with_what_was_found(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        call()


@settings(max_examples=30)
@given(TABLE, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(table: Table, random: Random) -> None:
    mixed = list(table)
    random.shuffle(mixed)
    for metric in (auc, average_precision):
        one, other = (metric(*columns(each)[:3]) for each in (table, mixed))
        assert one == pytest.approx(other, nan_ok=True)
