"""A history is a set with ages: what must not change its state, and what must."""

import math

import pytest
import torch
from torch import Tensor

from daogou.model.embed import Fields
from daogou.model.user import UserEncoder
from tests.laws import check_rows_are_apart

WIDTH = 6
ITEMS = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(3))
HISTORY = torch.tensor([[1, 2, 3], [4, 0, 0], [0, 0, 0]])
ACTION = torch.tensor([[1, 2, 1], [2, 0, 0], [0, 0, 0]])
AGE = torch.tensor([[0, 1, 5], [2, 0, 0], [0, 0, 0]])


@pytest.fixture
def user() -> UserEncoder:
    torch.manual_seed(0)
    fields = Fields(4, 1, 0, 2)
    return UserEncoder(torch.tensor([0, 5, 9]), fields, 2, WIDTH, id_dropout=0.0).eval()


def states(user: UserEncoder, history: Tensor, action: Tensor, age: Tensor) -> Tensor:
    found: Tensor = user(user.read_history(ITEMS, history, action, age), action)
    return found


def test_an_event_is_item_plus_action_plus_age(user: UserEncoder) -> None:
    events = user.read_history(ITEMS, HISTORY, ACTION, AGE)
    wanted = ITEMS[2] + user.actions.weight[2] + user.ages.weight[1]
    torch.testing.assert_close(events[0, 1], wanted)
    assert (events[1, 1:] == 0).all(), "what lies past the end of a history is zero"


def test_the_order_of_a_history_does_not_matter(user: UserEncoder) -> None:
    order = [2, 0, 1]
    found = states(user, HISTORY[:, order], ACTION[:, order], AGE[:, order])
    torch.testing.assert_close(found, states(user, HISTORY, ACTION, AGE))


def test_padding_changes_nothing(user: UserEncoder) -> None:
    padded = [torch.cat([each, torch.zeros(3, 4, dtype=torch.int64)], dim=1)
              for each in (HISTORY, ACTION, AGE)]  # fmt: skip
    torch.testing.assert_close(states(user, *padded), states(user, HISTORY, ACTION, AGE))


def test_an_item_past_the_end_is_not_read(user: UserEncoder) -> None:
    other = HISTORY.clone()
    other[1, 1:] = 3
    torch.testing.assert_close(states(user, other, ACTION, AGE)[1],
                               states(user, HISTORY, ACTION, AGE)[1])  # fmt: skip


def test_a_user_without_a_history_has_a_state(user: UserEncoder) -> None:
    assert states(user, HISTORY, ACTION, AGE)[2].isfinite().all()


@pytest.mark.parametrize("changed", ["item", "action", "age", "count"])
def test_what_a_user_did_changes_the_state(user: UserEncoder, changed: str) -> None:
    history, action, age = HISTORY[:1].clone(), ACTION[:1].clone(), AGE[:1].clone()
    if changed == "item":
        history[0, 0] = 4
    elif changed == "action":
        action[0, 0] = 2
    elif changed == "age":
        age[0, 0] = 7
    else:
        history, action, age = (each.repeat(1, 2) for each in (history, action, age))
    before = states(user, HISTORY[:1], ACTION[:1], AGE[:1])
    assert not torch.allclose(states(user, history, action, age), before)


def test_the_state_reads_the_amount_of_each_action(user: UserEncoder) -> None:
    # One of the first kind twice, of the second once, three in all; as log(1 + n).
    seen: list[Tensor] = []
    user.read.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    states(user, HISTORY, ACTION, AGE)
    wanted = [[math.log(3), math.log(2), math.log(4)], [0, math.log(2), math.log(2)], [0, 0, 0]]
    torch.testing.assert_close(seen[0][:, -3:], torch.tensor(wanted))


def test_the_mean_of_a_history_is_over_its_events_alone(user: UserEncoder) -> None:
    seen: list[Tensor] = []
    user.read.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    states(user, HISTORY, ACTION, AGE)
    only = user.read_history(ITEMS, HISTORY, ACTION, AGE)[1, 0]
    torch.testing.assert_close(seen[0][1, 4 * WIDTH : 5 * WIDTH], only)
    # One event takes every question's whole attention.
    for question in range(4):
        torch.testing.assert_close(seen[0][1, question * WIDTH : (question + 1) * WIDTH], only)


def test_a_user_vector_adds_id_and_columns_to_the_state(user: UserEncoder) -> None:
    h = torch.randn(1, WIDTH)
    fields, numbers = torch.tensor([[2]]), torch.zeros(1, 0)
    assert user.fields.table is not None
    content = torch.cat([h[0], user.fields.table.weight[2]])
    gate = 1 / (1 + math.exp(2 - math.log(6)))
    mixed = user.mix.weight @ content + user.mix.bias + gate * user.ids.weight[1]
    wanted = torch.nn.functional.layer_norm(mixed, (WIDTH,))
    torch.testing.assert_close(user.user(h, torch.tensor([1]), fields, numbers)[0], wanted)


def test_rows_are_apart(user: UserEncoder) -> None:
    events = user.read_history(ITEMS, HISTORY, ACTION, AGE)
    check_rows_are_apart(lambda given: user(given, ACTION), events, rows_of=0)
