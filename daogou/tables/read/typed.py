"""The type of each column, as SQL: keys exact, the rest as its setting needs it."""

from collections.abc import Mapping

from daogou.errors import DataError
from daogou.schema import Shop
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.read.numbers import NUMBER, WHOLE, number_of, number_types
from daogou.tables.read.source import Column, Source, examples, pointers
from daogou.tables.read.times import time_of


def key_types(
    engine: Engine, shop: Shop, sources: list[Source], notes: list[str]
) -> dict[tuple[str, str], str]:
    """The type of every key column; an events column has the type of the table it points to."""
    found = {
        (source.table, column.name): _key_type(engine, source, column, notes)
        for source in sources
        for column in source.columns
        if column.role == "key"
    }
    for table, column, key in pointers(shop):
        one, other = (table, key), ("events", column)
        if found[one] != found[other]:
            notes.append(
                f"{one[0]}.{one[1]} is {found[one]} and {other[0]}.{other[1]} is {found[other]}: "
                "both are compared as text"
            )
            found[one] = found[other] = "VARCHAR"
    return found


def _key_type(engine: Engine, source: Source, column: Column, notes: list[str]) -> str:
    kind, name = source.types[column.name], name_of(column.name)
    _refuse_float(column, kind)
    if kind in ("UBIGINT", "HUGEINT", "UHUGEINT"):
        fits = engine.value(
            f"SELECT coalesce(bool_and(TRY_CAST({name} AS BIGINT) IS NOT NULL), true) "
            f"FROM {source.relation} WHERE {name} IS NOT NULL"
        )
        if not fits:
            notes.append(f"{column.setting}: beyond 64 bits with a sign, kept as text")
        return "BIGINT" if fits else "VARCHAR"
    if kind.endswith(("INT", "INTEGER")):
        return "BIGINT"
    if source.form == "parquet":
        return "VARCHAR"
    whole, number = engine.rows(
        f"SELECT coalesce(bool_and(regexp_full_match({name}, {quoted(WHOLE)}) "
        f"AND TRY_CAST({name} AS BIGINT) IS NOT NULL), false), "
        f"coalesce(bool_and(regexp_full_match({name}, {quoted(NUMBER)})) "
        f"AND bool_or({name} LIKE '%.%'), false) "
        f"FROM {source.relation} WHERE {name} <> ''"
    )[0]
    if number:
        _refuse_float(column, "DOUBLE")
    return "BIGINT" if whole else "VARCHAR"


def _refuse_float(column: Column, kind: str) -> None:
    if kind in ("FLOAT", "DOUBLE") or kind.startswith("DECIMAL"):
        raise DataError(
            f"{column.setting}: column {column.name!r} holds {kind} numbers, which merge ids above "
            "2^53; cast it to a whole number or to text where the file is written"
        )


def typed_columns(
    engine: Engine, source: Source, keys: Mapping[tuple[str, str], str], notes: list[str]
) -> str:
    """SQL of the table's columns, each of its type."""
    plain = [column for column in source.columns if column.role == "plain"]
    numbers = number_types(engine, source, plain, notes)
    chosen = []
    for column in source.columns:
        name = name_of(column.name)
        if column.role == "key":
            kind = keys[source.table, column.name]
            cast = f"nullif(CAST({name} AS VARCHAR), '')" if kind == "VARCHAR" else name
            value = f"CAST({cast} AS {kind})"
        elif column.role == "time":
            value = time_of(engine, source, column, notes)
        elif column.role == "word":
            if column.setting in ("events.request", "events.id"):
                _refuse_float(column, source.types[column.name])
            value = f"nullif(CAST({name} AS VARCHAR), '')"
        elif column.role == "number":
            value = number_of(engine, source, column, notes)
        elif column.role in ("spans", "words"):
            value = _nested(engine, source, column)
        else:
            value = numbers.get(column.name, name)
        chosen.append(f"{value} AS {name}")
    return ", ".join(chosen)


def _nested(engine: Engine, source: Source, column: Column) -> str:
    """Spans as a list of structs, attribute names as a list of texts; JSON text is understood."""
    name, kind = name_of(column.name), source.types[column.name]
    shape = (
        '[{"start": "BIGINT", "end": "BIGINT", "attribute": "VARCHAR"}]'
        if column.role == "spans"
        else '["VARCHAR"]'
    )
    if kind in ("VARCHAR", "JSON"):
        bad = f"{name} <> '' AND (NOT json_valid({name}) OR json_type({name}) <> 'ARRAY')"
        count = engine.value(f"SELECT count(*) FROM {source.relation} WHERE {bad}")
        if count:
            raise DataError(
                f"{column.setting}: {count} values of {column.name!r} are not JSON lists"
                f"{examples(engine, source, column, bad)}; "
                'write [{"start": 0, "end": 4, "attribute": "colour"}] or use parquet'
            )
        return f"from_json(nullif({name}, ''), {quoted(shape)})"
    wanted = ("start", "end", "attribute") if column.role == "spans" else ()
    if not kind.endswith("[]") or any(each not in kind for each in wanted):
        raise DataError(
            f"{column.setting}: column {column.name!r} is {kind}; "
            f"a list of {'{start, end, attribute}' if wanted else 'texts'} is needed"
        )
    if not wanted:
        return f"CAST({name} AS VARCHAR[])"
    return (
        f"list_transform({name}, lambda span: {{'start': CAST(span.start AS BIGINT), "
        "'end': CAST(span.end AS BIGINT), 'attribute': CAST(span.attribute AS VARCHAR)})"
    )
