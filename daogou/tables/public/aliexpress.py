"""AliExpress's search logs to a wide table of two labels, of one country or of several.

Source: "AliExpress Searching System Dataset", Tianchi data set 74690
(https://tianchi.aliyun.com/dataset/74690; its terms of use hold, login needed), of Li et al.,
"Improving Multi-Scenario Learning to Rank in E-commerce by Exploiting Task Relationships in the
Label Space", CIKM 2020. Each country's archive (``aliexpress_NL_datasets.zip`` 1.5 GB, FR and US
2.3, ES 2.6, RU 11.3) has four more, which unpack to ``nl_user_train.csv`` (33 fields: a page of
results each), ``nl_item_train.csv`` (49 fields: a product on one each) and the same for ``test``;
no headers. The first field of both is the search, the 49th says 0 for shown, 1 for clicked and 2
for bought; which fields only name a kind is as in
https://github.com/NoahRSChallenge/Multi-Task-Multi-Expert/blob/main/process_aliexpress.py.

* All countries in the folder become one shop, with ``country`` as the domain.
* Labels are ``click`` and ``purchase`` given a click: 2 is both.
* Nothing names a user or a product, so there is no history and no matching, and **no time**. The
  publisher split by time: the published test is the test, and the validation is a tenth of train by
  hash of the search, whose rows fall together.

Left out: nothing but the search itself, which is no input.
"""

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

_HOME = (
    "Tianchi, data set 74690 (https://tianchi.aliyun.com/dataset/74690), with the archives "
    "inside each country's unpacked too"
)
_COUNTRIES: Final = ("es", "fr", "nl", "ru", "us")
_USER_KINDS: Final = (2, 3, 4, 5, 6, 7, 8, 32, 33)
_ITEM_KINDS: Final = (19, 34, 35, 36, 40, 41, 42)


def _columns(table: str, last: int, kinds: tuple[int, ...]) -> dict[str, str]:
    types = {f"{table}_{n}": "VARCHAR" if n in kinds else "DOUBLE" for n in range(2, last + 1)}
    return {"search": "VARCHAR", **types}


_USER: Final = _columns("user", 33, _USER_KINDS)
_ITEM: Final = {**_columns("item", 48, _ITEM_KINDS), "label": "DOUBLE"}

_TOML = """\
# AliExpress: products on pages of search results, clicked and bought. No users, products or times.
name = "aliexpress"
seed = 0

[events]
path = "events/*.parquet"
labels = ["click", "purchase"]
# A page of results; the validation takes all of it or nothing.
request = "search"
context = {context}
domain = "country"
# The published test, which is later; the validation is carved from train by hash.
split = "split"

[tasks.purchase]
given = "click"
"""


def import_aliexpress(path: Path, out: Path, report: Report = say_nothing) -> dict[str, int]:
    """Write the countries in folder ``path`` as a shop in ``out``; returns rows and labels.

    Raises `DataError` if there is no country, a file of one is missing, or one is not as expected.
    """
    folders = {country: _folder(path, country) for country in _COUNTRIES}
    found = {country: folder for country, folder in folders.items() if folder is not None}
    if not found:
        raise DataError(
            f"{path}: looked for nl_item_train.csv, or that of {', '.join(_COUNTRIES)}, and found "
            f"none; get it from {_HOME}"
        )
    counts = {"impressions": 0}
    (out / "events").mkdir(parents=True)
    with engine_in(out) as engine:
        for country, folder in found.items():
            for part in ("train", "test"):
                n_rows = _write(engine, folder, country, part, out, report)
                counts[f"{country}_{part}"] = n_rows
                counts["impressions"] += n_rows
        rows = f"read_parquet({quoted(str(out / 'events' / '*.parquet'))})"
        counts["clicks"], counts["purchases"], counts["without_user_features"] = map(
            int,
            engine.rows(
                "SELECT count(*) FILTER (click = 1), count(*) FILTER (purchase = 1), "
                f"count(*) FILTER (NOT has_user) FROM {rows}"
            )[0],
        )
    context = ["country", *list(_USER)[1:], *list(_ITEM)[1:-1]]
    write_toml(out, _TOML.format(context=toml_list(context)))
    return counts


def _folder(path: Path, country: str) -> Path | None:
    """Where a country's files lie: in the folder itself, or in one of its folders."""
    files = sorted(folder_of(path).glob(f"**/{country}_item_train.csv"))
    return files[0].parent if files else None


def _write(engine: Engine, folder: Path, country: str, part: str, out: Path, report: Report) -> int:
    users, items = (
        find_source(folder / f"{country}_{table}_{part}.csv", (), _HOME)
        for table in ("user", "item")
    )
    with reading(users, f"CSV of {len(_USER)} fields"):
        engine.run(
            f"CREATE OR REPLACE TABLE pages AS FROM {csv_rows(users, _USER, _HOME, header=False)}"
        )
    with reading(items, f"CSV of {len(_ITEM)} fields"):
        return stream_parquet(
            engine,
            "SELECT concat_ws('-', "
            f"{quoted(country)}, {quoted(part)}, search) AS search, {quoted(country)} AS country, "
            f"{quoted(part)} AS split, CASE WHEN label NOT IN (0, 1, 2) OR label IS NULL "
            "THEN error(concat('the label ', label, ' is none of 0, 1, 2')) "
            "ELSE (label >= 1)::TINYINT END AS click, (label = 2)::TINYINT AS purchase, "
            "has_user IS NOT NULL AS has_user, "
            "* EXCLUDE (search, label, has_user) "
            f"FROM {csv_rows(items, _ITEM, _HOME, header=False)} "
            "LEFT JOIN (SELECT *, true AS has_user FROM pages) USING (search)",
            out / "events" / f"{country}_{part}.parquet",
            report,
            about_lines(items),
        )
