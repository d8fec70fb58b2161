"""Users meeting candidates to the probabilities of a funnel's stages."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from daogou.features.batch import Batch
from daogou.model.encoded import Encoded, TaskLosses, weigh
from daogou.model.experts import GroupedLinear
from daogou.model.losses import binary, masked_mean
from daogou.model.meet import Meet
from daogou.model.mixers.base import Mixer


class FunnelHead(nn.Module):
    """A tower per stage, each learnt where the stage before it happened, multiplied at serving.

    ``p(buy) = p(click) p(cart | click) p(buy | cart)``: later stages are never likelier than
    earlier ones, by construction. Learning the conditional where it is defined beat the
    product losses (ESMM) and the debiased ones in a controlled test (SCIENCE 5.1).

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
    ) -> None:
        super().__init__()
        if any(place >= stage for stage, place in enumerate(given)):
            raise ValueError(f"given {list(given)}: a stage can only depend on an earlier one")
        self.meet = meet
        self.mixer = cast(nn.Module, mixer)
        self.given = tuple(given)
        self.columns = list(columns)
        self.hidden = GroupedLinear(len(given), mixer.n_outputs, tower)
        self.out = GroupedLinear(len(given), tower, 1)

    def towers(self, mixed: Tensor) -> Tensor:
        """Conditional logits ``[T, B]`` of the mixer's output ``[T, B, H]``."""
        logits: Tensor = self.out(nn.functional.silu(self.hidden(mixed)))
        return logits[..., 0]

    def losses(self, encoded: Encoded, batch: Batch, weights: Tensor) -> TaskLosses:
        """Mean loss of each stage over the exposures where it is defined, ``[T]``."""
        shared = self.meet(encoded, batch)
        logits = self.towers(weigh(self.mixer(shared), weights))
        labels = batch.exposures["labels"][:, self.columns]
        found = []
        for stage in range(len(self.given)):
            label = labels[:, stage].clamp(min=0).to(logits.dtype)
            values = binary(logits[stage], label)
            found.append(
                masked_mean(values, self.defined(labels, stage), batch.exposures["weight"])
            )
        return TaskLosses(torch.stack(found), shared)

    def defined(self, labels: Tensor, stage: int) -> Tensor:
        """Where a stage's conditional label exists: known, and the stage before it happened."""
        known = labels[:, stage] >= 0
        before = self.given[stage]
        return known & (labels[:, before] == 1) if before >= 0 else known

    def chances(self, encoded: Encoded, batch: Batch) -> tuple[Tensor, Tensor]:
        """Chance of each stage over all exposures, and where its condition holds, ``[T, B]``."""
        conditional = self.towers(self.mixer(self.meet(encoded, batch))).sigmoid()
        return self.chained(conditional), conditional

    def chained(self, conditional: Tensor) -> Tensor:
        """Conditional chances multiplied along the funnel, ``[T, B]``."""
        chances: list[Tensor] = []
        for stage, before in enumerate(self.given):
            own = conditional[stage]
            chances.append(own if before < 0 else own * chances[before])
        return torch.stack(chances)
