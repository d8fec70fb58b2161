"""Exposures that never were: some teach and some do not, and a finished model is asked which.

Unlike held-out users they are alike but for the coin that decided, so that what the answers prove
holds of any attack: Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run",
NeurIPS 2023.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from daogou.errors import ConfigError
from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.metrics import audited
from daogou.model import predict
from daogou.model.joint import JointModel
from daogou.schema import Task

Coins = NDArray[np.bool_]
Rows = NDArray[np.int64]


def invented(
    store: Store, transform: Transform, tasks: Sequence[Task], n: int, random: torch.Generator
) -> Store:
    """A store of n exposures in its ``train``: each of a product, to nobody, in no context.

    What came of the first stage is drawn by a coin, all else is missing. Nothing in them is taken
    from the shop's own exposures, whose promise they must not touch. Products differ while there
    are enough of them that training knows. ConfigError without products or a stage.
    """
    stages = [task.name for task in tasks if task.family == "funnel" and not task.is_value]
    ids = np.asarray(store["items/id"])
    known = np.flatnonzero(ids > 0)
    if not stages or not len(known):
        raise ConfigError("federate.canaries: needs products and a stage; leave it out")
    order = known[torch.randperm(len(known), generator=random).numpy()]
    fields, numbers = transform.context.encode({}, n)
    labels = np.full((n, len(transform.stages)), -1, dtype=np.int8)
    coins = torch.randint(2, (n,), generator=random).numpy()
    labels[:, transform.stages.index(stages[0])] = coins
    first, last = store.ranges["train"]
    then = int(np.max(store["exposures/time"][first:last], initial=0))
    said = {
        "item": np.resize(order, n), "query": np.full(n, -1), "time": np.full(n, then),
        "weight": np.ones(n), "fields": fields, "numbers": numbers, "labels": labels,
    }  # fmt: skip
    own = {name: each for name, each in store.arrays.items() if name.startswith("exposures/")}
    missing = {name: np.full((n, *each.shape[1:]), np.nan) for name, each in own.items()}
    made = {
        name: said.get(name.removeprefix("exposures/"), missing[name]).astype(each.dtype)
        for name, each in own.items()
    }
    ranges = {split: (0, n) if split == "train" else (n, n) for split in store.ranges}
    return replace(store, arrays={**store.arrays, **made}, ranges=ranges)


def joined(store: Store, others: Store, rows: Rows) -> Store:
    """The store with some of the others' exposures, ``rows``, at the end of its training."""
    last = store.ranges["train"][1]
    more = {
        name: np.concatenate([each[:last], others[name][rows], each[last:]])
        for name, each in store.arrays.items()
        if name.startswith("exposures/")
    }
    n = len(rows)
    ranges = {
        split: (first if split == "train" else first + n, end + n)
        for split, (first, end) in store.ranges.items()
    }
    return replace(store, arrays={**store.arrays, **more}, ranges=ranges)


def ask(model: JointModel, canaries: Store, taught: Coins | None, delta: float) -> dict[str, Any]:
    """What a model's chances prove of the exposures that `invented` made: `audited`.

    ``taught`` says who did, by a coin: they are to have made their own outcomes likelier, as the
    mean canary goes. Where it is None all did, and the outcomes are guessed.
    """
    said = predict.funnel_scores(model, canaries, "train", history_length=1)
    p = said.chances[:, 0].astype(np.float64).clip(1e-7, 1 - 1e-7)
    logit = np.log(p) - np.log1p(-p)
    head: Any = model.heads["funnel"]
    happened = np.asarray(canaries["exposures/labels"][:, head.columns[0]]) == 1
    if taught is None:
        return audited(logit, happened, delta)
    return audited(np.where(happened, 1, -1) * (logit - logit.mean()), taught, delta)
