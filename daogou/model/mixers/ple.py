"""Shared experts and each task's own, extracted level by level."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daogou.model.experts import Experts, Gates, owners


class PLE(nn.Module):
    """Progressive layered extraction: a task mixes its own and the shared experts at each level.

    Tang et al., "Progressive Layered Extraction (PLE)", RecSys 2020, equations 1 to 5; one
    level is the paper's CGC. The shared branch's gate sees all experts, as in the paper. Unlike
    it, experts are SiLU layers whose last is normalised; gates start uniform and drop experts in
    training.

    Shapes: ``[B, D] -> [T, B, H]``.
    """

    def __init__(
        self,
        n_inputs: int,
        n_tasks: int,
        *,
        widths: Sequence[int] = (64, 64),
        dropout: float = 0.1,
        n_shared: int = 2,
        n_own: int = 1,
        n_levels: int = 1,
        gate_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.n_outputs = widths[-1]
        # Whose experts: n_own of each task, then the shared branch's, which stands after the tasks.
        owner = owners(n_tasks, n_own, n_shared)
        self.register_buffer("owner", owner, persistent=False)
        allowed = (owner == n_tasks) | (owner == torch.arange(n_tasks + 1)[:, None])
        allowed[n_tasks] = True
        self.experts, self.gates = nn.ModuleList(), nn.ModuleList()
        self.n_gates = [n_tasks + 1] * (n_levels - 1) + [n_tasks]  # a last level shares no further
        for level, n_gates in enumerate(self.n_gates):
            n_read = n_inputs if level == 0 else self.n_outputs
            self.experts.append(Experts(len(owner), n_read, widths, dropout=dropout))
            self.gates.append(Gates(n_read, allowed[:n_gates], dropout=gate_dropout))

    owner: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        mixed = inputs  # [B, D], and [T + 1, B, H] between levels
        for level, (experts, gates) in enumerate(zip(self.experts, self.gates, strict=True)):
            read = mixed if level == 0 else mixed.index_select(0, self.owner)
            asked = mixed if level == 0 else mixed[: self.n_gates[level]]
            mixed = gates(asked, experts(read))
        return mixed
