"""Rows of one layout to rows of another, with gradients that copy rows instead of adding them."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, source: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(source, target)
        return _taken(values, source)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        _, target = ctx.saved_tensors
        return _taken(gradients[0].contiguous(), target), None, None


def move(values: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """``out[i] = values[source[i]]``, 0 where ``source[i]`` is -1: ``[M, ...] -> [N, ...]``.

    Each row of ``values`` goes to one place at most: ``target [M]`` says which, -1 for none. The
    gradient is then a copy of rows as well, which is several times faster than adding them up.

    >>> move(torch.tensor([[5.0], [7.0]]), torch.tensor([1, -1]), torch.tensor([-1, 0])).tolist()
    [[7.0], [0.0]]
    """
    found: Tensor = _Move.apply(values, source, target)  # type: ignore[no-untyped-call]
    return found


def inverse(source: Tensor, n: int) -> Tensor:
    """Where each of ``n`` rows goes in a move by ``source``, -1 for nowhere."""
    target = source.new_full((n + 1,), -1)
    target[source] = torch.arange(len(source), device=source.device)  # -1 writes to the last
    return target[:n]


def _taken(values: Tensor, rows: Tensor) -> Tensor:
    if not len(values):
        return values.new_zeros(len(rows), *values.shape[1:])
    taken = values.index_select(0, rows.clamp(min=0))
    missing = (rows < 0).view(-1, *[1] * (values.dim() - 1))
    return taken.masked_fill_(missing, 0.0)


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, starts: Tensor, owner: Tensor) -> Tensor:
        ctx.save_for_backward(owner)
        return _summed(values, starts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (owner,) = ctx.saved_tensors
        return gradients[0].index_select(0, owner), None, None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, starts: Tensor, owner: Tensor) -> Tensor:
        ctx.save_for_backward(starts)
        return values.index_select(0, owner)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (starts,) = ctx.saved_tensors
        return _summed(gradients[0].contiguous(), starts), None, None


def _summed(values: Tensor, starts: Tensor) -> Tensor:
    lines = torch.arange(len(values), device=values.device)
    return functional.embedding_bag(lines, values, starts, mode="sum")


def sums(values: Tensor, starts: Tensor, owner: Tensor) -> Tensor:
    """Sums ``[N, D]`` of consecutive rows ``[M, D]``: those of i begin at ``starts [N]``.

    ``owner [M]`` says whose each row is. Those of the last one end with the rows.

    >>> rows = torch.tensor([[1.0], [2.0], [4.0]])
    >>> sums(rows, torch.tensor([0, 1]), torch.tensor([0, 1, 1])).tolist()
    [[1.0], [6.0]]
    """
    found: Tensor = _Sums.apply(values, starts, owner)  # type: ignore[no-untyped-call]
    return found


def spread(values: Tensor, starts: Tensor, owner: Tensor) -> Tensor:
    """Each of ``[N, D]`` at all of its rows, ``[M, D]``: the way back from `sums`.

    >>> rows = torch.tensor([[1.0], [6.0]])
    >>> spread(rows, torch.tensor([0, 1]), torch.tensor([0, 1, 1])).tolist()
    [[1.0], [6.0], [6.0]]
    """
    found: Tensor = _Spread.apply(values, starts, owner)  # type: ignore[no-untyped-call]
    return found
