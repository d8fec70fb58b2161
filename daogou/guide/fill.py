"""A table of products to proposals for the attribute values that it lacks."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from daogou.errors import DataError
from daogou.features.transform.titles import text_of
from daogou.guide.guide import Guide
from daogou.tables.engine import Engine, name_of
from daogou.tables.read import read_items

_SIZE: Final = 1024  # products read at once


@dataclass
class Filled:
    """What became of a table: products read, values missing and proposed by attribute."""

    n_items: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    proposed: Counter[str] = field(default_factory=Counter)


def proposals(guide: Guide, path: Path, filled: Filled) -> Iterator[dict[str, Any]]:
    """The values that a table of products lacks and their texts tell, in the table's order.

    ``{"item", "attribute", "value", "confidence", "from", ...}`` as in `Guide.extract`'s values;
    of one attribute the surest. A value that is there is left alone, a blank one is missing, and so
    is every value of an attribute that the table has no column for. ``filled`` counts. Raises
    DataError where the table cannot be read, ConfigError where the run learnt no extraction.
    """
    shop = guide.artifact.shop
    attributes = guide.artifact.transform.attributes
    guide.extract_many([])  # raises where the run cannot
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the table of products to fill")
    assert shop.items is not None
    with Engine() as engine:
        there = read_items(engine, shop.items, path)
        columns = [f"trim(CAST({name_of(name)} AS VARCHAR))" for name in there]
        sql = (
            f"SELECT CAST({name_of(shop.items.key)} AS VARCHAR) AS key, "
            f"{text_of(shop.items.text, 'items')} AS text, "
            f"[{', '.join(columns) or 'NULL'}] AS has FROM items"
        )
        for batch in engine.batches(sql, rows=_SIZE):
            rows = batch.to_pylist()
            answers = guide.extract_many(row["text"] for row in rows)
            for row, answer in zip(rows, answers, strict=True):
                has = {name for name, value in zip(there, row["has"], strict=False) if value}
                filled.n_items += 1
                filled.missing.update(name for name in attributes if name not in has)
                best = _surest(answer["values"])
                for name in attributes:
                    if name not in has and name in best:
                        filled.proposed[name] += 1
                        yield {"item": row["key"], **best[name]}


def _surest(values: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for value in sorted(values, key=lambda value: -value["confidence"]):
        found.setdefault(value["attribute"], value)
    return found
