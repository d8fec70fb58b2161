"""The server's memory: events, products, users, edits, answers and keys, in one database.

SQLite and PostgreSQL by one code path. A method that returns has committed: SQLite writes ahead
and syncs at every commit, PostgreSQL does so by itself. Only what answers showed is not synced by
its own commit: it outlives the server, and a machine that loses its power may lose the newest, as
may a PostgreSQL that is killed.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError

from daogou.errors import DataError
from daogou.serve.database import engine_of
from daogou.serve.events import Event
from daogou.serve.tables import (
    EDITS,
    EVENTS,
    ITEMS,
    KEYS,
    META,
    METADATA,
    OF_USERS,
    REQUESTS,
    SHARED,
    USERS,
    Document,
    exported,
    prepare,
)

_ROWS: Final = 1000  # that are held in memory at once

_GROUP: Final = "runs "  # how the names begin that a group's runs are kept under

_SEEN_US: Final = 3_600_000_000


@dataclass(frozen=True)
class Request:
    """What an answer showed; its fields are the columns of the table ``requests``."""

    request_id: str
    time_us: int
    items: list[str]
    user_id: str | None = None
    session_id: str | None = None
    scenario: str | None = None
    variant: str | None = None


@dataclass(frozen=True)
class Key:
    """A key at rest; its fields are the columns of the table ``keys``."""

    key_id: str
    name: str
    scope: str
    digest: str
    created_us: int


@dataclass(frozen=True)
class Thing:
    """A product or a user as the shop describes it."""

    key: str
    fields: Mapping[str, Any]
    hidden: bool
    updated_us: int


class StoreError(DataError):
    """The database cannot be reached, or refuses; nothing was written."""


class Store:
    """An open database. Made by `Store.open`; safe to share between threads.

    Every method raises StoreError if the database cannot be reached; a write that raises has
    changed nothing.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], int]) -> None:
        self.engine = engine
        self.now_us = clock
        self._reading = engine.execution_options(reads=True)
        self._unsynced = engine.execution_options(synced=False)
        dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
        self._insert: Callable[[sa.Table], Any] = dialect.insert

    @staticmethod
    def open(url: str, *, clock: Callable[[], int] | None = None) -> "Store":
        """The store at ``sqlite:///file`` or ``postgresql+psycopg://...``; made if it is not there.

        Raises ConfigError for a URL of another kind, MissingExtra without the driver,
        StoreError if the database cannot be reached, DataError if a newer version made it.
        """
        store = Store(engine_of(url), clock or _now_us)
        try:
            with store._writing() as connection:
                prepare(connection)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    @property
    def place(self) -> str:
        """The URL without its password."""
        return self.engine.url.render_as_string(hide_password=True)

    # ---- events -----------------------------------------------------------------------------

    def add_events(self, events: Sequence[Event]) -> list[bool]:
        """Keep events; for each, whether it is new. One that is there already changes nothing.

        Where an event names both a user and a session, what the session did anonymously becomes
        the user's.
        """
        # In one order everywhere, so that two writers of the same ids wait and do not deadlock.
        wanted = {event.event_id: event for event in reversed(events)}
        rows = [{**vars(wanted[name])} for name in sorted(wanted)]
        with self._writing() as connection:
            new: set[str] = set()
            statement = self._insert(EVENTS).on_conflict_do_nothing()
            if rows:
                added = connection.execute(statement.returning(EVENTS.c.event_id), rows)
                new |= set(added.scalars())
            self._merge(connection, [event for event in events if event.event_id in new])
        told: list[bool] = []
        for event in events:
            told.append(event.event_id in new)
            new.discard(event.event_id)  # a repeat within the batch is no news
        return told

    def _merge(self, connection: sa.Connection, events: Iterable[Event]) -> None:
        """Give what sessions did anonymously to the users that they turned out to be."""
        known = {event.session_id: event.user_id for event in events if event.user_id}
        for session, user in sorted((s, u) for s, u in known.items() if s and u):
            for table in (EVENTS, REQUESTS):
                anonymous = (table.c.session_id == session) & table.c.user_id.is_(None)
                connection.execute(sa.update(table).where(anonymous).values(user_id=user))

    def events_of(
        self,
        *,
        user: str | None = None,
        session: str | None = None,
        kinds: Sequence[str] | None = None,
        last: int = 200,
    ) -> list[Event]:
        """The last events of a user, or of a session, or of either, oldest first.

        Of all kinds, or of some.
        """
        asked = sa.or_(*_whose(EVENTS, user, session))
        if kinds is not None:
            asked = sa.and_(asked, EVENTS.c.kind.in_(kinds))
        query = (
            sa.select(EVENTS)
            .where(asked)
            .order_by(EVENTS.c.time_us.desc(), EVENTS.c.event_id.desc())
            .limit(last)
        )
        with self._read() as connection:
            rows = connection.execute(query).mappings().all()
        return [Event(**row) for row in reversed(rows)]

    def recent(self, since_us: int, *, kinds: Sequence[str], last: int) -> list[Event]:
        """Everybody's last events of some kinds since a moment, oldest first."""
        query = (
            sa.select(EVENTS)
            .where(EVENTS.c.time_us >= since_us, EVENTS.c.kind.in_(kinds))
            .order_by(EVENTS.c.time_us.desc(), EVENTS.c.event_id.desc())
            .limit(last)
        )
        with self._read() as connection:
            rows = connection.execute(query).mappings().all()
        return [Event(**row) for row in reversed(rows)]

    def arrived(self, since_us: int, *, kinds: Sequence[str], most: int) -> list[tuple[str, int]]:
        """Product and arrival of the events of some kinds that came at or after a moment.

        The first to come first, and no more than ``most``.
        """
        query = (
            sa.select(EVENTS.c.item_id, EVENTS.c.received_us)
            .where(EVENTS.c.received_us >= since_us, EVENTS.c.kind.in_(kinds))
            .order_by(EVENTS.c.received_us)
            .limit(most)
        )
        with self._read() as connection:
            return [(item, when) for item, when in connection.execute(query)]

    def events_about(
        self, item: str, since_us: int, *, kinds: Sequence[str], last: int
    ) -> list[tuple[str, str, str, int, str | None]]:
        """The last events of some kinds about a product since a moment, oldest first.

        Who, the product, the kind, the time and the request of each; who has no user is the visit.
        """
        who = sa.func.coalesce(EVENTS.c.user_id, sa.literal("visit:") + EVENTS.c.session_id)
        query = (
            sa.select(who, EVENTS.c.item_id, EVENTS.c.kind, EVENTS.c.time_us, EVENTS.c.request_id)
            .where(EVENTS.c.item_id == item, EVENTS.c.time_us >= since_us, EVENTS.c.kind.in_(kinds))
            .order_by(EVENTS.c.time_us.desc(), EVENTS.c.event_id.desc())
            .limit(last)
        )
        with self._read() as connection:
            rows = connection.execute(query).all()
        return [(user, about, kind, at, request) for user, about, kind, at, request in rows[::-1]]

    # ---- products and users -----------------------------------------------------------------

    def put(self, table: str, things: Mapping[str, tuple[Mapping[str, Any], bool]]) -> None:
        """Write products or users, by key: their fields, and whether they are hidden.

        One that is there is replaced. ``table`` is ``items`` or ``users``; only products can be
        hidden.
        """
        where, key = _catalogue(table)
        rows = [
            {key.name: name, "fields": dict(fields), "updated_us": self.now_us()}
            | ({"hidden": hidden} if table == "items" else {})
            for name, (fields, hidden) in sorted(things.items())
        ]
        with self._writing() as connection:
            if rows:
                statement = self._insert(where)
                changed = {name: statement.excluded[name] for name in rows[0] if name != key.name}
                changed["updated_us"] = _later(where, changed["updated_us"])
                connection.execute(
                    statement.on_conflict_do_update(index_elements=[key.name], set_=changed), rows
                )
            self._mark(connection, table)

    def change(
        self, table: str, name: str, fields: Mapping[str, Any], hidden: bool | None
    ) -> Thing | None:
        """Change some fields of a product or user, null takes one away; None if not there."""
        where, key = _catalogue(table)
        with self._writing() as connection:
            row = (
                connection.execute(sa.select(where).where(key == name).with_for_update())
                .mappings()
                .first()
            )
            if row is None:
                return None
            old = _thing(row, key.name)
            kept = {
                column: value
                for column, value in {**old.fields, **fields}.items()
                if value is not None
            }
            values: Document = {
                "fields": kept, "updated_us": max(self.now_us(), old.updated_us + 1),
            }  # fmt: skip
            if table == "items":
                values["hidden"] = old.hidden if hidden is None else hidden
            connection.execute(sa.update(where).where(key == name).values(values))
            self._mark(connection, table)
        return _thing({key.name: name, **values}, key.name)

    def get(self, table: str, name: str) -> Thing | None:
        """A product or user; None if the store has none of that key."""
        where, key = _catalogue(table)
        with self._read() as connection:
            row = connection.execute(sa.select(where).where(key == name)).mappings().first()
        return None if row is None else _thing(row, key.name)

    def page(self, table: str, *, after: str = "", limit: int = 100) -> list[Thing]:
        """Products or users whose keys come after one, in the order of keys."""
        where, key = _catalogue(table)
        query = sa.select(where).where(key > after).order_by(key).limit(limit)
        with self._read() as connection:
            rows = connection.execute(query).mappings().all()
        return [_thing(row, key.name) for row in rows]

    def changed(self, table: str, since_us: int) -> list[Thing]:
        """Products or users written at or after a moment, in the order of keys."""
        where, key = _catalogue(table)
        query = sa.select(where).where(where.c.updated_us >= since_us).order_by(key)
        with self._read() as connection:
            rows = connection.execute(query).mappings().all()
        return [_thing(row, key.name) for row in rows]

    def items_version(self) -> str:
        """A name that changes with every write of products; empty before the first."""
        query = sa.select(META.c.value).where(META.c.name == ITEMS.name)
        with self._read() as connection:
            return connection.execute(query).scalar() or ""

    def items_written(self) -> dict[str, int]:
        """When each product was last written; a later write of it has a later time."""
        query = sa.select(ITEMS.c.item_id, ITEMS.c.updated_us)
        with self._read() as connection:
            return {name: when for name, when in connection.execute(query)}

    def items_of(self, names: Sequence[str]) -> Iterator[Thing]:
        """The products of these keys that are there, in no order."""
        for first in range(0, len(names), _ROWS):
            query = sa.select(ITEMS).where(ITEMS.c.item_id.in_(names[first : first + _ROWS]))
            with self._read() as connection:
                rows = connection.execute(query).mappings().all()
            for row in rows:
                yield _thing(row, ITEMS.c.item_id.name)

    def remove(self, table: str, name: str) -> bool:
        """Take a product out; whether it was there. A user is taken out by `forget`."""
        where, key = _catalogue(table)
        with self._writing() as connection:
            found = connection.execute(sa.delete(where).where(key == name)).rowcount
            self._mark(connection, table)
        return bool(found)

    def _mark(self, connection: sa.Connection, table: str) -> None:
        """Give `items_version` another value, where it is products that were written."""
        if table == ITEMS.name:
            self._set(connection, table, uuid.uuid4().hex)

    def _set(self, connection: sa.Connection, name: str, value: str) -> None:
        """Keep a value under a name, in the place of what was there."""
        statement = self._insert(META).values(name=name, value=value)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["name"], set_={"value": statement.excluded.value}
            )
        )

    # ---- what a user sets and forbids -------------------------------------------------------

    def edits_of(self, user: str) -> Document:
        """``{"set": {column: value}, "forbid": {column: [values]}}`` of a user."""
        query = sa.select(EDITS).where(EDITS.c.user_id == user).order_by(*EDITS.primary_key)
        with self._read() as connection:
            rows = connection.execute(query).mappings().all()
        found: Document = {"set": {}, "forbid": {}}
        for row in rows:
            value = json.loads(row["value"])
            if row["verb"] == "set":
                found["set"][row["column"]] = value
            else:
                found["forbid"].setdefault(row["column"], []).append(value)
        return found

    def edit(
        self, user: str, setting: Mapping[str, Any], forbidding: Mapping[str, Sequence[Any] | None]
    ) -> None:
        """Set columns of a user to values and forbid values; a column given null is let go."""
        rows = [("set", column, [value]) for column, value in setting.items()]
        rows += [("forbid", column, [*(values or ())]) for column, values in forbidding.items()]
        with self._writing() as connection:
            for verb, column, values in rows:
                connection.execute(
                    sa.delete(EDITS).where(
                        EDITS.c.user_id == user, EDITS.c.verb == verb, EDITS.c.column == column
                    )
                )
                texts = {
                    json.dumps(each, ensure_ascii=False) for each in values if each is not None
                }
                for text in sorted(texts):
                    connection.execute(
                        sa.insert(EDITS).values(
                            user_id=user, verb=verb, column=column, value=text,
                            updated_us=self.now_us(),
                        )
                    )  # fmt: skip

    def clear_edits(self, user: str) -> int:
        """Let go of all that a user set and forbade; how many values that were."""
        with self._writing() as connection:
            return connection.execute(sa.delete(EDITS).where(EDITS.c.user_id == user)).rowcount

    # ---- answers ----------------------------------------------------------------------------

    def log_request(self, request: Request) -> None:
        """Keep what an answer showed; the disk is not waited for, since a shopper would be too."""
        with self._writing(synced=False) as connection:
            connection.execute(self._insert(REQUESTS), [{**vars(request)}])

    def request(self, name: str) -> Request | None:
        """What an answer showed; None if the store has none of that name."""
        query = sa.select(REQUESTS).where(REQUESTS.c.request_id == name)
        with self._read() as connection:
            row = connection.execute(query).first()
        return None if row is None else Request(**row._mapping)

    # ---- servers that answer together -------------------------------------------------------

    def want_runs(self, group: str, runs: Document | None) -> str:
        """Keep which runs a group of servers is to answer from, None = nothing; its mark."""
        mark = uuid.uuid4().hex
        with self._writing() as connection:
            if runs is None:
                connection.execute(sa.delete(META).where(META.c.name == _GROUP + group))
            else:
                kept = {"mark": mark, "runs": runs, "seen_us": self.now_us()}
                self._set(connection, _GROUP + group, json.dumps(kept, ensure_ascii=False))
        return mark

    def wanted_runs(self, group: str) -> tuple[str, Document | None]:
        """What `want_runs` kept, with its mark; empty and None if nothing.

        Who asks lives, which is written down once an hour: see `forget_groups`.
        """
        query = sa.select(META.c.value).where(META.c.name == _GROUP + group)
        with self._read() as connection:
            text = connection.execute(query).scalar()
        if text is None:
            return "", None
        found = json.loads(text)
        if self.now_us() - found["seen_us"] > _SEEN_US:
            seen = json.dumps({**found, "seen_us": self.now_us()}, ensure_ascii=False)
            with self._writing() as connection:
                connection.execute(
                    sa.update(META)
                    .where(META.c.name == _GROUP + group, META.c.value == text)
                    .values(value=seen)
                )
        return found["mark"], found["runs"]

    def forget_groups(self) -> None:
        """Let go of what was kept of groups that have not asked for a day: they were killed."""
        query = sa.select(META).where(META.c.name.startswith(_GROUP, autoescape=True))
        with self._writing() as connection:
            for name, text in connection.execute(query).all():
                if self.now_us() - json.loads(text).get("seen_us", 0) > 24 * _SEEN_US:
                    connection.execute(sa.delete(META).where(META.c.name == name))

    # ---- people -----------------------------------------------------------------------------

    def forget(self, user: str) -> dict[str, int]:
        """Remove every trace of a user; how many rows of each table that were.

        What is anonymous in a session that they were known in goes too. SQLite's pages are
        overwritten and its log emptied, so that no file keeps the bytes.
        """
        seen = [
            sa.select(table.c.session_id).where(table.c.user_id == user)
            for table in (EVENTS, REQUESTS)
        ]
        removed = {}
        with self._writing() as connection:
            sessions = [each for each in connection.scalars(sa.union(*seen)) if each is not None]
            for name in OF_USERS:
                table = METADATA.tables[name]
                theirs = table.c.user_id == user
                if "session_id" in table.c:
                    theirs |= table.c.user_id.is_(None) & table.c.session_id.in_(sessions)
                removed[name] = connection.execute(sa.delete(table).where(theirs)).rowcount
        if self.engine.dialect.name == "sqlite":
            with _told(self), self.engine.raw_connection() as raw:
                raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return removed

    # ---- keys -------------------------------------------------------------------------------

    def add_key(self, key: Key) -> None:
        """Keep a key."""
        with self._writing() as connection:
            connection.execute(sa.insert(KEYS).values(asdict(key)))

    def key(self, name: str) -> Key | None:
        """A key by its id."""
        with self._read() as connection:
            row = connection.execute(sa.select(KEYS).where(KEYS.c.key_id == name)).first()
        return None if row is None else Key(**row._mapping)

    def list_keys(self) -> list[Key]:
        """All keys, oldest first."""
        query = sa.select(KEYS).order_by(KEYS.c.created_us, KEYS.c.key_id)
        with self._read() as connection:
            return [Key(**row._mapping) for row in connection.execute(query)]

    def remove_key(self, name: str) -> bool:
        """Take a key away; whether it was there."""
        with self._writing() as connection:
            return bool(connection.execute(sa.delete(KEYS).where(KEYS.c.key_id == name)).rowcount)

    # ---- the whole --------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """Rows of each table that is exported."""
        tables = [METADATA.tables[name] for name in SHARED]
        sizes = [
            sa.select(sa.func.count()).select_from(table).scalar_subquery() for table in tables
        ]
        with self._read() as connection:
            row = connection.execute(sa.select(*sizes)).one()
        return dict(zip(SHARED, row, strict=True))

    def ping(self) -> None:
        """Raise StoreError if the database does not answer."""
        with self._read() as connection:
            connection.execute(sa.select(META.c.value).limit(1)).first()

    def export(self) -> Iterator[Document]:
        """Every row but keys, ``{"table", "row"}`` each, as of one moment; see `restore`."""
        with self._read(snapshot=True) as connection:
            for name in SHARED:
                table = METADATA.tables[name]
                query = sa.select(table).order_by(*table.primary_key)
                rows = connection.execution_options(yield_per=_ROWS).execute(query)
                for row in rows.mappings():
                    yield {"table": name, "row": dict(row)}

    def restore(self, lines: Iterable[Document]) -> dict[str, int]:
        """Take in what `export` gave; how many rows of each table are new.

        A row that is there already stays as it is. Raises DataError for a line that no export
        writes, and then nothing is taken in.
        """
        added = dict.fromkeys(SHARED, 0)
        with self._writing() as connection:
            waiting: dict[str, list[Document]] = {name: [] for name in SHARED}

            def flush(name: str) -> None:
                statement = self._insert(METADATA.tables[name]).on_conflict_do_nothing()
                added[name] += connection.execute(statement, waiting[name]).rowcount
                waiting[name] = []

            for number, line in enumerate(lines, 1):
                name, row = exported(number, line)
                waiting[name].append(row)
                if len(waiting[name]) == _ROWS:
                    flush(name)
            for name in SHARED:
                if waiting[name]:
                    flush(name)
            if added[ITEMS.name]:
                self._mark(connection, ITEMS.name)
        return added

    @contextmanager
    def _writing(self, *, synced: bool = True) -> Iterator[sa.Connection]:
        engine = self.engine if synced else self._unsynced
        with _told(self), engine.begin() as connection:
            yield connection

    @contextmanager
    def _read(self, *, snapshot: bool = False) -> Iterator[sa.Connection]:
        with _told(self), self._reading.connect() as connection:
            if snapshot and self.engine.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection


@contextmanager
def _told(store: Store) -> Iterator[None]:
    """A database that cannot be reached as StoreError; the driver's words may name a password."""
    try:
        yield
    except DBAPIError as error:
        reason = type(error.orig).__name__
        raise StoreError(
            f"store {store.place}: the database refused or cannot be reached ({reason}); "
            "see that it runs, has disk, and lets this user in"
        ) from (error if isinstance(error, OperationalError) else None)


def _later(table: sa.Table, written_us: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """The time of a write, or just after the row's last one where the clock says no later."""
    old = table.c.updated_us
    return sa.case((written_us > old, written_us), else_=old + 1)


def _catalogue(table: str) -> tuple[sa.Table, sa.Column[str]]:
    return (ITEMS, ITEMS.c.item_id) if table == "items" else (USERS, USERS.c.user_id)


def _thing(row: Mapping[Any, Any], key: str) -> Thing:
    return Thing(row[key], row["fields"], row.get("hidden", False), row["updated_us"])


def _whose(
    table: sa.Table, user: str | None, session: str | None
) -> Iterator[sa.ColumnElement[bool]]:
    """Whose rows: the user's, and those of the session that are nobody else's."""
    yield sa.false()
    if user is not None:
        yield table.c.user_id == user
    if session is not None:
        yield (table.c.session_id == session) & table.c.user_id.is_(None)


def _now_us() -> int:
    return time.time_ns() // 1000
