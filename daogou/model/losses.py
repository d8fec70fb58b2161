"""Losses that know what is missing: a batch without a label gives 0, never NaN."""

import torch
from torch import Tensor
from torch.nn import functional

MISSING = -1


def masked_mean(values: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted mean of ``values [B]`` where ``mask [B]`` holds; 0 (gradient too) if nowhere.

    >>> masked_mean(torch.tensor([1.0, 5.0]), torch.tensor([True, False])).item()
    1.0
    >>> masked_mean(torch.tensor([1.0, 5.0]), torch.tensor([False, False])).item()
    0.0
    """
    kept = mask.to(values.dtype) if weights is None else mask * weights
    # where() and not a product: a NaN in a masked row must not reach the sum
    total = torch.where(mask, values * kept, values.new_zeros(())).sum()
    return total / kept.sum().clamp(min=1e-12)


def binary(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood in nats of each label; labels are 0 and 1. Shapes ``[B]``."""
    return functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def categorical(logits: Tensor, classes: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of ``logits [Q, V]`` over the rows whose class is known."""
    if not logits.shape[1]:
        return logits.sum()  # no class to tell apart: 0, with a gradient of 0
    known = classes != MISSING
    values = functional.cross_entropy(logits, classes.clamp(min=0), reduction="none")
    return masked_mean(values, known, weights)


def sampled_softmax(scores: Tensor, positive: Tensor, log_chance: Tensor) -> Tensor:
    """Softmax loss over a sample of the catalogue, corrected for how it was drawn. ``[P]``.

    ``scores [P, N]`` of P positives against N sampled items, ``positive [P]`` the column of each
    positive, ``log_chance [N]`` the log-probability that an item is in the sample. Each sampled
    item stands for ``1 / chance`` items, or for none where its score is ``-inf``; the positive is
    always present and stands for itself (Yi et al., "Sampling-Bias-Corrected Neural Modeling",
    RecSys 2019, but that the positive is not treated as sampled). The gradient is thereby that of
    the positive against the sampled others alone, times one less the positive's chance, which is
    how Khrylchenko et al., RecSys 2025, write it.

    >>> all_sampled = sampled_softmax(torch.zeros(1, 4), torch.tensor([2]), torch.zeros(4))
    >>> round(all_sampled.exp().item(), 3)
    4.0
    """
    columns = torch.arange(scores.shape[1], device=scores.device)
    corrected = torch.where(columns == positive[:, None], scores, scores - log_chance)
    picked = scores.gather(1, positive[:, None])[:, 0]
    return corrected.logsumexp(1) - picked
