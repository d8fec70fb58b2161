"""A public data set's files as found, and a shop folder as written: what all importers share."""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow.parquet as pq

from daogou.errors import DataError, unknown
from daogou.tables.engine import Engine, name_of, quoted

# What is counted, how many are done, of about how many, and words for whoever waits.
Report = Callable[[str, int, int, str], None]
_CUT: Final = (gzip.BadGzipFile, EOFError, zlib.error)  # what reading half a gzip file raises
_HEAD: Final = 1 << 20  # bytes of a file that are looked at before it is read

# A log of ratings: what was rated is the exposure, how well it was liked are the labels.
RATINGS_TOML: Final = """\
[events]
path = "events.parquet"
user = "user_id"
item = "item_id"
time = "time"
kind = "kind"
# There are no impressions: a rating is the exposure. Liked is 4 stars or more, loved is 5. So this
# says how well somebody likes what they chose to rate, and nothing of what they would choose.
funnel = ["rated", "liked", "loved"]
# What was rated and not liked is an input as well.
history = ["rated", "liked", "loved"]
# A rating tells all of it at its own moment.
window_h = { liked = 0.01, loved = 0.01 }
"""


def find_source(path: Path, names: Sequence[str], home: str) -> Path:
    """The first of ``names`` in the folder ``path``, or ``path`` itself if it is a file.

    Raises `DataError` if there is none, saying what was looked for and, from ``home``, where
    it is to be had.
    """
    if path.is_file():
        return path
    for name in names:
        if (path / name).is_file():
            return path / name
    wanted = " or ".join(names)
    raise DataError(f"{path}: looked for {wanted} and found none; get it from {home}")


def say_nothing(what: str, done: int, total: int, words: str) -> None:
    """The `Report` of whoever does not wait."""


def engine_in(out: Path) -> Engine:
    """An engine that spills into the folder ``out``, which is made, and so onto its disk."""
    out.mkdir(parents=True, exist_ok=True)
    return Engine(spill=out)


def csv_rows(
    path: Path,
    columns: Mapping[str, str],
    home: str,
    *,
    header: bool = True,
    delim: str = ",",
    quote: str = '"',
    encoding: str = "utf-8",
) -> str:
    """SQL for the rows of a text file (.gz too), which is read as they stream by.

    ``columns`` are names and types: with a header those that are wanted of the file's, in any
    order, without one all of them in order. An empty field is NULL. ``quote`` may be empty. Run
    it inside `reading`.

    Raises `DataError` if the first line is not of such a file, with what it is and, from ``home``,
    where the right one is to be had.
    """
    found = _first_fields(path, delim, quote, encoding)
    missing = [name for name in columns if name not in found] if header else []
    if missing or (not header and len(found) != len(columns)):
        wanted = f"a header with {', '.join(missing)}" if header else f"{len(columns)} fields"
        raise DataError(
            f"{path}: the first line should be {wanted}, separated by {delim!r}; it is "
            f"{delim.join(found)[:120]!r}; get the file from {home}"
        )
    names = found if header else list(columns)
    types = ", ".join(f"{quoted(name)}: {quoted(columns.get(name, 'VARCHAR'))}" for name in names)
    return (
        f"(SELECT {', '.join(map(name_of, columns))} FROM read_csv({quoted(str(path))}, "
        f"header = {str(header).lower()}, auto_detect = false, delim = {quoted(delim)}, "
        f"quote = {quoted(quote)}, escape = {quoted(quote)}, nullstr = '', "
        f"encoding = {quoted(encoding)}, columns = {{{types}}}))"
    )


def _first_fields(path: Path, delim: str, quote: str, encoding: str) -> list[str]:
    line = _first_line(path, encoding)
    if quote:
        return next(csv.reader([line], delimiter=delim, quotechar=quote), [])
    return line.split(delim)


def _first_line(path: Path, encoding: str) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            line = file.readline(_HEAD)
    except _CUT as error:
        raise DataError(f"{path}: not a whole gzip file ({error}); fetch it again") from None
    return line.decode(encoding, errors="replace").lstrip("\ufeff").rstrip("\r\n")


@contextmanager
def reading(path: Path, form: str) -> Iterator[None]:
    """What DuckDB says of the file inside becomes a `DataError`: not the expected ``form``."""
    try:
        yield
    except duckdb.Error as error:
        first = str(error).split("\n\n")[0]
        raise DataError(f"{path}: not the expected {form}: {first}") from None


def about_lines(path: Path) -> int:
    """How many lines a file (.gz too) has, guessed from its size and its first MiB; 1 or more."""
    with path.open("rb") as raw:
        text = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
        try:
            lines = text.read(_HEAD).count(b"\n")
        except _CUT:
            return 1  # whoever reads it says so
        share = raw.tell() / max(path.stat().st_size, 1)
    return max(1, round(lines / share)) if share else 1


def stream_parquet(engine: Engine, sql: str, file: Path, report: Report, about: int) -> int:
    """The answer of ``sql`` as one parquet file, written as it comes; returns its rows.

    Memory holds a few pieces of it, however many rows there are: ``about`` so many, for the bar.
    Raises `DataError` if there is none.
    """
    done = 0
    writer: pq.ParquetWriter | None = None
    try:
        for batch in engine.batches(sql):
            writer = writer or pq.ParquetWriter(file, batch.schema, compression="zstd")
            writer.write_batch(batch)
            done += batch.num_rows
            report("rows", done, max(about, done + 1), f"{file.stem} {done:,}")
    finally:
        if writer:
            writer.close()
    if not done:
        raise DataError(f"{file.name}: no row is left to write; the files hold nothing to import")
    report("rows", done, done, f"{file.stem} {done:,}")
    return done


def rating_log(rows: str) -> str:
    """SQL that makes the log of `RATINGS_TOML` of ``rows``: user_id, item_id, time and rating."""
    return (
        "SELECT user_id, item_id, time, unnest(CASE WHEN rating >= 5 THEN "
        "['rated', 'liked', 'loved'] WHEN rating >= 4 THEN ['rated', 'liked'] ELSE ['rated'] END) "
        f"AS kind FROM {rows}"
    )


def kinds_of(
    engine: Engine, events: Path, kinds: Sequence[str], source: Path, column: str
) -> dict[str, int]:
    """How many events of each of ``kinds`` a written log has in its column ``kind``.

    Raises `DataError` if it has others, in the words of the ``column`` of ``source``.
    """
    found = dict(
        engine.rows(f"SELECT kind, count(*) FROM read_parquet({quoted(str(events))}) GROUP BY 1")
    )
    for kind in found:
        if kind not in kinds:
            raise DataError(f"{source}: {column}: {unknown(str(kind), kinds)}")
    return {kind: int(found.get(kind, 0)) for kind in kinds}


def n_different(engine: Engine, file: Path, column: str) -> int:
    """How many different values a column of a parquet file has."""
    return int(
        engine.value(
            f"SELECT count(DISTINCT {name_of(column)}) FROM read_parquet({quoted(str(file))})"
        )
    )


def json_rows(path: Path, keys: Mapping[str, str], home: str) -> str:
    """SQL for these keys, of these types, of a file of JSON lines (.gz too), as they stream by.

    Run it inside `reading`. Raises `DataError` if the first line has not all of ``keys``, with
    what it is and, from ``home``, where the right file is to be had.
    """
    line = _first_line(path, "utf-8")
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        found = None
    missing = [key for key in keys if not isinstance(found, dict) or key not in found]
    if missing:
        raise DataError(
            f"{path}: the first line should be a JSON object with {', '.join(missing)}; it is "
            f"{line[:120]!r}; get the file from {home}"
        )
    types = ", ".join(f"{quoted(key)}: {quoted(kind)}" for key, kind in keys.items())
    return (
        f"(SELECT * FROM read_json({quoted(str(path))}, format = 'newline_delimited', "
        f"columns = {{{types}}}))"
    )


def folder_of(path: Path) -> Path:
    """Where the files of a set of several lie: ``path``, or the folder of the file it names."""
    return path if path.is_dir() else path.parent


def read_csv(engine: Engine, table: str, path: Path, columns: Mapping[str, str]) -> None:
    """Keep a CSV file with a header as ``table``, its columns of just these names and types.

    An empty field is NULL and the text ``NA`` is the text ``NA``. Raises `DataError` with
    DuckDB's line number if a row does not fit.
    """
    types = ", ".join(f"{quoted(name)}: {quoted(kind)}" for name, kind in columns.items())
    engine.run(f"DROP TABLE IF EXISTS {name_of(table)}")
    with reading(path, f"CSV with columns {', '.join(columns)}"):
        engine.run(
            f"CREATE TABLE {name_of(table)} AS SELECT row_number() OVER () AS line, * FROM "
            f"read_csv({quoted(str(path))}, header = true, auto_detect = false, delim = ',', "
            f"quote = '\"', escape = '\"', nullstr = '', columns = {{{types}}})"
        )


def json_lines(path: Path, keys: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and object of every line of a JSONL file.

    Raises `DataError` naming the line that is not an object with all of ``keys``.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}:{number}: not JSON: {error}") from None
            missing = [key for key in keys if not isinstance(row, dict) or key not in row]
            if missing:
                raise DataError(
                    f"{path}:{number}: no {', '.join(missing)} here; a line is an object with "
                    f"{', '.join(keys)}"
                )
            yield number, row


def write_parquet(engine: Engine, sql: str, file: Path) -> int:
    """The answer of ``sql`` as one parquet file, in the answer's order; returns its rows."""
    rows = engine.value(f"COPY ({sql}) TO {quoted(str(file))} (FORMAT parquet, COMPRESSION zstd)")
    return int(rows)


def toml_list(words: Sequence[str]) -> str:
    """Texts as a TOML array of one line.

    >>> toml_list(["Net content", "品牌"])
    '["Net content", "品牌"]'
    """
    return json.dumps(list(words), ensure_ascii=False)


def write_toml(folder: Path, text: str) -> None:
    """``text`` as the folder's ``shop.toml``."""
    (folder / "shop.toml").write_text(text, encoding="utf-8", newline="\n")
