"""A shop's files to typed tables in the engine: keys exact, times in UTC, guesses noted."""

import bisect
import codecs
import csv
import gzip
import io
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import BinaryIO, Final, cast

import duckdb
import pyarrow as pa

from daogou.errors import DataError, unknown
from daogou.schema import Events, Items, Shop, Users
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.sql import batches, is_database

_FORMS: Final[Mapping[str, str]] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_PLACE: Final = "file_row_number"  # as DuckDB names it
_TABLES: Final = ("items", "users", "events")
_LARGE: Final = 256 << 20  # bytes of files of events
_CHUNK: Final = 1 << 20
_EXAMPLES: Final = 3

# DuckDB 1.5 applies an offset when it casts to TIMESTAMP and 2.0 drops it, so a value with a zone
# must be recognised here and never reaches that cast.
_ZONED: Final = (
    r"(:[0-9]{2}(\.[0-9]+)?\s*[+-][0-9]{2}(:?[0-9]{2})?|[0-9]\s*(Z|z)|[0-9]\s*[A-Za-z][A-Za-z_/]+)$"
)
_FORMATS: Final = [
    *("%Y-%m-%d %H", "%Y/%m/%d %H", "%Y%m%d", "%Y%m%d%H%M%S", "%Y%m%d %H:%M:%S"),
    *("%d.%m.%Y %H:%M:%S", "%Y.%m.%d %H:%M:%S", "%Y.%m.%d"),
    *("%Y年%m月%d日", "%Y年%m月%d日 %H:%M", "%Y年%m月%d日 %H:%M:%S"),
]
_WHOLE: Final = "-?(0|[1-9][0-9]{0,18})"
_NUMBER: Final = r"[+-]?[0-9]*\.?[0-9]+\.?([eE][+-]?[0-9]+)?"
# A price as people write it: a sign of money or a word for it, and commas between thousands.
MONEY: Final = (
    r"[+-]?[¥￥$€£]?\s*[+-]?(0|[1-9][0-9]*|[1-9][0-9]{0,2}(,[0-9]{3})+)(\.[0-9]+)?\s*"
    "(元|圆|CNY|RMB|USD|EUR)?"
)
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799  # years 1 and 9999


@dataclass(frozen=True)
class Read:
    """What was read. Made by `read_tables`."""

    rows: Mapping[str, int]  # table -> rows
    unread: Mapping[str, tuple[str, ...]]  # table -> columns that no setting names
    untimed: int  # events whose time is missing or cannot be read
    orphans: Mapping[str, int]  # "users", "items" -> events whose id has no row there
    notes: tuple[str, ...]  # every decision about a type, and what was ignored


@dataclass(frozen=True)
class _Column:
    """A column that a setting names, and how it has to be read."""

    setting: str  # "events.user"
    name: str
    role: str  # key, time, word, number, spans, words or plain


@dataclass(frozen=True)
class _Source:
    """A table's files as one relation in the engine, not yet typed."""

    table: str
    form: str  # parquet, csv, jsonl or sql; all but the first hold texts
    relation: str
    columns: tuple[_Column, ...]
    types: Mapping[str, str]  # of every column in the files
    starts: tuple[tuple[int, str], ...]  # first row and path of each text file

    def place(self, row: int) -> str:
        """Where a row (from 0) is, for a message; a quoted line break is not counted."""
        if not self.starts:
            return f"row {row + 1}"
        start, path = self.starts[bisect.bisect_right(self.starts, (row, chr(0x10FFFF))) - 1]
        return f"{path} line {row - start + (2 if self.form == 'csv' else 1)}"


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
    events = shop.events
    if events is None or is_database(events.path):
        return False
    return _files(shop.root, "events", events.path, *events.more)[1] == "parquet"


def _read(engine: Engine, shop: Shop, *, beside: bool = False) -> tuple[Read, Log | None]:
    sources: list[_Source] = []
    problems: list[str] = []
    notes: list[str] = []
    log: Log | None = None
    try:
        for table in _TABLES:
            if getattr(shop, table) is not None:
                try:
                    sources.append(_open(engine, shop, table, notes))
                except DataError as error:
                    problems.append(str(error))
        if problems:
            raise DataError("\n".join(problems))
        keys = _agree(engine, shop, sources, notes)
        rows = {}
        for source in sources:
            columns, relation = _typed(engine, source, keys, notes), source.relation
            view = beside and source.table == "events"
            if view and shop.events:
                if _PLACE in source.types:
                    raise DataError(
                        f"events.path: a column is named {_PLACE!r}, which reading by several "
                        "processes needs for itself; rename it, or fit without --workers"
                    )
                files, _ = _files(shop.root, "events", shop.events.path, *shop.events.more)
                relation = _parquet(files)
                log = Log(tuple(map(str, files)), columns, relation)
            rows[source.table] = _keep(engine, source, columns, relation, view=view)
    finally:
        for table in _TABLES:
            _forget(engine, f"staged_{table}")
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


def engine_for(shop: Shop, *, memory_limit: str = "2GB", spill: Path | None = None) -> Engine:
    """An engine for a shop's tables; those of a large log lie on disk from the start.

    In memory nothing is compressed, and spilled it would take many times the disk of its files.
    """
    return Engine(memory_limit=memory_limit, spill=spill, on_disk=_size(shop) > _LARGE)


def _size(shop: Shop) -> int:
    """Bytes of the files of events; 0 of a database, and where they are not to be found."""
    events = shop.events
    if events is None or is_database(events.path):
        return 0
    try:
        files, _ = _files(shop.root, "events", events.path, *events.more)
    except DataError:  # which is said when they are read
        return 0
    return sum(file.stat().st_size for file in files)


def read_items(engine: Engine, items: Items, path: Path) -> tuple[str, ...]:
    """Read a table of products like the shop's into ``items``: its key, texts and attributes.

    Returns the attributes that it has columns for. Raises `DataError` as `read_tables` does.
    """
    if form_of(path) is None:
        raise DataError(f"{path}: not a table; give a file that ends in one of {', '.join(_FORMS)}")
    types = glance(engine, path, "glanced", rows=1)
    _forget(engine, "glanced")
    there = tuple(name for name in items.attributes if name in types)
    described = Items(path.name, items.key, text=items.text, attributes=there)
    read_tables(engine, Shop(path.parent, items=described))
    return there


def _wanted(shop: Shop, table: str) -> tuple[str, list[_Column], set[str]]:
    """The table's path, the columns its settings name, and those that may be absent."""
    section = getattr(shop, table)
    found: list[_Column] = []
    optional: set[str] = set()

    def want(setting: str, role: str) -> None:
        value = getattr(section, setting)
        for name in (value,) if isinstance(value, str) else value or ():
            # The first role stands: a key that is listed among the inputs stays a key.
            if name not in [column.name for column in found]:
                found.append(_Column(f"{table}.{setting}", name, role))

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


def _open(engine: Engine, shop: Shop, table: str, notes: list[str]) -> _Source:
    """The table's rows as a relation: a view of parquet, or a table of texts."""
    path, wanted, optional = _wanted(shop, table)
    relation = f"staged_{table}"
    starts: tuple[tuple[int, str], ...] = ()
    place: Path | str = shop.root / path
    types: Mapping[str, str]
    if is_database(path):
        place, form = path, "sql"
        query = getattr(shop, table).query or f"SELECT * FROM {table}"
        types = _stage_rows(engine, relation, batches(f"{table}.path", shop.root, path, query))
    else:
        files, form = _files(shop.root, table, path, *getattr(getattr(shop, table), "more", ()))
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
    return _Source(table, form, relation, columns, types, starts)


def _stage_rows(engine: Engine, relation: str, pieces: Iterator[pa.RecordBatch]) -> dict[str, str]:
    """Copy a database's rows into a table, each value as text."""
    engine.add(relation, pa.Table.from_batches([next(pieces)]))
    for piece in pieces:
        engine.add(f"{relation}_piece", pa.Table.from_batches([piece]))
        engine.run(f"INSERT INTO {relation} FROM {relation}_piece")
    _forget(engine, f"{relation}_piece")
    return engine.columns(relation)


def _files(root: Path, table: str, *paths: str) -> tuple[list[Path], str]:
    """The files that paths, globs or folders name, each once and sorted; and their common form."""
    named: dict[Path, Path] = {}
    for path in paths:
        where = root / path
        if where.is_dir():
            found = sorted(each for each in where.rglob("*") if each.is_file() and form_of(each))
        elif where.exists():
            found = [where]
        else:
            found = sorted(Path(each) for each in glob(str(where), recursive=True))
        if not found:
            raise DataError(
                f"{table}.{'path' if path == paths[0] else 'more'}: no file at {where}; give a "
                "path, a glob or a folder, relative to shop.toml"
            )
        for each in found:
            named.setdefault(each.resolve(), each)
    found = list(named.values())
    forms = {form_of(each) for each in found}
    if None in forms or len(forms) > 1:
        odd = next((each for each in found if not form_of(each)), found[0])
        raise DataError(
            f"{table}.path: {odd} is not of one form with its neighbours; "
            f"give files that all end in one of {', '.join(_FORMS)} (.gz allowed for text)"
        )
    return found, str(forms.pop())


def form_of(path: Path) -> str | None:
    """``parquet``, ``csv`` or ``jsonl`` by the file's name; None for anything else."""
    name = path.name.lower().removesuffix(".gz")
    return _FORMS.get(Path(name).suffix)


def _view_parquet(
    engine: Engine, relation: str, table: str, files: list[Path]
) -> Mapping[str, str]:
    try:
        engine.run(f"CREATE OR REPLACE VIEW {relation} AS FROM {_parquet(files)}")
        return engine.columns(relation)
    except duckdb.Error as error:
        raise _damaged(f"{table}.path", error) from None


def _parquet(files: list[Path]) -> str:
    names = ", ".join(quoted(str(each)) for each in files)
    return (
        f"read_parquet([{names}], union_by_name = true, hive_partitioning = true, "
        "binary_as_string = true)"
    )


def _damaged(where: str, error: Exception) -> DataError:
    sentence = str(error).strip().split("\n")[0]
    return DataError(f"{where}: the file cannot be read ({sentence}); export it again")


def _stage_texts(
    engine: Engine,
    relation: str,
    files: list[Path],
    wanted: list[_Column],
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
            readable, encoding = _readable(path, Path(folder))
            if encoding != "utf-8":
                notes.append(f"{path}: read as {encoding}")
            form = form_of(path)
            opened = _csv(path, readable) if form == "csv" else _json(engine, path, readable, names)
            header, select = opened
            parts = dict(part.split("=", 1) for part in path.parts[:-1] if "=" in part)
            seen |= dict.fromkeys([*header, *parts], "VARCHAR")
            chosen = [
                _json_text(name) if form == "jsonl" else name_of(name)
                for name in names
                if name in header
            ]
            chosen += [
                f"{quoted(value)} AS {name_of(name)}"
                for name, value in parts.items()
                if name in names and name not in header
            ]
            if chosen:
                try:
                    engine.run(
                        f"INSERT INTO {relation} BY NAME SELECT {', '.join(chosen)} {select}"
                    )
                except duckdb.Error as error:
                    raise _bad_line(path, readable, error) from None
            starts.append((n_rows, str(path)))
            n_rows = engine.value(f"SELECT count(*) FROM {relation}")
    return seen, tuple(starts)


def _readable(path: Path, folder: Path) -> tuple[Path, str]:
    """A file that DuckDB can read (UTF-8), ``path`` itself if it is one, and its encoding."""
    encoding = _encoding(path)
    with _bytes(path) as file:
        marked = file.read(3) == codecs.BOM_UTF8
    if encoding == "utf-8" and not marked:
        return path, encoding
    written = folder / f"utf8{''.join(path.suffixes).lower().removesuffix('.gz')}"
    source = "utf-8-sig" if encoding == "utf-8" else encoding
    with (
        io.TextIOWrapper(_bytes(path), encoding=source, newline="") as text,
        written.open("w", encoding="utf-8", newline="") as copy,
    ):
        while chunk := text.read(_CHUNK):
            copy.write(chunk)
    return written, encoding


def _encoding(path: Path) -> str:
    """The first encoding of utf-8 (or utf-16 if marked) and gb18030 that reads the whole file."""
    try:
        with _bytes(path) as file:
            start = file.read(2)
    except (OSError, EOFError) as error:
        raise _damaged(str(path), error) from None
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    for encoding in ("utf-8", "gb18030"):
        decoder = codecs.getincrementaldecoder(encoding)("strict")
        try:
            with _bytes(path) as file:
                while chunk := file.read(_CHUNK):
                    decoder.decode(chunk)
                decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        except (OSError, EOFError) as error:
            raise _damaged(str(path), error) from None
        return encoding
    raise DataError(f"{path}: neither UTF-8 nor GB18030; write the file as UTF-8")


def _bytes(path: Path) -> BinaryIO:
    if path.name.lower().endswith(".gz"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")


def glance(engine: Engine, path: Path, relation: str, *, rows: int) -> dict[str, str]:
    """Make ``relation`` of a file's first rows, every column of a text file as text; its types.

    Raises `DataError` where the file is damaged.
    """
    if form_of(path) == "parquet":
        try:
            engine.run(
                f"CREATE OR REPLACE TABLE {name_of(relation)} AS "
                f"FROM read_parquet({quoted(str(path))}, binary_as_string = true) LIMIT {rows}"
            )
        except duckdb.Error as error:
            raise _damaged(str(path), error) from None
        return engine.columns(relation)
    with tempfile.TemporaryDirectory(prefix="daogou-") as folder:
        readable, _ = _readable(path, Path(folder))
        if form_of(path) == "csv":
            header, select = _csv(path, readable)
            chosen = [name_of(name) for name in header]
        else:
            header, select = _json(engine, path, readable, [])
            chosen = [_json_text(name) for name in header]
        try:
            engine.run(
                f"CREATE OR REPLACE TABLE {name_of(relation)} AS "
                f"SELECT {', '.join(chosen)} {select} LIMIT {rows}"
            )
        except duckdb.Error as error:
            raise _bad_line(path, readable, error) from None
    return engine.columns(relation)


def _csv(path: Path, readable: Path) -> tuple[list[str], str]:
    """Column names and the FROM clause of a CSV file, every column as text."""
    with io.TextIOWrapper(_bytes(readable), encoding="utf-8", newline="") as text:
        try:
            first = text.readline()
        except (OSError, EOFError) as error:
            raise _damaged(str(path), error) from None
    if not first.strip():
        raise DataError(f"{path}: the file is empty; its first line must name the columns")
    tabbed = path.name.lower().removesuffix(".gz").endswith(".tsv")
    mark = "\t" if tabbed else max(",\t;|", key=first.count)
    header = [name.strip() for name in next(csv.reader([first], delimiter=mark))]
    header = [name or f"column{i}" for i, name in enumerate(header)]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path}: column {twice[0]!r} is named twice; rename one of the two")
    columns = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in header)
    return header, (
        f"FROM read_csv({quoted(str(readable))}, columns = {{{columns}}}, header = true, "
        f"auto_detect = false, delim = {quoted(mark)}, quote = '\"', escape = '\"')"
    )


def _json(engine: Engine, path: Path, readable: Path, names: list[str]) -> tuple[list[str], str]:
    """Column names and the FROM clause of a JSON lines file, every column as JSON."""
    file = quoted(str(readable))
    header: list[str] = []
    for sample in (20_480, -1):  # a rare field may be in the last line only
        try:
            rows = engine.rows(
                f"DESCRIBE FROM read_json({file}, format = 'newline_delimited', "
                f"sample_size = {sample}, maximum_depth = 1)"
            )
        except duckdb.Error as error:
            raise _bad_line(path, readable, error) from None
        header = [str(row[0]) for row in rows]
        if set(names) <= set(header):
            break
    columns = ", ".join(f"{quoted(name)}: 'JSON'" for name in header)
    return header, (
        f"FROM read_json({file}, format = 'newline_delimited', columns = {{{columns}}})"
    )


def _json_text(name: str) -> str:
    return f"json_extract_string({name_of(name)}, '$') AS {name_of(name)}"


def _bad_line(path: Path, readable: Path, error: Exception) -> DataError:
    """The error of a malformed text file, with its line."""
    message = str(error)
    found = re.search(r"CSV Error on Line: (\d+)", message)
    if found:
        lines = message.split("\n")
        counts = [line for line in lines if line.startswith("Expected Number of Columns")]
        reason = "unterminated quote" if "unterminated" in message else (counts or lines)[0]
        return DataError(
            f"{path} line {found[1]}: not a row of this table ({reason}); correct or remove it"
        )
    if form_of(path) == "jsonl":
        # DuckDB's line number is that of the end of its buffer, so the line is looked for here.
        with io.TextIOWrapper(_bytes(readable), encoding="utf-8") as text:
            for number, line in enumerate(text, start=1):
                try:
                    broken = bool(line.strip()) and not isinstance(json.loads(line), dict)
                except ValueError:
                    broken = True
                if broken:
                    return DataError(
                        f"{path} line {number}: not a JSON object; write one object per line"
                    )
    return _damaged(str(path), error)


def _agree(
    engine: Engine, shop: Shop, sources: list[_Source], notes: list[str]
) -> dict[tuple[str, str], str]:
    """The type of every key column; an events column has the type of the table it points to."""
    found = {
        (source.table, column.name): _key_type(engine, source, column, notes)
        for source in sources
        for column in source.columns
        if column.role == "key"
    }
    events = shop.events
    pairs = []
    if events and shop.users and events.user:
        pairs.append((("users", shop.users.key), ("events", events.user)))
    if events and shop.items and events.item:
        pairs.append((("items", shop.items.key), ("events", events.item)))
    for one, other in pairs:
        if found[one] != found[other]:
            notes.append(
                f"{one[0]}.{one[1]} is {found[one]} and {other[0]}.{other[1]} is {found[other]}: "
                "both are compared as text"
            )
            found[one] = found[other] = "VARCHAR"
    return found


def _key_type(engine: Engine, source: _Source, column: _Column, notes: list[str]) -> str:
    kind, name = source.types[column.name], name_of(column.name)
    _refuse_float(column, kind)
    if kind in ("UBIGINT", "HUGEINT", "UHUGEINT"):
        fits = engine.value(
            f"SELECT coalesce(bool_and(TRY_CAST({name} AS BIGINT) IS NOT NULL), true) "
            f"FROM {source.relation} WHERE {name} IS NOT NULL"
        )
        if not fits:
            notes.append(f"{column.setting}: beyond 64 bits with a sign, kept as text")
        return "BIGINT" if fits else "VARCHAR"
    if kind.endswith(("INT", "INTEGER")):
        return "BIGINT"
    if source.form == "parquet":
        return "VARCHAR"
    whole, number = engine.rows(
        f"SELECT coalesce(bool_and(regexp_full_match({name}, {quoted(_WHOLE)}) "
        f"AND TRY_CAST({name} AS BIGINT) IS NOT NULL), false), "
        f"coalesce(bool_and(regexp_full_match({name}, {quoted(_NUMBER)})) "
        f"AND bool_or({name} LIKE '%.%'), false) "
        f"FROM {source.relation} WHERE {name} <> ''"
    )[0]
    if number:
        _refuse_float(column, "DOUBLE")
    return "BIGINT" if whole else "VARCHAR"


def _refuse_float(column: _Column, kind: str) -> None:
    if kind in ("FLOAT", "DOUBLE") or kind.startswith("DECIMAL"):
        raise DataError(
            f"{column.setting}: column {column.name!r} holds {kind} numbers, which merge ids above "
            "2^53; cast it to a whole number or to text where the file is written"
        )


def _keep(engine: Engine, source: _Source, columns: str, relation: str, *, view: bool) -> int:
    """Make the typed table, or a view, and say how many rows it has."""
    kind = "VIEW" if view else "TABLE"
    try:
        engine.run(f"CREATE OR REPLACE {kind} {source.table} AS SELECT {columns} FROM {relation}")
        return int(engine.value(f"SELECT count(*) FROM {source.table}"))
    except duckdb.Error as error:
        raise _damaged(f"{source.table}.path", error) from None


def _typed(
    engine: Engine, source: _Source, keys: Mapping[tuple[str, str], str], notes: list[str]
) -> str:
    """SQL of the table's columns, each of its type."""
    plain = [column for column in source.columns if column.role == "plain"]
    numbers = _number_types(engine, source, plain, notes)
    chosen = []
    for column in source.columns:
        name = name_of(column.name)
        if column.role == "key":
            kind = keys[source.table, column.name]
            cast = f"nullif(CAST({name} AS VARCHAR), '')" if kind == "VARCHAR" else name
            value = f"CAST({cast} AS {kind})"
        elif column.role == "time":
            value = _time(engine, source, column, notes)
        elif column.role == "word":
            if column.setting in ("events.request", "events.id"):
                _refuse_float(column, source.types[column.name])
            value = f"nullif(CAST({name} AS VARCHAR), '')"
        elif column.role == "number":
            value = _number(engine, source, column, notes)
        elif column.role in ("spans", "words"):
            value = _nested(engine, source, column)
        else:
            value = numbers.get(column.name, name)
        chosen.append(f"{value} AS {name}")
    return ", ".join(chosen)


def _number_types(
    engine: Engine, source: _Source, columns: list[_Column], notes: list[str]
) -> dict[str, str]:
    """For a text file, the cast of each column whose every value is a number."""
    if source.form == "parquet" or not columns:
        return {}
    counts = []
    for column in columns:
        name = name_of(column.name)
        # A leading zero is part of a code (007, a post code), not of a number.
        number = (
            f"TRY_CAST({name} AS DOUBLE) IS NOT NULL AND NOT regexp_matches({name}, '^-?0[0-9]')"
        )
        whole = (
            f"regexp_full_match({name}, {quoted(_WHOLE)}) AND TRY_CAST({name} AS BIGINT) NOTNULL"
        )
        counts += [
            f"count(nullif({name}, ''))",
            f"count(*) FILTER (WHERE {number})",
            f"count(*) FILTER (WHERE {whole})",
            f"count(*) FILTER (WHERE regexp_full_match(trim({name}), {quoted(MONEY)}))",
        ]
    row = engine.rows(f"SELECT {', '.join(counts)} FROM {source.relation}")[0]
    casts: dict[str, str] = {}
    for i, column in enumerate(columns):
        filled, n_number, n_whole, n_money = row[4 * i : 4 * i + 4]
        name = name_of(column.name)
        if filled and filled == n_whole:
            casts[column.name] = f"CAST(nullif({name}, '') AS BIGINT)"
        elif filled and filled == n_number:
            value = f"CAST(nullif({name}, '') AS DOUBLE)"
            casts[column.name] = f"CASE WHEN NOT isnan({value}) THEN {value} END"
        elif filled and filled == n_money:
            casts[column.name] = _amount(column, notes)
        elif n_number > 0.9 * filled:
            odd = f"{name} <> '' AND TRY_CAST({name} AS DOUBLE) IS NULL"
            notes.append(
                f"{column.setting}: {column.name!r} is kept as text because "
                f"{filled - n_number} of {filled} values are not numbers"
                f"{_examples(engine, source, column, odd)}"
            )
    return casts


def _amount(column: _Column, notes: list[str]) -> str:
    """The cast of a text column of prices as people write them."""
    notes.append(
        f"{column.setting}: {column.name!r} is read as numbers without signs of money and commas"
    )
    digits = f"regexp_replace({name_of(column.name)}, '[^-0-9.]', '', 'g')"
    return f"TRY_CAST({digits} AS DOUBLE)"


def _examples(engine: Engine, source: _Source, column: _Column, condition: str) -> str:
    """`` (place 'value', ...)`` of the first rows for which the condition holds, or nothing."""
    rows = engine.rows(
        f'SELECT "@row", CAST({name_of(column.name)} AS VARCHAR) FROM '
        f'(SELECT *, row_number() OVER () - 1 AS "@row" FROM {source.relation}) '
        f'WHERE {condition} ORDER BY "@row" LIMIT {_EXAMPLES}'
    )
    if not rows:
        return ""
    return f" ({', '.join(f'{source.place(row)}: {value!r}' for row, value in rows)})"


def _number(engine: Engine, source: _Source, column: _Column, notes: list[str]) -> str:
    name = name_of(column.name)
    bad = f"{name} IS NOT NULL AND TRY_CAST({name} AS DOUBLE) IS NULL"
    if source.form != "parquet":
        bad += f" AND {name} <> ''"
        odd = f"{bad} AND NOT regexp_full_match(trim({name}), {quoted(MONEY)})"
        n_bad, n_odd = engine.rows(
            f"SELECT count(*) FILTER (WHERE {bad}), count(*) FILTER (WHERE {odd}) "
            f"FROM {source.relation}"
        )[0]
        if n_bad and not n_odd:
            return _amount(column, notes)
    count = engine.value(f"SELECT count(*) FROM {source.relation} WHERE {bad}")
    if count:
        raise DataError(
            f"{column.setting}: {count} values of {column.name!r} are not numbers"
            f"{_examples(engine, source, column, bad)}; correct them where the file is written"
        )
    return f"TRY_CAST({name} AS DOUBLE)"


def _nested(engine: Engine, source: _Source, column: _Column) -> str:
    """Spans as a list of structs, attribute names as a list of texts; JSON text is understood."""
    name, kind = name_of(column.name), source.types[column.name]
    shape = (
        '[{"start": "BIGINT", "end": "BIGINT", "attribute": "VARCHAR"}]'
        if column.role == "spans"
        else '["VARCHAR"]'
    )
    if kind in ("VARCHAR", "JSON"):
        bad = f"{name} <> '' AND (NOT json_valid({name}) OR json_type({name}) <> 'ARRAY')"
        count = engine.value(f"SELECT count(*) FROM {source.relation} WHERE {bad}")
        if count:
            raise DataError(
                f"{column.setting}: {count} values of {column.name!r} are not JSON lists"
                f"{_examples(engine, source, column, bad)}; "
                'write [{"start": 0, "end": 4, "attribute": "colour"}] or use parquet'
            )
        return f"from_json(nullif({name}, ''), {quoted(shape)})"
    wanted = ("start", "end", "attribute") if column.role == "spans" else ()
    if not kind.endswith("[]") or any(each not in kind for each in wanted):
        raise DataError(
            f"{column.setting}: column {column.name!r} is {kind}; "
            f"a list of {'{start, end, attribute}' if wanted else 'texts'} is needed"
        )
    if not wanted:
        return f"CAST({name} AS VARCHAR[])"
    return (
        f"list_transform({name}, lambda span: {{'start': CAST(span.start AS BIGINT), "
        "'end': CAST(span.end AS BIGINT), 'attribute': CAST(span.attribute AS VARCHAR)})"
    )


def _time(engine: Engine, source: _Source, column: _Column, notes: list[str]) -> str:
    """SQL that gives the column as ``TIMESTAMP`` in UTC, NULL where it cannot be read."""
    kind, name = source.types[column.name], name_of(column.name)
    if kind.startswith("TIMESTAMP WITH TIME ZONE") or kind == "TIMESTAMPTZ":
        # AT TIME ZONE would ask the calendar of time zones about every row.
        value = f"make_timestamp(CASE WHEN isfinite({name}) THEN epoch_us({name}) END)"
    elif kind.startswith("TIMESTAMP") or kind == "DATE":
        value = f"CAST({name} AS TIMESTAMP)"
    elif kind == "VARCHAR":
        value = _time_of_text(engine, source, column, notes)
    elif "INT" in kind or kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL"):
        value = _time_of_number(engine, source, column, name, notes)
    else:
        raise DataError(
            f"{column.setting}: column {column.name!r} is {kind}; "
            "give timestamps, dates, epoch numbers or ISO texts"
        )
    value = f"CASE WHEN isfinite({value}) THEN {value} END"
    lost = f"{name} IS NOT NULL AND {value} IS NULL"
    if source.form != "parquet":
        lost += f" AND {name} <> ''"
    filled, n_lost = engine.rows(
        f"SELECT count({name}), count(*) FILTER (WHERE {lost}) FROM {source.relation}"
    )[0]
    if n_lost == filled:
        raise DataError(
            f"{column.setting}: no value of {column.name!r} is a time"
            f"{_examples(engine, source, column, lost)}; write ISO 8601 or epoch numbers"
        )
    if n_lost:
        notes.append(
            f"{column.setting}: {n_lost} of {filled} times cannot be read"
            f"{_examples(engine, source, column, lost)}"
        )
    return value


def _time_of_text(engine: Engine, source: _Source, column: _Column, notes: list[str]) -> str:
    text = f"trim({name_of(column.name)})"
    zoned = f"regexp_matches({text}, {quoted(_ZONED)})"
    filled, n_number, n_zoned = engine.rows(
        f"SELECT count(nullif({text}, '')), "
        f"count(*) FILTER (WHERE regexp_full_match({text}, {quoted(_NUMBER)})), "
        f"count(*) FILTER (WHERE {zoned}) "
        f"FROM {source.relation}"
    )[0]
    if filled and n_number == filled:
        return _time_of_number(engine, source, column, text, notes)
    plain = (
        f"coalesce(TRY_CAST({text} AS TIMESTAMP), "
        f"try_strptime({text}, [{', '.join(quoted(each) for each in _FORMATS)}]))"
    )
    # 'Z' and zone names are ICU's; only '+00' is read the same by every version.
    utc = f"regexp_replace({text}, '\\s*(Z|z|UTC|GMT)$', '+00')"
    utc = f"regexp_replace({utc}, '\\s+([+-][0-9:]+)$', '\\1')"
    instant = f"(TRY_CAST({utc} AS TIMESTAMPTZ) AT TIME ZONE 'UTC')"
    n_plain = engine.value(
        f"SELECT count(*) FROM {source.relation} WHERE NOT {zoned} AND {plain} IS NOT NULL"
    )
    if n_zoned and n_plain:
        with_zone = _examples(engine, source, column, zoned)
        without = _examples(engine, source, column, f"NOT {zoned} AND {plain} IS NOT NULL")
        raise DataError(
            f"{column.setting}: mixed zones: {n_zoned} times carry one{with_zone} and {n_plain} "
            f"do not{without}; write all of them with a zone, or none"
        )
    return instant if n_zoned else plain


def _time_of_number(
    engine: Engine, source: _Source, column: _Column, number: str, notes: list[str]
) -> str:
    """Epoch seconds, milli-, micro- or nanoseconds by their size, or dates as yyyymmdd."""
    n = f"TRY_CAST({number} AS DOUBLE)"
    low, high, typical, n_dates, filled = engine.rows(
        f"SELECT min({n}), max({n}), approx_quantile(abs({n}), 0.5), "
        f"count(try_strptime(TRY_CAST({number} AS VARCHAR), '%Y%m%d')), count({n}) "
        f"FROM {source.relation}"
    )[0]
    if filled and n_dates == filled and low >= 19_000_101 and high <= 21_001_231:
        notes.append(f"{column.setting}: {column.name!r} is read as dates, yyyymmdd")
        return f"try_strptime(CAST({number} AS VARCHAR), '%Y%m%d')"
    units = (("seconds", 1e11, 1), ("milliseconds", 1e14, 1e3), ("microseconds", 1e17, 1e6))
    unit, scale = next(
        ((word, scale) for word, limit, scale in units if (typical or 0) < limit),
        ("nanoseconds", 1e9),
    )
    notes.append(f"{column.setting}: {column.name!r} is read as {unit} since 1970, UTC")
    inside = f"{n} BETWEEN {_FIRST_S} * {scale:.0f}.0 AND {_LAST_S} * {scale:.0f}.0"
    # Decimals keep the last microsecond that a double of 1e15 would round away.
    exact = f"TRY_CAST({number} AS DECIMAL(38, 6))"
    return (
        f"CASE WHEN {inside} THEN make_timestamp(CAST({exact} * {1e6 / scale:.3f} AS BIGINT)) END"
    )


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


def pointers(shop: Shop) -> Iterator[tuple[str, str, str]]:
    """Table, events column and key of each id that events keep of another table."""
    if shop.events and shop.events.user and shop.users:
        yield "users", shop.events.user, shop.users.key
    if shop.events and shop.events.item and shop.items:
        yield "items", shop.events.item, shop.items.key


def _unread(source: _Source) -> tuple[str, ...]:
    read = {column.name for column in source.columns}
    return tuple(name for name in source.types if name not in read)


def _forget(engine: Engine, relation: str) -> None:
    kinds = engine.rows(
        f"SELECT table_type FROM information_schema.tables WHERE table_name = {quoted(relation)}"
    )
    for (kind,) in kinds:
        engine.run(f"DROP {'VIEW' if kind == 'VIEW' else 'TABLE'} {relation}")
