"""What a balancer is: task losses in, task weights out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from daogou.errors import ConfigError

GIVEN: Final = ("n_tasks", "options")  # arguments of a maker that are not its settings


class Balancer(ABC):
    """Chooses how much each of the funnel's tasks counts in this step.

    Tasks that do not share rows (extraction against the rest) have orthogonal gradients by
    construction and keep their static weights; a balancer multiplies those of the funnel. The
    weights of tasks that do not conflict and have equal losses are 1. A task without a label in
    the batch, whose loss and gradient are 0, has no say and weighs 1. So does one whose loss is
    below 0, as an amount's may be, where a balancer takes logarithms or ratios of losses.

    ``needs_gram`` asks for the Gram of the tasks' gradients, ``looks_back`` for a call of `after`.
    """

    needs_gram = False
    looks_back = False

    def __init__(self, n_tasks: int) -> None:
        self.n_tasks = n_tasks

    @abstractmethod
    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        """Weights ``[T]`` from detached losses ``[T]`` and, if asked for, gram ``[T, T]``."""

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
    rows = [torch.autograd.grad(loss, shared, retain_graph=True)[0].flatten() for loss in losses]
    gradients = torch.stack(rows)
    return gradients @ gradients.T


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
