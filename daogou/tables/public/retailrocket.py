"""Retailrocket's log of views, carts and transactions to a shop whose first stage is the view.

Source: "Retailrocket recommender system dataset" on Kaggle (retailrocket/ecommerce-dataset, CC
BY-NC-SA 4.0; https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset), 0.9 GB of CSV files
with headers: ``events.csv`` (timestamp, visitorid, event, itemid, transactionid; 2,756,101 events
of 4.5 months), ``item_properties_part1.csv`` and ``item_properties_part2.csv`` (timestamp, itemid,
property, value; 20,275,902 weekly snapshots) and ``category_tree.csv`` (categoryid, parentid).

* A view is the exposure; ``addtocart`` within a day and ``transaction`` within three are labels.
* **Properties change in time, and a table of products does not.** A product's category is the
  *first* that the snapshots give, so that no view of before a change knows of it;
  ``items_whose_category_changes`` says for how many it is later another. Snapshots begin a week
  after the log: the views before are given what the first one says.
* The parent in the category tree, which has no times, stands beside it.

Left out: ``available`` (a state that changes from week to week: any one value of it would tell
earlier views the future and later ones the past), every other property (their names and values are
hashed and nothing says what they are) and the ids of transactions.
"""

from pathlib import Path
from typing import Final

from daogou.tables.public.folder import (
    Report,
    about_lines,
    csv_rows,
    engine_in,
    find_source,
    folder_of,
    kinds_of,
    reading,
    say_nothing,
    stream_parquet,
    write_parquet,
    write_toml,
)

_HOME = "Kaggle, Retailrocket recommender system dataset (retailrocket/ecommerce-dataset)"
_EVENTS: Final = {
    "timestamp": "BIGINT",
    "visitorid": "BIGINT",
    "event": "VARCHAR",
    "itemid": "BIGINT",
}
_PROPERTIES: Final = {
    "timestamp": "BIGINT",
    "itemid": "BIGINT",
    "property": "VARCHAR",
    "value": "VARCHAR",
}
_TREE: Final = {"categoryid": "BIGINT", "parentid": "BIGINT"}
_KINDS: Final = ("view", "addtocart", "transaction")

_TOML = """\
# Retailrocket: views, carts and transactions of 4.5 months. The view is the exposure.
name = "retailrocket"
seed = 0

[items]
path = "items.parquet"
key = "item_id"
# The first category known of a product, and that one's parent: nothing from after a change.
columns = ["category", "parent_category"]
categories = ["category", "parent_category"]

[events]
path = "events.parquet"
user = "visitor_id"
item = "item_id"
time = "time"
kind = "kind"
funnel = ["view", "addtocart", "transaction"]
history = ["view", "addtocart", "transaction"]
window_h = { addtocart = 24, transaction = 72 }
"""


def import_retailrocket(path: Path, out: Path, report: Report = say_nothing) -> dict[str, int]:
    """Write the log in folder ``path`` as a shop in ``out``; returns events and products.

    Raises `DataError` if a file is missing, not as expected, or names another kind of event.
    """
    source, *parts, tree = (
        find_source(folder_of(path), (name,), _HOME)
        for name in (
            "events.csv",
            "item_properties_part1.csv",
            "item_properties_part2.csv",
            "category_tree.csv",
        )
    )
    events = out / "events.parquet"
    with engine_in(out) as engine:
        with reading(source, f"CSV with columns {', '.join(_EVENTS)}"):
            stream_parquet(
                engine,
                "SELECT visitorid AS visitor_id, itemid AS item_id, "
                'make_timestamp("timestamp" * 1000) AS time, event AS kind '
                f"FROM {csv_rows(source, _EVENTS, _HOME)}",
                events,
                report,
                about_lines(source),
            )
        kinds = kinds_of(engine, events, _KINDS, source, "event")
        engine.run('CREATE TABLE snapshots ("time" BIGINT, item_id BIGINT, category BIGINT)')
        for part in parts:
            with reading(part, f"CSV with columns {', '.join(_PROPERTIES)}"):
                engine.run(
                    'INSERT INTO snapshots SELECT "timestamp", itemid, value::BIGINT '
                    f"FROM {csv_rows(part, _PROPERTIES, _HOME)} WHERE property = 'categoryid'"
                )
        with reading(tree, f"CSV with columns {', '.join(_TREE)}"):
            engine.run(
                "CREATE TABLE tree AS SELECT categoryid, min(parentid) AS parentid "
                f"FROM {csv_rows(tree, _TREE, _HOME)} GROUP BY categoryid"
            )
        engine.run(
            'CREATE TABLE items AS SELECT item_id, arg_min(category, "time") AS category, '
            "count(DISTINCT category) > 1 AS is_several FROM snapshots GROUP BY item_id"
        )
        n_items = write_parquet(
            engine,
            "SELECT item_id, category, parentid AS parent_category FROM items "
            "LEFT JOIN tree ON tree.categoryid = category ORDER BY item_id",
            out / "items.parquet",
        )
        n_changed = int(engine.value("SELECT count(*) FILTER (is_several) FROM items"))
    write_toml(out, _TOML)
    return {
        "items": n_items,
        **kinds,
        "items_whose_category_changes": n_changed,
    }
