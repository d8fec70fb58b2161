"""A mixture of shared experts, gated per task."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daogou.model.experts import Experts, Gates


class MMoE(nn.Module):
    """Every task mixes the same experts with a gate of its own.

    Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
    Mixture-of-Experts", KDD 2018, equations 6 to 8. Unlike the paper, experts are SiLU layers
    whose last is normalised; gates start uniform and drop experts in training.

    Shapes: ``[B, D] -> [T, B, H]``.
    """

    def __init__(
        self,
        n_inputs: int,
        n_tasks: int,
        *,
        widths: Sequence[int] = (64, 64),
        dropout: float = 0.1,
        n_experts: int = 4,
        gate_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.n_outputs = widths[-1]
        self.experts = Experts(n_experts, n_inputs, widths, dropout=dropout)
        allowed = torch.ones(n_tasks, n_experts, dtype=torch.bool)
        self.gates = Gates(n_inputs, allowed, dropout=gate_dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        mixed: Tensor = self.gates(inputs, self.experts(inputs))
        return mixed
