"""The plain likelihood of a stage where the one before happened, by hand."""

import math

import pytest
import torch

from daogou.model.stages import STAGE_LOSSES
from tests.model.stages.hand import seen


def test_nats_are_of_the_defined_rows_and_per_exposure_of_the_batch() -> None:
    # Of four exposures two are defined: -ln 1/4 and -ln (1 - 1/4).
    given = seen([1, 0, 0, -1], [0.25] * 4, before=[0.1] * 4, happened=[True, True, False, True])
    found = STAGE_LOSSES["conditional"]()(given)
    assert found.item() == pytest.approx((math.log(4) - math.log(0.75)) / 4)
    found.backward()
    assert given.logit.grad is not None
    torch.testing.assert_close(given.logit.grad, torch.tensor([-0.75, 0.25, 0.0, 0.0]) / 4)
    assert given.log_before.grad is None


def test_a_marginal_stage_is_the_same_of_one_that_is_given_no_other() -> None:
    given = seen([1, 0], [0.5, 0.25])
    found = [STAGE_LOSSES[name]()(given).item() for name in ("conditional", "marginal")]
    assert found == [pytest.approx((math.log(2) - math.log(0.75)) / 2)] * 2
