"""Chances of a run and what came since to how far they still hold: rate, slope, ranking."""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from daogou.features.queries import user_rows
from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.learn.shares import (
    Array,
    Floats,
    Rows,
    Shares,
    chance_above,
    groups_at,
    moved,
    shares_of,
)
from daogou.learn.since import LEAST, SURE, Line, in_se
from daogou.metrics import (
    auc,
    auc_replicates,
    bias_corrected_calibration_error,
    calibration_error,
    predicted_over_observed,
    standard_error,
)
from daogou.model.calibrated import logits_of
from daogou.schema import Shop

DRAWS: Final = 200
_STEPS: Final = 50

_RATE: Final = ("no", "yes")


@dataclass(frozen=True)
class Answers:
    """Chances ``[n]`` of one stage, whether it happened, weights and whose."""

    chance: Floats
    happened: NDArray[np.bool_]
    weight: Floats
    groups: Rows

    @property
    def tells(self) -> bool:
        """Whether both outcomes are often enough, and of enough users, to say anything."""
        rarer = min(int(self.happened.sum()), int((~self.happened).sum()))
        return rarer >= LEAST and len(np.unique(self.groups)) > 1


def of_stage(store: Store, chances: Array, place: int, column: int, rows: Rows) -> Answers:
    """The answers to one stage, of exposures that are of age."""
    first, _ = store.ranges["test"]
    label = np.asarray(store["exposures/labels"])[rows, column]
    rows, label = rows[label >= 0], label[label >= 0]
    weight = np.asarray(store["exposures/weight"], dtype=np.float64)[rows]
    chance = chances[rows - first, place].astype(np.float64).clip(0, 1)
    return Answers(chance, label == 1, weight, groups_at(user_rows(store, rows), rows))


def rates(store: Store, shop: Shop, transform: Transform) -> dict[str, Shares]:
    """How often each stage was reached by the training exposures where that is known."""
    rows = np.arange(*store.ranges["train"])
    found = {}
    for task in shop.of_family("funnel"):
        if task.is_value:
            continue
        label = np.asarray(store["exposures/labels"])[rows, transform.stages.index(task.name)]
        at = rows[label >= 0]
        groups = groups_at(user_rows(store, at), at)
        weight = np.asarray(store["exposures/weight"], dtype=np.float64)[at]
        found[f"rate {task.name}"] = shares_of(_RATE, label[label >= 0].astype(int), groups, weight)
    return found


def rate(name: str, before: Shares, said: Answers) -> Line:
    """By how much a stage is reached more or less often than it was."""
    now = shares_of(_RATE, said.happened.astype(int), said.groups, said.weight)
    p, q = float(before.share[1]), float(now.share[1])
    told: dict[str, Any] = {"before": p, "now": q, "n": now.n}
    if not said.tells or not p > 0:
        return Line("rate", name, math.nan, math.nan, told)
    se = math.sqrt(before.covariance[1, 1] / p**2 + now.covariance[1, 1] / q**2)
    ratio = math.log(q / p)
    told |= {"ratio": q / p}
    told["interval"] = [math.exp(ratio - SURE * se), math.exp(ratio + SURE * se)]
    return Line("rate", name, abs(ratio), moved(before, now).p, told)


def slope(name: str, said: Answers) -> Line:
    """How the logits of what was said must be stretched to come true; 1 = they are as they are."""
    told: dict[str, Any] = {"n": len(said.chance), "positives": int(said.happened.sum())}
    if not said.tells:
        return Line("slope", name, math.nan, math.nan, told)
    logits = logits_of(torch.from_numpy(said.chance)).numpy()
    (slope, intercept), covariance = line_through(logits, said.happened, said.weight, said.groups)
    se, se_of_intercept = np.sqrt(np.diag(covariance)).tolist()
    given = said.chance, said.happened, said.weight
    told |= {
        "slope": slope,
        "interval": [slope - SURE * se, slope + SURE * se],
        "intercept": intercept,
        "intercept_interval": [
            intercept - SURE * se_of_intercept, intercept + SURE * se_of_intercept
        ],
        "ece": calibration_error(*given),
        "ece_beyond_noise": bias_corrected_calibration_error(*given),
        "predicted_over_observed": predicted_over_observed(*given),
    }  # fmt: skip
    change = abs(math.log(slope)) if slope > 0 else math.inf
    return Line("slope", name, change, min(2 * chance_above(abs(in_se(slope - 1, se))), 1.0), told)


def line_through(
    logits: Floats, happened: NDArray[np.bool_], weight: Floats, groups: Rows
) -> tuple[tuple[float, float], Floats]:
    """Slope and intercept under which labels are likeliest, and their covariance ``[2, 2]``.

    Newton's method; the covariance is the sandwich of independent groups (Liang & Zeger,
    "Longitudinal Data Analysis Using Generalized Linear Models", 1986).
    """
    x = np.stack([logits, np.ones_like(logits)], axis=1)
    at = np.array([1.0, 0.0])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-(x @ at)))
        curvature = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, x.T @ (weight * (happened - p)))
        at = at + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < 1e-8:
            break
    codes = np.unique(groups, return_inverse=True)[1]
    pulls = x * (weight * (happened - 1 / (1 + np.exp(-(x @ at)))))[:, None]
    of_group = np.stack([np.bincount(codes, pull) for pull in pulls.T], axis=1)
    bread = np.linalg.inv(curvature)
    covariance = np.asarray(bread @ of_group.T @ of_group @ bread, dtype=np.float64)
    return (float(at[0]), float(at[1])), covariance


def lost(name: str, then: Answers, now: Answers, seed: int) -> Line:
    """How much lower the AUC is than on the run's own test split."""
    values, errors = [], []
    for each in (then, now):
        given = each.chance, each.happened
        values.append(auc(*given, each.weight) if each.tells else math.nan)
        draws = auc_replicates(*given, each.groups, each.weight, n=DRAWS, seed=seed)
        errors.append(standard_error(draws) if each.tells else math.nan)
    se, change = math.hypot(*errors), values[0] - values[1]
    told: dict[str, Any] = {"before": values[0], "now": values[1], "n": len(now.chance)}
    told["interval"] = [change - SURE * se, change + SURE * se]
    p = math.nan if math.isnan(change + se) else chance_above(in_se(change, se))
    return Line("auc", name, change, p, told)
