"""A user's past to who they probably are, what they prefer, and which events say so."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.features.columns import Columns
from daogou.features.queries import Queries
from daogou.features.returning import signs_of
from daogou.features.transform import Transform
from daogou.features.transform.fields import as_numbers
from daogou.guide import words
from daogou.guide.catalogue import Catalogue
from daogou.guide.edit import Edits, Prototypes, said_of, said_of_list
from daogou.guide.explain import carried, preferences, weights_of
from daogou.guide.facets import Band, bands, within
from daogou.guide.moments import iso
from daogou.guide.score import Past, Scorer, Shoppers, read_users
from daogou.model.heads.profile import ProfileHead
from daogou.schema import DAY_US

_MOST_VALUES: Final = 5
_MOST_EVIDENCE: Final = 5
_MOST_PRODUCTS: Final = 3


@torch.inference_mode()
def portrait(
    scorer: Scorer,
    catalogue: Catalogue,
    queries: Queries,
    lang: str,
    *,
    edits: Edits | None,
    prototypes: Prototypes,
    named: Mapping[tuple[str, int], str] | None = None,
) -> dict[str, Any]:
    """A user at one moment: who they probably are, what they prefer and which events say so.

    ``columns`` has a distribution for each profile column, likeliest value first; the chances of a
    column of lists are those of its values, and do not add up to 1. The five most
    preferred values of a column are given; their shares are of all values. Prices are preferred in
    bands (`price_bands`) named by their bounds: ``20-45``, or ``<20`` and ``>=90``. ``named`` has
    values that the catalogue leaves open, by column and row. ``preferred_by`` has for the most
    preferred value of each column the three products that say so most; their ``weight`` is a share
    of what the past holds of the column. ``rhythm`` is how often the user comes
    and how long ago they last did, in days, ``returns`` the chance that they will buy within some,
    ``lifecycle`` new, active or lapsing, ``text`` all of it in a sentence. ``evidence`` are the
    products whose events moved a distribution most: all recent events with a product are left
    out, but not that it was shown, and ``weight`` is by how much the chance of ``value`` of
    ``column`` falls.

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
    seen = {
        name: each.expand(len(variants), *each.shape[1:])
        for name, each in scorer.seen(queries).tensors.items()
    }
    found = head.distributions(read.encoded, Columns({**read.columns.tensors, **seen}))
    tasks = [task for task in model.tasks if task.family == "profile"]
    names = [task.name.removeprefix("profile.") for task in tasks]
    columns = {
        name: _column(transform, name, chances[0].tolist(), edits)
        for name, chances in zip(names, found, strict=True)
    }
    shared = preferences(catalogue, past, named)
    if edits is not None:
        shared = _preferring(catalogue, shared, edits)
    banded = price_bands(catalogue, past)
    for column, bands_of in banded.items():
        shared[column] = {_bounds(band): share for band, share in bands_of.items()}
    liked = {column: dict(list(shares.items())[:_MOST_VALUES]) for column, shares in shared.items()}
    most = {column: next(iter(shares)) for column, shares in shared.items()}
    stage = scorer.rhythm.lifecycle(past.time, past.now)
    rhythm = _rhythm(scorer, past)
    unsaid = {
        name: chances
        for name, chances in zip(names, found, strict=True)
        if edits is None or not edits.said(name)
    }
    likeliest = {name: next(iter(each.items())) for name, each in columns.items() if each}
    liked_most = {
        column: words.price_range(next(iter(banded[column])), lang) if column in banded else value
        for column, value in most.items()
    }
    return {
        "columns": columns,
        "preferences": liked,
        "preferred_by": _preferred_by(scorer, catalogue, past, most, named, banded),
        "lifecycle": stage,
        "rhythm": rhythm,
        "returns": _returns(scorer, past),
        "evidence": _evidence(scorer, catalogue, past, products, unsaid),
        "text": words.portrait(likeliest, liked_most, stage, rhythm, lang),
    }


def _column(
    transform: Transform, name: str, chances: Sequence[float], edits: Edits | None
) -> dict[str, float]:
    """A column's distribution, likeliest value first, by what was said of it too."""
    said = dict(zip(transform.classes(name), chances, strict=True))
    if edits is not None:
        speak = said_of_list if name in transform.many.names else said_of
        said = speak(edits, name, said)
    return _ranked(said)


def _rhythm(scorer: Scorer, past: Past) -> dict[str, float] | None:
    """How often the user comes and how long ago they last did, in days; None without a past."""
    if not len(past.time):
        return None
    return {
        "every_days": round(scorer.rhythm.usual(past.time), 2),
        "silent_days": round((past.now - int(past.time.max())) / DAY_US, 2),
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


def _returns(scorer: Scorer, past: Past) -> dict[str, Any] | None:
    """The chance of the next purchase, and within how many days; null where nobody can say."""
    made = scorer.artifact.returning
    if made is None or not len(past.time):
        return None
    actions = scorer.artifact.transform.actions
    is_kind = past.action == actions.index(made.kind)
    signs = signs_of(past.time, is_kind, past.now, scorer.rhythm)
    chance = float(made.chance(signs[None])[0])
    return {"kind": made.kind, "within_days": made.within_days, "chance": chance}


def price_bands(catalogue: Catalogue, past: Past) -> dict[str, dict[Band, float]]:
    """Of each column of prices, the shares of a past in the four quarters of the catalogue's.

    The likeliest first. Quarters end at round numbers; a column of one price has none.
    """
    found: dict[str, dict[Band, float]] = {}
    for column in catalogue.columns:
        prices = prices_of(catalogue, column) if words.is_price(column) else None
        if prices is None:
            continue
        known = past.item > 0
        taken, weights = prices[past.item[known] - 1], weights_of(past)[known]
        quarters = bands(prices, np.ones(len(prices)), 4)
        mass = [float(weights[within(taken, band)].sum()) for band in quarters]
        shares = {
            band: each / sum(mass) for band, each in zip(quarters, mass, strict=True) if each > 0
        }
        if shares:
            found[column] = dict(sorted(shares.items(), key=lambda pair: -pair[1]))
    return found


def _bounds(band: Band) -> str:
    """A band's name, the same in every language."""
    least, most = (None if border is None else f"{border:.12g}" for border in band)
    if least is None:
        return f"<{most}"
    return f">={least}" if most is None else f"{least}-{most}"


def prices_of(catalogue: Catalogue, column: str) -> NDArray[np.float64] | None:
    """Prices ``[I]`` of a column of numbers, NaN missing; None of any other column."""
    values = catalogue.columns[column]
    is_number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    numbers = as_numbers(values) if is_number else np.zeros(0)
    return numbers if np.isfinite(numbers).any() else None


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


def _preferred_by(
    scorer: Scorer,
    catalogue: Catalogue,
    past: Past,
    most: Mapping[str, str],
    named: Mapping[tuple[str, int], str] | None,
    banded: Mapping[str, Mapping[Band, float]],
) -> dict[str, list[dict[str, Any]]]:
    """The products that carry the value of each column in ``most``, by what they say of it."""
    masses: dict[int, float] = {}
    for row, weight in zip(past.item.tolist(), weights_of(past).tolist(), strict=True):
        masses[row] = masses.get(row, 0.0) + weight
    found: dict[str, list[dict[str, Any]]] = {}
    for column, value in most.items():
        counted = [row for row, mass in masses.items() if mass > 0]
        of = _values_of(catalogue, column, counted, named, banded.get(column))
        total = sum(masses[row] for row in of)
        rows = sorted((row for row in of if of[row] == value), key=lambda row: -masses[row])
        if rows:
            found[column] = [
                _line(scorer, catalogue, past, row, column, value, masses[row] / total)
                for row in rows[:_MOST_PRODUCTS]
            ]
    return found


def _values_of(
    catalogue: Catalogue,
    column: str,
    rows: Sequence[int],
    named: Mapping[tuple[str, int], str] | None,
    banded: Mapping[Band, float] | None,
) -> dict[int, str]:
    """What products carry of a column, a band where it has prices; silent ones are left out."""
    if banded is None:
        said = ((row, carried(catalogue, column, row, named)) for row in rows)
        return {row: value for row, value in said if value is not None}
    known = np.array([row for row in rows if row], dtype=np.int64)
    prices = as_numbers(catalogue.columns[column].take(pa.array(known - 1)))
    return {int(row): _bounds(band) for band in banded for row in known[within(prices, band)]}


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
        weight, column, value = best
        lines.append(_line(scorer, catalogue, past, row, column, value, weight))
    return sorted(lines, key=lambda line: -abs(line["weight"]))[:_MOST_EVIDENCE]


def _line(
    scorer: Scorer,
    catalogue: Catalogue,
    past: Past,
    row: int,
    column: str,
    value: str,
    weight: float,
) -> dict[str, Any]:
    """What a product of a past says: its newest event, and of which value how much."""
    newest = int((past.item == row).argmax())
    return {
        "item": catalogue.keys[row],
        "name": catalogue.name(row),
        "action": scorer.artifact.transform.actions[int(past.action[newest])],
        "time": iso(int(past.time[newest])),
        "column": column,
        "value": value,
        "weight": weight,
    }
