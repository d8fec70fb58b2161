"""Keys at rest: of each only the digest of its secret."""

from dataclasses import asdict, dataclass

import sqlalchemy as sa

from daogou.serve.database import Database
from daogou.serve.tables import KEYS


@dataclass(frozen=True)
class Key:
    """A key at rest; its fields are the columns of the table ``keys``."""

    key_id: str
    name: str
    scope: str
    digest: str
    created_us: int


@dataclass(frozen=True)
class Keys:
    """The keys of a database."""

    database: Database

    def add(self, key: Key) -> None:
        """Keep a key."""
        with self.database.writing() as connection:
            connection.execute(sa.insert(KEYS).values(asdict(key)))

    def get(self, name: str) -> Key | None:
        """A key by its id."""
        with self.database.reading() as connection:
            row = connection.execute(sa.select(KEYS).where(KEYS.c.key_id == name)).first()
        return None if row is None else Key(**row._mapping)

    def all(self) -> list[Key]:
        """All keys, oldest first."""
        query = sa.select(KEYS).order_by(KEYS.c.created_us, KEYS.c.key_id)
        with self.database.reading() as connection:
            return [Key(**row._mapping) for row in connection.execute(query)]

    def remove(self, name: str) -> bool:
        """Take a key away; whether it was there."""
        with self.database.writing() as connection:
            return bool(connection.execute(sa.delete(KEYS).where(KEYS.c.key_id == name)).rowcount)
