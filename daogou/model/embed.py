"""Rows and numbers to vectors: the sparse tables and the encoding of input columns."""

import math
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

N_WAVES: Final = 4  # frequencies of a number's periodic encoding
BASIS: Final = 2 + 2 * N_WAVES


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.padding, ctx.shape = padding, weight.shape
        if ids.shape[1] == 1:
            return weight.index_select(0, ids[:, 0])
        return functional.embedding_bag(
            ids, weight, mode="sum", padding_idx=padding if padding >= 0 else None
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (ids,), (gradient,) = ctx.saved_tensors, gradients
        rows, total = summed(ids, gradient.contiguous())
        if ctx.padding >= 0:
            learns = rows != ctx.padding
            rows, total = rows[learns], total[learns]
        sparse = torch.sparse_coo_tensor(rows[None], total, ctx.shape, check_invariants=False)
        return sparse, None, None


def summed(ids: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct rows among ``ids [N, F]``, in order, and what they get of ``gradient [N, W]``.

    Each id of a line gets the whole of its line. One sort, then one walk over what was sorted:
    faster than adding row by row, and no slower in a larger table (docs/performance.md).
    """
    in_order, order = ids.flatten().int().sort(stable=True)
    first = torch.ones_like(in_order, dtype=torch.bool)
    first[1:] = in_order[1:] != in_order[:-1]
    starts = first.nonzero()[:, 0]
    lines = order if ids.shape[1] == 1 else order // ids.shape[1]
    total = functional.embedding_bag(lines, gradient, starts, mode="sum")
    return in_order[starts].long(), total


class Table(nn.Embedding):
    """A table whose gradient holds the rows that a batch touched, each once.

    Calling it looks rows up, ``ids [...] -> [..., W]``; ``sums`` adds up those of a bag of ids,
    ``[N, F] -> [N, W]``. Row ``padding``, if there is one, is zero and stays zero.
    """

    def __init__(self, n_rows: int, width: int, *, std: float, padding: int = -1) -> None:
        if n_rows > 2**31 - 1:
            raise ValueError(f"{n_rows} rows: a table has at most 2^31 - 1; raise fit.min_count")
        super().__init__(n_rows, width, padding_idx=padding if padding >= 0 else None, sparse=True)
        nn.init.normal_(self.weight, std=std)
        if padding >= 0:
            with torch.no_grad():
                self.weight[padding] = 0.0
        self.padding = padding

    def forward(self, ids: Tensor) -> Tensor:
        return self.sums(ids.reshape(-1, 1)).view(*ids.shape, self.embedding_dim)

    def sums(self, ids: Tensor) -> Tensor:
        """The sum of each row of ids, ``[N, F] -> [N, W]``."""
        if not torch.is_grad_enabled() and ids.shape[1] == 1:
            return self.weight.index_select(0, ids[:, 0])
        found: Tensor = _Lookup.apply(  # type: ignore[no-untyped-call]
            self.weight, ids, self.padding
        )
        return found


class Fields(nn.Module):
    """Input columns side by side: one lookup for all categories and buckets, waves for numbers.

    A number is its bucket's row and a periodic encoding of its rank (Gorishniy et al., "On
    Embeddings for Numerical Features in Tabular Deep Learning", NeurIPS 2022; unlike the paper
    the frequencies are fixed powers of two, since ranks already lie in [0, 1]).

    Shapes: rows ``[B, C]`` and ranks ``[B, K]`` -> ``[B, n_outputs]``.
    """

    def __init__(self, n_rows: int, n_columns: int, n_numbers: int, width: int) -> None:
        super().__init__()
        self.n_outputs = n_columns * width + n_numbers * BASIS
        self.table = Table(n_rows, width, std=spread(width)) if n_columns else None
        self.register_buffer("waves", math.pi * 2.0 ** torch.arange(N_WAVES), persistent=False)

    waves: Tensor

    def forward(self, rows: Tensor, ranks: Tensor) -> Tensor:
        if self.table is None:
            return ranks.new_zeros(len(rows), 0)
        looked_up: Tensor = self.table(rows).flatten(1)  # [B, C * W]
        if not ranks.shape[1]:
            return looked_up
        angles = ranks[..., None] * self.waves  # [B, K, N_WAVES]
        plain = torch.stack([ranks * 2 - 1, (ranks * 2 - 1) ** 2], dim=-1)
        basis = torch.cat([plain, angles.sin(), angles.cos()], dim=-1)  # [B, K, basis]
        return torch.cat([looked_up, basis.flatten(1)], dim=1)


def spread(width: int) -> float:
    """Standard deviation of a new row's elements: rows of any width start a quarter long."""
    return 0.25 / math.sqrt(width)


def forget(ids: Tensor, share: float, training: bool) -> Tensor:
    """Ids with a random share replaced by the unknown row, so that it learns the average.

    The unknown row then serves new items and users, and content must carry what ids cannot.
    """
    if not training or share <= 0:
        return ids
    return torch.where(torch.rand(ids.shape, device=ids.device) < share, 0, ids)
