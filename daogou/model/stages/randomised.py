"""A stage whose labels were told by chance: the likelihood of what was told."""

from typing import Any

from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from daogou.model.stages.base import Seen

Array = NDArray[Any]


class Randomised:
    """Nats of labels that are answers of a randomised response, per exposure of the batch.

    With chance 1 less ``kept`` an exposure's outcome was replaced by one that says nothing of it,
    so that its label for a stage is 1 with the chance ``stray + kept c``, where c is that of the
    stage over all exposures; of the stage before it ``stray_before + kept c_before``, which is 1
    of no stage. What the tower says stays the stage's own chance: the loss alone knows of the
    noise (the forward correction of Patrini et al., "Making Deep Neural Networks Robust to Label
    Noise: a Loss Correction Approach", CVPR 2017).
    """

    n_further = 0
    teaches_before = False

    def __init__(self, stray: float, stray_before: float, kept: float) -> None:
        self.stray, self.stray_before, self.kept = stray, stray_before, kept

    def __call__(self, seen: Seen) -> Tensor:
        """``sum(-log p(told)) / B`` over the rows where the stage before was told to happen."""
        before = seen.log_before.exp()
        yes = self.stray + self.kept * before * seen.logit.sigmoid()
        # And not the difference of two chances, which loses its digits where they are alike.
        no = self.stray_before - self.stray + self.kept * before * (-seen.logit).sigmoid()
        happened = seen.target == 1
        nats = (yes + no).log() - yes.where(happened, no).log()
        return seen.per_exposure(nats, seen.defined)

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
