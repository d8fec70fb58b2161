"""What training counted of each product, as numbers beside its vector: how often which stage."""

import torch
from torch import Tensor, nn

from daogou.features.store import FOLDS
from daogou.model.embed import forget


class Rates(nn.Module):
    """How often a product was shown in training, and the rate of each stage; nothing is learnt.

    Rows of ids learn such rates slowly, and those that matching teaches too hardly do: it is told
    what is popular, and what is rare weighs little beside it. Counted by `daogou.learn.rates`,
    all are 0 until then; 0 is the mean product, the unit its spread.

    A training row must not meet its own label, so in training the counts are those of the users
    of other folds (cross-fitting; Micci-Barreca, "A Preprocessing Scheme for
    High-Cardinality Categorical Attributes", 2001, has the rates themselves). Ids are forgotten
    at the encoders' rate.

    Shapes: id rows ``[B]``, folds ``[B]`` (read in training alone) -> ``[B, n_outputs]``.
    """

    def __init__(self, n_ids: int, n_stages: int, *, id_dropout: float = 0.1) -> None:
        super().__init__()
        self.n_outputs = 1 + n_stages
        self.id_dropout = id_dropout
        self.register_buffer("known", torch.zeros(n_ids, self.n_outputs))
        # [FOLDS, n_ids, n_outputs] while it trains; a run does not keep them.
        self.register_buffer("apart", torch.zeros(0), persistent=False)
        # [2, n_outputs] mean and spread of what was counted, before it was standardised.
        self.register_buffer("scale", torch.zeros(2, self.n_outputs), persistent=False)

    def fill(self, known: Tensor, apart: Tensor, scale: Tensor) -> None:
        """Take what was counted: of all training, and of all but each fold."""
        assert apart.shape == (FOLDS, *known.shape)
        self.known.copy_(known)
        self.apart = apart.to(self.known.device)
        self.scale = scale.to(self.known.device)

    def measure_by(self, scale: Tensor) -> None:
        """Standardise what was counted by another ``scale [2, n_outputs]``; NaN keeps the own."""
        (mean, spread), own = scale.to(self.scale), self.scale
        mean, spread = (
            torch.where(a.isnan(), b, a) for a, b in zip((mean, spread), own, strict=True)
        )
        for counts in (self.known, self.apart) if len(self.apart) else (self.known,):
            counts.mul_(own[1]).add_(own[0] - mean).div_(spread)
        self.scale = torch.stack([mean, spread])

    known: Tensor
    apart: Tensor
    scale: Tensor

    def forward(self, ids: Tensor, folds: Tensor | None) -> Tensor:
        if not self.training or not len(self.apart):
            return self.known[ids]
        assert folds is not None
        return self.apart[folds, forget(ids, self.id_dropout, True)]
