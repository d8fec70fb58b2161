"""Numbers worked by hand, laws and false alarms of `daogou.metrics.ceiling`."""

import math
from random import Random
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr

from daogou.errors import DataError
from daogou.metrics.binary import auc
from daogou.metrics.ceiling import ceiling_auc, expected_auc, gap_closed, leak_alarm, spearman

Table: TypeAlias = list[tuple[int, ...]]
Column: TypeAlias = NDArray[Any]

EIGHTHS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), min_size=1, max_size=25)


def slow_ceiling(p: Column, w: Column) -> float:
    """The definition, pair by pair."""
    won = sum(
        w[i] * w[j] * p[i] * (1 - p[j]) * ((p[i] > p[j]) + (p[i] == p[j]) / 2)
        for i in range(len(p))
        for j in range(len(p))
    )
    pairs = (w * p).sum() * (w * (1 - p)).sum()
    return won / pairs if pairs > 0 else math.nan


def test_the_ceiling_of_two_chances() -> None:
    # Won 0.9 * 0.5; tied (0.9 * 0.1 + 0.5 * 0.5) / 2; of 1.4 * 0.6 pairs.
    assert ceiling_auc([0.9, 0.5]) == pytest.approx((0.45 + 0.17) / 0.84)


def test_certain_chances_can_be_ranked_perfectly_and_equal_ones_not_at_all() -> None:
    assert ceiling_auc([0, 1, 0, 1]) == 1.0
    assert ceiling_auc([0.02] * 50) == pytest.approx(0.5)
    assert math.isnan(ceiling_auc([1.0, 1.0]))
    assert math.isnan(ceiling_auc([]))


@given(EIGHTHS)
def test_the_ceiling_is_its_definition(rows: Table) -> None:
    p, w = np.array([eighths for eighths, _ in rows]) / 8, np.array([w for _, w in rows])
    assert ceiling_auc(p, w) == pytest.approx(slow_ceiling(p, w), nan_ok=True)


@given(EIGHTHS, st.randoms(use_true_random=False))
def test_no_score_is_expected_above_the_ceiling(rows: Table, random: Random) -> None:
    p = np.array([eighths for eighths, _ in rows]) / 8
    scores = [random.randint(0, 5) for _ in rows]
    ceiling = ceiling_auc(p)
    if not math.isnan(ceiling):
        assert expected_auc(scores, p) <= ceiling + 1e-12


def test_the_ceiling_is_the_mean_auc_of_drawn_labels() -> None:
    random = np.random.default_rng(0)
    p = random.beta(1, 9, 3000)
    other = p + random.normal(0, 0.1, 3000)
    draws = [random.random(3000) < p for _ in range(200)]
    assert np.mean([auc(p, y) for y in draws]) == pytest.approx(ceiling_auc(p), abs=0.003)
    assert np.mean([auc(other, y) for y in draws]) == pytest.approx(
        expected_auc(other, p), abs=0.003
    )


def made_rows(seed: int, n: int = 4000) -> tuple[np.random.Generator, Column, Column, Column]:
    random = np.random.default_rng(seed)
    p = random.beta(1, 6, n)
    return random, p, random.random(n) < p, random.integers(0, 400, n)


def test_the_alarm_fires_for_a_model_that_saw_the_labels() -> None:
    _, p, labels, groups = made_rows(0)
    peeking = p + 0.1 * labels
    found = leak_alarm(peeking, p, labels, groups)
    assert found.fires and found.difference > 2 * found.se > 0


def test_the_alarm_is_silent_for_a_model_below_the_ceiling() -> None:
    random, p, labels, groups = made_rows(1)
    found = leak_alarm(p + random.normal(0, 0.05, len(p)), p, labels, groups)
    assert not found.fires and found.difference < 0


def test_the_alarm_is_silent_for_the_ceiling_itself() -> None:
    _, p, labels, groups = made_rows(2)
    found = leak_alarm(p**2, p, labels, groups)
    assert (found.difference, found.se, found.fires) == (0.0, 0.0, False)


def test_the_alarm_is_silent_where_nothing_is_defined() -> None:
    found = leak_alarm([0.1, 0.2], [0.1, 0.2], [0, 0], [1, 2])
    assert math.isnan(found.difference) and not found.fires


def test_the_alarm_rarely_cries_wolf() -> None:
    fired = 0
    for seed in range(60):
        random, p, labels, groups = made_rows(seed, n=1000)
        nearly = p + random.normal(0, 0.004, len(p))
        fired += leak_alarm(nearly, p, labels, groups, n=40).fires
    assert fired <= 5


def test_half_the_way_to_the_ceiling_is_half() -> None:
    assert gap_closed(0.65, 0.8) == pytest.approx(0.5)
    assert gap_closed(0.6, 0.8, floor=0.6) == 0.0
    assert math.isnan(gap_closed(0.6, 0.5))
    assert math.isnan(gap_closed(0.45, 0.4))  # not "half a step down was closed"
    assert math.isnan(gap_closed(0.6, math.nan))
    assert math.isnan(gap_closed(math.nan, 0.8))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_spearman_equals_scipy(rows: Table) -> None:
    a, b = (np.array(column) for column in zip(*rows, strict=True))
    if len(set(a)) > 1 and len(set(b)) > 1:
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    else:
        assert math.isnan(spearman(a, b))


def test_wrong_rows_are_refused() -> None:
    with pytest.raises(DataError, match=r"spearman: shapes \[2\] and \[1\]"):
        spearman([1, 2], [1])
    with pytest.raises(DataError, match="spearman: found NaN"):
        spearman([1, math.nan], [1, 2])
    with pytest.raises(DataError, match=r"p: found 1\.5"):
        ceiling_auc([1.5])
