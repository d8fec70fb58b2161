"""Ctrl-C and SIGTERM to an end within seconds, at which nothing is half written."""

import _thread
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_AGAIN: Final = 0.5  # seconds until what has not ended is told again
_TIMES: Final = 20  # 10 s in all: Docker ends what has not ended by then


class Stopped(BaseException):
    """The process was told to stop."""


@contextmanager
def stoppable(words: str) -> Iterator[None]:
    """Say ``words`` and end the process by 130 on Ctrl-C, by 143 on SIGTERM, while the block runs.

    The block ends by an exception where it stands, or where `unbroken` lets it. A library may
    swallow that, make another error of it or not come back to Python for long: so it is told again,
    and after ten seconds the process is ended by force. To be called by the main thread.
    """
    told: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        told.append(number)
        if not _on_its_way():
            raise Stopped

    before: list[tuple[int, Any]] = [(each, signal.signal(each, hear)) for each in _SIGNALS]
    try:
        with _watched(words):
            yield
    except BaseException as error:
        if not told or (isinstance(error, SystemExit) and not error.code):
            raise
        _say(words)
        sys.exit(128 + told[0])
    finally:
        for each, handler in before:
            signal.signal(each, handler)


@contextmanager
def unbroken() -> Iterator[None]:
    """Hear of Ctrl-C and SIGTERM only when the block is over, which is to be short."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    late: list[int] = []
    before: list[tuple[int, Any]] = []
    try:
        for each in _SIGNALS:
            before.append((each, signal.signal(each, lambda number, _: late.append(number))))
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        if late:
            signal.raise_signal(late[0])


@contextmanager
def _watched(words: str) -> Iterator[None]:
    """See that the block ends when a signal has come.

    Python's own handlers wait for its main thread. The number of a signal is on the socket at once.
    """
    over = threading.Event()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def watch() -> None:
        while number := ours.recv(1):
            if number[0] in _SIGNALS:
                break
        else:
            return
        for _ in range(_TIMES):
            if over.wait(_AGAIN):
                return
            _thread.interrupt_main(signal.Signals(number[0]))
        _say(words)
        os._exit(128 + number[0])

    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        theirs.close()
        watcher.join()
        ours.close()


def _on_its_way() -> bool:
    """Whether what a first signal raised is being cleaned up after."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, Stopped):
        error = error.__context__
    return error is not None


def _say(words: str) -> None:
    """Without Python's own buffers, whose locks another thread may hold."""
    with suppress(OSError):
        os.write(2, f"{words}\n".encode(errors="backslashreplace"))
