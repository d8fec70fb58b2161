"""A path to a lock that only one process holds, and that dies with it."""

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_FOREVER: Final = 7 * 24 * 3600.0  # seconds


class Lock:
    """An empty SQLite file whose exclusive transaction is the lock.

    The system gives it back when the process ends, however it ends, on Linux, macOS and Windows
    alike, so that no time has to pass before a killed owner is known to be gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: sqlite3.Connection | None = None

    def take(self, *, wait: bool = True) -> bool:
        """Take it; False if another has it and ``wait`` is."""
        timeout = _FOREVER if wait else 0.0
        connection = sqlite3.connect(self.path, timeout=timeout, isolation_level=None)
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            connection.close()
            if "locked" not in str(error):
                raise
            return False
        self._held = connection
        return True

    def give_back(self) -> None:
        """Let others have it."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_back()
