"""A candidate meeting a user, by hand."""

import math
from dataclasses import replace

import pytest
import torch

from daogou.features.batch import Batch
from daogou.features.columns import Columns
from daogou.features.store import FOLDS
from daogou.model.embed import Fields
from daogou.model.encoded import Encoded
from daogou.model.group import grid_of
from daogou.model.meet import N_AFFINITIES, VIEW_WIDTH, Meet
from daogou.model.rates import Rates
from tests.model.hand import batch, set_identity

# One user with two events, (1, 0) and (0, 1), and one with none; two items.
EVENTS = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
ACTION = torch.tensor([[1, 2], [0, 0]])
ITEMS = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
USERS = torch.tensor([[3.0, 5.0], [7.0, 9.0]])


def given(item: list[int], user: list[int]) -> Batch:
    users = Columns({"action": ACTION})
    return batch([[0]] * len(item), item=item, user=user, users=users)


def encoded() -> Encoded:
    return Encoded(items=ITEMS, events=EVENTS, h=USERS, users=USERS)


@pytest.fixture
def meet() -> Meet:
    made = Meet(2, has_items=True, has_users=True, context=None)
    set_identity(made.ask)
    set_identity(made.key)
    return made


def test_attention_goes_to_what_resembles_the_candidate(meet: Meet) -> None:
    # Scores of v = (2, 0) with the events, over sqrt 2: sqrt 2 and 0; the empty one 0.
    # With e = exp(sqrt 2), the events weigh e / (e + 2) and 1 / (e + 2).
    e = math.exp(math.sqrt(2))
    found = meet.attend(ITEMS[1:], EVENTS, ACTION, grid_of(torch.tensor([0])))
    torch.testing.assert_close(found, torch.tensor([[e / (e + 2), 1 / (e + 2)]]))


def test_the_input_is_item_user_products_and_attended(meet: Meet) -> None:
    e = math.exp(math.sqrt(2))
    a, b = e / (e + 2), 1 / (e + 2)
    found = meet(encoded(), given([1], [0]))
    wanted = torch.tensor([[2.0, 0.0, 3.0, 5.0, 6.0, 0.0, a, b, 2 * a, 0.0]])
    torch.testing.assert_close(found[:, :10], wanted)


def test_an_affinity_is_the_inner_product_of_views_over_the_root_of_their_width(
    meet: Meet,
) -> None:
    # Views of all ones times u = (3, 5) are 8 each, times v = (2, 0) are 2 each: a product of 16
    # in each of VIEW_WIDTH places, over its root.
    for views in (meet.user_views, meet.item_views):
        torch.nn.init.ones_(views.weight)
        torch.nn.init.zeros_(views.bias)
    found = meet(encoded(), given([1], [0]))
    torch.testing.assert_close(
        found[0, 10:], torch.full((N_AFFINITIES,), 16 * math.sqrt(VIEW_WIDTH))
    )


def test_a_user_without_history_attends_to_nothing(meet: Meet) -> None:
    found = meet(encoded(), given([1], [1]))
    assert found[0, 6:10].tolist() == [0.0, 0.0, 0.0, 0.0]
    assert found.isfinite().all()


def test_events_past_the_attended_length_are_not_read() -> None:
    short = Meet(2, has_items=True, has_users=True, context=None, attend_length=1)
    set_identity(short.ask)
    set_identity(short.key)
    e = math.exp(math.sqrt(2))
    found = short.attend(ITEMS[1:], EVENTS, ACTION, grid_of(torch.tensor([0])))
    torch.testing.assert_close(found, torch.tensor([[e / (e + 1), 0.0]]))


def test_each_exposure_reads_its_own_user_and_item(meet: Meet) -> None:
    both = meet(encoded(), given([1, 0], [0, 1]))
    torch.testing.assert_close(both[:1], meet(encoded(), given([1], [0])))
    torch.testing.assert_close(both[1:], meet(encoded(), given([0], [1])))


@pytest.mark.parametrize("has_items", [True, False])
@pytest.mark.parametrize("has_users", [True, False])
@pytest.mark.parametrize("has_context", [True, False])
def test_its_width_is_what_it_promises(has_items: bool, has_users: bool, has_context: bool) -> None:
    context = Fields(3, 2, 1, 4) if has_context else None
    meet = Meet(2, has_items=has_items, has_users=has_users, context=context)
    if not (has_items or has_users or has_context):
        assert meet.n_outputs == 0
        return
    seen = Encoded(
        items=ITEMS if has_items else None,
        events=EVENTS if has_items and has_users else None,
        users=USERS if has_users else None,
    )
    exposures = given([1, 0], [0, 1])
    columns = {
        **exposures.exposures.tensors,
        "fields": torch.zeros(2, 2, dtype=torch.int64),
        "numbers": torch.zeros(2, 1),
    }
    with_context = Batch(
        Columns(columns), exposures.users, exposures.items,
        exposures.texts, exposures.titles, exposures.extra,
    )  # fmt: skip
    assert meet(seen, with_context).shape == (2, meet.n_outputs)


def test_repeats_are_read_as_they_differ_from_what_is_usual(meet: Meet) -> None:
    # Of three columns the means are 2, 0 and 1; the spreads 1, 0 and 0.01, and at least a tenth.
    told = Meet(2, has_items=True, has_users=True, context=None, n_repeats=3)
    told.fill(torch.tensor([[1.0, 0.0, 0.99], [3.0, 0.0, 1.01]]))
    known = given([1], [0])
    exposures = Columns({**known.exposures.tensors, "repeats": torch.tensor([[4.0, 0.5, 1.2]])})
    found = told(encoded(), replace(known, exposures=exposures))
    assert found.shape[1] == told.n_outputs == meet.n_outputs + 3
    torch.testing.assert_close(found[0, -3:], torch.tensor([2.0, 5.0, 2.0]))


def test_rates_are_those_of_the_product_s_id_and_in_training_of_the_other_folds() -> None:
    rates = Rates(3, 1, id_dropout=0.0)
    table = torch.arange(6.0).view(3, 2)
    rates.fill(table, torch.stack([table + 10 * fold for fold in range(FOLDS)]), torch.ones(2, 2))
    told = Meet(2, has_items=True, has_users=False, context=None, rates=rates)
    known = given([1], [0])
    exposures = Columns({**known.exposures.tensors, "fold": torch.tensor([3])})
    items = Encoded(items=ITEMS, item_ids=torch.tensor([0, 2]))
    assert told(items, replace(known, exposures=exposures))[0, -2:].tolist() == [34.0, 35.0]
    assert told.eval()(items, known)[0, -2:].tolist() == [4.0, 5.0]
