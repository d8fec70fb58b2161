"""Users meeting candidates to the probabilities of a funnel's stages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from daogou.features.batch import Batch
from daogou.features.columns import Columns
from daogou.features.transform import LogScale
from daogou.model.calibrated import Calibrated
from daogou.model.encoded import Encoded, TaskLosses, weigh, weighed_linear
from daogou.model.experts import GroupedLinear
from daogou.model.meet import Meet
from daogou.model.mixers.base import Mixer
from daogou.model.mixers.unshared import Unshared
from daogou.model.own import OwnRows
from daogou.model.position import Position
from daogou.model.stages import STAGE_LOSSES, VALUE_LOSSES, Seen, StageLoss, ValueLoss


@dataclass(frozen=True)
class Stage:
    """One task of the funnel: ``given`` is the place of the task it depends on, or -1.

    ``column`` is its column among the exposures' labels, ``loss`` a name in `STAGE_LOSSES`. With
    a ``scale`` it is no chance but what the stage ``given`` is worth: it stands last, its column
    is -1 and its loss a name in `VALUE_LOSSES`. With ``own_rows`` it has rows of its own where the
    others have none, and teaches nothing that is shared. ``rate`` is the chance that its tower says
    before it has learnt anything, where the stage before happened.
    """

    given: int
    column: int
    loss: str = "conditional"
    window_h: float = 24.0
    scale: LogScale | None = None
    own_rows: bool = False
    rate: float = 0.5


@dataclass(frozen=True)
class Mixed:
    """What the towers read: ``mixed [T, B, H]``, the mixer's input ``shared [B, D]`` and asides."""

    mixed: Tensor
    shared: Tensor
    asides: dict[str, Tensor]


@dataclass(frozen=True)
class Towers:
    """What the towers say: ``logits [T, B]`` and ``further [T, B, F]``; ``shared [B, D]`` below."""

    logits: Tensor
    further: Tensor
    shared: Tensor


class FunnelHead(nn.Module):
    """A tower per stage, each learnt where the stage before it happened, multiplied at serving.

    ``p(buy) = p(click) p(cart | click) p(buy | cart)``: later stages are never likelier than
    earlier ones, by construction. Learning the conditional where it is defined beat the
    product losses (ESMM) and the debiased ones in a controlled test (SCIENCE 5.1); those are in
    `daogou.model.stages` too.

    Beside its tower each stage reads the mixer's input, and its own rows where the mixer has such,
    through one linear layer (Cheng et al., "Wide & Deep Learning", 2016): what is nearly linear in
    the affinities and buckets need not wait for the experts.

    With ``bfloat16`` the mixer's products have 8 bits of mantissa in training; towers, losses and
    weights stay in float32, and so does everything outside training.

    What a stage is worth is one more task, the last. Wherever this speaks of chances, its answer is
    an expected value: where the stage happens, or times that stage's chance, over all exposures.

    ``domain`` is the column of the context that says which domain an exposure is of and the row of
    its first value, for a mixer that asks; ``own`` are each task's own rows, likewise.
    """

    def __init__(
        self,
        meet: Meet,
        mixer: Mixer,
        stages: Sequence[Stage],
        *,
        tower: int = 32,
        bfloat16: bool = False,
        position: Position | None = None,
        domain: tuple[int, int] | None = None,
        own: OwnRows | None = None,
    ) -> None:
        super().__init__()
        given = [stage.given for stage in stages]
        if any(place >= stage for stage, place in enumerate(given)):
            raise ValueError(f"given {given}: a stage can only depend on an earlier one")
        if any(stage.scale is not None for stage in stages[:-1]):
            raise ValueError("stages: only the last one may be an amount")
        self.meet = meet
        self.mixer = cast(nn.Module, mixer)
        self.position, self.domain, self.own = position, domain, own
        self.short = bfloat16
        self.stages = tuple(stages)
        self.given = tuple(given)
        self.columns = [stage.column for stage in stages if stage.scale is None]
        self.learnt: list[StageLoss | ValueLoss] = [
            STAGE_LOSSES[stage.loss]() if stage.scale is None
            else VALUE_LOSSES[stage.loss](stage.scale)
            for stage in stages
        ]  # fmt: skip
        # Of the losses that have weights; a run without such has no entry of that name.
        self.of_losses = nn.ModuleList(
            [loss for loss in self.learnt if isinstance(loss, nn.Module)]
        )
        n_outputs = 1 + max((loss.n_further for loss in self.learnt), default=0)
        self.hidden = GroupedLinear(len(given), mixer.n_outputs, tower)
        self.out = GroupedLinear(len(given), tower, n_outputs)
        # A rare stage that starts at one half is first told of nothing but its rarity, and by
        # gradients so large that Adagrad's rows, which remember them, hardly move afterwards.
        assert self.out.bias is not None
        with torch.no_grad():
            for place, stage in enumerate(stages):
                self.out.bias[place, 0] = math.log(stage.rate) - math.log1p(-stage.rate)
        self.wide = nn.Parameter(torch.zeros(len(given), meet.n_outputs))
        self.calibrated = Calibrated(len(given))
        # Which tasks the own rows are of, and 0 for those that teach nothing shared.
        owners = [place for place, stage in enumerate(stages) if stage.own_rows]
        self.register_buffer(
            "owners", torch.tensor(owners or list(range(len(stages)))), persistent=False
        )
        teaches = torch.tensor([0.0 if stage.own_rows else 1.0 for stage in stages])
        self.register_buffer("teaches", teaches, persistent=False)
        if own is not None:
            self.wide_own = nn.Parameter(torch.zeros(len(self.owners), own.n_outputs))

    owners: Tensor
    teaches: Tensor

    def towers(self, encoded: Encoded, batch: Batch, weights: Tensor | None = None) -> Towers:
        """What each stage's tower says of each exposure; ``weights [T]`` act at the forks."""
        towers = self.read(self.below(encoded, batch), batch, weights)
        if encoded.lift is None:
            return towers
        lift = encoded.lift[batch.exposures["item"]].T
        return replace(towers, logits=towers.logits + lift)

    def below(self, encoded: Encoded, batch: Batch) -> Mixed:
        """The exposures as the mixer gives them to each stage's tower."""
        shared = self.meet(encoded, batch)
        asides = self.asides(encoded, batch)
        with torch.autocast(
            shared.device.type, torch.bfloat16, enabled=self.short and self.training
        ):
            mixed = self.mixer(shared, **asides)
        return Mixed(mixed.float(), shared, asides)

    def read(self, below: Mixed, batch: Batch, weights: Tensor | None = None) -> Towers:
        """What the towers say of what is ``below`` them; ``weights [T]`` act in between."""
        shared, asides = below.shared, below.asides
        if weights is None:
            weights = shared.new_ones(len(self.given))
        mixed = weigh(below.mixed, weights)
        said: Tensor = self.out(functional.silu(self.hidden(mixed)))
        logits = said[..., 0] + weighed_linear(shared, self.wide, weights, self.teaches).T
        if "own" in asides:
            beside = torch.einsum("tbn,tn->tb", asides["own"], self.wide_own)
            logits = logits.index_add(0, self.owners, beside)
        if self.position is not None:
            logits = logits + self.position(batch.exposures["fields"])
        return Towers(logits, said[..., 1:], shared)

    def asides(self, encoded: Encoded, batch: Batch) -> dict[str, Tensor]:
        """What the mixer asks for beside its input."""
        found = {}
        if self.domain is not None:
            column, first = self.domain
            found["domain"] = batch.exposures["fields"][:, column] - first
        if self.own is not None:
            found["own"] = self.own(encoded, batch)
        return found

    def own_parts(self, stage: int) -> dict[str, Tensor]:
        """What of each weight no other stage reads: masks that spread to the weights' shapes."""
        n = len(self.given)
        mine = torch.arange(n, device=self.wide.device) == stage
        found = {f"{layer}.weight": mine[None, :, None] for layer in ("hidden", "out")}
        found |= {f"{layer}.bias": mine[:, None] for layer in ("hidden", "out")}
        found["wide"] = mine[:, None]
        if isinstance(self.mixer, Unshared):
            found |= {f"mixer.{k}": mask for k, mask in self.mixer.own_parts(stage).items()}
        if self.own is not None and self.stages[stage].own_rows:
            of = self.owners == stage
            found["wide_own"] = of[:, None]
            found["own.rows.weight"] = of.repeat(self.own.rows.num_embeddings // len(of))[:, None]
        return found

    def losses(self, encoded: Encoded, batch: Batch, weights: Tensor) -> TaskLosses:
        """Each stage's nats per exposure of the batch, ``[T]``; 0 where it is undefined.

        What a stage's loss teaches the layers of earlier ones goes at its own weight and not at
        theirs: it reads what they say without their forks, and its weight acts there.
        """
        below = self.below(encoded, batch)
        towers = self.read(below, batch, weights)
        seen = self.seen(towers, batch.exposures)
        reaching = [
            at for at, (loss, stage) in enumerate(zip(self.learnt, self.stages, strict=True))
            if loss.teaches_before and not stage.own_rows
        ]  # fmt: skip
        if reaching:
            before = self.log_chained(self.log_conditional(self.read(below, batch)))
            for at in reaching:
                reached = weigh(before[self.given[at]][None], weights[at : at + 1])[0]
                seen[at] = replace(seen[at], log_before=reached)
        found = [loss(each) for loss, each in zip(self.learnt, seen, strict=True)]
        return TaskLosses(torch.stack(found), towers.shared)

    @property
    def worth(self) -> ValueLoss | None:
        """The loss of the last task, where that is an amount."""
        is_value = bool(self.stages) and self.stages[-1].scale is not None
        return cast(ValueLoss, self.learnt[-1]) if is_value else None

    def seen(self, towers: Towers, exposures: Columns) -> list[Seen]:
        """What a batch's exposures say of each stage."""
        labels = exposures["labels"][:, self.columns]
        value = exposures["value"] if self.worth is not None else None
        if value is not None:
            labels = torch.cat([labels, is_above(value)[:, None]], dim=1)
        delays = exposures["delay_h"] if "delay_h" in exposures.tensors else None
        watched = exposures["watched_h"] if "watched_h" in exposures.tensors else None
        log_chances = self.log_chained(self.log_conditional(towers)).detach()
        found = []
        for stage, (asked, loss) in enumerate(zip(self.stages, self.learnt, strict=True)):
            before = asked.given
            logit = towers.logits[stage]
            found.append(
                Seen(
                    logit=logit,
                    further=towers.further[stage, :, : loss.n_further],
                    log_before=log_chances[before] if before >= 0 else torch.zeros_like(logit),
                    label=labels[:, stage],
                    happened=labels[:, before] == 1
                    if before >= 0
                    else torch.ones_like(logit, dtype=torch.bool),
                    weight=exposures["weight"],
                    window_h=asked.window_h,
                    delay_h=delays[:, asked.column] if delays is not None else None,
                    watched_h=watched[:, asked.column] if watched is not None else None,
                    value=value if asked.scale is not None else None,
                )
            )
        return found

    def log_conditional(self, towers: Towers) -> Tensor:
        """Log chance ``[T, B]`` of each stage where the one before happened; 0 of an amount."""
        return torch.stack(
            [
                cast(StageLoss, loss).log_chance(
                    towers.logits[stage], towers.further[stage], asked.window_h
                )
                if asked.scale is None
                else torch.zeros_like(towers.logits[stage])
                for stage, (asked, loss) in enumerate(zip(self.stages, self.learnt, strict=True))
            ]
        )

    def defined(self, labels: Tensor, stage: int) -> Tensor:
        """Where a stage's conditional label exists: known, and the stage before it happened."""
        known = labels[:, stage] >= 0
        before = self.given[stage]
        return known & (labels[:, before] == 1) if before >= 0 else known

    def chances(self, encoded: Encoded, batch: Batch) -> tuple[Tensor, Tensor]:
        """Chance of each stage over all exposures, and where its condition holds, ``[T, B]``."""
        return self.said(self.towers(encoded, batch))

    def said(self, towers: Towers) -> tuple[Tensor, Tensor]:
        """The chances that towers have said, as `chances`; calibrated outside training."""
        conditional = torch.stack(
            [
                loss.chance(towers.logits[stage], towers.further[stage], asked.window_h)
                for stage, (asked, loss) in enumerate(zip(self.stages, self.learnt, strict=True))
            ]
        )
        if not self.training:
            # Before they are multiplied, so that a later stage stays no likelier than an earlier.
            conditional = self.calibrated(conditional)
        return self.chained(conditional), conditional

    def chained(self, conditional: Tensor) -> Tensor:
        """Conditional chances multiplied along the funnel, ``[T, B]``."""
        chances: list[Tensor] = []
        for stage, before in enumerate(self.given):
            own = conditional[stage]
            chances.append(own if before < 0 else own * chances[before])
        return torch.stack(chances)

    def log_chained(self, conditional: Tensor) -> Tensor:
        """The same in logarithms: sums along the funnel, ``[T, B]``."""
        chances: list[Tensor] = []
        for stage, before in enumerate(self.given):
            own = conditional[stage]
            chances.append(own if before < 0 else own + chances[before])
        return torch.stack(chances)


def is_above(values: Tensor) -> Tensor:
    """``[B]`` int8: 1 where a value is above 0, 0 where it is 0, -1 where it is missing (NaN)."""
    return torch.where(values.isnan(), -1, values > 0).to(torch.int8)
