"""Weights that give slow tasks longer gradients than fast ones."""

from collections.abc import Mapping

import torch
from torch import Tensor

from daogou.balance.base import (
    Balancer,
    adam_of,
    holding_absent,
    legal,
    memory_of,
    norms_of,
    recall,
)


class GradNorm(Balancer):
    """Weighted gradients are brought to lengths that grow with how much loss a task has left.

    Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing", ICML 2018,
    equation 2: ``sum |w_k |g_k| - mean(w |g|) (r_k / mean r)^alpha|`` is minimised in w, with the
    target held still, and w then brought to a sum of T; r is the loss over the first one seen.
    Unlike there, gradients are those at the mixer's input and not at the last shared layer. A
    batch without some task leaves its weight alone and the sum of the others' as it was.
    """

    needs_gram = True

    def __init__(self, n_tasks: int, *, alpha: float = 1.5, learning_rate: float = 0.025) -> None:
        super().__init__(n_tasks)
        self.alpha = legal("alpha", alpha, 0 <= alpha < torch.inf, "0 or more")
        self.weights = torch.ones(n_tasks, requires_grad=True)
        self.first = torch.zeros(n_tasks)
        self.adam = adam_of(self.weights, learning_rate)

    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        """Weights ``[T]`` as they were, which then learn from this batch if its Gram is new."""
        assert gram is not None
        values, lengths = losses.detach().cpu().float(), norms_of(gram).cpu().float()
        known = (values > 0) & (lengths > 0)
        self.first = torch.where((self.first == 0) & known, values, self.first)
        found = torch.where(known, self.weights.detach(), 1.0).to(losses)
        if self.is_new(gram) and known.sum() > 1:
            self._learn(values[known] / self.first[known], lengths, known)
        return found

    def _learn(self, left: Tensor, lengths: Tensor, known: Tensor) -> None:
        now = self.weights[known] * lengths[known]
        target = now.detach().mean() * (left / left.mean()) ** self.alpha
        (now - target).abs().sum().backward()
        total = self.weights.detach()[known].sum()
        with holding_absent(known, self.weights, self.adam):
            self.adam.step()
        self.adam.zero_grad()
        with torch.no_grad():
            kept = self.weights[known].clamp(min=1e-3)
            self.weights[known] = kept * (total / kept.sum())

    def state(self) -> dict[str, Tensor]:
        """Weights, first losses and Adam's numbers."""
        return {"first": self.first.clone()} | memory_of(self.weights, self.adam)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a `state`."""
        self.first = state["first"].clone()
        recall(self.weights, self.adam, state)
