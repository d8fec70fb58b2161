"""Curves between the chances that a task says and those that are answered."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from daogou.metrics import auc
from daogou.model.calibrated import N_KNOTS, Calibrated, Curve, logits_of

LINE = Curve((0.0,), (-1.0,), 0.5)
BENT = Curve((-1.0, 1.0), (-2.0, 0.0), 1.0)


def chances(*logits: float) -> Tensor:
    return torch.tensor([logits]).sigmoid()


def mended(curve: Curve, given: Tensor) -> Tensor:
    made = Calibrated(1)
    made.set(0, curve)
    found: Tensor = made(given)
    return found


def test_a_line_multiplies_the_logit_and_adds() -> None:
    # 0.5 * logit - 1.
    found = mended(LINE, chances(0.0, 2.0, -4.0))
    torch.testing.assert_close(found, chances(-1.0, 0.0, -3.0))


def test_between_knots_a_curve_is_straight_and_beyond_them_it_has_its_slope() -> None:
    # Half way from -2 to 0 is -1; 2 past the last knot with slope 1 is 0 + 2; and 1 before the
    # first is -2 - 1. Knots themselves are hit.
    found = mended(BENT, chances(0.0, 3.0, -2.0, -1.0, 1.0))
    torch.testing.assert_close(found, chances(-1.0, 2.0, -3.0, -2.0, 0.0))


@pytest.mark.parametrize("curve", [LINE, BENT])
def test_the_way_back_gives_what_was_said(curve: Curve) -> None:
    made = Calibrated(2)
    made.set(1, curve)
    said = chances(-3.0, -1.0, -0.5, 0.0, 1.0, 2.5).repeat(2, 1)
    torch.testing.assert_close(made.before(made(said)), said)
    assert torch.equal(made.before(said)[0], said[0])


def test_a_task_without_a_curve_keeps_its_chances_to_the_bit() -> None:
    said = torch.tensor([[0.0, 0.3, 1.0], [0.2, 0.5, 0.9]])
    made = Calibrated(2)
    assert torch.equal(made(said), said)
    made.set(1, LINE)
    assert torch.equal(made(said)[0], said[0])
    assert not torch.equal(made(said)[1], said[1])


def test_nothing_is_certain_after_a_curve() -> None:
    found = mended(Curve((0.0,), (0.0,), 50.0), torch.tensor([[0.0, 1.0]]))
    assert 0 < found[0, 0] < 1e-6
    assert 1 - 1e-6 < found[0, 1] < 1


def test_a_line_leaves_the_auc_exactly_as_it_was() -> None:
    said = torch.linspace(-4, 4, 2001, dtype=torch.float64).sigmoid()[None]
    labels = torch.rand(2001, generator=torch.Generator().manual_seed(0)).double() < said[0]
    assert auc(mended(LINE, said)[0].numpy(), labels.numpy()) == auc(
        said[0].numpy(), labels.numpy()
    )


@given(st.lists(st.tuples(st.floats(0.01, 2), st.floats(0.01, 2)), min_size=1, max_size=N_KNOTS))
def test_what_is_likelier_stays_likelier(steps: list[tuple[float, float]]) -> None:
    said, right = np.cumsum(steps, axis=0).T - np.sum(steps, axis=0)[:, None] / 2
    curve = Curve(tuple(said.tolist()), tuple(right.tolist()), 0.5)
    given = torch.linspace(-15, 15, 301, dtype=torch.float64).sigmoid()[None]
    found = mended(curve, given)[0]
    assert (found.diff() >= 0).all()
    assert ((found > 0) & (found < 1)).all()
    inside = (found > 1e-6) & (found < 1 - 1e-6)
    assert (found[inside].diff() > 0).all()


@pytest.mark.parametrize(
    "curve",
    [
        Curve((0.0, 1.0), (1.0, 0.0), 1.0),
        Curve((1.0, 0.0), (0.0, 1.0), 1.0),
        Curve((0.0,), (0.0,), -1.0),
        Curve((), (), 1.0),
        Curve((0.0,) * (N_KNOTS + 1), (0.0,) * (N_KNOTS + 1), 1.0),
    ],
)
def test_a_curve_that_falls_or_does_not_fit_is_refused(curve: Curve) -> None:
    with pytest.raises(ValueError, match="must rise"):
        Calibrated(1).set(0, curve)


def test_curves_are_part_of_the_weights_and_are_not_learnt() -> None:
    made, other = Calibrated(3), Calibrated(3)
    made.set(0, BENT)
    made.set(2, LINE)
    other.load_state_dict(made.state_dict())
    said = torch.rand(3, 50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(made(said), other(said))
    assert not list(made.parameters())


def test_logits_of_certain_chances_are_finite() -> None:
    found = logits_of(torch.tensor([0.0, 1.0]))
    assert found.tolist() == pytest.approx([-16.118, 16.118], abs=0.01)
    assert math.isfinite(found.sum())
