"""Many small networks of one shape as grouped matrix products: no Python loop over experts."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class GroupedLinear(nn.Module):
    """``E`` linear maps at once: ``[E, B, I] -> [E, B, O]``."""

    def __init__(self, n_experts: int, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(n_inputs)
        self.weight = nn.Parameter(torch.empty(n_experts, n_inputs, n_outputs))
        self.bias = nn.Parameter(torch.zeros(n_experts, 1, n_outputs))
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, inputs, self.weight)


class Experts(nn.Module):
    """``E`` networks of Linear, LayerNorm, SiLU layers, all reading the same input.

    HoME (KDD 2025) normalises experts so that gates compare outputs of one scale; unlike the
    paper the norm is LayerNorm, since batch statistics leak across domains in mixed batches.

    Shapes: ``[B, I]`` or ``[E, B, I]`` -> ``[E, B, H]`` with ``H = widths[-1]``.
    """

    def __init__(
        self, n_experts: int, n_inputs: int, widths: Sequence[int], *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        sizes = [n_inputs, *widths]
        pairs = list(pairwise(sizes))
        self.layers = nn.ModuleList(GroupedLinear(n_experts, i, o) for i, o in pairs)
        self.scales = nn.ParameterList(torch.ones(n_experts, 1, o) for _, o in pairs)
        self.shifts = nn.ParameterList(torch.zeros(n_experts, 1, o) for _, o in pairs)
        self.dropout = nn.Dropout(dropout)
        self.n_experts = n_experts

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs
        if hidden.dim() == 2:
            hidden = hidden.expand(self.n_experts, *hidden.shape)
        for layer, scale, shift in zip(self.layers, self.scales, self.shifts, strict=True):
            normed = nn.functional.layer_norm(layer(hidden), scale.shape[-1:])
            hidden = self.dropout(nn.functional.silu(normed * scale + shift))
        return hidden


class Gates(nn.Module):
    """Softmax mixtures of experts, one per task: ``[B, I], [E, B, H] -> [T, B, H]``.

    Starts uniform. In training each weight is dropped with probability ``dropout`` and the rest
    renormalised, against a gate that settles on one expert (Zhao et al., "Recommending What
    Video to Watch Next", RecSys 2019). ``allowed [T, E]`` says which experts a task may use.
    """

    def __init__(
        self,
        n_inputs: int,
        allowed: Tensor,
        *,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        n_tasks, n_experts = allowed.shape
        self.linear = nn.Linear(n_inputs, n_tasks * n_experts)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("closed", ~allowed[:, None, :], persistent=False)  # [T, 1, E]
        self.dropout = dropout

    closed: Tensor

    def weights(self, inputs: Tensor) -> Tensor:
        """How much each task takes of each expert, ``[T, B, E]``, rows summing to 1."""
        n_tasks, _, n_experts = self.closed.shape
        logits = self.linear(inputs).view(len(inputs), n_tasks, n_experts).transpose(0, 1)
        closed = self.closed
        if self.training and self.dropout > 0:
            dropped = torch.rand(logits.shape, device=logits.device) < self.dropout
            # Dropping every expert would leave nothing to renormalise: such a row keeps all.
            dropped &= ~(dropped | closed).all(-1, keepdim=True)
            closed = closed | dropped
        weights: Tensor = logits.masked_fill(closed, -torch.inf).softmax(-1)
        return weights

    def forward(self, inputs: Tensor, experts: Tensor) -> Tensor:
        mixed: Tensor = torch.einsum("tbe,ebh->tbh", self.weights(inputs), experts)
        return mixed
