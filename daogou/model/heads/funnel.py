"""Users meeting candidates to the probabilities of a funnel's stages."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from daogou.features.batch import Batch
from daogou.model.encoded import Encoded, TaskLosses, weigh, weighed_linear
from daogou.model.experts import GroupedLinear
from daogou.model.losses import binary, masked_mean
from daogou.model.meet import Meet
from daogou.model.mixers.base import Mixer


class FunnelHead(nn.Module):
    """A tower per stage, each learnt where the stage before it happened, multiplied at serving.

    ``p(buy) = p(click) p(cart | click) p(buy | cart)``: later stages are never likelier than
    earlier ones, by construction. Learning the conditional where it is defined beat the
    product losses (ESMM) and the debiased ones in a controlled test (SCIENCE 5.1).

    Beside its tower each stage reads the mixer's input through one linear layer (Cheng et al.,
    "Wide & Deep Learning", 2016): what is nearly linear in the affinities and buckets need not
    wait for the experts.

    With ``bfloat16`` the mixer's products have 8 bits of mantissa in training; towers, losses and
    weights stay in float32, and so does everything outside training.

    ``given[t]`` is the place of the stage that t is conditional on, or -1; ``columns[t]`` the
    column of t among the exposures' labels.
    """

    def __init__(
        self,
        meet: Meet,
        mixer: Mixer,
        given: Sequence[int],
        columns: Sequence[int],
        *,
        tower: int = 32,
        bfloat16: bool = False,
    ) -> None:
        super().__init__()
        if any(place >= stage for stage, place in enumerate(given)):
            raise ValueError(f"given {list(given)}: a stage can only depend on an earlier one")
        self.meet = meet
        self.mixer = cast(nn.Module, mixer)
        self.short = bfloat16
        self.given = tuple(given)
        self.columns = list(columns)
        self.hidden = GroupedLinear(len(given), mixer.n_outputs, tower)
        self.out = GroupedLinear(len(given), tower, 1)
        self.wide = nn.Parameter(torch.zeros(len(given), meet.n_outputs))

    def logits(self, shared: Tensor, weights: Tensor | None = None) -> Tensor:
        """Conditional logits ``[T, B]`` of the mixer's input ``[B, D]``."""
        if weights is None:
            weights = shared.new_ones(len(self.given))
        with torch.autocast(
            shared.device.type, torch.bfloat16, enabled=self.short and self.training
        ):
            mixed = self.mixer(shared)
        mixed = weigh(mixed.float(), weights)
        towers: Tensor = self.out(nn.functional.silu(self.hidden(mixed)))
        return towers[..., 0] + weighed_linear(shared, self.wide, weights).T

    def losses(self, encoded: Encoded, batch: Batch, weights: Tensor) -> TaskLosses:
        """Each stage's nats per exposure of the batch, ``[T]``; 0 where it is undefined.

        Summed over stages this is the negative log-likelihood of what happened to an exposure: a
        stage that is seldom defined weighs little. As a mean over its own few rows it would
        weigh many times more a row, and the shared layers would learn those rows by heart.
        """
        shared = self.meet(encoded, batch)
        logits = self.logits(shared, weights)
        labels = batch.exposures["labels"][:, self.columns]
        weight = batch.exposures["weight"]
        found = []
        for stage in range(len(self.given)):
            label = labels[:, stage].clamp(min=0).to(logits.dtype)
            values = binary(logits[stage], label)
            defined = self.defined(labels, stage)
            share = (defined * weight).sum() / weight.sum().clamp(min=1e-12)
            found.append(masked_mean(values, defined, weight) * share)
        return TaskLosses(torch.stack(found), shared)

    def defined(self, labels: Tensor, stage: int) -> Tensor:
        """Where a stage's conditional label exists: known, and the stage before it happened."""
        known = labels[:, stage] >= 0
        before = self.given[stage]
        return known & (labels[:, before] == 1) if before >= 0 else known

    def chances(self, encoded: Encoded, batch: Batch) -> tuple[Tensor, Tensor]:
        """Chance of each stage over all exposures, and where its condition holds, ``[T, B]``."""
        conditional = self.logits(self.meet(encoded, batch)).sigmoid()
        return self.chained(conditional), conditional

    def chained(self, conditional: Tensor) -> Tensor:
        """Conditional chances multiplied along the funnel, ``[T, B]``."""
        chances: list[Tensor] = []
        for stage, before in enumerate(self.given):
            own = conditional[stage]
            chances.append(own if before < 0 else own * chances[before])
        return torch.stack(chances)
