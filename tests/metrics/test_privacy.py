import math

import numpy as np
import pytest

from daogou.errors import ConfigError
from daogou.metrics.privacy import (
    audited,
    chance_of,
    divergence,
    epsilon,
    least_epsilon,
    membership,
    noise_for,
)


def test_a_published_case_is_met() -> None:
    # n = 60,000, batches of 250, 15 epochs: 1.18 by the older conversion, 0.94 by the improved one.
    assert epsilon(1.3, 250 / 60_000, 15 * 240, 1e-5) == pytest.approx(0.94, abs=0.005)


def test_whoever_is_always_in_it_pays_a_gaussian_s_divergence() -> None:
    assert divergence(2.0, 1.0, 8) == 8 / (2 * 2.0**2)


def test_order_two_by_hand() -> None:
    # (1 - q)^2 + 2 q (1 - q) + q^2 exp(1 / z^2), with q = 1/2 and z = 1
    assert divergence(1.0, 0.5, 2) == pytest.approx(math.log(0.75 + 0.25 * math.e))


@pytest.mark.parametrize(
    ("noise", "share", "steps"), [(1.3, 250 / 60_000, 3600), (1.1, 0.02, 500), (4.0, 0.05, 120)]
)
def test_it_is_opacus_s_accountant(noise: float, share: float, steps: int) -> None:
    analysis = pytest.importorskip("opacus.accountants.analysis.rdp")
    orders = list(range(2, 257))
    spent = analysis.compute_rdp(q=share, noise_multiplier=noise, steps=steps, orders=orders)
    theirs, _ = analysis.get_privacy_spent(orders=orders, rdp=spent, delta=1e-5)
    assert epsilon(noise, share, steps, 1e-5, orders) == pytest.approx(theirs, rel=1e-6)


def test_more_noise_and_fewer_steps_spend_less() -> None:
    spent = [epsilon(noise, 0.1, 100, 1e-4) for noise in (0.7, 1.0, 2.0, 4.0)]
    assert spent == sorted(spent, reverse=True)
    assert epsilon(1.0, 0.1, 10, 1e-4) < epsilon(1.0, 0.1, 100, 1e-4)


def test_nothing_is_spent_before_the_first_step_and_all_without_noise() -> None:
    assert epsilon(1.0, 0.1, 0, 1e-5) == 0.0
    assert epsilon(0.0, 0.1, 1, 1e-5) == math.inf


def test_noise_for_a_budget_just_keeps_it() -> None:
    noise = noise_for(2.0, 0.1, 120, 1e-3)
    assert epsilon(noise, 0.1, 120, 1e-3) <= 2.0
    assert epsilon(noise * 0.999, 0.1, 120, 1e-3) > 2.0
    with pytest.raises(ConfigError, match="no noise keeps epsilon at 0"):
        noise_for(0.0, 1.0, 100, 1e-5)


def test_a_delta_is_a_share() -> None:
    with pytest.raises(ConfigError, match="a delta of 0; give one between 0 and 1"):
        epsilon(1.0, 0.1, 1, 0)


def test_losses_that_do_not_differ_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    found = membership(rng.random(4000), rng.random(4000), at=0.01)
    assert found["auc"] == pytest.approx(0.5, abs=0.02)
    assert found["tpr"] == pytest.approx(0.01, abs=0.01)


def test_losses_by_hand() -> None:
    outside = np.arange(10.0)
    found = membership(np.array([-1.0, 0.5, 20.0, 1.0]), outside, at=0.1)
    assert found["tpr"] == 0.5  # below 1.0, which one of ten others is: -1 and 0.5
    assert found["auc"] == pytest.approx((10 + 9 + 0 + 8.5) / 40)
    assert math.isnan(membership(np.array([]), outside)["auc"])


def test_guesses_of_a_coin_that_epsilon_bends_are_a_binomial_by_hand() -> None:
    # A coin of 3/4 (epsilon = log 3): two or three of three heads are 27/64 + 27/64.
    assert chance_of(2, 3, 3, math.log(3), 0.0) == pytest.approx(54 / 64)
    # One head or none is 10/64, one alone 9/64: the steepest mean slope below two is 9/64.
    assert chance_of(2, 3, 5, math.log(3), 0.01) == pytest.approx(54 / 64 + 2 * 5 * 0.01 * 9 / 64)
    assert chance_of(3, 3, 10_000, 1.0, 1.0) == 1.0


def test_a_proof_needs_more_right_guesses_than_luck_has() -> None:
    assert least_epsilon(50, 100, 100, 0.0, 0.05) == 0.0
    proved = [least_epsilon(right, 100, 100, 0.0, 0.05) for right in (60, 75, 90, 100)]
    assert proved == sorted(proved) and proved[0] > 0
    assert least_epsilon(90, 100, 100, 1e-3, 0.05) < proved[2]
    assert chance_of(75, 100, 100, proved[1], 0.0) == pytest.approx(0.05)


def test_a_randomised_response_is_hardly_ever_proved_to_give_more_than_it_does() -> None:
    rng = np.random.default_rng(0)
    true, too_much, found = 1.0, 0, []
    for _ in range(200):
        was = rng.random(200) < 0.5
        told = was ^ (rng.random(200) > 1 / (1 + math.exp(-true)))
        one = audited(told + 1e-6 * rng.random(200), was, 0.0)
        too_much += one["epsilon"] > true
        found.append(one["epsilon"])
    assert too_much <= 10  # a twentieth
    assert np.median(found) > 0.5
