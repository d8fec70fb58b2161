"""Inverse propensities and double robustness by hand, and what may not move what."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from daogou.model.stages import STAGE_LOSSES, Seen
from daogou.model.stages.escm2 import GLOBAL_WEIGHT, doubly_robust, inverse_propensity
from tests.model.stages.hand import seen

CHANCES = st.floats(0.02, 0.98)
ROWS = st.lists(
    st.tuples(st.sampled_from([-1, 0, 1]), CHANCES, CHANCES, st.booleans()),
    min_size=1, max_size=8,
)  # fmt: skip


def batch_of(rows: list[tuple[int, float, float, bool]], *, certain: bool = False) -> Seen:
    labels, chances, before, happened = map(list, zip(*rows, strict=True))
    return seen(labels, chances, before=[1.0] * len(rows) if certain else before, happened=happened)


def test_a_row_counts_by_one_over_its_propensity_and_their_mean_is_one() -> None:
    # Propensities 1/2 and 1/6 weigh 2 and 6, so 1/2 and 3/2; the third is not defined.
    given = seen([1, 0, 0], [0.25] * 3, before=[1 / 2, 1 / 6, 1 / 50], happened=[True, True, False])
    found = inverse_propensity(given)
    assert found.item() == pytest.approx((0.5 * math.log(4) - 1.5 * math.log(0.75)) / 3)


def test_no_row_counts_more_than_fifty_times() -> None:
    # 1 and 1/0.02 = 50, though its propensity is 1/1000.
    given = seen([1, 0], [0.25, 0.25], before=[1.0, 0.001])
    weights = torch.tensor([1.0, 50.0]) / 25.5
    wanted = (weights[0] * math.log(4) - weights[1] * math.log(0.75)) / 2
    assert inverse_propensity(given).item() == pytest.approx(wanted.item(), rel=1e-5)


@settings(deadline=None)
@given(ROWS)
def test_with_a_propensity_of_one_it_is_the_conditional_loss(
    rows: list[tuple[int, float, float, bool]],
) -> None:
    given = batch_of(rows, certain=True)
    torch.testing.assert_close(inverse_propensity(given), STAGE_LOSSES["conditional"]()(given))


@settings(deadline=None)
@given(ROWS)
def test_the_product_s_nats_are_added(rows: list[tuple[int, float, float, bool]]) -> None:
    given = batch_of(rows)
    robust, error = doubly_robust(given)
    product = GLOBAL_WEIGHT * STAGE_LOSSES["esmm"]()(given)
    torch.testing.assert_close(
        STAGE_LOSSES["escm2_ips"]()(given), inverse_propensity(given) + product
    )
    torch.testing.assert_close(STAGE_LOSSES["escm2_dr"]()(given), robust + error + product)


def test_double_robustness_by_hand() -> None:
    # Two exposures with a chance of 1/4, the first defined and 1, its propensity 1/2; the label
    # foreseen is 1/2 for both. e = ln 4; foreseen (ln 4 - ln 3/4) / 2 = ln(16 / 3) / 2, so
    # e - that = ln 3 / 2. The scale is 1/2: two exposures count as the one that is defined.
    given = seen([1, 0], [0.25] * 2, before=[0.5] * 2, happened=[True, False])
    robust, error = doubly_robust(given)
    foreseen, wrong = math.log(16 / 3) / 2, math.log(3) / 2
    assert robust.item() == pytest.approx((2 * foreseen + 2 * wrong) / 2 / 2)
    assert error.item() == pytest.approx(2 * wrong**2 / 2 / 2)


@settings(deadline=None)
@given(ROWS)
def test_where_the_foreseen_label_is_right_nothing_is_put_right(
    rows: list[tuple[int, float, float, bool]],
) -> None:
    """All labels are the foreseen one: then the exposures' nats are what they would have been."""
    rows = [(1, *row[1:]) for row in rows]
    given = batch_of(rows)
    sure = Seen(
        given.logit, torch.full_like(given.further, 40.0), given.log_before, given.label,
        given.happened, given.weight, given.window_h,
    )  # fmt: skip
    robust, error = doubly_robust(sure)
    assert error.item() == pytest.approx(0.0, abs=1e-6)
    if any(row[3] for row in rows):
        defined = torch.tensor([row[3] for row in rows])
        inverse = 1 / torch.tensor([row[2] for row in rows])
        scale = defined.sum() / inverse[defined].sum()
        wanted = -torch.tensor([row[1] for row in rows]).log().mean() * scale
        torch.testing.assert_close(robust, wanted, rtol=1e-4, atol=1e-5)


def test_the_squared_error_moves_only_what_is_foreseen_and_the_nats_never_do() -> None:
    given = seen(
        [1, 0, 0], [0.3, 0.6, 0.2], before=[0.5, 0.2, 0.1], happened=[True, True, False],
        further=[0.4, -0.3, 0.2],
    )  # fmt: skip
    robust, error = doubly_robust(given)
    of_error = torch.autograd.grad(
        error, [given.logit, given.further, given.log_before], allow_unused=True, retain_graph=True
    )
    of_robust = torch.autograd.grad(
        robust, [given.logit, given.further, given.log_before], allow_unused=True
    )
    assert of_error[0] is None and of_error[1] is not None and of_error[1][:2].abs().min() > 0
    assert of_robust[0] is not None and of_robust[0].abs().min() > 0 and of_robust[1] is None
    assert of_error[2] is None and of_robust[2] is None, "a propensity is not learnt from this"


def test_the_nats_pull_towards_the_foreseen_label_and_correct_for_it() -> None:
    # d / d logit = scale (p - r) of every exposure, and scale (r - y) / propensity where defined.
    given = seen(
        [1, 0], [0.25, 0.25], before=[0.5, 0.25], happened=[True, False], further=[0.0, 0.0]
    )
    robust, _ = doubly_robust(given)
    robust.backward()
    assert given.logit.grad is not None
    wanted = 0.5 / 2 * torch.tensor([0.25 - 0.5 + (0.5 - 1) * 2, 0.25 - 0.5])
    torch.testing.assert_close(given.logit.grad, wanted)


def test_a_propensity_puts_right_who_was_seen() -> None:
    """Half the exposures reach the stage by 0.8 and happen by 0.6, half by 0.1 and 0.2."""
    torch.manual_seed(0)
    kind = torch.arange(40_000) % 2
    reach = torch.where(kind == 0, 0.8, 0.1)
    happened = torch.rand(40_000) < reach
    label = (happened & (torch.rand(40_000) < torch.where(kind == 0, 0.6, 0.2))).to(torch.int8)
    found = {}
    losses: dict[str, Callable[[Seen], Tensor]] = {
        "conditional": STAGE_LOSSES["conditional"](),
        "ips": inverse_propensity,
        "dr": lambda given: torch.stack(doubly_robust(given)).sum(),
    }
    for name, loss in losses.items():
        said = torch.zeros(2, requires_grad=True)
        optimiser = torch.optim.Adam([said], lr=0.05)
        for _ in range(200):
            rows = said.expand(40_000, 2)  # one chance for all: as if no column told them apart
            optimiser.zero_grad()
            given = Seen(
                rows[:, 0], rows[:, 1:], reach.log(), label, happened, torch.ones(40_000), 24.0
            )
            loss(given).backward()
            optimiser.step()
        found[name] = said[0].sigmoid().item()
    assert found["conditional"] == pytest.approx((0.8 * 0.6 + 0.1 * 0.2) / 0.9, abs=0.02)
    assert found["ips"] == pytest.approx(0.4, abs=0.02)
    assert found["dr"] == pytest.approx(0.4, abs=0.02)
