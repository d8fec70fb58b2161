"""Row-wise Adagrad against the same sums written out row by row."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from daogou.learn.optimise import RowAdagrad, dense_of, omega, tables_of

STEPS = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=4)


def table() -> nn.Embedding:
    made = nn.Embedding(6, 3, sparse=True)
    made.weight.data.copy_(torch.arange(18.0).view(6, 3) / 10)
    return made


def pull(rows: nn.Embedding, touched: list[int]) -> None:
    """A backward pass whose gradient at row r of a lookup is r + 1 times (1, 2, 3)."""
    found = rows(torch.tensor(touched))
    scale = torch.tensor(touched, dtype=torch.float32)[:, None] + 1
    (found * scale * torch.tensor([1.0, 2.0, 3.0])).sum().backward()


def test_a_step_matches_a_hand_worked_example() -> None:
    # Row 1 has gradient (2, 4, 6): mean square 56/3. It moves by 0.3 * g / sqrt(56/3).
    rows = table()
    pull(rows, [1])
    RowAdagrad([rows.weight], learning_rate=0.3).step()
    moved = torch.tensor([2.0, 4.0, 6.0]) * 0.3 / math.sqrt(56 / 3)
    torch.testing.assert_close(rows.weight.data[1], torch.tensor([0.3, 0.4, 0.5]) - moved)


@settings(deadline=None)
@given(STEPS, st.sampled_from([0.0, 0.5]))
def test_equals_a_dense_reference_on_touched_rows(steps: list[list[int]], l2: float) -> None:
    rows = table()
    optimiser = RowAdagrad([rows.weight], learning_rate=0.3, l2=l2)
    weight = rows.weight.detach().double().clone()
    squares, touches = [0.0] * 6, [0] * 6
    for touched in steps:
        optimiser.zero_grad()
        pull(rows, touched)
        optimiser.step()
        for row in set(touched):
            # A row looked up twice in a batch gets both gradients, and one step.
            gradient = torch.tensor([1.0, 2.0, 3.0]).double() * (row + 1) * touched.count(row)
            touches[row] += 1
            gradient = gradient + l2 / touches[row] * weight[row]
            squares[row] += float(gradient.square().mean())
            weight[row] -= 0.3 * gradient / math.sqrt(squares[row])
    torch.testing.assert_close(rows.weight.detach().double(), weight, rtol=1e-5, atol=1e-5)
    if l2:  # without a pull nobody counts
        assert optimiser.state[rows.weight]["touches"].tolist() == touches


@given(STEPS)
def test_rows_that_were_not_touched_are_the_same_bit_for_bit(steps: list[list[int]]) -> None:
    rows = table()
    before = rows.weight.detach().clone()
    optimiser = RowAdagrad([rows.weight], learning_rate=0.3, l2=0.5)
    for touched in steps:
        optimiser.zero_grad()
        pull(rows, touched)
        optimiser.step()
    quiet = sorted(set(range(6)) - {row for touched in steps for row in touched})
    assert torch.equal(rows.weight.detach()[quiet], before[quiet])


def test_the_pull_towards_zero_weakens_with_every_touch() -> None:
    """With no gradient of its own, a row's n-th touch feels l2 / n."""
    rows = table()
    optimiser = RowAdagrad([rows.weight], learning_rate=0.0, l2=0.5)
    state = optimiser.state[rows.weight]
    for touch in (1, 2, 3):
        optimiser.zero_grad()
        (rows(torch.tensor([2])) * 0).sum().backward()
        before = float(state["squares"][2])
        optimiser.step()
        felt = float(state["squares"][2]) - before
        wanted = (rows.weight.data[2] * 0.5 / touch).square().mean().item()
        assert felt == pytest.approx(wanted, rel=1e-5)


def test_a_gradient_of_zero_moves_nothing() -> None:
    rows = table()
    before = rows.weight.detach().clone()
    (rows(torch.tensor([2])) * 0).sum().backward()
    RowAdagrad([rows.weight], learning_rate=0.3).step()
    assert torch.equal(rows.weight.detach(), before)


def test_a_table_without_a_gradient_is_left_alone() -> None:
    rows = table()
    before = rows.weight.detach().clone()
    RowAdagrad([rows.weight], learning_rate=0.3, l2=1.0).step()
    assert torch.equal(rows.weight.detach(), before)


def test_omega_matches_a_hand_worked_example() -> None:
    # sum |w| = 1 + 2 + 3 = 6 and sum w^2 = 14; 0.5 * 6 + 0.1 / 2 * 14 = 3.7.
    dense = [torch.tensor([1.0, -2.0]), torch.tensor([[3.0]])]
    assert float(omega(dense, l1=0.5, l2=0.1)) == pytest.approx(3.7)
    assert float(omega(dense, l1=0.5, l2=0.0)) == pytest.approx(3.0)
    assert float(omega(dense, l1=0.0, l2=0.1)) == pytest.approx(0.7)
    assert omega(dense, l1=0.0, l2=0.0) == 0.0


def test_the_gradient_of_omega_is_a_sign_and_a_share() -> None:
    weight = torch.tensor([1.0, -2.0], requires_grad=True)
    penalty = omega([weight], l1=0.5, l2=0.1)
    assert isinstance(penalty, torch.Tensor)
    penalty.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == pytest.approx([0.6, -0.7])


def test_every_weight_is_either_in_a_table_or_dense() -> None:
    model = nn.ModuleDict(
        {"ids": nn.Embedding(4, 2, sparse=True), "ages": nn.Embedding(3, 2), "mix": nn.Linear(2, 2)}
    )
    tables, dense = tables_of(model), dense_of(model)
    assert [id(weight) for weight in tables] == [id(model["ids"].weight)]
    assert {id(each) for each in [*tables, *dense]} == {id(each) for each in model.parameters()}
    assert len(dense) == 3
