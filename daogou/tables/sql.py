"""A database's rows to Arrow batches, every value as text: the one door to SQLAlchemy here."""

import json
import math
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from daogou.errors import ConfigError, DataError, MissingExtra
from daogou.tables.duckdb_file import SCHEME, check_names, rows_as_texts

if TYPE_CHECKING:
    from sqlalchemy import URL

_ROWS: Final = 50_000  # of a batch
_EXTRAS: Final = {"sqlite": "serve", "postgresql": "postgres"}


def is_database(path: str) -> bool:
    """Whether a table's path is the URL of a database.

    >>> is_database("sqlite:///daogou.db"), is_database("events/*.parquet")
    (True, False)
    """
    return "://" in path


def batches(where: str, root: Path, url: str, query: str) -> Iterator[pa.RecordBatch]:
    """What a query gives, in pieces, each column as text; an empty piece if it gives no row.

    ``where`` is the setting that errors name; the file of SQLite or DuckDB is relative to ``root``.
    Lists and objects become JSON, times ISO 8601, numbers that are none become null. Raises
    MissingExtra without SQLAlchemy or the driver, ConfigError for a URL that cannot be used,
    DataError where the database or the query fails.
    """
    if url.startswith(SCHEME):
        yield from rows_as_texts(where, root, url, query, _ROWS)
        return
    try:
        import sqlalchemy as sa
    except ImportError:
        raise MissingExtra(f"{where}: SQLAlchemy is needed; pip install 'daogou[serve]'") from None
    made = _url(where, root, url)
    try:
        engine = sa.create_engine(made)
    except ImportError as error:
        extra = _EXTRAS[made.get_backend_name()]
        raise MissingExtra(
            f"{where}: {error.name} is needed; pip install 'daogou[{extra}]'"
        ) from None
    try:
        with engine.connect() as connection:
            options = connection.execution_options(stream_results=True, yield_per=_ROWS)
            result = options.execute(sa.text(query))
            names = list(result.keys())
            check_names(where, names)
            schema = pa.schema([(name, pa.string()) for name in names])
            yield pa.RecordBatch.from_pylist([], schema)
            for rows in result.partitions(_ROWS):
                columns = zip(*rows, strict=True)
                arrays = [pa.array(map(_text, column), pa.string()) for column in columns]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)
    except sa.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
        raise DataError(
            f"{where}: the database at {made.render_as_string()} refused ({reason}); "
            "see that it runs, and correct path or query"
        ) from None
    finally:
        engine.dispose()


def _url(where: str, root: Path, url: str) -> "URL":
    import sqlalchemy as sa

    hint = "write sqlite:///FILE, duckdb:///FILE or postgresql+psycopg://user@host/name"
    try:
        made = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ConfigError(f"{where}: not the URL of a database; {hint}") from None
    if made.get_backend_name() not in _EXTRAS:
        raise ConfigError(f"{where}: {made.drivername!r} is no database that is known; {hint}")
    if made.password is not None:
        raise ConfigError(
            f"{where}: holds a password, which every run would keep; take it out and give it by "
            "PGPASSWORD or a .pgpass file"
        )
    if made.get_backend_name() == "sqlite":
        file = root / (made.database or "")
        if not file.is_file():  # connecting would make an empty one
            raise DataError(f"{where}: no database at {file}; give a path relative to shop.toml")
        made = made.set(database=str(file))
    return made


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "replace")
    return str(value)
