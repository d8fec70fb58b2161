"""What a stage's loss reads and gives: one stage of the funnel, over the exposures of a batch."""

import math
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

# Float32's least normal number is 1e-38; what is divided by this and multiplied by a gradient fits.
_LEAST: Final = 1e-30


@dataclass(frozen=True)
class Seen:
    """What a batch of B exposures says of one stage.

    ``log_before`` is the predicted log chance, over all exposures, of the stage it is given, and 0
    where it is given none. A loss that lets its gradient reach that stage's layers says so.
    """

    logit: Tensor  # [B] of the chance where the stage before happened
    further: Tensor  # [B, F] what else the stage's tower says; F is the loss's n_further
    log_before: Tensor  # [B]
    label: Tensor  # [B] 1, 0, or -1 where it is missing
    happened: Tensor  # [B] whether the stage it is given did; true where it is given none
    weight: Tensor  # [B] of the exposures
    window_h: float  # hours within which the stage counts
    delay_h: Tensor | None = None  # [B] hours to the event; NaN where none was seen
    watched_h: Tensor | None = None  # [B] hours that the exposure was watched; at most the window
    value: Tensor | None = None  # [B] of an amount's task: what it was; NaN where it is missing

    @property
    def defined(self) -> Tensor:
        """``[B]``, where the conditional label exists."""
        return (self.label >= 0) & self.happened

    @property
    def target(self) -> Tensor:
        """``[B]``, the label as a number; 0 where it is missing."""
        return self.label.clamp(min=0).to(self.logit.dtype)

    def per_exposure(self, values: Tensor, where: Tensor) -> Tensor:
        """Sum of ``values [B]`` where ``where [B]`` holds, for each exposure of the batch."""
        # where() and not a product: a NaN in a masked row must not reach the sum
        total = torch.where(where, values * self.weight, values.new_zeros(())).sum()
        return total / self.weight.sum().clamp(min=1e-12)


class StageLoss(Protocol):
    """Nats per exposure of one stage, and what its logit says of the stage's chance.

    Makers take no arguments. A loss that needs more of the stage's tower than its logit says how
    much in ``n_further``, and one whose gradient goes into ``log_before`` sets ``teaches_before``.
    """

    n_further: int
    teaches_before: bool

    def __call__(self, seen: Seen) -> Tensor:
        """The loss, a scalar; 0 with a gradient of 0 where the batch has no label for it."""
        ...

    def chance(self, logit: Tensor, further: Tensor, window_h: float) -> Tensor:
        """Chance ``[B]`` that the stage happens within its window where the one before did."""
        ...

    def log_chance(self, logit: Tensor, further: Tensor, window_h: float) -> Tensor:
        """Its logarithm ``[B]``, finite where the chance itself is 0 in float32."""
        ...


def log_of_rest(log_chance: Tensor) -> Tensor:
    """``log(1 - exp(log_chance))``, of logarithms of at most 0; a chance of 1 gives some -69.

    Either form loses all digits where the other is exact (Maechler, "Accurately Computing
    log(1 - exp(-|a|))", 2012).

    >>> log_of_rest(torch.tensor([-1e-20, -200.0])).tolist()
    [-46.051700592041016, -0.0]
    """
    below = log_chance.clamp(max=-_LEAST)
    # Each form is given only what it can stand: the gradient of the other's rows must be no NaN.
    likely = (-torch.expm1(below.clamp(min=-math.log(2.0)))).log()
    unlikely = torch.log1p(-below.clamp(max=-math.log(2.0)).exp())
    return torch.where(below > -math.log(2.0), likely, unlikely)
