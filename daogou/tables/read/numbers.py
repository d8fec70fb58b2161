"""Texts that are numbers, as people write them."""

from typing import Final

from daogou.errors import DataError
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.read.source import Column, Source, examples

WHOLE: Final = "-?(0|[1-9][0-9]{0,18})"
NUMBER: Final = r"[+-]?[0-9]*\.?[0-9]+\.?([eE][+-]?[0-9]+)?"
# A price as people write it: a sign of money or a word for it, and commas between thousands.
MONEY: Final = (
    r"[+-]?[¥￥$€£]?\s*[+-]?(0|[1-9][0-9]*|[1-9][0-9]{0,2}(,[0-9]{3})+)(\.[0-9]+)?\s*"
    "(元|圆|CNY|RMB|USD|EUR)?"
)


def number_types(
    engine: Engine, source: Source, columns: list[Column], notes: list[str]
) -> dict[str, str]:
    """For a text file, the cast of each column whose every value is a number."""
    if source.form == "parquet" or not columns:
        return {}
    counts = []
    for column in columns:
        name = name_of(column.name)
        # A leading zero is part of a code (007, a post code), not of a number.
        number = (
            f"TRY_CAST({name} AS DOUBLE) IS NOT NULL AND NOT regexp_matches({name}, '^-?0[0-9]')"
        )
        whole = f"regexp_full_match({name}, {quoted(WHOLE)}) AND TRY_CAST({name} AS BIGINT) NOTNULL"
        counts += [
            f"count(nullif({name}, ''))",
            f"count(*) FILTER (WHERE {number})",
            f"count(*) FILTER (WHERE {whole})",
            f"count(*) FILTER (WHERE regexp_full_match(trim({name}), {quoted(MONEY)}))",
        ]
    row = engine.rows(f"SELECT {', '.join(counts)} FROM {source.relation}")[0]
    casts: dict[str, str] = {}
    for i, column in enumerate(columns):
        filled, n_number, n_whole, n_money = row[4 * i : 4 * i + 4]
        name = name_of(column.name)
        if filled and filled == n_whole:
            casts[column.name] = f"CAST(nullif({name}, '') AS BIGINT)"
        elif filled and filled == n_number:
            value = f"CAST(nullif({name}, '') AS DOUBLE)"
            casts[column.name] = f"CASE WHEN NOT isnan({value}) THEN {value} END"
        elif filled and filled == n_money:
            casts[column.name] = amount(column, notes)
        elif n_number > 0.9 * filled:
            odd = f"{name} <> '' AND TRY_CAST({name} AS DOUBLE) IS NULL"
            notes.append(
                f"{column.setting}: {column.name!r} is kept as text because "
                f"{filled - n_number} of {filled} values are not numbers"
                f"{examples(engine, source, column, odd)}"
            )
    return casts


def amount(column: Column, notes: list[str]) -> str:
    """The cast of a text column of prices as people write them."""
    notes.append(
        f"{column.setting}: {column.name!r} is read as numbers without signs of money and commas"
    )
    digits = f"regexp_replace({name_of(column.name)}, '[^-0-9.]', '', 'g')"
    return f"TRY_CAST({digits} AS DOUBLE)"


def number_of(engine: Engine, source: Source, column: Column, notes: list[str]) -> str:
    """SQL that gives a column as ``DOUBLE``; DataError where a value is none."""
    name = name_of(column.name)
    bad = f"{name} IS NOT NULL AND TRY_CAST({name} AS DOUBLE) IS NULL"
    if source.form != "parquet":
        bad += f" AND {name} <> ''"
        odd = f"{bad} AND NOT regexp_full_match(trim({name}), {quoted(MONEY)})"
        n_bad, n_odd = engine.rows(
            f"SELECT count(*) FILTER (WHERE {bad}), count(*) FILTER (WHERE {odd}) "
            f"FROM {source.relation}"
        )[0]
        if n_bad and not n_odd:
            return amount(column, notes)
    count = engine.value(f"SELECT count(*) FROM {source.relation} WHERE {bad}")
    if count:
        raise DataError(
            f"{column.setting}: {count} values of {column.name!r} are not numbers"
            f"{examples(engine, source, column, bad)}; correct them where the file is written"
        )
    return f"TRY_CAST({name} AS DOUBLE)"
