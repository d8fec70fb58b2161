"""A stage learnt where the one before happened, weighed to speak for all exposures."""

from typing import Final

import torch
from torch import Tensor

from daogou.model.losses import binary
from daogou.model.stages.base import Seen
from daogou.model.stages.conditional import Conditional
from daogou.model.stages.esmm import over_all

DEBIASED: Final = ("escm2_ips", "escm2_dr")  # that learn a stage for all exposures
LEAST_PROPENSITY: Final = 0.02  # one row may count as 50 and not more
GLOBAL_WEIGHT: Final = 1.0  # of the product's nats: both are nats per exposure


class Escm2Ips(Conditional):
    """Rows count by 1 / the chance of the stage before, and the product's nats are added.

    Wang et al., "ESCM2: Entire Space Counterfactual Multi-Task Model for Post-Click Conversion
    Rate Estimation", SIGIR 2022, with inverse propensity scores. The propensity is the model's
    own chance of the stage before, over all exposures, cut off from its gradient and not below
    `LEAST_PROPENSITY`: of stages deep in a funnel nearly all are, and then this is the
    conditional loss beside the product's.

    Unlike the paper the weights are divided by their mean over the rows that they weigh, so that
    the loss keeps the scale of `Conditional` and is equal to it where all propensities are.

    It corrects for what the inputs tell of who reaches the stage before. What drives both and is
    in no column it cannot correct for.
    """

    teaches_before = True

    def __call__(self, seen: Seen) -> Tensor:
        """The weighed nats and the product's, per exposure."""
        return inverse_propensity(seen) + GLOBAL_WEIGHT * over_all(seen)


class Escm2Dr(Conditional):
    """Every exposure counts by what the stage's nats would be, put right where they are known.

    Doubly robust learning, as `Escm2Ips` otherwise. The tower's further output says the label
    that an exposure would have had, and is learnt from the squared error of the nats that
    follow from it. Neither moves the other's: the nats take that label as given, and the squared
    error takes the stage's chance as given. Without the latter the stage's chance would be bent
    to make its own nats easy to foresee.
    """

    n_further = 1
    teaches_before = True

    def __call__(self, seen: Seen) -> Tensor:
        """The nats put right, the squared error and the product's nats, per exposure."""
        robust, error = doubly_robust(seen)
        return robust + error + GLOBAL_WEIGHT * over_all(seen)


def inverse_propensity(seen: Seen) -> Tensor:
    """Nats where the label is defined, weighed and on the scale of the conditional loss's."""
    weights = _inverse(seen) * _scale(seen)
    return seen.per_exposure(weights * binary(seen.logit, seen.target), seen.defined)


def doubly_robust(seen: Seen) -> tuple[Tensor, Tensor]:
    """The stage's nats over the exposures with a label, and the further output's squared error.

    Both are on the scale of the conditional loss's, and 0 where a batch has no defined label.
    """
    foreseen = seen.further[:, 0].sigmoid()
    weights, scale = _inverse(seen), _scale(seen)
    imputed = binary(seen.logit, foreseen.detach())
    wrong = binary(seen.logit, seen.target) - imputed
    robust = seen.per_exposure(scale * imputed, seen.label >= 0)
    robust = robust + seen.per_exposure(scale * weights * wrong, seen.defined)
    fixed = seen.logit.detach()
    error = (binary(fixed, seen.target) - binary(fixed, foreseen)).square()
    return robust, seen.per_exposure(scale * weights * error, seen.defined)


def _inverse(seen: Seen) -> Tensor:
    """``[B]``, 1 / the chance of the stage before."""
    return 1.0 / seen.log_before.detach().exp().clamp(min=LEAST_PROPENSITY)


def _scale(seen: Seen) -> Tensor:
    """1 / the mean weight of the defined rows, as if all exposures were as many as those."""
    mass = torch.where(seen.defined, seen.weight, 0.0)
    return mass.sum() / (mass * _inverse(seen)).sum().clamp(min=1e-12)
