"""Moving and summing rows equals the plain indexing, forward and backward."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from daogou.model.rows import inverse, move, spread, sums


def gradient(found: Tensor, values: Tensor) -> Tensor:
    """Of the sum of the found rows times 1, 2, 3, ..."""
    pull = torch.arange(1.0, len(found) + 1)[:, None]
    (slope,) = torch.autograd.grad((found * pull).sum(), values)
    return slope


@settings(deadline=None)
@given(st.permutations(range(6)), st.integers(0, 6), st.integers(0, 3))
def test_a_move_takes_rows_and_gives_their_gradients_back(
    order: list[int], n_taken: int, n_empty: int
) -> None:
    values = torch.arange(10.0, 16.0)[:, None].requires_grad_()
    source = torch.tensor([*order[:n_taken], *[-1] * n_empty], dtype=torch.int64)
    found = move(values, source, inverse(source, len(values)))
    padded = torch.cat([values, values.new_zeros(1, 1)])
    wanted = padded[source]  # -1 is the row of zeros
    assert torch.equal(found, wanted)
    assert torch.equal(gradient(found, values), gradient(wanted, values))


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_sums_and_spreads_equal_their_loops(lengths: list[int]) -> None:
    size = torch.tensor(lengths)
    starts = size.cumsum(0) - size
    owner = torch.repeat_interleave(size)
    rows = torch.randn(int(size.sum()), 2, requires_grad=True)
    added = torch.stack([part.sum(0) for part in rows.split(lengths)])
    torch.testing.assert_close(sums(rows, starts, owner), added)
    torch.testing.assert_close(gradient(sums(rows, starts, owner), rows), gradient(added, rows))
    each = torch.randn(len(lengths), 2, requires_grad=True)
    found, wanted = spread(each, starts, owner), each[owner]
    assert torch.equal(found, wanted)
    torch.testing.assert_close(gradient(found, each), gradient(wanted, each))


def test_nothing_to_move_is_ordinary() -> None:
    nothing = torch.zeros(0, 3)
    nowhere = torch.zeros(0, dtype=torch.int64)
    assert move(nothing, torch.tensor([-1, -1]), nowhere).tolist() == [[0.0] * 3] * 2
    assert sums(nothing, nowhere, nowhere).shape == (0, 3)
