"""Records to a file of JSON lines that a kill may cut; `artifact.read_records` reads it."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from daogou.artifact import plain, read_records, write_whole


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line; a line that a kill left unfinished before it stays alone."""
    with path.open("ab") as file:
        if file.tell() and not _ends_whole(path):
            file.write(b"\n")
        file.write(json.dumps(plain(record), ensure_ascii=False).encode() + b"\n")


def keep_records(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Leave only the wanted records in a file, if there is one."""
    if path.exists():
        lines = [json.dumps(one, ensure_ascii=False) for one in read_records(path) if wanted(one)]
        write_whole(path, "".join(f"{line}\n" for line in lines))


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
