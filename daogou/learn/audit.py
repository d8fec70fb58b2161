"""Who was in training? Users who were held out, against those who taught, by their losses."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daogou.features.epoch import Epoch
from daogou.features.queries import Queries, user_rows
from daogou.features.store import Store
from daogou.metrics import membership
from daogou.model import predict
from daogou.model.joint import JointModel

Held = NDArray[np.bool_]


def without(plan: Epoch, store: Store, held: Held) -> Epoch:
    """The plan without the users whose rows are held, ``[U + 1]``, and the steps they leave empty.

    Titles and profiles are spread over the steps that are left.
    """
    if not held.any():
        return plan
    rows = [each[~held[user_rows(store, each)]] for each in plan.exposures]
    kept = [step for step, each in enumerate(rows) if len(each)]
    taught = Queries.joined(plan.taught)
    taught = taught[~held[taught.user]]
    pieces = np.array_split(np.arange(len(taught)), max(len(kept), 1))
    return Epoch(
        [rows[step] for step in kept],
        np.array_split(np.concatenate(plan.titles), max(len(kept), 1)),
        [plan.extra_items[step] for step in kept],
        [taught[piece] for piece in pieces],
        plan.families and [plan.families[step] for step in kept],
    )


def audit(
    model: JointModel, store: Store, held: Held, *, history_length: int
) -> dict[str, Any] | None:
    """What losses tell of who taught: `membership` of users, by their mean loss of the first stage.

    Every user is asked about as an unknown one, since only shared weights leave a shop, and over
    their exposures of the training's time. None where nobody was held out, or no stage is learnt.
    """
    if not held.any() or "funnel" not in model.heads:
        return None
    first, last = store.ranges["train"]
    nobody = np.zeros_like(np.asarray(store["users/id"]))
    asked = replace(store, arrays={**store.arrays, "users/id": nobody})
    said = predict.funnel_scores(model, asked, "train", history_length=history_length)
    p = said.chances[:, 0].astype(np.float64).clip(1e-7, 1 - 1e-7)
    label = np.asarray(store["exposures/labels"][first:last, 0])
    user = user_rows(store, np.arange(first, last))
    known = (label >= 0) & (user > 0)
    nats = -np.where(label == 1, np.log(p), np.log1p(-p))[known]
    many = np.bincount(user[known], minlength=len(held))
    loss = np.bincount(user[known], nats, minlength=len(held)) / np.maximum(many, 1)
    inside, outside = loss[(many > 0) & ~held], loss[(many > 0) & held]
    return {**membership(inside, outside), "users": [len(inside), len(outside)]}
