"""Exposures laid out by user: every value comes back, and busy users cost no more than others."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from daogou.model.group import grid_of

USERS = st.lists(st.integers(0, 9), max_size=40)


@given(USERS)
def test_every_value_lies_with_its_user_and_comes_back(user: list[int]) -> None:
    grid = grid_of(torch.tensor(user, dtype=torch.int64))
    values = torch.arange(1.0, len(user) + 1)[:, None]
    cells = grid.spread(values)
    assert torch.equal(grid.gather(cells), values)
    assert cells.sum() == values.sum()  # and nothing else is anywhere
    assert grid.owner[grid.cell // grid.n_cells].tolist() == user


@given(USERS)
def test_there_are_at_most_twice_as_many_cells_as_exposures_and_users(user: list[int]) -> None:
    grid = grid_of(torch.tensor(user, dtype=torch.int64))
    assert len(grid.owner) * grid.n_cells <= 2 * (len(user) + len(set(user)))


def test_one_busy_user_does_not_make_the_lines_of_others_long() -> None:
    user = torch.tensor([0] * 91 + [1, 2, 3, 4, 5, 6, 7, 8, 9])  # 10 each on average
    grid = grid_of(user)
    assert grid.n_cells == 10
    assert grid.owner.tolist() == [0] * 10 + list(range(1, 10))


def test_gradients_pass_through_the_cells() -> None:
    values = torch.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    grid = grid_of(torch.tensor([4, 2, 4]))
    (grid.gather(grid.spread(values)) * torch.tensor([[1.0], [10.0], [100.0]])).sum().backward()
    assert values.grad is not None and values.grad[:, 0].tolist() == [1.0, 10.0, 100.0]
