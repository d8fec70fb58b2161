"""A shop's rules and a user's past to the products that may be recommended, and why not others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daogou.artifact import Artifact
from daogou.features.past import recent_events
from daogou.features.queries import Queries
from daogou.guide import words
from daogou.guide.catalogue import Catalogue
from daogou.schema import DAY_US, GuideSetting

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Allowed:
    """What may be recommended, and what has to be said of it."""

    rows: Mask  # [I + 1]
    removed: list[dict[str, Any]]  # how many products each rule removed
    fallback: str | None = None  # the rule that was lifted, or left nothing


def allowed(
    artifact: Artifact,
    catalogue: Catalogue,
    guide: GuideSetting,
    queries: Queries,
    wished: Mask | None,
) -> Allowed:
    """What is left of the products that a user wishes for, one rule after another.

    ``stock``: those whose column says that there are none go, even if nothing is left. ``bought``
    and ``seen``: those that the user, of whom there is one query, bought or did anything with
    within so many days go; a rule of these that would leave nothing is lifted. Either is told of
    as ``fallback``.
    """
    rows = np.ones(catalogue.n_items + 1, dtype=bool) if wished is None else wished.copy()
    rows[0] = False
    removed: list[dict[str, Any]] = []
    fallback: str | None = None
    for name, out in _rules(artifact, catalogue, guide, queries):
        gone = int(np.count_nonzero(rows & out))
        if not gone:
            continue
        empties = gone == np.count_nonzero(rows)
        fallback = name if empties else fallback
        if empties and name != "stock":
            continue
        removed.append({"rule": name, "removed": gone})
        rows &= ~out
    return Allowed(rows, removed, fallback)


def _rules(
    artifact: Artifact, catalogue: Catalogue, guide: GuideSetting, queries: Queries
) -> list[tuple[str, Mask]]:
    """The rules that a shop has, and the rows ``[I + 1]`` that each is against."""
    found: list[tuple[str, Mask]] = []
    if guide.stock is not None:
        found.append(("stock", catalogue.out_of_stock(guide.stock)))
    actions = artifact.transform.actions
    bought = [actions.index(name) for name in bought_of(actions)]
    spans = (("bought", guide.bought_days, bought), ("seen", guide.seen_days, range(len(actions))))
    for name, days, kinds in spans:
        if days > 0:
            found.append((name, _recent(artifact, len(catalogue.keys), queries, days, kinds)))
    return found


def bought_of(names: Sequence[str]) -> tuple[str, ...]:
    """Those kinds of events, or stages, that are a purchase; the last one if none sounds like it.

    >>> bought_of(("click", "purchase", "coupon")), bought_of(("seen", "used"))
    (('purchase',), ('used',))
    """
    return tuple(name for name in names if words.is_purchase(name)) or tuple(names[-1:])


def _recent(
    artifact: Artifact, n_rows: int, queries: Queries, days: float, kinds: Sequence[int]
) -> Mask:
    rows = np.zeros(n_rows, dtype=bool)
    past = recent_events(artifact.store, queries, 0, int(np.iinfo(np.int64).max))
    late = past.time >= queries.time[0] - days * DAY_US
    rows[past.item[late & np.isin(past.action, list(kinds))]] = True
    return rows
