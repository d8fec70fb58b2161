"""The URL of a database to connections that begin as readers or as writers."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from daogou.errors import ConfigError, MissingExtra
from daogou.serve.tables import Document


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
