"""Labels to what is told of them: every exposure's outcome by chance, once, and learnt as such.

Warner, "Randomized Response", JASA 1965, over the outcomes of a funnel; for training by it Ghazi,
Golowich, Kumar, Manurangsi and Zhang, "Deep Learning with Label Differential Privacy", NeurIPS
2021. Whatever is made of the told labels gives no more away than they do.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray

from daogou.errors import ConfigError, DataError
from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.metrics import stray_chance
from daogou.model.heads.funnel import FunnelHead
from daogou.model.joint import JointModel
from daogou.model.stages.randomised import Randomised
from daogou.schema import Task

Labels = NDArray[np.int8]
Rows = NDArray[np.int64]
_LOSSES: Final = ("conditional", "marginal")  # that read a label and nothing else of what came


def lines_of(tasks: Sequence[Task]) -> list[list[Task]]:
    """The funnel's stages in lines, each after the one that it is given.

    How far an exposure got along a line is one outcome. Raises `ConfigError` where there is no
    stage, two are given the same one, or a loss reads more than labels.
    """
    problems: list[str] = []
    lines: list[list[Task]] = []
    for task in tasks:
        if task.family != "funnel":
            continue
        if task.loss not in _LOSSES:
            problems.append(
                f"tasks.{task.name}.loss: {task.loss!r} reads more than labels that were told by "
                'chance; take "conditional", or enabled = false'
            )
        before = [line for line in lines if line[-1].name == task.given]
        if task.given is None:
            lines.append([task])
        elif before:
            before[0].append(task)
        else:
            problems.append(
                f"tasks.{task.name}.given: an earlier stage is given {task.given!r} as well; "
                "outcomes that are told by chance lie along a line"
            )
    if not lines and not problems:
        problems.append('federate.privacy.unit: no stage has a label; leave "label" out')
    if problems:
        raise ConfigError("\n".join(problems))
    return lines


def randomised(
    store: Store,
    transform: Transform,
    tasks: Sequence[Task],
    epsilon: float,
    random: torch.Generator,
) -> Store:
    """The store with told labels in place of its own, and none of stages that nobody learns.

    A line's outcome is told as it is with ``e^epsilon`` times the chance of each other one.
    Stages of several lines say something of the same exposure, so that they share epsilon evenly.
    Raises `DataError` where it shows in which labels are missing what others are.
    """
    lines = lines_of(tasks)
    own = np.array(store["exposures/labels"])
    told = np.full_like(own, -1)
    for line in lines:
        columns = [transform.stages.index(task.name) for task in line]
        for (first, column), (second, next_column) in pairwise(zip(line, columns, strict=True)):
            _check_missing(own[:, column], own[:, next_column], first.name, second.name)
        shifts = drawn(len(own), len(line), epsilon / len(lines), random)
        told[:, columns] = respond(own[:, columns], shifts)
    return replace(store, arrays={**store.arrays, "exposures/labels": told})


def _check_missing(before: Labels, after: Labels, name: str, name_after: str) -> None:
    known = after >= 0
    if known[before == 1].any() and (before == 0).any() and not known[before == 0].any():
        raise DataError(
            f"label {name_after!r} is known only where {name!r} happened, and so would tell that, "
            "whatever is told of the labels; write 0 where it did not"
        )


def drawn(n: int, n_stages: int, epsilon: float, random: torch.Generator) -> Rows:
    """By how many outcomes each of n is told further than it is, and round again; mostly 0."""
    others = n_stages * stray_chance(epsilon, n_stages + 1)
    strays = torch.rand(n, generator=random, dtype=torch.float64) < others
    by = torch.randint(1, n_stages + 1, (n,), generator=random)
    return by.where(strays, 0).numpy()


def respond(labels: Labels, shifts: Rows) -> Labels:
    """What is told of the labels of a line's stages ``[n, S]``; -1 from the first missing one on.

    Which are missing is told as it is, and no chance depends on it.
    """
    known = np.logical_and.accumulate(labels >= 0, axis=1)
    reached = np.logical_and.accumulate(labels == 1, axis=1).sum(1)
    n_stages = labels.shape[1]
    outcome = (reached + shifts) % (n_stages + 1)
    told = np.arange(n_stages) < outcome[:, None]
    return np.where(known, told, -1).astype(np.int8)


def hear(model: JointModel, transform: Transform, store: Store, epsilon: float) -> None:
    """Have a new model take labels for what was told of them, and begin at the rates behind them.

    ``store`` is `randomised`, by the same epsilon.
    """
    head = cast(FunnelHead, model.heads["funnel"])
    at = slice(*store.ranges["train"])
    labels, weight = store["exposures/labels"][at], store["exposures/weight"][at]
    lines = lines_of(model.tasks)
    names = [task.name for task in model.tasks if task.family == "funnel"]
    assert head.out.bias is not None
    for line in lines:
        each = stray_chance(epsilon / len(lines), len(line) + 1)
        kept = 1 - (len(line) + 1) * each
        before = 1.0
        for depth, task in enumerate(line):
            stray, place = (len(line) - depth) * each, names.index(task.name)
            stray_before = stray + each if depth else 1 - kept
            head.learnt[place] = Randomised(stray, stray_before, kept)
            label = labels[:, transform.stages.index(task.name)]
            rate = _rate_behind(label, weight, stray, kept, before)
            with torch.no_grad():
                head.out.bias[place, 0] = math.log(rate) - math.log1p(-rate)
            before *= rate


def _rate_behind(label: Labels, weight: Any, stray: float, kept: float, before: float) -> float:
    """The rate of a stage where the one before happened, which its told labels let one guess.

    As far from 0 and 1 as the guess may err.
    """
    known = label >= 0
    n = known.sum() + 1
    told = (weight[known & (label == 1)].sum() + 0.5) / (weight[known].sum() + 1)
    error = min(math.sqrt(told * (1 - told) / n) / kept / before, 0.5)
    return float(np.clip((told - stray) / kept / before, error, 1 - error))
