"""Checks of the columns of users and products."""

from collections.abc import Iterable

from daogou.schema import Shop
from daogou.tables import Counts
from daogou.tables.checks.finding import EXAMPLES, Finding
from daogou.tables.engine import Engine, name_of, quoted


def null_text(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Products without a title."""
    items = shop.items
    if not items or not items.text:
        return
    key = name_of(items.key)
    blank = f"coalesce(trim(CAST({name_of(items.text[0])} AS VARCHAR)), '') = ''"
    count = int(engine.value(f"SELECT count(*) FROM items WHERE {blank}"))
    if count:
        rows = engine.rows(f"SELECT {key} FROM items WHERE {blank} ORDER BY 1 LIMIT {EXAMPLES}")
        yield Finding(
            "null_text",
            "WARN",
            count,
            tuple(str(row[0]) for row in rows),
            f"{count} items have no {items.text[0]}; they are known by id and columns only",
        )


def numbers_as_text(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Columns of text that hold numbers."""
    found = [note for note in counts.read.notes if "is kept as text because" in note]
    if found:
        yield Finding(
            "numbers_as_text",
            "WARN",
            len(found),
            tuple(found[:EXAMPLES]),
            f"{len(found)} columns are words because a few values are not numbers; "
            "leave those values empty if the column is a quantity",
        )


def _spans(engine: Engine, shop: Shop, name: str, condition: str, text: str) -> Iterable[Finding]:
    """A finding of the gold spans for which the SQL condition on ``span`` and ``title`` holds."""
    items = shop.items
    if not items or not items.spans or not items.text:
        return
    rows = (
        f"FROM (SELECT {name_of(items.key)} AS item, CAST({name_of(items.text[0])} AS VARCHAR) "
        f"AS title, unnest({name_of(items.spans)}) AS span FROM items) WHERE {condition}"
    )
    count = int(engine.value(f"SELECT count(*) {rows}"))
    if count:
        found = engine.rows(f"SELECT item, CAST(span AS VARCHAR) {rows} ORDER BY 1, 2 LIMIT 10")
        examples = tuple(f"{item}: {span}" for item, span in found)
        yield Finding(name, "FAIL", count, examples, f"{count} spans {text}")


def spans_out_of_text(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    # `length` counts code points, as spans do.
    """Spans that lie outside their title."""
    return _spans(
        engine,
        shop,
        "spans_out_of_text",
        'span IS NULL OR span."start" IS NULL OR span."end" IS NULL OR span."start" < 0 '
        'OR span."start" >= span."end" OR span."end" > coalesce(length(title), 0)',
        "do not lie in their title; count Unicode code points of the raw text, end exclusive",
    )


def unknown_attribute(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Spans of an attribute that the shop does not name."""
    known = ", ".join(quoted(each) for each in shop.attributes) or "''"
    return _spans(
        engine,
        shop,
        "unknown_attribute_in_spans",
        f"span.attribute IS NULL OR span.attribute NOT IN ({known})",
        "name an attribute that items.attributes does not list; add it there or correct the span",
    )


def profile_one_value(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Profiles that are the same for everybody."""
    for column in shop.users.profile if shop.users else ():
        name = name_of(column)
        filled, values = engine.rows(f"SELECT count({name}), count(DISTINCT {name}) FROM users")[0]
        if values < 2:
            yield Finding(
                "profile_column_one_value",
                "FAIL",
                int(filled),
                (column,),
                f"users.profile {column!r} has {values} different values in {filled} rows: "
                "there is nothing to predict; take it out or give more users",
            )
