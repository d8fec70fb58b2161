"""Weights that make tasks count by how much their losses fall, not by how large they are."""

import torch
from torch import Tensor

from daogou.balance.torchjd import torchjd


class GeometricMean:
    """The step of the geometric mean of the losses: a task weighs by one over its loss.

    Chennupati et al., "MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy
    for Multi-Task Learning", CVPRW 2019, by TorchJD. Unlike there the weights are times the number
    of tasks, so that equal losses weigh 1; a task without a label in the batch, whose loss is 0
    and would make the product 0, has no say and weighs 1.
    """

    needs_gram = False

    def __init__(self) -> None:
        self.scalarizer = torchjd("scalarization").GeometricMean()

    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        """Weights ``[T]``: the mean's slope in each of ``losses [T]``."""
        weights = torch.ones_like(losses)
        known = losses > 0
        if known.any():
            values = losses[known].detach().double().requires_grad_()
            (slope,) = torch.autograd.grad(self.scalarizer(values), values)
            weights[known] = slope.to(losses) * len(values)
        return weights
