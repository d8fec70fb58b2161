"""Amounts as distributions: nats and expectations by hand, and nothing that is no number."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from daogou.features.transform import LogScale
from daogou.model.stages import STAGE_LOSSES, VALUE_LOSSES, Seen
from daogou.schema import LOSSES

# Values of e^0 to e^4, in the middle e^2.
SCALE = LogScale(mean=2.0, spread=1.0, least=0.0, most=4.0)
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def seen(
    values: list[float], logit: list[float], *further: list[float], happened: bool = True
) -> Seen:
    """Exposures with these values (NaN missing); ``further`` are the tower's other outputs."""
    value = torch.tensor(values)
    n = len(values)
    return Seen(
        logit=torch.tensor(logit, requires_grad=True),
        further=torch.tensor(further).T,
        log_before=torch.zeros(n),
        label=torch.where(value.isnan(), -1, (value > 0).long()),
        happened=torch.full((n,), happened),
        weight=torch.ones(n),
        window_h=24.0,
        value=value,
    )


def test_every_loss_that_the_schema_names_is_there() -> None:
    assert tuple(VALUE_LOSSES) == LOSSES["value"]
    assert not set(VALUE_LOSSES) & set(STAGE_LOSSES)


def test_a_log_normal_s_nats_are_those_of_the_standardised_logarithm() -> None:
    # ln e^3 is 1 spread above the mean; said 0, and a spread of 1: 1/2 beyond the constant.
    given = seen([math.exp(3.0), math.nan, 0.0], [0.0, 5.0, 5.0], [0.0, 1.0, 1.0])
    found = VALUE_LOSSES["lognormal"](SCALE)(given)
    assert found.item() == pytest.approx((HALF_LOG_TWO_PI + 0.5) / 3)  # per exposure, of three


def test_a_zero_inflated_value_adds_the_nats_of_being_above_zero() -> None:
    # Above 0 by a chance of 1/4: row 0 is, ln 4 and a density's at its peak; row 1 is not.
    odds = math.log(1 / 3)
    given = seen(
        [math.exp(2.0), 0.0, math.nan], [0.0, 9.0, 9.0], [0.0, 0.0, 0.0], [odds, odds, odds]
    )
    found = VALUE_LOSSES["zero_inflated"](SCALE)(given)
    wanted = (math.log(4) + HALF_LOG_TWO_PI - math.log(0.75)) / 3
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_the_expected_value_by_hand_and_within_what_training_saw() -> None:
    made = VALUE_LOSSES["lognormal"](SCALE)
    logit, further = torch.tensor([0.0, 1.0, 40.0, -40.0]), torch.zeros(4, 1)
    found = made.chance(logit, further, 24.0)
    wanted = [math.exp(2.5), math.exp(3.5), math.exp(4.0), math.exp(0.0)]
    torch.testing.assert_close(found, torch.tensor(wanted))
    both = torch.tensor([[0.0, 0.0], [0.0, math.log(3)], [0.0, 0.0], [0.0, 0.0]])
    inflated = VALUE_LOSSES["zero_inflated"](SCALE).chance(logit, both, 24.0)
    shares = torch.tensor([0.5, 0.75, 0.5, 0.5])
    torch.testing.assert_close(inflated, torch.tensor(wanted) * shares)


@pytest.mark.parametrize("name", VALUE_LOSSES)
@pytest.mark.parametrize(("value", "happened"), [(math.nan, True), (3.0, False), (math.nan, False)])
def test_without_a_value_there_is_no_loss_and_no_gradient(
    name: str, value: float, happened: bool
) -> None:
    given = seen([value] * 2, [1.0, 2.0], [0.5, 0.5], [0.5, 0.5], happened=happened)
    found = VALUE_LOSSES[name](SCALE)(given)
    assert found.item() == 0.0
    found.backward()
    assert given.logit.grad is not None
    assert given.logit.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", VALUE_LOSSES)
@given(
    st.floats(-50, 50, width=32),
    st.floats(-50, 50, width=32),
    st.floats(-50, 50, width=32),
    st.sampled_from([1e-30, 0.0, 1.0, 1e30, math.nan]),
)
def test_whatever_a_tower_says_is_finite(
    name: str, mean: float, spread: float, zero: float, value: float
) -> None:
    made = VALUE_LOSSES[name](SCALE)
    given = seen([value], [mean], [spread], [zero])
    loss = made(given)
    loss.backward()
    assert given.logit.grad is not None
    everything: list[Tensor] = [loss, given.logit.grad]
    everything.append(made.chance(given.logit, given.further, 24.0))
    assert all(each.isfinite().all() for each in everything)
    assert (everything[-1] >= 0).all()
    assert (everything[-1] <= math.exp(4.0) * (1 + 1e-5)).all()


@pytest.mark.parametrize("name", VALUE_LOSSES)
def test_learning_finds_the_mean_and_spread_that_made_the_values(name: str) -> None:
    """Of e^N(3, 0.5), a quarter of them 0 for the inflated: the expected value is the mean."""
    generator = torch.Generator().manual_seed(0)
    values = (3.0 + 0.5 * torch.randn(4000, generator=generator)).exp()
    if name == "zero_inflated":
        values[::4] = 0.0
    made = VALUE_LOSSES[name](LogScale(2.0, 2.0, -10.0, 10.0))
    said = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.Adam([said], lr=0.05)
    for _ in range(300):
        rows = said.expand(len(values), 3)
        given = Seen(
            rows[:, 0], rows[:, 1:], torch.zeros(4000), (values > 0).long(),
            torch.ones(4000, dtype=torch.bool), torch.ones(4000), 24.0, value=values,
        )  # fmt: skip
        optimiser.zero_grad()
        made(given).backward()
        optimiser.step()
    expected = made.chance(said[:1], said[None, 1:], 24.0)
    assert expected.item() == pytest.approx(values.mean().item(), rel=0.02)
