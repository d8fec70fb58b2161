"""Users and items in one space: the sample, its correction, and what an index would answer."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daogou.features.columns import Columns
from daogou.model.encoded import Encoded
from daogou.model.heads.match import MatchHead, also_taken
from tests.model.hand import batch, set_identity

N_ITEMS = 5
GENERATOR = torch.Generator().manual_seed(4)
ITEMS = torch.randn(N_ITEMS + 1, 3, generator=GENERATOR)
USERS = torch.randn(2, 3, generator=GENERATOR)
TWO_USERS = Columns({"row": torch.tensor([1, 2])})
EVERYTHING = list(range(1, N_ITEMS + 1))
IDS = list(range(N_ITEMS + 1))


def head(*, share: list[float] | None = None, n_items: int = N_ITEMS) -> MatchHead:
    torch.manual_seed(0)
    return MatchHead(3, torch.tensor(share or [0.0] * (N_ITEMS + 1)), n_items)


def encoded() -> Encoded:
    return Encoded(items=ITEMS.clone().requires_grad_(), users=USERS.clone().requires_grad_())


def test_a_score_is_the_cosine_over_the_temperature_plus_the_items_bias() -> None:
    # u = (3, 4, 0) and v = (1, 0, 0): cosine 3/5, over a temperature of 1/5: 3; bias 1/4.
    made = head()
    set_identity(made.user)
    set_identity(made.item)
    with torch.no_grad():
        made.bias.weight.copy_(torch.tensor([[0.25, 0.0, 0.0]]))  # of the item (1, 0, 0): 1/4
    query = made.query(torch.tensor([[3.0, 4.0, 0.0]]))
    index = made.index(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([1]))
    assert (query @ index.T).item() == pytest.approx(3.25)


@pytest.mark.parametrize(("learnt", "used"), [(1e-9, 0.03), (0.1, 0.1), (50.0, 1.0)])
def test_the_temperature_stays_within_its_bounds(learnt: float, used: float) -> None:
    made = head()
    made.log_temperature.data.fill_(math.log(learnt))
    direction = made.query(USERS)[:, :-1]
    torch.testing.assert_close(direction.norm(dim=1), torch.full((2,), 1 / used))


def test_when_everything_is_sampled_for_sure_it_is_the_full_softmax() -> None:
    made, seen = head(), encoded()
    # So many even draws that each item is in the sample but for a chance of exp(-1000 / 5).
    exposures = batch(
        [[1], [1], [0]], item=[2, 5, 3], user=[0, 1, 1], item_ids=IDS, users=TWO_USERS,
        extra=EVERYTHING * 200,
    )  # fmt: skip
    found = made.losses(seen, exposures, torch.ones(1)).values
    scores = made.query(USERS) @ made.index(ITEMS[1:], torch.tensor(EVERYTHING)).T
    wanted = torch.nn.functional.cross_entropy(scores, torch.tensor([1, 4]))
    torch.testing.assert_close(found[0], wanted)


def test_only_exposures_whose_first_stage_happened_teach() -> None:
    made = head()
    rows = {"item_ids": IDS, "users": TWO_USERS, "extra": EVERYTHING}
    one = batch([[1, 0]], item=[2], user=[0], **rows)  # type: ignore[arg-type]
    more = batch(
        [[1, 0], [0, 0], [-1, -1], [0, 1]], item=[2, 4, 5, 1], user=[0, 1, 1, 1], **rows  # type: ignore[arg-type]
    )  # fmt: skip
    alone = made.losses(encoded(), one, torch.ones(1)).values
    torch.testing.assert_close(made.losses(encoded(), more, torch.ones(1)).values, alone)


@pytest.mark.parametrize("labels", [[[0], [-1]], []])
def test_a_batch_without_a_positive_has_no_loss_and_no_gradient(labels: list[list[int]]) -> None:
    made, seen = head(), encoded()
    exposures = batch(
        labels, item=[1, 2][: len(labels)], item_ids=IDS, users=TWO_USERS, extra=[1, 2]
    )
    if not labels:
        exposures.exposures.tensors["labels"].resize_(0, 1)
    found = made.losses(seen, exposures, torch.ones(1)).values
    found.sum().backward()
    assert found.tolist() == [0.0]
    assert seen.users is not None
    assert seen.users.grad is not None
    assert (seen.users.grad == 0).all()


def test_the_unknown_product_is_never_a_positive_nor_in_the_sample() -> None:
    made = head()
    rows = {"item_ids": IDS, "users": TWO_USERS}
    unknown = batch([[1]], item=[0], extra=[1, 2], **rows)  # type: ignore[arg-type]
    assert made.losses(encoded(), unknown, torch.ones(1)).values.item() == 0.0
    clean = batch([[1]], item=[2], extra=[1, 3], **rows)  # type: ignore[arg-type]
    mixed = batch([[1], [1]], item=[2, 0], extra=[1, 3], **rows)  # type: ignore[arg-type]
    torch.testing.assert_close(
        made.losses(encoded(), mixed, torch.ones(1)).values,
        made.losses(encoded(), clean, torch.ones(1)).values,
    )


def test_an_item_drawn_twice_or_drawn_and_wanted_stands_once_in_the_sample() -> None:
    """A positive that is also drawn must not become its own negative."""
    made = head()
    rows = {"item": [2, 2], "user": [0, 1], "item_ids": IDS, "users": TWO_USERS}
    seen = encoded()
    found = made.losses(seen, batch([[1], [1]], extra=[2, 4, 4, 2], **rows), torch.ones(1)).values  # type: ignore[arg-type]
    scores = made.query(USERS) @ made.index(ITEMS[[2, 4]], torch.tensor([2, 4])).T
    # By hand: the sample is {2, 4}; 4 stands for 1 / (1 - exp(-4/5)) items.
    corrected = scores[:, 1] - math.log(1 - math.exp(-4 / 5))
    wanted = torch.logsumexp(torch.stack([scores[:, 0], corrected]), 0) - scores[:, 0]
    torch.testing.assert_close(found[0], wanted.mean())


def test_what_a_user_took_elsewhere_in_the_batch_is_no_negative_of_theirs() -> None:
    """Items 2 and 5 of user 1, at two moments, and item 4 of user 2; item 3 is drawn."""
    made, seen = head(), Encoded(items=ITEMS, users=USERS[[0, 0, 1]])
    exposures = batch(
        [[1], [1], [1]], item=[2, 5, 4], user=[0, 1, 2], item_ids=IDS,
        users=Columns({"row": torch.tensor([1, 1, 2])}), extra=[2, 3] * 500,
    )  # fmt: skip
    found = made.losses(seen, exposures, torch.ones(1)).values
    scores = made.query(USERS) @ made.index(ITEMS, torch.tensor(IDS)).T
    corrected = scores - made.log_chance(torch.tensor(IDS), 2, 1000)
    # By hand: user 1 chooses 2 over {3, 4} and 5 over {3, 4}, user 2 chooses 4 over {2, 3, 5}.
    losses = []
    for user, positive, others in [(0, 2, [3, 4]), (0, 5, [3, 4]), (1, 4, [2, 3, 5])]:
        own = scores[user, [positive]]
        losses.append(torch.cat([own, corrected[user, others]]).logsumexp(0) - own)
    torch.testing.assert_close(found, torch.stack(losses).mean(0))


def test_the_unknown_user_is_many_and_has_no_other_positives() -> None:
    column = torch.tensor([0, 2, 1])
    assert not also_taken(torch.tensor([0, 0, 0]), column, 3).any()
    assert also_taken(torch.tensor([4, 4, 9]), column, 3).tolist() == [
        [False, False, True], [True, False, False], [False, False, False],
    ]  # fmt: skip


def test_a_lone_positive_adds_nothing_to_the_chances_of_others() -> None:
    # One positive, whose id has nearly all the share: other items come by even draws alone.
    share = [0.0, 0.0, 0.9, 0.1, 0.0, 0.0]
    made = head(share=share)
    exposures = batch([[1]], item=[2], item_ids=IDS, users=TWO_USERS, extra=[3, 3])
    found = made.losses(encoded(), exposures, torch.ones(1)).values
    scores = made.query(USERS)[:1] @ made.index(ITEMS[[2, 3]], torch.tensor([2, 3])).T
    corrected = scores[0, 1] - math.log(1 - math.exp(-2 / N_ITEMS))
    wanted = torch.logsumexp(torch.stack([scores[0, 0], corrected]), 0) - scores[0, 0]
    torch.testing.assert_close(found[0], wanted)


def test_rows_count_by_their_weight() -> None:
    made = head()
    rows = {"item_ids": IDS, "users": TWO_USERS, "extra": EVERYTHING * 200}
    both = batch([[1], [1]], item=[2, 5], user=[0, 1], weight=[3.0, 1.0], **rows)  # type: ignore[arg-type]
    scores = made.query(USERS) @ made.index(ITEMS[1:], torch.tensor(EVERYTHING)).T
    each = torch.nn.functional.cross_entropy(scores, torch.tensor([1, 4]), reduction="none")
    found = made.losses(encoded(), both, torch.ones(1)).values
    torch.testing.assert_close(found[0], (3 * each[0] + each[1]) / 4)


@given(st.floats(0, 0.9), st.floats(0, 0.9), st.integers(0, 300), st.integers(1, 300))
def test_what_is_likelier_to_be_drawn_has_the_higher_chance(
    one: float, other: float, n_positives: int, n_extra: int
) -> None:
    made = head(share=[one, other], n_items=100)
    low, high = sorted([0, 1], key=lambda row: (one, other)[row])
    ids = torch.tensor([low, high])
    found = made.log_chance(ids, n_positives, n_extra)
    assert found[0] <= found[1] <= 0
    assert (made.log_chance(ids, n_positives + 1, n_extra) >= found).all()
    assert (made.log_chance(ids, n_positives, n_extra + 1) >= found).all()


def test_the_chance_is_right_by_simulation() -> None:
    """Positives drawn by their share and products drawn evenly, many times over."""
    rng = np.random.default_rng(0)
    share = np.array([0.5, 0.3, 0.15, 0.05, 0.0])
    n_positives, n_extra, n_tries = 3, 4, 20_000
    drawn = np.concatenate(
        [
            rng.choice(N_ITEMS, (n_tries, n_positives), p=share),
            rng.integers(0, N_ITEMS, (n_tries, n_extra)),
        ],
        axis=1,
    )
    found = np.array([(drawn == item).any(1).mean() for item in range(N_ITEMS)])
    made = head(share=[0.0, *share.tolist()])
    chance = made.log_chance(torch.arange(1, N_ITEMS + 1), n_positives, n_extra).exp().numpy()
    # exp(-4/5) stands for (1 - 1/5)^4: 0.449 for 0.410; the gap closes as the catalogue grows.
    exact = 1 - (1 - share) ** n_positives * (1 - 1 / N_ITEMS) ** n_extra
    np.testing.assert_allclose(found, exact, atol=0.015)
    np.testing.assert_allclose(chance, exact, atol=0.04)
    assert (np.argsort(chance) == np.argsort(found)).all()


def test_the_chance_of_never_drawn_items_stays_finite() -> None:
    made = head()
    assert made.log_chance(torch.tensor([1]), 0, 0).isfinite().all()
    assert head(n_items=0).log_chance(torch.tensor([1]), 1, 1).isfinite().all()
