"""The tables of the server's database, and the steps from those of an older version."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import sqlalchemy as sa

from daogou.errors import DataError

Document = dict[str, Any]

SHARED: Final = ("events", "items", "users", "edits", "requests")  # what is exported

OF_USERS: Final = ("events", "users", "edits", "requests")  # what is kept of a person

_LOCK: Final = 7_046_029_254_386_353  # any number: who makes the tables in PostgreSQL holds it

METADATA: Final = sa.MetaData()


def _id(name: str, *, key: bool = False, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String, primary_key=key, nullable=null)


EVENTS: Final = sa.Table(
    "events",
    METADATA,
    _id("event_id", key=True),
    _id("kind"),
    _id("item_id"),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("received_us", sa.BigInteger, nullable=False),
    _id("user_id", null=True),
    _id("session_id", null=True),
    _id("request_id", null=True),
    sa.Column("position", sa.Integer),
    sa.Column("value", sa.Double),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Index("events_of_user", "user_id", "time_us"),
    sa.Index("events_of_session", "session_id", "time_us"),
    sa.Index("events_by_time", "time_us"),
)

ABOUT_ITEMS: Final = (
    sa.Index("events_of_item", EVENTS.c.item_id, EVENTS.c.time_us),
    sa.Index("events_by_arrival", EVENTS.c.received_us),
)

ITEMS: Final = sa.Table(
    "items",
    METADATA,
    _id("item_id", key=True),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Column("hidden", sa.Boolean, nullable=False),
    sa.Column("updated_us", sa.BigInteger, nullable=False),
)

USERS: Final = sa.Table(
    "users",
    METADATA,
    _id("user_id", key=True),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Column("updated_us", sa.BigInteger, nullable=False),
)

EDITS: Final = sa.Table(
    "edits",
    METADATA,
    _id("user_id", key=True),
    _id("verb", key=True),  # set or forbid
    _id("column", key=True),
    _id("value", key=True),
    sa.Column("updated_us", sa.BigInteger, nullable=False),
)

REQUESTS: Final = sa.Table(
    "requests",
    METADATA,
    _id("request_id", key=True),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    _id("user_id", null=True),
    _id("session_id", null=True),
    sa.Column("items", sa.JSON, nullable=False),  # ids, the place in the list is the position
    _id("scenario", null=True),
    _id("variant", null=True),
    sa.Index("requests_of_user", "user_id"),
    sa.Index("requests_of_session", "session_id"),
    sa.Index("requests_by_time", "time_us"),
)

KEYS: Final = sa.Table(
    "keys",
    METADATA,
    _id("key_id", key=True),
    _id("name"),
    _id("scope"),
    _id("digest"),
    sa.Column("created_us", sa.BigInteger, nullable=False),
)

META: Final = sa.Table("meta", METADATA, _id("name", key=True), _id("value"))

# What answers showed, a row for each product, as events have it; whose words unfold a list differs.
_SHOWN: Final = """
CREATE VIEW shown AS
SELECT r.request_id || ':' || ({place}) AS event_id, each.{item} AS item_id, r.time_us, r.user_id,
  r.session_id, r.request_id, {place} AS position, r.scenario, r.variant
FROM requests r, {unfolded}
"""

_UNFOLDED: Final = {
    "sqlite": {"place": "each.key", "item": "value", "unfolded": "json_each(r.items) each"},
    "postgresql": {
        "place": "each.number - 1",
        "item": "item",
        "unfolded": "json_array_elements_text(r.items) WITH ORDINALITY AS each (item, number)",
    },
}


def _find_by_item(connection: sa.Connection) -> None:
    for index in ABOUT_ITEMS:
        index.create(connection, checkfirst=True)


# What turns a store of version 1 into one of version 2, and so on; a new store is made whole.
STEPS: list[Callable[[sa.Connection], None]] = [_find_by_item]


def prepare(connection: sa.Connection) -> None:
    """Make the tables, or bring those of an older version up to this one."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    newest = len(STEPS) + 1
    found = None
    if sa.inspect(connection).has_table(META.name):
        query = sa.select(META.c.value).where(META.c.name == "version")
        found = connection.execute(query).scalar()
    if found is None:
        METADATA.create_all(connection)
        connection.exec_driver_sql(_SHOWN.format(**_UNFOLDED[connection.dialect.name]))
        connection.execute(sa.insert(META).values(name="version", value=str(newest)))
        return
    if int(found) > newest:
        raise DataError(
            f"store: is of version {found} and this release knows {newest}; "
            "use the release that made it, or a newer one"
        )
    for step in STEPS[int(found) - 1 :]:
        step(connection)
    connection.execute(sa.update(META).where(META.c.name == "version").values(value=str(newest)))


def exported(number: int, line: object) -> tuple[str, Document]:
    """Table and row of a line of an export, its columns and their types checked."""
    where = f"line {number}"
    if not isinstance(line, Mapping) or set(line) != {"table", "row"}:
        raise DataError(f'{where}: {{"table", "row"}} is wanted; give a file of `GET /export`')
    if line["table"] not in SHARED or not isinstance(line["row"], Mapping):
        raise DataError(f"{where}: no table {line['table']!r} is exported")
    table, row = METADATA.tables[line["table"]], dict(line["row"])
    if set(row) != set(table.columns.keys()):
        odd = sorted(set(row) ^ set(table.columns.keys()))
        raise DataError(f"{where}: columns of {table.name!r} are missing or strange: {odd}")
    for column in table.columns:
        value = row[column.name]
        if value is None and column.nullable:
            continue
        kinds = _KINDS[type(column.type)]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise DataError(f"{where}: {table.name}.{column.name}: {value!r} is of another type")
    return table.name, row


_KINDS: Final[Mapping[type, tuple[type, ...]]] = {
    sa.String: (str,),
    sa.BigInteger: (int,),
    sa.Integer: (int,),
    sa.Double: (int, float),
    sa.Boolean: (bool,),
    sa.JSON: (dict, list),
}
