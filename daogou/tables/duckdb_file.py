"""A DuckDB file's rows to Arrow batches, every value as text, as `daogou.tables.sql` has them."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from daogou.errors import DataError
from daogou.tables.engine import name_of

SCHEME: Final = "duckdb:///"
# A query that came with somebody's shop may read that file and no other. Nor may it set anything:
# told to log into a file it would end the process.
_CONFIG: Final = {
    "enable_external_access": "false", "memory_limit": "256MB", "lock_configuration": "true",
}  # fmt: skip
_NESTED: Final = ("list", "array", "struct", "map", "union")


def rows_as_texts(
    where: str, root: Path, url: str, query: str, rows: int
) -> Iterator[pa.RecordBatch]:
    """What a query gives, in pieces of ``rows`` at most; an empty piece if it gives no row.

    ``where`` is the setting that errors name, the file is relative to ``root`` and only read.
    DataError where it is not there, held by who writes in it, or the query fails.
    """
    file = root / url.removeprefix(SCHEME)
    if not file.is_file():
        raise DataError(f"{where}: no database at {file}; give a path relative to shop.toml")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="daogou-") as spill,
            duckdb.connect(
                file, read_only=True, config={**_CONFIG, "temp_directory": spill}
            ) as connection,
        ):
            asked = connection.sql(query)
            if asked is None:
                raise DataError(f"{where}: the query asks for nothing; write a SELECT")
            names = list(asked.columns)
            check_names(where, names)
            texts = [
                f"{_text(name_of(name), type_)} AS {name_of(name)}"
                for name, type_ in zip(names, asked.types, strict=True)
            ]
            reader = asked.project(", ".join(texts)).to_arrow_reader(rows)
            yield pa.RecordBatch.from_pylist([], reader.schema)
            yield from reader
    except duckdb.Error as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{where}: the database at {file} refused ({reason}); see that nobody writes in it, "
            "and correct path or query"
        ) from None


def check_names(where: str, names: Sequence[str]) -> None:
    """DataError where two columns of a query differ in capitals at most: SQL takes them for one."""
    spelt = [name.lower() for name in names]
    twice = sorted(name for name in names if spelt.count(name.lower()) > 1)
    if twice:
        raise DataError(
            f"{where}: column {twice[0]!r} comes twice, whatever the capitals; rename one with AS"
        )


def _text(column: str, type_: Any) -> str:
    """SQL for a column's text, as a database's values are written whatever it is."""
    if type_.id in _NESTED:
        return f"to_json({column})::VARCHAR"
    if type_.id in ("float", "double"):
        return f"CASE WHEN isfinite({column}) THEN {column}::VARCHAR END"
    if type_.id == "timestamp with time zone":
        return f"strftime(make_timestamp(epoch_us({column})), '%Y-%m-%dT%H:%M:%S.%f+00:00')"
    if type_.id == "blob":
        return f"TRY(decode({column}))"
    return f"{column}::VARCHAR"
