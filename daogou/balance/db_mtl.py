"""Losses in logarithms, and gradients of one length: the longest one's."""

import torch
from torch import Tensor

from daogou.balance.base import norms_of, of_mean_one
from daogou.balance.lengths import ByLengths


class DBMTL(ByLengths):
    """Each task's gradient of its log loss is stretched to the longest of them.

    Lin et al., "Dual-Balancing for Multi-Task Learning", 2023, equations 1 to 4. Unlike there the
    running mean is of lengths and not of gradients, which are never held, and the weights of the
    batch's tasks are brought to a mean of 1. A Gram that is kept for several steps counts once in
    the running mean; a weight is by each batch's own losses. Strong where losses differ in units;
    a stage's loss is small because it is rare, so this counts it too much (SCIENCE 2.5).
    """

    def __init__(self, n_tasks: int, *, decay: float = 0.9) -> None:
        super().__init__(n_tasks, decay)

    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        """Weights ``[T]``: ``max |g / L| / |g_k / L_k| / L_k``, brought to a mean of 1."""
        assert gram is not None
        values, own = losses.detach().cpu().float(), norms_of(gram).cpu().float()
        known = (values > 0) & (own > 0)
        values = values.clamp(min=1e-12)
        if self.is_new(gram):
            self.lengths.update(own / values, known)
        means = self.lengths.means()
        known &= means > 0
        weights = torch.ones_like(losses)
        if known.any():
            found = means[known].max() / means[known] / values[known]
            weights[known.to(losses.device)] = of_mean_one(found).to(losses)
        return weights
