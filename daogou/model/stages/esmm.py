"""A stage learnt over all exposures, as the product of its chance and that of the one before."""

import torch
from torch import Tensor
from torch.nn import functional

from daogou.model.stages.base import Seen, log_of_rest
from daogou.model.stages.conditional import Conditional


class Esmm(Conditional):
    """Nats of what happened to each exposure under ``p(before) p(stage | before)``.

    Ma et al., "Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click
    Conversion Rate", SIGIR 2018. The stage is nowhere learnt by itself: its own chance is what
    makes the product right, and the gradient reaches the layers of the stage before too, which
    is learnt by its own loss besides. Unlike there a funnel may have more than two stages: the
    product runs from its first one.

    Nothing is learnt where the stage's label is missing. Where the stage before did not happen
    the label is 0, as of any log.
    """

    teaches_before = True

    def __call__(self, seen: Seen) -> Tensor:
        """``sum(-log p(label)) / B`` over the rows with a label."""
        return over_all(seen)


def over_all(seen: Seen) -> Tensor:
    """Nats per exposure of the stage over all exposures whose label is known; a scalar.

    In logarithms throughout: a product of chances of all but 1 keeps what it lacks of 1.
    """
    yes = seen.log_before + functional.logsigmoid(seen.logit)
    nats = -torch.where(seen.label == 1, yes, log_of_rest(yes))
    return seen.per_exposure(nats, seen.label >= 0)
