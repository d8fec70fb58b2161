"""What a check says of what it found."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from daogou.schema import Shop
from daogou.tables import Counts
from daogou.tables.engine import Engine

EXAMPLES: Final = 10

Level = Literal["PASS", "WARN", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """What one check found. Made by `check`."""

    name: str  # a key of `CHECKS`
    level: Level  # FAIL stops a fit unless it is waived by name
    count: int
    examples: tuple[str, ...]  # at most ten
    text: str  # one sentence, with the remedy where there is something to do


Check = Callable[[Engine, Shop, Counts], Iterable[Finding]]
