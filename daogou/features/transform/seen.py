"""What training may look at, counted: products, users, the context's values, amounts."""

from collections.abc import Collection
from typing import Final

from daogou.schema import Shop
from daogou.tables.engine import Engine, name_of, quoted

_NUMBERS: Final = (
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT",
    "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
    "FLOAT", "DOUBLE", "DECIMAL",
)  # fmt: skip


def counted_tables(shop: Shop) -> tuple[str, ...]:
    """The tables that `count_log` makes: ``n`` of each value, which parts of a log add up."""
    n_columns = len(shop.events.context) if shop.events else 0
    context = (f"seen_context_{place}" for place in range(n_columns))
    return ("seen_items", "seen_users", "seen_amounts", *context)


def count_log(engine: Engine, shop: Shop, until: str | None = None) -> None:
    """Count what a transform is fitted on in the exposures that teach, and their histories.

    A table each of items and users, of the values of each column of the context, and of the
    logarithms of amounts. Histories count up to ``until``, UTC; None is the last training exposure.
    """
    _keep_seen(engine, quoted(until) + "::TIMESTAMP" if until else None)
    for place, (name, number) in enumerate(context_numbers(engine, shop).items()):
        counts = counting("exposures", f"context_{name}", number, "split = 'train'")
        engine.run(f"CREATE OR REPLACE TABLE seen_context_{place} AS {counts}")
    amounts = "SELECT 0::DOUBLE AS value, 0 AS n WHERE false"
    for task in shop.of_family("funnel"):
        if task.is_value:
            given = f" AND {name_of('label_' + task.given)} = 1" if task.given else ""
            amounts = (
                "SELECT ln(value) AS value, count(*) AS n FROM exposures "
                f"WHERE split = 'train' AND value > 0{given} GROUP BY 1"
            )
    engine.run(f"CREATE OR REPLACE TABLE seen_amounts AS {amounts}")


def context_numbers(engine: Engine, shop: Shop) -> dict[str, bool]:
    """The columns of the context, and whether each is fitted as a number.

    What only names a kind is not, and a domain is that whatever its type.
    """
    events = shop.events
    if events is None:
        return {}
    kinds = (*events.categories, *([events.domain] if events.domain else []))
    numbers = are_numbers(engine, "exposures", events.context, kinds, "context_")
    return dict(zip(events.context, numbers, strict=True))


def _keep_seen(engine: Engine, until: str | None) -> None:
    """Tables of the items and users that training may look at, with how often each was seen."""
    until = until or "(SELECT max(time) FROM exposures WHERE split = 'train')"
    taught = (
        "SELECT user, item, 1 AS worth FROM exposures WHERE split = 'train' "
        "UNION ALL SELECT user, item, worth FROM earlier"
    )
    engine.run(
        "CREATE OR REPLACE TABLE seen_items AS SELECT item, ceil(sum(worth)) AS n FROM ("
        f"SELECT item, worth FROM ({taught}) UNION ALL "
        f"SELECT item, 1 FROM history WHERE time <= {until}) WHERE item IS NOT NULL GROUP BY item"
    )
    engine.run(
        f"CREATE OR REPLACE TABLE seen_users AS SELECT user, ceil(sum(worth)) AS n FROM ({taught}) "
        "WHERE user IS NOT NULL GROUP BY user"
    )


def are_numbers(
    engine: Engine,
    relation: str,
    names: tuple[str, ...],
    categories: Collection[str],
    prefix: str = "",
) -> list[bool]:
    """Which columns are fitted as numbers."""
    types = engine.columns(relation) if names else {}
    return [types[prefix + name].startswith(_NUMBERS) and name not in categories for name in names]


def counting(relation: str, name: str, number: bool, where: str) -> str:
    """SQL of each value of a column, and how often it comes where the condition holds."""
    column = name_of(name)
    # Counted in the engine: of a billion positions in a list, ten are different.
    value, known = (
        (f"CAST({column} AS DOUBLE)", f"isfinite(CAST({column} AS DOUBLE))")
        if number
        else (f"CAST({column} AS VARCHAR)", f"{column} IS NOT NULL")
    )
    return (
        f"SELECT {value} AS value, count(*) AS n FROM {relation} WHERE {where} AND {known} "
        "GROUP BY 1"
    )
