"""Events that came after a run was fitted to what became of each product that they name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from daogou.schema import Events, Shop, Task
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.funnel import exposures

Floats = NDArray[np.float64]
Row = tuple[str, str, str, int, str | None]  # user, item, kind, microseconds, request
_COLUMNS: Final[Mapping[str, pa.DataType]] = {
    "user": pa.string(), "item": pa.string(), "kind": pa.string(), "time": pa.timestamp("us"),
    "request": pa.string(),
}  # fmt: skip


@dataclass(frozen=True)
class Heard:
    """What became of a product's exposures, by stage: ``known`` and ``reached``, ``[T]`` each.

    A stage is known of an exposure that reached the one before it and whose window is over.
    """

    shown: int
    known: tuple[int, ...]
    reached: tuple[int, ...]
    is_open: bool = False  # whether a window still runs

    def said(self, stages: Sequence[str]) -> str:
        """In words.

        >>> Heard(20, (12, 5), (5, 1)).said(("click", "cart"))
        'shown 20, click 5, cart 1'
        """
        counts = zip(("shown", *stages), (self.shown, *self.reached), strict=True)
        return ", ".join(f"{word} {n}" for word, n in counts)


@dataclass(frozen=True)
class Newcomers:
    """What a scorer was told of products that training did not see, by catalogue row."""

    heard: Mapping[int, Heard]
    until: int  # microseconds; nothing at or after it was counted
    expected: Mapping[int, Floats]  # [T]: how often each stage was expected where it is known
    usual: Floats  # [T]: training's own, as a multiple of what is said of its products


def chances_of(tasks: Iterable[Task]) -> tuple[Task, ...]:
    """The funnel's tasks that have a chance, in order."""
    return tuple(task for task in tasks if task.family == "funnel" and not task.is_value)


def count(shop: Shop, rows: Iterable[Row], until: int) -> dict[str, Heard]:
    """What became of products by a moment in microseconds, by the statements that label a log.

    ``rows`` are of the kinds of the shop's funnel and stand, where they share a moment, in the
    order in which they count. An event without a request belongs to an exposure without one.
    """
    events = shop.events
    assert events is not None and events.funnel
    told = [row for row in rows if row[3] < until]
    if all(row[2] != events.funnel[0] for row in told):
        return {}
    columns = dict(zip(_COLUMNS, zip(*told, strict=True), strict=True))
    columns["request"] = tuple(
        each if each and events.request else "" for each in columns["request"]
    )
    log = Events(
        "", user="user", item="item", time="time", kind="kind", request="request",
        funnel=events.funnel, window_h=events.window_h,
    )  # fmt: skip
    end = str(np.datetime64(until, "us"))
    tasks = chances_of(shop.tasks)
    counts = [
        f"count(*) FILTER (WHERE {_defined(task)} AND {name_of('label_' + task.name)} {is_so})"
        for is_so in ("IS NOT NULL", "= 1")
        for task in tasks
    ]
    longest_us = max(map(events.window_us, events.stages))
    is_open = f"max(time) > {quoted(end)}::TIMESTAMP - to_microseconds({longest_us})"
    with Engine(threads=1) as engine:
        table = {name: pa.array(columns[name], kind) for name, kind in _COLUMNS.items()}
        engine.add("events", pa.table(table))
        exposures(engine, replace(shop, items=None, users=None, events=log, tasks=()), end)
        found: list[tuple[Any, ...]] = engine.rows(
            f"SELECT {', '.join(['item', 'count(*)', is_open, *counts])} FROM exposures GROUP BY 1"
        )
    n = len(tasks)
    return {
        item: Heard(shown, tuple(numbers[:n]), tuple(numbers[n:]), still)
        for item, shown, still, *numbers in found
    }


def _defined(task: Task) -> str:
    return "true" if task.given is None else f"{name_of('label_' + task.given)} = 1"
