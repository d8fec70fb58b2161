"""Store rows to batches: some exposures with their unique users, items and texts, encoded once."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.features.columns import Columns
from daogou.features.repeats import MOST_EVENTS, N_PER_MARK, repeats
from daogou.features.store import FOLDS, NO_SPLIT, SPLITS, Store
from daogou.features.store.queries import first_from

N_AGES: Final = 12  # buckets of an event's age, each about three times older than the one before
MOST_SHOWN: Final = 2048  # products that were shown, of which profiles count the latest
_TITLE_SHARE: Final = 8  # exposures of a step for each of its titles, at least
_HOUR_US: Final = 3_600_000_000
NO_ROWS: Final = np.zeros(0, dtype=np.int64)
Rows = NDArray[Any]


@dataclass(frozen=True)
class Batch:
    """Exposures and what they need, each distinct user, item and text once.

    ``exposures``: ``user`` and ``item`` ``[B]`` are rows of ``users`` and ``items`` below, with
    ``labels [B, S]`` (-1 missing), ``weight [B]``, ``fields [B, C]``, ``numbers [B, K]``,
    ``repeats [B, 3 M]`` of M marks (see `repeats_of`), ``fold [B]`` (see `folds_of`), and
    ``value [B]`` (NaN missing) if the shop names one, ``delay_h`` and ``watched_h`` ``[B, S]``
    (likewise) if a task asks for them.
    ``users``: one row per user and moment, and one for all exposures that name no user: ``id``,
    ``fields``, ``numbers``, ``profile [Q, P]`` (-1 missing), ``many [Q, V]`` (likewise) if it has
    lists, ``split``, ``history [Q, L]`` (rows of ``items``, newest first, 0 past its end),
    ``action`` (0 past the end) and ``age``; if asked for, ``shown [Q, S, M]`` and ``shown_id
    [Q, S]``: marks and id rows of the products that were shown, 0 past the end.
    ``items``: row 0 is the unknown one; ``row`` in the catalogue, ``id``, ``fields``,
    ``numbers``, ``traits``, ``text`` (row of ``texts``). ``texts``: ``tokens [X, L, F]``, row 0
    empty.
    ``titles``: those with gold: ``text`` (row of ``texts``), ``tags [G, A, L]`` and ``values
    [G, V]`` of V attributes that are read as classes (-1 missing).
    """

    exposures: Columns
    users: Columns
    items: Columns
    texts: Columns
    titles: Columns
    extra: Tensor  # [N] rows of items drawn from the catalogue for matching

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device; itself if it is there already."""
        if device.type == self.extra.device.type:
            return self
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """In memory that a GPU copies from while it computes."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        def changed(part: Columns) -> Columns:
            return Columns({name: change(tensor) for name, tensor in part.tensors.items()})

        return Batch(
            changed(self.exposures), changed(self.users), changed(self.items),
            changed(self.texts), changed(self.titles), change(self.extra),
        )  # fmt: skip


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
_UNKNOWN: Final = Queries(_NOUGHT, _NOUGHT, _NOUGHT)  # nothing to read


def make_batch(
    store: Store,
    exposures: Rows = NO_ROWS,
    *,
    history_length: int = 50,
    queries: Queries | None = None,
    extra_items: Rows = NO_ROWS,
    titles: Rows = NO_ROWS,
    taught: Queries | None = None,
    shown: bool = False,
) -> Batch:
    """The batch of these exposure rows, and of further users, catalogue rows and titles.

    ``queries`` replaces the users that the exposures bring: for profiles and for serving.
    ``taught`` come after the exposures' users, and only their profiles may teach. ``shown`` asks
    for what users had been shown, which training does not read.
    """
    candidate = store["exposures/item"][exposures]
    user_of = np.full(len(exposures), -1, dtype=np.int64)
    if queries is None:
        queries, user_of = queries_of(store, exposures)
    n_asked = len(queries)
    if taught is not None:
        queries = Queries.joined([queries, taught])
    users = users_of(store, queries, history_length)
    if taught is not None:
        users["split"][:n_asked] = NO_SPLIT
    history = users["history"].numpy()
    items, place = _distinct(
        store.n_items + 1, candidate, history.ravel(), np.asarray(extra_items, dtype=np.int64)
    )
    text_of = store["items/text"][items]
    title_text = store["titles/text"][titles]
    texts, text_place = _distinct(len(store["texts/tokens"]), text_of, title_text)
    tokens = store["texts/tokens"][texts]
    longest = max(int(tokens[..., 0].any(0).sum()), 1)  # the rest is padding in every row
    return Batch(
        exposures=_columns(
            item=place[candidate],
            user=user_of,
            labels=store["exposures/labels"][exposures],
            weight=store["exposures/weight"][exposures],
            fields=store["exposures/fields"][exposures],
            numbers=store["exposures/numbers"][exposures],
            repeats=_stored_repeats(store, queries, user_of, candidate),
            fold=folds_of(store, exposures),
            **_where_present(store, exposures),
        ),
        users=Columns(
            {
                **users.tensors,
                "history": torch.from_numpy(place[history]),
                **(_shown(store, queries) if shown else {}),
            }
        ),
        items=_columns(
            row=items,
            id=store["items/id"][items],
            fields=store["items/fields"][items],
            numbers=store["items/numbers"][items],
            traits=store["items/traits"][items],
            text=text_place[text_of],
        ),
        texts=_columns(tokens=tokens[:, :longest]),
        titles=_columns(
            text=text_place[title_text],
            tags=store["titles/tags"][titles, :, :longest],
            values=store["titles/values"][titles],
        ),
        extra=torch.from_numpy(place[extra_items]),
    )


def users_of(store: Store, queries: Queries, history_length: int) -> Columns:
    """The ``users`` of a batch, but that their ``history [Q, L]`` holds rows of the catalogue."""
    history, action, age = _histories(store, queries, history_length)
    return _columns(
        row=queries.user,
        id=store["users/id"][queries.user],
        fields=store["users/fields"][queries.user],
        numbers=store["users/numbers"][queries.user],
        profile=store["users/profile"][queries.user],
        **_lists(store, queries.user),
        split=store["users/split"][queries.user],
        history=history,
        action=action,
        age=age,
    )


def queries_of(store: Store, exposures: Rows) -> tuple[Queries, Rows]:
    """The distinct users at moments of these exposure rows, and which of them is each one's.

    All exposures that name no user are the unknown user's, row 0, who has no past.
    """
    distinct, place = np.unique(store["exposures/query"][exposures], return_inverse=True)
    known = distinct[distinct >= 0]
    queries = Queries(*(store[f"queries/{name}"][known] for name in ("user", "end", "time")))
    if len(known) < len(distinct):  # -1, the first
        queries = Queries.joined([_UNKNOWN, queries])
    return queries, place


def user_rows(store: Store, exposures: Rows) -> Rows:
    """The user row of each exposure, ``[n]``, 0 of nobody's."""
    query = np.asarray(store["exposures/query"])[exposures]
    user = np.zeros(len(query), dtype=np.int64)
    user[query >= 0] = store["queries/user"][query[query >= 0]]
    return user


def folds_of(store: Store, exposures: Rows) -> Rows:
    """The fold of each exposure's user, ``[n]`` from 0; of nobody's exposures that of the row.

    Counts of labels that a training row reads are those of the other folds.
    """
    user = user_rows(store, exposures)
    return np.where(user > 0, user, exposures) % FOLDS


def _where_present(store: Store, exposures: Rows) -> dict[str, Rows]:
    """What only some shops' exposures have."""
    names = ("value", "delay_h", "watched_h")
    present = [name for name in names if f"exposures/{name}" in store.arrays]
    return {name: store[f"exposures/{name}"][exposures] for name in present}


def _lists(store: Store, users: Rows) -> dict[str, Rows]:
    return {"many": store["users/many"][users]} if "users/many" in store.arrays else {}


def full_queries(store: Store, users: Rows) -> Queries:
    """These user rows at the end of the log, with everything known of them."""
    start = store["users/start"]
    times = store["history/time"]
    now = int(times.max()) + 1 if len(times) else 0
    return Queries(users, start[users + 1], np.full(len(users), now, dtype=np.int64))


@dataclass(frozen=True)
class Epoch:
    """The rows of each step of one pass, decided by the seed alone.

    ``families`` of tasks are those that each step teaches; None = all of them at every step.
    """

    exposures: list[Rows]
    titles: list[Rows]
    extra_items: list[Rows]
    taught: list[Queries]
    families: list[frozenset[str]] | None = None

    def __len__(self) -> int:
        return len(self.exposures)

    def n_steps(self, family: str) -> int:
        """How many of the steps teach a family."""
        if self.families is None:
            return len(self)
        return sum(family in taught for taught in self.families)


def plan_epoch(
    store: Store,
    *,
    seed: int,
    epoch: int,
    rows_per_step: int,
    titles_per_step: int,
    title_passes: float,
    extra_items: int,
    profile_passes: float = 0.0,
) -> Epoch:
    """One pass over the training exposures, each row once, in an order the seed decides.

    Neighbours in the store share a user and a moment, so short runs of them stay together:
    a batch then encodes fewer histories. Titles are spread over the steps, ``title_passes``
    times each; a shop without exposures takes as many steps as its titles fill. So are the users
    whose profile may teach, each at moments of training drawn anew: were every exposure to teach
    its user's profile, a few hundred users would be learnt by heart within an epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    first, last = store.ranges["train"]
    gold = np.flatnonzero(store["titles/split"] == SPLITS.index("train"))
    n_steps = -(-(last - first) // rows_per_step) or -(-len(gold) // titles_per_step)
    block = 10 if len(store["queries/user"]) else 1
    # Half the memory where it is enough: a year of a large shop is 10^8 rows.
    kind: Any = np.int32 if last + block < 2**31 else np.int64
    starts = np.arange(first, last, block, dtype=kind)
    rng.shuffle(starts)
    order = (starts[:, None] + np.arange(block, dtype=kind)).ravel()
    order = order[order < last]
    passes = title_passes if last > first else 1.0
    if last > first and len(gold):  # a step that reads exposures is to be about them
        passes = min(passes, n_steps * rows_per_step / _TITLE_SHARE / len(gold))
    titles = _repeated(gold, passes, rng)
    extra = [
        rng.integers(1, store.n_items + 1, extra_items) if store.n_items and last > first
        else NO_ROWS
        for _ in range(n_steps)
    ]  # fmt: skip
    taught = _taught(store, rng, profile_passes) if profile_passes > 0 else NOBODY
    pieces = np.array_split(np.arange(len(taught)), max(n_steps, 1))
    return Epoch(
        _cut(order, rows_per_step, n_steps),
        np.array_split(titles, max(n_steps, 1)),
        extra,
        [taught[rows] for rows in pieces],
    )


def _taught(store: Store, rng: np.random.Generator, passes: float) -> Queries:
    """Users whose profile may teach, ``passes`` times each, at moments before training ends.

    A moment leaves between a third and all of the user's events of that time to be read.
    """
    whole = teaching_queries(store)
    picked = _repeated(np.arange(len(whole.user)), passes, rng)
    user, start = whole.user[picked], store["users/start"][whole.user[picked]]
    share = rng.uniform(1 / 3, 1.0, len(user))
    end = start + np.ceil(share * (whole.end[picked] - start)).astype(np.int64)
    return Queries(user, end, _just_after(store, end))


def teaching_queries(store: Store) -> Queries:
    """Users whose profile may teach, as training ends; those with no event by then are out."""
    queries = queries_after(store, profiled_users(store, "train"), "train")
    kept = queries.end > np.asarray(store["users/start"])[queries.user]
    user, end = queries.user[kept], queries.end[kept]
    return Queries(user, end, _just_after(store, end))


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


def _just_after(store: Store, end: Rows) -> Rows:
    """The moment after the last event that is read: what shares its time is read or not asked."""
    return store["history/time"][end - 1] + 1 if len(end) else NO_ROWS


def _repeated(rows: Rows, passes: float, rng: np.random.Generator) -> Rows:
    """Each row ``passes`` times, a fraction of a pass for some: one shuffled pass after another."""
    shuffled = [rng.permutation(rows) for _ in range(int(np.ceil(passes)))]
    return np.concatenate([NO_ROWS, *shuffled])[: round(passes * len(rows))]


def split_batches(
    store: Store, split: str, *, rows_per_step: int, history_length: int, rows: Rows | None = None
) -> Iterator[tuple[Rows, Batch]]:
    """A split's exposures in store order, with the row numbers of each batch.

    ``rows`` of them, counted from the split's first, if not all are wanted.
    """
    first, last = store.ranges[split]
    wanted = np.arange(first, last) if rows is None else first + rows
    for start in range(0, len(wanted), rows_per_step):
        piece = wanted[start : start + rows_per_step]
        yield piece, make_batch(store, piece, history_length=history_length)


def _cut(order: Rows, size: int, n_steps: int) -> list[Rows]:
    return [order[step * size : (step + 1) * size] for step in range(n_steps)]


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


def _shown(store: Store, queries: Queries) -> dict[str, Tensor]:
    rows = shown_to(store, queries)
    parts = rows[..., None], store["items/fields"][rows], store["items/traits"][rows]
    marks = np.concatenate([part.astype(np.int64) for part in parts], axis=2)
    return {"shown": torch.from_numpy(marks), "shown_id": _tensor(store["items/id"][rows])}


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
            hours = np.maximum(queries.time[place] - past.time, 0) / _HOUR_US
            strong = past.action == store.strongest
            found[rows] = repeats(asked[rows], marks(past.item), strong, hours)
    return found


def _stored_repeats(store: Store, queries: Queries, user: Rows, item: Rows) -> Rows:
    """The same by the store's own marks: a product's row, and the rows of its columns' values."""
    fields = store["items/fields"]

    def marks(rows: Rows) -> Rows:
        return np.concatenate([rows[:, None].astype(np.int32), fields[rows]], axis=1)

    return repeats_of(store, queries, user, marks(item), marks)


def _histories(store: Store, queries: Queries, length: int) -> tuple[Rows, Rows, Rows]:
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
    hours = np.maximum(queries.time[:, None] - time, 0) / _HOUR_US
    age = np.clip(np.log1p(hours * 60) / np.log(3.0), 0, N_AGES - 1).astype(np.int64)
    return (
        np.where(known, item, 0).astype(np.int64),
        np.where(known, action.astype(np.int64) + 1, 0),
        np.where(known, age, 0),
    )


def _distinct(n: int, *rows: Rows) -> tuple[Rows, Rows]:
    """The distinct rows, row 0 always the first, and where each stands among them ``[n]``.

    A scatter over the table is several times faster than a sort at these sizes.
    """
    seen = np.zeros(n, dtype=bool)
    seen[0] = True
    for some in rows:
        seen[some] = True
    distinct = np.flatnonzero(seen)
    place = np.zeros(n, dtype=np.int64)
    place[distinct] = np.arange(len(distinct))
    return distinct, place


def _columns(**arrays: Rows) -> Columns:
    """Arrays as tensors; row numbers as int64, which is what lookups want."""
    return Columns({name: _tensor(array) for name, array in arrays.items()})


def _tensor(array: Rows) -> Tensor:
    array = np.ascontiguousarray(array)
    if array.dtype in (np.int32, np.int16):
        array = array.astype(np.int64)
    return torch.from_numpy(array if array.flags.writeable else array.copy())
