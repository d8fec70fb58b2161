"""Shared experts and each task's own, extracted level by level."""

import torch
from torch import Tensor, nn

from daogou.model.experts import Experts, Gates


class PLE(nn.Module):
    """Progressive layered extraction: a task mixes its own and the shared experts at each level.

    Tang et al., "Progressive Layered Extraction (PLE)", RecSys 2020, equations 1 to 5; one
    level is the paper's CGC. The shared branch's gate sees all experts, as in the paper. Unlike
    it, experts are normalised SiLU layers and gates start uniform.

    Shapes: ``[B, D] -> [T, B, H]``.
    """

    def __init__(
        self,
        n_inputs: int,
        n_tasks: int,
        *,
        width: int = 64,
        depth: int = 2,
        dropout: float = 0.1,
        n_shared: int = 2,
        n_own: int = 1,
        n_levels: int = 1,
    ) -> None:
        super().__init__()
        self.n_outputs = width
        self.levels = nn.ModuleList()
        for level in range(n_levels):
            last = level == n_levels - 1
            first_inputs = n_inputs if level == 0 else width
            self.levels.append(
                _Level(
                    first_inputs,
                    n_tasks,
                    Experts(n_tasks * n_own, first_inputs, [width] * depth, dropout=dropout),
                    Experts(n_shared, first_inputs, [width] * depth, dropout=dropout),
                    has_shared_gate=not last,
                )
            )

    def forward(self, inputs: Tensor) -> Tensor:
        own: Tensor | None = None  # [T, B, H] from the second level on
        shared = inputs
        for level in self.levels:
            own, shared = level(own, shared)
        assert own is not None
        return own


class _Level(nn.Module):
    """One extraction: own and shared inputs to own and shared outputs."""

    def __init__(
        self,
        n_inputs: int,
        n_tasks: int,
        own: Experts,
        shared: Experts,
        *,
        has_shared_gate: bool,
    ) -> None:
        super().__init__()
        self.n_tasks = n_tasks
        self.own, self.shared = own, shared
        n_own = own.n_experts // n_tasks
        owner = torch.arange(n_tasks).repeat_interleave(n_own)  # [T * n_own]
        is_own = owner[None, :] == torch.arange(n_tasks)[:, None]
        any_shared = torch.ones(n_tasks, shared.n_experts, dtype=torch.bool)
        # One gate per task, so that from the second level on each reads its own input.
        allowed = torch.cat([is_own, any_shared], dim=1)
        self.gates = nn.ModuleList(Gates(n_inputs, allowed[i : i + 1]) for i in range(n_tasks))
        every = torch.ones(1, allowed.shape[1], dtype=torch.bool)
        self.shared_gate = Gates(n_inputs, every) if has_shared_gate else None

    def forward(self, own: Tensor | None, shared: Tensor) -> tuple[Tensor, Tensor]:
        n_own = self.own.n_experts // self.n_tasks
        own_inputs = shared if own is None else own.repeat_interleave(n_own, dim=0)
        experts = torch.cat([self.own(own_inputs), self.shared(shared)])  # [E, B, H]
        mixed = [
            gate(shared if own is None else own[i], experts) for i, gate in enumerate(self.gates)
        ]
        next_shared = self.shared_gate(shared, experts)[0] if self.shared_gate else shared
        return torch.cat(mixed), next_shared
