"""A table's files as one relation in the engine, not yet typed."""

import bisect
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from daogou.errors import DataError, unknown
from daogou.schema import Events, Items, Shop, Users
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.read.files import damaged, files_of, parquet
from daogou.tables.read.texts import open_texts
from daogou.tables.sql import batches, is_database

_EXAMPLES: Final = 3


@dataclass(frozen=True)
class Column:
    """A column that a setting names, and how it has to be read."""

    setting: str  # "events.user"
    name: str
    role: str  # key, time, word, number, spans, words or plain


@dataclass(frozen=True)
class Source:
    """A table's files as one relation in the engine, not yet typed."""

    table: str
    form: str  # parquet, csv, jsonl or sql; all but the first hold texts
    relation: str
    columns: tuple[Column, ...]
    types: Mapping[str, str]  # of every column in the files
    starts: tuple[tuple[int, str], ...]  # first row and path of each text file

    def place(self, row: int) -> str:
        """Where a row (from 0) is, for a message; a quoted line break is not counted."""
        if not self.starts:
            return f"row {row + 1}"
        start, path = self.starts[bisect.bisect_right(self.starts, (row, chr(0x10FFFF))) - 1]
        return f"{path} line {row - start + (2 if self.form == 'csv' else 1)}"


def _wanted(shop: Shop, table: str) -> tuple[str, list[Column], set[str]]:
    """The table's path, the columns its settings name, and those that may be absent."""
    section = getattr(shop, table)
    found: list[Column] = []
    optional: set[str] = set()

    def want(setting: str, role: str) -> None:
        value = getattr(section, setting)
        for name in (value,) if isinstance(value, str) else value or ():
            # The first role stands: a key that is listed among the inputs stays a key.
            if name not in [column.name for column in found]:
                found.append(Column(f"{table}.{setting}", name, role))

    if isinstance(section, Items):
        for setting, role in (
            *(("key", "key"), ("split", "word"), ("spans", "spans"), ("annotated", "words")),
            *(("text", "text"), ("columns", "plain"), ("attributes", "plain")),
            ("shown", "plain"),
        ):
            want(setting, role)
        # Gold spans teach extraction by themselves; attribute columns are then a bonus.
        optional = set(section.attributes) if section.spans else set()
        optional -= {section.key, *section.columns, *section.text}
    elif isinstance(section, Users):
        for setting, role in (
            *(("key", "key"), ("split", "word"), ("columns", "plain"), ("profile", "plain")),
        ):
            want(setting, role)
    elif isinstance(section, Events):
        for setting, role in (
            *(("user", "key"), ("item", "key"), ("time", "time"), ("kind", "word")),
            *(("request", "word"), ("id", "word"), ("weight", "number"), ("split", "word")),
            ("value", "number"),
            *(("labels", "plain"), ("context", "plain")),
        ):
            want(setting, role)
    return section.path, found, optional


def open_source(engine: Engine, shop: Shop, table: str, notes: list[str]) -> Source:
    """The table's rows as a relation: a view of parquet, or a table of texts."""
    path, wanted, optional = _wanted(shop, table)
    _check_names(wanted)
    relation = f"staged_{table}"
    starts: tuple[tuple[int, str], ...] = ()
    place: Path | str = shop.root / path
    types: Mapping[str, str]
    if is_database(path):
        place, form = path, "sql"
        query = getattr(shop, table).query or f"SELECT * FROM {table}"
        types = _stage_rows(engine, relation, batches(f"{table}.path", shop.root, path, query))
    else:
        files, form = files_of(shop.root, table, path, *getattr(getattr(shop, table), "more", ()))
        if form == "parquet":
            types = _view_parquet(engine, relation, table, files)
        else:
            types, starts = _stage_texts(engine, relation, files, wanted, notes)
    problems = [
        f"{column.setting}: {place}: {unknown(column.name, types)}"
        for column in wanted
        if column.name not in types and column.name not in optional
    ]
    if problems:
        raise DataError("\n".join(problems))
    if not engine.value(f"SELECT count(*) FROM (FROM {relation} LIMIT 1)"):
        raise DataError(
            f"{table}.path: {place} has no rows; export the table again, or take [{table}] out"
        )
    columns = tuple(column for column in wanted if column.name in types)
    return Source(table, form, relation, columns, types, starts)


def _check_names(wanted: list[Column]) -> None:
    """Refuse columns that SQL would not tell from ours, or from each other."""
    alike = {column.name.lower(): column.name for column in wanted}
    problems = [
        f"{column.setting}: '' names no column; name one, or take the setting out"
        for column in wanted
        if not column.name
    ]
    problems += [
        f"{column.setting}: a name that begins with @, as {column.name!r}, is kept for columns of "
        "our own; rename it where the table is written"
        for column in wanted
        if column.name.startswith("@")
    ]
    problems += [
        f"{column.setting}: {column.name!r} and {alike[column.name.lower()]!r} differ in nothing "
        "but capitals; rename one where the table is written"
        for column in wanted
        if alike[column.name.lower()] != column.name
    ]
    if problems:
        raise DataError("\n".join(problems))


def _stage_rows(engine: Engine, relation: str, pieces: Iterator[pa.RecordBatch]) -> dict[str, str]:
    """Copy a database's rows into a table, each value as text."""
    engine.add(relation, pa.Table.from_batches([next(pieces)]))
    for piece in pieces:
        engine.add(f"{relation}_piece", pa.Table.from_batches([piece]))
        engine.run(f"INSERT INTO {relation} FROM {relation}_piece")
    forget(engine, f"{relation}_piece")
    return engine.columns(relation)


def _view_parquet(
    engine: Engine, relation: str, table: str, files: list[Path]
) -> Mapping[str, str]:
    try:
        engine.run(f"CREATE OR REPLACE VIEW {relation} AS FROM {parquet(files)}")
        return engine.columns(relation)
    except duckdb.Error as error:
        raise damaged(f"{table}.path", error) from None


def _stage_texts(
    engine: Engine,
    relation: str,
    files: list[Path],
    wanted: list[Column],
    notes: list[str],
) -> tuple[dict[str, str], tuple[tuple[int, str], ...]]:
    """Copy the wanted columns of text files into one table, each value as it is written."""
    names = list(dict.fromkeys(column.name for column in wanted))
    listed = ", ".join(f"{name_of(name)} VARCHAR" for name in names)
    engine.run(f"CREATE OR REPLACE TABLE {relation} ({listed})")
    seen: dict[str, str] = {}
    starts: list[tuple[int, str]] = []
    n_rows = 0
    with tempfile.TemporaryDirectory(prefix="daogou-") as folder:
        for path in files:
            texts = open_texts(engine, path, Path(folder), names)
            if texts.encoding != "utf-8":
                notes.append(f"{path}: read as {texts.encoding}")
            header = texts.header
            parts = dict(part.split("=", 1) for part in path.parts[:-1] if "=" in part)
            seen |= dict.fromkeys([*header, *parts], "VARCHAR")
            chosen = [texts.value(name) for name in names if name in header]
            chosen += [
                f"{quoted(value)} AS {name_of(name)}"
                for name, value in parts.items()
                if name in names and name not in header
            ]
            if chosen:
                columns = ", ".join(chosen)
                texts.insert(
                    engine, f"INSERT INTO {relation} BY NAME SELECT {columns} {texts.relation}"
                )
            starts.append((n_rows, str(path)))
            n_rows = engine.value(f"SELECT count(*) FROM {relation}")
    return seen, tuple(starts)


def examples(engine: Engine, source: Source, column: Column, condition: str) -> str:
    """`` (place 'value', ...)`` of the first rows for which the condition holds, or nothing."""
    rows = engine.rows(
        f'SELECT "@row", CAST({name_of(column.name)} AS VARCHAR) FROM '
        f'(SELECT {name_of(column.name)}, row_number() OVER () - 1 AS "@row" FROM '
        f"{source.relation}) "
        f'WHERE {condition} ORDER BY "@row" LIMIT {_EXAMPLES}'
    )
    if not rows:
        return ""
    return f" ({', '.join(f'{source.place(row)}: {value!r}' for row, value in rows)})"


def pointers(shop: Shop) -> Iterator[tuple[str, str, str]]:
    """Table, events column and key of each id that events keep of another table."""
    if shop.events and shop.events.user and shop.users:
        yield "users", shop.events.user, shop.users.key
    if shop.events and shop.events.item and shop.items:
        yield "items", shop.events.item, shop.items.key


def forget(engine: Engine, relation: str) -> None:
    """Drop a table or a view, if it is there."""
    kinds = engine.rows(
        f"SELECT table_type FROM information_schema.tables WHERE table_name = {quoted(relation)}"
    )
    for (kind,) in kinds:
        engine.run(f"DROP {'VIEW' if kind == 'VIEW' else 'TABLE'} {relation}")
