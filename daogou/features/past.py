"""What a query may read of the past: events, what was shown, and what a candidate repeats."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from daogou.features.queries import Events, Queries, Rows
from daogou.features.repeats import MOST_EVENTS, N_PER_MARK, repeats
from daogou.features.store import Store
from daogou.features.store.numbering import first_from
from daogou.schema import HOUR_US

N_AGES: Final = 12  # buckets of an event's age, each about three times older than the one before
MOST_SHOWN: Final = 2048  # products that were shown, of which profiles count the latest


def recent_events(store: Store, queries: Queries, place: int, length: int) -> Events:
    """The last ``length`` events that one query may read, newest first, live ones among them.

    Events of one moment stand as the store sorts them, by product and then by action.
    """
    row, end = int(queries.user[place]), int(queries.end[place])
    first = max(int(store["users/start"][row]), end - length)
    names = ("item", "action", "time")
    stored = [np.array(store[f"history/{name}"][first:end], dtype=np.int64) for name in names]
    if queries.live is not None:
        before = queries.live.time < queries.time[place]
        live = [getattr(queries.live, name)[before].astype(np.int64) for name in names]
        stored = [np.concatenate(pair) for pair in zip(stored, live, strict=True)]
        item, action, time = stored
        in_order = np.lexsort((action, item, time))
        stored = [array[in_order] for array in stored]
    return Events(*(array[::-1][:length] for array in stored))


def shown_to(store: Store, queries: Queries) -> Rows:
    """Catalogue rows ``[Q, S]`` of what users had been shown before a moment, newest first.

    0 past the end, and at most the latest `MOST_SHOWN`.
    """
    found = np.zeros((len(queries), 0), dtype=np.int64)
    if "shown/item" in store.arrays and len(store["shown/item"]):
        start, user = store["shown/start"], queries.user
        end = first_from(store["shown/time"], start, user, queries.time)
        length = min(int((end - start[user]).max(initial=0)), MOST_SHOWN)
        at = end[:, None] - 1 - np.arange(length)
        known = at >= start[user][:, None]
        found = np.where(known, store["shown/item"][np.where(known, at, 0)], 0).astype(np.int64)
    if queries.shown is not None:
        late = queries.shown.time < queries.time[0]
        newest = np.argsort(-queries.shown.time[late], kind="stable")
        found = np.concatenate([queries.shown.item[late][newest][None], found], axis=1)
    return found[:, :MOST_SHOWN]


def repeats_of(
    store: Store,
    queries: Queries,
    user: Rows,
    candidate: Rows,
    marks: Callable[[Rows], Rows],
) -> NDArray[np.float32]:
    """How the past of each exposure's user repeats its candidate, ``[B, 3 M]``: see `repeats`.

    ``user [B]`` are places among the queries, ``candidate [B, M]`` the marks of what is shown, and
    ``marks`` gives those of catalogue rows, ``[L] -> [L, M]``. What is unknown of a product
    resembles nothing. Of a past that is longer the latest `MOST_EVENTS` are counted, whatever
    length the encoder of histories reads.
    """
    n, n_marks = candidate.shape
    found = np.zeros((n, N_PER_MARK * n_marks), dtype=np.float32)
    if not n:
        return found
    asked = np.where(candidate == marks(np.zeros(1, dtype=np.int64)), -1, candidate)
    order = np.argsort(user, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(user[order])) + 1):
        place = int(user[rows[0]])
        past = recent_events(store, queries, place, MOST_EVENTS)
        if len(past.item):
            hours = np.maximum(queries.time[place] - past.time, 0) / HOUR_US
            strong = past.action == store.strongest
            found[rows] = repeats(asked[rows], marks(past.item), strong, hours)
    return found


def stored_repeats(store: Store, queries: Queries, user: Rows, item: Rows) -> Rows:
    """The same by the store's own marks: a product's row, and the rows of its columns' values."""
    fields = store["items/fields"]

    def marks(rows: Rows) -> Rows:
        return np.concatenate([rows[:, None].astype(np.int32), fields[rows]], axis=1)

    return repeats_of(store, queries, user, marks(item), marks)


def histories(store: Store, queries: Queries, length: int) -> tuple[Rows, Rows, Rows]:
    """Item rows, actions and ages ``[Q, length]`` of the last events before each query's end."""
    if queries.live is not None:
        events = recent_events(store, queries, 0, length)
        known = np.arange(length) < len(events.item)
        item, action, time = (
            np.pad(array, (0, length - len(array)))[None]
            for array in (events.item, events.action, events.time)
        )
        return _read(queries, known[None], item, action, time)
    start = store["users/start"][queries.user]
    at = queries.end[:, None] - 1 - np.arange(length)
    known = at >= start[:, None]
    at = np.where(known, at, 0)
    if not len(store["history/item"]):
        nothing = np.zeros(at.shape, dtype=np.int64)
        return nothing, nothing, nothing
    history = (store[f"history/{name}"][at] for name in ("item", "action", "time"))
    return _read(queries, known, *history)


def _read(
    queries: Queries, known: Rows, item: Rows, action: Rows, time: Rows
) -> tuple[Rows, Rows, Rows]:
    """Events ``[Q, L]`` as the model reads them; all 0 where they are not known."""
    hours = np.maximum(queries.time[:, None] - time, 0) / HOUR_US
    age = np.clip(np.log1p(hours * 60) / np.log(3.0), 0, N_AGES - 1).astype(np.int64)
    return (
        np.where(known, item, 0).astype(np.int64),
        np.where(known, action.astype(np.int64) + 1, 0),
        np.where(known, age, 0),
    )
