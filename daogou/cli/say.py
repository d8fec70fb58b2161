"""What a command says: one document to stdout, all that people read to stderr."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

# Where no terminal says how wide it is, rich takes 80, which breaks the words in a table's cells.
_WIDTH: Final = None if sys.stderr.isatty() or "COLUMNS" in os.environ else 140

console = Console(stderr=True, width=_WIDTH)


def say_errors(text: str) -> None:
    """Each line of ``text`` as an error to stderr."""
    for line in text.split("\n"):
        console.print(f"[red]error:[/] {escape(line)}", highlight=False, soft_wrap=True)


def answer(document: Any) -> None:
    """The one JSON document of a command."""
    from daogou.artifact import plain

    sys.stdout.write(json.dumps(plain(document), ensure_ascii=False) + "\n")


@contextmanager
def watched() -> Iterator[Callable[[str, int, int, str], None]]:
    """Progress of what takes long: a bar on a terminal, a line every few seconds elsewhere."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.fields[what]:8}"),
            BarColumn(),
            TextColumn("{task.fields[words]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bars:
            rows: dict[str, TaskID] = {}

            def draw(what: str, done: int, total: int, words: str) -> None:
                if what not in rows:
                    rows[what] = bars.add_task("", what=what, words=words)
                bars.update(rows[what], completed=done, total=total, words=words)

            yield draw
        return
    last = {"steps": 0.0, "rows": 0.0}

    def write(what: str, done: int, total: int, words: str) -> None:
        if what not in last or time.monotonic() - last[what] > 5 or done == total:
            last[what] = time.monotonic()
            note(f"{what} {done}/{total} {words}")

    yield write


def note(text: str) -> None:
    """A sentence to stderr, as it stands."""
    console.print(escape(text), highlight=False, soft_wrap=True)
