"""Relations to a folder of memory-mapped arrays: what training and serving read, and nothing else.

Layout (n exposures, q queries, I items, U users, H history events, X distinct texts, G titles with
gold; row 0 of items, users and texts is the unknown one)::

    items/     id [I+1]  fields [I+1, C]  numbers [I+1, K]  traits [I+1, A]  text [I+1]
    users/     id [U+1]  fields [U+1, C]  numbers [U+1, K]  profile [U+1, P]  split [U+1]
               start [U+2]  many [U+1, V]  of V values in lists, if the shop has any
    history/   item [H]  action [H]  time [H]                  sorted by user row, then time
    shown/     item [E]  time [E]  start [U+2]                 likewise; if the users have profiles
    texts/     tokens [X+1, L, F]
    titles/    text [G]  item [G]  split [G]  tags [G, A, L]  values [G, V], -1 unknown
    queries/   user [q]  end [q]  time [q]    one user at one moment; its history ends at end
    exposures/ item [n]  query [n]  time [n]  weight [n]  fields [n, C]  numbers [n, K]
               labels [n, S]  value [n], NaN missing, if the shop names one
               delay_h [n, S]  watched_h [n, S], NaN missing, if a task's loss asks for them
    earlier/   item [e]  fold [e]  labels [e, S]  mass [e, 4]   exposures before those of the log,
               alike ones together, if the shop goes on after a run (see `MASSES`)
    keys/      items.parquet  users.parquet  exposures.parquet  titles.parquet
               the shop's own names for the rows, and the gold spans of the titles
"""

import contextlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from daogou.errors import ArtifactError

SPLITS: Final = ("train", "validation", "test")
NO_SPLIT: Final = 9  # a row that no split may use
KEY_FILES: Final = ("items.parquet", "users.parquet", "titles.parquet", "exposures.parquet")
_LONGEST_LIST: Final = 1 << 24  # bytes of store.json
_ARRAY: Final = re.compile(r"[a-z]+/[a-z_]+")
_DTYPES: Final = frozenset(["bool", "float32", "float64", *(f"int{n}" for n in (8, 16, 32, 64)),
                            *(f"uint{n}" for n in (8, 16, 32, 64))])  # fmt: skip
FOLDS: Final = 5  # of users, for what is counted of labels
HALF_LIVES_DAYS: Final = (14.0, 3.0)  # of "taken lately" and "taken just now"
# What earlier exposures come to at training's end: weighed and faded, faded, and in each half-life.
MASSES: Final = ("weight", "worth", *HALF_LIVES_DAYS)
Array = NDArray[Any]
Ranges = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Store:
    """An opened store. Arrays are memory-mapped and read-only."""

    folder: Path
    arrays: Mapping[str, Array]
    ranges: Mapping[str, tuple[int, int]]  # split -> first and one-past-last exposure
    taught: "Store | None" = None  # the store of the training, where this is of other tables

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    @property
    def n_items(self) -> int:
        """Products in the catalogue; their rows are 1 to ``n_items``."""
        return len(self.arrays["items/id"]) - 1

    @property
    def n_users(self) -> int:
        """Known users; their rows are 1 to ``n_users``."""
        return len(self.arrays["users/id"]) - 1

    @cached_property
    def catalogue(self) -> pa.Table:
        """The catalogue as the shop wrote it, product of row ``r`` at ``r - 1``.

        The first column is the key as text: ``item``, unless a column of the shop has that name.
        """
        return self._keys("items")

    @cached_property
    def item_keys(self) -> list[str]:
        """The shop's own ids as text; the unknown row's is empty."""
        return ["", *self.catalogue.column(0).to_pylist()]

    @cached_property
    def item_rows(self) -> dict[str, int]:
        """Row of each product by the shop's own id."""
        return {key: row for row, key in enumerate(self.item_keys) if row}

    @cached_property
    def user_rows(self) -> dict[str, int]:
        """Row of each user by the shop's own id."""
        keys = self._keys("users")["user"].to_pylist()
        return {key: row for row, key in enumerate(keys, start=1)}

    @cached_property
    def titles(self) -> pa.Table:
        """``text``, gold ``spans`` and ``annotated`` attributes of the titles, in row order."""
        return self._keys("titles")

    @cached_property
    def strongest(self) -> int:
        """The last kind of event in the order of the funnel that the history of training has."""
        if self.taught is not None:
            return self.taught.strongest
        times = self.arrays["exposures/time"][slice(*self.ranges["train"])]
        early = self.arrays["history/time"] < times.max(initial=0)
        return int(self.arrays["history/action"][early].max(initial=0))

    def exposure_keys(self, split: str, columns: Sequence[str] | None = None) -> pa.Table:
        """``id``, ``user``, ``item`` and ``request`` of a split's exposures, in store order.

        Only some of the ``columns`` if that is all that is wanted: of a large log they are long.
        """
        return self.exposure_keys_of(np.arange(*self.ranges[split]), columns)

    def exposure_keys_of(self, rows: Array, columns: Sequence[str] | None = None) -> pa.Table:
        """The same of these rows, in their order; of the file only pieces with some are read."""
        path = self.folder / "keys" / "exposures.parquet"
        in_order = np.sort(rows)
        found = []
        with _readable(path), pq.ParquetFile(path) as file:
            ends = np.cumsum(
                [0, *(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))]
            )
            places = np.searchsorted(in_order, ends)
            for i, (first, last) in enumerate(itertools.pairwise(places)):
                if first < last:
                    piece = file.read_row_group(i, columns)
                    piece.validate(full=True)
                    found.append(piece.take(in_order[first:last] - ends[i]))
            schema = file.schema_arrow
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        table = pa.concat_tables(found) if found else schema.empty_table()
        if (in_order == rows).all():
            return table
        return table.take(np.argsort(np.argsort(rows, kind="stable"), kind="stable"))

    def _keys(self, name: str) -> pa.Table:
        path = self.folder / "keys" / f"{name}.parquet"
        with _readable(path):
            table = pq.read_table(path)
            table.validate(full=True)  # texts that are no UTF-8 would be found by whoever asks
        return table

    def history_slice(self, user_row: int) -> slice:
        """Where a user's events lie in the ``history`` arrays."""
        start = self.arrays["users/start"]
        return slice(int(start[user_row]), int(start[user_row + 1]))


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say of a file of keys that it cannot be read, if the block finds that."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); compile again") from None


def pieces(first: int, last: int, size: int = 2**22) -> list[slice]:
    """Rows from ``first`` to ``last`` in slices that are counted one by one, in bounded memory.

    >>> pieces(3, 8, 2)
    [slice(3, 5, None), slice(5, 7, None), slice(7, 8, None)]
    """
    return [slice(at, min(at + size, last)) for at in range(first, last, size)]


def open_store(folder: Path, keys: Sequence[str] = KEY_FILES) -> Store:
    """Open a compiled store; refuses one that is unfinished or whose files do not fit.

    ``keys`` are the files that have to lie in its folder of that name.
    """
    manifest = folder / "store.json"
    if not manifest.exists():
        raise ArtifactError(
            f"{folder}: no store.json, so the store is unfinished; compile it again"
        )
    if manifest.stat().st_size > _LONGEST_LIST:
        raise ArtifactError(f"{manifest}: longer than any list of arrays; compile the store again")
    try:
        document = json.loads(manifest.read_bytes())
        listed = {name: (str(of), [int(n) for n in shape])
                  for name, (of, shape) in document["arrays"].items()}  # fmt: skip
        ranges = {split: (int(at[0]), int(at[1])) for split, at in document["ranges"].items()}
        n_exposures = listed["exposures/item"][1][0]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{manifest}: damaged ({error}); compile the store again") from None
    if not all(0 <= first <= last <= n_exposures for first, last in ranges.values()):
        raise ArtifactError(f"{manifest}: damaged (ranges {ranges} of {n_exposures} exposures)")
    missing = [name for name in keys if not (folder / "keys" / name).exists()]
    if missing:
        raise ArtifactError(f"{folder}/keys: no {', '.join(missing)}; compile the store again")
    arrays = {name: _opened(folder, name, *of) for name, of in listed.items()}
    return Store(folder, arrays, ranges)


def _opened(folder: Path, name: str, dtype: str, shape: list[int]) -> Array:
    """An array of a store, mapped; ArtifactError if it is not as the store's list has it."""
    path = folder / f"{name}.npy"
    if not _ARRAY.fullmatch(name) or dtype not in _DTYPES or min(shape, default=-1) < 0:
        raise ArtifactError(
            f"{folder / 'store.json'}: {name!r}, {dtype} {shape}, is no array of a store; compile "
            "it again"
        )
    try:
        if 0 in shape:
            return np.zeros(shape, dtype)
        # As a plain array of the mapped bytes, which is sooner read.
        array: Array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); compile again") from None
    if str(array.dtype) != dtype or list(array.shape) != shape:
        raise ArtifactError(
            f"{path}: {array.dtype} {list(array.shape)}, the store says {dtype} {shape}; "
            "compile the store again"
        )
    return array


def split_code(name: str | None) -> int:
    """Number of a split in the store; a row without one belongs to none."""
    return SPLITS.index(name) if name in SPLITS else NO_SPLIT
