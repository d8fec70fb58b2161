"""Weights whose step helps every task at once, from the Gram of the tasks' gradients."""

import torch
from torch import Tensor

from daogou.balance.torchjd import torchjd


class UPGrad:
    """Each task's gradient is moved the least that makes it hurt no other, and these are averaged.

    Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024, by TorchJD. Unlike
    there the weights are times the number of tasks: without conflict they are ones, the plain sum.
    """

    needs_gram = True

    def __init__(self) -> None:
        self.weighting = torchjd("aggregation").UPGradWeighting()

    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        """Weights ``[T]`` of the gradients whose products are ``gram [T, T]``."""
        assert gram is not None
        with torch.no_grad():
            # Its solver is for small numbers of ordinary size, on the CPU and in doubles.
            scale = gram.diagonal().mean().clamp(min=1e-30)
            weights: Tensor = self.weighting((gram / scale).double().cpu())
        return weights.to(losses) * len(losses)
