"""The one door to DuckDB: a cursor per query, a memory limit with spill to disk, Arrow out."""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import pyarrow as pa

from daogou.errors import ConfigError, DataError


class Engine:
    """A private database in memory that spills into a folder of its own, gone when closed.

    Beyond ``memory_limit`` DuckDB moves tables and sorts to disk, in a new folder under ``spill``
    or, without one, where the system keeps temporary files, which on some systems is memory. With
    ``on_disk`` they lie in that folder from the start and are compressed, which takes a little
    longer and a tenth of the disk.

    DuckDB's Python client differs between 1.5 and 2.0 and locks a connection whose result is
    not drained; so each call here takes its own cursor and drains it.

    A call for which memory or disk do not suffice raises DataError, which says what to set or free.
    """

    def __init__(
        self,
        *,
        memory_limit: str = "2GB",
        threads: int = 2,
        spill: Path | None = None,
        on_disk: bool = False,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="daogou-", dir=spill)
        place = f"{self._folder.name}/tables.duckdb" if on_disk else ":memory:"
        self._limit = memory_limit
        self._connection = duckdb.connect(place)
        try:
            self.run(f"SET memory_limit = {quoted(memory_limit)}")
        except duckdb.ParserException as error:
            self.close()
            raise ConfigError(
                f"fit.memory_limit: {memory_limit!r} ({error}); write it as 2GB or 500MB"
            ) from None
        for setting in (
            f"SET threads = {threads}",
            f"SET temp_directory = {quoted(self._folder.name)}",
            "SET preserve_insertion_order = true",
            "SET GLOBAL TimeZone = 'UTC'",  # a plain SET holds for one cursor
            "SET enable_progress_bar = false",
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
        ):
            self.run(setting)

    def run(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement for its effect."""
        self.rows(sql, parameters)

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of the answer, as tuples."""
        with self._cursor() as cursor:
            answer: list[tuple[Any, ...]] = cursor.execute(sql, list(parameters)).fetchall()
        return answer

    def value(self, sql: str, parameters: Sequence[object] = ()) -> Any:
        """The first column of the first row."""
        rows = self.rows(sql, parameters)
        if not rows:
            raise DataError(f"no row came back from: {sql}")
        return rows[0][0]

    def table(self, sql: str) -> pa.Table:
        """The whole answer as one Arrow table."""
        with self._cursor() as cursor:
            answer = cursor.sql(sql)
            table: pa.Table = answer.to_arrow_table()
        return table

    def batches(self, sql: str, *, rows: int = 200_000) -> Iterator[pa.RecordBatch]:
        """The answer in pieces of about ``rows`` rows, so that memory stays flat.

        A thread asks for the next piece while the caller works on this one.
        """
        with self._cursor() as cursor, ThreadPoolExecutor(1) as ahead:
            reader = cursor.sql(sql).to_arrow_reader(rows)
            coming = ahead.submit(next, reader, None)
            while (batch := coming.result()) is not None:
                coming = ahead.submit(next, reader, None)
                yield batch

    def add(self, name: str, table: pa.Table) -> None:
        """Keep an Arrow table as table ``name``."""
        with self._cursor() as cursor:
            cursor.register("incoming", table)
            cursor.execute(f"CREATE OR REPLACE TABLE {name_of(name)} AS FROM incoming").fetchall()
            cursor.unregister("incoming")

    @contextmanager
    def _cursor(self) -> Iterator[Any]:  # an annotation of DuckDB's type would outlive it
        try:
            with self._connection.cursor() as cursor:
                yield cursor
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            told = str(error)
            if "offload" in told or "No space left" in told:
                remedy = f"free some disk at {Path(self._folder.name).parent}"
            elif not isinstance(error, duckdb.OutOfMemoryException):
                raise
            elif "used)" in told:
                remedy = f"raise fit.memory_limit from {self._limit}"
            else:  # the machine's, or what a process may have of it
                remedy = f"lower fit.memory_limit from {self._limit}, or end what else runs"
            sentence = told.strip().split("\n")[0]
            raise DataError(f"tables: they are too large ({sentence}); {remedy}") from None

    def columns(self, relation: str) -> dict[str, str]:
        """Column names and types of a table or view."""
        rows = self.rows(f"DESCRIBE {name_of(relation)}")
        return {str(row[0]): str(row[1]) for row in rows}

    def close(self) -> None:
        """Forget everything; the temporary folder goes too."""
        self._connection.close()
        self._folder.cleanup()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def name_of(column: str) -> str:
    """A column or table name for SQL, whatever is in it.

    >>> name_of("unit price")
    '"unit price"'
    """
    return '"' + column.replace('"', '""') + '"'


def quoted(text: str) -> str:
    """A text for SQL, whatever is in it.

    >>> quoted("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"
