"""What users took and were shown is counted, and told against what is usual."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from daogou.artifact.counts import tastes_of
from daogou.features.batch import make_batch
from daogou.model.heads.habits import USUAL, Habits, Tastes, habits, signs
from daogou.model.joint import marks_of
from tests.shops import ITEMS, compile_shop, write_shop

TASTES = Tastes((1,), (10,), (3,), n_actions=2)


def test_habits_count_events_by_value_and_by_kind() -> None:
    # Column 1 of the marks has the values 10, 11 and 12. Of four known events two have 11, one 12
    # and one 10; three are of kind 1 and one of kind 2. What is past the end does not count, and
    # neither does column 0.
    marks = torch.tensor([[[7, 11], [7, 12], [7, 11], [7, 10], [7, 12]]])
    action = torch.tensor([[1, 1, 2, 1, 0]])
    assert habits(marks, action, TASTES).tolist() == [[1.0, 2.0, 1.0, 3.0, 1.0]]
    assert habits(marks, torch.zeros_like(action), TASTES).tolist() == [[0.0] * 5]


def test_signs_are_logs_of_counts_and_roots_of_shares_that_lean_to_what_is_usual() -> None:
    # Of five events four have the first value; twenty usual ones have 5, 15 and 0 of the values.
    counted = torch.tensor([[4.0, 0.0, 1.0, 5.0, 0.0]])
    wanted = [
        math.log(5), 0.0, math.log(2), math.sqrt(9 / 25), math.sqrt(15 / 25), math.sqrt(1 / 25),
        math.log(6), 0.0,
    ]  # fmt: skip
    found = signs(counted, torch.tensor([0.25, 0.75, 0.0]))
    torch.testing.assert_close(found, torch.tensor([wanted]))


def test_shares_of_a_longer_history_lie_farther_from_what_is_usual() -> None:
    usual = torch.tensor([0.25, 0.75, 0.0])
    once = torch.tensor([[2.0, 1.0, 1.0, 4.0, 0.0]])
    short, long = (signs(once * n, usual)[0, 3:6].square() for n in (1, 1000))
    assert ((long - usual).abs() > (short - usual).abs()).all()
    torch.testing.assert_close(long, once[0, :3] / 4, rtol=0, atol=0.01)
    torch.testing.assert_close(signs(0 * once, usual)[0, 3:6].square(), usual)


def test_what_is_usual_is_the_mean_of_the_shares_of_who_did_something_however_much() -> None:
    made = Habits(TASTES)
    made.compare_with(torch.tensor([[1.0, 1, 0, 2, 0], [0, 0, 90, 90, 0], [0, 0, 0, 0, 0]]))
    torch.testing.assert_close(made.usual, torch.tensor([0.25, 0.25, 0.5]))


def test_what_hardly_anybody_has_is_not_made_large() -> None:
    made = Habits(TASTES)
    one = torch.tensor([[0.0, 9, 1, 10, 0]])
    made.compare_with(one.repeat(100, 1))
    assert made.spread.tolist() == pytest.approx([0.05] * 3 + [0.01] * 3 + [0.05] * 2)


def test_a_past_of_nothing_is_like_the_mean() -> None:
    made = Habits(TASTES)
    made.mean.fill_(3.0)
    assert made.standard(torch.zeros(1, 5)).tolist() == [[0.0] * 8]
    # One event of the first value and kind: ln 2 twice, and a root of 1/21 beside two of 0.
    found = made.standard(torch.tensor([[1.0, 0, 0, 1, 0]]))
    assert found.sum().item() == pytest.approx(2 * math.log(2) + math.sqrt(1 / 21) - 24)


def test_a_factor_counts_each_product_once_and_leans_to_nought() -> None:
    # Products 1 and 2 were taken, 1 of them twice; product 3 is past the end, 0 is unknown.
    made = Habits(Tastes((1,), (10,), (3,), n_actions=1, n_ids=4))
    made.loadings[:, 0] = torch.tensor([9.0, 2.0, 4.0, 8.0])
    ids, action = torch.tensor([[1, 2, 1, 0, 3]]), torch.tensor([[1, 1, 1, 1, 0]])
    found = made.count(torch.full((1, 5, 2), 10), ids, action)
    assert found[0, 4].item() == pytest.approx((2.0 + 4.0) / (2 + USUAL))
    assert (found[0, 5:] == 0).all()
    nothing = made.count(torch.zeros(1, 0, 2).long(), torch.zeros(1, 0).long(), action[:, :0])
    assert (nothing == 0).all()


def test_a_factor_has_four_times_the_spread_of_a_value() -> None:
    made = Habits(Tastes((1,), (10,), (1,), n_actions=1, n_ids=2))
    made.compare_with(torch.tensor([[1.0, 1, 0.5, *[0] * 15], [3, 3, -0.5, *[0] * 15]]))
    found = made.standard(torch.tensor([[1.0, 1, 0.5, *[0] * 15]]))
    assert found[0, 0].item() == pytest.approx(-1.0)
    assert found[0, 3].item() == pytest.approx(4.0)
    assert (found[0, 4:] == 0).all()


def test_habits_count_what_the_catalogue_tells_of_attributes_too(tmp_path: Path) -> None:
    items = [row | {"colour": name} for row, name in zip(ITEMS, "rbbg", strict=True)]
    shop = write_shop(tmp_path, items=items)
    transform, store = compile_shop(shop)
    tastes, _ = tastes_of(transform, store)
    assert tastes is not None
    assert tastes.columns == (1, 2, 3)  # category, price, colour
    assert (tastes.first[-1], tastes.sizes[-1]) == (0, 3)  # unknown, b, r
    made = make_batch(store, extra_items=np.arange(5)).items
    marks = marks_of(made["row"], made)
    assert marks[:, 3].tolist() == [0, 2, 1, 1, 0]
    counted = habits(marks[None], torch.ones(1, 5, dtype=torch.int64), tastes)
    assert counted[0, -5:-2].tolist() == [2.0, 2.0, 1.0]  # then the kinds of event
