"""Checks of columns that give a label away."""

from collections.abc import Iterable
from typing import Final

from daogou.schema import Shop
from daogou.tables import Counts
from daogou.tables.checks.finding import EXAMPLES, Finding
from daogou.tables.engine import Engine, name_of

_GLANCE: Final = 50_000  # exposures that nearly always show that a column is no copy of a label
_ENOUGH: Final = 10  # rows of each class before a copy of the label is more than chance


def leaky_context(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Columns of the moment that give a label away."""
    events = shop.events
    if not events:
        return
    sources = [
        (f"events.context {name!r}", f"e.{name_of('context_' + name)}", "")
        for name in events.context
    ]
    for table, key, pointed, names in _joined(shop):
        join = f"JOIN {table} AS t ON t.{name_of(key)} = e.{pointed}"
        sources += [(f"{table}.columns {name!r}", f"t.{name_of(name)}", join) for name in names]
    for where, value, join in sources:
        for stage in events.stages:
            n_rows = _told(engine, value, join, f"e.{name_of('label_' + stage)}")
            if n_rows:
                yield Finding(
                    "leaky_context",
                    "FAIL",
                    n_rows,
                    (f"{where}: {stage}",),
                    f"{where} tells exactly where {stage} happened: it is the answer, "
                    "not an input; take it out",
                )


def _told(engine: Engine, value: str, join: str, label: str) -> int:
    """How many labels the column gives away: all that are known, or none."""
    for seen in (f"e.exposure < {_GLANCE}", "true"):
        classes = engine.rows(
            f"SELECT {label}, count(*), count(DISTINCT {value}), count({value}), "
            f"CAST(min({value}) AS VARCHAR) FROM exposures AS e {join} "
            f"WHERE {label} IS NOT NULL AND {seen} GROUP BY 1 ORDER BY 1"
        )
        counts = [int(row[1]) for row in classes]
        if len(classes) == 2 and _tells(classes[0][1:], classes[1][1:]):
            n_rows = sum(counts)
        elif len(classes) == 2 and min(counts) >= _ENOUGH:
            return 0  # what some rows contradict, all rows do
        else:
            n_rows = 0
    return n_rows


def _joined(shop: Shop) -> Iterable[tuple[str, str, str, tuple[str, ...]]]:
    if shop.items and shop.events and shop.events.item:
        yield "items", shop.items.key, "item", shop.items.columns
    if shop.users and shop.events and shop.events.user:
        yield "users", shop.users.key, '"user"', shop.users.columns


def _tells(zero: tuple[int, int, int, str | None], one: tuple[int, int, int, str | None]) -> bool:
    """Whether a column's value, or its being filled, says which class a row is of.

    Each class is its rows, distinct values, filled rows and least value.
    """
    if min(zero[0], one[0]) < _ENOUGH:
        return False
    constant = all(
        distinct <= 1 and filled in (0, rows) for rows, distinct, filled, _ in (zero, one)
    )
    filled = {(zero[2] == zero[0], one[2] == 0), (zero[2] == 0, one[2] == one[0])}
    return (constant and zero[3] != one[3]) or (True, True) in filled


def leaky_profile(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Columns of users that give a profile away."""
    users = shop.users
    if not users:
        return
    for target in users.profile:
        for column in users.columns:
            one, other = name_of(column), name_of(target)
            filled, n_one, n_other, n_both = engine.rows(
                f"SELECT count(*), count(DISTINCT {one}), count(DISTINCT {other}), "
                f"count(DISTINCT ({one}, {other})) FROM users "
                f"WHERE {one} IS NOT NULL AND {other} IS NOT NULL"
            )[0]
            # A column of names is one-to-one with anything as fine; groups are what leaks.
            if n_one == n_other == n_both > 1 and filled >= _ENOUGH * n_both:
                yield Finding(
                    "leaky_profile",
                    "FAIL",
                    int(filled),
                    (f"{column}: {target}",),
                    f"users.columns {column!r} is {target!r} under other names; "
                    "take it out of the inputs",
                )


def truth_as_feature(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Columns that only a simulated shop's truth may have."""
    if not shop.truth:
        return
    features = [
        *(
            (f"events.context {name!r}", name)
            for name in (shop.events.context if shop.events else ())
        ),
        *((f"items.columns {name!r}", name) for name in (shop.items.columns if shop.items else ())),
        *((f"users.columns {name!r}", name) for name in (shop.users.columns if shop.users else ())),
    ]
    planted = tuple(
        where for where, name in features if name.startswith(("p_", "k_", "posterior_", "latent"))
    )
    if planted:
        yield Finding(
            "truth_column_as_feature",
            "FAIL",
            len(planted),
            planted[:EXAMPLES],
            f"{', '.join(planted)}: named like the planted truth; take it out of the inputs",
        )
