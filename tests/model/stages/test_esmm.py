"""The product of two chances learnt over all exposures: by hand, in logs, and against its parts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daogou.model.stages import STAGE_LOSSES
from daogou.model.stages.base import log_of_rest
from tests.model.stages.hand import from_logits, seen

HALVES = st.floats(0.01, 0.99)


def test_every_exposure_with_a_label_counts_by_the_product_of_both_chances() -> None:
    # 1/2 * 1/4: happened once, -ln 1/8; twice not, -ln 7/8, clicked or not; one is not known.
    batch = seen([1, 0, 0, -1], [0.25] * 4, before=[0.5] * 4, happened=[True, True, False, True])
    found = STAGE_LOSSES["esmm"]()(batch)
    assert found.item() == pytest.approx((math.log(8) - 2 * math.log(7 / 8)) / 4)


def test_the_gradient_reaches_the_stage_before() -> None:
    # d -ln(1 - q p) / d ln q = q p / (1 - q p) = 1/7, and -1 where it happened.
    batch = seen([1, 0], [0.25] * 2, before=[0.5] * 2)
    STAGE_LOSSES["esmm"]()(batch).backward()
    assert batch.log_before.grad is not None
    torch.testing.assert_close(batch.log_before.grad, torch.tensor([-1.0, 1 / 7]) / 2)
    # d / d logit = -(1 - p) where it happened, q p (1 - p) / (1 - q p) where it did not.
    assert batch.logit.grad is not None
    torch.testing.assert_close(batch.logit.grad, torch.tensor([-3 / 4, 3 / 28]) / 2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1]), HALVES, HALVES), min_size=1, max_size=6))
def test_where_the_stage_happened_it_is_the_likelihood_of_both_stages(
    rows: list[tuple[int, float, float]],
) -> None:
    """What happened has gone through every stage, so the product's nats are theirs together."""
    labels, chances, before = map(list, zip(*rows, strict=True))
    where = [label == 1 for label in labels]
    found = STAGE_LOSSES["esmm"]()(
        seen([1 if each else -1 for each in where], chances, before=before)
    )
    parts = seen([1 if each else -1 for each in where], chances, happened=where)
    first = seen([1 if each else -1 for each in where], before)
    conditional = STAGE_LOSSES["conditional"]()
    torch.testing.assert_close(found, conditional(parts) + conditional(first))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([-1, 0, 1]), HALVES), min_size=1, max_size=6))
def test_where_the_stage_before_is_certain_it_is_the_conditional_loss(
    rows: list[tuple[int, float]],
) -> None:
    labels, chances = map(list, zip(*rows, strict=True))
    batch = seen(labels, chances)
    torch.testing.assert_close(
        STAGE_LOSSES["esmm"]()(batch), STAGE_LOSSES["conditional"]()(batch), rtol=1e-5, atol=1e-6
    )


def test_a_no_of_two_chances_of_all_but_one_is_as_wrong_as_both_are() -> None:
    # 1 - q p is about e^-30 + e^-40, which float32 cannot tell from 0 as 1 - q p.
    log_before = torch.nn.functional.logsigmoid(torch.tensor([30.0]))
    batch = from_logits([0], torch.tensor([40.0]), log_before)
    found = STAGE_LOSSES["esmm"]()(batch)
    assert found.item() == pytest.approx(30 - math.log1p(math.exp(-10)), rel=1e-6)


@settings(deadline=None)
@given(st.floats(-80.0, -1e-25))
def test_the_log_of_the_rest_is_exact_near_both_ends(log_chance: float) -> None:
    found = log_of_rest(torch.tensor([log_chance], dtype=torch.float64)).item()
    likely = log_chance > -0.7
    wanted = math.log(-math.expm1(log_chance)) if likely else math.log1p(-math.exp(log_chance))
    assert found == pytest.approx(wanted, rel=1e-9)
