"""Rows and numbers to vectors: the sparse tables and the encoding of input columns."""

import math
from typing import Final

import torch
from torch import Tensor, nn

N_WAVES: Final = 4  # frequencies of a number's periodic encoding
_BASIS: Final = 2 + 2 * N_WAVES


def table(n_rows: int, width: int) -> nn.Embedding:
    """A table whose gradient holds only the rows that a batch touched."""
    embedding = nn.Embedding(n_rows, width, sparse=True)
    nn.init.normal_(embedding.weight, std=1.0 / math.sqrt(width) / 4)
    return embedding


class Fields(nn.Module):
    """Input columns side by side: one lookup for all categories and buckets, waves for numbers.

    A number is its bucket's row and a periodic encoding of its rank (Gorishniy et al., "On
    Embeddings for Numerical Features in Tabular Deep Learning", NeurIPS 2022; unlike the paper
    the frequencies are fixed powers of two, since ranks already lie in [0, 1]).

    Shapes: rows ``[B, C]`` and ranks ``[B, K]`` -> ``[B, n_outputs]``.
    """

    def __init__(self, n_rows: int, n_columns: int, n_numbers: int, width: int) -> None:
        super().__init__()
        self.n_outputs = n_columns * width + n_numbers * _BASIS
        self.table = table(n_rows, width) if n_columns else None
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


def forget(ids: Tensor, share: float, training: bool) -> Tensor:
    """Ids with a random share replaced by the unknown row, so that it learns the average.

    The unknown row then serves new items and users, and content must carry what ids cannot.
    """
    if not training or share <= 0:
        return ids
    return torch.where(torch.rand(ids.shape, device=ids.device) < share, 0, ids)
