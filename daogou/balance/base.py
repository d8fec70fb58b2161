"""What a balancer is: task losses in, task weights out."""

from typing import Protocol

import torch
from torch import Tensor


class Balancer(Protocol):
    """Chooses how much each of the funnel's tasks counts in this step.

    Tasks that do not share rows (extraction against the rest) have orthogonal gradients by
    construction and keep their static weights; a balancer multiplies those of the funnel.
    """

    needs_gram: bool

    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        """Weights ``[T]`` from detached losses ``[T]`` and, if asked for, gram ``[T, T]``."""
        ...


def gram_at(losses: Tensor, shared: Tensor) -> Tensor:
    """Gram matrix ``[T, T]`` of the task gradients at a shared activation ``[B, D]``.

    Costs one backward pass per task, down to ``shared`` only. Sener and Koltun, "Multi-Task
    Learning as Multi-Objective Optimization", NeurIPS 2018, bound the gradients at the shared
    weights by those at the shared activation.
    """
    rows = [torch.autograd.grad(loss, shared, retain_graph=True)[0].flatten() for loss in losses]
    gradients = torch.stack(rows)
    return gradients @ gradients.T
