"""Two levels of experts in a hierarchy of tasks, each expert with a view of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daogou.errors import ConfigError
from daogou.model.experts import Experts, Gates, GroupedLinear


class FeatureGates(nn.Module):
    """A view of the input for each expert: ``x * 2 sigmoid(x A_e B_e)``, of a low rank.

    Starts as the input itself. Shapes: ``[B, D]`` or ``[E, B, D]`` -> ``[E, B, D]``.
    """

    def __init__(self, n_experts: int, n_inputs: int, rank: int) -> None:
        super().__init__()
        self.narrow = GroupedLinear(n_experts, n_inputs, rank, bias=False)
        self.wide = GroupedLinear(n_experts, rank, n_inputs, bias=False)
        nn.init.zeros_(self.wide.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        gate: Tensor = 2 * self.wide(self.narrow(inputs)).sigmoid()
        return inputs * gate


class HoME(nn.Module):
    """Global, group and own experts; gates see only their branch.

    Wang et al., "HoME: Hierarchy of Multi-Gate Experts for Multi-Task Learning at Kuaishou", KDD
    2025. A meta level makes one output that is global and one per group of tasks; a task level
    mixes the global, the group's and the task's own experts, which read them. Feature gates give
    each expert its own view, and a self gate adds a task's own experts past its softmax gate, so
    that a sparse task's are never starved. Unlike the paper experts have LayerNorm, not BatchNorm.

    ``groups`` numbers each task's group from 0; () puts the first task (browsing) alone and the
    others (buying) together. Shapes: ``[B, D] -> [T, B, H]``.
    """

    def __init__(
        self,
        n_inputs: int,
        n_tasks: int,
        *,
        widths: Sequence[int] = (64, 64),
        dropout: float = 0.1,
        groups: tuple[int, ...] = (),
        n_experts: int = 1,
        rank: int = 4,
        gate_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.n_outputs = width = widths[-1]
        told = groups or tuple(min(task, 1) for task in range(n_tasks))
        if len(told) != n_tasks or {*told} != set(range(max(told) + 1)):
            raise ConfigError(
                f"model.mixer_options.groups: {list(groups)}; "
                f"give each of the {n_tasks} tasks a number, from 0 up"
            )
        group, n_groups = torch.tensor(told), max(told) + 1
        self.n_experts, self.n_tasks = n_experts, n_tasks
        # Units of the meta level: everybody's, then the groups'.
        unit = torch.arange(1 + n_groups).repeat_interleave(n_experts)
        allowed = (unit == 0) | (unit == torch.arange(1 + n_groups)[:, None])
        allowed[0] = True
        self.meta_views = FeatureGates(len(unit), n_inputs, rank)
        self.meta = Experts(len(unit), n_inputs, widths, dropout=dropout)
        self.meta_gates = Gates(n_inputs, allowed, dropout=gate_dropout)
        # Of the task level: the same, then the tasks' own. Each reads its unit, a task its group.
        task = torch.arange(n_tasks)
        own = task.repeat_interleave(n_experts)
        reads = torch.cat([unit, 1 + group[own]])
        whose = torch.cat([torch.full((len(unit),), -1), own])
        shared = (unit == 0) | (unit == 1 + group[:, None])  # [T, units]
        self.register_buffer("reads", reads, persistent=False)
        self.register_buffer("asks", 1 + group, persistent=False)
        self.views = FeatureGates(len(reads), width, rank)
        self.experts = Experts(len(reads), width, widths, dropout=dropout)
        branch = torch.cat([shared, whose[len(unit) :] == task[:, None]], dim=1)
        self.gates = Gates(width, branch, dropout=gate_dropout)
        self.self_gate = GroupedLinear(n_tasks, width, width)

    reads: Tensor
    asks: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        meta = self.meta_gates(inputs, self.meta(self.meta_views(inputs)))  # [1 + G, B, H]
        experts: Tensor = self.experts(self.views(meta.index_select(0, self.reads)))
        asked = meta.index_select(0, self.asks)  # [T, B, H]
        own = experts[-self.n_tasks * self.n_experts :]
        own = own.view(self.n_tasks, self.n_experts, *own.shape[1:]).mean(1)
        mixed: Tensor = self.gates(asked, experts)
        added: Tensor = self.self_gate(asked).sigmoid() * own
        return mixed + added
