"""Auxiliary tasks' gradients brought near the length of the one task that matters."""

import torch
from torch import Tensor

from daogou.balance.base import legal, norms_of
from daogou.balance.lengths import ByLengths


class MetaBalance(ByLengths):
    """``w_k = relax * |g_target| / |g_k| + 1 - relax`` of running lengths; the target weighs 1.

    He et al., "MetaBalance: Improving Multi-Task Recommendations via Adapting Gradient Magnitudes
    of Auxiliary Tasks", WWW 2022, algorithm 1 with its strategy C (shrink and stretch). Unlike
    there lengths are those at the mixer's input and not of each layer. ``target`` is the place of
    the task that matters among the funnel's, from the end if negative. The other weights are not
    brought to any sum. A Gram that is kept for several steps counts once in the running lengths.
    """

    def __init__(
        self, n_tasks: int, *, target: int = -1, relax: float = 0.7, decay: float = 0.9
    ) -> None:
        super().__init__(n_tasks, decay)
        places = f"a place from {-n_tasks} to {n_tasks - 1}, as there are {n_tasks} tasks"
        legal("target", target, -n_tasks <= target < n_tasks, places)
        self.target = target % n_tasks
        self.relax = legal("relax", relax, 0 <= relax <= 1, "0 to 1")

    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        """Weights ``[T]``; ones until the target has had a gradient."""
        assert gram is not None
        own = norms_of(gram).cpu().float()
        known = (own > 0) & (losses != 0).cpu()
        if self.is_new(gram):
            self.lengths.update(own, known)
        means = self.lengths.means()
        known &= means > 0
        if means[self.target] <= 0:
            return torch.ones_like(losses)
        found = self.relax * means[self.target] / means.clamp(min=1e-30) + 1 - self.relax
        return torch.where(known, found, 1.0).to(losses)
