"""Many small networks of one shape as grouped matrix products: no Python loop over experts."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from daogou.model.dropout import Dropout


class GroupedLinear(nn.Module):
    """``E`` linear maps at once: ``[B, I]`` that all read, or ``[E, B, I]``, -> ``[E, B, O]``.

    The weight lies as ``[I, E, O]``, so that maps which share their input are one matrix product
    of ``E * O`` outputs. That output lies in memory row by row and is returned as a view.
    """

    def __init__(self, n_maps: int, n_inputs: int, n_outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(n_inputs)
        self.weight = nn.Parameter(torch.empty(n_inputs, n_maps, n_outputs))
        self.bias = nn.Parameter(torch.zeros(n_maps, n_outputs)) if bias else None
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dim() == 2:
            flat = None if self.bias is None else self.bias.flatten()
            found = functional.linear(inputs, self.weight.flatten(1).T, flat)
            return found.view(len(inputs), *self.weight.shape[1:]).transpose(0, 1)
        weight = self.weight.transpose(0, 1)
        if self.bias is None:
            return torch.bmm(inputs, weight)
        return torch.baddbmm(self.bias[:, None], inputs, weight)


class _Apart(torch.autograd.Function):
    """``[B, E, O]`` seen as ``[E, B, O]``; the gradient comes back lying as the input did."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor) -> Tensor:
        return hidden.transpose(0, 1).contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].transpose(0, 1).contiguous()


class Experts(nn.Module):
    """``E`` networks of Linear and SiLU layers that have nothing in common; the last is normalised.

    HoME (KDD 2025) normalises experts so that gates compare outputs of one scale. Unlike the
    paper the norm is LayerNorm, since batch statistics leak across domains in mixed batches; it
    stands before the last SiLU alone and has no scale and shift, which took as long as the norm
    itself and did not help validation (docs/performance.md).

    Shapes: ``[B, I]``, or ``[E, B, I]`` for inputs of their own, -> ``[E, B, H]`` with
    ``H = widths[-1]``.
    """

    def __init__(
        self, n_experts: int, n_inputs: int, widths: Sequence[int], *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        pairs = list(pairwise([n_inputs, *widths]))
        self.layers = nn.ModuleList(GroupedLinear(n_experts, i, o, bias=False) for i, o in pairs)
        # The norm's kernel is twice as fast if it is given a scale and a shift: ones and zeros.
        self.register_buffer("ones", torch.ones(widths[-1]), persistent=False)
        self.register_buffer("zeros", torch.zeros(widths[-1]), persistent=False)
        self.dropout = Dropout(dropout)
        self.n_experts = n_experts

    ones: Tensor
    zeros: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs
        for place in range(len(self.layers)):
            hidden = self.layer(place, hidden)
        return hidden

    def layer(self, place: int, inputs: Tensor) -> Tensor:
        """One layer of every network, for mixers that do something between layers."""
        hidden: Tensor = self.layers[place](inputs)
        # Rows of experts that share an input lie side by side, and are worked on as they lie.
        together = not hidden.is_contiguous()
        if together:
            hidden = hidden.transpose(0, 1)
        hidden = self.activate(place, hidden)
        if together:
            hidden = _Apart.apply(hidden)  # type: ignore[no-untyped-call]
        return hidden

    def activate(self, place: int, hidden: Tensor) -> Tensor:
        """What follows the linear part of a layer."""
        if place + 1 == len(self.layers):
            hidden = self.normal(hidden)
        activated: Tensor = self.dropout(functional.silu(hidden))
        return activated

    def normal(self, hidden: Tensor) -> Tensor:
        """Each row ``[..., H]`` with mean 0 and variance 1."""
        scale, shift = self.ones.to(hidden.dtype), self.zeros.to(hidden.dtype)
        return functional.layer_norm(hidden, scale.shape, scale, shift)


def owners(n_tasks: int, n_own: int, n_shared: int) -> Tensor:
    """Whose each expert is, ``[E]``: ``n_own`` of each task, then ``n_tasks`` for the shared ones.

    >>> owners(2, 2, 1).tolist()
    [0, 0, 1, 1, 2]
    """
    own = torch.arange(n_tasks).repeat_interleave(n_own)
    return torch.cat([own, torch.full((n_shared,), n_tasks)])


class Gates(nn.Module):
    """Softmax mixtures of experts, one per task: ``[B, I], [E, B, H] -> [T, B, H]``.

    Tasks may read inputs of their own, ``[T, B, I]``. Gates start uniform. In training each
    weight is dropped with probability ``dropout`` and the rest renormalised, against a gate that
    settles on one expert (Zhao et al., "Recommending What Video to Watch Next", RecSys 2019).
    ``allowed [T, E]`` says which experts a task may use.
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
        self.linear = GroupedLinear(n_tasks, n_inputs, n_experts)
        nn.init.zeros_(self.linear.weight)
        self.register_buffer("closed", ~allowed[:, None, :], persistent=False)  # [T, 1, E]
        self.dropout = dropout

    closed: Tensor

    def weights(self, inputs: Tensor) -> Tensor:
        """How much each task takes of each expert, ``[T, B, E]``, rows summing to 1."""
        logits = self.linear(inputs)
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
