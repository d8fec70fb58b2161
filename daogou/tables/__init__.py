"""A shop's files as checked, labelled, split relations in DuckDB. No torch here."""

from dataclasses import asdict, dataclass
from typing import Any

from daogou.schema import Shop
from daogou.tables.engine import Engine
from daogou.tables.funnel import Exposed, exposures
from daogou.tables.read import Read, engine_for, read_tables
from daogou.tables.seam import Seam, apart, n_late
from daogou.tables.split import Divided
from daogou.tables.split import split as split_tables

__all__ = ["Counts", "Engine", "Seam", "engine_for", "prepare"]


@dataclass(frozen=True)
class Counts:
    """What was read, dropped, implied and left out, and why. Made by `prepare`."""

    read: Read
    funnel: Exposed
    split: Divided
    late: int = 0  # events of later files that are older than the end of an earlier run's log

    @property
    def notes(self) -> tuple[str, ...]:
        """Every decision that the files and settings left open, one sentence each."""
        return (*self.read.notes, *self.split.notes)

    def document(self) -> dict[str, Any]:
        """All counts as plain JSON values."""
        return asdict(self)


def prepare(
    engine: Engine, shop: Shop, *, validation_teaches: bool = False, seam: Seam | None = None
) -> Counts:
    """Read the shop's files and leave ``exposures``, ``history``, ``user_split``, ``title_split``.

    ``items``, ``users`` and ``events`` exist where the shop has them; the other four always do,
    and so does ``earlier``: of a shop that goes on after a run, the exposures before its ``seam``.
    Where ``validation_teaches``, the validation rows are of the training split.

    Raises `DataError` where a file or column does not hold what the schema promises, and
    `ConfigError` where ``[split]`` leaves no three splits.
    """
    late = n_late(engine, shop, seam)
    read, funnel = read_tables(engine, shop), exposures(engine, shop)
    apart(engine, shop, seam)
    since, judged = (seam.end, seam.judged) if seam else (None, False)
    divided = split_tables(
        engine, shop, validation_teaches=validation_teaches, since=since, judged=judged
    )
    return Counts(read, funnel, divided, late)
