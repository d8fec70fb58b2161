"""What a balancer is: task losses in, task weights out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

from daogou.errors import ConfigError

GIVEN: Final = ("n_tasks", "options")  # arguments of a maker that are not its settings


class Balancer(ABC):
    """Chooses how much each of the funnel's tasks counts in this step.

    Tasks that do not share rows (extraction against the rest) have orthogonal gradients by
    construction and keep their static weights; a balancer multiplies those of the funnel. The
    weights of tasks whose gradients were always at right angles and of one length, and whose losses
    were always equal, are 1 (where weights are drawn, on average). What they sum to otherwise is in
    each class's docstring: where no sum is named, a step may be longer or shorter than the plain
    sum's. A task without a label in the batch, whose loss and gradient are 0, has no say and weighs
    1, and the number learnt of it stays as it is. So does one whose loss is below 0, as an amount's
    may be, where a balancer takes logarithms or ratios of losses.

    ``hears`` is whether its weights depend on anything, ``needs_gram`` asks for the Gram of the
    tasks' gradients, ``looks_back`` for a call of `after`.
    """

    hears = True
    needs_gram = False
    looks_back = False

    def __init__(self, n_tasks: int) -> None:
        self.n_tasks = n_tasks
        self.read: Tensor | None = None  # the last Gram that there was

    @abstractmethod
    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        """Weights ``[T]`` from detached losses ``[T]`` and, if asked for, gram ``[T, T]``."""

    def take(self, losses: Tensor, shared: Tensor) -> Tensor:
        """The Gram ``[T, T]`` of a batch, of losses ``[T]`` and the mixer's input ``[B, D]``."""
        return gram_at(losses, shared)

    def is_new(self, gram: Tensor) -> bool:
        """Whether this Gram is not the one of the call before: a kept one is the same tensor.

        What runs or learns from step to step reads a Gram once, whatever ``fit.gram_every`` is. An
        epoch's first step takes a Gram anew, so no `state` needs to hold the last one.
        """
        new, self.read = gram is not self.read, gram
        return new

    def after(self, losses: Tensor) -> None:  # noqa: B027 - few balancers look back
        """Losses ``[T]`` of the same batch after the step that the weights were for."""

    def end_epoch(self) -> None:  # noqa: B027 - few balancers count epochs
        """An epoch is over."""

    def state(self) -> dict[str, Tensor]:
        """All that `restore` needs to go on as if nothing had happened; empty without memory."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:  # noqa: B027 - most have no memory
        """Take up a `state`."""


def gram_at(losses: Tensor, shared: Tensor) -> Tensor:
    """Gram matrix ``[T, T]`` of the task gradients at a shared activation ``[B, D]``.

    Costs one backward pass per task, down to ``shared`` only. Sener and Koltun, "Multi-Task
    Learning as Multi-Objective Optimization", NeurIPS 2018, bound the gradients at the shared
    weights by those at the shared activation.
    """
    gradients = task_gradients(losses, shared).flatten(1)
    return gradients @ gradients.T


def task_gradients(losses: Tensor, shared: Tensor) -> Tensor:
    """The gradient of each loss ``[T]`` at a shared activation ``[B, D]``, ``[T, B, D]``."""
    return torch.stack(
        [torch.autograd.grad(loss, shared, retain_graph=True)[0] for loss in losses]
    )  # fmt: skip


def legal(name: str, value: float, holds: bool, wanted: str) -> float:
    """The value of a balancer's option, if what is asked of it holds; ConfigError if not.

    >>> legal("mu", -1.0, False, "more than 0")
    Traceback (most recent call last):
    daogou.errors.ConfigError: fit.balancer_options.mu: -1.0; give more than 0
    """
    if not holds:
        raise ConfigError(f"fit.balancer_options.{name}: {value}; give {wanted}")
    return value


def norms_of(gram: Tensor) -> Tensor:
    """Lengths of the tasks' gradients, ``[T]``."""
    return gram.diagonal().clamp(min=0).sqrt()


def of_mean_one(weights: Tensor) -> Tensor:
    """Weights ``[K]`` in the same proportion with a mean of 1; not finite if their sum is 0."""
    return weights * (len(weights) / weights.sum())


@contextmanager
def holding_absent(known: Tensor, learnt: Tensor, adam: torch.optim.Adam) -> Iterator[None]:
    """Whatever step Adam takes inside, tasks that are not ``known [T]`` keep number and moments.

    A gradient of 0 does not do: Adam's momentum goes on moving the number.
    """
    moments = adam.state[learnt]
    held = [learnt.detach(), moments["exp_avg"], moments["exp_avg_sq"]]
    before = [each.clone() for each in held]
    yield
    for now, was in zip(held, before, strict=True):
        now.copy_(torch.where(known, now, was))


def memory_of(learnt: Tensor, adam: torch.optim.Adam) -> dict[str, Tensor]:
    """A balancer's own numbers and their Adam's, for `Balancer.state`."""
    own = {"learnt": learnt.detach().clone()}
    return own | {name: value.clone() for name, value in adam.state[learnt].items()}


def recall(learnt: Tensor, adam: torch.optim.Adam, state: Mapping[str, Tensor]) -> None:
    """Take up what `memory_of` gave."""
    with torch.no_grad():
        learnt.copy_(state["learnt"])
    adam.state[learnt] = {name: state[name].clone() for name in adam.state[learnt]}


def adam_of(learnt: Tensor, rate: float) -> torch.optim.Adam:
    """The optimiser of a balancer's own numbers, its state there from the start."""
    legal("learning_rate", rate, 0 < rate < torch.inf, "more than 0")
    adam = torch.optim.Adam([learnt], lr=rate)
    adam.state[learnt] = {
        "step": torch.tensor(0.0),
        "exp_avg": torch.zeros_like(learnt),
        "exp_avg_sq": torch.zeros_like(learnt),
    }
    return adam
