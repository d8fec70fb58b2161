"""A shop's files to typed tables in the engine: keys exact, times in UTC, guesses noted."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from daogou.errors import DataError, unknown
from daogou.schema import Events, Items, Shop
from daogou.tables.engine import Engine, name_of
from daogou.tables.read.files import (
    FORMS,
    damaged,
    files_of,
    form_of,
    parquet,
    rewritten,
    when_written,
)
from daogou.tables.read.glance import glance
from daogou.tables.read.source import Source, forget, open_source, pointers
from daogou.tables.read.typed import key_types, typed_columns
from daogou.tables.sql import is_database

_PLACE: Final = "file_row_number"  # as DuckDB names it
_TABLES: Final = ("items", "users", "events")
_LARGE: Final = 256 << 20  # bytes of files of events


@dataclass(frozen=True)
class Read:
    """What was read. Made by `read_tables`."""

    rows: Mapping[str, int]  # table -> rows
    unread: Mapping[str, tuple[str, ...]]  # table -> columns that no setting names
    untimed: int  # events whose time is missing or cannot be read
    orphans: Mapping[str, int]  # "users", "items" -> events whose id has no row there
    notes: tuple[str, ...]  # every decision about a type, and what was ignored


def read_tables(engine: Engine, shop: Shop) -> Read:
    """Read the shop's files into the tables ``items``, ``users`` and ``events``.

    Parquet, CSV and TSV (UTF-8, UTF-16 with a mark, GB18030; .gz too) and JSON lines; a file, a
    glob or a folder, partitioned or not; or what a query gives of a database. Only columns that a
    setting names are read. Keys become ``BIGINT`` or ``VARCHAR``, times ``TIMESTAMP`` in UTC; a
    column of a text file or a database is a number if every value is one, also as a price is
    written (``¥1,299.00``, noted).

    Raises `DataError` where a file or column is missing, a file is damaged or empty, a key is a
    float, null or repeated, or times mix zones. What is missing is reported for all tables at once.
    """
    return _read(engine, shop)[0]


@dataclass(frozen=True)
class Log:
    """Where a log's rows lie, and how they are read. Made by `read_beside`."""

    files: tuple[str, ...]  # of parquet, in the order of their rows
    columns: str  # SQL that types what the settings name
    relation: str  # SQL of the files as one relation

    def with_places(self) -> str:
        """The relation with the ``@file`` of each row and its ``file_row_number``."""
        return f"{self.relation[:-1]}, filename = '@file', {_PLACE} = true)"


def read_beside(engine: Engine, shop: Shop) -> tuple[Read, Log]:
    """`read_tables`, but that ``events`` is a view of files of parquet, which stay where they are.

    Raises what `read_tables` raises.
    """
    read, log = _read(engine, shop, beside=True)
    assert log is not None
    return read, log


def in_parquet(shop: Shop) -> bool:
    """Whether the events lie in files of parquet; DataError where there is no file."""
    return _log_files(shop)[1] == "parquet"


def _log_files(shop: Shop) -> tuple[list[Path], str]:
    """Files of the events and their form; none of a database, or where there are no events."""
    events = shop.events
    if events is None or is_database(events.path):
        return [], "sql"
    return files_of(shop.root, "events", events.path, *events.more)


def _read(engine: Engine, shop: Shop, *, beside: bool = False) -> tuple[Read, Log | None]:
    sources: list[Source] = []
    problems: list[str] = []
    notes: list[str] = []
    log: Log | None = None
    written = _written(shop)
    try:
        for table in _TABLES:
            if getattr(shop, table) is not None:
                try:
                    sources.append(open_source(engine, shop, table, notes))
                except DataError as error:
                    problems.append(str(error))
        if problems:
            raise DataError("\n".join(problems))
        keys = key_types(engine, shop, sources, notes)
        rows = {}
        for source in sources:
            columns, relation = typed_columns(engine, source, keys, notes), source.relation
            view = beside and source.table == "events"
            if view:
                if _PLACE in source.types:
                    raise DataError(
                        f"events.path: a column is named {_PLACE!r}, which reading by several "
                        "processes needs for itself; rename it, or fit without --workers"
                    )
                files, _ = _log_files(shop)
                relation = parquet(files)
                log = Log(tuple(map(str, files)), columns, relation)
            rows[source.table] = _keep(engine, source, columns, relation, view=view)
        _check_written(written, _written(shop))
    finally:
        for table in _TABLES:
            forget(engine, f"staged_{table}")
    if shop.items:
        _check_key(engine, "items", shop.items.key)
    if shop.users:
        _check_key(engine, "users", shop.users.key)
    if shop.events:
        _check_kinds(engine, shop.events, notes)
    read = Read(
        rows=rows,
        unread={source.table: _unread(source) for source in sources},
        untimed=_untimed(engine, shop.events),
        orphans=_orphans(engine, shop),
        notes=tuple(notes),
    )
    return read, log


def _written(shop: Shop) -> dict[Path, tuple[int, int]]:
    """Bytes of each of the shop's files that is there, and when it was written."""
    found: dict[Path, tuple[int, int]] = {}
    for table in _TABLES:
        section = getattr(shop, table)
        if section is None or is_database(section.path):
            continue
        with suppress(OSError, DataError):  # which is said when they are read
            files, _ = files_of(shop.root, table, section.path, *getattr(section, "more", ()))
            found |= {file: when_written(file) for file in files}
    return found


def _check_written(
    before: Mapping[Path, tuple[int, int]], now: Mapping[Path, tuple[int, int]]
) -> None:
    """Refuse what two moments of one file may have become."""
    for file, told in before.items():
        if now.get(file) != told:
            raise rewritten(file)


def engine_for(shop: Shop, *, memory_limit: str = "2GB", spill: Path | None = None) -> Engine:
    """An engine for a shop's tables; those of a large log lie on disk from the start.

    In memory nothing is compressed, and spilled it would take many times the disk of its files.
    """
    return Engine(memory_limit=memory_limit, spill=spill, on_disk=_size(shop) > _LARGE)


def _size(shop: Shop) -> int:
    """Bytes of the files of events; 0 of a database, and where they are not to be found."""
    try:
        return sum(file.stat().st_size for file in _log_files(shop)[0])
    except DataError:  # which is said when they are read
        return 0


def read_items(engine: Engine, items: Items, path: Path) -> tuple[str, ...]:
    """Read a table of products like the shop's into ``items``: its key, texts and attributes.

    Returns the attributes that it has columns for. Raises `DataError` as `read_tables` does.
    """
    if form_of(path) is None:
        raise DataError(f"{path}: not a table; give a file that ends in one of {', '.join(FORMS)}")
    types = glance(engine, path, "glanced", rows=1)
    forget(engine, "glanced")
    there = tuple(name for name in items.attributes if name in types)
    described = Items(path.name, items.key, text=items.text, attributes=there)
    read_tables(engine, Shop(path.parent, items=described))
    return there


def _keep(engine: Engine, source: Source, columns: str, relation: str, *, view: bool) -> int:
    """Make the typed table, or a view, and say how many rows it has."""
    kind = "VIEW" if view else "TABLE"
    try:
        engine.run(f"CREATE OR REPLACE {kind} {source.table} AS SELECT {columns} FROM {relation}")
        return int(engine.value(f"SELECT count(*) FROM {source.table}"))
    except duckdb.Error as error:
        raise damaged(f"{source.table}.path", error) from None


def _check_key(engine: Engine, table: str, key: str) -> None:
    name = name_of(key)
    nulls = engine.value(f"SELECT count(*) FROM {table} WHERE {name} IS NULL")
    if nulls:
        raise DataError(
            f"{table}.key: {nulls} rows have no {key!r}; give every row a key or remove them"
        )
    repeated = engine.rows(
        f"SELECT {name}, count(*), count(*) OVER () FROM {table} GROUP BY {name} "
        f"HAVING count(*) > 1 ORDER BY {name} LIMIT 1"
    )
    if repeated:
        example, times, count = repeated[0]
        raise DataError(
            f"{table}.key: {count} keys are repeated ({key} {example!r} is in {times} rows); "
            "keep one row per key"
        )


def _check_kinds(engine: Engine, events: Events, notes: list[str]) -> None:
    """Refuse a funnel whose exposure never happens; note the kinds that nothing uses."""
    if not events.kind:
        return
    kind = name_of(events.kind)
    found = {
        str(row[0]): int(row[1])
        for row in engine.rows(f"SELECT {kind}, count(*) FROM events GROUP BY 1 ORDER BY 2 DESC, 1")
    }
    if events.funnel and events.funnel[0] not in found:
        raise DataError(
            f"events.funnel: no event is an exposure: {unknown(events.funnel[0], list(found)[:20])}"
        )
    used = {*events.funnel, *events.history_kinds}
    ignored = [f"{word} ({count})" for word, count in found.items() if word not in used]
    if ignored:
        notes.append(f"events.kind: ignored {', '.join(ignored[:20])}")
    notes.extend(
        f"events.funnel: no event is a {stage!r}" for stage in events.funnel if stage not in found
    )


def _untimed(engine: Engine, events: Events | None) -> int:
    if not events or not events.time:
        return 0
    return int(engine.value(f"SELECT count(*) FROM events WHERE {name_of(events.time)} IS NULL"))


def _orphans(engine: Engine, shop: Shop) -> dict[str, int]:
    """Events whose id has no row in the table it points to."""
    return {
        table: int(
            engine.value(
                f"SELECT count(*) FROM events WHERE {name_of(column)} IS NOT NULL "
                f"AND {name_of(column)} NOT IN (SELECT {name_of(key)} FROM {table})"
            )
        )
        for table, column, key in pointers(shop)
    }


def _unread(source: Source) -> tuple[str, ...]:
    read = {column.name for column in source.columns}
    return tuple(name for name in source.types if name not in read)
