"""What counts and a user's own events add to the score of a product, worked by hand."""

import math

import pytest
import torch

from daogou.model.heads.tally import COUNTS, SPAN_NAMES, Tally

N_COUNTS, N_SPANS = len(COUNTS), len(SPAN_NAMES)


def tally(n_actions: int = 2) -> Tally:
    made = Tally(4, n_actions)
    made.counts[:, 0] = torch.tensor([-2.0, 1.0, 0.5, 0.0])
    return made


def test_untaught_it_adds_how_often_training_took_a_product_and_nothing_of_histories() -> None:
    made = tally()
    assert made.of_learnt.item() == 1.0
    assert made.of_products(torch.tensor([1, 3, 0])).tolist() == [1.0, 0.0, -2.0]
    past = torch.tensor([[2]]), torch.tensor([[1]]), torch.tensor([[0]])
    assert made.of_histories(5, *past).tolist() == [[0.0] * 5]


def test_events_are_counted_by_kind_and_age_and_each_product_once() -> None:
    # Product 3: twice of kind 1 within 1.5 days, once of kind 2 long ago; product 1: once, kind 2.
    history = torch.tensor([[3, 3, 3, 1, 0]])
    action = torch.tensor([[1, 1, 2, 2, 0]])
    age = torch.tensor([[0, 6, 11, 8, 0]])
    found = tally().hints(history, action, age)
    assert found.query.tolist() == [0, 0]
    assert found.row.tolist() == [1, 3]
    wanted = torch.zeros(2, 2 * N_SPANS + 1)
    wanted[0, N_SPANS + 1] = math.log(2)  # kind 2, within 14 days
    wanted[1, 0], wanted[1, 2 * N_SPANS - 1] = math.log(3), math.log(2)
    wanted[:, -1] = 1.0  # there is an event at all
    torch.testing.assert_close(found.values, wanted)


def test_a_history_adds_its_weighed_hints_to_its_own_products_alone() -> None:
    made = tally()
    made.weights[1 + N_COUNTS] = 2.0  # kind 1, within 1.5 days
    made.weights[-1] = -0.5  # any event
    history, action = torch.tensor([[2, 2], [1, 0]]), torch.tensor([[1, 1], [2, 0]])
    added = made.of_histories(4, history, action, torch.zeros(2, 2, dtype=torch.int64))
    assert added[0].tolist() == pytest.approx([0, 0, 2 * math.log(3) - 0.5, 0])
    assert added[1].tolist() == pytest.approx([0, -0.5, 0, 0])


def test_nothing_is_said_of_the_unknown_product_nor_past_a_historys_end() -> None:
    found = tally().hints(
        torch.tensor([[0, 2]]), torch.tensor([[1, 0]]), torch.zeros(1, 2, dtype=torch.int64)
    )
    assert found.values.shape == (0, 2 * N_SPANS + 1)


def test_events_in_another_order_say_the_same() -> None:
    history, action = torch.tensor([[1, 2, 2, 3]]), torch.tensor([[2, 1, 2, 1]])
    age = torch.tensor([[3, 7, 9, 10]])
    order = torch.tensor([2, 0, 3, 1])
    made = tally()
    made.weights.copy_(torch.arange(len(made.weights)))
    torch.testing.assert_close(
        made.of_histories(4, history, action, age),
        made.of_histories(4, history[:, order], action[:, order], age[:, order]),
    )


def test_a_shop_without_histories_has_the_counts_alone() -> None:
    made = tally(n_actions=0)
    nothing = torch.zeros(2, 1, dtype=torch.int64)
    assert made.of_histories(3, nothing, nothing, nothing).tolist() == [[0.0] * 3] * 2
