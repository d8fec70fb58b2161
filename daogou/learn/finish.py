"""A model whose training has ended to the one that answers: straight paths, calibration, counts."""

from dataclasses import dataclass
from typing import Any

from daogou.features.store import Store
from daogou.learn.calibrate import calibrate
from daogou.learn.straight import Choices, choose_straight, teach_straight
from daogou.learn.tally import weigh
from daogou.learn.validate import TaskLoss, validation_losses
from daogou.model.joint import JointModel


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
