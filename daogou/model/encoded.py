"""What the encoders made of a batch, and the fork where tasks part from what they share."""

from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from daogou.features.batch import Batch


@dataclass(frozen=True)
class Encoded:
    """Outputs of the encoders; None where a shop has no such thing.

    ``tokens [X, L, D_t]`` of the texts, ``items [I, D]``, ``events [Q, L, D]`` of the histories,
    ``h [Q, D]`` behaviour states, ``users [Q, D]``. ``marks [I, M]`` are whole numbers that two
    items may have in common: the catalogue row, the row of each input column, then of each trait.
    ``item_ids [I]`` and ``user_ids [Q]`` are their id rows, for what a task keeps to itself.
    ``lift [I, T]`` is added to each funnel task's logit: what was heard of items since training.
    """

    tokens: Tensor | None = None
    items: Tensor | None = None
    events: Tensor | None = None
    h: Tensor | None = None
    users: Tensor | None = None
    marks: Tensor | None = None
    item_ids: Tensor | None = None
    user_ids: Tensor | None = None
    lift: Tensor | None = None

    def leaves(self) -> "Encoded":
        """Detached copies that collect gradients of their own."""
        copies = {
            field.name: value.detach().requires_grad_(value.is_floating_point())
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
        }
        return Encoded(**copies)

    def present(self) -> list[tuple[str, Tensor]]:
        """Names and tensors of what there is."""
        pairs = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, value) for name, value in pairs if value is not None]


@dataclass(frozen=True)
class TaskLosses:
    """One family's losses ``[T]``; ``shared``, if any, is where a balancer takes its Gram."""

    values: Tensor
    shared: Tensor | None = None


class Head(Protocol):
    """A family's task layers. Adding a family costs one file that obeys this."""

    def losses(self, encoded: Encoded, batch: Batch, weights: Tensor) -> TaskLosses:
        """A loss per task of the family; 0 where a batch has no label for it.

        ``weights [T]`` act at the fork, on what flows down into ``encoded``.
        """
        ...


class _Weigh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, forked: Tensor, weights: Tensor) -> Tensor:
        ctx.weights = weights
        return forked.view_as(forked)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient * ctx.weights.view(-1, *[1] * (gradient.dim() - 1)), None


class _WeighedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, weights: Tensor, teaches: Tensor
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.weights, ctx.teaches = weights, teaches
        return inputs @ weight.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,) = gradients
        inputs, weight = ctx.saved_tensors
        down = (gradient * (ctx.weights * ctx.teaches)) @ weight
        return down, gradient.T @ inputs, None, None


def weighed_linear(inputs: Tensor, weight: Tensor, weights: Tensor, teaches: Tensor) -> Tensor:
    """``weigh`` before a linear map to one output per task: ``[B, D], [T, D], [T] -> [B, T]``.

    The same as ``weigh(inputs.expand(T, B, D), weights)`` times each task's row of ``weight``,
    without the ``T`` copies of the gradient. A task whose ``teaches [T]`` is 0 sends none down.
    """
    if not torch.is_grad_enabled():
        return inputs @ weight.T
    found: Tensor = _WeighedLinear.apply(  # type: ignore[no-untyped-call]
        inputs, weight, weights, teaches
    )
    return found


def weigh(forked: Tensor, weights: Tensor) -> Tensor:
    """The identity on ``[T, ...]``, whose gradient for task t is multiplied by ``weights[t]``.

    A task's weight acts here and not in its loss: above the fork its own layers learn in full,
    even at weight 0. The weights are read when the gradient passes, so a balancer may set them
    in place after it saw the losses.
    """
    if not torch.is_grad_enabled():  # nothing flows back, and an answer is sooner there
        return forked
    weighed: Tensor = _Weigh.apply(forked, weights)  # type: ignore[no-untyped-call]
    return weighed
