"""Taobao's user behaviour log to a shop whose first stage is the page view.

Source: ``UserBehavior.csv`` of "User Behavior Data from Taobao for Recommendation", Tianchi data
set 649 (https://tianchi.aliyun.com/dataset/649; its terms of use hold, login needed; described
again at https://guozizhun.com, "Alibaba Taobao User Behaviors Analysis I"): no header, five fields
``user,item,category,behaviour,seconds``; 3.5 GB, 100 million events of about a million users from
25 November to 3 December 2017.

* A view (``pv``) is the exposure: nothing says what was shown and not opened. A cart within 6 hours
  and a purchase (``buy``) within 12 are its labels; a purchase implies a cart, as everywhere here.
* A favourite (``fav``) is no stage, since it is on no way to a purchase. It enters the history, as
  views do.
* 1 December is the validation, 2 and 3 December are the test: a day of Taobao's is China's.

Left out: rows whose time lies outside the nine days of the description, in China's time (there are
some of other years), and are counted. A product's category is the one with the least number where
the log gives it several; ``items_of_several_categories`` says how many have.
"""

from pathlib import Path
from typing import Final

from daogou.tables.public.folder import (
    Report,
    about_lines,
    csv_rows,
    engine_in,
    find_source,
    kinds_of,
    n_different,
    reading,
    say_nothing,
    stream_parquet,
    write_parquet,
    write_toml,
)

_HOME = "Tianchi, data set 649 (https://tianchi.aliyun.com/dataset/649), unpacked"
_COLUMNS: Final = {
    "user_id": "BIGINT",
    "item_id": "BIGINT",
    "category": "BIGINT",
    "kind": "VARCHAR",
    "seconds": "BIGINT",
}
_KINDS: Final = ("pv", "fav", "cart", "buy")
# 25 November to 3 December in China, eight hours before UTC.
_WITHIN = (
    "seconds >= epoch(TIMESTAMP '2017-11-24 16:00') "
    "AND seconds < epoch(TIMESTAMP '2017-12-03 16:00')"
)

_TOML = """\
# Taobao: views, carts and purchases of nine days. No impressions: the view is the exposure.
name = "taobao-user-behavior"
seed = 0

[items]
path = "items.parquet"
key = "item_id"
columns = ["category"]
categories = ["category"]

[events]
path = "events.parquet"
user = "user_id"
item = "item_id"
time = "time"
kind = "kind"
funnel = ["pv", "cart", "buy"]
history = ["pv", "fav", "cart", "buy"]
# Nine days are short: a longer window would lose the labels of each split's end.
window_h = { cart = 6, buy = 12 }

[split]
# 1 December, and the two days after it, in China's time.
validation_from = "2017-11-30T16:00:00"
test_from = "2017-12-01T16:00:00"
"""


def import_taobao_user_behavior(
    path: Path, out: Path, report: Report = say_nothing
) -> dict[str, int]:
    """Write the log at ``path`` as a shop in ``out``; returns events by kind and dropped rows.

    Raises `DataError` if the file is missing, not such a log, or names another behaviour.
    """
    source = find_source(path, ("UserBehavior.csv", "UserBehavior.csv.gz"), _HOME)
    rows = csv_rows(source, _COLUMNS, _HOME, header=False)
    events = out / "events.parquet"
    with engine_in(out) as engine:
        with reading(source, f"log of {', '.join(_COLUMNS)}"):
            n_events = stream_parquet(
                engine,
                "SELECT user_id, item_id, make_timestamp(seconds * 1000000) AS time, kind "
                f"FROM {rows} WHERE {_WITHIN}",
                events,
                report,
                about_lines(source),
            )
            n_lines = int(engine.value(f"SELECT count(*) FROM {rows}"))
            engine.run(
                "CREATE TABLE items AS SELECT item_id, min(category) AS category, "
                f"max(category) > min(category) AS is_several FROM {rows} "
                f"WHERE {_WITHIN} GROUP BY item_id"
            )
        kinds = kinds_of(engine, events, _KINDS, source, "behaviour")
        counts = {
            "items": write_parquet(
                engine,
                "SELECT item_id, category FROM items ORDER BY item_id",
                out / "items.parquet",
            ),
            "users": n_different(engine, events, "user_id"),
            **kinds,
            "outside_the_nine_days": n_lines - n_events,
            "items_of_several_categories": int(
                engine.value("SELECT count(*) FILTER (is_several) FROM items")
            ),
        }
    write_toml(out, _TOML)
    return counts
