"""Which runs a group of servers is to answer from: one is asked, the others see it here."""

import json
import uuid
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from daogou.schema import DAY_US, HOUR_US
from daogou.serve.database import Database
from daogou.serve.tables import META, Document

_GROUP: Final = "runs "  # how the names begin that a group's runs are kept under


@dataclass(frozen=True)
class Groups:
    """The groups of servers that share a database."""

    database: Database

    def want(self, group: str, runs: Document | None) -> str:
        """Keep which runs a group of servers is to answer from, None = nothing; its mark."""
        mark = uuid.uuid4().hex
        with self.database.writing() as connection:
            if runs is None:
                connection.execute(sa.delete(META).where(META.c.name == _GROUP + group))
            else:
                kept = {"mark": mark, "runs": runs, "seen_us": self.database.now_us()}
                self.database.note(connection, _GROUP + group, json.dumps(kept, ensure_ascii=False))
        return mark

    def wanted(self, group: str) -> tuple[str, Document | None]:
        """What `want` kept, with its mark; empty and None if nothing.

        Who asks lives, which is written down once an hour: see `forget`.
        """
        query = sa.select(META.c.value).where(META.c.name == _GROUP + group)
        with self.database.reading() as connection:
            text = connection.execute(query).scalar()
        if text is None:
            return "", None
        found = json.loads(text)
        if self.database.now_us() - found["seen_us"] > HOUR_US:
            seen = json.dumps({**found, "seen_us": self.database.now_us()}, ensure_ascii=False)
            with self.database.writing() as connection:
                connection.execute(
                    sa.update(META)
                    .where(META.c.name == _GROUP + group, META.c.value == text)
                    .values(value=seen)
                )
        return found["mark"], found["runs"]

    def forget(self) -> None:
        """Let go of what was kept of groups that have not asked for a day: they were killed."""
        query = sa.select(META).where(META.c.name.startswith(_GROUP, autoescape=True))
        with self.database.writing() as connection:
            for name, text in connection.execute(query).all():
                if self.database.now_us() - json.loads(text).get("seen_us", 0) > DAY_US:
                    connection.execute(sa.delete(META).where(META.c.name == name))
