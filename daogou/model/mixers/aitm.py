"""A network for every task, each handed on what the task before it in the funnel found."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from daogou.model.experts import Experts, GroupedLinear


class AITM(nn.Module):
    """Task t attends to its own network and to what task t - 1 transfers.

    Xi et al., "Modeling the Sequential Dependence among Audience Multi-step Conversions with
    Multi-task Learning in Targeted Display Advertising", KDD 2021, equations 3 to 6: with
    p = info(z_{t-1}), ``z_t = sum over u in {p, q_t} of softmax(<h2(u), h3(u)> / sqrt(H)) h1(u)``.
    Unlike there no calibrator pushes later chances below earlier ones: our stages are conditional
    and multiplied, so they are ordered by construction. Tasks are in the funnel's order, on
    which the output depends.

    Shapes: ``[B, D] -> [T, B, H]``.
    """

    def __init__(
        self, n_inputs: int, n_tasks: int, *, widths: Sequence[int] = (64, 64), dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.n_outputs = width = widths[-1]
        self.networks = Experts(n_tasks, n_inputs, widths, dropout=dropout)
        self.info = nn.ModuleList(nn.Linear(width, width) for _ in range(n_tasks - 1))
        # h1, h2 and h3 of each transfer, as one product.
        self.attend = nn.ModuleList(GroupedLinear(3, width, width) for _ in range(n_tasks - 1))

    def forward(self, inputs: Tensor) -> Tensor:
        own: Tensor = self.networks(inputs)
        found = [own[0]]
        for task, (info, attend) in enumerate(zip(self.info, self.attend, strict=True), start=1):
            handed = functional.silu(info(found[-1]))
            both = torch.stack([handed, own[task]])  # [2, B, H]
            value, key, query = attend(both.flatten(0, 1)).view(3, *both.shape)
            scores = (key * query).sum(-1, keepdim=True) / math.sqrt(self.n_outputs)
            found.append((scores.softmax(0) * value).sum(0))
        return torch.stack(found)
