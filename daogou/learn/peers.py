"""Processes that train one model together: what each does of a step, and how they agree."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from daogou.features.epoch import Epoch
from daogou.features.queries import NO_ROWS, Rows
from daogou.learn.optimise import distinct_rows

T = TypeVar("T")
Array = NDArray[Any]


class Peers:
    """Who trains: here one process alone, which does all of a step and agrees with itself.

    ``rank`` of ``n`` processes; the first leads, and only it writes. ``place`` tells their random
    numbers apart.
    """

    rank = 0
    n = 1
    place: tuple[int, ...] = ()

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def part(self, plan: Epoch) -> Epoch:
        """What this process does of each step."""
        return plan

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes, the same in each to the bit."""
        return values

    def led(self, values: Tensor) -> Tensor:
        """The leader's values."""
        return values

    def agree(self, dense: Sequence[Tensor], tables: Sequence[Tensor], losses: Tensor) -> Tensor:
        """Put the mean over the processes in place of each weight's ``.grad``.

        Returns the mean of ``losses [T]``. Of ``tables`` only rows that some process touched are
        sent. What has a gradient nowhere is left without one.
        """
        return losses

    def in_turn(self, make: Callable[[], T]) -> T:
        """What ``make`` gives: the leader makes it first, the others find on disk what it left."""
        return make()

    def told(self, value: T) -> T:
        """The leader's value."""
        return value

    def dealt(
        self, n: int, size: int, make: Callable[[Rows], Sequence[Array]]
    ) -> Sequence[Array] | None:
        """What ``make`` says of rows 0 to ``n``, arrays ``[n, ...]``; None where another leads.

        Each process makes some of it, whole pieces of ``size`` rows, as one would read them.
        """
        return make(np.arange(n))

    def match(self, model: nn.Module) -> None:
        """Give every process the leader's weights."""


ALONE = Peers()


class Group(Peers):
    """The processes of `torch.distributed`'s default group, each with a part of every step.

    A step reads the rows that it reads in one process, so that as many processes as you like take
    the same steps, but for what is drawn at random and for the sample that matching compares with,
    which is each process's own. A mean over a process's rows counts as much as every other's: of
    two labels in one process and one in the other the latter weighs double.
    """

    def __init__(self) -> None:
        self.rank, self.n = distributed.get_rank(), distributed.get_world_size()
        self.place = (self.rank,) if self.n > 1 else ()

    def part(self, plan: Epoch) -> Epoch:
        """Every process's rows lie side by side, as those of one user do.

        Where a step has fewer rows than there are processes, some of them have the same.
        """
        return replace(
            plan,
            exposures=[self._part(rows) for rows in plan.exposures],
            titles=[self._part(rows) for rows in plan.titles],
            extra_items=[self._part(rows) for rows in plan.extra_items],
            taught=[each[self._part(np.arange(len(each)))] for each in plan.taught],
        )

    def _part(self, rows: Rows) -> Rows:
        if 0 < len(rows) < self.n:  # nothing can be said of no rows
            rows = np.resize(rows, self.n)
        return np.array_split(rows, self.n)[self.rank]

    def mean(self, values: Tensor) -> Tensor:
        """By one sum over all."""
        whole = values.detach().clone()
        distributed.all_reduce(whole)
        return whole / self.n

    def led(self, values: Tensor) -> Tensor:
        """By one message to all."""
        told = values.detach().clone()
        distributed.broadcast(told, 0)
        return told

    def agree(self, dense: Sequence[Tensor], tables: Sequence[Tensor], losses: Tensor) -> Tensor:
        """One sum of all dense gradients and the losses, and beside it one list of touched rows."""
        touched = [_rows_of(weight) for weight in tables]
        have = [int(weight.grad is not None) for weight in dense]
        told = torch.tensor([*have, *(len(rows) for rows, _ in touched)])
        heads = self._gathered(told.to(losses.device), len(told)).cpu()
        somewhere = heads[:, : len(dense)].any(0).tolist()
        taught = [weight for weight, any_ in zip(dense, somewhere, strict=True) if any_]
        for weight in taught:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        parts = [*(weight.grad for weight in taught if weight.grad is not None), losses.detach()]
        flat = torch.cat([each.reshape(-1) for each in parts])
        summing = distributed.all_reduce(flat, async_op=True)
        self._agree_rows(tables, touched, heads[:, len(dense) :])
        summing.wait()
        mean: Tensor
        *gradients, mean = (flat / self.n).split([each.numel() for each in parts])
        for weight, gradient in zip(taught, gradients, strict=True):
            weight.grad = gradient.view_as(weight)
        return mean

    def _agree_rows(
        self, tables: Sequence[Tensor], touched: Sequence[tuple[Tensor, Tensor]], many: Tensor
    ) -> None:
        """``many [n, tables]`` rows came from each process: their numbers, then their values."""
        if not many.any():
            return
        widths = torch.tensor([weight.shape[1] for weight in tables])
        sizes, value_sizes = many.sum(1), (many * widths).sum(1)
        row_bits = torch.cat([rows for rows, _ in touched]).view(torch.float32)  # two of each
        said = torch.cat([row_bits, *(values.reshape(-1) for _, values in touched)])
        most = int((2 * sizes + value_sizes).max())
        heard = self._gathered(said, most + most % 2)  # so that each begins where an int64 may
        pieces = [
            list(zip(
                mine[: 2 * size].view(torch.int64).split(rows.tolist()),
                mine[2 * size : 2 * size + end].split((rows * widths).tolist()),
                strict=True,
            ))
            for mine, rows, size, end in zip(
                heard, many, sizes.tolist(), value_sizes.tolist(), strict=True
            )
        ]  # fmt: skip
        for place, weight in enumerate(tables):
            if many[:, place].any():
                found = torch.cat([each[place][0] for each in pieces])
                summed = torch.cat([each[place][1] for each in pieces]).view(len(found), -1)
                weight.grad = torch.sparse_coo_tensor(
                    found[None], summed / self.n, weight.shape, check_invariants=False
                )

    def _gathered(self, values: Tensor, size: int) -> Tensor:
        """The values ``[m]`` of every process in a row each, ``[n, size]``, 0 past their end."""
        padded = values.new_zeros(size)
        padded[: len(values)] = values
        whole = [torch.empty_like(padded) for _ in range(self.n)]
        distributed.all_gather(whole, padded)
        return torch.stack(whole)

    def in_turn(self, make: Callable[[], T]) -> T:
        """The others wait until the leader is done."""
        if not self.leads:
            distributed.barrier()
        made = make()
        if self.leads:
            distributed.barrier()
        return made

    def told(self, value: T) -> T:
        """The others wait for it."""
        answer = [value]
        distributed.broadcast_object_list(answer)
        return answer[0]

    def dealt(
        self, n: int, size: int, make: Callable[[Rows], Sequence[Array]]
    ) -> Sequence[Array] | None:
        """Every n-th piece is this process's, so that each sees some of all times and users."""
        pieces = [np.arange(start, min(start + size, n)) for start in range(0, n, size)]
        mine = np.concatenate([NO_ROWS, *pieces[self.rank :: self.n]])
        said = (mine, make(mine))
        heard: list[Any] | None = [None] * self.n if self.leads else None
        distributed.gather_object(said, heard)
        if heard is None:
            return None
        whole = [np.empty((n, *each.shape[1:]), each.dtype) for each in said[1]]
        for rows, parts in heard:
            for array, part in zip(whole, parts, strict=True):
                if len(rows):  # of none, an array's width may be unknown
                    array[rows] = part
        return whole

    def match(self, model: nn.Module) -> None:
        """All weights and counts are sent once."""
        for tensor in model.state_dict().values():
            distributed.broadcast(tensor, 0)


def _rows_of(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Touched rows ``[R]`` and their gradients ``[R, D]``; none where there is no gradient."""
    if weight.grad is None:
        empty = torch.zeros(0, dtype=torch.int64, device=weight.device)
        return empty, weight.new_zeros(0, weight.shape[1])
    return distinct_rows(weight.grad)
