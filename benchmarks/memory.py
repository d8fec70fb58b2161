"""The peak of a process's memory, as Linux has it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_EVERY: Final = 0.02  # seconds


@contextmanager
def peak_gb() -> Iterator[dict[str, float]]:
    """Filled when the block is over: ``rss`` of all resident pages, ``anon`` of its own alone.

    Pages of a mapped file can be dropped at any time, so they are not the process's own.
    """
    peak = {"rss": 0.0, "anon": 0.0}
    over = threading.Event()

    def look() -> None:
        now = memory_kb()
        peak["anon"] = max(peak["anon"], now["RssAnon"] / 1e6)
        peak["rss"] = now["VmHWM"] / 1e6

    def watch() -> None:
        while not over.wait(_EVERY):
            look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()
        look()


def memory_kb() -> dict[str, int]:
    """What Linux says of this process's memory."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return {
        name: int(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in lines)
        if name in ("RssAnon", "VmHWM")
    }
