"""The logs of several parts of the users to one: the arrays that one process would have written."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from daogou.features.store import SPLITS, Ranges, Store, open_store
from daogou.features.store.exposures import exposure_keys
from daogou.features.store.writer import Writer
from daogou.tables.engine import Engine, quoted

ROWS: Final = 2**20  # that are put in order at a time
Array = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """A part's arrays, and which rows its users and items have in the whole, ``[U + 1]``."""

    log: Store
    users: Array
    items: Array

    @cached_property
    def order(self) -> Array:
        """The part's users ``[U]`` in the order of the whole."""
        order: Array = np.argsort(self.users[1:]).astype(np.int32) + np.int32(1)
        return order

    @cached_property
    def ordered(self) -> Array:
        """Their rows in the whole, ascending."""
        return np.asarray(self.users[self.order])


def open_part(engine: Engine, folder: Path) -> Part:
    """A part that `compile_log` wrote; ``user_rows`` and ``item_rows`` are those of the whole."""
    rows = {}
    for kind in ("user", "item"):
        own = quoted(str(folder / "keys" / f"{kind}_rows.parquet"))
        table = engine.table(
            f"SELECT r.row FROM (SELECT {kind}, row_number() OVER () AS place FROM "
            f"read_parquet({own})) p JOIN {kind}_rows r ON r.{kind} = p.{kind} ORDER BY place"
        )
        # Kept beside the part and mapped: of many parts, none has to be in memory.
        path = folder / f"{kind}_rows.npy"
        path.unlink(missing_ok=True)
        np.save(path, np.concatenate([[0], table["row"].to_numpy()]).astype(np.int32))
        rows[kind] = np.load(path, mmap_mode="r")
    log = open_store(folder, ("exposures.parquet", "user_rows.parquet", "item_rows.parquet"))
    return Part(log, rows["user"], rows["item"])


def user_ranks(engine: Engine) -> NDArray[np.int32]:
    """Place of each user of the whole by key, ``[U + 1]``; who is not known comes last."""
    table = engine.table(
        "SELECT row_number() OVER (ORDER BY user)::INTEGER AS rank FROM user_rows ORDER BY row"
    )
    ranks: NDArray[np.int32] = table["rank"].to_numpy()
    return np.concatenate([[len(ranks) + 1], ranks]).astype(np.int32)


def write_together(
    parts: Sequence[Part], ranks: NDArray[np.int32], writer: Writer, *, rows: int = ROWS
) -> Ranges:
    """Write what the parts hold in the order of one process, in pieces of about ``rows`` rows.

    Histories follow the users, exposures their time, and of one moment the users' keys (`ranks`).
    No user is in two parts. Returns the range of each split.
    """
    start = _by_user(parts, writer, "history", "users/start", len(ranks), rows)
    if "shown/start" in parts[0].log.arrays:
        shown = _by_user(parts, writer, "shown", "shown/start", len(ranks), rows)
        writer.append("shown/start", shown)
    return _by_time(parts, ranks, start, writer, rows)


def _by_user(
    parts: Sequence[Part], writer: Writer, kind: str, start: str, n_users: int, rows: int
) -> NDArray[np.int64]:
    """Write the events of a kind user by user; where those of each row begin, ``[rows + 1]``."""
    names = [n for n in parts[0].log.arrays if n.startswith(f"{kind}/") and n != start]
    counts = np.zeros(n_users, dtype=np.int64)
    for part in parts:
        counts[part.users[1:]] = np.diff(part.log[start])[1:]
    starts = np.concatenate([[0], np.cumsum(counts)])
    for name in names:
        writer.append(name, parts[0].log[name][:0])
    first = 0
    while first < n_users:
        last = int(np.searchsorted(starts, starts[first] + rows, side="right")) - 1
        last = min(max(last, first + 1), n_users)
        if starts[last] > starts[first]:
            _write_users(parts, writer, names, start, first, last)
        first = last
    return starts


def _write_users(
    parts: Sequence[Part], writer: Writer, names: Sequence[str], start: str, first: int, last: int
) -> None:
    """Write the events of the users from row ``first`` to ``last``."""
    owners, places = [], []
    for part in parts:
        at, end = np.searchsorted(part.ordered, [first, last])
        local = part.order[at:end]
        begins, ends = part.log[start][local], part.log[start][local + 1]
        places.append(_spans(begins, ends))
        owners.append(np.repeat(part.ordered[at:end], ends - begins))
    found = {
        name: np.concatenate(
            [_whole(part, name, part.log[name][at]) for part, at in zip(parts, places, strict=True)]
        )
        for name in names
    }
    item, time = (
        next(v for n, v in found.items() if n.endswith(end)) for end in ("/item", "/time")
    )
    # A part's items may follow each other otherwise than those of the whole.
    order = np.lexsort((item, time, np.concatenate(owners)))
    for name, values in found.items():
        writer.append(name, values[order])


def _spans(begins: Array, ends: Array) -> NDArray[np.int64]:
    """All places from each begin to its end.

    >>> _spans(np.array([3, 9]), np.array([5, 10])).tolist()
    [3, 4, 9]
    """
    lengths = ends - begins
    before = np.cumsum(lengths) - lengths
    places: NDArray[np.int64] = np.arange(lengths.sum()) + np.repeat(begins - before, lengths)
    return places


def _whole(part: Part, name: str, values: Array) -> Array:
    """Values of a part's array, with the item's row in the whole."""
    return part.items[values] if name.endswith("/item") else values


def _by_time(
    parts: Sequence[Part],
    ranks: NDArray[np.int32],
    start: NDArray[np.int64],
    writer: Writer,
    rows: int,
) -> Ranges:
    for name in parts[0].log.arrays:
        if name.startswith(("exposures/", "queries/")):
            writer.append(name, parts[0].log[name][:0])
    ranges: Ranges = {}
    n_rows = n_queries = 0
    with ExitStack() as held:
        keys = held.enter_context(exposure_keys(writer))
        told = [held.enter_context(_Keys(part.log.folder, rows // len(parts))) for part in parts]
        for split in SPLITS:
            first = n_rows
            for found in _moments(parts, split, rows):
                order, piece = _ordered(parts, ranks, found)
                n_rows += len(order)
                n_queries += _write_piece(parts, start, writer, found, order, piece, n_queries)
                tables = [
                    each.take(at.stop - at.start) for each, at in zip(told, found, strict=True)
                ]
                keys.write_table(pa.concat_tables(tables).take(order))
            ranges[split] = (first, n_rows)
    return ranges


def _moments(parts: Sequence[Part], split: str, rows: int) -> Iterator[list[slice]]:
    """Each part's exposures of some moments of a split, in order; a moment is never divided."""
    ranges = [part.log.ranges[split] for part in parts]
    times = [
        part.log["exposures/time"][first:last]
        for part, (first, last) in zip(parts, ranges, strict=True)
    ]
    step = max(rows // len(parts), 1)
    borders = np.unique(np.concatenate([each[::step] for each in times]))[:: len(parts)][1:]
    ends = [0] * len(parts)
    for border in [*borders, None]:
        begins = ends
        ends = [
            len(each) if border is None else int(np.searchsorted(each, border)) for each in times
        ]
        if ends != begins:
            yield [
                slice(first + begin, first + end)
                for (first, _), begin, end in zip(ranges, begins, ends, strict=True)
            ]


def _ordered(
    parts: Sequence[Part], ranks: NDArray[np.int32], found: Sequence[slice]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The order of exposures that lie part by part, and the part of each, before it is ordered."""
    times, users = [], []
    for part, at in zip(parts, found, strict=True):
        query = part.log["exposures/query"][at]
        own = np.zeros(len(query), dtype=np.int32)
        own[query >= 0] = part.log["queries/user"][query[query >= 0]]
        users.append(ranks[part.users[own]])
        times.append(part.log["exposures/time"][at])
    # Of one user and moment the part has them in order already.
    order = np.lexsort((np.concatenate(users), np.concatenate(times)))
    sizes = [at.stop - at.start for at in found]
    return order, np.repeat(np.arange(len(parts), dtype=np.int32), sizes)


def _write_piece(
    parts: Sequence[Part],
    start: NDArray[np.int64],
    writer: Writer,
    found: Sequence[slice],
    order: NDArray[np.int64],
    piece: NDArray[np.int32],
    n_queries: int,
) -> int:
    """Write exposures and their queries; how many queries there were."""
    pairs = list(zip(parts, found, strict=True))
    own = np.concatenate([part.log["exposures/query"][at] for part, at in pairs])[order]
    whose = piece[order]
    new = own >= 0
    new[1:] &= (own[1:] != own[:-1]) | (whose[1:] != whose[:-1])
    for name, values in _queries(parts, start, whose[new], own[new]).items():
        writer.append(name, values)
    number = np.where(own >= 0, np.cumsum(new) + (n_queries - 1), -1).astype(np.int32)
    for name in parts[0].log.arrays:
        if name == "exposures/query":
            writer.append(name, number)
        elif name.startswith("exposures/"):
            each = [_whole(part, name, part.log[name][at]) for part, at in pairs]
            writer.append(name, np.concatenate(each)[order])
    return int(new.sum())


def _queries(
    parts: Sequence[Part], start: NDArray[np.int64], whose: Array, own: Array
) -> Mapping[str, Array]:
    """Arrays of the queries that have the numbers ``own`` in the parts ``whose``."""
    arrays = {
        name: np.zeros(len(own), dtype=parts[0].log[name].dtype)
        for name in parts[0].log.arrays
        if name.startswith("queries/")
    }
    for place in np.unique(whose):
        part, here = parts[place], np.flatnonzero(whose == place)
        number = own[here]
        user = part.log["queries/user"][number]
        row = part.users[user]
        past = part.log["queries/end"][number] - part.log["users/start"][user]
        arrays["queries/user"][here] = row
        arrays["queries/time"][here] = part.log["queries/time"][number]
        arrays["queries/end"][here] = start[row] + past
    return arrays


class _Keys:
    """Reads a part's names of exposures from the first to the last, some rows at a time."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._file = pq.ParquetFile(folder / "keys" / "exposures.parquet")
        self._batches = self._file.iter_batches(max(rows, 1))
        self._left = self._file.schema_arrow.empty_table()

    def take(self, n: int) -> pa.Table:
        while len(self._left) < n:
            more = pa.Table.from_batches([next(self._batches)])
            self._left = pa.concat_tables([self._left, more])
        taken, self._left = self._left.slice(0, n), self._left.slice(n)
        return taken

    def __enter__(self) -> "_Keys":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
