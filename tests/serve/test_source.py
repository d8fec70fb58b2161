"""What a server kept is a shop to train on."""

import re
from pathlib import Path

from daogou.config import read_shop
from daogou.serve.events import Event
from daogou.serve.store import Request, Store
from daogou.tables import Engine, prepare
from tests.serve.conftest import NOW_US, ROOT

HOUR_US = 3_600_000_000


def documented_shop(url: str) -> str:
    """The shop.toml of docs/serve.md, at another database."""
    page = (ROOT / "docs" / "serve.md").read_text("utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    return str(block).replace("sqlite:///daogou.db", url)


def fill(store: Store) -> None:
    """Ann was shown two products and clicked one; a visit was shown one, which it bought later."""
    things = {"boot": {"title": "红 boot", "price": 2.5, "category": "shoes"}, "sock": {}}
    store.items.put({key: (fields, False) for key, fields in things.items()})
    store.users.put({"ann": ({"city": "杭州"}, False)})
    for day in range(10):
        at = NOW_US + day * 24 * HOUR_US
        store.log_request(Request(f"r{day}", at, ["boot", "sock"], "ann"))
        store.log_request(Request(f"v{day}", at, ["sock"], None, "visit"))
        store.add_events(
            [
                Event(f"c{day}", "click", "sock", at + 5, at, "ann", None, f"r{day}", 1),
                Event(f"p{day}", "purchase", "sock", at + 9, at, None, "visit", f"v{day}", 0, 12.5),
            ]
        )


def test_the_documented_shop_reads_what_was_shown_and_what_came_of_it(
    store: Store, url: str, tmp_path: Path
) -> None:
    fill(store)
    (tmp_path / "shop.toml").write_text(documented_shop(url), "utf-8")
    shop = read_shop(tmp_path)
    with Engine(threads=1) as engine:
        prepare(engine, shop)
        rows = engine.rows(
            'SELECT "user", item, label_click, label_purchase FROM exposures '
            "WHERE time = (SELECT min(time) FROM exposures) ORDER BY ALL"
        )
        items = engine.rows("SELECT * FROM items ORDER BY item_id")
        users = engine.rows("SELECT * FROM users")
    assert rows == [("ann", "boot", 0, 0), ("ann", "sock", 1, 0), ("visit:visit", "sock", 1, 1)]
    assert items == [("boot", "红 boot", "shoes", 2.5), ("sock", None, None, None)]
    assert users == [("ann", "杭州")]
