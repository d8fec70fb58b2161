"""Losses by hand, and the law that a missing label adds nothing: no number and no gradient."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daogou.model.losses import binary, categorical, masked_mean, sampled_softmax

ROWS = st.lists(
    st.tuples(st.floats(-5, 5), st.booleans(), st.floats(0.125, 8)), min_size=1, max_size=12
)


@given(ROWS)
def test_a_masked_mean_is_the_weighted_mean_of_what_is_kept(
    rows: list[tuple[float, bool, float]],
) -> None:
    values, mask, weights = (torch.tensor(column) for column in zip(*rows, strict=True))
    kept = [(value, weight) for value, keep, weight in rows if keep]
    total = sum(weight for _, weight in kept)
    wanted = sum(value * weight for value, weight in kept) / total if kept else 0.0
    assert masked_mean(values, mask, weights).item() == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_a_value_that_is_masked_may_be_nan() -> None:
    values = torch.tensor([1.0, torch.nan], requires_grad=True)
    mean = masked_mean(values, torch.tensor([True, False]))
    mean.backward()
    assert mean.item() == 1.0
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("weights", [None, torch.tensor([2.0, 3.0]), torch.zeros(2)])
def test_nothing_to_learn_from_is_zero_with_zero_gradient(weights: torch.Tensor | None) -> None:
    values = torch.tensor([1.0, 5.0], requires_grad=True)
    mask = torch.zeros(2, dtype=torch.bool)
    mean = masked_mean(values, mask, weights)
    mean.backward()
    assert mean.item() == 0.0
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 0.0]


def test_no_row_at_all_is_zero() -> None:
    assert masked_mean(torch.zeros(0), torch.zeros(0, dtype=torch.bool)).item() == 0.0


def test_binary_is_the_nats_of_the_label() -> None:
    # logit ln 3 says 3/4: a 1 costs -ln 3/4, a 0 costs -ln 1/4.
    found = binary(torch.tensor([math.log(3)] * 2), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(found, torch.tensor([-math.log(0.75), -math.log(0.25)]))


def test_binary_is_finite_for_any_logit() -> None:
    assert binary(torch.tensor([-1e4, 1e4]), torch.tensor([1.0, 0.0])).tolist() == [1e4, 1e4]


def test_categorical_skips_rows_without_a_class() -> None:
    # Row 0 says 1/2, 1/4, 1/4 and its class is 1: ln 4. Row 1 has no class.
    logits = torch.tensor([[math.log(2), 0.0, 0.0], [9.0, 0.0, 0.0]], requires_grad=True)
    loss = categorical(logits, torch.tensor([1, -1]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4))
    assert logits.grad is not None
    assert logits.grad[1].tolist() == [0.0, 0.0, 0.0]


def test_categorical_weighs_its_rows() -> None:
    # ln 2 counted three times and ln 4 once, over four.
    logits = torch.tensor([[0.0, 0.0, -1e9, -1e9], [0.0, 0.0, 0.0, 0.0]])
    loss = categorical(logits, torch.tensor([0, 0]), torch.tensor([3.0, 1.0]))
    assert loss.item() == pytest.approx((3 * math.log(2) + math.log(4)) / 4)


def test_a_sampled_softmax_over_everything_is_the_softmax() -> None:
    scores = torch.randn(5, 9)
    positive = torch.tensor([0, 3, 8, 3, 1])
    found = sampled_softmax(scores, positive, torch.zeros(9))
    wanted = torch.nn.functional.cross_entropy(scores, positive, reduction="none")
    torch.testing.assert_close(found, wanted)


def test_a_sampled_softmax_counts_each_item_for_those_it_stands_for() -> None:
    # Scores 0. The positive counts once; the other, drawn with chance 1/3, for three: ln 4.
    found = sampled_softmax(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([0.1, 1 / 3]).log())
    assert found.item() == pytest.approx(math.log(4))


def test_a_sampled_softmax_pulls_by_how_unsure_it_is_of_the_positive() -> None:
    # The positive's chance is e^2 / (e^2 + e^1 / 0.5 + e^0 / 0.25): what a softmax has when the
    # others stand for two and for four.
    scores = torch.tensor([[2.0, 1.0, 0.0]], requires_grad=True)
    others = torch.tensor([math.e / 0.5, 1 / 0.25])
    chance = math.exp(2) / (math.exp(2) + float(others.sum()))
    sampled_softmax(scores, torch.tensor([0]), torch.tensor([0.9, 0.5, 0.25]).log()).backward()
    # (1 - p) of the gradient of -s_pos + log(sum over the others of e^s / chance).
    wanted = (1 - chance) * torch.cat([torch.tensor([-1.0]), others / others.sum()])
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad[0], wanted)


def test_what_a_sampled_softmax_is_told_to_leave_out_counts_nothing() -> None:
    # Scores 0: the positive and one other, drawn with chance 1/2: ln 3, as if the last were away.
    scores = torch.tensor([[0.0, 0.0, -torch.inf]], requires_grad=True)
    loss = sampled_softmax(scores, torch.tensor([0]), torch.tensor([0.1, 0.5, 0.2]).log())
    loss.backward()
    assert loss.item() == pytest.approx(math.log(3))
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, torch.tensor([[-2 / 3, 2 / 3, 0.0]]))


def test_a_sampled_sum_is_right_on_average() -> None:
    """Items drawn with unequal chance, each counted by its inverse: the mean is the full sum."""
    torch.manual_seed(0)
    scores, chance = torch.randn(1, 20), torch.rand(20) * 0.8 + 0.2
    chance[0] = 1.0
    positive = torch.tensor([0])
    sums = []
    for _ in range(3000):
        drawn = torch.rand(20) < chance
        loss = sampled_softmax(scores[:, drawn], positive, chance[drawn].log())
        sums.append((loss + scores[0, 0]).exp())
    found = torch.cat(sums)
    wanted = scores.exp().sum()
    assert (found.mean() - wanted).abs() < 4 * found.std() / len(found) ** 0.5
