"""Numbers by hand, laws and error rates of `daogou.metrics.paired`."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from daogou.errors import DataError
from daogou.metrics.paired import (
    Paired,
    combine,
    delta_m,
    holm,
    more_positives,
    student_quantile,
    verdict,
    verdicts,
)


def made(value: float, test_se: float) -> Paired:
    """One seed's difference under so many draws that Student's distribution is the normal one."""
    p = math.erfc(abs(value) / test_se / math.sqrt(2.0))
    reach = 1.959964 * test_se
    return Paired(
        value, value - reach, value + reach, test_se, 1e9, 2.801585 * test_se, p,
        float("nan"), test_se, 1, 1e9,
    )  # fmt: skip


def drawn(
    random: np.random.Generator, truth: float, sds: tuple[float, float], n_seeds: int = 5
) -> Paired:
    """What seeds that differ by sds[0], on 100 users that together err by sds[1], would say."""
    users = random.normal(truth, sds[1] * 10.0, 100)
    seeds = random.normal(0.0, sds[0], n_seeds)
    weights = random.multinomial(100, np.full(100, 0.01), size=100) / 100.0
    return combine(seeds + users.mean(), seeds[:, None] + (weights @ users)[None, :], n_groups=100)


# ---- combine ---------------------------------------------------------------------------


def test_both_variances_are_added_and_their_degrees_of_freedom_are_weighed() -> None:
    found = combine([0.02, 0.04], [[0.01, 0.03], [0.03, 0.05]])
    assert found.value == pytest.approx(0.03)
    assert found.seed_se == pytest.approx(0.01)  # a variance of 0.0002 over 2 seeds
    assert found.test_se == pytest.approx(0.0002**0.5)  # of the means, 0.02 and 0.04
    assert found.se == pytest.approx(0.0003**0.5)
    assert found.df == pytest.approx(9 / (1 + 4))  # 3 ** 2 / (1 ** 2 / 1 + 2 ** 2 / 1)
    reach = stats.t.ppf(0.975, 1.8)
    assert found.low == pytest.approx(0.03 - reach * found.se)
    assert found.high == pytest.approx(0.03 + reach * found.se)
    assert found.smallest_detectable == pytest.approx((reach + stats.norm.ppf(0.8)) * found.se)
    assert found.p == pytest.approx(2 * stats.t.sf(0.03 / found.se, 1.8))


def test_one_seed_says_nothing_of_seeds_and_rests_on_the_draws() -> None:
    found = combine([0.02], [[0.01, 0.02, 0.03]])
    assert math.isnan(found.seed_se)
    assert (found.n_seeds, found.df) == (1, 2.0)
    assert found.se == found.test_se == pytest.approx(0.01)


def test_what_all_seeds_share_in_a_draw_does_not_shrink_with_more_seeds() -> None:
    users = np.random.default_rng(0).normal(0.0, 0.01, 200)
    one, nine = (combine(np.zeros(n), np.tile(users, (n, 1))) for n in (1, 9))
    assert nine.test_se == pytest.approx(one.test_se)


def test_few_users_make_few_degrees_of_freedom_however_often_they_are_drawn() -> None:
    draws = np.random.default_rng(0).normal(0.0, 0.01, (1, 201))
    assert combine([0.0], draws).df == 200.0
    assert combine([0.0], draws, n_groups=5).df == pytest.approx(1 / (1 / 200 + 1 / 4))


def test_an_undefined_draw_is_left_out_and_too_many_leave_no_interval() -> None:
    nan = float("nan")
    assert combine([0.02], [[0.01, nan, 0.03]]).test_se == pytest.approx(0.0002**0.5)
    lost = combine([0.02], [[0.01, nan, nan]])
    assert lost.value == 0.02
    assert math.isnan(lost.low) and math.isnan(lost.se) and math.isnan(lost.p)
    assert math.isnan(lost.interval(0.9)[0])
    assert verdict(lost, 0.0) == verdict(combine([nan], [[0.1, 0.2]]), 0.0) == "UNDECIDED"
    assert more_positives(lost, 100, 0.0) is None


def test_equal_models_are_neutral_and_a_difference_without_any_error_is_one() -> None:
    same = combine([0.0, 0.0], np.zeros((2, 10)))
    assert (same.low, same.high, same.p, same.df) == (0.0, 0.0, 1.0, math.inf)
    assert (verdict(same, 0.001), verdict(same, 0.0)) == ("NEUTRAL", "UNDECIDED")
    assert verdict(combine([0.1, 0.1], np.full((2, 10), 0.1)), 0.001) == "HELPS"


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"differences: shape \[0\]; give one per seed"):
        combine([], np.zeros((0, 3)))
    with pytest.raises(DataError, match=r"replicates: shape \[3\] for 1 seeds"):
        combine([0.1], [0.1, 0.2, 0.3])


@pytest.mark.parametrize("sds", [(0.0, 1.0), (1.0, 1.0), (1.0, 0.3)])
def test_the_interval_covers_the_truth_and_verdicts_are_wrong_as_often_as_they_say(
    sds: tuple[float, float],
) -> None:
    random = np.random.default_rng(1)
    found = [drawn(random, 0.0, sds) for _ in range(500)]
    assert 0.92 <= np.mean([one.low <= 0.0 <= one.high for one in found]) <= 0.98
    wrong = np.mean([verdict(one, 0.0) in ("HELPS", "HURTS") for one in found])
    assert 0.02 <= wrong <= 0.08


def test_seeds_alone_or_users_alone_would_be_too_sure() -> None:
    random = np.random.default_rng(2)
    found = [drawn(random, 0.0, (1.0, 1.0 / 5**0.5)) for _ in range(400)]
    alone = [abs(one.value) <= 2.776 * one.seed_se for one in found]
    users = [abs(one.value) <= 1.98 * one.test_se for one in found]
    assert np.mean(alone) < 0.9 and np.mean(users) < 0.9
    assert np.mean([abs(one.value) <= one.high - one.value for one in found]) > 0.92


def test_the_smallest_detectable_difference_is_seen_eight_times_in_ten() -> None:
    random = np.random.default_rng(3)
    typical = np.median([drawn(random, 0.0, (0.5, 1.0)).smallest_detectable for _ in range(100)])
    seen = [drawn(random, float(typical), (0.5, 1.0)).low > 0.0 for _ in range(400)]
    assert 0.73 <= np.mean(seen) <= 0.87


# ---- verdicts --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "se", "margin", "said"),
    [
        (0.02, 0.0100, 0.010, "HELPS"),  # 2 errors, of 1.96
        (-0.02, 0.0100, 0.010, "HURTS"),
        (0.02, 0.0105, 0.010, "UNDECIDED"),  # 1.9 errors
        (0.02, 0.0010, 0.030, "NEUTRAL"),  # not luck, and too little to matter
        (0.02, 0.0070, 0.021, "UNDECIDED"),  # not luck, and may be enough to matter
        (0.0, 0.0060, 0.010, "NEUTRAL"),  # 1.67 errors to the margin, of 1.645
        (0.0, 0.0062, 0.010, "UNDECIDED"),  # 1.61
        (-0.002, 0.0048, 0.010, "NEUTRAL"),  # 0.008 to the nearer margin: 1.67
        (-0.002, 0.0050, 0.010, "UNDECIDED"),
        (0.02, 0.0100, 0.0, "HELPS"),
    ],
)
def test_a_verdict_by_hand(value: float, se: float, margin: float, said: str) -> None:
    assert verdict(made(value, se), margin) == said


@given(
    value=st.floats(-0.05, 0.05),
    se=st.floats(0.001, 0.05),
    margin=st.floats(0.0, 0.05),
    level=st.sampled_from([0.8, 0.95, 0.99]),
)
def test_a_verdict_is_what_its_intervals_say(
    value: float, se: float, margin: float, level: float
) -> None:
    draws = se * np.array([[-1.0, 0.0, 0.0, 0.0, 1.0]]) * 2**0.5  # a standard deviation of se
    found = combine([value], value + draws)
    low, high = found.interval(level)
    inner_low, inner_high = found.interval(2 * level - 1)
    if low > 0.0 and value >= margin:
        expected = "HELPS"
    elif high < 0.0 and value <= -margin:
        expected = "HURTS"
    else:
        expected = "NEUTRAL" if -margin < inner_low and inner_high < margin else "UNDECIDED"
    assert verdict(found, margin, level) == expected
    other = {"HELPS": "HURTS", "HURTS": "HELPS"}
    turned = verdict(combine([-value], -value - draws), margin, level)
    assert turned == other.get(expected, expected)


def test_holm_by_hand_ignores_what_is_undefined_and_keeps_order() -> None:
    raised = holm([0.01, float("nan"), 0.04, 0.03, 0.9])
    np.testing.assert_allclose(raised, [0.04, np.nan, 0.09, 0.09, 0.9])  # 0.08 is below 0.09
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0.0, 1.0), max_size=8), st.floats(0.01, 0.4))
def test_holm_claims_as_stepping_down_does_and_no_less_than_bonferroni(
    p: list[float], alpha: float
) -> None:
    claimed = set(np.flatnonzero(holm(p) <= alpha).tolist())
    stepped: set[int] = set()
    for n, place in enumerate(np.argsort(p, kind="stable").tolist()):
        if p[place] * (len(p) - n) > alpha:
            break
        stepped.add(place)
    assert claimed == stepped
    assert claimed >= {place for place, each in enumerate(p) if each * len(p) <= alpha}


def test_among_many_tasks_one_must_be_surer_and_margins_may_differ() -> None:
    found = {"click": made(0.02, 0.009), "buy": made(0.0, 0.02)}  # p = 0.026
    assert verdict(found["click"], 0.001) == "HELPS"
    assert verdicts(found, 0.001) == {"click": "UNDECIDED", "buy": "UNDECIDED"}
    surer = {"click": made(0.02, 0.008), "buy": made(0.0, 0.001)}  # p = 0.012
    assert verdicts(surer, {"click": 0.001, "buy": 0.01}) == {"click": "HELPS", "buy": "NEUTRAL"}
    assert verdicts({}, 0.001) == {}


def test_over_many_equal_tasks_a_false_verdict_stays_rare() -> None:
    random = np.random.default_rng(4)
    trials = [
        verdicts({str(n): drawn(random, 0.0, (0.3, 1.0)) for n in range(6)}, 0.0)
        for _ in range(150)
    ]
    assert np.mean([bool({"HELPS", "HURTS"} & set(said.values())) for said in trials]) <= 0.1


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(DataError, match=r"margin: -0\.1; give 0 or more"):
        verdict(made(0.0, 1.0), -0.1)
    with pytest.raises(DataError, match=r"margin of buy: nan"):
        verdicts({"buy": made(0.0, 1.0)}, float("nan"))
    with pytest.raises(DataError, match=r"level: 95; give one between 0\.5 and 1"):
        verdict(made(0.0, 1.0), 0.1, level=95)
    with pytest.raises(DataError, match=r"p values: 0\.5 to 1\.5; give chances"):
        holm([0.5, 1.5])
    with pytest.raises(DataError, match=r"p values: shape \[1, 1\]"):
        holm([[0.5]])
    with pytest.raises(DataError, match=r"margin: -1\.0; give 0 or more"):
        more_positives(made(0.01, 1.0), 10, -1.0)


# ---- more positives --------------------------------------------------------------------


def test_more_positives_by_hand_for_a_difference_and_for_none() -> None:
    # 1.96 errors are needed and one is there: 1.96 ** 2 = 3.8415 times as many positives.
    assert more_positives(made(0.02, 0.02), 100, 0.001) == 385 - 100
    # To 0.01 from 0 it is one error, of 1.645: 2.7055 times as many.
    assert more_positives(made(0.0, 0.01), 100, 0.01) == 271 - 100


def test_no_number_is_named_where_none_is_needed_or_none_is_enough() -> None:
    assert more_positives(made(0.02, 0.001), 100, 0.001) is None
    assert more_positives(made(0.0, 0.01), 100, 0.0) is None  # 0 sits on the margin
    noisy = combine([-0.02, 0.02, 0.06], np.tile([0.0, 0.01, 0.02, 0.03, 0.04], (3, 1)))
    assert verdict(noisy, 0.001) == "UNDECIDED"
    assert more_positives(noisy, 100, 0.001) is None  # seeds: 0.023 of error, to 0.02
    assert more_positives(made(0.02, 0.02), 0, 0.001) is None


@given(value=st.floats(0.0, 0.05), se=st.floats(0.01, 0.05), n=st.integers(2, 6))
def test_with_the_positives_asked_for_it_is_decided_and_with_one_less_it_is_not(
    value: float, se: float, n: int
) -> None:
    spread = 0.004 * (np.arange(n) - (n - 1) / 2)
    draws = np.linspace(-1.7, 1.7, 50) * se

    def with_positives(total: int) -> Paired:
        return combine(value + spread, np.tile(value + draws * (1000 / total) ** 0.5, (n, 1)))

    more = more_positives(with_positives(1000), 1000, 0.01)
    if more is not None:
        assert verdict(with_positives(1000 + more), 0.01) != "UNDECIDED"
        assert verdict(with_positives(1000 + more - 1), 0.01) == "UNDECIDED"


# ---- effect sizes and Student ----------------------------------------------------------


def test_delta_m_by_hand_turns_what_is_better_lower() -> None:
    assert delta_m([0.66, 0.55], [0.60, 0.50], [True, False]) == pytest.approx(0.0)
    # 0.4 of error to 0.34 is 15 %; a loss is an error as it is, and 10 % worse.
    found = delta_m([0.66, 0.55], [0.60, 0.50], [True, False], of_errors=True)
    assert found == pytest.approx((15.0 - 10.0) / 2)
    assert delta_m([-0.5], [-1.0], [True]) == pytest.approx(50.0)


def test_delta_m_is_undefined_without_something_to_compare_with() -> None:
    assert math.isnan(delta_m([], [], []))
    assert math.isnan(delta_m([0.1], [0.0], [True]))
    assert math.isnan(delta_m([0.1, 0.1], [0.1, float("nan")], [True, True]))
    with pytest.raises(DataError, match=r"delta_m: shapes \[2\], \[1\] and \[2\]"):
        delta_m([0.1, 0.2], [0.1], [True, True])


@pytest.mark.parametrize("df", [0.5, 1.0, 1.8, 2.0, 4.0, 29.5, 199.0, 1e4, 9e5])
def test_student_quantiles_are_those_of_scipy(df: float) -> None:
    for p in (1e-9, 0.001, 0.025, 0.4999, 0.5, 0.7, 0.95, 0.975, 1.0 - 1e-6):
        assert student_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 40, 2001])
def test_p_values_are_those_of_scipy_however_small(n: int) -> None:
    for errors in (0.0, 1e-6, 0.3, 1.0, 3.0, 12.0):
        draws = stats.zscore(np.arange(n), ddof=1)
        found = combine([errors], errors + draws[None, :])
        assert found.df == n - 1
        assert found.p == pytest.approx(2 * stats.t.sf(errors, n - 1), rel=1e-8)


def test_infinite_degrees_are_the_normal_and_nonsense_is_refused() -> None:
    assert student_quantile(0.975, math.inf) == pytest.approx(1.959964, abs=1e-6)
    with pytest.raises(DataError, match=r"p 1\.0 with 3 degrees"):
        student_quantile(1.0, 3)
    with pytest.raises(DataError, match=r"p 0\.9 with 0 degrees"):
        student_quantile(0.9, 0)
