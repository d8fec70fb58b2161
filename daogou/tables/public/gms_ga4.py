"""The Google Merchandise Store's carts, checkouts and purchases to two shops: lists, and baskets.

Source: ``cleaned_events.csv.zip`` and ``cleaned_items.csv`` of github
sarthi369/product-funnel-growth-analytics---google-merchandise-sales-data: three months (November
2020 to January 2021) of Google's obfuscated GA4 sample, exact duplicate rows dropped. The
repository states no licence.

The file's ``add_to_cart`` rows are not carts: nine in ten such events carry exactly the 12 products
of the list on the page. They are read as "listed". So:

* **out/** is a log: a session's first listing of a product is an exposure, if it comes before the
  session's first checkout or purchase; the labels are checkout and purchase of that product in
  that session. A listing after the checkout cannot lead to it and is dropped, and a product
  checked out but never listed is no exposure, because it would add a positive and no negatives;
  its events stay in the log as history.
* **out/checkout/** is a wide table: of the products in a session's checkout, which were bought.

A session is ``user_id`` and ``ga_session_id`` together, since the latter repeats among users.
``slate`` is how many lists the session has seen so far and ``slate_size`` how many products this
one shows, both known when it is shown. Left out: ``cleaned_users.csv`` (``ltv`` holds what the user
spent afterwards), the hour (obfuscated), and the place in the list (the file's order is shuffled:
buying rates do not vary with it).
"""

import tempfile
import zipfile
from pathlib import Path
from typing import Final

from daogou.errors import DataError
from daogou.tables.engine import Engine
from daogou.tables.public.folder import find_source, read_csv, write_parquet, write_toml

_HOME = (
    "github sarthi369/product-funnel-growth-analytics---google-merchandise-sales-data "
    "(cleaned_events.csv.zip is in its history)"
)
_EVENTS: Final = {
    "user_id": "BIGINT",
    "ga_session_id": "BIGINT",
    "country": "VARCHAR",
    "device": "VARCHAR",
    "type": "VARCHAR",
    "item_id": "BIGINT",
    "date": "TIMESTAMP",
}
_ITEMS: Final = {
    "id": "BIGINT",
    "name": "VARCHAR",
    "brand": "VARCHAR",
    "variant": "VARCHAR",
    "category": "VARCHAR",
    "price_in_usd": "DOUBLE",
}

_ITEMS_TOML = """\
[items]
path = "items.parquet"
key = "item_id"
text = ["name"]
columns = ["brand", "category", "variant", "price_usd"]
"""

_TOML = (
    """\
# Google Merchandise Store: products listed to a session, checked out, bought.
name = "gms-ga4"
seed = 0

"""
    + _ITEMS_TOML
    + """
[events]
path = "events.parquet"
user = "user_id"
item = "item_id"
time = "time"
kind = "kind"
# The first listing of a product in a session, before its first checkout or purchase.
funnel = ["listed", "checkout", "purchase"]
# What was listed before is an input as well: nine users in ten are new and have nothing else.
history = ["listed", "checkout", "purchase"]
# A session: the query that a list answers, and what ties a purchase to its listing.
request = "session"
# No session lasts longer than 4.5 hours; a longer window would only lose labels at the cuts.
window_h = { checkout = 5, purchase = 5 }
context = ["country", "device", "slate", "slate_size"]
"""
)

_CHECKOUT_TOML = (
    """\
# Google Merchandise Store: of the products in a session's checkout, which were bought.
name = "gms-ga4-checkout"
seed = 0

"""
    + _ITEMS_TOML
    + """
[events]
path = "events.parquet"
user = "user_id"
item = "item_id"
time = "time"
# A shop of its own: few checked-out products were listed before, so as a stage of the
# listing shop most of these pairs would be lost.
labels = ["purchase"]
request = "session"
context = ["country", "device", "basket_size"]
"""
)

# One row per (session, product): first times of each kind.
_PAIRS = """
CREATE TABLE pairs AS
SELECT user_id, item_id, session,
    min(date) FILTER (type = 'add_to_cart') AS listed,
    min(date) FILTER (type = 'begin_checkout') AS checkout,
    min(date) FILTER (type = 'purchase') AS purchase
FROM raw GROUP BY ALL
"""
# One row per session; a session has one country and one device.
_SESSIONS = """
CREATE TABLE sessions AS
SELECT session, arg_min(country, line) AS country, arg_min(device, line) AS device,
    min(date) FILTER (type <> 'add_to_cart') AS decided
FROM raw GROUP BY session
"""
# One row per list or basket; `number` counts the session's so far and so needs no later event.
_SLATES = """
CREATE TABLE slates AS
SELECT session, type, date, count(DISTINCT item_id) AS size,
    row_number() OVER (PARTITION BY session, type ORDER BY date) AS number
FROM raw GROUP BY session, type, date
"""
_LOG = """
CREATE TABLE log AS
WITH kinds AS (
    SELECT user_id, item_id, session, listed AS time, 'listed' AS kind FROM exposed
    UNION ALL
    SELECT user_id, item_id, session, checkout, 'checkout' FROM pairs WHERE checkout IS NOT NULL
    UNION ALL
    SELECT user_id, item_id, session, purchase, 'purchase' FROM pairs WHERE purchase IS NOT NULL
)
SELECT kinds.user_id, kinds.item_id, kinds.session, kinds.time, kinds.kind,
    country, device, slates.number AS slate, slates.size AS slate_size
FROM kinds JOIN sessions USING (session)
LEFT JOIN slates ON slates.session = kinds.session AND slates.date = kinds.time
    AND kinds.kind = 'listed' AND slates.type = 'add_to_cart'
"""
_CHECKOUTS = """
SELECT pairs.user_id, pairs.item_id, pairs.session, checkout AS time,
    (purchase IS NOT NULL)::TINYINT AS purchase,
    country, device, slates.size AS basket_size
FROM pairs JOIN sessions USING (session)
JOIN slates ON slates.session = pairs.session AND slates.date = checkout
    AND slates.type = 'begin_checkout'
WHERE checkout IS NOT NULL ORDER BY time, pairs.user_id, pairs.session, pairs.item_id
"""


def import_gms_ga4(path: Path, out: Path) -> dict[str, int]:
    """Write the store at ``path`` as two shops, ``out`` and ``out/checkout``; returns counts.

    Raises `DataError` if a file is missing, not as expected, or has an unknown type of event.
    """
    events = find_source(path, ("cleaned_events.csv", "cleaned_events.csv.zip"), _HOME)
    items = find_source(path, ("cleaned_items.csv",), _HOME)
    basket = out / "checkout"
    basket.mkdir(parents=True, exist_ok=True)
    with Engine() as engine:
        _read(engine, events, items)
        for statement in (_PAIRS, _SESSIONS, _SLATES):
            engine.run(statement)
        engine.run(
            "CREATE TABLE exposed AS FROM pairs JOIN sessions USING (session) "
            "WHERE listed < decided OR (listed IS NOT NULL AND decided IS NULL)"
        )
        engine.run(_LOG)
        counts = {
            "items": write_parquet(engine, "FROM items ORDER BY item_id", out / "items.parquet"),
            "events": write_parquet(
                engine,
                "FROM log ORDER BY time, user_id, session, kind, item_id",
                out / "events.parquet",
            ),
            "checkout_pairs": write_parquet(engine, _CHECKOUTS, basket / "events.parquet"),
        }
        write_parquet(engine, "FROM items ORDER BY item_id", basket / "items.parquet")
        counts |= _count(engine)
    write_toml(out, _TOML)
    write_toml(basket, _CHECKOUT_TOML)
    return counts


def _read(engine: Engine, events: Path, items: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="daogou-") as folder:
        if events.suffix == ".zip":
            try:
                with zipfile.ZipFile(events) as archive:
                    events = Path(archive.extract("cleaned_events.csv", folder))
            except (zipfile.BadZipFile, KeyError) as error:
                raise DataError(f"{events}: no cleaned_events.csv in it ({error})") from None
        read_csv(engine, "rows", events, _EVENTS)
    read_csv(engine, "products", items, _ITEMS)
    known = ("add_to_cart", "begin_checkout", "purchase")
    odd = engine.rows(f"SELECT line, type FROM rows WHERE type IS NULL OR type NOT IN {known}")
    if odd:
        raise DataError(
            f"{events.name}: row {odd[0][0]} has type {odd[0][1]!r}; known: {', '.join(known)}"
        )
    engine.run(
        "CREATE TABLE raw AS SELECT *, concat(user_id, '-', ga_session_id) AS session FROM rows"
    )
    engine.run(
        "CREATE TABLE items AS SELECT id AS item_id, name, brand, category, "
        "trim(variant) AS variant, price_in_usd AS price_usd FROM products"
    )


def _count(engine: Engine) -> dict[str, int]:
    names = {
        "sessions": "SELECT count(*) FROM sessions",
        "listed": "SELECT count(*) FROM exposed",
        "listed_after_checkout": (
            "SELECT count(*) FROM pairs JOIN sessions USING (session) WHERE listed >= decided"
        ),
        "relisted_rows": (
            "SELECT count(*) - (SELECT count(*) FROM pairs WHERE listed IS NOT NULL) "
            "FROM raw WHERE type = 'add_to_cart'"
        ),
        "listed_checked_out": "SELECT count(*) FROM exposed WHERE checkout IS NOT NULL",
        "listed_bought": "SELECT count(*) FROM exposed WHERE purchase IS NOT NULL",
        "checkout": "SELECT count(*) FROM pairs WHERE checkout IS NOT NULL",
        "purchase": "SELECT count(*) FROM pairs WHERE purchase IS NOT NULL",
        "checkout_bought": (
            "SELECT count(*) FROM pairs WHERE checkout IS NOT NULL AND purchase IS NOT NULL"
        ),
    }
    return {name: int(engine.value(sql)) for name, sql in names.items()}
