"""A finished run to the start of another: all of it learns on, or a single stage is taught anew."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from daogou.errors import ArtifactError
from daogou.learn.adapter import adapt, freeze
from daogou.model.heads.funnel import FunnelHead
from daogou.model.joint import JointModel

_MIXER: Final = "heads.funnel.mixer."
_MEET: Final = "heads.funnel.meet."
USUAL, SPREAD, SCALE = f"{_MEET}usual", f"{_MEET}spread", f"{_MEET}rates.scale"
ALL, HEADS, ADAPTERS = "all", "heads", "adapters"


@dataclass(frozen=True)
class Onto:
    """The run whose weights are the start, and the stage whose own layers alone learn on them.

    Without a stage weights learn on: ``learns`` says which, `ALL` or, of the encoders, none
    (`HEADS`) or changes of low rank (`ADAPTERS`). ``pull`` draws dense weights back to the start,
    by ``rate * pull`` of the way at each step. ``beside`` is a store of the same transform, whose
    exposures are taught too: a step of them after each step. ``pace`` is a share of the learning
    rates. If it ``may_stay`` the start is judged as an epoch that taught nothing. ``told`` is
    what the new run's manifest says beside or instead of the own.
    """

    run: Path
    task: str | None = None
    learns: str = ALL
    pull: float = 0.0
    beside: Path | None = None
    pace: float = 1.0
    may_stay: bool = False
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Held:
    """A weight of which only what ``learns`` (a mask of its shape) may differ from ``value``."""

    weight: Tensor
    learns: Tensor
    value: Tensor

    @torch.no_grad()
    def restore(self) -> None:
        """Put back what an optimiser moved without being asked, by decay or a pull on rows."""
        self.weight.copy_(torch.where(self.learns, self.weight, self.value))


def hold(model: JointModel, onto: Onto) -> list[Held]:
    """Give a new model the run's weights, but the task's own; those alone learn from here on.

    The model and the run are of one shop and shape, but that the run may be one in which no stage
    has anything of its own. What lies below the task's own layers is
    frozen, so no other task's answers change: each keeps its own best epoch in one model.

    Without a task nothing is held. The run may then have families of tasks that the model lacks,
    and its calibration, which is no weight, is left behind.
    """
    weights: Mapping[str, Tensor] = load_file(onto.run / "model.safetensors")
    if onto.task is None:
        _begin(model, weights)
        if onto.learns == HEADS:
            freeze(model)
        elif onto.learns == ADAPTERS:
            adapt(model)
        return []
    place = [task.name for task in model.tasks].index(onto.task)
    own = own_parts(model, place)
    fresh = {name: model.get_parameter(name).detach().clone() for name in own}
    _take(model, weights)
    held: list[Held] = []
    for name, weight in model.named_parameters():
        if name not in own:
            weight.requires_grad_(False)
            continue
        with torch.no_grad():
            weight.copy_(torch.where(own[name], fresh[name], weight))
        held.append(Held(weight, own[name], weight.detach().clone()))
    return held


@torch.no_grad()
def _begin(model: JointModel, weights: Mapping[str, Tensor]) -> None:
    """Every weight of the model as the run has it, and its inputs measured as they were there."""
    for name, weight in model.named_parameters():
        if name not in weights or weights[name].shape != weight.shape:
            raise ArtifactError(f"weights of another shape: {name}")
        weight.copy_(weights[name])
    # A model of one family begins from all of them: it has no stage that reads what was counted.
    if USUAL in weights and "funnel" in model.heads:
        meet = cast(FunnelHead, model.heads["funnel"]).meet
        for name, own in ((USUAL, meet.usual), (SPREAD, meet.spread)):
            own.copy_(torch.where(weights[name].isnan(), own.cpu(), weights[name]))
        if meet.rates is not None and SCALE in weights:
            meet.rates.measure_by(weights[SCALE])


def _take(model: JointModel, weights: Mapping[str, Tensor]) -> None:
    """The run's weights, under the names that they have here; what it lacks stays as it began."""
    inner = "heads.funnel.mixer.mixer."
    wrapped = any(name.startswith(inner) for name in weights)
    found = {
        name if wrapped or not name.startswith(_MIXER) else inner + name.removeprefix(_MIXER): value
        for name, value in weights.items()
    }
    missing, unexpected = model.load_state_dict(found, strict=False)
    if unexpected or (wrapped and missing):
        raise ArtifactError(f"weights of another shape: {[*missing, *unexpected][0]}")


def own_parts(model: JointModel, place: int) -> dict[str, Tensor]:
    """What of each weight is the own of the task at ``place``, as masks of the weights' shapes."""
    head = cast(FunnelHead, model.heads["funnel"])
    stage = place - model.places["funnel"].start
    return {
        f"heads.funnel.{name}": mask.expand_as(head.get_parameter(name))
        for name, mask in head.own_parts(stage).items()
    }
