"""What a run knows that another shop has too: ids, rates of stages, measures of counts."""

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor

from daogou.artifact import Artifact
from daogou.features.labels import NOTHING, places
from daogou.features.transform import Transform
from daogou.features.vocab import Vocab
from daogou.learn.onto import SCALE, SPREAD, USUAL
from daogou.model.axes import rates_axis, repeats_axis
from daogou.model.heads.funnel import FunnelHead
from daogou.model.joint import JointModel
from daogou.schema import Shop
from daogou.tables.engine import Engine, name_of

_FOREIGN: Final = "\0"


def known_to(transform: Transform, same: Collection[str]) -> Transform:
    """The source's transform with no id of a table whose keys mean something else here."""
    kept = {"users": "user_ids", "items": "item_ids"}
    nameless = {}
    for table, name in kept.items():
        vocab: Vocab = getattr(transform, name)
        if table not in same:
            # Rows stay where they are; no id that a shop can write is called so.
            nameless[name] = Vocab(tuple(f"{_FOREIGN}{word}" for word in vocab.words), vocab.counts)
    return replace(transform, **cast(Any, nameless))


def named_in(engine: Engine, shop: Shop) -> dict[str, set[str]]:
    """The keys of products and users that the shop's own tables and log have."""
    found = {}
    for kind, table in (("item", shop.items), ("user", shop.users)):
        parts = [f'SELECT "{kind}" AS key FROM exposures', f'SELECT "{kind}" AS key FROM history']
        if table is not None:
            parts.append(f"SELECT {name_of(table.key)} AS key FROM {kind}s")
        sql = f"SELECT DISTINCT CAST(key AS VARCHAR) FROM ({' UNION ALL '.join(parts)})"
        found[kind] = {row[0] for row in engine.rows(sql) if row[0] is not None}
    return found


def match_rates(giver: JointModel, model: JointModel) -> None:
    """Begin each stage that was carried over at its own rate, not at the source's."""
    theirs, ours = (cast(FunnelHead, each.heads["funnel"]) for each in (giver, model))
    names = [task.name for task in giver.tasks if task.family == "funnel"]
    assert ours.out.bias is not None
    for place, task in enumerate(task for task in model.tasks if task.family == "funnel"):
        if task.name in names:
            one, other = ours.stages[place].rate, theirs.stages[names.index(task.name)].rate
            with torch.no_grad():
                ours.out.bias[place, 0] += _logit(one) - _logit(other)


def _logit(share: float) -> float:
    return math.log(share) - math.log1p(-share)


def measures(giver: Artifact, model: JointModel, transform: Transform) -> dict[str, Tensor]:
    """What the source measured its counts by, where the model counts the same; NaN elsewhere."""
    theirs, ours = (
        cast(FunnelHead, each.heads["funnel"]).meet for each in (giver.model, model)
    )  # fmt: skip
    found: dict[str, Tensor] = {}
    if ours.n_repeats and theirs.n_repeats:
        at = places(repeats_axis(transform), repeats_axis(giver.transform))
        found |= {USUAL: _taken(theirs.usual, at), SPREAD: _taken(theirs.spread, at)}
    if ours.rates is not None and theirs.rates is not None:
        at = places(rates_axis(model), rates_axis(giver.model))
        found[SCALE] = torch.stack([_taken(each, at) for each in theirs.rates.scale])
    return found


def _taken(values: Tensor, at: "np.ndarray[Any, np.dtype[np.int64]]") -> Tensor:
    places_of = torch.from_numpy(at)
    return torch.where(places_of == NOTHING, torch.nan, values[places_of.clamp(min=0)])
