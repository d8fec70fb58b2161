"""Products and users as the shop describes them, kept in the server's database."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from daogou.serve.database import Database
from daogou.serve.tables import ITEMS, META, Document

_ROWS: Final = 1000  # that are held in memory at once


@dataclass(frozen=True)
class Thing:
    """A product or a user as the shop describes it."""

    key: str
    fields: Mapping[str, Any]
    hidden: bool
    updated_us: int


@dataclass(frozen=True)
class Things:
    """The products of a database, or its users; only products can be hidden."""

    database: Database
    table: sa.Table  # `ITEMS` or `USERS`

    @property
    def key(self) -> sa.Column[str]:
        """The column of the shop's own ids."""
        (column,) = self.table.primary_key.columns
        return column

    def put(self, things: Mapping[str, tuple[Mapping[str, Any], bool]]) -> None:
        """Write products or users, by key: their fields, and whether they are hidden.

        One that is there is replaced.
        """
        rows = [
            {self.key.name: name, "fields": dict(fields), "updated_us": self.database.now_us()}
            | ({"hidden": hidden} if self.table is ITEMS else {})
            for name, (fields, hidden) in sorted(things.items())
        ]
        with self.database.writing() as connection:
            if rows:
                key, statement = self.key.name, self.database.insert(self.table)
                changed = {name: statement.excluded[name] for name in rows[0] if name != key}
                changed["updated_us"] = _later(self.table, changed["updated_us"])
                connection.execute(
                    statement.on_conflict_do_update(index_elements=[key], set_=changed), rows
                )
            self.mark(connection)

    def change(self, name: str, fields: Mapping[str, Any], hidden: bool | None) -> Thing | None:
        """Change some fields of a product or user, null takes one away; None if not there."""
        with self.database.writing() as connection:
            query = sa.select(self.table).where(self.key == name).with_for_update()
            row = connection.execute(query).mappings().first()
            if row is None:
                return None
            old = self._thing(row)
            kept = {
                column: value
                for column, value in {**old.fields, **fields}.items()
                if value is not None
            }
            values: Document = {
                "fields": kept, "updated_us": max(self.database.now_us(), old.updated_us + 1),
            }  # fmt: skip
            if self.table is ITEMS:
                values["hidden"] = old.hidden if hidden is None else hidden
            connection.execute(sa.update(self.table).where(self.key == name).values(values))
            self.mark(connection)
        return self._thing({self.key.name: name, **values})

    def get(self, name: str) -> Thing | None:
        """A product or user; None if the store has none of that key."""
        query = sa.select(self.table).where(self.key == name)
        with self.database.reading() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else self._thing(row)

    def page(self, *, after: str = "", limit: int = 100) -> list[Thing]:
        """Products or users whose keys come after one, in the order of keys."""
        query = sa.select(self.table).where(self.key > after).order_by(self.key).limit(limit)
        with self.database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [self._thing(row) for row in rows]

    def version(self) -> str:
        """A name that every write of products changes; empty before the first, and of users."""
        query = sa.select(META.c.value).where(META.c.name == self.table.name)
        with self.database.reading() as connection:
            return connection.execute(query).scalar() or ""

    def written(self) -> dict[str, int]:
        """When each was last written; a later write of it has a later time."""
        query = sa.select(self.key, self.table.c.updated_us)
        with self.database.reading() as connection:
            return {name: when for name, when in connection.execute(query)}

    def of(self, names: Sequence[str]) -> Iterator[Thing]:
        """Those of these keys that are there, in no order."""
        for first in range(0, len(names), _ROWS):
            query = sa.select(self.table).where(self.key.in_(names[first : first + _ROWS]))
            with self.database.reading() as connection:
                rows = connection.execute(query).mappings().all()
            for row in rows:
                yield self._thing(row)

    def remove(self, name: str) -> bool:
        """Take a product out; whether it was there. A user is taken out by `forget`."""
        with self.database.writing() as connection:
            found = connection.execute(sa.delete(self.table).where(self.key == name)).rowcount
            self.mark(connection)
        return bool(found)

    def mark(self, connection: sa.Connection) -> None:
        """Give `version` another value, where it is products that were written."""
        if self.table is ITEMS:
            self.database.note(connection, self.table.name, uuid.uuid4().hex)

    def _thing(self, row: Mapping[Any, Any]) -> Thing:
        hidden = row.get("hidden", False)
        return Thing(row[self.key.name], row["fields"], hidden, row["updated_us"])


def _later(table: sa.Table, written_us: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """The time of a write, or just after the row's last one where the clock says no later."""
    old = table.c.updated_us
    return sa.case((written_us > old, written_us), else_=old + 1)
