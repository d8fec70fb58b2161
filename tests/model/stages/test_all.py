"""What every loss of a stage keeps: no label no loss, finite whatever is said, chances that fit."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from daogou.model.heads.funnel import FunnelHead, Stage
from daogou.model.meet import Meet
from daogou.model.stages import STAGE_LOSSES
from daogou.schema import LOSSES
from tests.model.hand import Copies
from tests.model.stages.hand import NO, from_logits, seen

EXTREME = st.floats(-1e4, 1e4, width=32)
every_loss = pytest.mark.parametrize("name", STAGE_LOSSES)


def gradients(given: Any) -> list[torch.Tensor]:
    """Those of what the towers said, 0 where a loss does not use it."""
    inputs = (given.logit, given.further, given.log_before)
    return [torch.zeros_like(each) if each.grad is None else each.grad for each in inputs]


def test_the_schema_names_every_loss_and_no_other() -> None:
    assert tuple(STAGE_LOSSES) == LOSSES["funnel"]


@every_loss
@pytest.mark.parametrize("happened", [True, False])
def test_without_a_label_there_is_no_loss_and_no_gradient(name: str, happened: bool) -> None:
    found = seen(
        [-1, -1], [0.3, 0.8], before=[0.5, 0.2], happened=[happened] * 2, further=[1.0, -1.0],
        delay_h=[NO, NO], watched_h=[0.0, NO],
    )  # fmt: skip
    loss = STAGE_LOSSES[name]()(found)
    assert loss.item() == 0.0
    loss.backward()
    assert all((gradient == 0).all() for gradient in gradients(found))


@every_loss
def test_no_exposure_has_no_loss(name: str) -> None:
    assert STAGE_LOSSES[name]()(seen([], [])).item() == 0.0


@every_loss
@settings(deadline=None)
@given(
    label=st.sampled_from([-1, 0, 1]),
    logit=EXTREME,
    before=st.floats(-1e4, 0.0, width=32),
    further=EXTREME,
    delay_h=st.sampled_from([NO, 0.0, 1e-9, 3.0, 10.0, 1e6]),
    watched_h=st.sampled_from([NO, 0.0, 3.0, 10.0]),
    happened=st.booleans(),
)
def test_whatever_a_tower_says_is_finite(name: str, happened: bool, **said: Any) -> None:
    given = from_logits(
        [said["label"]],
        torch.tensor([said["logit"]]),
        torch.tensor([said["before"]]),
        happened=[happened],
        further=[said["further"]],
        hours=([said["delay_h"]], [said["watched_h"]]),
    )
    made = STAGE_LOSSES[name]()
    loss = made(given)
    loss.backward()
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(given))
    chance = made.chance(given.logit, given.further, 10.0)
    assert 0 <= chance.item() <= 1
    log_chance = made.log_chance(given.logit, given.further, 10.0)
    assert log_chance.isfinite() and log_chance.item() <= 0
    torch.testing.assert_close(log_chance.exp(), chance)


@every_loss
def test_rows_count_by_their_weight(name: str) -> None:
    """Three rows of one kind are a row of weight 3."""
    kinds: dict[str, Any] = {"before": 0.5, "further": 0.3, "delay_h": NO, "watched_h": 4.0}
    one = seen([1, 0], [0.2, 0.7], weight=[1.0, 3.0], **{key: [v] * 2 for key, v in kinds.items()})
    many = seen([1, 0, 0, 0], [0.2, 0.7, 0.7, 0.7], **{key: [v] * 4 for key, v in kinds.items()})
    made = STAGE_LOSSES[name]()
    torch.testing.assert_close(made(one), made(many))


@every_loss
def test_learning_finds_the_chance_that_made_the_labels(name: str) -> None:
    """A quarter of 4000, with an even chance of the stage before: one logit for all of them."""
    torch.manual_seed(0)
    n = 4000
    happened = torch.arange(n) % 2 == 0
    label = (torch.arange(n) % 8 == 0).to(torch.int8)
    made = STAGE_LOSSES[name]()
    said = torch.zeros(2, requires_grad=True)
    learnt = [said, *(made.parameters() if isinstance(made, nn.Module) else ())]
    optimiser = torch.optim.Adam(learnt, lr=0.05)
    row = from_logits([0], torch.zeros(1), torch.zeros(1))
    for _ in range(300):
        rows = said.expand(n, 2)
        batch = type(row)(
            rows[:, 0], rows[:, 1:], torch.full((n,), 0.5).log(), label, happened,
            torch.ones(n), 10.0,
        )  # fmt: skip
        optimiser.zero_grad()
        made(batch).backward()
        optimiser.step()
    chance = made.chance(said[:1], said[None, 1:], 10.0)
    assert chance.item() == pytest.approx(0.25, abs=0.01)


def head(*losses: str) -> FunnelHead:
    stages = [Stage(place - 1, place, loss) for place, loss in enumerate(losses)]
    meet = Meet(2, has_items=True, has_users=False, context=None)
    return FunnelHead(meet, Copies(len(losses), 2), stages, tower=4)


def test_only_a_loss_with_weights_adds_some_to_a_head() -> None:
    plain = set(head("conditional", "conditional").state_dict())
    assert set(head("conditional", "esmm").state_dict()) == plain
    made = head("conditional", "dfm")
    assert set(made.state_dict()) - plain == {"of_losses.0.log_shape"}
    made.load_state_dict(made.state_dict() | {"of_losses.0.log_shape": torch.tensor(0.7)})
    learnt = made.learnt[1]
    assert isinstance(learnt, nn.Module)
    assert next(learnt.parameters()).item() == pytest.approx(0.7)
