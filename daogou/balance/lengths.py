"""What tasks' gradients have lately been long: a running mean that skips absent tasks."""

from collections.abc import Mapping

import torch
from torch import Tensor

from daogou.balance.base import Balancer, legal


class Lengths:
    """Running means ``[T]`` of lengths, unbiased from the first one on."""

    def __init__(self, n_tasks: int, decay: float) -> None:
        self.decay = legal("decay", decay, 0 <= decay < 1, "0 up to 1, without 1")
        self.total, self.mass = torch.zeros(n_tasks), torch.zeros(n_tasks)

    def update(self, lengths: Tensor, known: Tensor) -> None:
        """Take in these lengths ``[T]`` of the known tasks."""
        decay = torch.where(known, self.decay, 1.0)
        self.total = self.total * decay + torch.where(known, lengths * (1 - self.decay), 0.0)
        self.mass = self.mass * decay + torch.where(known, 1 - self.decay, 0.0)

    def means(self) -> Tensor:
        """What lengths have lately been ``[T]``; 0 for a task never seen."""
        return self.total / self.mass.clamp(min=1e-12)

    def state(self) -> dict[str, Tensor]:
        """Sums and their mass."""
        return {"total": self.total.clone(), "mass": self.mass.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a `state`."""
        self.total, self.mass = state["total"].clone(), state["mass"].clone()


class ByLengths(Balancer):
    """A balancer that weighs by how long gradients have lately been."""

    needs_gram = True

    def __init__(self, n_tasks: int, decay: float) -> None:
        super().__init__(n_tasks)
        self.lengths = Lengths(n_tasks, decay)

    def state(self) -> dict[str, Tensor]:
        """The running lengths."""
        return self.lengths.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a `state`."""
        self.lengths.restore(state)
