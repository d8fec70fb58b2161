"""A model and a split to the loss of every task, and the loss of the best constant beside it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daogou.features.store import SPLITS, Store
from daogou.learn.peers import ALONE, Peers
from daogou.model import predict
from daogou.model.heads.profile import Listed
from daogou.model.joint import JointModel
from daogou.model.stages.randomised import Randomised
from daogou.schema import Task

Array = NDArray[Any]
NORMAL_NATS: Final = 0.5 * math.log(2 * math.pi * math.e)  # of the best constant amount
_SHARPNESS: Final = (1.0, 0.8, 0.65, 0.5, 0.4)  # inverse temperatures of a tagger
_FLOOR = 1e-7  # chances are kept this far from 0 and 1, so that a certain error stays finite


@dataclass(frozen=True)
class TaskLoss:
    """Mean loss in nats over the rows where a task is defined, and that of the best constant.

    An amount's are nats of a density, which may be below 0: they are of logarithms standardised by
    the split's own mean and spread, so that the best constant's are ``log(2 pi e) / 2`` of each
    value above 0, and a loss of 0 is as far from that whatever the shop's currency.
    """

    loss: float
    constant: float
    n: int

    @property
    def relative(self) -> float:
        """Loss over the constant's: 1 is no better than knowing the base rate."""
        return self.loss / self.constant if self.n and self.constant > 0 else float("nan")

    def document(self) -> dict[str, Any]:
        """What records say of it."""
        return {"loss": self.loss, "constant": self.constant, "n": self.n}


def validation_losses(
    model: JointModel, store: Store, split: str, *, history_length: int, peers: Peers = ALONE
) -> dict[str, TaskLoss]:
    """Loss of each task on a split, in the model's order; NaN where the split has no label.

    Of several ``peers`` each asks the model of some rows, and the leader has the losses.
    """
    found: dict[str, TaskLoss] = {}
    by_family: dict[str, list[Task]] = {}
    for task in model.tasks:
        by_family.setdefault(task.family, []).append(task)
    for family, tasks in by_family.items():
        found |= _FAMILIES[family](model, store, split, tasks, history_length, peers)
    return found


def joint_score(losses: Mapping[str, TaskLoss]) -> float:
    """Mean over tasks of loss over the best constant's: what picks the one joint checkpoint.

    A task that the validation split cannot judge has no say.
    """
    relative = [loss.relative for loss in losses.values()]
    known = [value for value in relative if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def entropy(shares: Array) -> float:
    """Entropy in nats of counts or shares: the loss of the best constant answer.

    >>> round(entropy(np.array([1.0, 1.0])), 4)
    0.6931
    """
    shares = shares[shares > 0] / shares.sum()
    return float(-(shares * np.log(shares)).sum())


def _funnel(
    model: JointModel, store: Store, split: str, tasks: list[Task], length: int, peers: Peers
) -> dict[str, TaskLoss]:
    first, last = store.ranges[split]
    weight = np.asarray(store["exposures/weight"][first:last], dtype=np.float64)
    head: Any = model.heads["funnel"]
    labels = store["exposures/labels"][first:last][:, head.columns]

    has_amount = any(task.is_value for task in tasks)

    def asked(rows: Array) -> Sequence[Array]:
        said = predict.funnel_scores(model, store, split, history_length=length, rows=rows)
        return [said.chances, said.conditional, *([said.nats] if has_amount else [])]

    answers = peers.dealt(last - first, predict.ROWS, asked)
    if answers is None:
        return {}
    chances, scores, *of_amounts = answers
    found = {}
    for stage, task in enumerate(tasks):
        if task.is_value:
            values = np.asarray(store["exposures/value"][first:last], dtype=np.float64)
            spread = head.stages[stage].scale.spread
            found[task.name] = _value(values, of_amounts[0].astype(np.float64), weight, spread)
            continue
        mask = labels[:, stage] >= 0
        if head.given[stage] >= 0:
            mask &= labels[:, head.given[stage]] == 1
        p = scores[mask, stage].astype(np.float64)
        if isinstance(head.learnt[stage], Randomised):  # what is judged by was told by chance too
            given = head.given[stage]
            before = chances[mask, given] if given >= 0 else np.ones_like(p)
            p = head.learnt[stage].told(p, before)
        p = np.clip(p, _FLOOR, 1 - _FLOOR)
        happened = labels[mask, stage] == 1
        nats = -np.log(np.where(happened, p, 1 - p))
        if not mask.any():
            found[task.name] = TaskLoss(float("nan"), float("nan"), 0)
            continue
        mass = weight[mask]
        shares = np.array([mass[happened].sum(), mass[~happened].sum()])
        found[task.name] = TaskLoss(
            float(np.average(nats, weights=mass)), entropy(shares), int(mask.sum())
        )
    return found


def _value(values: Array, nats: Array, weight: Array, spread: float) -> TaskLoss:
    """Of an amount: ``nats [n]`` are of logarithms over training's ``spread``, NaN undefined."""
    mask = ~np.isnan(nats)
    above = mask & (np.nan_to_num(values) > 0)
    logs, mass = np.log(values[above]), weight[above]
    if not len(logs):
        return TaskLoss(float("nan"), float("nan"), 0)
    own = float(np.sqrt(np.average((logs - np.average(logs, weights=mass)) ** 2, weights=mass)))
    if own <= 0:  # one value, which a constant would know for certain
        return TaskLoss(float("nan"), float("nan"), int(mask.sum()))
    share = mass.sum() / weight[mask].sum()
    # Nats of the same values in units of another spread.
    loss = float(np.average(nats[mask], weights=weight[mask]) + share * math.log(spread / own))
    whether = entropy(np.array([share, 1 - share]))
    constant = float(whether + share * NORMAL_NATS)
    return TaskLoss(loss, constant, int(mask.sum()))


def _match(
    model: JointModel, store: Store, split: str, tasks: list[Task], length: int, peers: Peers
) -> dict[str, TaskLoss]:
    queries, relevant = predict.first_queries(store, split)

    def asked(rows: Array) -> Sequence[Array]:
        wanted = iter([relevant[row] for row in rows])
        nats = []
        for block in predict.match_scores(model, store, queries[rows], history_length=length):
            peak = block.max(1, keepdims=True)
            log_sum = peak[:, 0] + np.log(np.exp(block - peak).sum(1))
            for row, base, items in zip(block, log_sum, wanted, strict=False):
                nats.append(float((base - row[items - 1]).sum()))
        return (np.array(nats),)

    nats = peers.dealt(len(relevant), predict.QUERIES, asked)
    if nats is None:
        return {}
    total, n = sum(nats[0].tolist()), sum(map(len, relevant))
    popularity = np.bincount(
        np.concatenate([np.zeros(0, dtype=np.int64), *relevant]), minlength=store.n_items + 1
    )
    constant = entropy(popularity.astype(np.float64)) if n else float("nan")
    return {tasks[0].name: TaskLoss(total / n if n else float("nan"), constant, n)}


def _profile(
    model: JointModel, store: Store, split: str, tasks: list[Task], length: int, peers: Peers
) -> dict[str, TaskLoss]:
    users = np.flatnonzero(store["users/split"] == SPLITS.index(split))
    head: Any = model.heads["profile"]

    def asked(rows: Array) -> Sequence[Array]:
        return predict.profile_scores(model, store, users[rows], history_length=length)

    scores = peers.dealt(len(users), predict.QUERIES, asked)
    if scores is None:
        return {}
    found = {}
    for place, (task, column) in enumerate(zip(tasks, head.columns, strict=True)):
        distribution, kind = scores[place], head.kinds.get(place)
        if isinstance(kind, Listed):
            held = store["users/many"][users, kind.first : kind.first + distribution.shape[1]]
            found[task.name] = _many(distribution, held)
            continue
        found[task.name] = _classes(distribution, store["users/profile"][users, column])
    return found


def _classes(distribution: Array, classes: Array) -> TaskLoss:
    """Of distributions ``[n, C]`` and classes ``[n]``, -1 unknown."""
    known = classes >= 0
    if not known.any():
        return TaskLoss(float("nan"), float("nan"), 0)
    p = np.clip(distribution[known, classes[known]], _FLOOR, 1.0)
    shares = np.bincount(classes[known]).astype(np.float64)
    return TaskLoss(float(-np.log(p).mean()), entropy(shares), int(known.sum()))


def _many(chances: Array, held: Array) -> TaskLoss:
    """Of a column of lists: the mean over its values ``[U, V]`` of the nats of each yes or no."""
    known = (held >= 0).any(1)
    if not known.any():
        return TaskLoss(float("nan"), float("nan"), 0)
    p = np.clip(chances[known].astype(np.float64), _FLOOR, 1 - _FLOOR)
    yes = held[known] == 1
    constants = [entropy(np.array([share, 1 - share])) for share in yes.mean(0)]
    return TaskLoss(
        float(-np.log(np.where(yes, p, 1 - p)).mean()), float(np.mean(constants)), int(known.sum())
    )


def _extract(
    model: JointModel, store: Store, split: str, tasks: list[Task], length: int, peers: Peers
) -> dict[str, TaskLoss]:
    """Of titles: nats per tag, and per value that is read as a class, where there are any.

    At the temperature that suits the split best, since calibration takes it away: a tagger grows
    too sure of itself long before it stops finding more, and without that the epoch chosen would be
    the one that is most modest (docs/log.md).
    """
    if not peers.leads:  # annotated titles are few
        return {}
    titles = np.flatnonzero(store["titles/split"] == SPLITS.index(split))
    losses: list[TaskLoss] = []
    total, n = predict.title_nats(model, store, titles, _SHARPNESS)
    if n:
        tags = np.asarray(store["titles/tags"][titles])
        counts = np.bincount(tags[tags >= 0].astype(np.int64), minlength=3)
        losses.append(TaskLoss(float(total.min()) / n, entropy(counts), n))
    classes = np.asarray(store["titles/values"][titles], dtype=np.int64)
    by_attribute = []
    for place, chances in enumerate(predict.title_values(model, store, titles)):
        by_attribute.append(_classes(chances, classes[:, place]))
    known = [each for each in by_attribute if each.n]
    if known:
        n_values = sum(each.n for each in known)
        loss, constant = (
            sum(getattr(each, name) * each.n for each in known) / n_values
            for name in ("loss", "constant")
        )
        losses.append(TaskLoss(loss, constant, n_values))
    if not losses:
        return {tasks[0].name: TaskLoss(float("nan"), float("nan"), 0)}
    whole = TaskLoss(
        sum(each.loss for each in losses),
        sum(each.constant for each in losses),
        losses[0].n,
    )
    return {tasks[0].name: whole}


_FAMILIES = {"funnel": _funnel, "match": _match, "profile": _profile, "extract": _extract}
