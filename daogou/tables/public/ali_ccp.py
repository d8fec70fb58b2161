r"""Ali-CCP's impressions with clicks and conversions to a wide table of two labels.

Source: "Ali-CCP: Alibaba Click and Conversion Prediction", Tianchi data set 408
(https://tianchi.aliyun.com/dataset/408; its terms of use hold, login needed), unpacked:
``sample_skeleton_train.csv`` (10.9 GB, 42 million rows: sample, click, purchase, common feature
index, number of features, features), ``common_features_train.csv`` (8.6 GB, 0.7 million rows:
index, number, features) and the same two for ``test``, no headers. Features are
``field \x02 feature \x03 value`` with ``\x01`` between them, as
https://github.com/xidongbo/AITM/blob/main/process_public_dataset.py reads them. Ma et al., "Entire
Space Multi-Task Model", SIGIR 2018, describe the set.

* Labels are ``click`` and ``purchase`` given a click. A row with a purchase and no click cannot be
  and is dropped, as others do; there are some, and they are counted.
* **There are no times.** The publisher split by time, the first half to train on; the files tell
  that and nothing finer, and their rows lie by user. So the published test is the test, the
  validation is a tenth of train by hash (all rows of one common feature index fall together), there
  is no history of a user, and nobody is profiled.
* Fields 205 (product), 206, 207 and 216 (its category, shop and brand) make the products; 101
  (user) and 121 to 129 (groups, gender, age, consumption, occupation, city) the users; 301
  (position) and 508, 509, 702, 853 (what the user did with the product's category, shop, brand and
  intention, an id and a strength) are what is known of an impression. Where a product or user has
  several values of a field the least is taken, and those with several are counted.

Left out: 109_14, 110_14, 127_14, 150_14 and 210, which are lists of ids (508 to 853 are what they
have in common).
"""

from pathlib import Path
from typing import Final

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
    write_parquet,
    write_toml,
)

_HOME = "Tianchi, data set 408 (https://tianchi.aliyun.com/dataset/408), unpacked"
_SKELETON: Final = dict.fromkeys(
    ("sample", "click", "purchase", "common_index", "n_features", "features"), "VARCHAR"
)
_COMMON: Final = dict.fromkeys(("common_index", "n_features", "features"), "VARCHAR")
_USER: Final = {
    "user_id": "101",
    **{f"user_{field}": str(field) for field in (121, 122, 124, 125, 126, 127, 128, 129)},
}
_ITEM: Final = {"item_id": "205", "category": "206", "shop": "207", "brand": "216"}
_CROSSED: Final = {
    "with_category": "508",
    "with_shop": "509",
    "with_brand": "702",
    "with_intention": "853",
}
_STRENGTHS: Final = tuple(f"{name}_strength" for name in _CROSSED)

_TOML = """\
# Ali-CCP: impressions of Taobao with clicks and purchases. No times: no history, no profiles.
name = "ali-ccp"
seed = 0

[items]
path = "items.parquet"
key = "item_id"
columns = {item_columns}

[users]
path = "users.parquet"
key = "user_id"
columns = {user_columns}

[events]
path = "events.parquet"
id = "id"
user = "user_id"
item = "item_id"
labels = ["click", "purchase"]
# Rows that share the user's features; the validation takes all of them or none.
request = "common_index"
context = {context}
domain = "position"
# The published test, which is later; the validation is carved from train by hash.
split = "split"

[tasks.purchase]
given = "click"
"""


def import_ali_ccp(path: Path, out: Path, report: Report = say_nothing) -> dict[str, int]:
    """Write the impressions in folder ``path`` as a shop in ``out``; returns rows and labels.

    Raises `DataError` if a file is missing or not as expected.
    """
    with engine_in(out) as engine:
        staged = [_stage(engine, path, part, out, report) for part in ("train", "test")]
        rows = f"read_parquet([{', '.join(quoted(str(file)) for file in staged)}])"
        n_rows = int(engine.value(f"SELECT count(*) FROM {rows}"))
        beside = ", ".join(name for name in (*_USER, *_ITEM) if name not in ("user_id", "item_id"))
        counts = {
            "impressions": write_parquet(
                engine,
                f"SELECT * EXCLUDE ({beside}) FROM {rows} WHERE click = 1 OR purchase = 0",
                out / "events.parquet",
            )
        }
        counts["purchases_without_click"] = n_rows - counts["impressions"]
        for table, columns in (("items", tuple(_ITEM)), ("users", tuple(_USER))):
            counts |= _write_table(engine, rows, table, columns, out)
        for name, condition in (
            ("without_common_features", "user_id IS NULL"),
            ("clicks", "click = 1"),
            ("purchases", "click = 1 AND purchase = 1"),
        ):
            counts[name] = int(engine.value(f"SELECT count(*) FROM {rows} WHERE {condition}"))
    for file in staged:
        file.unlink()
    context = ["position", *_CROSSED, *_STRENGTHS]
    write_toml(
        out,
        _TOML.format(
            item_columns=toml_list(tuple(_ITEM)[1:]),
            user_columns=toml_list(tuple(_USER)[1:]),
            context=toml_list(context),
        ),
    )
    return counts


def _stage(engine: Engine, path: Path, part: str, out: Path, report: Report) -> Path:
    """One part's rows as a parquet file, with the columns of their users and products."""
    common, skeleton = (
        find_source(folder_of(path), (name, f"sample_{part}/{name}"), _HOME)
        for name in (f"common_features_{part}.csv", f"sample_skeleton_{part}.csv")
    )
    staged = out / f"{part}.parquet"
    users = ", ".join(f"{_feature(field)} AS {name}" for name, field in _USER.items())
    with reading(common, f"CSV with {', '.join(_COMMON)}"):
        engine.run(
            f"CREATE OR REPLACE TABLE common AS SELECT common_index, {users} "
            f"FROM {csv_rows(common, _COMMON, _HOME, header=False, quote='')}"
        )
    features = {**_ITEM, "position": "301", **_CROSSED}
    columns = [f"{_feature(field)} AS {name}" for name, field in features.items()]
    columns += [
        f"try_cast({_feature(field, strength=True)} AS DOUBLE) AS {name}"
        for name, field in zip(_STRENGTHS, _CROSSED.values(), strict=True)
    ]
    with reading(skeleton, f"CSV with {', '.join(_SKELETON)}"):
        stream_parquet(
            engine,
            f"SELECT concat({quoted(part + '-')}, sample) AS id, click::TINYINT AS click, "
            f"purchase::TINYINT AS purchase, {quoted(part)} AS split, common_index, "
            f"{', '.join(columns)}, {', '.join(f'common.{name}' for name in _USER)} "
            f"FROM {csv_rows(skeleton, _SKELETON, _HOME, header=False, quote='')} "
            "LEFT JOIN common USING (common_index)",
            staged,
            report,
            about_lines(skeleton),
        )
    return staged


def _feature(field: str, *, strength: bool = False) -> str:
    """SQL for the first feature, or its value, of a field in ``features``; NULL if it has none."""
    feature, value = (r"[^\x01\x03]*", r"([^\x01]*)") if strength else (r"([^\x01\x03]*)", "")
    pattern = rf"(?:^|\x01){field}\x02{feature}" + (rf"\x03{value}" if strength else "")
    return f"nullif(regexp_extract(features, {quoted(pattern)}, 1), '')"


def _write_table(
    engine: Engine, rows: str, table: str, columns: tuple[str, ...], out: Path
) -> dict[str, int]:
    """A parquet file of users or products by key; how many, and how many have several values."""
    key, *others = columns
    least = ", ".join(f"min({name}) AS {name}" for name in others)
    several = " OR ".join(f"min({name}) <> max({name})" for name in others)
    engine.run(
        f"CREATE OR REPLACE TABLE {table} AS SELECT {key}, {least}, "
        f"coalesce({several}, false) AS is_several FROM {rows} WHERE {key} IS NOT NULL "
        f"GROUP BY {key}"
    )
    return {
        table: write_parquet(
            engine,
            f"SELECT * EXCLUDE (is_several) FROM {table} ORDER BY {key}",
            out / f"{table}.parquet",
        ),
        f"{table}_of_several_values": int(
            engine.value(f"SELECT count(*) FILTER (is_several) FROM {table}")
        ),
    }
