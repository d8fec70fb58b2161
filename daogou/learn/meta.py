"""Few labels of a user or a product to a head of its own on what the encoders make of rows.

A group (a user, a product) has labelled rows ``[S]``; each row has features ``[F]`` from frozen
encoders and the logit that the model gives it without knowing the group (its offset). A head is one
vector ``w [F]``: its logit is ``offset + features . w``. Ways to a head from few rows: the exact
posterior of a Gaussian prior; a few gradient steps from a start that suits all groups (Reptile), or
from which steps lead far (ANIL); or a start that is made of what describes the group.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn import functional

STEPS: Final = 5  # inner steps of a head
_NEWTON: Final = 30
_DAMPED: Final = 1.0  # the longest that a logit moves in one of them


@dataclass(frozen=True)
class Groups:
    """Rows of G groups: ``features [G, S, F]``, ``offsets``, ``labels`` and ``weight`` ``[G, S]``.

    A row of weight 0 is padding.
    """

    features: Tensor
    offsets: Tensor
    labels: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, which: Tensor | slice) -> "Groups":
        return Groups(
            self.features[which], self.offsets[which], self.labels[which], self.weight[which]
        )

    def logits(self, heads: Tensor) -> Tensor:
        """Logits ``[G, S]`` by a head each, ``[G, F]``, or by one for all, ``[F]``."""
        return self.offsets + torch.einsum(
            "gsf,gf->gs", self.features, heads.expand(len(self), -1)
        )  # fmt: skip


def nats(groups: Groups, logits: Tensor) -> Tensor:
    """Mean loss over all rows that are no padding; 0 without any."""
    each = functional.binary_cross_entropy_with_logits(logits, groups.labels, reduction="none")
    return (each * groups.weight).sum() / groups.weight.sum().clamp(min=1)


# ---- exactly -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Posterior:
    """A Gaussian over each group's head: ``mean [G, F]``, ``covariance [G, F, F]``."""

    mean: Tensor
    covariance: Tensor

    def chances(self, asked: Groups) -> Tensor:
        """Chances ``[G, S]`` with what is not known of the head in them.

        MacKay, "The Evidence Framework Applied to Classification Networks", 1992: the logistic of
        a Gaussian logit is about that of its mean over ``sqrt(1 + pi variance / 8)``.
        """
        spread = torch.einsum("gsf,gfh,gsh->gs", asked.features, self.covariance, asked.features)
        return (asked.logits(self.mean) / (1 + math.pi * spread / 8).sqrt()).sigmoid()


def laplace(support: Groups, variance: Tensor, mean: Tensor | None = None) -> Posterior:
    """The posterior of logistic heads under a prior ``N(mean, diag(variance))``, at its mode.

    ``variance [F]`` and ``mean [F]`` (0 if not given). The problem is convex: Newton's steps, none
    so long that a logit runs away, end at its one mode. Without a row it is the prior.
    """
    prior = torch.zeros_like(variance) if mean is None else mean
    heads = prior.expand(len(support), -1).clone()
    precision = torch.diag(1 / variance)
    for _ in range(_NEWTON):
        p = support.logits(heads).sigmoid()
        slope = torch.einsum("gs,gsf->gf", support.weight * (p - support.labels), support.features)
        slope = slope + (heads - prior) / variance
        curve = _curvature(support, p) + precision
        step = torch.linalg.solve(curve, slope)
        moved = torch.einsum("gsf,gf->gs", support.features, step).abs() * support.weight.sign()
        most = moved.amax(1) if moved.shape[1] else moved.new_zeros(len(moved))
        heads = heads - step * (_DAMPED / most.clamp(min=_DAMPED))[:, None]
    curve = _curvature(support, support.logits(heads).sigmoid()) + precision
    return Posterior(heads, torch.linalg.inv(curve))


def _curvature(groups: Groups, p: Tensor) -> Tensor:
    weight = groups.weight * p * (1 - p)
    return torch.einsum("gs,gsf,gsh->gfh", weight, groups.features, groups.features)


def fit_variance(
    support: Groups, query: Groups, scales: Sequence[float], shape: Tensor
) -> tuple[float, Tensor]:
    """The scale of a prior's variance ``scale * shape [F]`` that foretells other rows best."""
    losses = {}
    for scale in scales:
        chances = laplace(support, scale * shape).chances(query).clamp(1e-6, 1 - 1e-6)
        losses[scale] = float(nats(query, chances.logit()))
    best = min(scales, key=lambda scale: losses[scale])
    return best, best * shape


# ---- by steps ----------------------------------------------------------------------------------


def adapt(start: Tensor, support: Groups, *, rate: float, steps: int = STEPS) -> Tensor:
    """Heads ``[G, F]`` after gradient steps from ``start`` (``[F]`` or ``[G, F]``)."""

    def loss(head: Tensor, one: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        features, offsets, labels, weight = one
        logits = offsets + features @ head
        each = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        return (each * weight).sum() / weight.sum().clamp(min=1)

    heads = start.expand(len(support), -1)
    rows = (support.features, support.offsets, support.labels, support.weight)
    slopes = vmap(grad(loss))
    for _ in range(steps):
        heads = heads - rate * slopes(heads, rows)
    return heads


def reptile(
    groups: Groups, *, rate: float, outer: float = 0.3, rounds: int = 60, size: int = 64
) -> Tensor:
    """A start ``[F]`` in the middle of where groups' own steps lead.

    Nichol et al., "On First-Order Meta-Learning Algorithms", 2018.
    """
    generator = torch.Generator().manual_seed(0)
    start = groups.features.new_zeros(groups.features.shape[2])
    for _ in range(rounds):
        some = groups[torch.randperm(len(groups), generator=generator)[:size]]
        start = start + outer * (adapt(start, some, rate=rate).mean(0) - start)
    return start


def anil(
    support: Groups, query: Groups, *, rate: float, learning_rate: float = 0.03, rounds: int = 60,
    size: int = 64,
) -> Tensor:  # fmt: skip
    """A start ``[F]`` from which steps on a group's ``support`` do well on its ``query``.

    Raghu et al., "Rapid Learning or Feature Reuse?", ICLR 2020: MAML whose inner steps move the
    head alone. The outer gradient runs through the inner steps.
    """
    start = support.features.new_zeros(support.features.shape[2])
    return _learnt(
        start, len(support), lambda head, some: nats(
            query[some], query[some].logits(adapt(head, support[some], rate=rate))
        ),
        learning_rate=learning_rate, rounds=rounds, size=size,
    )  # fmt: skip


def generator(
    content: Tensor, support: Groups, query: Groups, *, rate: float, cold: float = 0.5,
    learning_rate: float = 0.03, rounds: int = 60, size: int = 64,
) -> Callable[[Tensor], Tensor]:  # fmt: skip
    """From what describes groups, ``[G, C]``, to a start of each, ``[G, F]``.

    Pan et al., "Warm Up Cold-start Advertisements: Improving CTR Predictions via Learning to Learn
    ID Embeddings" (Meta-Embedding), SIGIR 2019: ``cold`` times the loss of the start on the
    support, the rest that on the query after a step. Unlike there what is generated is a head and
    not a row of a table, and by one linear map.
    """
    n_content, n_features = content.shape[1], support.features.shape[2]

    def starts(weights: Tensor, told: Tensor) -> Tensor:
        return told @ weights[:-1] + weights[-1]

    def loss(weights: Tensor, some: Tensor) -> Tensor:
        head = starts(weights, content[some])
        warm = adapt(head, support[some], rate=rate, steps=1)
        before = nats(support[some], support[some].logits(head))
        return cold * before + (1 - cold) * nats(query[some], query[some].logits(warm))

    zero = content.new_zeros(n_content + 1, n_features)
    weights = _learnt(
        zero, len(support), loss, learning_rate=learning_rate, rounds=rounds, size=size
    )
    return lambda told: starts(weights, told)


def _learnt(
    start: Tensor,
    n_groups: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    learning_rate: float,
    rounds: int,
    size: int,
) -> Tensor:
    """What Adam makes of ``start`` by the loss of some groups at a time."""
    drawn = torch.Generator().manual_seed(0)
    found = start.clone().requires_grad_(True)
    adam = torch.optim.Adam([found], lr=learning_rate)
    for _ in range(rounds):
        some = torch.randperm(n_groups, generator=drawn)[:size]
        adam.zero_grad()
        loss(found, some).backward()
        adam.step()
    return found.detach()
