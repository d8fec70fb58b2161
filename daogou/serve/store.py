"""The server's memory: events, products, users, edits, answers and keys, in one database.

SQLite and PostgreSQL by one code path. A method that returns has committed: SQLite writes ahead
and syncs at every commit, PostgreSQL does so by itself. Only what answers showed is not synced by
its own commit: it outlives the server, and a machine that loses its power may lose the newest, as
may a PostgreSQL that is killed.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from daogou.serve.database import Database
from daogou.serve.events import Event
from daogou.serve.groups import Groups
from daogou.serve.keys import Keys
from daogou.serve.tables import (
    EDITS,
    EVENTS,
    ITEMS,
    METADATA,
    OF_USERS,
    REQUESTS,
    SHARED,
    USERS,
    Document,
    exported,
)
from daogou.serve.things import Things

_ROWS: Final = 1000  # that are held in memory at once


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


class Store:
    """All that a server keeps. Made by `Store.open`; safe to share between threads.

    Events, edits and answers are asked for here, the rest by its name. Every method raises
    StoreError if the database cannot be reached; a write that raises has changed nothing.
    """

    def __init__(self, database: Database) -> None:
        self.database, self.now_us = database, database.now_us
        self.items, self.users = Things(database, ITEMS), Things(database, USERS)
        self.groups, self.keys = Groups(database), Keys(database)

    @staticmethod
    def open(url: str, *, clock: Callable[[], int] | None = None) -> "Store":
        """The store at a URL, as `Database.open` opens it."""
        return Store(Database.open(url, clock=clock))

    def close(self) -> None:
        """Let go of all connections."""
        self.database.close()

    # ---- events -----------------------------------------------------------------------------

    def add_events(self, events: Sequence[Event]) -> list[bool]:
        """Keep events; for each, whether it is new. One that is there already changes nothing.

        Where an event names both a user and a session, what the session did anonymously becomes
        the user's.
        """
        # In one order everywhere, so that two writers of the same ids wait and do not deadlock.
        wanted = {event.event_id: event for event in reversed(events)}
        rows = [{**vars(wanted[name])} for name in sorted(wanted)]
        with self.database.writing() as connection:
            new: set[str] = set()
            statement = self.database.insert(EVENTS).on_conflict_do_nothing()
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
        return self._newest(asked, last)

    def recent(self, since_us: int, *, kinds: Sequence[str], last: int) -> list[Event]:
        """Everybody's last events of some kinds since a moment, oldest first."""
        asked = sa.and_(EVENTS.c.time_us >= since_us, EVENTS.c.kind.in_(kinds))
        return self._newest(asked, last)

    def _newest(self, asked: sa.ColumnElement[bool], last: int) -> list[Event]:
        query = (
            sa.select(EVENTS)
            .where(asked)
            .order_by(EVENTS.c.time_us.desc(), EVENTS.c.event_id.desc())
            .limit(last)
        )
        with self.database.reading() as connection:
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
        with self.database.reading() as connection:
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
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return [(user, about, kind, at, request) for user, about, kind, at, request in rows[::-1]]

    # ---- what a user sets and forbids -------------------------------------------------------

    def edits_of(self, user: str) -> Document:
        """``{"set": {column: value}, "forbid": {column: [values]}}`` of a user."""
        query = sa.select(EDITS).where(EDITS.c.user_id == user).order_by(*EDITS.primary_key)
        with self.database.reading() as connection:
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
        with self.database.writing() as connection:
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
                            updated_us=self.database.now_us(),
                        )
                    )  # fmt: skip

    def clear_edits(self, user: str) -> int:
        """Let go of all that a user set and forbade; how many values that were."""
        with self.database.writing() as connection:
            return connection.execute(sa.delete(EDITS).where(EDITS.c.user_id == user)).rowcount

    # ---- answers ----------------------------------------------------------------------------

    def log_request(self, request: Request) -> None:
        """Keep what an answer showed; the disk is not waited for, since a shopper would be too."""
        with self.database.writing(synced=False) as connection:
            connection.execute(self.database.insert(REQUESTS), [{**vars(request)}])

    def request(self, name: str) -> Request | None:
        """What an answer showed; None if the store has none of that name."""
        query = sa.select(REQUESTS).where(REQUESTS.c.request_id == name)
        with self.database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else Request(**row._mapping)

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
        with self.database.writing() as connection:
            sessions = [each for each in connection.scalars(sa.union(*seen)) if each is not None]
            for name in OF_USERS:
                table = METADATA.tables[name]
                theirs = table.c.user_id == user
                if "session_id" in table.c:
                    theirs |= table.c.user_id.is_(None) & table.c.session_id.in_(sessions)
                removed[name] = connection.execute(sa.delete(table).where(theirs)).rowcount
        self.database.empty_log()
        return removed

    # ---- the whole --------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """Rows of each table that is exported."""
        tables = [METADATA.tables[name] for name in SHARED]
        sizes = [
            sa.select(sa.func.count()).select_from(table).scalar_subquery() for table in tables
        ]
        with self.database.reading() as connection:
            row = connection.execute(sa.select(*sizes)).one()
        return dict(zip(SHARED, row, strict=True))

    def export(self) -> Iterator[Document]:
        """Every row but keys, ``{"table", "row"}`` each, as of one moment; see `restore`."""
        with self.database.reading(snapshot=True) as connection:
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
        with self.database.writing() as connection:
            waiting: dict[str, list[Document]] = {name: [] for name in SHARED}

            def flush(name: str) -> None:
                statement = self.database.insert(METADATA.tables[name]).on_conflict_do_nothing()
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
                self.items.mark(connection)
        return added


def _whose(
    table: sa.Table, user: str | None, session: str | None
) -> Iterator[sa.ColumnElement[bool]]:
    """Whose rows: the user's, and those of the session that are nobody else's."""
    yield sa.false()
    if user is not None:
        yield table.c.user_id == user
    if session is not None:
        yield (table.c.session_id == session) & table.c.user_id.is_(None)
