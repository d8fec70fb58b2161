"""Weights that grow for tasks whose last step lowered the losses of rows it had not seen."""

from collections.abc import Mapping

import torch
from torch import Tensor

from daogou.balance.base import Balancer, legal, norms_of, task_gradients


class Bilevel(Balancer):
    """``w_k <- w_k exp(rate * cos(G', g_k))``, brought back to the sum that the weights had.

    One step of the outer problem of bilevel optimisation (Franceschi et al., "Bilevel Programming
    for Hyperparameter Optimization and Meta-Learning", ICML 2018): the loss of held-out rows after
    a step along ``sum w_k g_k`` falls with ``w_k`` as ``g_k`` points along its gradient ``G'``,
    here that of all tasks. Unlike there no row is kept from training: each batch whose Gram is
    taken is the held-out one of the last such batch, in whose step it had no part; the first judges
    nothing. Gradients are those of a linear layer that stood at the mixer's input,
    ``x^T dL_k / dx``: they can be compared between batches and cost no pass through the encoders.
    Given a Gram of one batch alone, that batch judges itself. Weights sum to T while all tasks are
    there; a batch without some task leaves its weight alone.
    """

    needs_gram = True

    def __init__(self, n_tasks: int, *, rate: float = 0.05) -> None:
        super().__init__(n_tasks)
        self.rate = legal("rate", rate, 0 < rate < torch.inf, "more than 0")
        self.weights = torch.ones(n_tasks)
        self.before: Tensor | None = None  # [T, D * D] of the batch whose step is judged
        self.pair: tuple[Tensor, Tensor] | None = None  # of the batch that judges it, and that

    def take(self, losses: Tensor, shared: Tensor) -> Tensor:
        """Inner products ``[T, T]`` of this batch's gradients (rows) with those of the last."""
        gradients = task_gradients(losses, shared)
        now = (shared.detach().T @ gradients).flatten(1)
        before = torch.zeros_like(now) if self.before is None else self.before.to(now)
        self.before, self.pair = now, (now, before)
        return now @ before.T

    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        """Weights ``[T]`` after what this batch says of the last step, if its Gram is new."""
        assert gram is not None
        known, new = (losses != 0).cpu(), self.is_new(gram)
        if self.pair is None:  # one batch's own Gram
            products = gram.detach().cpu().float()
            known &= (products != 0).any(0)
            whole = products.sum().clamp(min=0).sqrt()
            along, lengths = products.sum(0), whole * norms_of(products)
        elif new:
            # Not the Gram, in which those of earlier batches may be averaged.
            now, before = (each.cpu().float() for each in self.pair)
            known &= (now != 0).any(1)
            together = now[known].sum(0)
            along, lengths = before @ together, before.norm(dim=1) * together.norm()
        if new:
            cosines = torch.where(lengths > 0, along / lengths, 0.0).clamp(-1, 1)
            total = self.weights[known].sum()
            grown = self.weights * (self.rate * cosines).exp()
            grown = grown * (total / grown[known].sum())
            self.weights = torch.where(known & grown.isfinite(), grown, self.weights)
        return torch.where(known, self.weights, 1.0).to(losses)

    def state(self) -> dict[str, Tensor]:
        """The weights, and the gradients of the batch whose step is still to be judged."""
        found = {"weights": self.weights.clone()}
        return found if self.before is None else found | {"before": self.before.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a `state`."""
        self.weights = state["weights"].clone()
        self.before = state["before"].clone() if "before" in state else None
