"""Answers with less: without a model, without edits that a run cannot read, of fewer events."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from daogou.errors import ConfigError
from daogou.guide import Guide
from daogou.serve.events import Event
from daogou.serve.lineup import Who
from daogou.serve.tables import Document


def readable(kept: Sequence[Event], guide: Guide) -> list[Document]:
    """Of events those that the guide reads and that its run has not read already."""
    kinds, since = guide.scorer.kinds, guide.scorer.since
    rows = guide.catalogue.rows
    return [
        {"item": each.item_id, "kind": each.kind, "time": each.time_us}
        for each in kept
        if each.kind in kinds and each.time_us >= since(each.kind) and each.item_id in rows
    ]


def with_edits(question: Callable[[Document], Document], asker: Document) -> Document:
    """The answer; without somebody's edits if this run, unlike that they were made by, has no use.

    Then ``edits_ignored`` says why.
    """
    try:
        return question({**asker})
    except ConfigError as error:
        if asker["edits"] is None or not str(error).startswith("edits"):
            raise
        return {**question({**asker, "edits": None}), "edits_ignored": str(error)}


def popular(guide: Guide, k: int, kept: NDArray[np.bool_]) -> list[str]:
    """The ``k`` products that were taken most in training, of those that are kept ``[I + 1]``."""
    order = np.argsort(-guide.popularity[1:], kind="stable") + 1
    order = order[kept[order]]
    return [guide.catalogue.keys[row] for row in order[:k].tolist()]


def without_model(who: Who, items: Sequence[str]) -> Document:
    """What is answered while no model is there: what is popular."""
    lines: list[Document] = [
        {"item": item, "score": None, "p": {}, "reasons": []} for item in items
    ]
    return {
        "user": who.user, "known": False, "items": lines, "fallback": "popular", "degraded": True,
        **told_of(who),
    }  # fmt: skip


def told_of(who: Who) -> Document:
    """What an answer says of the session that asked."""
    return {} if who.session is None else {"session": who.session}
