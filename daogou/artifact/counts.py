"""A compiled shop to what a model of it must know to be built."""

from collections.abc import Sequence
from typing import Final

import torch

from daogou.features.store import Store, pieces
from daogou.features.transform import Transform
from daogou.model.build import Counts, Shape, build
from daogou.model.heads.habits import FEW, Tastes
from daogou.model.joint import JointModel
from daogou.schema import Shop, Task

MOST_VALUES: Final = 4096  # a column of more values is not counted in profiles
_LEAST_RATE: Final = 1e-12


def model_of(transform: Transform, store: Store, shop: Shop, shape: Shape) -> JointModel:
    """The model of a compiled shop, its weights at their start."""
    return build(transform, shop.tasks, counts_of(transform, store, shop.tasks), shape)


def counts_of(transform: Transform, store: Store, tasks: Sequence[Task]) -> Counts:
    """What of the training split a model must know to be built."""
    share = positive_share(transform, store)
    return Counts(
        store.n_items, share, rates_of(transform, store, tasks), *tastes_of(transform, store)
    )


def rates_of(transform: Transform, store: Store, tasks: Sequence[Task]) -> dict[str, float]:
    """Of each stage the share of training exposures where it is defined that reached it, weighed.

    By the task's name; above 0 and below 1, as if one more exposure had half reached it.
    """
    stages = [task for task in tasks if task.family == "funnel" and not task.is_value]
    place = {stage: place for place, stage in enumerate(transform.stages)}
    reached, asked = dict.fromkeys(place, 0.5), dict.fromkeys(place, 1.0)
    for at in pieces(*store.ranges["train"]):
        labels, weight = store["exposures/labels"][at], store["exposures/weight"][at].astype(float)
        for task in stages:
            label = labels[:, place[task.name]]
            defined = (label >= 0) & (task.given is None or labels[:, place[task.given]] == 1)
            reached[task.name] += float(weight[defined & (label == 1)].sum())
            asked[task.name] += float(weight[defined].sum())
    rates = {task.name: reached[task.name] / asked[task.name] for task in stages}
    # Beside huge weights a half is nothing.
    return {name: min(max(rate, _LEAST_RATE), 1 - _LEAST_RATE) for name, rate in rates.items()}


def positive_share(transform: Transform, store: Store) -> torch.Tensor:
    """Each item id row's share of the training positives, ``[n_item_ids]``."""
    positives = torch.zeros(transform.item_ids.n_rows)
    for at in pieces(*store.ranges["train"]) if transform.stages else ():
        items = store["exposures/item"][at][store["exposures/labels"][at, 0] == 1]
        taken = torch.from_numpy(store["items/id"][items].astype("int64"))
        positives += torch.bincount(taken, minlength=transform.item_ids.n_rows)
    # One more of each: an id without positives may still be drawn.
    return (positives + 1) / (positives + 1).sum()


def tastes_of(transform: Transform, store: Store) -> tuple[Tastes | None, Tastes | None]:
    """What histories can be counted by, and what users were shown if the store tells of that.

    The values of columns that have at most `MOST_VALUES`, and what goes with what; of what was
    shown those of at most `FEW`.
    """
    told = transform.items, transform.traits
    sizes = [coder.n_rows for fields in told for coder in fields.coders]
    offsets = [offset for fields in told for offset in fields.offsets]

    def counting(most: int, n_actions: int) -> Tastes | None:
        picked = [place for place, size in enumerate(sizes) if size <= most]
        if not picked:
            return None
        return Tastes(
            columns=tuple(place + 1 for place in picked),  # mark 0 is the product itself
            first=tuple(offsets[place] for place in picked),
            sizes=tuple(sizes[place] for place in picked),
            n_actions=n_actions,
            n_ids=transform.item_ids.n_rows,
        )

    has_shown = len(store.arrays.get("shown/item", ())) > 0
    return counting(MOST_VALUES, len(transform.actions)), counting(FEW, 1) if has_shown else None
