"""A network for every task, and after each layer a learnt share of every other one's."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daogou.model.experts import Experts


class CrossStitch(nn.Module):
    """After layer l task k goes on with ``sum_j alpha[l, k, j] h_j``.

    Misra et al., "Cross-stitch Networks for Multi-task Learning", CVPR 2016, equation 1, with one
    alpha for a whole layer. A task starts with ``kept`` of its own and an even share of the rest.
    Nothing routes by row, and what starts near the identity tends to stay there.

    Shapes: ``[B, D] -> [T, B, H]``.
    """

    def __init__(
        self,
        n_inputs: int,
        n_tasks: int,
        *,
        widths: Sequence[int] = (64, 64),
        dropout: float = 0.1,
        kept: float = 0.9,
    ) -> None:
        super().__init__()
        self.n_outputs = widths[-1]
        self.networks = Experts(n_tasks, n_inputs, widths, dropout=dropout)
        own = torch.eye(n_tasks)
        others = (1.0 - own) / max(n_tasks - 1, 1)
        stitch = kept * own + (1.0 - kept) * others if n_tasks > 1 else own
        self.stitch = nn.Parameter(stitch.repeat(len(widths), 1, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs
        for place, alpha in enumerate(self.stitch):
            hidden = torch.einsum("kj,jbh->kbh", alpha, self.networks.layer(place, hidden))
        return hidden
