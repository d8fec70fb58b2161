"""A user's past to who they probably are, what they prefer, and which events say so."""

from collections.abc import Mapping
from typing import Any, Final, cast

import torch
from torch import Tensor

from daogou.features.batch import Queries
from daogou.features.columns import Columns
from daogou.guide import words
from daogou.guide.catalogue import Catalogue
from daogou.guide.edit import Edits, Prototypes, said_of, said_of_list
from daogou.guide.explain import DAY_US, preferences
from daogou.guide.moments import iso
from daogou.guide.score import Past, Scorer, Shoppers, read_users
from daogou.model.heads.profile import ProfileHead

_NEW_EVENTS: Final = 3  # with fewer events a user is new
_LAPSE_DAYS: Final = 30.0
_LAPSE_SHARE: Final = 1 / 3  # of the log: a short log cannot show thirty days of silence
_MOST_VALUES: Final = 5
_MOST_EVIDENCE: Final = 5


@torch.inference_mode()
def portrait(
    scorer: Scorer,
    catalogue: Catalogue,
    queries: Queries,
    lang: str,
    *,
    edits: Edits | None,
    prototypes: Prototypes,
) -> dict[str, Any]:
    """``columns, preferences, lifecycle, evidence, text`` of one user at one moment.

    ``columns`` has a distribution for each profile column, likeliest value first; the chances of a
    column of lists are those of its values, and do not add up to 1. The five most
    preferred values of a column are given; their shares are of all values. ``evidence`` are
    the products whose events moved a distribution most: all recent events with a product are left
    out, and ``weight`` is by how much the chance of ``value`` of ``column`` falls.

    What ``edits`` set of a column is certain and what they forbid has no chance; of preferences,
    what was set counts as much as the whole past, and what was forbidden is gone. Evidence is of
    what is not set.
    """
    shoppers = scorer.shoppers(queries)
    assert shoppers is not None
    past = scorer.past(queries)
    variants, products = _without_each(shoppers, past)
    model, transform = scorer.artifact.model, scorer.artifact.transform
    head = cast(ProfileHead, model.heads["profile"])
    read = read_users(model, scorer.items, variants)
    if edits is not None:
        read = prototypes.moved(read, edits)
    found = head.distributions(read.encoded, read.columns)
    tasks = [task for task in model.tasks if task.family == "profile"]
    names = [task.name.removeprefix("profile.") for task in tasks]
    columns: dict[str, dict[str, float]] = {}
    for name, chances in zip(names, found, strict=True):
        pairs = zip(transform.classes(name), chances[0].tolist(), strict=True)
        said = dict(pairs)
        if edits is not None:
            speak = said_of_list if name in transform.many.names else said_of
            said = speak(edits, name, said)
        columns[name] = _ranked(said)
    shared = preferences(catalogue, past)
    if edits is not None:
        shared = _preferring(catalogue, shared, edits)
    liked = {column: dict(list(shares.items())[:_MOST_VALUES]) for column, shares in shared.items()}
    stage = lifecycle(past, scorer.now - scorer.start)
    return {
        "columns": columns,
        "preferences": liked,
        "lifecycle": stage,
        "evidence": _evidence(
            scorer,
            catalogue,
            past,
            products,
            {
                name: chances
                for name, chances in zip(names, found, strict=True)
                if edits is None or not edits.said(name)
            },
        ),
        "text": words.portrait(
            {name: next(iter(chances.items())) for name, chances in columns.items() if chances},
            {column: next(iter(shares)) for column, shares in liked.items()},
            stage,
            lang,
        ),
    }


def _ranked(chances: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(chances.items(), key=lambda pair: (-pair[1], pair[0])))


def _preferring(
    catalogue: Catalogue, shared: Mapping[str, Mapping[str, float]], edits: Edits
) -> dict[str, dict[str, float]]:
    """Shares of a past, and of what its user says: half each where both are there."""
    found: dict[str, dict[str, float]] = {}
    for column in catalogue.shared:
        said, denied = edits.said(column), edits.denied(column)
        past = {v: share for v, share in shared.get(column, {}).items() if v not in denied}
        total = sum(past.values()) * (2.0 if said else 1.0)
        shares = {value: share / total for value, share in past.items()}
        for value in said:
            shares[value] = shares.get(value, 0.0) + (0.5 if past else 1.0) / len(said)
        if shares:
            found[column] = _ranked(shares)
    return found


def lifecycle(past: Past, log_us: int) -> str:
    """``new`` with fewer than three events, ``lapsing`` after a long silence, else ``active``.

    Silence is long from thirty days, or from a third of a log of length ``log_us`` if that is
    shorter.

    >>> import numpy as np
    >>> two_days_ago = np.array([0, 0, 0])
    >>> lifecycle(Past(two_days_ago, two_days_ago, two_days_ago, now=2 * DAY_US), 5 * DAY_US)
    'lapsing'
    """
    if len(past.time) < _NEW_EVENTS:
        return "new"
    silence_us = past.now - int(past.time.max())
    return "lapsing" if silence_us > min(_LAPSE_DAYS * DAY_US, _LAPSE_SHARE * log_us) else "active"


def _without_each(shoppers: Shoppers, past: Past) -> tuple[Columns, list[int]]:
    """One user as they are, then once without each product of their past, newest first."""
    products = list(dict.fromkeys(past.item.tolist()))
    n = 1 + len(products)
    columns = shoppers.columns
    kept = torch.ones(n, columns["history"].shape[1], dtype=torch.int64)
    for place, row in enumerate(products, start=1):
        kept[place] = (columns["history"][0] != row).long()
    variants = {
        name: columns[name].expand(n, *columns[name].shape[1:])
        for name in ("id", "fields", "numbers", "history")
    }
    # An event without an action is one past the end of the history: it is not read.
    variants |= {name: columns[name] * kept for name in ("action", "age")}
    return Columns(variants), products


def _evidence(
    scorer: Scorer,
    catalogue: Catalogue,
    past: Past,
    products: list[int],
    distributions: dict[str, Tensor],
) -> list[dict[str, Any]]:
    """The products that moved a distribution most, and the value they moved most."""
    transform = scorer.artifact.transform
    lines: list[dict[str, Any]] = []
    for place, row in enumerate(products, start=1):
        best: tuple[float, str, str] | None = None
        for column, chances in distributions.items():
            moved = (chances[0] - chances[place]).tolist()
            for value, weight in zip(transform.classes(column), moved, strict=True):
                if best is None or abs(weight) > abs(best[0]):
                    best = weight, column, value
        if best is None:
            continue
        newest = int((past.item == row).argmax())
        lines.append(
            {
                "item": catalogue.keys[row],
                "name": catalogue.name(row),
                "action": transform.actions[int(past.action[newest])],
                "time": iso(int(past.time[newest])),
                "column": best[1],
                "value": best[2],
                "weight": best[0],
            }
        )
    return sorted(lines, key=lambda line: -abs(line["weight"]))[:_MOST_EVIDENCE]
