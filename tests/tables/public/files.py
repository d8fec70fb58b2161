"""Small files in the format of each public data set that comes in gigabytes, with made rows."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

DAY_S: Final = 86_400
N_USERS, N_ITEMS, N_VIEWS = 40, 30, 600


def log(
    draw: random.Random, start_s: int, days: float, kinds: tuple[str, str, str]
) -> Iterator[tuple[int, int, str, int]]:
    """User, item, kind and seconds of made views, some followed by the later kinds."""
    for _ in range(N_VIEWS):
        user, item = draw.randrange(1, N_USERS + 1), draw.randrange(1, N_ITEMS + 1)
        seconds = start_s + draw.randrange(int(days * DAY_S))
        yield user, item, kinds[0], seconds
        for kind in kinds[1:]:
            if draw.random() < 0.5:
                break
            seconds += 60
            yield user, item, kind, seconds


def taobao_user_behavior(folder: Path) -> None:
    rows = log(random.Random(0), 1_511_539_200, 8.9, ("pv", "cart", "buy"))
    text = "".join(f"{u},{i},{i % 5},{kind},{s}\n" for u, i, kind, s in rows)
    (folder / "UserBehavior.csv").write_text(text, encoding="utf-8")


def retailrocket(folder: Path) -> None:
    kinds = ("view", "addtocart", "transaction")
    rows = log(random.Random(0), 1_430_622_000, 130, kinds)
    events = "timestamp,visitorid,event,itemid,transactionid\n"
    for order, (user, item, kind, seconds) in enumerate(rows):
        events += f"{seconds * 1000},{user},{kind},{item},{order if kind == kinds[2] else ''}\n"
    (folder / "events.csv").write_text(events, encoding="utf-8")
    header = "timestamp,itemid,property,value\n"
    first = "".join(f"1431226800000,{i},categoryid,{i % 4}\n" for i in range(1, N_ITEMS + 1))
    second = "1435460400000,1,available,0\n1435460400000,1,categoryid,9\n"
    (folder / "item_properties_part1.csv").write_text(header + first, encoding="utf-8")
    (folder / "item_properties_part2.csv").write_text(header + second, encoding="utf-8")
    tree = "categoryid,parentid\n0,100\n1,100\n2,101\n100,\n"
    (folder / "category_tree.csv").write_text(tree, encoding="utf-8")


def otto(folder: Path) -> None:
    sessions: dict[int, list[dict[str, object]]] = {}
    kinds = ("clicks", "carts", "orders")
    for user, item, kind, seconds in log(random.Random(0), 1_659_304_800, 27.9, kinds):
        event = {"aid": item, "ts": seconds * 1000, "type": kind}
        sessions.setdefault(user, []).append(event)
    lines = (json.dumps({"session": s, "events": events}) for s, events in sessions.items())
    text = "".join(f"{line}\n" for line in lines)
    (folder / "otto-recsys-train.jsonl").write_text(text, encoding="utf-8")


FILES: Final[dict[str, Callable[[Path], None]]] = {
    "otto": otto,
    "retailrocket": retailrocket,
    "taobao-user-behavior": taobao_user_behavior,
}
