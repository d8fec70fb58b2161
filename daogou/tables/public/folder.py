"""A public data set's files as found, and a shop folder as written: what all importers share."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from daogou.errors import DataError
from daogou.tables.engine import Engine, name_of, quoted


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


def read_csv(engine: Engine, table: str, path: Path, columns: Mapping[str, str]) -> None:
    """Keep a CSV file with a header as ``table``, its columns of just these names and types.

    An empty field is NULL and the text ``NA`` is the text ``NA``. Raises `DataError` with
    DuckDB's line number if a row does not fit.
    """
    types = ", ".join(f"{quoted(name)}: {quoted(kind)}" for name, kind in columns.items())
    engine.run(f"DROP TABLE IF EXISTS {name_of(table)}")
    try:
        engine.run(
            f"CREATE TABLE {name_of(table)} AS SELECT row_number() OVER () AS line, * FROM "
            f"read_csv({quoted(str(path))}, header = true, auto_detect = false, delim = ',', "
            f"quote = '\"', escape = '\"', nullstr = '', columns = {{{types}}})"
        )
    except duckdb.Error as error:
        first = str(error).split("\n\n")[0]
        raise DataError(
            f"{path}: not the expected CSV with columns {', '.join(columns)}: {first}"
        ) from None


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
