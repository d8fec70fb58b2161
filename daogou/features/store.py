"""Relations to a folder of memory-mapped arrays: what training and serving read, and nothing else.

Layout (n exposures, q queries, I items, U users, H history events, X distinct texts, G titles with
gold; row 0 of items, users and texts is the unknown one)::

    items/     id [I+1]  fields [I+1, C]  numbers [I+1, K]  text [I+1]
    users/     id [U+1]  fields [U+1, C]  numbers [U+1, K]  profile [U+1, P]  split [U+1]
               start [U+2]
    history/   item [H]  action [H]  time [H]                  sorted by user row, then time
    texts/     tokens [X+1, L, F]
    titles/    text [G]  item [G]  split [G]  tags [G, A, L]
    queries/   user [q]  end [q]  time [q]    one user at one moment; its history ends at end
    exposures/ item [n]  query [n]  time [n]  weight [n]  fields [n, C]  numbers [n, K]
               labels [n, S]
    keys/      items.parquet  users.parquet  exposures.parquet  titles.parquet
               the shop's own names for the rows, and the gold spans of the titles
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from daogou.errors import ArtifactError, DataError
from daogou.features.text import tags_of, tokenise
from daogou.features.transform import Fields, Transform, text_of
from daogou.schema import Shop
from daogou.tables.engine import Engine, name_of

SPLITS: Final = ("train", "validation", "test")
_SPANS: Final = pa.list_(
    pa.struct({"start": pa.int64(), "end": pa.int64(), "attribute": pa.string()})
)
NO_SPLIT: Final = 9  # a row that no split may use
_KEY_FILES: Final = ("items.parquet", "users.parquet", "titles.parquet", "exposures.parquet")
_KEY, _TEXT, _SPLIT = "@key", "@text", "@split"  # ours, beside columns that a shop names freely
Array = NDArray[Any]


@dataclass(frozen=True)
class Store:
    """An opened store. Arrays are memory-mapped and read-only."""

    folder: Path
    arrays: Mapping[str, Array]
    ranges: Mapping[str, tuple[int, int]]  # split -> first and one-past-last exposure

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
        return pq.read_table(self.folder / "keys" / "items.parquet")

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
        keys = pq.read_table(self.folder / "keys" / "users.parquet")["user"].to_pylist()
        return {key: row for row, key in enumerate(keys, start=1)}

    @cached_property
    def titles(self) -> pa.Table:
        """``text``, gold ``spans`` and ``annotated`` attributes of the titles, in row order."""
        return pq.read_table(self.folder / "keys" / "titles.parquet")

    def exposure_keys(self, split: str) -> pa.Table:
        """``id``, ``user``, ``item`` and ``request`` of a split's exposures, in store order."""
        first, last = self.ranges[split]
        table = pq.read_table(self.folder / "keys" / "exposures.parquet")
        return table.slice(first, last - first)

    def history_slice(self, user_row: int) -> slice:
        """Where a user's events lie in the ``history`` arrays."""
        start = self.arrays["users/start"]
        return slice(int(start[user_row]), int(start[user_row + 1]))


def open_store(folder: Path) -> Store:
    """Open a compiled store; refuses one that is unfinished or whose files do not fit."""
    manifest = folder / "store.json"
    if not manifest.exists():
        raise ArtifactError(
            f"{folder}: no store.json, so the store is unfinished; compile it again"
        )
    try:
        document = json.loads(manifest.read_text())
        listed = dict(document["arrays"])
        ranges = {split: (int(at[0]), int(at[1])) for split, at in document["ranges"].items()}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ArtifactError(f"{manifest}: damaged ({error}); compile the store again") from None
    missing = [name for name in _KEY_FILES if not (folder / "keys" / name).exists()]
    if missing:
        raise ArtifactError(f"{folder}/keys: no {', '.join(missing)}; compile the store again")
    arrays: dict[str, Array] = {}
    for name, (dtype, shape) in listed.items():
        path = folder / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r") if np.prod(shape) else np.zeros(shape, dtype)
        except (OSError, ValueError, EOFError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error}); compile again") from None
        if str(array.dtype) != dtype or list(array.shape) != shape:
            raise ArtifactError(
                f"{path}: {array.dtype} {list(array.shape)}, the store says {dtype} {shape}; "
                "compile the store again"
            )
        arrays[name] = array
    return Store(folder, arrays, ranges)


def compile_store(engine: Engine, shop: Shop, transform: Transform, folder: Path) -> Store:
    """Write the prepared relations as arrays under ``folder`` and open them.

    Written beside and renamed when whole, so a half-written store is never taken for one.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    writer = _Writer(partial, {})
    try:
        (partial / "keys").mkdir(parents=True)
        _number_rows(engine, shop)
        _write_texts(engine, shop, transform, writer)
        _write_items(engine, shop, transform, writer)
        _write_users(engine, shop, transform, writer)
        _write_history(engine, transform, writer)
        ranges = _write_exposures(engine, transform, writer)
        document = {"arrays": writer.arrays, "ranges": ranges}
        (partial / "store.json").write_text(json.dumps(document, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except OSError as error:
        raise DataError(
            f"{folder}: writing the store failed ({error.strerror or error}); nothing was kept, "
            "free some disk or give another folder"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # gone already if all went well
    return open_store(folder)


@dataclass(frozen=True)
class _Writer:
    """Writes arrays and keeps the list of what it wrote."""

    folder: Path
    arrays: dict[str, tuple[str, list[int]]]

    def make(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """A new array on disk, zero everywhere."""
        path = self.folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.arrays[name] = (str(np.dtype(dtype)), list(shape))
        if 0 in shape:
            return np.zeros(shape, dtype)
        array: Array = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        _reserve(path)
        return array

    def save(self, name: str, values: Array) -> None:
        """A whole array at once."""
        self.make(name, values.shape, values.dtype)[...] = values


def _reserve(path: Path) -> None:
    """Take the file's disk now: on a full disk, writing to a mapped file kills the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise  # any other says that this file system cannot reserve


def _number_rows(engine: Engine, shop: Shop) -> None:
    """Tables ``item_rows`` and ``user_rows``: the shop's keys and our row numbers.

    Rows follow the shop's tables; keys that only events know come after them.
    """
    for kind, table in (("item", shop.items), ("user", shop.users)):
        known = f"SELECT {name_of(table.key)} AS {kind}, 0 AS late FROM {kind}s" if table else None
        from_log = (
            f"SELECT DISTINCT {kind}, 1 AS late FROM "
            f"(SELECT {kind} FROM exposures UNION ALL SELECT {kind} FROM history) "
            f"WHERE {kind} IS NOT NULL"
        )
        if known and table:
            from_log += f" AND {kind} NOT IN (SELECT {name_of(table.key)} FROM {kind}s)"
        parts = f"{known} UNION ALL {from_log}" if known else from_log
        engine.run(
            f"CREATE OR REPLACE TABLE {kind}_rows AS SELECT {kind}, "
            f"row_number() OVER (ORDER BY late, {kind})::INTEGER AS row FROM ({parts})"
        )


def _write_texts(engine: Engine, shop: Shop, transform: Transform, writer: _Writer) -> None:
    """Distinct texts, each encoded once; titles with gold spans and their tags."""
    empty = "CREATE OR REPLACE TABLE item_text AS SELECT NULL AS item, NULL AS text WHERE false"
    texts: list[str] = []
    if transform.text and shop.items:
        engine.run(
            f"CREATE OR REPLACE TABLE item_text AS SELECT {name_of(shop.items.key)} AS item, "
            f"{text_of(transform.text_columns, 'items')} AS text FROM items"
        )
        texts = [row[0] for row in engine.rows("SELECT DISTINCT text FROM item_text ORDER BY text")]
    else:
        engine.run(empty)
    numbered = pa.array(range(1, len(texts) + 1), pa.int32())
    engine.add("text_rows", pa.table({"text": pa.array(texts, pa.string()), "row": numbered}))
    if transform.text:
        coded = transform.text.encode(["", *texts])
    else:
        coded = np.zeros((1, 1, 1), dtype=np.int32)
    writer.save("texts/tokens", coded)
    _write_titles(engine, shop, transform, coded.shape[1], writer)


def _write_titles(
    engine: Engine, shop: Shop, transform: Transform, length: int, writer: _Writer
) -> None:
    rows: list[tuple[Any, ...]] = []
    if shop.items and shop.items.spans and transform.text:
        annotated = f"i.{name_of(shop.items.annotated)}" if shop.items.annotated else "NULL"
        rows = engine.rows(
            f"SELECT tr.row, ir.row, ts.split, it.text, i.{name_of(shop.items.spans)}, "
            f"{annotated}, ir.item FROM items i "
            f"JOIN item_rows ir ON ir.item = i.{name_of(shop.items.key)} "
            "JOIN item_text it ON it.item = ir.item JOIN text_rows tr ON tr.text = it.text "
            "JOIN title_split ts ON ts.item = ir.item ORDER BY ir.row"
        )
    n_attributes = len(transform.attributes)
    tags = writer.make("titles/tags", (len(rows), n_attributes, length), np.int8)
    for i, (_, _, _, text, spans, annotated_here, item) in enumerate(rows):
        if shop.items and shop.items.annotated:
            known = set(annotated_here or ())
        else:
            known = set(transform.attributes)
        gold = [(span["start"], span["end"], span["attribute"]) for span in spans or ()]
        try:
            tags[i] = tags_of(tokenise(text), gold, transform.attributes, known, length)
        except DataError as error:
            raise DataError(f"items.spans: product {item}: {error}; correct it") from None
    keys = {
        "text": pa.array([row[3] for row in rows], pa.string()),
        "spans": pa.array([list(row[4] or ()) for row in rows], _SPANS),
        "annotated": pa.array(
            [
                list(row[5] or ()) if shop.items and shop.items.annotated
                else list(transform.attributes)
                for row in rows
            ],
            pa.list_(pa.string()),
        ),
    }  # fmt: skip
    pq.write_table(pa.table(keys), writer.folder / "keys" / "titles.parquet")
    writer.save("titles/text", np.array([row[0] for row in rows], dtype=np.int32))
    writer.save("titles/item", np.array([row[1] for row in rows], dtype=np.int32))
    writer.save("titles/split", np.array([split_code(row[2]) for row in rows], dtype=np.int8))


def _write_items(engine: Engine, shop: Shop, transform: Transform, writer: _Writer) -> None:
    join, select, shown = "", "", ""
    names: dict[str, None] = {}
    if shop.items:
        key = name_of(shop.items.key)
        join = f"LEFT JOIN items t ON t.{key} = r.item LEFT JOIN item_text x ON x.item = r.item "
        join += "LEFT JOIN text_rows tr ON tr.text = x.text"
        select = transform.items.select("t")
        names = dict.fromkeys((*shop.items.text, *shop.items.columns, *shop.items.attributes))
        present = engine.columns("items")
        shown = ", ".join(f"t.{name_of(name)}" for name in names if name in present)
    text_row = "coalesce(tr.row, 0)" if shop.items else "0"
    sql = (
        f"SELECT CAST(r.item AS VARCHAR) AS {name_of(_KEY)}, {text_row} AS {name_of(_TEXT)}"
        f"{', ' + select if select else ''} FROM item_rows r {join} ORDER BY r.row"
    )
    n = engine.value("SELECT count(*) FROM item_rows")
    ids = writer.make("items/id", (n + 1,), np.int32)
    text = writer.make("items/text", (n + 1,), np.int32)
    fields, numbers = _field_arrays("items", n + 1, transform.items, writer)
    for at, batch in _pieces(engine, sql, first=1):
        end = at + batch.num_rows
        ids[at:end] = transform.item_ids.encode(batch[_KEY])
        text[at:end] = batch[_TEXT].to_numpy()
        fields[at:end], numbers[at:end] = transform.items.encode(_named(batch), batch.num_rows)
    fields[0], numbers[0] = _missing(transform.items)
    key_name = name_of(_KEY if "item" in names else "item")
    catalogue = engine.table(
        f"SELECT CAST(r.item AS VARCHAR) AS {key_name}{', ' + shown if shown else ''} "
        f"FROM item_rows r {join} ORDER BY r.row"
    )
    pq.write_table(catalogue, writer.folder / "keys" / "items.parquet")


def _write_users(engine: Engine, shop: Shop, transform: Transform, writer: _Writer) -> None:
    join = f"LEFT JOIN users t ON t.{name_of(shop.users.key)} = r.user" if shop.users else ""
    selects = [
        fields.select("t") for fields in (transform.users, transform.profile) if fields.names
    ]
    own = [f"CAST(r.user AS VARCHAR) AS {name_of(_KEY)}", f"s.split AS {name_of(_SPLIT)}"]
    columns = ", ".join([*own, *selects])
    sql = (
        f"SELECT {columns} FROM user_rows r {join} "
        "LEFT JOIN user_split s ON s.user = r.user ORDER BY r.row"
    )
    n = engine.value("SELECT count(*) FROM user_rows")
    ids = writer.make("users/id", (n + 1,), np.int32)
    split = writer.make("users/split", (n + 1,), np.int8)
    split[...] = NO_SPLIT
    profile = writer.make("users/profile", (n + 1, len(transform.profile.names)), np.int16)
    profile[...] = -1
    fields, numbers = _field_arrays("users", n + 1, transform.users, writer)
    for at, batch in _pieces(engine, sql, first=1):
        end = at + batch.num_rows
        named = _named(batch)
        ids[at:end] = transform.user_ids.encode(batch[_KEY])
        split[at:end] = [split_code(name) for name in batch[_SPLIT].to_pylist()]
        fields[at:end], numbers[at:end] = transform.users.encode(named, batch.num_rows)
        for j, name in enumerate(transform.profile.names):
            coder = transform.profile.coders[j]
            profile[at:end, j] = coder.encode(named[name]) - 1  # type: ignore[union-attr]
    fields[0], numbers[0] = _missing(transform.users)
    keys = engine.table("SELECT CAST(user AS VARCHAR) AS user FROM user_rows ORDER BY row")
    pq.write_table(keys, writer.folder / "keys" / "users.parquet")
    counts = engine.table(
        "SELECT count(h.user) AS n FROM user_rows r LEFT JOIN history h ON h.user = r.user "
        "GROUP BY r.row ORDER BY r.row"
    )["n"].to_numpy()
    start = np.concatenate([[0, 0], np.cumsum(counts)]).astype(np.int64)
    writer.save("users/start", start)


def _write_history(engine: Engine, transform: Transform, writer: _Writer) -> None:
    """Events sorted by user row and time, and ``query_rows``: each query's end among them."""
    engine.run(
        "CREATE OR REPLACE TABLE history_rows AS SELECT u.row AS user_row, i.row AS item_row, "
        "h.action, h.time, row_number() OVER (ORDER BY u.row, h.time, i.row, h.action) AS position "
        "FROM history h JOIN user_rows u ON u.user = h.user JOIN item_rows i ON i.item = h.item"
    )
    n = engine.value("SELECT count(*) FROM history_rows")
    item = writer.make("history/item", (n,), np.int32)
    action = writer.make("history/action", (n,), np.int8)
    time = writer.make("history/time", (n,), np.int64)
    codes = {name: code for code, name in enumerate(transform.actions)}
    sql = "SELECT item_row, action, epoch_us(time) AS time FROM history_rows ORDER BY position"
    for at, batch in _pieces(engine, sql):
        end = at + batch.num_rows
        item[at:end] = batch["item_row"].to_numpy()
        action[at:end] = [codes[name] for name in batch["action"].to_pylist()]
        time[at:end] = batch["time"].to_numpy()


def _write_exposures(
    engine: Engine, transform: Transform, writer: _Writer
) -> dict[str, tuple[int, int]]:
    order = "CASE e.split WHEN 'train' THEN 0 WHEN 'validation' THEN 1 ELSE 2 END"
    # Exposures of one user at one moment in one request share a query, and so a history.
    engine.run(
        "CREATE OR REPLACE TABLE placed AS SELECT e.*, "
        f"row_number() OVER (ORDER BY {order}, e.exposure) AS place, "
        "coalesce(u.row, 0) AS user_row, coalesce(i.row, 0) AS item_row "
        "FROM exposures e LEFT JOIN user_rows u ON u.user = e.user "
        "LEFT JOIN item_rows i ON i.item = e.item WHERE e.split IS NOT NULL"
    )
    engine.run(
        "CREATE OR REPLACE TABLE queries AS SELECT *, "
        "(row_number() OVER (ORDER BY first) - 1)::INTEGER AS query FROM (SELECT split, user_row, "
        "time, request, min(place) AS first FROM placed WHERE user_row > 0 "
        "GROUP BY split, user_row, time, request)"
    )
    _write_queries(engine, writer)
    n = engine.value("SELECT count(*) FROM placed")
    stages = transform.stages
    labels_sql = "".join(f", p.{name_of('label_' + stage)}" for stage in stages)
    context_sql = transform.context.select("p", "context_")
    sql = (
        "SELECT p.item_row, coalesce(q.query, -1) AS query, epoch_us(p.time) AS time, p.weight"
        f"{labels_sql}{', ' + context_sql if context_sql else ''} "
        "FROM placed p LEFT JOIN queries q ON q.user_row = p.user_row AND q.split = p.split "
        "AND q.time IS NOT DISTINCT FROM p.time "
        "AND q.request IS NOT DISTINCT FROM p.request ORDER BY p.place"
    )
    item = writer.make("exposures/item", (n,), np.int32)
    query = writer.make("exposures/query", (n,), np.int32)
    time = writer.make("exposures/time", (n,), np.int64)
    weight = writer.make("exposures/weight", (n,), np.float32)
    labels = writer.make("exposures/labels", (n, len(stages)), np.int8)
    fields, numbers = _field_arrays("exposures", n, transform.context, writer)
    for at, batch in _pieces(engine, sql):
        end = at + batch.num_rows
        item[at:end] = batch["item_row"].to_numpy()
        query[at:end] = batch["query"].to_numpy()
        time[at:end] = batch["time"].fill_null(0).to_numpy()
        weight[at:end] = batch["weight"].to_numpy()
        for j, stage in enumerate(stages):
            labels[at:end, j] = batch["label_" + stage].fill_null(-1).to_numpy()
        named = {name.removeprefix("context_"): column for name, column in _named(batch).items()}
        fields[at:end], numbers[at:end] = transform.context.encode(named, batch.num_rows)
    keys = (
        "SELECT id, CAST(user AS VARCHAR) AS user, CAST(item AS VARCHAR) AS item, request "
        "FROM placed ORDER BY place"
    )
    pq.write_table(engine.table(keys), writer.folder / "keys" / "exposures.parquet")
    found = dict(engine.rows("SELECT split, count(*) FROM placed GROUP BY split"))
    ends = np.cumsum([0, *(found.get(split, 0) for split in SPLITS)])
    return {split: (int(ends[i]), int(ends[i + 1])) for i, split in enumerate(SPLITS)}


def _write_queries(engine: Engine, writer: _Writer) -> None:
    """The history of a query ends at the last event strictly before it: no sample sees itself."""
    # An ASOF join takes any one of the events of a moment, and the last of them is wanted.
    sql = (
        "SELECT q.user_row, epoch_us(q.time) AS time, coalesce(h.position, -1) AS position "
        "FROM queries q ASOF LEFT JOIN (SELECT user_row, time, max(position) AS position "
        "FROM history_rows GROUP BY user_row, time) h "
        "ON h.user_row = q.user_row AND h.time < q.time ORDER BY q.query"
    )
    n = engine.value("SELECT count(*) FROM queries")
    user = writer.make("queries/user", (n,), np.int32)
    end_of = writer.make("queries/end", (n,), np.int64)
    time = writer.make("queries/time", (n,), np.int64)
    start = np.load(writer.folder / "users" / "start.npy", mmap_mode="r")
    for at, batch in _pieces(engine, sql):
        end = at + batch.num_rows
        user[at:end] = batch["user_row"].to_numpy()
        time[at:end] = batch["time"].fill_null(0).to_numpy()
        position = batch["position"].to_numpy()
        # Positions count from 1 over the sorted events, so a position is also one past its event.
        end_of[at:end] = np.where(position < 0, start[user[at:end]], position)


def _field_arrays(kind: str, n: int, fields: Fields, writer: _Writer) -> tuple[Array, Array]:
    return (
        writer.make(f"{kind}/fields", (n, len(fields.names)), np.int32),
        writer.make(f"{kind}/numbers", (n, fields.n_numbers), np.float32),
    )


def _missing(fields: Fields) -> tuple[Array, Array]:
    rows, ranks = fields.encode({}, 1)
    return rows[0], ranks[0]


def _pieces(engine: Engine, sql: str, first: int = 0) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Record batches with the row at which each starts."""
    at = first
    for batch in engine.batches(sql):
        yield at, batch
        at += batch.num_rows


def _named(batch: pa.RecordBatch) -> dict[str, pa.ChunkedArray]:
    return {name: batch.column(i) for i, name in enumerate(batch.schema.names)}


def split_code(name: str | None) -> int:
    """Number of a split in the store; a row without one belongs to none."""
    return SPLITS.index(name) if name in SPLITS else NO_SPLIT
