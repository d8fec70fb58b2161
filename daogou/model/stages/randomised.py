"""A stage whose labels were told by chance: in the mean the loss that its own would have."""

from typing import Any

from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from daogou.model.stages.base import Seen

Array = NDArray[Any]


class Randomised:
    """Nats of labels that are answers of a randomised response, unbiased, per exposure of a batch.

    With chance 1 less ``kept`` an exposure's outcome was replaced by one that says nothing of it,
    so that its label for a stage is 1 with the chance ``stray + kept c``, where c is that of the
    stage over all exposures; of the stage before it ``stray_before + kept c_before``, which is 1
    of no stage. Whether an exposure got this far, or to the stage before and no further, is
    guessed from what was told without a bias, and the nats are weighed by the guesses, which may
    be below 0: in the mean over the coins the loss is that of the true labels (Natarajan et al.,
    "Learning with Noisy Labels", NeurIPS 2013). It has no least value for exposures that are known
    by heart, and the likelihood of what was told has; that learnt rare stages worse from little
    (docs/log.md).
    """

    n_further = 0
    teaches_before = False

    def __init__(self, stray: float, stray_before: float, kept: float) -> None:
        self.stray, self.stray_before, self.kept = stray, stray_before, kept

    def __call__(self, seen: Seen) -> Tensor:
        """``sum(-far log p - near log(1 - p)) / B`` over the rows whose label is known."""
        yes, no = functional.softplus(-seen.logit), functional.softplus(seen.logit)
        far = (seen.target * seen.happened - self.stray) / self.kept
        only = self.stray_before - self.stray
        near = ((1 - seen.target) * seen.happened - only) / self.kept
        return seen.per_exposure(far * yes + near * no, seen.label >= 0)

    def told(self, chance: Array, before: Array) -> Array:
        """The chance ``[n]`` that a label is told to be 1 where that before was told to be.

        ``chance`` is the stage's where the one before happened, ``before`` that one's over all.
        """
        reached = self.kept * before
        said: Array = (self.stray + reached * chance) / (self.stray_before + reached)
        return said

    def chance(self, logit: Tensor, further: Tensor, window_h: float) -> Tensor:
        """The logit's chance."""
        return logit.sigmoid()

    def log_chance(self, logit: Tensor, further: Tensor, window_h: float) -> Tensor:
        """Its logarithm."""
        return functional.logsigmoid(logit)
