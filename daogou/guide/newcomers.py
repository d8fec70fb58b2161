"""What became of products that training did not see, to how much likelier each stage is of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray

from daogou.artifact.counts import rates_of
from daogou.guide.heard import Heard, Newcomers
from daogou.guide.score import Scorer, Shoppers, some_users
from daogou.model.heads.funnel import FunnelHead

Floats = NDArray[np.float64]
PRIOR: Final = 4.0  # events, as expected, that a product has before its first (docs/log.md)
_PRODUCTS: Final = 256  # of training, by which it is judged what is usual
_LEAST: Final = 1e-9  # a chance that is divided by


def with_heard(scorer: Scorer, heard: Mapping[int, Heard], until: int) -> Scorer:
    """The scorer that is told what became of products, by catalogue row, before a moment.

    Products that training saw stay as they are, and what it was told before no longer counts. The
    logit of a stage is raised by ``log((reached + PRIOR) / (expected + PRIOR))``: the ratio of what
    was reached to what the model expects of those exposures begins as a Gamma distribution of mean
    1, and this is its mean afterwards (DuMouchel, "Bayesian Data Mining in Large Frequency Tables",
    1999). What is expected of a product is what the model says of it and some of the run's users.
    Whom a shop shows things, and where in a list, makes more or less of that; so it is taken times
    what training's products were reached in training, as a multiple of what is said of them.
    """
    ids, before = scorer.items.item_ids, scorer.newcomers
    new = {row: each for row, each in heard.items() if ids is not None and int(ids[row]) == 0}
    if before is None and not new:
        return scorer
    plain = replace(scorer, items=replace(scorer.items, lift=None), newcomers=None)
    if ids is None or not new:
        return plain
    crowd = plain.shoppers(plain.queries(some_users(plain.artifact.store)))
    usual = _usual(plain, crowd) if before is None else before.usual
    known = {} if before is None else before.expected
    # Of one product at a time, so that the last digit depends on no other.
    expected = {
        row: known[row] if row in known else _said_of(plain, crowd, [row]) * usual for row in new
    }
    head = cast(FunnelHead, scorer.artifact.model.heads["funnel"])
    lift = torch.zeros(len(ids), len(head.given))
    for row, each in new.items():
        reached, tried = np.array(each.reached), np.array(each.known)
        ratio = (reached + PRIOR) / (tried * expected[row] + PRIOR)
        lift[row, : len(ratio)] = torch.from_numpy(np.log(ratio)).float()
    return replace(
        plain,
        items=replace(plain.items, lift=lift),
        newcomers=Newcomers(new, until, expected, usual),
    )


def _usual(scorer: Scorer, crowd: Shoppers | None) -> Floats:
    """What training's exposures reached, as a multiple of what is said of their products, [T]."""
    artifact = scorer.artifact
    store = artifact.store
    first, last = store.ranges["train"]
    some = np.unique(np.linspace(first, last - 1, _PRODUCTS).astype(np.int64))
    rows = np.asarray(store["exposures/item"])[some]
    rates = rates_of(artifact.transform, store, artifact.shop.tasks)
    reached = np.array([rates[stage] for stage in scorer.stages])
    usual: Floats = reached / _said_of(scorer, crowd, rows.tolist()).clip(min=_LEAST)
    return usual


@torch.inference_mode()
def _said_of(scorer: Scorer, crowd: Shoppers | None, rows: Sequence[int]) -> Floats:
    """What a crowd reaches of products, each stage where it is defined, ``[T]``."""
    n = 1 if crowd is None else len(crowd.columns)
    user = torch.arange(n).repeat(len(rows))
    item = torch.tensor(rows).repeat_interleave(n)
    chances = scorer.chances(crowd, user, item, scorer.context(None, len(item)))
    mean = chances.double().mean(1).numpy()
    head = cast(FunnelHead, scorer.artifact.model.heads["funnel"])
    before = [1.0 if given < 0 else mean[given] for given in head.given[: len(scorer.stages)]]
    found: Floats = mean[: len(before)] / np.maximum(before, _LEAST)
    return found
