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
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from daogou.errors import ArtifactError, DataError
from daogou.features.gazetteer import Entry, Gazetteer, spelt
from daogou.features.numeric import Numeric
from daogou.features.tags import find_values, tags_of
from daogou.features.tokens import Span, tokenise
from daogou.features.transform import Fields, Transform, text_of, told_attributes
from daogou.features.vocab import Vocab
from daogou.schema import Shop
from daogou.tables.credit import delayed
from daogou.tables.engine import Engine, name_of, quoted

SPLITS: Final = ("train", "validation", "test")
_SPANS: Final = pa.list_(
    pa.struct({"start": pa.int64(), "end": pa.int64(), "attribute": pa.string()})
)
NO_SPLIT: Final = 9  # a row that no split may use
KEY_FILES: Final = ("items.parquet", "users.parquet", "titles.parquet", "exposures.parquet")
LEAST_SHARE: Final = 0.5  # of the titles in which a value stood, those that it was meant in
_UNSEEN: Final = Entry(hits=1)  # a value that no training title has is taken at its word
_LONGEST_LIST: Final = 1 << 24  # bytes of store.json
_ARRAY: Final = re.compile(r"[a-z]+/[a-z_]+")
_DTYPES: Final = frozenset(["bool", "float32", "float64", *(f"int{n}" for n in (8, 16, 32, 64)),
                            *(f"uint{n}" for n in (8, 16, 32, 64))])  # fmt: skip
_TEXTS: Final = 65_536  # texts encoded at a time
FOLDS: Final = 5  # of users, for what is counted of labels
HALF_LIVES_DAYS: Final = (14.0, 3.0)  # of "taken lately" and "taken just now"
# What earlier exposures come to at training's end: weighed and faded, faded, and in each half-life.
MASSES: Final = ("weight", "worth", *HALF_LIVES_DAYS)
_KEY, _TEXT, _SPLIT = "@key", "@text", "@split"  # ours, beside columns that a shop names freely
_EXPOSURE_KEYS: Final = pa.schema(
    [(name, pa.string()) for name in ("id", "user", "item", "request")]
)
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


def compile_store(
    engine: Engine,
    shop: Shop,
    transform: Transform,
    folder: Path,
    *,
    log: "LogWriter | None" = None,
) -> Store:
    """Write the prepared relations as arrays under ``folder`` and open them.

    Written beside and renamed when whole, so a half-written store is never taken for one. ``log``
    writes histories and exposures and gives the range of each split; None does it here.
    """
    with _written(folder) as writer:
        (writer.folder / "keys").mkdir(parents=True)
        _number_rows(engine, shop)
        _write_texts(engine, shop, transform, writer)
        _write_items(engine, shop, transform, writer)
        _write_users(engine, shop, transform, writer)
        ranges = (log or _write_log)(engine, shop, transform, writer)
        _write_earlier(engine, transform, writer)
        _list(writer, ranges)
    return open_store(folder)


def compile_log(engine: Engine, shop: Shop, transform: Transform, folder: Path) -> None:
    """Write the arrays of some users' histories and exposures, as a part of a store.

    Rows of users and items are those of the part; ``keys/`` has the shop's own names for them.
    """
    with _written(folder) as writer:
        (writer.folder / "keys").mkdir(parents=True)
        _number_rows(engine, shop)
        for kind in ("user", "item"):
            keys = engine.table(f"SELECT {kind} FROM {kind}_rows ORDER BY row")
            pq.write_table(keys, writer.folder / "keys" / f"{kind}_rows.parquet")
        writer.append("users/start", _starts(engine, "SELECT user FROM history"))
        _list(writer, _write_log(engine, shop, transform, writer))


def _write_log(engine: Engine, shop: Shop, transform: Transform, writer: "Writer") -> Ranges:
    _write_history(engine, transform, writer)
    if transform.profile.names or transform.many.names:
        _write_shown(engine, writer)
    return _write_exposures(engine, shop, transform, writer)


def _list(writer: "Writer", ranges: Ranges) -> None:
    """The last file of a store."""
    writer.finish()
    document = {"arrays": writer.arrays, "ranges": ranges}
    (writer.folder / "store.json").write_text(json.dumps(document, indent=1))


def link_store(folder: Path, into: Path) -> None:
    """A store a second time; its files have two names where the disk can: none is written again."""
    shutil.copytree(folder, into, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def rewrite_store(store: Store, folder: Path, arrays: Mapping[str, Iterable[Array]]) -> Store:
    """A store under ``folder`` like another, but that some arrays are these, in pieces of rows."""
    with _written(folder) as writer:
        link_store(store.folder, writer.folder)
        listed = writer.folder / "store.json"
        document = json.loads(listed.read_text())
        # Away with the second names first: what is written through one is written for both.
        listed.unlink()
        for name, pieces in arrays.items():
            (writer.folder / f"{name}.npy").unlink(missing_ok=True)
            for piece in pieces:
                writer.append(name, piece)
        writer.finish()
        document["arrays"] |= writer.arrays
        listed.write_text(json.dumps(document, indent=1))
    return open_store(folder)


@contextlib.contextmanager
def _written(folder: Path) -> Iterator["Writer"]:
    """A writer of a store beside ``folder``, which becomes it when the block ends well."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    writer = Writer(partial)
    try:
        yield writer
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except OSError as error:
        raise DataError(
            f"{folder}: writing the store failed ({error.strerror or error}); nothing was kept, "
            "free some disk or give another folder"
        ) from None
    finally:
        writer.close()
        shutil.rmtree(partial, ignore_errors=True)  # gone already if all went well


@dataclass(frozen=True)
class Writer:
    """Writes a store's arrays piece by piece, so that none is ever whole in memory, and lists them.

    Written as files and not through a memory map: on a full disk a write to a map kills the
    process, and a map's pages count as the process's own until they are flushed.
    """

    folder: Path
    arrays: dict[str, tuple[str, list[int]]] = field(default_factory=dict)
    files: dict[str, BinaryIO] = field(default_factory=dict)

    def append(self, name: str, values: Array) -> None:
        """More rows of the array, which begins with the first of them."""
        if name not in self.files:
            path = self.folder / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            self.files[name] = path.open("wb")
            self.arrays[name] = (str(values.dtype), [0, *values.shape[1:]])
            self._head(name)
        dtype, shape = self.arrays[name]
        assert dtype == str(values.dtype) and shape[1:] == list(values.shape[1:])
        self.files[name].write(np.ascontiguousarray(values).data)
        shape[0] += len(values)

    def finish(self) -> None:
        """Say in each file how long its array became; what was written can be read."""
        for name, file in self.files.items():
            file.seek(0)
            self._head(name)
            file.seek(0, os.SEEK_END)
            file.flush()

    def close(self) -> None:
        """Let go of the files; a disk that is full now was full before and has been told of."""
        for file in self.files.values():
            with contextlib.suppress(OSError):
                file.close()

    def read(self, name: str) -> Array:
        """An array that is finished, mapped."""
        shape = self.arrays[name][1]
        path = self.folder / f"{name}.npy"
        array: Array = np.load(path, mmap_mode="r") if 0 not in shape else np.zeros(shape)
        return array

    def _head(self, name: str) -> None:
        dtype, shape = self.arrays[name]
        # Always as long: the format leaves room for the rows to grow.
        head = {"descr": dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
        write_array_header_1_0(self.files[name], head | {"shape": tuple(shape)})


def _number_rows(engine: Engine, shop: Shop) -> None:
    """Tables ``item_rows`` and ``user_rows``: the shop's keys and our row numbers.

    Rows follow the shop's tables; keys that only events know come after them.
    """
    for kind, table in (("item", shop.items), ("user", shop.users)):
        known = f"SELECT {name_of(table.key)} AS {kind}, 0 AS late FROM {kind}s" if table else None
        from_log = (
            f"SELECT DISTINCT {kind}, 1 AS late FROM "
            f"(SELECT {kind} FROM exposures UNION ALL SELECT {kind} FROM history UNION ALL "
            f"SELECT {kind} FROM earlier) "
            f"WHERE {kind} IS NOT NULL"
        )
        if known and table:
            from_log += f" AND {kind} NOT IN (SELECT {name_of(table.key)} FROM {kind}s)"
        parts = f"{known} UNION ALL {from_log}" if known else from_log
        engine.run(
            f"CREATE OR REPLACE TABLE {kind}_rows AS SELECT {kind}, "
            f"row_number() OVER (ORDER BY late, {kind})::INTEGER AS row FROM ({parts})"
        )


def _write_texts(engine: Engine, shop: Shop, transform: Transform, writer: Writer) -> None:
    """Distinct texts, each encoded once; titles with gold spans and their tags."""
    empty = "CREATE OR REPLACE TABLE item_text AS SELECT NULL AS item, NULL AS text WHERE false"
    texts: list[str] = []
    length, channels = 1, 1
    if transform.text and shop.items:
        engine.run(
            f"CREATE OR REPLACE TABLE item_text AS SELECT {name_of(shop.items.key)} AS item, "
            f"{text_of(transform.text_columns, 'items')} AS text FROM items"
        )
        texts = [row[0] for row in engine.rows("SELECT DISTINCT text FROM item_text ORDER BY text")]
        length, channels = transform.text.length, transform.text.n_channels
    else:
        engine.run(empty)
    numbered = pa.array(range(1, len(texts) + 1), pa.int32())
    engine.add("text_rows", pa.table({"text": pa.array(texts, pa.string()), "row": numbered}))
    writer.append("texts/tokens", np.zeros((1, length, channels), dtype=np.int32))
    for at in range(0, len(texts), _TEXTS):
        assert transform.text is not None
        writer.append("texts/tokens", transform.text.encode(texts[at : at + _TEXTS]))
    _write_titles(engine, shop, transform, length, writer)


def _write_titles(
    engine: Engine, shop: Shop, transform: Transform, length: int, writer: Writer
) -> None:
    """Titles with gold: that of people, or what the products' columns tell of them."""
    attributes = transform.attributes
    rows = _title_rows(engine, shop, transform)
    classes = np.full((len(rows), len(transform.values.names)), -1, dtype=np.int16)
    for j, (name, coder) in enumerate(
        zip(transform.values.names, transform.values.coders, strict=True)
    ):
        assert isinstance(coder, Vocab)
        held = pa.array([row.columns.get(name) for row in rows], pa.string())
        classes[:, j] = coder.encode(held).astype(np.int16) - 1
    tags = np.zeros((len(rows), len(attributes), length), dtype=np.int8)
    for i, row in enumerate(rows):
        try:
            tags[i] = tags_of(tokenise(row.text), row.spans, attributes, row.annotated, length)
        except DataError as error:
            raise DataError(f"items.spans: product {row.item}: {error}; correct it") from None
    keys = {
        "text": pa.array([row.text for row in rows], pa.string()),
        "spans": pa.array(
            [
                [{"start": start, "end": end, "attribute": name} for start, end, name in row.spans]
                for row in rows
            ],
            _SPANS,
        ),
        "annotated": pa.array([list(row.annotated) for row in rows], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(keys), writer.folder / "keys" / "titles.parquet")
    writer.append("titles/tags", tags)
    writer.append("titles/values", classes)
    writer.append("titles/text", np.array([row.text_row for row in rows], dtype=np.int32))
    writer.append("titles/item", np.array([row.item_row for row in rows], dtype=np.int32))
    writer.append("titles/split", np.array([split_code(row.split) for row in rows], dtype=np.int8))


@dataclass(frozen=True)
class _Title:
    """A title that something is known of."""

    text_row: int
    item_row: int
    split: str
    text: str
    item: object
    spans: list[Span]
    annotated: Sequence[str]
    columns: Mapping[str, str]  # what the product's own columns say, where they do


def _title_rows(engine: Engine, shop: Shop, transform: Transform) -> list[_Title]:
    if not (shop.items and transform.text and shop.of_family("extract")):
        return []
    items = shop.items
    told = told_attributes(engine, shop)
    spans = f"i.{name_of(items.spans)}" if items.spans else "NULL"
    annotated = f"i.{name_of(items.annotated)}" if items.annotated else "NULL"
    columns = "".join(f", i.{name_of(name)}" for name in told)
    rows = engine.rows(
        f"SELECT tr.row, ir.row, ts.split, it.text, ir.item, {spans}, {annotated}{columns} "
        f"FROM items i JOIN item_rows ir ON ir.item = i.{name_of(items.key)} "
        "JOIN item_text it ON it.item = ir.item JOIN text_rows tr ON tr.text = it.text "
        "JOIN title_split ts ON ts.item = ir.item ORDER BY ir.row"
    )
    titles = []
    for text_row, item_row, split, text, item, gold, names, *values in rows:
        known = {
            name: value for name, value in zip(told, values, strict=True) if value and value.strip()
        }
        if items.spans:
            found = [(span["start"], span["end"], span["attribute"]) for span in gold or ()]
            asked = list(names or ()) if items.annotated else list(transform.attributes)
        else:
            found = _told_spans(text, known, transform.text.gazetteer)
            asked = sorted({name for *_, name in found})
        if items.spans or known:
            titles.append(_Title(text_row, item_row, split, text, item, found, asked, known))
    return titles


def _told_spans(text: str, known: Mapping[str, str], lists: Gazetteer) -> list[Span]:
    """Where a product's values stand in its title, but for those that are mostly something else.

    A value whose word stood in more training titles of products without it than with it is an
    ordinary word or another attribute's: where it stands in a title says little.
    """
    trusted = {
        name: value
        for name, value in known.items()
        if lists.values.get(name, {}).get(spelt(value), _UNSEEN).share >= LEAST_SHARE
    }
    return find_values(text, trusted)


def _write_items(engine: Engine, shop: Shop, transform: Transform, writer: Writer) -> None:
    join, select, shown = "", "", ""
    names: dict[str, None] = {}
    if shop.items:
        key = name_of(shop.items.key)
        join = f"LEFT JOIN items t ON t.{key} = r.item LEFT JOIN item_text x ON x.item = r.item "
        join += "LEFT JOIN text_rows tr ON tr.text = x.text"
        present = engine.columns("items")
        read = transform.items, transform.traits.kept(present)
        select = ", ".join(fields.select("t") for fields in read if fields.names)
        told = (shop.items.text, shop.items.columns, shop.items.attributes, shop.items.shown)
        names = dict.fromkeys(name for part in told for name in part)
        shown = ", ".join(f"t.{name_of(name)}" for name in names if name in present)
    text_row = "coalesce(tr.row, 0)" if shop.items else "0::INTEGER"
    sql = (
        f"SELECT CAST(r.item AS VARCHAR) AS {name_of(_KEY)}, {text_row} AS {name_of(_TEXT)}"
        f"{', ' + select if select else ''} FROM item_rows r {join} ORDER BY r.row"
    )
    writer.append("items/id", np.zeros(1, dtype=np.int32))
    writer.append("items/text", np.zeros(1, dtype=np.int32))
    _append_fields(writer, "items", transform.items, {}, 1)
    writer.append("items/traits", transform.traits.encode({}, 1)[0])
    for batch in engine.batches(sql):
        writer.append("items/id", transform.item_ids.encode(batch[_KEY]))
        writer.append("items/text", batch[_TEXT].to_numpy())
        named = _named(batch)
        _append_fields(writer, "items", transform.items, named, batch.num_rows)
        writer.append("items/traits", transform.traits.encode(named, batch.num_rows)[0])
    key_name = name_of(_KEY if "item" in names else "item")
    catalogue = engine.table(
        f"SELECT CAST(r.item AS VARCHAR) AS {key_name}{', ' + shown if shown else ''} "
        f"FROM item_rows r {join} ORDER BY r.row"
    )
    pq.write_table(catalogue, writer.folder / "keys" / "items.parquet")


def _write_users(engine: Engine, shop: Shop, transform: Transform, writer: Writer) -> None:
    join = f"LEFT JOIN users t ON t.{name_of(shop.users.key)} = r.user" if shop.users else ""
    selects = [
        fields.select("t") for fields in (transform.users, transform.profile) if fields.names
    ]
    own = [f"CAST(r.user AS VARCHAR) AS {name_of(_KEY)}", f"s.split AS {name_of(_SPLIT)}"]
    own += [
        f"TRY_CAST(t.{name_of(name)} AS VARCHAR[]) AS {name_of(name)}"
        for name in transform.many.names
    ]
    columns = ", ".join([*own, *selects])
    sql = (
        f"SELECT {columns} FROM user_rows r {join} "
        "LEFT JOIN user_split s ON s.user = r.user ORDER BY r.row"
    )
    profile = transform.profile
    writer.append("users/id", np.zeros(1, dtype=np.int32))
    writer.append("users/split", np.full(1, NO_SPLIT, dtype=np.int8))
    writer.append("users/profile", np.full((1, len(profile.names)), -1, dtype=np.int16))
    _append_fields(writer, "users", transform.users, {}, 1)
    if transform.many.names:
        n_values = sum(coder.n_rows - 1 for coder in transform.many.coders)
        writer.append("users/many", np.full((1, n_values), -1, dtype=np.int8))
    for batch in engine.batches(sql):
        named = _named(batch)
        classes = np.zeros((batch.num_rows, len(profile.names)), dtype=np.int16)
        for j, (name, coder) in enumerate(zip(profile.names, profile.coders, strict=True)):
            classes[:, j] = coder.encode(named[name]) - 1  # type: ignore[union-attr]
        splits = [split_code(name) for name in batch[_SPLIT].to_pylist()]
        writer.append("users/id", transform.user_ids.encode(batch[_KEY]))
        writer.append("users/split", np.array(splits, dtype=np.int8))
        writer.append("users/profile", classes)
        if transform.many.names:
            lists = zip(transform.many.names, transform.many.coders, strict=True)
            held = [_held(coder, named[name]) for name, coder in lists]
            writer.append("users/many", np.concatenate(held, axis=1))
        _append_fields(writer, "users", transform.users, named, batch.num_rows)
    keys = engine.table("SELECT CAST(user AS VARCHAR) AS user FROM user_rows ORDER BY row")
    pq.write_table(keys, writer.folder / "keys" / "users.parquet")
    writer.append("users/start", _starts(engine, "SELECT user FROM history"))


def _starts(engine: Engine, users: str) -> NDArray[np.int64]:
    """Where each user row's events begin, ``[U + 2]``; ``users`` selects the user of each."""
    counts = engine.table(
        f"SELECT count(h.user) AS n FROM user_rows r LEFT JOIN ({users}) h ON h.user = r.user "
        "GROUP BY r.row ORDER BY r.row"
    )["n"].to_numpy()
    return np.concatenate([[0, 0], np.cumsum(counts)]).astype(np.int64)


def _held(coder: Vocab | Numeric, lists: pa.Array) -> NDArray[np.int8]:
    """Which values each list holds, ``[n, V]``: 1, 0, or -1 where there is no list."""
    assert isinstance(coder, Vocab)
    held = np.zeros((len(lists), coder.n_rows - 1), dtype=np.int8)
    held[lists.is_null().to_numpy(zero_copy_only=False)] = -1
    rows = coder.encode(pc.list_flatten(lists))
    whose = pc.list_parent_indices(lists).to_numpy()
    held[whose[rows > 0], rows[rows > 0] - 1] = 1
    return held


def _write_history(engine: Engine, transform: Transform, writer: Writer) -> None:
    codes = " ".join(f"WHEN {quoted(name)} THEN {k}" for k, name in enumerate(transform.actions))
    code = f"CASE h.action {codes} END" if codes else "0"
    sql = (
        f"SELECT i.row AS item, CAST({code} AS TINYINT) AS action, epoch_us(h.time) AS time "
        "FROM history h JOIN user_rows u ON u.user = h.user JOIN item_rows i ON i.item = h.item "
        "ORDER BY u.row, h.time, i.row, h.action"
    )
    for name, dtype in (("item", np.int32), ("action", np.int8), ("time", np.int64)):
        writer.append(f"history/{name}", np.zeros(0, dtype=dtype))
    for batch in engine.batches(sql):
        for name in ("item", "action", "time"):
            writer.append(f"history/{name}", batch[name].to_numpy())


def _write_shown(engine: Engine, writer: Writer) -> None:
    """What each user was shown, whatever came of it; of a log without times nothing."""
    every = "SELECT user, item, time FROM exposures UNION ALL SELECT user, item, time FROM earlier"
    shown = f"FROM ({every}) e JOIN item_rows i ON i.item = e.item"
    known = "WHERE e.time IS NOT NULL AND e.user IS NOT NULL"
    for name, dtype in (("item", np.int32), ("time", np.int64)):
        writer.append(f"shown/{name}", np.zeros(0, dtype=dtype))
    sql = (
        f"SELECT i.row AS item, epoch_us(e.time) AS time {shown} "
        f"JOIN user_rows u ON u.user = e.user {known} ORDER BY u.row, e.time, i.row"
    )
    for batch in engine.batches(sql):
        for name in ("item", "time"):
            writer.append(f"shown/{name}", batch[name].to_numpy())
    writer.append("shown/start", _starts(engine, f"SELECT e.user {shown} {known}"))


def _write_exposures(engine: Engine, shop: Shop, transform: Transform, writer: Writer) -> Ranges:
    timed = bool(shop.events and shop.events.time)
    source, ranges = _placed(engine, timed)
    rows_of = {
        kind: engine.table(f"SELECT {kind} FROM {kind}_rows ORDER BY row")[kind].combine_chunks()
        for kind in ("user", "item")
    }
    own = ["rowid AS place", "user", "item", "epoch_us(time) AS time", "weight", "id"]
    own += ["CAST(user AS VARCHAR) AS user_key", "CAST(item AS VARCHAR) AS item_key"]
    own += ["request"] if timed else ["request", "query"]
    own += [name_of("label_" + stage) for stage in transform.stages]
    shown = engine.columns(source)
    if transform.value:  # another shop's tables may lack what the run learnt
        own.append("value" if "value" in shown else "NULL::DOUBLE AS value")
    awaited = [stage for stage in delayed(shop) if stage in transform.stages]
    own += [name_of(prefix + stage) for prefix in ("delay_", "watched_") for stage in awaited]
    # Another shop's tables may lack a column that the run read; it is missing then.
    there = [name for name in transform.context.names if f"context_{name}" in shown]
    context = transform.context.kept(there).select(source, "context_")
    sql = f"SELECT {', '.join([*own, context] if context else own)} FROM {source}"
    queries = _Queries(writer, {first for first, _ in ranges.values()})
    with exposure_keys(writer) as parquet:
        for batch in _or_empty(engine, sql):
            places = np.arange(queries.n_rows, queries.n_rows + batch.num_rows)
            assert np.array_equal(batch["place"].to_numpy(), places), "read out of order"
            row = {kind: _rows_in(rows_of[kind], batch[kind]) for kind in rows_of}
            time = batch["time"].fill_null(0).to_numpy()
            known = batch["query"].to_numpy() if not timed else None
            writer.append("exposures/item", row["item"])
            writer.append(
                "exposures/query", queries.number(row["user"], time, batch["request"], known)
            )
            writer.append("exposures/time", time)
            writer.append("exposures/weight", batch["weight"].to_numpy().astype(np.float32))
            labels = np.zeros((batch.num_rows, len(transform.stages)), dtype=np.int8)
            for j, stage in enumerate(transform.stages):
                labels[:, j] = batch["label_" + stage].fill_null(-1).to_numpy()
            writer.append("exposures/labels", labels)
            if transform.value:
                values = batch["value"].cast(pa.float32()).fill_null(np.nan).to_numpy()
                writer.append("exposures/value", values)
            for prefix in ("delay_", "watched_") if awaited else ():
                hours = np.full(labels.shape, np.nan, dtype=np.float32)
                for stage in awaited:
                    column = batch[prefix + stage].fill_null(np.nan)
                    hours[:, transform.stages.index(stage)] = column.to_numpy()
                writer.append(f"exposures/{prefix}h", hours)
            named = {name.removeprefix("context_"): each for name, each in _named(batch).items()}
            _append_fields(writer, "exposures", transform.context, named, batch.num_rows)
            told = [batch[name] for name in ("id", "user_key", "item_key", "request")]
            parquet.write_batch(pa.record_batch(told, schema=_EXPOSURE_KEYS))
    return ranges


def exposure_keys(writer: Writer) -> pq.ParquetWriter:
    """The file of the shop's own names for the exposures, to be written in their order."""
    path = writer.folder / "keys" / "exposures.parquet"
    # Ids and requests are nearly all different: a dictionary of them costs more than it saves.
    return pq.ParquetWriter(path, _EXPOSURE_KEYS, use_dictionary=["user", "item"])


def _write_earlier(engine: Engine, transform: Transform, writer: Writer) -> None:
    """What taught before this log's exposures, if any do: products, folds of users and labels."""
    taught = "(SELECT count(*) FROM exposures WHERE split = 'train')"
    if not engine.value(f"SELECT count(*) * {taught} FROM earlier"):
        return
    labels = ", ".join(f"e.{name_of('label_' + stage)}" for stage in transform.stages)
    end = "(SELECT max(time) FROM exposures WHERE split = 'train')"
    age = f"((epoch_us({end}) - epoch_us(e.time)) / 86400000000)"
    each = ["e.weight * e.worth", "e.worth"]
    each += [f"pow(0.5, {age} / {half})" for half in HALF_LIVES_DAYS]
    # Of decimals, whose sum is the same in any order.
    masses = ", ".join(
        f"sum(({one})::DECIMAL(30, 9))::DOUBLE AS mass_{place}" for place, one in enumerate(each)
    )
    sql = (
        "SELECT coalesce(i.row, 0)::INTEGER AS item, "
        f"(coalesce(u.row, e.rowid) % {FOLDS})::TINYINT AS fold, {labels}, {masses} "
        "FROM earlier e LEFT JOIN item_rows i ON i.item = e.item "
        "LEFT JOIN user_rows u ON u.user = e.user GROUP BY ALL ORDER BY ALL"
    )
    for batch in engine.batches(sql):
        writer.append("earlier/item", batch["item"].to_numpy())
        writer.append("earlier/fold", batch["fold"].to_numpy())
        known = [batch["label_" + stage].fill_null(-1).to_numpy() for stage in transform.stages]
        writer.append("earlier/labels", np.stack(known, axis=1).astype(np.int8))
        mass = [batch[f"mass_{place}"].to_numpy() for place in range(len(MASSES))]
        writer.append("earlier/mass", np.stack(mass, axis=1).astype(np.float32))


def _placed(engine: Engine, timed: bool) -> tuple[str, Ranges]:
    """A table of the exposures in the order of the store, and the range of each split.

    Reading a table as it lies spares a sort; a split by time leaves the exposures in order.
    """
    found = {
        split: (n, first, last)
        for split, n, first, last in engine.rows(
            "SELECT split, count(*), min(exposure), max(exposure) FROM exposures GROUP BY split"
        )
    }
    ends = np.cumsum([0, *(found.get(split, (0,))[0] for split in SPLITS)]).tolist()
    ranges = {split: (ends[i], ends[i + 1]) for i, split in enumerate(SPLITS)}
    lies = {split: (first, last + 1) for split, (_, first, last) in found.items()}
    if timed and all(lies[split] == ranges.get(split) for split in lies):
        return "exposures", ranges
    order = "CASE e.split WHEN 'train' THEN 0 WHEN 'validation' THEN 1 ELSE 2 END, e.exposure"
    query, join = "", ""
    if not timed:
        # In order of time the exposures of a query stand together; without, they are looked up.
        query = ", coalesce(query, -1) AS query"
        join = (
            "LEFT JOIN (SELECT split, user, request, row_number() OVER (ORDER BY min(place)) - 1 "
            "AS query FROM (SELECT split, user, request, "
            f"row_number() OVER (ORDER BY {order}) AS place FROM exposures e "
            "WHERE split IS NOT NULL AND user IS NOT NULL) GROUP BY ALL) q ON q.split = e.split "
            "AND q.user = e.user AND q.request IS NOT DISTINCT FROM e.request"
        )
    engine.run(
        f"CREATE OR REPLACE TABLE placed AS SELECT e.*{query} FROM exposures e {join} "
        f"WHERE e.split IS NOT NULL ORDER BY {order}"
    )
    return "placed", ranges


LogWriter = Callable[[Engine, Shop, Transform, Writer], Ranges]


@dataclass
class _Queries:
    """Numbers the queries, a user at a moment in a request, as their exposures come by in order.

    The history of a query ends at the last event strictly before it: no sample sees itself.
    """

    writer: Writer
    breaks: set[int]  # first exposures of the splits: no query goes on into the next split
    n_rows: int = 0
    n_queries: int = 0
    last: tuple[Array, Array, pa.Array] | None = None

    def __post_init__(self) -> None:
        self.writer.finish()
        self.start = self.writer.read("users/start")
        self.events = self.writer.read("history/time")

    def number(
        self, user: Array, time: Array, request: pa.Array, known: Array | None
    ) -> NDArray[np.int32]:
        """Query of each exposure, int32 ``[n]``, -1 without a user; the new ones are written."""
        if known is None:
            new = self._differs(user, time, request) & (user > 0)
            query = np.where(user > 0, np.cumsum(new) + (self.n_queries - 1), -1)
        else:
            highest = np.maximum.accumulate(np.concatenate([[self.n_queries - 1], known]))
            new, query = highest[1:] > highest[:-1], known
        self.n_rows += len(user)
        self.n_queries += int(new.sum())
        user, time = user[new], time[new]
        self.writer.append("queries/user", user)
        self.writer.append("queries/time", time)
        self.writer.append("queries/end", first_from(self.events, self.start, user, time))
        return query.astype(np.int32)

    def _differs(self, user: Array, time: Array, request: pa.Array) -> NDArray[np.bool_]:
        """Where an exposure is of another query than the one before it."""
        if not len(user):
            return np.zeros(0, dtype=bool)
        if self.last is None:
            self.last = user[:1], time[:1], request[:1]
        before = self.last
        self.last = user[-1:], time[-1:], request[-1:]
        users, times = (np.concatenate(pair) for pair in zip(before[:2], (user, time), strict=True))
        requests = pa.concat_arrays([before[2], request])
        known = requests.is_valid().to_numpy(zero_copy_only=False)
        other = pc.fill_null(pc.not_equal(requests[1:], requests[:-1]), False)
        new: NDArray[np.bool_] = (
            (users[1:] != users[:-1])
            | (times[1:] != times[:-1])
            | (known[1:] != known[:-1])
            | other.to_numpy(zero_copy_only=False)
        )
        new[[at - self.n_rows for at in self.breaks if 0 <= at - self.n_rows < len(new)]] = True
        return new


def first_from(events: Array, start: Array, user: Array, time: Array) -> NDArray[np.int64]:
    """Place of each user's first event that is not before the time; all at once, by halving."""
    low, high = start[user], start[user + 1]
    while (low < high).any():
        middle = (low + high) // 2
        # Where nothing is left to halve, ``middle`` may lie one past the last event.
        earlier = (low < high) & (events[np.minimum(middle, len(events) - 1)] < time)
        low, high = np.where(earlier, middle + 1, low), np.where(earlier, high, middle)
    return low


def _rows_in(keys: pa.Array, wanted: pa.Array) -> NDArray[np.int32]:
    """Row from 1 of each key, int32; 0 for a missing one."""
    found = pc.fill_null(pc.index_in(wanted, value_set=keys), -1)
    rows: NDArray[np.int32] = pc.add(found, pa.scalar(1, pa.int32())).to_numpy()
    return rows


def _or_empty(engine: Engine, sql: str) -> Iterator[pa.RecordBatch]:
    """The answer's batches; one without rows where there are none, so that arrays get a shape."""
    batch = None
    for batch in engine.batches(sql):
        yield batch
    if batch is None:
        yield pa.RecordBatch.from_pylist([], schema=engine.table(sql).schema)


def _append_fields(
    writer: Writer, kind: str, fields: Fields, columns: Mapping[str, pa.ChunkedArray], n: int
) -> None:
    rows, ranks = fields.encode(columns, n)
    writer.append(f"{kind}/fields", rows)
    writer.append(f"{kind}/numbers", ranks)


def _named(batch: pa.RecordBatch) -> dict[str, pa.ChunkedArray]:
    return {name: batch.column(i) for i, name in enumerate(batch.schema.names)}


def split_code(name: str | None) -> int:
    """Number of a split in the store; a row without one belongs to none."""
    return SPLITS.index(name) if name in SPLITS else NO_SPLIT
