"""A store to flat inputs: what the joint model knows of every exposure, as one table of numbers.

Categories are the codes of the store (a word unseen in training is unknown to both), numbers are
as the shop wrote them, titles a few components, and the user's history counts and ages of what
came strictly before the moment: of the candidate itself and of whatever shares a column's value
with it. Rates by product are cross-fitted: a training row sees those of the other users' training
rows, a later row those of all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from daogou.artifact.counts import MOST_VALUES
from daogou.errors import DataError, optional
from daogou.features.batch import folds_of
from daogou.features.queries import user_rows
from daogou.features.store import FOLDS, SPLITS, Store
from daogou.features.transform import Transform
from daogou.features.transform.fields import Fields, as_numbers
from daogou.features.vocab import Vocab
from daogou.schema import HOUR_US, Shop
from daogou.tables import prepare
from daogou.tables.engine import Engine, name_of

Array = NDArray[Any]
Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

PRIOR: Final = 20.0  # exposures at the base rate that each product starts with
COMPONENTS: Final = 16  # of the titles
library: Final = partial(optional, extra="baselines", needed_by="the rivals of `daogou compare`")


@dataclass(frozen=True)
class Inputs:
    """Flat inputs of exposures: ``values [n, F]``, NaN missing; some columns only name a kind."""

    values: NDArray[np.float32]
    names: tuple[str, ...]
    categories: tuple[int, ...]


@dataclass(frozen=True)
class Raw:
    """A shop's numbers as it wrote them, by table and then column, in store order."""

    items: Mapping[str, Floats]  # [I + 1]
    users: Mapping[str, Floats]  # [U + 1]
    context: Mapping[str, Floats]  # [n]


def inputs_of_shop(shop: Shop, transform: Transform, store: Store) -> Inputs:
    """The flat inputs of all exposures of a shop's own store.

    Reads the shop's tables once more, for the numbers behind the store's ranks. Raises DataError if
    they no longer yield the store's exposures, MissingExtra without scikit-learn where there are
    titles.
    """
    return inputs_of(store, transform, read_raw(shop, transform, store), transform.text_columns)


def read_raw(shop: Shop, transform: Transform, store: Store) -> Raw:
    """The numbers behind the store's ranks, read once more from the shop's tables.

    Raises DataError if the tables no longer yield the store's exposures.
    """
    context = _numeric(transform.context.names, transform.context.coders)
    users = _numeric(transform.users.names, transform.users.coders)
    items = _numeric(transform.items.names, transform.items.coders)
    of_context: dict[str, Floats] = {}
    of_users: dict[str, Floats] = {}
    if context or users:
        with Engine() as engine:
            prepare(engine, shop)
            of_context = _context(engine, context, store)
            if users and shop.users:
                of_users = _of_users(engine, shop.users.key, users, store)
    of_items = {
        name: np.concatenate([[np.nan], as_numbers(store.catalogue[name].combine_chunks())])
        for name in items
    }
    return Raw(of_items, of_users, of_context)


def inputs_of(  # noqa: C901 - one branch per kind of input
    store: Store, transform: Transform, raw: Raw, text: Sequence[str] = ()
) -> Inputs:
    """What the joint model knows of every exposure, made flat, ``[n, F]``.

    ``text`` names the catalogue's title columns.
    """
    n = len(store["exposures/item"])
    named: list[tuple[str, Array, bool]] = []

    def add(name: str, values: Array, is_category: bool = False) -> None:
        named.append((name, values, is_category))

    query = np.asarray(store["exposures/query"])
    item = np.asarray(store["exposures/item"])
    user = user_rows(store, np.arange(len(query)))
    for name, codes in _codes(transform.context, store["exposures/fields"]).items():
        add(f"context {name}", codes, True)
    for name, numbers in raw.context.items():
        add(f"context {name}", numbers)
    for name, codes in _codes(transform.users, store["users/fields"]).items():
        add(f"user {name}", codes[user], True)
    for name, numbers in raw.users.items():
        add(f"user {name}", numbers[user])
    item_codes = _codes(transform.items, store["items/fields"])
    for name, codes in item_codes.items():
        add(f"item {name}", codes[item], True)
    for name, numbers in raw.items.items():
        add(f"item {name}", numbers[item])
    if item.any():
        seen, rates = product_rates(store)
        add("item exposures", seen)
        for j, stage in enumerate(transform.stages):
            add(f"item {stage} rate", rates[:, j])
        for k, component in enumerate(title_components(store, text).T):
            add(f"title {k}", component[item])
    if len(store["history/item"]) and (query >= 0).all():
        history = history_of(store, transform.actions, item_codes)
        for name, values in history.items():
            add(name, values)
    table = np.empty((n, len(named)), dtype=np.float32)
    for j, (_, column, _) in enumerate(named):
        table[:, j] = column
    return Inputs(
        table,
        tuple(name for name, _, _ in named),
        tuple(j for j, (_, _, is_category) in enumerate(named) if is_category),
    )


def history_of(
    store: Store, actions: Sequence[str], item_codes: Mapping[str, Array]
) -> dict[str, Floats]:
    """Counts and ages in hours of a user's events before each exposure's moment, ``[n]`` each.

    For all events of each action, for those of the candidate itself and for those of products
    that share the candidate's value in a column; an age without an event is NaN.
    """
    query, item = np.asarray(store["exposures/query"]), np.asarray(store["exposures/item"])
    user = store["queries/user"][query]
    end, now = store["queries/end"][query], store["queries/time"][query]
    owner = np.repeat(np.arange(store.n_users + 1), np.diff(store["users/start"]))
    event_item, action = np.asarray(store["history/item"]), np.asarray(store["history/action"])
    time = np.asarray(store["history/time"])
    found: dict[str, Floats] = {}

    def add(name: str, groups: Array, asked: Array, where: Array) -> None:
        counts, last = before(groups, asked, end, where)
        found[f"{name}, count"] = counts
        hours = (now - time[np.maximum(last, 0)]) / HOUR_US
        found[f"{name}, age"] = np.where(last >= 0, hours, np.nan)

    for code, kind in enumerate(actions):
        of_kind = np.flatnonzero(action == code)
        add(f"user {kind}", owner, user, of_kind)
        wide = store.n_items + 1
        add(f"same item {kind}", owner * wide + event_item, user * wide + item, of_kind)
    everything = np.arange(len(event_item))
    for column, codes in item_codes.items():
        wide = int(codes.max()) + 1
        groups, asked = owner * wide + codes[event_item], user * wide + codes[item]
        add(f"same {column}", groups, asked, everything)
        if len(actions) > 1:
            add(f"same {column} {actions[-1]}", groups, asked,
                np.flatnonzero(action == len(actions) - 1))  # fmt: skip
    return found


def before(groups: Array, asked: Array, end: Array, where: Array) -> tuple[Floats, Rows]:
    """How many events of a group stand before ``end``, and where the last of them stands or -1.

    ``groups [H]`` of the events, ``asked [n]`` the group each row wants, ``end [n]`` one past the
    last event it may read, ``where`` the events that count.

    >>> counts, last = before(np.array([7, 8, 7, 7]), np.array([7, 8, 9]), np.array([3, 1, 4]),
    ...                       np.arange(4))
    >>> counts.tolist(), last.tolist()
    ([2.0, 0.0, 0.0], [2, -1, -1])
    """
    distinct, dense = np.unique(groups[where], return_inverse=True)
    place = np.minimum(np.searchsorted(distinct, asked), max(len(distinct) - 1, 0))
    known = distinct[place] == asked if len(distinct) else np.zeros(len(asked), dtype=bool)
    wide = len(groups) + 1
    order = np.argsort(dense, kind="stable")
    keys = dense[order].astype(np.int64) * wide + where[order]
    low = np.searchsorted(keys, place.astype(np.int64) * wide)
    high = np.searchsorted(keys, place.astype(np.int64) * wide + end)
    counts = np.where(known, high - low, 0)
    last = np.full(len(asked), -1, dtype=np.int64)
    some = counts > 0
    last[some] = where[order][high[some] - 1]
    return counts.astype(np.float64), last


def product_rates(store: Store) -> tuple[Floats, Floats]:
    """Training exposures ``[n]`` and smoothed stage rates ``[n, S]`` of each exposure's product.

    A training row sees the training rows of the other folds of users, so its own label and its
    user's never reach it; a later row sees all of them. Counts are scaled to a full log.
    """
    item = np.asarray(store["exposures/item"])
    at = np.arange(*store.ranges["train"])
    fold = folds_of(store, at)
    labels, weight = store["exposures/labels"][at], store["exposures/weight"][at]
    mass, rates = cross_fitted(item[at], labels, weight, fold, store.n_items + 1)
    table = np.zeros(len(item), dtype=np.int64)  # of all training, for validation and test
    table[at] = 1 + fold
    return mass[table, item], rates[table, item]


def cross_fitted(
    rows: Rows, labels: Array, weight: Array, fold: Rows, n: int
) -> tuple[Floats, Floats]:
    """Mass of exposures ``[1 + FOLDS, n]`` and `smoothed` rates ``[1 + FOLDS, n, S]`` of rows.

    ``rows``, ``weight`` and ``fold [E]`` and ``labels [E, S]`` are of exposures. The first table is
    of all of them, the others of all but one fold each, whose masses are scaled to a full log.
    """
    return all_but_each(by_fold(rows, labels, weight, fold, n))


def by_fold(rows: Rows, labels: Array, weight: Array, fold: Rows, n: int) -> Floats:
    """What of exposures sums up, ``[FOLDS, n, 2 + 2 S]``: that of a log is that of its pieces.

    How many there are and their mass; of each stage the mass where it is known, and where it was
    reached.
    """
    place = np.asarray(fold, dtype=np.int64) * n + rows
    columns = [np.ones(len(rows)), weight]
    for stage in labels.T:
        columns += [weight * (stage >= 0), weight * (stage == 1)]
    return np.stack(
        [np.bincount(place, each, FOLDS * n).reshape(FOLDS, n) for each in columns], axis=2
    )


def all_but_each(sums: Floats) -> tuple[Floats, Floats]:
    """The tables of `cross_fitted` from the sums of `by_fold`."""
    _, n, width = sums.shape
    mass, rates = np.zeros((1 + FOLDS, n)), np.zeros((1 + FOLDS, n, width // 2 - 1))
    for k in range(-1, FOLDS):
        others = sums[np.arange(FOLDS) != k].sum(axis=0)
        mass[1 + k] = others[:, 1] * (sums[..., 0].sum() / max(others[:, 0].sum(), 1))
        known, reached = others[:, 2::2], others[:, 3::2]
        base = reached.sum(0) / np.maximum(known.sum(0), np.finfo(float).tiny)
        rates[1 + k] = (reached + PRIOR * base) / (known + PRIOR)
    return mass, rates


def smoothed(rows: Array, labels: Array, weight: Array, n: int) -> Floats:
    """Share of positives by row, ``[n]``, each starting with `PRIOR` exposures at the base rate.

    >>> smoothed(np.array([0, 0]), np.array([1, 0]), np.ones(2), 2).tolist()
    [0.5, 0.5]
    """
    known = labels >= 0
    rows, mass, up = rows[known], weight[known], (labels == 1)[known]
    base = mass[up].sum() / mass.sum() if mass.sum() else 0.0
    positives = np.bincount(rows, mass * up, n)
    rates: Floats = (positives + PRIOR * base) / (np.bincount(rows, mass, n) + PRIOR)
    return rates


def title_components(store: Store, text: Sequence[str]) -> Floats:
    """Components of the catalogue's titles, ``[I + 1, k]``, fitted on products seen in training."""
    if not text:
        return np.zeros((store.n_items + 1, 0))
    columns = [store.catalogue[name].cast(pa.string()).to_pylist() for name in text]
    titles = ["", *(" ".join(word or "" for word in row) for row in zip(*columns, strict=True))]
    seen = np.flatnonzero(store["items/id"])
    counts = library("sklearn.feature_extraction.text").TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), min_df=3, max_features=20_000
    )
    try:
        table = counts.fit(titles[row] for row in seen).transform(titles)
    except ValueError:  # no piece of a word is in three titles
        return np.zeros((store.n_items + 1, 0))
    k = min(COMPONENTS, table.shape[1] - 1, len(seen) - 1)
    if k < 1:
        return np.zeros((store.n_items + 1, 0))
    svd = library("sklearn.decomposition").TruncatedSVD(k, random_state=0)
    found: Floats = svd.fit(table[seen]).transform(table)
    return found


# ---- users ----------------------------------------------------------------------------


def event_counts(
    store: Store, transform: Transform, columns: Sequence[str], kind: int = 0
) -> Floats:
    """A user's events of one kind of history by value of these item columns, ``[U + 1, F]``.

    ``kind`` is a place among the transform's actions; row 0 is the unknown user's.
    """
    owner = np.repeat(np.arange(store.n_users + 1), np.diff(store["users/start"]))
    of_kind = np.asarray(store["history/action"]) == kind
    owner, item = owner[of_kind], np.asarray(store["history/item"])[of_kind]
    parts: list[Array] = []
    for codes in _codes(transform.items, store["items/fields"], columns).values():
        wide = int(codes.max(initial=0)) + 1
        cells = np.bincount(owner * wide + codes[item], minlength=(store.n_users + 1) * wide)
        parts.append(cells.reshape(store.n_users + 1, wide))
    return np.concatenate(parts, axis=1).astype(np.float64)


def habits_of(store: Store, transform: Transform) -> Floats:
    """What a user's whole history is counted by, ``[U + 1, F]``: the shop's kinds of event.

    All events of each kind, and those by value of every category column of the items that has no
    more values than the joint model counts.
    """
    owner = np.repeat(np.arange(store.n_users + 1), np.diff(store["users/start"]))
    action = np.asarray(store["history/action"])
    columns = [
        name
        for name, coder in transform.items.pairs
        if isinstance(coder, Vocab) and coder.n_rows <= MOST_VALUES
    ]
    parts: list[Floats] = [np.zeros((store.n_users + 1, 0))]
    for kind in range(len(transform.actions)):
        of_kind = np.bincount(owner[action == kind], minlength=store.n_users + 1)
        parts.append(of_kind[:, None].astype(np.float64))
        if columns:
            parts.append(event_counts(store, transform, columns, kind))
    return np.concatenate(parts, axis=1)


# ---- reading --------------------------------------------------------------------------


def _codes(fields: Fields, rows: Array, only: Sequence[str] = ()) -> dict[str, Array]:
    """Codes of the category columns, 0 unknown, by name; of all where ``only`` names none."""
    places = enumerate(zip(fields.names, fields.coders, fields.offsets, strict=True))
    return {
        name: np.asarray(rows[:, j]) - offset
        for j, (name, coder, offset) in places
        if isinstance(coder, Vocab) and (not only or name in only)
    }


def _numeric(names: Sequence[str], coders: Sequence[Any]) -> list[str]:
    return [name for name, coder in zip(names, coders, strict=True) if not isinstance(coder, Vocab)]


def _context(engine: Engine, names: Sequence[str], store: Store) -> dict[str, Floats]:
    if not names:
        return {}
    place = "CASE split WHEN 'train' THEN 0 WHEN 'validation' THEN 1 ELSE 2 END"
    columns = ", ".join(f"TRY_CAST({name_of('context_' + name)} AS DOUBLE)" for name in names)
    table = engine.table(f"SELECT id, {columns} FROM exposures ORDER BY {place}, exposure")
    keys = pa.concat_tables(store.exposure_keys(split, ["id"]) for split in SPLITS)
    if not table.column(0).combine_chunks().equals(keys["id"].combine_chunks()):
        raise DataError(
            f"{store.folder}: the shop's tables now yield other exposures than this store holds; "
            "fit again"
        )
    return {name: as_numbers(table.column(j + 1)) for j, name in enumerate(names)}


def _of_users(engine: Engine, key: str, names: Sequence[str], store: Store) -> dict[str, Floats]:
    columns = ", ".join(f"TRY_CAST({name_of(name)} AS DOUBLE)" for name in names)
    table = engine.table(f"SELECT CAST({name_of(key)} AS VARCHAR), {columns} FROM users")
    rows = [store.user_rows[name] for name in table.column(0).to_pylist()]
    found = {name: np.full(store.n_users + 1, np.nan) for name in names}
    for j, name in enumerate(names):
        found[name][rows] = as_numbers(table.column(j + 1))
    return found
