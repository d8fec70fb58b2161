"""Users at moments: who is asked about, and until when their history may be read."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daogou.features.store import SPLITS, Store

NO_ROWS: Final = np.zeros(0, dtype=np.int64)
Rows = NDArray[Any]


@dataclass(frozen=True)
class Events:
    """Events that no store holds, ``[E]`` each, in any order.

    Catalogue rows, places in the transform's actions, microseconds.
    """

    item: Rows
    action: Rows
    time: Rows


@dataclass(frozen=True)
class Queries:
    """Users at moments: ``user`` rows, ``end`` of the history that may be read, ``time`` in us.

    ``live`` are further events of the one user that is asked about; those of several users need
    a query each. Likewise ``shown``, of which the kind of event says nothing.
    """

    user: Rows
    end: Rows
    time: Rows
    live: Events | None = None
    shown: Events | None = None

    def __len__(self) -> int:
        return len(self.user)

    def __getitem__(self, rows: Rows | slice) -> "Queries":
        return Queries(self.user[rows], self.end[rows], self.time[rows], self.live, self.shown)

    @staticmethod
    def joined(pieces: Iterable["Queries"]) -> "Queries":
        """The queries of all pieces, in order."""
        whole = [NOBODY, *pieces]
        columns = zip(*((each.user, each.end, each.time) for each in whole), strict=True)
        user, end, time = (np.concatenate(column) for column in columns)
        return Queries(user, end, time)


NOBODY: Final = Queries(NO_ROWS, NO_ROWS, NO_ROWS)
_NOUGHT: Final = np.zeros(1, dtype=np.int64)
UNKNOWN: Final = Queries(_NOUGHT, _NOUGHT, _NOUGHT)  # nothing to read


def queries_of(store: Store, exposures: Rows) -> tuple[Queries, Rows]:
    """The distinct users at moments of these exposure rows, and which of them is each one's.

    All exposures that name no user are the unknown user's, row 0, who has no past.
    """
    distinct, place = np.unique(store["exposures/query"][exposures], return_inverse=True)
    known = distinct[distinct >= 0]
    queries = Queries(*(store[f"queries/{name}"][known] for name in ("user", "end", "time")))
    if len(known) < len(distinct):  # -1, the first
        queries = Queries.joined([UNKNOWN, queries])
    return queries, place


def user_rows(store: Store, exposures: Rows) -> Rows:
    """The user row of each exposure, ``[n]``, 0 of nobody's."""
    query = np.asarray(store["exposures/query"])[exposures]
    user = np.zeros(len(query), dtype=np.int64)
    user[query >= 0] = store["queries/user"][query[query >= 0]]
    return user


def full_queries(store: Store, users: Rows) -> Queries:
    """These user rows at the end of the log, with everything known of them."""
    start = store["users/start"]
    times = store["history/time"]
    now = int(times.max()) + 1 if len(times) else 0
    return Queries(users, start[users + 1], np.full(len(users), now, dtype=np.int64))


def teaching_queries(store: Store) -> Queries:
    """Users whose profile may teach, as training ends; those with no event by then are out."""
    queries = queries_after(store, profiled_users(store, "train"), "train")
    kept = queries.end > np.asarray(store["users/start"])[queries.user]
    user, end = queries.user[kept], queries.end[kept]
    return Queries(user, end, just_after(store, end))


def profiled_users(store: Store, split: str) -> Rows:
    """The users of a split of whom some profile column is known."""
    known = (store["users/profile"] >= 0).any(1)
    if "users/many" in store.arrays:
        known |= (store["users/many"] >= 0).any(1)
    return np.flatnonzero(known & (store["users/split"] == SPLITS.index(split)))


def queries_after(store: Store, users: Rows, *splits: str) -> Queries:
    """These user rows as the last exposure of some splits found them, just after it."""
    times = [store["exposures/time"][slice(*store.ranges[split])] for split in splits]
    until = max((int(each.max()) for each in times if len(each)), default=0)
    start = np.asarray(store["users/start"])
    early = np.concatenate([[0], np.cumsum(np.asarray(store["history/time"]) <= until)])
    n_early = (early[start[1:]] - early[start[:-1]])[users]  # a history is sorted by time
    return Queries(users, start[users] + n_early, np.full(len(users), until + 1, dtype=np.int64))


def just_after(store: Store, end: Rows) -> Rows:
    """The moment after the last event that is read: what shares its time is read or not asked."""
    return store["history/time"][end - 1] + 1 if len(end) else NO_ROWS
