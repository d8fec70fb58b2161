"""The URL of a database to one that is open: connections that begin as readers or as writers."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from daogou.errors import ConfigError, DataError, MissingExtra
from daogou.serve.tables import META, Document, prepare


class StoreError(DataError):
    """The database cannot be reached, or refuses; nothing was written."""


class Database:
    """An open database. Made by `Database.open`; safe to share between threads.

    Every method raises StoreError if the database cannot be reached; a write that raises has
    changed nothing.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], int]) -> None:
        self.engine = engine
        self.now_us = clock
        self._reading = engine.execution_options(reads=True)
        self._unsynced = engine.execution_options(synced=False)
        self.insert: Callable[[sa.Table], Any] = (sqlite if self.is_file else postgresql).insert

    @staticmethod
    def open(url: str, *, clock: Callable[[], int] | None = None) -> "Database":
        """The database at ``sqlite:///file`` or ``postgresql+psycopg://...``, made if need be.

        Raises ConfigError for a URL of another kind, MissingExtra without the driver,
        StoreError if the database cannot be reached, DataError if a newer version made it.
        """
        database = Database(engine_of(url), clock or _now_us)
        try:
            with database.writing() as connection:
                prepare(connection)
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    @property
    def place(self) -> str:
        """The URL without its password."""
        return self.engine.url.render_as_string(hide_password=True)

    @property
    def is_file(self) -> bool:
        """Whether it is SQLite's."""
        return bool(self.engine.dialect.name == "sqlite")

    def ping(self) -> None:
        """Raise StoreError if the database does not answer."""
        with self.reading() as connection:
            connection.execute(sa.select(META.c.value).limit(1)).first()

    def note(self, connection: sa.Connection, name: str, value: str) -> None:
        """Keep a value under a name, in the place of what was there."""
        statement = self.insert(META).values(name=name, value=value)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["name"], set_={"value": statement.excluded.value}
            )
        )

    @contextmanager
    def writing(self, *, synced: bool = True) -> Iterator[sa.Connection]:
        """A connection whose writes are committed, all or none, when the block ends well."""
        engine = self.engine if synced else self._unsynced
        with _told(self), engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self, *, snapshot: bool = False) -> Iterator[sa.Connection]:
        """A connection that only reads; with a ``snapshot``, all of it as of one moment."""
        with _told(self), self._reading.connect() as connection:
            if snapshot and not self.is_file:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def empty_log(self) -> None:
        """Empty what SQLite writes ahead, so that no file keeps what was removed."""
        if self.is_file:
            with _told(self), self.engine.raw_connection() as raw:
                raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def _told(database: Database) -> Iterator[None]:
    """A database that cannot be reached as StoreError; the driver's words may name a password."""
    try:
        yield
    except DBAPIError as error:
        reason = type(error.orig).__name__
        raise StoreError(
            f"store {database.place}: the database refused or cannot be reached ({reason}); "
            "see that it runs, has disk, and lets this user in"
        ) from (error if isinstance(error, OperationalError) else None)


def _now_us() -> int:
    return time.time_ns() // 1000


def engine_of(url: str) -> sa.Engine:
    """What connects to the database at a URL."""
    hint = "write sqlite:///daogou.db or postgresql+psycopg://user@host/name"
    try:
        made = sa.make_url(url)
    except ArgumentError:
        raise ConfigError(f"store: not the URL of a database; {hint}") from None
    kind = made.drivername
    if kind not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise ConfigError(f"store: {kind!r} is no database that is known here; {hint}")
    is_file = kind.startswith("sqlite")
    if is_file and made.database in (None, "", ":memory:"):
        raise ConfigError(f"store: a database in memory would lose every event; {hint}")
    options: Document = {"timeout": 10} if is_file else {"connect_timeout": 5}
    if not is_file:
        options["options"] = "-c statement_timeout=30000 -c timezone=UTC"
    try:
        engine = sa.create_engine(made, connect_args=options, pool_pre_ping=not is_file)
    except ImportError as error:
        raise MissingExtra(
            f"store: {error.name} is needed for {kind}; pip install 'daogou[postgres]'"
        ) from None
    if is_file:
        sa.event.listen(engine, "connect", _settle)
    sa.event.listen(engine, "begin", _begin if is_file else _begin_there)
    return engine


def _settle(connection: Any, _: object) -> None:
    """Settings of a new connection to SQLite."""
    connection.isolation_level = None  # `_begin` says when a transaction begins
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "secure_delete = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    """A writer takes its lock at once: one that reads first may find that it cannot write."""
    options = connection.get_execution_options()
    if options.get("reads"):
        connection.exec_driver_sql("BEGIN")
        return
    # NORMAL leaves what is written ahead to the next commit that syncs, or to the system.
    level = "FULL" if options.get("synced", True) else "NORMAL"
    connection.exec_driver_sql(f"PRAGMA synchronous = {level}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_there(connection: sa.Connection) -> None:
    """The same at PostgreSQL, which has begun by itself."""
    if not connection.get_execution_options().get("synced", True):
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
