"""A shop small enough to know by heart: 3 users, 4 products, 15 events, worked out by hand.

Hours count from `START`; validation begins at hour 80, the test at hour 150, the log ends at 250.
A click counts within 4 hours of its exposure, a purchase within 24. The exposures, in the order
of the store (split, then time, then user)::

    place  user  item  hour  split       click  buy   why
    0      1     10    0     train       1      1     clicked at 1, bought at 2
    1      1     11    0     train       0      0     same request as 0, so the same query
    2      2     10    30    train       0      0
    3      2     11    30    train       1      0     clicked at 31
    4      1     12    60    train       1      None  clicked in the same moment; its day of buying
                                                     ends in validation, so nobody knows yet
    5      2     10    100   validation  1      0     clicked at 101
    6      1     13    200   test        1      0     clicked at 201; product 13 is new
    7      3     13    200   test        0      0     user 3 is new

So user 1 has clicked 10, bought 10, clicked 12 and 13; user 2 has clicked 11 and 10; user 3
nothing. User 1's labels may teach, user 2's choose, user 3's test; titles 10 and 11 teach, 12
chooses, 13 tests.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from daogou.config import read_shop
from daogou.features.store import Store
from daogou.features.store.compile import compile_store
from daogou.features.transform import Transform
from daogou.features.transform.fit import fit_transform
from daogou.schema import Shop
from daogou.tables import Engine, prepare

START: Final = datetime(2024, 1, 1)
STAGES: Final = ("click", "buy")
Rows = Sequence[dict[str, Any]]
# Where all values are missing or empty, pyarrow cannot tell the type.
TYPES: Final = {
    "spans": pa.list_(
        pa.struct([("start", pa.int64()), ("end", pa.int64()), ("attribute", pa.string())])
    ),
    "title": pa.string(),
    "request": pa.string(),
    "price": pa.float64(),
}

TOML: Final = """\
name = "tiny"
seed = 7

[items]
path = "items.parquet"
key = "item_id"
text = ["title"]
columns = ["category", "price"]
attributes = ["colour"]
spans = "spans"
split = "part"

[users]
path = "users.parquet"
key = "user_id"
columns = ["city"]
profile = ["gender"]
split = "part"

[events]
path = "events.parquet"
user = "user_id"
item = "item_id"
time = "ts"
kind = "event"
funnel = ["shown", "click", "buy"]
window_h = { click = 4, buy = 24 }
request = "request"
context = ["device", "position"]

[split]
validation_from = "2024-01-04T08:00:00"  # hour 80
test_from = "2024-01-07T06:00:00"        # hour 150
"""


def item(key: int | str, title: str | None, part: str, **columns: Any) -> dict[str, Any]:
    """A product whose gold is the first word of its title, a colour."""
    first = (title or "").partition(" ")[0]
    spans = [{"start": 0, "end": len(first), "attribute": "colour"}] if first else []
    given = {"category": "shoes", "price": 10.0, "spans": spans}
    return {"item_id": key, "title": title, "part": part} | given | columns


def event(
    hour: float, user: int | str, product: int | str, kind: str, request: str | None, **columns: Any
) -> dict[str, Any]:
    """An event some hours after `START`."""
    seen: dict[str, Any] = {"device": None, "position": None}
    seen |= {
        "user_id": user,
        "item_id": product,
        "ts": START + timedelta(hours=hour),
        "event": kind,
        "request": request,
    }
    return seen | columns


ITEMS: Final[Rows] = (
    item(10, "red boot", "train"),
    item(11, "blue boot", "train", price=20.0),
    item(12, "green hat", "validation", category="hats", price=30.0),
    item(13, "mauve scarf", "test", category="scarves", price=99.0),
)
USERS: Final[Rows] = (
    {"user_id": 1, "city": "Oslo", "gender": "F", "part": "train"},
    {"user_id": 2, "city": "Rome", "gender": "M", "part": "validation"},
    {"user_id": 3, "city": "Lima", "gender": "X", "part": "test"},
)
EVENTS: Final[Rows] = (
    event(0, 1, 10, "shown", "r1", device="phone", position=1.0),
    event(0, 1, 11, "shown", "r1", device="phone", position=2.0),
    event(1, 1, 10, "click", "r1"),
    event(2, 1, 10, "buy", "r1"),
    event(30, 2, 10, "shown", "r2", device="desk", position=1.0),
    event(30, 2, 11, "shown", "r2", device="desk", position=2.0),
    event(31, 2, 11, "click", "r2"),
    event(60, 1, 12, "shown", "r3", device="phone", position=1.0),
    event(60, 1, 12, "click", "r3"),
    event(100, 2, 10, "shown", "r4", device="watch", position=7.0),
    event(101, 2, 10, "click", "r4"),
    event(200, 3, 13, "shown", "r5", device="watch", position=9.0),
    event(200, 1, 13, "shown", "r6", device="phone", position=1.0),
    event(201, 1, 13, "click", "r6"),
    event(250, 1, 10, "leave", None),  # moves the end of the log, so that no window is open
)
N_EXPOSURES: Final = 8
RANGES: Final = {"train": (0, 5), "validation": (5, 6), "test": (6, 8)}


def write_shop(
    folder: Path,
    *,
    items: Rows = ITEMS,
    users: Rows = USERS,
    events: Rows = EVENTS,
    toml: str = TOML,
) -> Shop:
    """The shop above, or one with other rows, as parquet files and a shop.toml in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("items", items), ("users", users), ("events", events)):
        if rows:
            columns = {
                column: pa.array([row[column] for row in rows], TYPES.get(column))
                for column in rows[0]
            }
            pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    (folder / "shop.toml").write_text(toml, encoding="utf-8")
    return read_shop(folder)


def fit_shop(shop: Shop) -> Transform:
    """The transform of a shop's training split."""
    with Engine(threads=1) as engine:
        prepare(engine, shop)
        return fit_transform(engine, shop, text_length=4, word_count=1)


def compile_shop(shop: Shop, *, transform: Transform | None = None) -> tuple[Transform, Store]:
    """A shop's transform (or the one given) and the store it compiles, beside the shop's files."""
    with Engine(threads=1) as engine:
        prepare(engine, shop)
        used = transform or fit_transform(engine, shop, text_length=4, word_count=1)
        return used, compile_store(engine, shop, used, shop.root / "store")
