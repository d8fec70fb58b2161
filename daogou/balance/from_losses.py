"""Weights from the losses alone, by TorchJD: how large they are and how fast they fall."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from daogou.balance.base import (
    Balancer,
    adam_of,
    holding_absent,
    legal,
    memory_of,
    of_mean_one,
    recall,
)
from daogou.balance.torchjd import torchjd


class OfLosses(Balancer):
    """The slopes of TorchJD's scalarizer named ``method`` in the losses.

    Tasks whose loss is 0 (no label in the batch) or below are left out and weigh 1; the others'
    slopes are brought to a mean of 1.
    """

    method: ClassVar[str]

    def __init__(self, n_tasks: int, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(n_tasks)
        self.scalarizer = torchjd("scalarization", self.method, **(options or {}))

    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        """Weights ``[T]``: the combined loss's slope in each of ``losses [T]``."""
        weights = torch.ones_like(losses)
        known = losses > 0
        if known.any():
            slope = self.slopes(losses.detach().double().cpu(), known.cpu()).to(losses)
            if slope.isfinite().all() and slope.sum() > 0:
                weights[known] = of_mean_one(slope)
        return weights

    def slopes(self, losses: Tensor, known: Tensor) -> Tensor:
        """In the known losses, in doubles on the CPU."""
        values = losses[known].requires_grad_()
        (slope,) = torch.autograd.grad(self.scalarizer(values), values)
        return slope


class GeometricMean(OfLosses):
    """A task weighs by one over its loss, so it counts by the share by which its loss falls.

    Chennupati et al., "MultiNet++", CVPRW 2019. The weights are the slopes of the geometric mean
    times the number of tasks, so that equal losses weigh 1 and the sum is not brought to anything.
    """

    method = "GeometricMean"

    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        """Weights ``[T]``: the mean's slope in each of ``losses [T]``, times T."""
        weights = torch.ones_like(losses)
        known = losses > 0
        if known.any():
            slope = self.slopes(losses.detach().double().cpu(), known.cpu())
            weights[known] = slope.to(losses) * known.sum()
        return weights


class Random(OfLosses):
    """Weights drawn anew in each step: what does not beat them is noise.

    Lin et al., "Reasonable Effectiveness of Random Weighting", TMLR 2022.
    """

    method = "Random"


class STCH(OfLosses):
    """A smooth maximum of the losses: the task with the largest counts most.

    Lin et al., "Smooth Tchebycheff Scalarization for Multi-Objective Optimization", ICML 2024.
    Losses are nats per exposure as they are; ``mu`` says how smooth.
    """

    method = "STCH"

    def __init__(self, n_tasks: int, *, mu: float = 0.02) -> None:
        super().__init__(n_tasks, {"mu": legal("mu", mu, 0 < mu < torch.inf, "more than 0")})


class DWA(OfLosses):
    """A task counts the more, the less its loss fell from one epoch to the next.

    Liu et al., "End-to-End Multi-Task Learning with Attention", CVPR 2019: uniform for two epochs.
    A ratio of means of which one is not above 0 says nothing; such a task counts as standing still.
    """

    method = "DWA"

    def __init__(self, n_tasks: int, *, temperature: float = 2.0) -> None:
        legal("temperature", temperature, 0 < temperature < torch.inf, "more than 0")
        super().__init__(n_tasks, {"temperature": temperature})
        self.means = torch.zeros(0, n_tasks, dtype=torch.float64)

    def slopes(self, losses: Tensor, known: Tensor) -> Tensor:
        """Of all tasks: an epoch's mean needs every batch."""
        values = losses.clone().requires_grad_()
        (slope,) = torch.autograd.grad(self.scalarizer(values), values)
        return slope[known]

    def end_epoch(self) -> None:
        """Take the epoch's mean."""
        if self.scalarizer._loss_sum is not None:
            self.scalarizer.step()
            newest: Tensor = self.scalarizer._previous_averages[-1]
            self._set(torch.cat([self.means, newest[None]])[-2:])

    def _set(self, means: Tensor) -> None:
        """Give TorchJD the means of which it takes the ratio."""
        self.means = means
        no_ratio = (means <= 0).any(0)
        self.scalarizer._previous_averages = list(means.masked_fill(no_ratio, 1.0))

    def state(self) -> dict[str, Tensor]:
        """The last epochs' means, ``[0 to 2, T]``, and what this one came to so far."""
        found = {"means": self.means.clone()}
        if self.scalarizer._loss_sum is None:
            return found
        n_batches = torch.tensor(self.scalarizer._n_batches)
        return found | {"sum": self.scalarizer._loss_sum.clone(), "n_batches": n_batches}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a `state`."""
        self._set(state["means"].clone())
        if "sum" in state:
            self.scalarizer._loss_sum = state["sum"].clone()
            self.scalarizer._n_batches = int(state["n_batches"])


class Learnt(OfLosses):
    """A scalarizer with a number of its own per task, which an Adam of its own learns.

    Its rate is ten times that of the dense layers: at theirs all numbers still fall together when
    a fit of a few hundred steps ends, and no task's weight has moved against another's.
    """

    number: ClassVar[str]

    def __init__(self, n_tasks: int, *, learning_rate: float = 0.02) -> None:
        super().__init__(n_tasks, {"shape": n_tasks})
        self.learnt: Tensor = getattr(self.scalarizer, self.number)
        self.adam = adam_of(self.learnt, learning_rate)

    def slopes(self, losses: Tensor, known: Tensor) -> Tensor:
        """With the numbers as they are; then one step on those of known tasks."""
        values = losses.float().requires_grad_()
        slope, own = torch.autograd.grad(self.scalarizer(values), [values, self.learnt])
        self.learnt.grad = torch.where(known, own, 0.0)
        with holding_absent(known, self.learnt, self.adam):
            self.adam.step()
        return slope[known].double()

    def state(self) -> dict[str, Tensor]:
        """The numbers and their Adam's."""
        return memory_of(self.learnt, self.adam)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a `state`."""
        recall(self.learnt, self.adam, state)


class UW(Learnt):
    """A task weighs by one over its learnt variance; it settles where that is its loss.

    Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018. The loss of
    a rare stage is small because it is rare, so this counts it too much (SCIENCE 2.5).
    """

    method, number = "UW", "log_var"


class IMTLL(Learnt):
    """Losses are brought to one size by learnt factors.

    Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021, section 3.2.
    """

    method, number = "IMTLL", "log_scale"


class FAMO(OfLosses):
    """Weights under which all losses fall at one rate, learnt by looking back at each step.

    Liu et al., "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023. A task whose loss is
    not above 0 both before and after is given one of 1.
    """

    method = "FAMO"
    looks_back = True

    def __init__(self, n_tasks: int, *, learning_rate: float = 0.025) -> None:
        super().__init__(n_tasks, {"shape": n_tasks})
        self.adam = adam_of(self.scalarizer._w, learning_rate)
        self.adam.param_groups[0]["weight_decay"] = self.scalarizer.weight_decay
        self.scalarizer._optimizer = self.adam
        self.known = torch.ones(n_tasks, dtype=torch.bool)

    def slopes(self, losses: Tensor, known: Tensor) -> Tensor:
        """Of the known losses."""
        self.known = known
        values = torch.where(known, losses, 1.0).float().requires_grad_()
        (slope,) = torch.autograd.grad(self.scalarizer(values), values)
        return slope[known].double()

    def after(self, losses: Tensor) -> None:
        """Learn from how much each loss changed."""
        before = self.scalarizer._prev_losses
        if before is not None:
            now = losses.detach().cpu().float()
            known = self.known & (now > 0)
            self.scalarizer._prev_losses = torch.where(known, before, 1.0)
            with holding_absent(known, self.scalarizer._w, self.adam):
                self.scalarizer.update(torch.where(known, now, 1.0))
            self.scalarizer._prev_losses = None  # and so it stays in a step without losses

    def state(self) -> dict[str, Tensor]:
        """The logits of the weights and their Adam's numbers."""
        return memory_of(self.scalarizer._w, self.adam)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a `state`."""
        recall(self.scalarizer._w, self.adam, state)
