"""Stages whose labels were told by chance, by hand."""

import math

import numpy as np
import pytest
import torch

from daogou.model.stages.randomised import Randomised
from tests.model.stages.hand import seen

# Three outcomes, each other one told with a chance of .2: with 1 - 3 * .2 the true one alone.
FIRST, SECOND = Randomised(0.4, 0.6, 0.4), Randomised(0.2, 0.4, 0.4)


def test_nats_are_weighed_by_what_was_told() -> None:
    # Told to be clicked: far is (1 - .4) / .4 = 1.5 and near -.2 / .4 = -.5; else -1 and 2.
    found = FIRST(seen([1, 0], [0.25, 0.25]))
    yes, no = math.log(4), -math.log(0.75)
    assert found.item() == pytest.approx((1.5 * yes - 0.5 * no - yes + 2 * no) / 2)
    # Told to go further, to stop there, not even to get there (-.2 / .4 twice), and missing.
    given = seen([1, 0, 0, -1], [0.25] * 4, happened=[True, True, False, True])
    weights = [(2.0, -0.5), (-0.5, 2.0), (-0.5, -0.5)]
    wanted = sum(far * yes + near * no for far, near in weights)
    assert SECOND(given).item() == pytest.approx(wanted / 4)


def test_in_the_mean_over_the_coins_nats_are_those_of_the_outcome() -> None:
    outcomes = [(0, False), (0, True), (1, True)]  # nothing, the first stage, this one
    for truly, (label, happened) in enumerate(outcomes):
        mean = 0.0
        for told, (other, there) in enumerate(outcomes):
            chance = 0.6 if told == truly else 0.2
            mean += chance * SECOND(seen([other], [0.3], happened=[there])).item()
        own = -math.log(0.3) if label else -math.log(0.7)
        assert mean == pytest.approx(own if happened else 0.0, abs=1e-6)


def test_what_is_told_by_hand() -> None:
    # Half of a half: .2 + .4 * .25 = .3 are told to get so far, of .4 + .4 * .5 = .6 before.
    told = SECOND.told(np.array([0.5]), np.array([0.5]))
    assert told.tolist() == pytest.approx([0.5])
    assert FIRST.told(np.array([0.5]), np.ones(1)).tolist() == pytest.approx([0.6])


def test_the_true_chance_is_likeliest() -> None:
    # Of 100 told labels as many are 1 as a chance of .3 gives: .4 + .4 * .3 = .52.
    logit = torch.tensor(0.3).logit()
    labels = [1] * 52 + [0] * 48
    given = seen(labels, [0.3] * 100)
    FIRST(given).backward()
    assert given.logit.grad is not None
    assert float(given.logit.grad.sum()) == pytest.approx(0.0, abs=1e-6)
    for other in (logit - 0.1, logit + 0.1):
        elsewhere = seen(labels, [float(other.sigmoid())] * 100)
        assert FIRST(elsewhere).item() > FIRST(seen(labels, [0.3] * 100)).item()


def test_the_sure_and_the_impossible_stay_finite() -> None:
    given = seen([0, 1, 1, 0], [1e-30, 1e-30, 1 - 1e-7, 1 - 1e-7], before=[1e-30, 1.0] * 2)
    found = SECOND(given)
    assert math.isfinite(found.item())
    found.backward()
    assert given.logit.grad is not None and bool(given.logit.grad.isfinite().all())
