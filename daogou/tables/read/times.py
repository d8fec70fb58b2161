"""Times of every kind to timestamps in UTC."""

from typing import Final

from daogou.errors import DataError
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.read.numbers import NUMBER
from daogou.tables.read.source import Column, Source, examples

# DuckDB 1.5 applies an offset when it casts to TIMESTAMP and 2.0 drops it, so a value with a zone
# must be recognised here and never reaches that cast.
_ZONED: Final = (
    r"(:[0-9]{2}(\.[0-9]+)?\s*[+-][0-9]{2}(:?[0-9]{2})?|[0-9]\s*(Z|z)|[0-9]\s*[A-Za-z][A-Za-z_/]+)$"
)
_FORMATS: Final = [
    *("%Y-%m-%d %H", "%Y/%m/%d %H", "%Y%m%d", "%Y%m%d%H%M%S", "%Y%m%d %H:%M:%S"),
    *("%d.%m.%Y %H:%M:%S", "%Y.%m.%d %H:%M:%S", "%Y.%m.%d"),
    *("%Y年%m月%d日", "%Y年%m月%d日 %H:%M", "%Y年%m月%d日 %H:%M:%S"),
]
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799  # years 1 and 9999


def time_of(engine: Engine, source: Source, column: Column, notes: list[str]) -> str:
    """SQL that gives the column as ``TIMESTAMP`` in UTC, NULL where it cannot be read."""
    kind, name = source.types[column.name], name_of(column.name)
    if kind.startswith("TIMESTAMP WITH TIME ZONE") or kind == "TIMESTAMPTZ":
        # AT TIME ZONE would ask the calendar of time zones about every row.
        value = f"make_timestamp(CASE WHEN isfinite({name}) THEN epoch_us({name}) END)"
    elif kind.startswith("TIMESTAMP") or kind == "DATE":
        value = f"CAST({name} AS TIMESTAMP)"
    elif kind == "VARCHAR":
        value = _time_of_text(engine, source, column, notes)
    elif "INT" in kind or kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL"):
        value = _time_of_number(engine, source, column, name, notes)
    else:
        raise DataError(
            f"{column.setting}: column {column.name!r} is {kind}; "
            "give timestamps, dates, epoch numbers or ISO texts"
        )
    value = f"CASE WHEN isfinite({value}) THEN {value} END"
    lost = f"{name} IS NOT NULL AND {value} IS NULL"
    if source.form != "parquet":
        lost += f" AND {name} <> ''"
    filled, n_lost = engine.rows(
        f"SELECT count({name}), count(*) FILTER (WHERE {lost}) FROM {source.relation}"
    )[0]
    if n_lost == filled:
        raise DataError(
            f"{column.setting}: no value of {column.name!r} is a time"
            f"{examples(engine, source, column, lost)}; write ISO 8601 or epoch numbers"
        )
    if n_lost:
        notes.append(
            f"{column.setting}: {n_lost} of {filled} times cannot be read"
            f"{examples(engine, source, column, lost)}"
        )
    return value


def _time_of_text(engine: Engine, source: Source, column: Column, notes: list[str]) -> str:
    text = f"trim({name_of(column.name)})"
    zoned = f"regexp_matches({text}, {quoted(_ZONED)})"
    filled, n_number, n_zoned = engine.rows(
        f"SELECT count(nullif({text}, '')), "
        f"count(*) FILTER (WHERE regexp_full_match({text}, {quoted(NUMBER)})), "
        f"count(*) FILTER (WHERE {zoned}) "
        f"FROM {source.relation}"
    )[0]
    if filled and n_number == filled:
        return _time_of_number(engine, source, column, text, notes)
    plain = (
        f"coalesce(TRY_CAST({text} AS TIMESTAMP), "
        f"try_strptime({text}, [{', '.join(quoted(each) for each in _FORMATS)}]))"
    )
    # 'Z' and zone names are ICU's; only '+00' is read the same by every version.
    utc = f"regexp_replace({text}, '\\s*(Z|z|UTC|GMT)$', '+00')"
    utc = f"regexp_replace({utc}, '\\s+([+-][0-9:]+)$', '\\1')"
    instant = f"(TRY_CAST({utc} AS TIMESTAMPTZ) AT TIME ZONE 'UTC')"
    n_plain = engine.value(
        f"SELECT count(*) FROM {source.relation} WHERE NOT {zoned} AND {plain} IS NOT NULL"
    )
    if n_zoned and n_plain:
        with_zone = examples(engine, source, column, zoned)
        without = examples(engine, source, column, f"NOT {zoned} AND {plain} IS NOT NULL")
        raise DataError(
            f"{column.setting}: mixed zones: {n_zoned} times carry one{with_zone} and {n_plain} "
            f"do not{without}; write all of them with a zone, or none"
        )
    return instant if n_zoned else plain


def _time_of_number(
    engine: Engine, source: Source, column: Column, number: str, notes: list[str]
) -> str:
    """Epoch seconds, milli-, micro- or nanoseconds by their size, or dates as yyyymmdd."""
    n = f"TRY_CAST({number} AS DOUBLE)"
    low, high, typical, n_dates, filled = engine.rows(
        f"SELECT min({n}), max({n}), approx_quantile(abs({n}), 0.5), "
        f"count(try_strptime(TRY_CAST({number} AS VARCHAR), '%Y%m%d')), count({n}) "
        f"FROM {source.relation}"
    )[0]
    if filled and n_dates == filled and low >= 19_000_101 and high <= 21_001_231:
        notes.append(f"{column.setting}: {column.name!r} is read as dates, yyyymmdd")
        return f"try_strptime(CAST({number} AS VARCHAR), '%Y%m%d')"
    units = (("seconds", 1e11, 1), ("milliseconds", 1e14, 1e3), ("microseconds", 1e17, 1e6))
    unit, scale = next(
        ((word, scale) for word, limit, scale in units if (typical or 0) < limit),
        ("nanoseconds", 1e9),
    )
    notes.append(f"{column.setting}: {column.name!r} is read as {unit} since 1970, UTC")
    inside = f"{n} BETWEEN {_FIRST_S} * {scale:.0f}.0 AND {_LAST_S} * {scale:.0f}.0"
    # Decimals keep the last microsecond that a double of 1e15 would round away.
    exact = f"TRY_CAST({number} AS DECIMAL(38, 6))"
    return (
        f"CASE WHEN {inside} THEN make_timestamp(CAST({exact} * {1e6 / scale:.3f} AS BIGINT)) END"
    )
