"""Profiles are read from behaviour, and from nothing that could name the user."""

import math
from pathlib import Path
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from daogou.artifact.counts import model_of
from daogou.features.columns import Columns
from daogou.model.build import Shape
from daogou.model.embed import Fields
from daogou.model.encoded import Encoded
from daogou.model.heads.habits import Tastes
from daogou.model.heads.profile import (
    Choice,
    Listed,
    Ordered,
    ProfileHead,
    even_steps,
    ordered,
)
from daogou.model.item import ItemEncoder
from daogou.model.joint import JointModel
from daogou.model.user import UserEncoder
from daogou.schema import Task
from tests.model.hand import TRAIN, VALIDATION, batch, profiles
from tests.shops import TOML, USERS, compile_shop, write_shop

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
    nothing = torch.zeros(6, 0, dtype=torch.int64)
    empty = {"fields": nothing, "traits": nothing, "numbers": torch.zeros(6, 0)}
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


TASTES = Tastes((1,), (10,), (3,), n_actions=2)


def test_paths_count_what_they_are_told_and_only_outside_training() -> None:
    made = ProfileHead(WIDTH, [2], [0], tastes=TASTES).eval()
    nn.init.zeros_(last(made).weight)
    last(made).bias.data.copy_(torch.tensor([0.0, 2.0]))  # the network's logits
    made.straight_0[1, 0] = 3.0  # of one event with the first value: log 2, over 1
    made.shift_0[0] = 0.5
    marks = torch.tensor([[0, 0], [5, 10]])
    seen = Encoded(h=torch.randn(1, WIDTH), marks=marks)
    users = Columns({"history": torch.tensor([[1]]), "action": torch.tensor([[1]])})
    assert made.distributions(seen, users)[0][0, 1].logit().item() == pytest.approx(2.0, abs=1e-5)
    made.paths.copy_(torch.tensor([[0.5, 2.0]]))
    wanted = 0.5 * 2.0 + 2.0 * (3.0 * math.log(2) - 0.5)
    assert made.distributions(seen, users)[0][0, 1].logit().item() == pytest.approx(wanted)
    last(made.train()).bias.data.copy_(torch.tensor([0.0, 2.0]))
    assert made.distributions(seen, users)[0][0, 1].logit().item() == pytest.approx(2.0, abs=1e-5)


def test_a_path_reads_what_was_shown_beside_what_was_taken() -> None:
    # Taken: one product with value 10. Shown: two with 11; places in the signs are of taken 3 logs,
    # 3 shares and 2 kinds, then of shown the same with 1 kind.
    made = ProfileHead(WIDTH, [2], [0], tastes=TASTES, shown=Tastes((1,), (10,), (3,), 1)).eval()
    seen = Encoded(h=torch.randn(1, WIDTH), marks=torch.tensor([[0, 0], [5, 10]]))
    users = Columns(
        {
            "history": torch.tensor([[1]]),
            "action": torch.tensor([[1]]),
            "shown": torch.tensor([[[6, 11], [7, 11], [0, 0]]]),  # the last is past the end
            "shown_id": torch.tensor([[0, 0, 0]]),
        }
    )
    counted = made.habits(seen, users)
    assert counted is not None
    assert counted.tolist() == [[1.0, 0, 0, 1, 0, 0, 2, 0, 2]]
    assert made.reading(Choice()).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert made.reading(Choice(shown=True)).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 14]
    made.straight_0[1, 14] = 1.0
    assert made.straight(counted, 0)[0, 1].item() == pytest.approx(math.log(3))


def test_classes_in_order_are_what_lies_between_thresholds_by_hand() -> None:
    # Thresholds at -ln 3 and ln 3: sigmoids of 1/4 and 3/4 at a score of 0.
    gap = torch.tensor(2 * math.log(3) - 1e-3).expm1().log()
    steps = torch.stack([torch.tensor(-math.log(3)), gap])
    torch.testing.assert_close(
        ordered(torch.zeros(1), steps).exp(), torch.tensor([[0.25, 0.5, 0.25]])
    )
    # A score of ln 3 moves them to 1/10 and 1/2.
    torch.testing.assert_close(
        ordered(torch.full((1,), math.log(3)), steps).exp(), torch.tensor([[0.1, 0.4, 0.5]])
    )


@given(st.floats(-40, 40), st.lists(st.floats(-40, 40), min_size=1, max_size=5))
def test_chances_in_order_sum_to_one_and_a_higher_score_never_lowers_the_class(
    score: float, steps: list[float]
) -> None:
    scores = torch.tensor([score, score + 1.0], dtype=torch.float64)
    logs = ordered(scores, torch.tensor(steps, dtype=torch.float64))
    assert logs.isfinite().all()
    chances = logs.exp()
    torch.testing.assert_close(chances.sum(1), torch.ones(2, dtype=torch.float64))
    below = chances.cumsum(1)
    assert (below[1] <= below[0] + 1e-9).all()


def test_classes_in_order_are_equally_likely_until_trained() -> None:
    torch.testing.assert_close(
        ordered(torch.zeros(1), even_steps(5)).exp(), torch.full((1, 5), 0.2)
    )


def test_an_ordered_column_answers_in_the_order_of_its_classes_not_of_their_ranks() -> None:
    # Classes 0, 1, 2 are the middle, the highest and the lowest. A low score: class 2.
    made = ProfileHead(WIDTH, [3], [0], kinds={0: Ordered((2, 0, 1))}).eval()
    nn.init.zeros_(last(made).weight)
    assert last(made).bias.shape == (1,)
    last(made).bias.data.fill_(-9.0)
    seen = states(2)
    (chances,) = made.distributions(seen, Columns({}))
    assert chances[0].argmax().item() == 2
    torch.testing.assert_close(chances.sum(1), torch.ones(2))
    users = profiles([1, 2], [[2], [2]], [TRAIN, TRAIN])
    found = made.losses(seen, batch(users=users), torch.ones(1)).values
    assert found.item() == pytest.approx(-chances[0, 2].log().item(), rel=1e-4)


@pytest.mark.parametrize("n_classes", [0, 1, 2])
@pytest.mark.parametrize("known", [True, False])
def test_an_ordered_column_of_few_or_no_classes_has_a_finite_loss(
    n_classes: int, known: bool
) -> None:
    made = ProfileHead(WIDTH, [n_classes], [0], kinds={0: Ordered(tuple(range(n_classes)))})
    seen = states(2)
    place = n_classes - 1 if known else -1
    users = profiles([1, 2], [[place], [place]], [TRAIN, TRAIN])
    found = made.losses(seen, batch(users=users), torch.ones(1)).values
    found.sum().backward()
    assert found.isfinite().all()
    assert seen.h is not None and seen.h.grad is not None
    assert seen.h.grad.isfinite().all()
    assert [each.shape for each in made.distributions(seen, Columns({}))] == [(2, n_classes)]
    if not known or n_classes < 2:
        assert found.item() == 0.0


def listed(rows: list[list[int]], split: list[int] | None = None) -> Columns:
    users = profiles(range(1, len(rows) + 1), [[0]] * len(rows), split or [TRAIN] * len(rows))
    return Columns({**users.tensors, "many": torch.tensor(rows, dtype=torch.int8)})


def test_each_value_of_a_list_is_a_yes_or_no_of_its_own() -> None:
    # Values 1 and 2 are the head's, with chances 1/4 and 1/2; value 0 is another column's. User 1
    # has the first of them: (ln 4 + ln 2) / 2; user 2 has none: (-ln 3/4 + ln 2) / 2; user 3 is
    # not known and user 4 may not teach.
    made = ProfileHead(WIDTH, [2], [-1], kinds={0: Listed(1)}).eval()
    nn.init.zeros_(last(made).weight)
    last(made).bias.data.copy_(torch.tensor([0.25, 0.5]).logit())
    users = listed(
        [[0, 1, 0], [1, 0, 0], [1, -1, -1], [1, 1, 1]], [TRAIN, TRAIN, TRAIN, VALIDATION]
    )
    found = made.losses(states(4), batch(users=users), torch.ones(1)).values
    wanted = (math.log(4) + math.log(2) - math.log(0.75) + math.log(2)) / 4
    assert found.item() == pytest.approx(wanted)
    (chances,) = made.distributions(states(1), Columns({}))
    torch.testing.assert_close(chances, torch.tensor([[0.25, 0.5]]))


@pytest.mark.parametrize("n_values", [0, 2])
def test_a_list_that_nobody_s_is_known_of_has_no_loss_and_no_gradient(n_values: int) -> None:
    made, seen = ProfileHead(WIDTH, [n_values], [-1], kinds={0: Listed(0)}), states(2)
    users = listed([[-1] * n_values] * 2)
    found = made.losses(seen, batch(users=users), torch.ones(1)).values
    assert found.item() == 0.0
    found.sum().backward()
    assert seen.h is not None and seen.h.grad is not None
    assert (seen.h.grad == 0).all()


def test_weights_have_the_names_they_had_where_no_column_is_ordered_or_a_list() -> None:
    names = set(ProfileHead(WIDTH, [2, 3], [0, 1], tastes=TASTES).state_dict())
    assert not [name for name in names if name.startswith(("steps", "ranks"))]
    assert "steps.0" in ProfileHead(WIDTH, [3], [0], kinds={0: Ordered((0, 1, 2))}).state_dict()


def test_the_model_of_a_shop_takes_the_order_that_its_task_says(tmp_path: Path) -> None:
    users = [dict(row, gender=tier, part="train") for row, tier in zip(USERS, "abc", strict=True)]
    toml = f'{TOML}\n[tasks."profile.gender"]\nloss = "ordinal"\norder = ["c", "a", "d", "b"]\n'
    shop = write_shop(tmp_path, users=users, toml=toml)
    transform, store = compile_shop(shop)
    made = model_of(transform, store, shop, Shape(width=8)).heads["profile"]
    assert isinstance(made, ProfileHead)
    assert made.kinds == {0: Ordered((2, 0, 1))}  # of a, b and c
