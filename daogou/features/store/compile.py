"""Prepared relations to a store: all of a shop's, or a part of its log."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from daogou.features.store import Ranges, Store, open_store
from daogou.features.store.exposures import write_earlier, write_exposures
from daogou.features.store.items import write_items
from daogou.features.store.titles import write_texts
from daogou.features.store.users import starts_of, write_history, write_shown, write_users
from daogou.features.store.writer import Writer, written
from daogou.features.transform import Transform
from daogou.schema import Shop
from daogou.tables.engine import Engine, name_of

LogWriter = Callable[[Engine, Shop, Transform, Writer], Ranges]


def compile_store(
    engine: Engine,
    shop: Shop,
    transform: Transform,
    folder: Path,
    *,
    log: LogWriter | None = None,
) -> Store:
    """Write the prepared relations as arrays under ``folder`` and open them.

    Written beside and renamed when whole, so a half-written store is never taken for one. ``log``
    writes histories and exposures and gives the range of each split; None does it here.
    """
    with written(folder) as writer:
        (writer.folder / "keys").mkdir(parents=True)
        _number_rows(engine, shop)
        write_texts(engine, shop, transform, writer)
        write_items(engine, shop, transform, writer)
        write_users(engine, shop, transform, writer)
        ranges = (log or _write_log)(engine, shop, transform, writer)
        write_earlier(engine, transform, writer)
        _list(writer, ranges)
    return open_store(folder)


def compile_log(engine: Engine, shop: Shop, transform: Transform, folder: Path) -> None:
    """Write the arrays of some users' histories and exposures, as a part of a store.

    Rows of users and items are those of the part; ``keys/`` has the shop's own names for them.
    """
    with written(folder) as writer:
        (writer.folder / "keys").mkdir(parents=True)
        _number_rows(engine, shop)
        for kind in ("user", "item"):
            keys = engine.table(f"SELECT {kind} FROM {kind}_rows ORDER BY row")
            pq.write_table(keys, writer.folder / "keys" / f"{kind}_rows.parquet")
        writer.append("users/start", starts_of(engine, "SELECT user FROM history"))
        _list(writer, _write_log(engine, shop, transform, writer))


def _write_log(engine: Engine, shop: Shop, transform: Transform, writer: Writer) -> Ranges:
    write_history(engine, transform, writer)
    if transform.profile.names or transform.many.names:
        write_shown(engine, writer)
    return write_exposures(engine, shop, transform, writer)


def _list(writer: Writer, ranges: Ranges) -> None:
    """The last file of a store."""
    writer.finish()
    document = {"arrays": writer.arrays, "ranges": ranges}
    (writer.folder / "store.json").write_text(json.dumps(document, indent=1))


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
