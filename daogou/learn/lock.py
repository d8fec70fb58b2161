"""A path to a lock that only one process holds, and that dies with it."""

import contextlib
import os
import platform
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from daogou.errors import ArtifactError

_FOREVER: Final = 7 * 24 * 3600.0  # seconds
_LOCK: Final = "lock"
_WHO: Final = "lock.txt"  # for those who find it held


@contextlib.contextmanager
def alone(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Be the one process that writes in a folder while the block runs.

    ArtifactError, with the number of the other process, where there is one and no time to ``wait``
    for it. Two small files stay in the folder, for `unlocked` to take away.
    """
    lock = Lock(folder / _LOCK)
    try:
        held = lock.take(wait=wait)
    except sqlite3.OperationalError as error:
        raise ArtifactError(
            f"{folder}: cannot be locked ({error}); it must be writable, on a disk that has locks"
        ) from None
    if not held:
        raise ArtifactError(
            f"{folder}: another process works here{_who(folder)}; wait for it, or give another "
            "folder"
        )
    try:
        with contextlib.suppress(OSError):  # on a full disk it stays unsaid who it is
            (folder / _WHO).write_text(f"process {os.getpid()} on {platform.node()}", "utf-8")
        yield
    finally:
        lock.give_back()


def unlocked(folder: Path) -> None:
    """Take a lock's files away, where nobody will ask for it any more."""
    for name in (_LOCK, _WHO):
        with contextlib.suppress(OSError):  # who holds it may be asked to wait, on Windows
            (folder / name).unlink()


def holds_work(folder: Path, *besides: str) -> bool:
    """Whether a folder holds anything but a lock's files and what is named ``besides``."""
    return any(each.name not in (_LOCK, _WHO, *besides) for each in folder.iterdir())


def _who(folder: Path) -> str:
    try:
        return f" ({(folder / _WHO).read_text('utf-8')})"
    except (OSError, ValueError):
        return ""


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
            connection.execute("PRAGMA journal_mode = OFF")  # a kill would leave its file
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
