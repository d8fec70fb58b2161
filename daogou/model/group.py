"""Exposures that share a user to a grid of rows per user, so that histories are read in place."""

from dataclasses import dataclass

import torch
from torch import Tensor

from daogou.model.rows import inverse, move


@dataclass(frozen=True)
class Grid:
    """``B`` exposures as ``G`` lines of at most ``R`` cells; the cells of a line share a user.

    ``owner [G]`` is each line's user, ``cell [B]`` each exposure's place among the ``G * R``, and
    ``back [G * R]`` which exposure is there, -1 for none. One line has the exposures in order.
    A user with more exposures than ``R`` has several lines, so that one busy user does not make
    every line long: at most twice as many cells as exposures and users together.
    """

    owner: Tensor
    cell: Tensor
    back: Tensor
    n_cells: int  # R

    def spread(self, values: Tensor) -> Tensor:
        """Values ``[B, ...]`` of the exposures in their cells, ``[G, R, ...]``; 0 elsewhere."""
        cells = values if len(self.owner) == 1 else move(values, self.back, self.cell)
        return cells.view(len(self.owner), self.n_cells, *values.shape[1:])

    def gather(self, cells: Tensor) -> Tensor:
        """The exposures' values ``[B, ...]`` out of their cells ``[G, R, ...]``."""
        lines = cells.flatten(0, 1)
        return lines if len(self.owner) == 1 else move(lines, self.cell, self.back)


def grid_of(user: Tensor) -> Grid:
    """The grid of exposures whose users are ``user [B]``.

    A line is as long as users have exposures on average. Reading a history per line and not per
    exposure is what makes attention cheap: no copy of it is made for each candidate.

    >>> grid = grid_of(torch.tensor([7, 3, 7, 7]))
    >>> grid.owner.tolist(), grid.cell.tolist()
    ([3, 7, 7], [2, 0, 3, 4])
    """
    n = len(user)
    if n and bool((user == user[0]).all()):  # as where somebody's products are ranked
        place = torch.arange(n, device=user.device)
        return Grid(user[:1], place, place, n)
    in_order, order = user.sort(stable=True)
    place = torch.arange(n, device=user.device)
    first = torch.ones(n, dtype=torch.bool, device=user.device)
    first[1:] = in_order[1:] != in_order[:-1]
    n_users = int(first.sum())
    n_cells = max(-(-n // max(n_users, 1)), 1)
    rank = place - torch.where(first, place, 0).cummax(0).values if n else place
    slot = rank % n_cells
    line = (slot == 0).cumsum(0) - 1
    cell = torch.empty_like(place)
    cell[order] = line * n_cells + slot
    owner = in_order[slot == 0]
    return Grid(owner, cell, inverse(cell, len(owner) * n_cells), n_cells)
