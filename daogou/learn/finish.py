"""A model whose training has ended to the one that answers: straight paths, calibration, counts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch

from daogou.features.store import Store
from daogou.learn.calibrate import calibrate
from daogou.learn.straight import Choices, choose_straight, teach_straight
from daogou.learn.tally import weigh
from daogou.learn.validate import TaskLoss, validation_losses
from daogou.model.heads.values import ValueReader
from daogou.model.joint import JointModel

# What validation teaches beside the epoch: curves, what paths count, what a tally's inputs weigh.
_LEARNT_LAST: Final = re.compile(r"\bcalibrated\.\w+$|\.paths$|\btally\.weights$")


@dataclass(frozen=True)
class Finished:
    """What was done to a model, and its losses on the validation split.

    The losses are from before the split's known profiles taught, see `teach_straight`.
    """

    straight: Choices
    calibrated: dict[str, dict[str, Any]]
    weighed: dict[str, Any]
    losses: dict[str, TaskLoss]


def finish(model: JointModel, store: Store, calibration: str, *, history_length: int) -> Finished:
    """Solve what is not learnt in steps, calibrate by the validation split, judge, teach the rest.

    Deterministic, and again on a finished model the same: what is done here is done anew.
    """
    straight = choose_straight(model, store, history_length=history_length)
    calibrated = calibrate(model, store, calibration, history_length=history_length)
    weighed = weigh(model, store, history_length=history_length)
    losses = validation_losses(model, store, "validation", history_length=history_length)
    teach_straight(model, store, straight, history_length=history_length)
    return Finished(straight, calibrated, weighed, losses)


def finish_like(
    model: JointModel, judged: JointModel, done: Finished, store: Store, *, history_length: int
) -> None:
    """Finish a model as another of the same tasks was, whose validation rows have taught it.

    What was learnt from those rows' answers is taken over: they were held out from ``judged``, and
    this model would be too good at them. What is solved from known profiles is solved anew.
    """
    learnt = {
        name: weight for name, weight in judged.state_dict().items() if _LEARNT_LAST.search(name)
    }
    model.load_state_dict(learnt, strict=False)
    sharp = {
        name: sharpness
        for reader in _readers(judged)
        for name, sharpness in zip(reader.names, reader.sharpness.tolist(), strict=True)
    }
    for reader in _readers(model):  # by name: more titles may bring a column of classes, or end one
        reader.sharpness.copy_(torch.tensor([sharp.get(name, 1.0) for name in reader.names]))
    teach_straight(model, store, done.straight, history_length=history_length, anew=True)


def _readers(model: JointModel) -> Iterator[ValueReader]:
    return (module for module in model.modules() if isinstance(module, ValueReader))
