"""A text file as rows of texts: its encoding, its columns, and the line that is broken."""

import codecs
import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from daogou.errors import DataError
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.read.files import bytes_of, damaged, form_of

_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Texts:
    """A text file as SQL reads it. Made by `open_texts`."""

    path: Path
    readable: Path  # the file itself, or a copy of it in UTF-8
    encoding: str  # of the file
    header: list[str]  # names of its columns
    relation: str  # the FROM clause

    def value(self, name: str) -> str:
        """SQL of a column's values as they are written."""
        return _json_text(name) if form_of(self.path) == "jsonl" else name_of(name)

    def insert(self, engine: Engine, statement: str) -> None:
        """Run a statement that reads the file; DataError says which line is broken."""
        try:
            engine.run(statement)
        except duckdb.Error as error:
            raise _bad_line(self.path, self.readable, error) from None


def open_texts(engine: Engine, path: Path, folder: Path, names: Sequence[str] = ()) -> Texts:
    """A CSV or JSON lines file; ``names`` are columns to look for until its end.

    ``folder`` takes a copy in UTF-8 where the file is in another encoding, over an earlier one.
    Raises `DataError` where the file is damaged or empty, or its header names a column twice.
    """
    readable, encoding = _readable(path, folder)
    if form_of(path) == "csv":
        header, relation = _csv(path, readable)
    else:
        header, relation = _json(engine, path, readable, names)
    return Texts(path, readable, encoding, header, relation)


def _readable(path: Path, folder: Path) -> tuple[Path, str]:
    """A file that DuckDB can read (UTF-8), ``path`` itself if it is one, and its encoding."""
    encoding = _encoding(path)
    with bytes_of(path) as file:
        marked = file.read(3) == codecs.BOM_UTF8
    if encoding == "utf-8" and not marked:
        return path, encoding
    written = folder / f"utf8{''.join(path.suffixes).lower().removesuffix('.gz')}"
    source = "utf-8-sig" if encoding == "utf-8" else encoding
    with (
        io.TextIOWrapper(bytes_of(path), encoding=source, newline="") as text,
        written.open("w", encoding="utf-8", newline="") as copy,
    ):
        while chunk := text.read(_CHUNK):
            copy.write(chunk)
    return written, encoding


def _encoding(path: Path) -> str:
    """The first encoding of utf-8 (or utf-16 if marked) and gb18030 that reads the whole file."""
    try:
        with bytes_of(path) as file:
            start = file.read(2)
    except (OSError, EOFError) as error:
        raise damaged(str(path), error) from None
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    for encoding in ("utf-8", "gb18030"):
        decoder = codecs.getincrementaldecoder(encoding)("strict")
        try:
            with bytes_of(path) as file:
                while chunk := file.read(_CHUNK):
                    decoder.decode(chunk)
                decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        except (OSError, EOFError) as error:
            raise damaged(str(path), error) from None
        return encoding
    raise DataError(f"{path}: neither UTF-8 nor GB18030; write the file as UTF-8")


def _csv(path: Path, readable: Path) -> tuple[list[str], str]:
    """Column names and the FROM clause of a CSV file, every column as text."""
    with io.TextIOWrapper(bytes_of(readable), encoding="utf-8", newline="") as text:
        try:
            first = text.readline()
            while first.count('"') % 2 and len(first) < _CHUNK and (more := text.readline()):
                first += more  # a name of several lines
        except (OSError, EOFError) as error:
            raise damaged(str(path), error) from None
    if not first.strip():
        raise DataError(f"{path}: the file is empty; its first line must name the columns")
    tabbed = path.name.lower().removesuffix(".gz").endswith(".tsv")
    mark = "\t" if tabbed else max(",\t;|", key=first.count)
    named = next(csv.reader(io.StringIO(first, newline=""), delimiter=mark))
    header = [name.strip() for name in named]
    header = [name or f"column{i}" for i, name in enumerate(header)]
    spelt = [name.lower() for name in header]  # as SQL tells them apart
    twice = sorted({name for name in header if spelt.count(name.lower()) > 1})
    if twice:
        raise DataError(
            f"{path}: column {twice[0]!r} is named twice, whatever the capitals; rename one of "
            "the two"
        )
    columns = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in header)
    # DuckDB takes the first line break that it meets for the rows', though it be in a name.
    ends = ", new_line = '\\r\\n'" if "\n" in first[:-2] and first.endswith("\r\n") else ""
    return header, (
        f"FROM read_csv({quoted(str(readable))}, columns = {{{columns}}}, header = true, "
        f"auto_detect = false, delim = {quoted(mark)}, quote = '\"', escape = '\"'{ends})"
    )


def _json(
    engine: Engine, path: Path, readable: Path, names: Sequence[str]
) -> tuple[list[str], str]:
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
        with io.TextIOWrapper(bytes_of(readable), encoding="utf-8") as text:
            for number, line in enumerate(text, start=1):
                try:
                    broken = bool(line.strip()) and not isinstance(json.loads(line), dict)
                except ValueError:
                    broken = True
                if broken:
                    return DataError(
                        f"{path} line {number}: not a JSON object; write one object per line"
                    )
    return damaged(str(path), error)
