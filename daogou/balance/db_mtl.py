"""Losses in logarithms, and gradients of one length: the longest one's."""

import torch
from torch import Tensor

from daogou.balance.base import norms_of
from daogou.balance.lengths import ByLengths


class DBMTL(ByLengths):
    """Each task's gradient of its log loss is stretched to the longest of them.

    Lin et al., "Dual-Balancing for Multi-Task Learning", 2023, equations 1 to 4. Unlike there the
    running mean is of lengths and not of gradients, which are never held, and weights are brought
    to a sum of T. Strong where losses differ in units; a stage's loss is small because it is rare,
    so this counts it too much (SCIENCE 2.5).
    """

    def __init__(self, n_tasks: int, *, decay: float = 0.9) -> None:
        super().__init__(n_tasks, decay)

    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        """Weights ``[T]``: ``max |g / L| / |g_k / L_k| / L_k``, times what makes their sum T."""
        assert gram is not None
        values, own = losses.detach().cpu().float(), norms_of(gram).cpu().float()
        known = (values > 0) & (own > 0)
        values = values.clamp(min=1e-12)
        means = self.lengths.update(own / values, known)
        weights = torch.ones_like(losses)
        if known.any():
            found = means[known].max() / means[known] / values[known]
            weights[known.to(losses.device)] = (found * known.sum() / found.sum()).to(losses)
        return weights
