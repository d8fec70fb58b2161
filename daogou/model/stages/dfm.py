"""A stage learnt while it is awaited: whether it will ever happen, and after what delay."""

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from daogou.model.stages.base import Seen, log_of_rest

_START: Final = math.log(10.0)  # a delay is at first a tenth of the window
_LEAST_H: Final = 1.0 / 3600.0  # logs are often written to the second, and a delay of 0 has no log
_LOG_SHAPES: Final = 2.0  # the shape stays within e to the plus or minus this
_STEEPEST: Final = 5.0  # beyond e to this the summed hazard goes on along its tangent


class Dfm(nn.Module):
    """What happened counts by the density of its delay, what has not by the chance of waiting on.

    Chapelle, "Modeling Delayed Feedback in Display Advertising", KDD 2014. With p the chance of
    ever, f the density of the delay and S the share of delays that are longer:
    ``-log p - log f(d)`` where the stage happened after d hours, ``-log(1 - p + p S(e))`` where it
    has not within the e hours that the exposure was watched. So exposures teach whose window is
    still open, and none is taken for a no before its time.

    Unlike the paper's, delays are Weibull with one learnt shape for the stage (1 is the paper's
    exponential, from which it starts); the further output is the logarithm of the rate. They run
    from the exposure and not from the stage before, and in windows, so that the density does not
    hang on a unit. A label of 1 without a delay within the window says only that it happened within
    it. The answer is the chance within the window, ``p (1 - S(window))``: of what comes later the
    log says nothing.

    Nats of a density may be below 0.
    """

    n_further = 1
    teaches_before = False

    def __init__(self) -> None:
        super().__init__()
        self.log_shape = nn.Parameter(torch.zeros(()))

    @property
    def shape(self) -> Tensor:
        """Of the Weibull: below 1 the chance per hour falls as time goes by."""
        return (_LOG_SHAPES * torch.tanh(self.log_shape / _LOG_SHAPES)).exp()

    def forward(self, seen: Seen) -> Tensor:
        """``sum(-log likelihood) / B`` where the stage before happened and something is known."""
        _, happened, watched = _known(seen)
        return seen.per_exposure(self.nats(seen), seen.happened & (happened | (watched > 0)))

    def nats(self, seen: Seen) -> Tensor:
        """``[B]``, of each exposure; any number where nothing is known of it."""
        is_timed, happened, watched = _known(seen)
        log_rate, window_h = seen.further[:, 0], seen.window_h
        ever, never = functional.logsigmoid(seen.logit), functional.logsigmoid(-seen.logit)
        # Where there is no delay any number will do that has a gradient.
        delay = torch.where(is_timed, _hours(seen.delay_h, seen), window_h).clamp(min=_LEAST_H)
        powered = self._powered(delay, log_rate, window_h)
        after = self.shape.log() + powered - (delay / window_h).log() - _hazard(powered)
        yes = torch.where(
            is_timed, ever + after, self.log_chance(seen.logit, seen.further, window_h)
        )
        waiting = ever - _hazard(self._powered(watched, log_rate, window_h))
        return -torch.where(happened, yes, torch.logaddexp(never, waiting))

    def chance(self, logit: Tensor, further: Tensor, window_h: float) -> Tensor:
        """The chance of ever, times the share of delays that are within the window."""
        return self.log_chance(logit, further, window_h).exp()

    def log_chance(self, logit: Tensor, further: Tensor, window_h: float) -> Tensor:
        """Its logarithm."""
        whole = torch.full_like(logit, window_h)
        hazard = _hazard(self._powered(whole, further[:, 0], window_h))
        return functional.logsigmoid(logit) + log_of_rest(-hazard)

    def _powered(self, hours: Tensor, log_rate: Tensor, window_h: float) -> Tensor:
        """``shape log(rate t)``, ``[B]``; S is e to the minus of e to this."""
        windows = (hours.clamp(min=_LEAST_H) / window_h).log()
        return self.shape * (_START + log_rate + windows)


def _known(seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
    """Where a delay within the window is known, where the stage happened, and hours watched."""
    is_timed = (_hours(seen.delay_h, seen) <= seen.window_h) & (seen.label != 0)
    watched = _hours(seen.watched_h, seen).nan_to_num(0.0)
    watched = torch.where(seen.label == 0, seen.window_h, watched)
    return is_timed, is_timed | (seen.label == 1), watched


def _hours(given: Tensor | None, seen: Seen) -> Tensor:
    return torch.full_like(seen.logit, torch.nan) if given is None else given


def _hazard(powered: Tensor) -> Tensor:
    """``-log S``, along its tangent where S is nothing: no gradient explodes."""
    steep = (powered - _STEEPEST).clamp(min=0.0)
    return powered.clamp(max=_STEEPEST).exp() + math.exp(_STEEPEST) * steep
