"""Progress of processes elsewhere: each tells a file what it does, and whoever waits reads them."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from daogou import artifact
from daogou.learn.loop import Progress

_LOOK: Final = 0.5  # seconds between looks


def teller(folder: Path, rank: int) -> Progress:
    """Progress into a file of its own, steps not much more often than anybody looks."""
    last = [0.0]
    path = folder / f"{rank}.json"

    def tell(what: str, done: int, total: int, words: str) -> None:
        if what != "steps" or done == total or time.monotonic() - last[0] > _LOOK:
            last[0] = time.monotonic()
            artifact.write_whole(path, json.dumps([what, done, total, words]))

    return tell


@contextmanager
def followed(folder: Path, progress: Progress) -> Iterator[None]:
    """While the block runs, ``progress`` hears what is told into this folder, which ends with it.

    Of what is told in quick succession the last is heard.
    """
    over = threading.Event()
    heard: dict[Path, str] = {}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()

    def look() -> None:
        for path in sorted(folder.glob("*.json")):
            told = path.read_text("utf-8")
            if told != heard.get(path):
                heard[path] = told
                progress(*json.loads(told))

    def listen() -> None:
        while not over.wait(_LOOK):
            look()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        look()
        shutil.rmtree(folder, ignore_errors=True)
