"""What a user took or was shown to numbers that a linear model of their profile can read."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

FEW: Final = 512  # a column of more values may teach by heart what it should teach
N_FACTORS: Final = 16
USUAL: Final = 50.0  # products of what is usual that factors read beside a user's own
_USUAL: Final = 20.0  # events of what is usual that shares read beside a user's own
_LEAST_SPREAD: Final = 0.05  # of a log count: what hardly anybody has once is not made large
_LEAST_OF_SHARES: Final = 0.01  # and of a share's root, whose numbers are smaller
_LEAST_OF_FACTORS: Final = 1e-6
_FACTOR: Final = 4.0  # spread of a factor, which stands for very many products, beside a value's


@dataclass(frozen=True)
class Tastes:
    """What a history can be counted by: the values of the items' columns that have few.

    ``columns [K]`` are places among the items' marks, ``first [K]`` the mark of each column's
    first value, ``sizes [K]`` how many values it has; ``n_actions`` kinds of event; ``n_ids`` id
    rows of products, 0 where no factors are read.
    """

    columns: tuple[int, ...]
    first: tuple[int, ...]
    sizes: tuple[int, ...]
    n_actions: int
    n_ids: int = 0

    @property
    def n_values(self) -> int:
        """Values of all columns."""
        return sum(self.sizes)

    @property
    def n_factors(self) -> int:
        """Factors that are read."""
        return N_FACTORS if self.n_ids else 0

    @property
    def n_counted(self) -> int:
        """Numbers that `Habits.count` gives."""
        return self.n_values + self.n_actions + self.n_factors

    @property
    def n_signs(self) -> int:
        """Numbers that `Habits` makes of what it counted."""
        return 2 * self.n_values + self.n_actions + self.n_factors

    @property
    def many(self) -> list[int]:
        """Those of the columns that have more than `FEW` values."""
        pairs = zip(self.columns, self.sizes, strict=True)
        return [column for column, size in pairs if size > FEW]

    def reading(self, many: Collection[int], *, logs: bool, factors: bool) -> Tensor:
        """Which of the signs are read, ``[F]``: not columns of many values that ``many`` lacks.

        ``logs`` are those of counts of values.
        """
        left_out = set(self.many) - set(many)
        kept = torch.tensor([column not in left_out for column in self.columns], dtype=torch.bool)
        values = kept.repeat_interleave(torch.tensor(self.sizes, dtype=torch.int64))
        kinds = torch.ones(self.n_actions, dtype=torch.bool)
        return torch.cat([values & logs, values, kinds, torch.full((self.n_factors,), factors)])


class Habits(nn.Module):
    """Counts of one kind of past, say of what was taken, against those of other users.

    ``loadings [n_ids, N_FACTORS]`` say of each product how it goes with the others
    (`daogou.learn.factors`); a user's factors are the sum over their products, each once however
    often it is there, divided by how many there are and `USUAL` more: of three products they say
    little. All buffers are fitted (`compare_with`), none is trained.
    """

    def __init__(self, tastes: Tastes) -> None:
        super().__init__()
        self.tastes = tastes
        self.register_buffer("usual", torch.zeros(tastes.n_values))
        self.register_buffer("loadings", torch.zeros(tastes.n_ids, tastes.n_factors))
        self.register_buffer("mean", torch.zeros(tastes.n_signs))
        self.register_buffer("spread", torch.ones(tastes.n_signs))

    usual: Tensor
    loadings: Tensor
    mean: Tensor
    spread: Tensor

    def count(self, marks: Tensor, ids: Tensor | None, action: Tensor) -> Tensor:
        """What is counted of pasts: `habits`, then factors, ``[Q, V + A + R]``.

        ``marks [Q, L, M]`` and id rows ``[Q, L]`` of the products, ``action [Q, L]``, 0 where there
        is none.
        """
        counted = habits(marks, action, self.tastes)
        if not self.tastes.n_ids:
            return counted
        assert ids is not None
        each = torch.where(action > 0, ids, 0).sort(1).values
        known = each > 0
        known[:, 1:] &= each[:, 1:] != each[:, :-1]
        total = torch.einsum("ql,qlr->qr", known.to(self.loadings.dtype), self.loadings[each])
        return torch.cat([counted, total / (known.sum(1, keepdim=True) + USUAL)], dim=1)

    def compare_with(self, counted: Tensor) -> None:
        """Remember what is usual among some users, as `count` counted them."""
        tastes = self.tastes
        values = counted[:, : tastes.n_values]
        total = counted[:, tastes.n_values :][:, : tastes.n_actions].sum(1, keepdim=True)
        shares = values / total.clamp(min=1)
        self.usual.copy_(shares.sum(0) / (total > 0).sum().clamp(min=1))
        read = self._signs(counted)
        least = torch.full_like(self.spread, _LEAST_SPREAD)
        least[tastes.n_values : 2 * tastes.n_values] = _LEAST_OF_SHARES
        least[tastes.n_signs - tastes.n_factors :] = _LEAST_OF_FACTORS
        self.mean.copy_(read.mean(0))
        self.spread.copy_(read.std(0, correction=0).maximum(least))
        self.spread[tastes.n_signs - tastes.n_factors :] /= _FACTOR

    def standard(self, counted: Tensor) -> Tensor:
        """What was counted as `signs` and factors, ``[Q, F]``, against others.

        Whose past is empty is like the mean.
        """
        read = (self._signs(counted) - self.mean) / self.spread
        return torch.where(counted.any(1, keepdim=True), read, 0.0)

    def _signs(self, counted: Tensor) -> Tensor:
        n_counts = self.tastes.n_values + self.tastes.n_actions
        return torch.cat([signs(counted[:, :n_counts], self.usual), counted[:, n_counts:]], dim=1)


def habits(marks: Tensor, action: Tensor, tastes: Tastes) -> Tensor:
    """How many of a history's events have each value, then are of each kind, ``[Q, V + A]``.

    ``marks [Q, L, M]`` of the events' items, ``action [Q, L]``, 0 where there is none.
    """
    known = action > 0
    counts = marks.new_zeros(len(marks), tastes.n_values + 1, dtype=torch.float32)
    start = 1  # place 0 takes what is no event
    for column, first, size in zip(tastes.columns, tastes.first, tastes.sizes, strict=True):
        place = torch.where(known, marks[..., column] - first + start, 0)
        counts.scatter_add_(1, place, known.float())
        start += size
    kinds = torch.arange(1, tastes.n_actions + 1, device=action.device)
    return torch.cat([counts[:, 1:], (action[:, :, None] == kinds).sum(1)], dim=1)


def signs(counted: Tensor, usual: Tensor) -> Tensor:
    """What `habits` counted, ``[Q, V + A]``, as numbers that a linear model can read, ``[Q, F]``.

    Of each value the log of one plus its events, then of each the root of its share of the events,
    then the log of one plus the events of each kind. Counts say how much, shares say of what. A
    share is told as if the user had taken `_USUAL` events more, of what is usual (``[V]``, shares):
    of three events it says little.
    """
    n_values = len(usual)
    values, kinds = counted[:, :n_values], counted[:, n_values:]
    shares = (values + _USUAL * usual) / (kinds.sum(1, keepdim=True) + _USUAL)
    return torch.cat([values.log1p(), shares.sqrt(), kinds.log1p()], dim=1)
