"""Shared experts and each task's own: all are read, none is taught by another task."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daogou.model.experts import Experts, Gates, owners


class STEM(nn.Module):
    """All-forward, task-specific backward: a task mixes every expert and teaches its own.

    Su et al., "STEM: Unleashing the Power of Embeddings for Multi-task Recommendation", AAAI 2024,
    equations 5 to 8. A task's own experts read rows that belong to it alone (`OwnRows`), and in
    mixing, other tasks' experts are read with their gradient stopped. Unlike the paper, where own
    experts read nothing else, they read the encoders' output too, with its gradient stopped: what
    encoders learn comes through the shared experts.

    Shapes: ``[B, D]`` and own rows ``[T, B, n_own_inputs]`` -> ``[T, B, H]``.
    """

    def __init__(
        self,
        n_inputs: int,
        n_tasks: int,
        *,
        widths: Sequence[int] = (64, 64),
        dropout: float = 0.1,
        n_shared: int = 1,
        n_own: int = 1,
        gate_dropout: float = 0.1,
        n_own_inputs: int = 0,
    ) -> None:
        super().__init__()
        self.n_outputs, self.n_tasks, self.n_own = widths[-1], n_tasks, n_own
        self.shared = Experts(n_shared, n_inputs, widths, dropout=dropout)
        self.own = Experts(n_tasks * n_own, n_inputs + n_own_inputs, widths, dropout=dropout)
        owner = owners(n_tasks, n_own, n_shared)
        teaches = (owner == n_tasks) | (owner == torch.arange(n_tasks)[:, None])
        self.register_buffer("teaches", teaches[:, None], persistent=False)  # [T, 1, E]
        self.gates = Gates(n_inputs + n_own_inputs, torch.ones_like(teaches), dropout=gate_dropout)

    teaches: Tensor

    def forward(self, inputs: Tensor, own: Tensor | None = None) -> Tensor:
        view = inputs.detach().expand(self.n_tasks, *inputs.shape)
        if own is not None:
            view = torch.cat([view, own.to(view.dtype)], dim=2)
        experts = torch.cat([self.own(view.repeat_interleave(self.n_own, 0)), self.shared(inputs)])
        weights = self.gates.weights(view)  # [T, B, E]
        taught = torch.einsum("tbe,ebh->tbh", weights * self.teaches, experts)
        read = torch.einsum("tbe,ebh->tbh", weights * ~self.teaches, experts.detach())
        return taught + read
