"""Profiles are read from behaviour, and from nothing that could name the user."""

import math
from typing import cast

import pytest
import torch
from torch import nn

from daogou.features.columns import Columns
from daogou.model.embed import Fields
from daogou.model.encoded import Encoded
from daogou.model.heads.profile import ProfileHead, Tastes, shares_of
from daogou.model.item import ItemEncoder
from daogou.model.joint import JointModel
from daogou.model.user import UserEncoder
from daogou.schema import Task
from tests.model.hand import TRAIN, VALIDATION, batch, profiles

WIDTH = 3


def last(made: ProfileHead, place: int = 0) -> nn.Linear:
    """The last layer of a column's network."""
    return cast(nn.Linear, cast(nn.Sequential, made.networks[place])[-1])


def head(*, columns: tuple[int, ...] = (0, 1)) -> ProfileHead:
    """Two classes, then three; every class as likely until trained."""
    torch.manual_seed(0)
    made = ProfileHead(WIDTH, [2, 3][: len(columns)], columns).eval()
    for place in range(len(columns)):
        torch.nn.init.zeros_(last(made, place).weight)
        torch.nn.init.zeros_(last(made, place).bias)
    return made


def states(n: int) -> Encoded:
    return Encoded(h=torch.randn(n, WIDTH).requires_grad_())


def say(made: ProfileHead, *chances: float) -> None:
    """Make the first column answer these chances whatever it sees."""
    last(made).bias.data.copy_(torch.tensor(chances).log())


def test_each_column_has_the_nats_of_its_class() -> None:
    made = head()
    say(made, 0.25, 0.75)
    users = profiles([1, 2], [[0, 2], [1, 0]], [TRAIN, TRAIN])
    found = made.losses(states(2), batch(users=users), torch.ones(2)).values
    wanted = [(math.log(4) - math.log(0.75)) / 2, math.log(3)]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_a_user_several_times_in_a_batch_counts_once() -> None:
    # User 1 (class 0) stands thrice, user 2 (class 1) once: both count the same.
    made = head(columns=(0,))
    say(made, 0.25, 0.75)
    users = profiles([1, 2, 1, 1], [[0], [1], [0], [0]], [TRAIN] * 4)
    found = made.losses(states(4), batch(users=users), torch.ones(1)).values
    torch.testing.assert_close(found, torch.tensor([(math.log(4) - math.log(0.75)) / 2]))


def test_only_users_whose_labels_may_teach_do() -> None:
    made = head(columns=(0,))
    say(made, 0.25, 0.75)
    users = profiles([1, 2, 3], [[0], [1], [1]], [TRAIN, VALIDATION, 9])
    seen = states(3)
    found = made.losses(seen, batch(users=users), torch.ones(1)).values
    assert found.item() == pytest.approx(math.log(4))
    found.sum().backward()
    assert seen.h is not None
    assert seen.h.grad is not None
    assert (seen.h.grad[1:] == 0).all()


@pytest.mark.parametrize("classes", [[[-1, 1], [-1, 2]], [[-1, -1], [-1, -1]]])
def test_a_column_without_a_class_has_no_loss_and_no_gradient(classes: list[list[int]]) -> None:
    made, seen = head(), states(2)
    users = profiles([1, 2], classes, [TRAIN, TRAIN])
    found = made.losses(seen, batch(users=users), torch.ones(2)).values
    assert found[0].item() == 0.0
    assert found.isfinite().all()
    found[0].backward()
    for weight in made.networks[0].parameters():
        assert weight.grad is not None
        assert (weight.grad == 0).all()


def test_a_column_without_a_value_in_training_has_no_class_and_no_loss() -> None:
    made = ProfileHead(WIDTH, [0, 2], [0, 1])
    users = profiles([1, 2], [[-1, 0], [-1, 1]], [TRAIN, TRAIN])
    found = made.losses(states(2), batch(users=users), torch.ones(2)).values
    found.sum().backward()
    assert found[0].item() == 0.0
    assert found[1].item() > 0.0
    assert [each.shape for each in made.distributions(states(3), Columns({}))] == [(3, 0), (3, 2)]


def test_a_head_finds_its_labels_by_column() -> None:
    made = head(columns=(1,))
    say(made, 0.25, 0.75)
    users = profiles([1], [[1, 0]], [TRAIN])
    found = made.losses(states(1), batch(users=users), torch.ones(1)).values
    assert found.item() == pytest.approx(math.log(4))


def test_distributions_sum_to_one() -> None:
    made = head()
    torch.nn.init.normal_(last(made, 1).weight)
    for distribution in made.distributions(states(5), Columns({})):
        torch.testing.assert_close(distribution.sum(1), torch.ones(5))


def test_ids_and_columns_of_a_user_cannot_change_a_profile() -> None:
    """Were it otherwise, a head would learn each training user by heart."""
    torch.manual_seed(0)
    model = JointModel(
        [Task("profile.gender", "profile")],
        {"profile": ProfileHead(4, [2], [0])},
        item=ItemEncoder(torch.ones(6), Fields(1, 0, 0, 2), 0, 4),
        user=UserEncoder(torch.ones(9), Fields(9, 1, 1, 2), 2, 4),
    ).eval()
    n = 3
    empty = {"fields": torch.zeros(6, 0, dtype=torch.int64), "numbers": torch.zeros(6, 0)}
    items = Columns({"row": torch.arange(6), "id": torch.arange(6), **empty})
    behaviour = {
        "history": torch.randint(1, 6, (n, 4)),
        "action": torch.randint(0, 3, (n, 4)),
        "age": torch.randint(0, 5, (n, 4)),
    }

    def answer(start: int, number: float, label: int) -> tuple[torch.Tensor, torch.Tensor]:
        users = {
            "row": torch.arange(start, start + n),
            "id": torch.arange(start, start + n),
            "fields": torch.arange(start, start + n)[:, None],
            "numbers": torch.full((n, 1), number),
            "profile": torch.full((n, 1), label),
            "split": torch.full((n,), TRAIN),
        }
        given = batch(users=Columns(users | behaviour))
        given = type(given)(
            given.exposures, given.users, items, given.texts, given.titles, given.extra
        )
        encoded = model.encode(given)
        assert encoded.users is not None
        head = model.heads["profile"]
        assert isinstance(head, ProfileHead)
        return head.distributions(encoded, Columns(users))[0], encoded.users

    first, second = answer(1, 0.0, 0), answer(5, 1.0, 1)
    assert torch.equal(first[0], second[0])
    assert not torch.allclose(first[1], second[1]), "or this test would show nothing"


TASTES = Tastes((1,), (10,), (3,), torch.zeros(3), torch.ones(3), n_users=100)


def test_shares_are_the_log_of_one_plus_the_percentage_of_events_with_a_value() -> None:
    # Column 1 of the marks has the values 10, 11 and 12. Of four known events two have 11, one 12
    # and one 10; what is past the end does not count, and neither does column 0.
    marks = torch.tensor([[[7, 11], [7, 12], [7, 11], [7, 10], [7, 12]]])
    known = torch.tensor([[True, True, True, True, False]])
    wanted = torch.log1p(torch.tensor([[25.0, 50.0, 25.0]]))
    torch.testing.assert_close(shares_of(marks, known, TASTES), wanted)
    nothing = shares_of(marks, torch.zeros_like(known), TASTES)
    assert nothing.tolist() == [[0.0, 0.0, 0.0]]


def test_a_long_history_says_what_a_short_one_says() -> None:
    marks = torch.tensor([[[0, 10], [0, 12]]])
    known = torch.ones(1, 2, dtype=torch.bool)
    once, thrice = (shares_of(marks.repeat(1, n, 1), known.repeat(1, n), TASTES) for n in (1, 3))
    torch.testing.assert_close(once, thrice)


def test_the_prior_costs_half_the_precision_over_the_users_times_the_squares() -> None:
    made = ProfileHead(WIDTH, [2, 3], [0, 1], tastes=TASTES, precision=200.0)
    with torch.no_grad():
        made.wide.weight.zero_()
        made.wide.weight[0, 0] = 3.0  # of the first column: 200 / (2 * 100) * 9
        made.wide.weight[2:, 1] = 1.0  # of the second, three classes: 1 * 3
    torch.testing.assert_close(made.penalties(), torch.tensor([9.0, 3.0]))
