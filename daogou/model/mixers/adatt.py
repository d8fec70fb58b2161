"""Experts of each task and shared ones: a gate over all of them beside a task's own mean."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daogou.model.experts import Experts, Gates, owners


class AdaTT(nn.Module):
    """Each level adds a gated mixture of all experts to a linear mixture of the task's own.

    Li et al., "AdaTT: Adaptive Task-to-Task Fusion Network for Multitask Learning in
    Recommendations", KDD 2023: the general form, with AllExpGF over every unit's experts and
    NativeExpertLF over a unit's own, whose weights read no input. Units are the tasks and, below
    the last level, one that is shared. Unlike the paper, experts are SiLU layers whose last is
    normalised; gates start uniform and drop experts in training; own weights start as a mean and
    learn even where a unit has a single expert.

    Shapes: ``[B, D] -> [T, B, H]``.
    """

    def __init__(
        self,
        n_inputs: int,
        n_tasks: int,
        *,
        widths: Sequence[int] = (64, 64),
        dropout: float = 0.1,
        n_own: int = 1,
        n_shared: int = 1,
        n_levels: int = 1,
        gate_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.n_outputs = widths[-1]
        # Whose experts: n_own of each task, then those of the shared unit, which stands last.
        owner = owners(n_tasks, n_own, n_shared)
        self.register_buffer("owner", owner, persistent=False)
        self.experts, self.gates = nn.ModuleList(), nn.ModuleList()
        self.native = nn.ParameterList()
        self.n_units = [n_tasks + 1] * (n_levels - 1) + [n_tasks]  # a last level shares no further
        for level, n_units in enumerate(self.n_units):
            n_read = n_inputs if level == 0 else self.n_outputs
            self.experts.append(Experts(len(owner), n_read, widths, dropout=dropout))
            everything = torch.ones(n_units, len(owner), dtype=torch.bool)
            self.gates.append(Gates(n_read, everything, dropout=gate_dropout))
            of_tasks = torch.full((n_tasks * n_own,), 1.0 / max(n_own, 1))
            of_shared = torch.full((n_shared * (n_units - n_tasks),), 1.0 / max(n_shared, 1))
            self.native.append(torch.cat([of_tasks, of_shared]))

    owner: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        mixed = inputs  # [B, D], and [T + 1, B, H] between levels
        for level, n_units in enumerate(self.n_units):
            read = mixed if level == 0 else mixed.index_select(0, self.owner)
            asked = mixed if level == 0 else mixed[:n_units]
            gate: Tensor = self.gates[level].weights(asked)  # type: ignore[operator]
            # What a unit takes of its own is added to the gate, so that both mixtures are one.
            taken = gate + self._own(level)[:, None]
            mixed = torch.einsum("ube,ebh->ubh", taken, self.experts[level](read))
        return mixed

    def _own(self, level: int) -> Tensor:
        """How much of each expert a unit takes whatever the input, ``[U, E]``."""
        native: Tensor = self.native[level]
        unit, expert = self.owner[: len(native)], torch.arange(len(native), device=native.device)
        empty = native.new_zeros(self.n_units[level], len(self.owner))
        return empty.index_put((unit, expert), native)
