"""Census-Income (KDD) to two wide tables: the two pairs of labels of the MMoE paper.

Source: ``census-income.data`` and ``census-income.test`` (or with .gz) of UCI's "Census-Income
(KDD)" (https://archive.ics.uci.edu/dataset/117/census+income+kdd, CC BY 4.0): 199,523 and 99,762
people of the US censuses of 1994 and 1995, 42 fields without a header; their names are those of
https://github.com/drawbridge/keras-mmoe/blob/master/census_income_demo.py. This is the larger
relative of Adult.

* **out/** asks for ``income_50k`` and ``never_married``, **out/education/** for ``college`` and
  ``never_married``: the two groups of Ma et al., "Modeling Task Relationships in Multi-task
  Learning with Multi-gate Mixture-of-Experts", KDD 2018. ``college`` is a degree, of an associate
  or higher: the paper says "at least college" and not where it draws the line.
* The published train file is train. Of the test file one half is the validation and the other the
  test, as in the paper; by a hash of the row, so they are not the same halves.
* The other labels are no input of either shop, nor is income, the file's own goal, one of the
  second. ``tax_filer_stat``, ``det_hh_fam_stat`` and ``det_hh_summ`` are, though they nearly give
  ``never_married`` away ("Joint both under 65"): everyone who reports .99 on it had them too. To
  ask an honest question take them out of ``context``.

Left out: ``instance_weight``, the census's own sampling weight. ``?`` becomes NULL, "Not in
universe" is a value. There are no users, products or times.
"""

import re
from pathlib import Path
from typing import Final

from daogou.errors import DataError
from daogou.tables.engine import Engine, quoted
from daogou.tables.public.folder import (
    Report,
    about_lines,
    csv_rows,
    engine_in,
    find_source,
    folder_of,
    reading,
    say_nothing,
    stream_parquet,
    toml_list,
    write_toml,
)

_HOME = "UCI, Census-Income (KDD) (https://archive.ics.uci.edu/dataset/117/census+income+kdd)"
_FIELDS: Final[list[str]] = re.findall(
    r"\w+",
    "age class_worker det_ind_code det_occ_code education wage_per_hour hs_college marital_stat "
    "major_ind_code major_occ_code race hisp_origin sex union_member unemp_reason "
    "full_or_part_emp capital_gains capital_losses stock_dividends tax_filer_stat "
    "region_prev_res state_prev_res det_hh_fam_stat det_hh_summ instance_weight mig_chg_msa "
    "mig_chg_reg mig_move_reg mig_same mig_prev_sunbelt num_emp fam_under_18 country_father "
    "country_mother country_self citizenship own_or_self vet_question vet_benefits "
    "weeks_worked year income_50k",
)
_NUMBERS: Final = (
    "age",
    "wage_per_hour",
    "capital_gains",
    "capital_losses",
    "stock_dividends",
    "num_emp",
    "weeks_worked",
)
_INPUTS: Final = [
    name for name in _FIELDS if name not in ("marital_stat", "instance_weight", "income_50k")
]
_INCOMES: Final = ("- 50000.", "50000+.")
_DEGREES: Final = (
    "Associates degree",
    "Bachelors degree",
    "Masters degree",
    "Prof school degree",
    "Doctorate degree",
)

_TOML = """\
# Census-Income (KDD): two labels of one wide table, no users, products or times.
name = "{name}"
seed = 0

[events]
path = "{path}"
id = "id"
labels = {labels}
# Left out of the inputs: the labels' own columns and the census's sampling weight.
# tax_filer_stat, det_hh_fam_stat and det_hh_summ nearly tell who never married; published results
# have them as inputs.
context = {context}
# The published train file, and the test file in two halves.
split = "split"
"""


def import_census_income(path: Path, out: Path, report: Report = say_nothing) -> dict[str, int]:
    """Write the census at ``path`` as two shops, ``out`` and ``out/education``; returns counts.

    Raises `DataError` if a file is missing, not as expected, or holds an unknown income.
    """
    sources = {
        part: find_source(
            folder_of(path), (f"census-income.{part}", f"census-income.{part}.gz"), _HOME
        )
        for part in ("data", "test")
    }
    with engine_in(out) as engine:
        rows = [_rows(engine, part, source) for part, source in sources.items()]
        events = out / "events.parquet"
        n_rows = stream_parquet(
            engine,
            " UNION ALL ".join(rows),
            events,
            report,
            sum(map(about_lines, sources.values())),
        )
        labels = ("income_50k", "never_married", "college")
        sums = engine.rows(
            f"SELECT {', '.join(f'sum({name})' for name in labels)} "
            f"FROM read_parquet({quoted(str(events))})"
        )[0]
    (out / "education").mkdir()
    for folder, first, own, at in (
        (out, "income_50k", None, "events.parquet"),
        (out / "education", "college", "education", "../events.parquet"),
    ):
        name = "census-income" if own is None else f"census-income-{own}"
        context = toml_list([each for each in _INPUTS if each != own])
        text = _TOML.format(
            name=name, path=at, labels=toml_list([first, "never_married"]), context=context
        )
        write_toml(folder, text)
    return {"rows": n_rows, **{name: int(n) for name, n in zip(labels, sums, strict=True)}}


def _rows(engine: Engine, part: str, source: Path) -> str:
    """A file's people as a table of the engine; returns SQL for them with labels and split."""
    fields = dict.fromkeys(_FIELDS, "VARCHAR")
    with reading(source, f"CSV of {len(_FIELDS)} fields"):
        engine.run(
            f"CREATE TABLE {part} AS SELECT row_number() OVER () AS line, "
            + ", ".join(f"nullif(trim({name}), '?') AS {name}" for name in _FIELDS)
            + f" FROM {csv_rows(source, fields, _HOME, header=False, quote='')}"
        )
        for name in _NUMBERS:
            engine.run(f"ALTER TABLE {part} ALTER {name} SET DATA TYPE DOUBLE")
    incomes = ", ".join(map(quoted, _INCOMES))
    odd = engine.rows(
        f"SELECT line, income_50k FROM {part} "
        f"WHERE income_50k IS NULL OR income_50k NOT IN ({incomes}) ORDER BY line LIMIT 1"
    )
    if odd:
        raise DataError(
            f"{source}: line {odd[0][0]} has income {odd[0][1]!r}; known: {', '.join(_INCOMES)}"
        )
    degree = " OR ".join(f"starts_with(education, {quoted(word)})" for word in _DEGREES)
    half = f"md5_number_lower(concat({quoted(part)}, line)) % 2 = 0"
    split = "'train'" if part == "data" else f"CASE WHEN {half} THEN 'validation' ELSE 'test' END"
    return (
        f"SELECT concat({quoted(part + '-')}, line) AS id, {split} AS split, "
        "(income_50k = '50000+.')::TINYINT AS income_50k, "
        "(marital_stat = 'Never married')::TINYINT AS never_married, "
        f"({degree})::TINYINT AS college, "
        f"{', '.join(_INPUTS)} FROM {part}"
    )
