"""Store rows to batches: some exposures with their unique users, items and texts, encoded once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from daogou.features.columns import Columns
from daogou.features.past import histories, shown_to, stored_repeats
from daogou.features.queries import NO_ROWS, Queries, Rows, queries_of, user_rows
from daogou.features.store import FOLDS, NO_SPLIT, Store


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
            **_arrays(store, "exposures", exposures, "labels", "weight", "fields", "numbers"),
            repeats=stored_repeats(store, queries, user_of, candidate),
            fold=folds_of(store, exposures),
            **_where_present(store, "exposures", exposures, "value", "delay_h", "watched_h"),
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
            **_arrays(store, "items", items, "id", "fields", "numbers", "traits"),
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


def _shown(store: Store, queries: Queries) -> dict[str, Tensor]:
    rows = shown_to(store, queries)
    parts = rows[..., None], store["items/fields"][rows], store["items/traits"][rows]
    marks = np.concatenate([part.astype(np.int64) for part in parts], axis=2)
    return {"shown": torch.from_numpy(marks), "shown_id": _tensor(store["items/id"][rows])}


def users_of(store: Store, queries: Queries, history_length: int) -> Columns:
    """The ``users`` of a batch, but that their ``history [Q, L]`` holds rows of the catalogue."""
    history, action, age = histories(store, queries, history_length)
    return _columns(
        row=queries.user,
        **_arrays(store, "users", queries.user, "id", "fields", "numbers", "profile", "split"),
        **_where_present(store, "users", queries.user, "many"),
        history=history,
        action=action,
        age=age,
    )


def folds_of(store: Store, exposures: Rows) -> Rows:
    """The fold of each exposure's user, ``[n]`` from 0; of nobody's exposures that of the row.

    Counts of labels that a training row reads are those of the other folds.
    """
    user = user_rows(store, exposures)
    return np.where(user > 0, user, exposures) % FOLDS


def _arrays(store: Store, part: str, rows: Rows, *names: str) -> dict[str, Rows]:
    """These rows of a part's arrays."""
    return {name: store[f"{part}/{name}"][rows] for name in names}


def _where_present(store: Store, part: str, rows: Rows, *names: str) -> dict[str, Rows]:
    """The same of arrays that only some shops have."""
    present = (name for name in names if f"{part}/{name}" in store.arrays)
    return _arrays(store, part, rows, *present)


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
