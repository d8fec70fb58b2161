"""Users as rows, what each did and what each was shown."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from daogou.features.numeric import Numeric
from daogou.features.store import NO_SPLIT, split_code
from daogou.features.store.writer import KEY, Writer, append_fields, named_columns
from daogou.features.transform import Transform
from daogou.features.vocab import Vocab
from daogou.schema import Shop
from daogou.tables.engine import Engine, name_of, quoted

_SPLIT: Final = "@split"


def write_users(engine: Engine, shop: Shop, transform: Transform, writer: Writer) -> None:
    """The users: columns, profiles, the split of each, and where the history of each begins."""
    join = f"LEFT JOIN users t ON t.{name_of(shop.users.key)} = r.user" if shop.users else ""
    selects = [
        fields.select("t") for fields in (transform.users, transform.profile) if fields.names
    ]
    own = [f"CAST(r.user AS VARCHAR) AS {name_of(KEY)}", f"s.split AS {name_of(_SPLIT)}"]
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
    append_fields(writer, "users", transform.users, {}, 1)
    if transform.many.names:
        n_values = sum(coder.n_rows - 1 for coder in transform.many.coders)
        writer.append("users/many", np.full((1, n_values), -1, dtype=np.int8))
    for batch in engine.batches(sql):
        named = named_columns(batch)
        classes = np.zeros((batch.num_rows, len(profile.names)), dtype=np.int16)
        for j, (name, coder) in enumerate(profile.pairs):
            classes[:, j] = coder.encode(named[name]) - 1  # type: ignore[union-attr]
        splits = [split_code(name) for name in batch[_SPLIT].to_pylist()]
        writer.append("users/id", transform.user_ids.encode(batch[KEY]))
        writer.append("users/split", np.array(splits, dtype=np.int8))
        writer.append("users/profile", classes)
        if transform.many.names:
            lists = transform.many.pairs
            held = [_held(coder, named[name]) for name, coder in lists]
            writer.append("users/many", np.concatenate(held, axis=1))
        append_fields(writer, "users", transform.users, named, batch.num_rows)
    keys = engine.table("SELECT CAST(user AS VARCHAR) AS user FROM user_rows ORDER BY row")
    pq.write_table(keys, writer.folder / "keys" / "users.parquet")
    writer.append("users/start", starts_of(engine, "SELECT user FROM history"))


def starts_of(engine: Engine, users: str) -> NDArray[np.int64]:
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


def write_history(engine: Engine, transform: Transform, writer: Writer) -> None:
    """What each user did, sorted by time."""
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


def write_shown(engine: Engine, writer: Writer) -> None:
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
    writer.append("shown/start", starts_of(engine, f"SELECT e.user {shown} {known}"))
