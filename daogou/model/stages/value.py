"""What a stage is worth, learnt as a distribution of its amount: log-normal, with or without 0."""

import math
from typing import Final, Protocol

import torch
from torch import Tensor

from daogou.features.transform import LogScale
from daogou.model.losses import binary
from daogou.model.stages.base import Seen

_HALF_LOG_TWO_PI: Final = 0.5 * math.log(2.0 * math.pi)
_LOG_SPREADS: Final = 3.0  # a spread stays within e to the plus or minus this


class ValueLoss(Protocol):
    """A `StageLoss` of an amount: in place of a chance it says an expected value.

    Made of the scale of the training values. Where the label of `Seen` is 1 the value is above 0,
    and it is 0 where the label is.
    """

    n_further: int
    teaches_before: bool

    def __call__(self, seen: Seen) -> Tensor:
        """The loss, a scalar; 0 with a gradient of 0 where the batch has no value for it."""
        ...

    def nats(self, seen: Seen) -> Tensor:
        """``[B]``, of each exposure; any number where the loss is not defined."""
        ...

    def defined(self, seen: Seen) -> Tensor:
        """``[B]``, where the loss is."""
        ...

    def chance(self, logit: Tensor, further: Tensor, window_h: float) -> Tensor:
        """Expected value ``[B]`` where the stage before happened."""
        ...


class LogNormal:
    """The logarithm of a value above 0 is normal, and the tower says its mean and spread.

    Nats are of the logarithm standardised by training's mean and spread, so that a learning rate
    that suits a chance suits this too; they may be below 0, as of any density. A value of 0 is
    left out: where there are some, `ZeroInflated` is the loss to take.
    """

    n_further = 1
    teaches_before = False

    def __init__(self, scale: LogScale) -> None:
        self.scale = scale

    def __call__(self, seen: Seen) -> Tensor:
        """``sum(-log density) / B`` over the rows with a value above 0."""
        return seen.per_exposure(self.nats(seen), self.defined(seen))

    def nats(self, seen: Seen) -> Tensor:
        """Those of the standardised logarithm."""
        return normal_nats(self.standard(seen), seen.logit, _log_spread(seen.further[:, 0]))

    def defined(self, seen: Seen) -> Tensor:
        """Where the value is known and above 0."""
        return seen.defined & (seen.label == 1)

    def standard(self, seen: Seen) -> Tensor:
        """``[B]``, logarithms from training's mean in its spreads; 0 where there is none."""
        assert seen.value is not None
        above = torch.where(self.defined(seen), seen.value, math.exp(self.scale.mean))
        return (above.log() - self.scale.mean) / self.scale.spread

    def chance(self, logit: Tensor, further: Tensor, window_h: float) -> Tensor:
        """``exp(mean + spread^2 / 2)``, kept within the values that training saw.

        A mean over values lies between the least and the most of them; an unsure tower's
        exponential may not.
        """
        scale = self.scale
        mean = scale.mean + scale.spread * logit
        spread = scale.spread * _log_spread(further[:, 0]).exp()
        return (mean + spread.square() / 2).clamp(scale.least, scale.most).exp()


class ZeroInflated:
    """A value is above 0 by a chance, and log-normal where it is.

    Wang et al., "A Deep Probabilistic Model for Customer Lifetime Value Prediction", 2019. Unlike
    there the logarithm is standardised and the expected value is bounded, see `LogNormal`.
    """

    n_further = 2
    teaches_before = False

    def __init__(self, scale: LogScale) -> None:
        self.above = LogNormal(scale)

    def __call__(self, seen: Seen) -> Tensor:
        """``sum(-log likelihood) / B`` over the rows with a value."""
        return seen.per_exposure(self.nats(seen), self.defined(seen))

    def nats(self, seen: Seen) -> Tensor:
        """Those of the value being above 0 or not, and of the value where it is."""
        whether = binary(seen.further[:, 1], seen.target)
        return whether + torch.where(self.above.defined(seen), self.above.nats(seen), 0.0)

    def defined(self, seen: Seen) -> Tensor:
        """Where the value is known."""
        return seen.defined

    def chance(self, logit: Tensor, further: Tensor, window_h: float) -> Tensor:
        """The chance of a value above 0 times what one is then expected to be."""
        return further[:, 1].sigmoid() * self.above.chance(logit, further, window_h)


def normal_nats(values: Tensor, mean: Tensor, log_spread: Tensor) -> Tensor:
    """Negative log density of ``values`` under normal distributions; shapes ``[B]``.

    >>> zero = torch.zeros(1)
    >>> round(normal_nats(zero, zero, zero).item(), 4)
    0.9189
    """
    distance = (values - mean) * (-log_spread).exp()
    return _HALF_LOG_TWO_PI + log_spread + distance.square() / 2


def _log_spread(said: Tensor) -> Tensor:
    """The tower's output bent into bounds, so that one outlier's gradient stays finite."""
    return _LOG_SPREADS * torch.tanh(said / _LOG_SPREADS)
