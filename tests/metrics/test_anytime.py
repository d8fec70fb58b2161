"""Numbers by hand, laws and error rates of `daogou.metrics.anytime`."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from daogou.errors import DataError
from daogou.metrics.anytime import Bet

VALUES = st.lists(st.floats(-1.0, 1.0), max_size=30)


def bet_on(values: object, at_most: float = 0.0, *, low: float = -1.0, high: float = 1.0) -> Bet:
    bet = Bet(at_most, low=low, high=high)
    bet.update(np.asarray(values, dtype=np.float64))
    return bet


def test_the_first_values_by_hand() -> None:
    # From 0 to 1 with 0.5 tested: nothing is staked on the first value, 1. Then the mean, of it
    # and of 0.5, is 0.75, so 0.25 ahead; the variance, of 1/16 and 0.25 ** 2, is 0.0625.
    assert bet_on([1.0], 0.5, low=0.0, high=1.0).e_value == 1.0
    stake = min(0.25 / (0.0625 + 0.25**2), 0.75 / 0.5)
    assert stake == 1.5
    bet = bet_on([1.0, 0.75], 0.5, low=0.0, high=1.0)
    assert bet.e_value == pytest.approx(1.0 + 1.5 * 0.25)
    # Three with the prior one: mean 0.75 again, variance (0.0625 + 0.0625 + 0) / 3.
    stake = min(0.25 / (0.125 / 3 + 0.0625), 1.5)
    bet.update([0.25])
    assert bet.e_value == pytest.approx(1.375 * (1.0 - stake * 0.25))


def test_nothing_is_bet_on_a_mean_below_the_bound() -> None:
    bet = bet_on([-0.5, -0.5, -0.5, 0.9])
    assert bet.e_value == 1.0
    assert not bet.rejects(0.05)


@given(VALUES, st.integers(0, 30))
def test_it_makes_no_difference_how_values_are_parted_or_if_it_was_stored(
    values: list[float], cut: int
) -> None:
    whole = bet_on(values)
    parted = bet_on(values[:cut])
    stored = json.loads(json.dumps(parted.state()))
    again = Bet(0.0, low=-1.0, high=1.0)
    again.restore(stored)
    for bet in (parted, again):
        bet.update(values[cut:])
        assert bet.n == len(values)
        assert bet.e_value == pytest.approx(whole.e_value)
        assert bet.interval(0.1) == whole.interval(0.1)


@given(VALUES)
def test_it_makes_no_difference_in_which_unit_values_come(values: list[float]) -> None:
    scaled = bet_on(3.0 + 100.0 * np.array(values), 3.0, low=-97.0, high=103.0)
    assert scaled.e_value == pytest.approx(bet_on(values).e_value, rel=1e-6)


@given(VALUES.filter(bool), st.floats(0.01, 0.5))
@settings(max_examples=50)
def test_intervals_never_widen_and_surer_ones_are_wider(values: list[float], alpha: float) -> None:
    bet = bet_on(values[:1])
    for value in values[1:]:
        before = bet.interval(alpha)
        bet.update([value])
        after = bet.interval(alpha)
        assert math.isnan(after[0]) or before[0] <= after[0] <= after[1] <= before[1]
        sure = bet.interval(alpha / 2)
        assert math.isnan(after[0]) or sure[0] <= after[0] <= after[1] <= sure[1]


def test_wealth_is_not_expected_to_grow_where_the_mean_is_the_bound() -> None:
    # All 2 ** 10 ways that ten fair throws of 0 or 1, which are as likely, can come.
    ways = np.arange(2**10)[:, None] >> np.arange(10) & 1
    wealth = [bet_on(way, 0.5, low=0.0, high=1.0).e_value for way in ways]
    assert np.mean(wealth) == pytest.approx(1.0)
    rejected = [bet_on(way, 0.5, low=0.0, high=1.0).rejects(0.2) for way in ways]
    assert 0.0 < np.mean(rejected) <= 0.2


def test_looking_after_every_value_rejects_no_more_often_than_promised() -> None:
    random = np.random.default_rng(0)
    bets = [bet_on(np.clip(random.normal(0.0, 0.2, 1000), -1.0, 1.0)) for _ in range(300)]
    assert np.mean([bet.rejects(0.05) for bet in bets]) <= 0.05
    assert np.mean([bet.interval(0.1)[0] <= 0.0 <= bet.interval(0.1)[1] for bet in bets]) >= 0.88


def test_an_ordinary_test_looked_at_as_often_would_reject_far_more_often() -> None:
    random = np.random.default_rng(0)
    n = np.arange(1, 1001)
    looks = np.cumsum(random.normal(0.0, 1.0, (300, 1000)), axis=1) / np.sqrt(n)
    assert np.mean((looks[:, 20:] > stats.norm.ppf(0.95)).any(axis=1)) > 0.2


def test_skewed_values_are_no_trap() -> None:
    random = np.random.default_rng(1)
    rejected = 0
    for _ in range(200):  # one in twenty gains 0.95, the others lose 0.05
        rejected += bet_on(np.where(random.random(1000) < 0.05, 0.95, -0.05)).rejects(0.05)
    assert rejected / 200 <= 0.06


def test_a_mean_above_the_bound_is_found_about_as_soon_as_by_a_test_with_one_look() -> None:
    random = np.random.default_rng(2)
    when = []
    for _ in range(40):
        bet = Bet(0.0, low=-1.0, high=1.0)
        while not bet.rejects(0.05) and bet.n < 5000:
            bet.update(np.clip(random.normal(0.02, 0.1, 25), -1.0, 1.0))
        when.append(bet.n)
        assert bet.interval(0.1)[1] > 0.0
    # One look at 155 values sees it 8 times in 10: (1.645 + 0.84) ** 2 * 25.
    assert np.median(when) < 400
    assert max(when) < 1000


def test_the_interval_closes_on_the_mean_wherever_it_lies() -> None:
    random = np.random.default_rng(3)
    for mean in (-0.7, -0.01, 0.0, 0.003, 0.4):
        values = np.clip(random.normal(mean, 0.05, 4000), -1.0, 1.0)
        low, high = bet_on(values).interval(0.05)
        assert low <= mean <= high
        # Four times an ordinary interval, and the steps of the grid.
        assert high - low < 8 * 1.96 * 0.05 / 4000**0.5 + 0.4 * abs(mean)


def test_once_rejected_stays_rejected_though_wealth_is_lost_again() -> None:
    bet = bet_on(np.full(30, 0.5))
    assert bet.rejects(0.01)
    bet.update(np.full(200, -0.5))
    assert bet.e_value < 100.0
    assert bet.rejects(0.01)
    assert all(math.isnan(end) for end in bet.interval(0.05))  # no one mean gives such values


def test_without_values_everything_is_possible_and_wealth_has_no_end() -> None:
    bet = Bet(0.1, low=0.0, high=2.0)
    bet.update([])
    assert (bet.n, bet.e_value, bet.interval(0.05)) == (0, 1.0, (0.0, 2.0))
    bet.update(np.full(20000, 2.0))
    assert math.isfinite(bet.e_value)
    json.dumps(bet.state(), allow_nan=False)


def test_what_breaks_the_promise_is_refused_and_nothing_is_bet() -> None:
    with pytest.raises(DataError, match=r"at most 2\.0, values from -1\.0 to 1\.0; give low <"):
        Bet(2.0, low=-1.0, high=1.0)
    bet = bet_on([0.5])
    with pytest.raises(DataError, match=r"found 1\.5, not from -1\.0 to 1\.0; give the range"):
        bet.update([0.5, 1.5])
    with pytest.raises(DataError, match="found nan"):
        bet.update([float("nan")])
    with pytest.raises(DataError, match=r"values: shape \[1, 2\]"):
        bet.update([[0.5, 0.5]])
    assert bet.n == 1
    with pytest.raises(DataError, match="alpha: 5; give a chance"):
        bet.rejects(5)
    with pytest.raises(DataError, match=r"the state is of at most 0\.0.*here at most 0\.1"):
        Bet(0.1, low=-1.0, high=1.0).restore(bet.state())
