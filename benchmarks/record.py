"""What results are written down with, so that a number can be made again and a try taken up."""

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

Line = TypeVar("Line")


def commit() -> str:
    """The commit that is measured; "unknown" outside a clone."""
    answer = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return answer.stdout.strip() or "unknown"


def about(script: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Command, commit and cores: what every document of results begins with."""
    return {
        "command": " ".join([f"python benchmarks/{script}", *arguments]),
        "commit": commit(),
        "cores": os.cpu_count(),
    }


def kept_lines(path: Path, make: Callable[..., Line]) -> list[Line]:
    """The finished lines of an earlier try; none where there was none."""
    told = path.read_text("utf-8").splitlines() if path.exists() else []
    return [make(**json.loads(each)) for each in told]


def keep_line(path: Path, line: Any) -> None:
    """Add a finished line (a dataclass)."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(line)) + "\n")


def between(value: float, low: float, high: float, sign: str = "") -> str:
    """A number and its interval, as tables have them.

    >>> between(0.25, 0.2, 0.3, "+")
    '+0.2500 [+0.200, +0.300]'
    """
    return f"{value:{sign}.4f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for docs/results.md.

    >>> print(markdown(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def show(
    path: Path, tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[str]]]], width: int
) -> None:
    """Print tables by title, each a heading and rows, and write them as markdown."""
    page = []
    for title, (heading, rows) in tables.items():
        table = Table(*heading, title=title)
        for cells in rows:
            table.add_row(*cells)
        Console(width=width).print(table)
        page += [f"### {title}", "", markdown(heading, rows), ""]
    path.write_text("\n".join(page), encoding="utf-8")
