"""Stages whose labels were told by chance, by hand."""

import math

import numpy as np
import pytest
import torch

from daogou.model.stages.randomised import Randomised
from tests.model.stages.hand import seen

# Three outcomes, each other one told with a chance of .2: with 1 - 3 * .2 the true one alone.
FIRST, SECOND = Randomised(0.4, 0.6, 0.4), Randomised(0.2, 0.4, 0.4)


def test_nats_are_of_what_was_told() -> None:
    # A chance of .5 is told of with .4 + .4 * .5 = .6.
    found = FIRST(seen([1, 0], [0.5, 0.5]))
    assert found.item() == pytest.approx(-(math.log(0.6) + math.log(0.4)) / 2)
    # Half of a half: .2 + .4 * .25 = .3 are told to get so far, of .4 + .4 * .5 = .6 before.
    given = seen([1, 0, 1, -1], [0.5] * 4, before=[0.5] * 4, happened=[True, True, False, True])
    assert SECOND(given).item() == pytest.approx(2 * math.log(2) / 4)


def test_what_is_told_of_is_what_nats_are_of() -> None:
    chance, before = np.array([0.1, 0.9]), np.array([0.7, 0.01])
    told = SECOND.told(chance, before)
    found = SECOND(seen([1, 0], chance.tolist(), before=before.tolist()))
    assert found.item() == pytest.approx(-(np.log(told[0]) + np.log(1 - told[1])) / 2)


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
