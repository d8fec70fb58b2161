"""A stage learnt where the stage before it happened: the plain likelihood of the funnel."""

from torch import Tensor
from torch.nn import functional

from daogou.model.losses import binary
from daogou.model.stages.base import Seen


class Conditional:
    """Nats of the label where it is defined, per exposure of the batch.

    Summed over stages this is the negative log-likelihood of what happened to an exposure: a
    stage that is seldom defined weighs little. As a mean over its own few rows it would weigh
    many times more a row, and the shared layers would learn those rows by heart.
    """

    n_further = 0
    teaches_before = False

    def __call__(self, seen: Seen) -> Tensor:
        """``sum(-log p(label)) / B`` over the defined rows."""
        return seen.per_exposure(binary(seen.logit, seen.target), seen.defined)

    def chance(self, logit: Tensor, further: Tensor, window_h: float) -> Tensor:
        """The logit's chance."""
        return logit.sigmoid()

    def log_chance(self, logit: Tensor, further: Tensor, window_h: float) -> Tensor:
        """Its logarithm."""
        return functional.logsigmoid(logit)
