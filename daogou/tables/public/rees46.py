"""The REES46 log of views, carts and purchases to a shop whose first stage is the view.

Source: any monthly file of "eCommerce behavior data from multi category store" (Kaggle, by
REES46 Open CDP, who ask to be credited), or the head of one: ``2019-Oct.head.csv`` has the first
2 hours 50 minutes of October 2019. The mirror on GitHub states no licence.

A view is the exposure, and a cart or a purchase belongs to the user's latest view of the product:
there are no impressions here, so this says nothing of products shown and not opened. A row whose
session is not a whole session id is a cut line (the head's last) and is dropped. The catalogue
holds the last seen category, brand and price of each product, which may be later than a sample:
fine for a fixture of three hours, not for a result. ``user_session`` is not used as the request,
because a product viewed twice in a session would be two exposures of one request.
"""

from pathlib import Path
from typing import Final

import duckdb

from daogou.errors import DataError
from daogou.tables.engine import Engine, quoted
from daogou.tables.public.folder import find_source, write_parquet, write_toml

_HOME = "Kaggle, eCommerce behavior data from multi category store (REES46 Open CDP)"
_COLUMNS: Final = (
    "event_time",
    "event_type",
    "product_id",
    "category_id",
    "category_code",
    "brand",
    "price",
    "user_id",
    "user_session",
)
_KINDS: Final = ("view", "cart", "purchase")

_TOML = """\
# An electronics shop's log of views, carts and purchases.
name = "rees46"
seed = 0

[items]
path = "items.parquet"
key = "product_id"
columns = ["category_id", "category_code", "brand", "price"]
categories = ["category_id"]

[events]
path = "events.parquet"
user = "user_id"
item = "product_id"
time = "event_time"
kind = "event_type"
funnel = ["view", "cart", "purchase"]  # no impressions: the view is the exposure
"""
_LONG: Final = """\
window_h = { cart = 24, purchase = 24 }
"""
# The head's hours are uneven: nine in ten of its rows are of the last half hour.
_SHORT: Final = """\
# The log is shorter than a day: it shows the form of a long log and is too small to train on.
# A label whose window outlasts the log or its split is missing, so the windows are minutes
# and the last splits wider than usual.
window_h = { cart = 0.05, purchase = 0.05 }

[split]
validation = 0.3
test = 0.3
"""


def import_rees46(path: Path, out: Path) -> dict[str, int]:
    """Write the log at ``path`` as a shop in ``out``; returns events by kind and cut lines.

    Raises `DataError` if the file is missing or not such a log.
    """
    source = find_source(path, ("2019-Oct.head.csv", "2019-Oct.csv", "2019-Nov.csv"), _HOME)
    out.mkdir(parents=True, exist_ok=True)
    types = ", ".join(f"'{name}': 'VARCHAR'" for name in _COLUMNS)
    with Engine() as engine:
        try:
            # null_padding: a cut line has too few fields, and is to be counted, not refused.
            engine.run(
                "CREATE TABLE log AS SELECT row_number() OVER () AS line, * FROM "
                f"read_csv({quoted(str(source))}, header = true, auto_detect = false, "
                f"delim = ',', quote = '\"', nullstr = '', null_padding = true, "
                f"parallel = false, columns = {{{types}}})"
            )
            n_lines = int(engine.value("SELECT count(*) FROM log"))
            engine.run(
                "CREATE TABLE events AS SELECT line, "
                "left(event_time, 19)::TIMESTAMP AS event_time, event_type, "
                "product_id::BIGINT AS product_id, category_id, category_code, brand, "
                "price::DOUBLE AS price, user_id::BIGINT AS user_id FROM log "
                "WHERE regexp_full_match(user_session, '[0-9a-f-]{36}')"
            )
        except duckdb.Error as error:
            first = str(error).split("\n\n")[0]
            raise DataError(
                f"{source}: not the expected CSV with columns {', '.join(_COLUMNS)}: {first}"
            ) from None
        n_events = write_parquet(
            engine,
            "SELECT event_time, event_type, product_id, user_id FROM events "
            "ORDER BY event_time, line",
            out / "events.parquet",
        )
        n_items = write_parquet(
            engine,
            # arg_max passes over NULL: the last known value, not the last row's
            "SELECT product_id, arg_max(category_id, line) AS category_id, "
            "arg_max(category_code, line) AS category_code, arg_max(brand, line) AS brand, "
            "arg_max(price, line) AS price FROM events GROUP BY product_id ORDER BY product_id",
            out / "items.parquet",
        )
        kinds = dict(engine.rows("SELECT event_type, count(*) FROM events GROUP BY event_type"))
        lasts_h = engine.value(
            "SELECT date_diff('hour', min(event_time), max(event_time)) FROM events"
        )
        if lasts_h is None:
            raise DataError(f"{source}: none of its {n_lines} rows is whole; nothing to import")
        n_users = int(engine.value("SELECT count(DISTINCT user_id) FROM events"))
    write_toml(out, _TOML + (_SHORT if lasts_h < 24 else _LONG))
    return {
        "items": n_items,
        "users": n_users,
        **{kind: int(kinds.get(kind, 0)) for kind in _KINDS},
        "other_kinds": n_events - sum(int(kinds.get(kind, 0)) for kind in _KINDS),
        "cut_lines": n_lines - n_events,
    }
