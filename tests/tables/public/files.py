"""Small files in the format of each public data set that comes in gigabytes, with made rows."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

DAY_S: Final = 86_400
N_USERS, N_ITEMS, N_VIEWS = 40, 30, 600


def log(
    draw: random.Random, start_s: int, days: float, kinds: tuple[str, ...]
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


def features(**values: str) -> str:
    """Ali-CCP's features: ``f101="7"`` is feature 7 of field 101, ``f508="7:0.5"`` one of 0.5."""
    told = []
    for name, text in values.items():
        feature, _, value = text.partition(":")
        told.append(f"{name[1:]}\x02{feature}\x03{value or '1.0'}")
    return "\x01".join(told)


def ali_ccp(folder: Path) -> None:
    draw = random.Random(0)
    for part, n_rows in (("train", 600), ("test", 200)):
        common, skeleton = "", ""
        for user in range(N_USERS):
            told = features(f101=str(user), f122=str(user % 3), f109_14="5:0.7")
            common += f"c{user},3,{told}\n"
        for row in range(n_rows):
            item, user = draw.randrange(N_ITEMS), draw.randrange(N_USERS)
            click = int(draw.random() < 0.4)
            purchase = int(click and draw.random() < 0.4)
            told = features(
                f205=str(item), f206=str(item % 4), f207="2", f508="9:1.5", f301=str(item % 3)
            )
            skeleton += f"{row},{click},{purchase},c{user},5,{told}\n"
        (folder / f"common_features_{part}.csv").write_text(common, encoding="utf-8")
        (folder / f"sample_skeleton_{part}.csv").write_text(skeleton, encoding="utf-8")


def aliexpress(folder: Path) -> None:
    draw = random.Random(0)
    for country in ("nl", "us"):
        for part, n_pages in (("train", 60), ("test", 20)):
            pages, shown = "", ""
            for page in range(n_pages):
                pages += ",".join([str(page), *(str(n % 4) for n in range(32))]) + "\n"
                for _ in range(6):
                    label = draw.choice((0, 0, 0, 1, 1, 2))
                    numbers = (str(draw.randrange(5)) for _ in range(47))
                    shown += ",".join([str(page), *numbers, str(label)]) + "\n"
            (folder / f"{country}_user_{part}.csv").write_text(pages, encoding="utf-8")
            (folder / f"{country}_item_{part}.csv").write_text(shown, encoding="utf-8")


def person(age: int = 30, **changed: str) -> str:
    """A line of Census-Income, with a field's text changed by its place as ``f5``, from 1."""
    fields = [str(age), *(" Not in universe" for _ in range(40)), " - 50000."]
    for place in (3, 4, 6, 17, 18, 19, 25, 31, 37, 39, 40):
        fields[place - 1] = " 0"
    fields[40] = " 94"
    for place, text in changed.items():
        fields[int(place[1:]) - 1] = f" {text}"
    return ",".join(fields) + "\n"


def census_income(folder: Path) -> None:
    draw = random.Random(0)
    for part, n_rows in (("data", 300), ("test", 300)):
        text = "".join(
            person(
                draw.randrange(90),
                f5=draw.choice(("Bachelors degree(BA AB BS)", "High school graduate")),
                f8=draw.choice(("Never married", "Divorced")),
                f42=draw.choice(("- 50000.", "50000+.")),
            )
            for _ in range(n_rows)
        )
        (folder / f"census-income.{part}").write_text(text, encoding="utf-8")


def kuairand(folder: Path) -> None:
    draw = random.Random(0)
    logs = {
        "standard_4_08_to_4_21": (1_649_347_200, 14),
        "standard_4_22_to_5_08": (1_650_556_800, 17),
        "random_4_22_to_5_08": (1_650_556_800, 17),
    }
    header = (
        "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,"
        "is_hate,long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,"
        "is_profile_enter,is_rand,tab\n"
    )
    for name, (start_s, n_days) in logs.items():
        text = header
        for user, video, _, seconds in log(draw, start_s, n_days, ("shown",)):
            click = int(draw.random() < 0.5)
            long = int(click and draw.random() < 0.5)
            text += (
                f"{user},{video},20220421,400,{seconds * 1000},{click},{int(draw.random() < 0.1)},"
                f"0,0,0,0,{long},{draw.randrange(20_000, 90_000)},60000,0,0,0,"
                f"{int(name.startswith('random'))},{video % 3}\n"
            )
        (folder / f"log_{name}_pure.csv").write_text(text, encoding="utf-8")
    ranges = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
    names = ["user_id", "user_active_degree", "is_lowactive_period", "is_live_streamer"]
    names += ["is_video_author", *(part for each in ranges for part in (each, f"{each}_range"))]
    names += [f"onehot_feat{n}" for n in range(18)]
    users = ",".join(names) + "\n"
    for user in range(1, N_USERS + 1):
        kind = "high_active" if user % 2 else "full_active"
        numbers = ",".join(f'{user},"(0,{10 * (user % 3 + 1)}]"' for _ in ranges)
        users += f"{user},{kind},0,{user % 2},{user % 2},{numbers}," + ",".join("01" * 9) + "\n"
    (folder / "user_features_pure.csv").write_text(users, encoding="utf-8")
    videos = (
        "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,"
        "server_width,server_height,music_id,music_type,tag\n"
    )
    for video in range(1, N_ITEMS + 1):
        told = f"{video},{video % 5},NORMAL,2022-03-{video:02},Web,1,17200.0,720,1280,9,4"
        videos += f'{told},"1,{video % 3}"\n'
    (folder / "video_features_basic_pure.csv").write_text(videos, encoding="utf-8")


def movielens(folder: Path) -> None:
    draw = random.Random(0)
    ratings = "".join(
        f"{user}::{film}::{draw.randrange(1, 6)}::{seconds}\n"
        for user, film, _, seconds in log(draw, 956_703_932, 900, ("rated",))
    )
    films = "".join(
        f"{film}::Film {film} ({1900 + film})::Drama|War\n" for film in range(1, N_ITEMS + 1)
    )
    people = "".join(
        f"{user}::{'MF'[user % 2]}::{(1, 25, 56)[user % 3]}::{user % 21}::48067\n"
        for user in range(1, N_USERS + 1)
    )
    for name, text in (("ratings", ratings), ("movies", films), ("users", people)):
        (folder / f"{name}.dat").write_text(text, encoding="latin-1")


def amazon_reviews(folder: Path) -> None:
    draw = random.Random(0)
    reviews = "".join(
        json.dumps(
            {
                "rating": float(draw.randrange(1, 6)),
                "title": "Nice",
                "text": "As said",
                "images": [],
                "asin": f"A{item}",
                "parent_asin": f"B{item}",
                "user_id": f"U{user}",
                "timestamp": seconds * 1000 + 7,
                "helpful_vote": 0,
                "verified_purchase": True,
            }
        )
        + "\n"
        for user, item, _, seconds in log(draw, 1_577_836_800, 1200, ("rated",))
    )
    (folder / "Gift_Cards.jsonl").write_text(reviews, encoding="utf-8")
    products = "".join(
        json.dumps(
            {
                "main_category": "Gift Cards",
                "title": f"{('Acme', 'Norvik')[item % 2]} card no. {item}, red",
                "average_rating": 4.5,
                "rating_number": 12,
                "features": [],
                "description": [],
                "price": (19.99, None, "from 5.00")[item % 3],
                "images": [],
                "videos": [],
                "store": f"Store {item % 3}",
                "categories": [],
                "details": {"Brand": ("Acme", "Norvik")[item % 2], "Color": "Red", "UPC": "0123"},
                "parent_asin": f"B{item}",
                "bought_together": None,
            }
        )
        + "\n"
        for item in range(1, N_ITEMS + 1)
    )
    (folder / "meta_Gift_Cards.jsonl").write_text(products, encoding="utf-8")


FILES: Final[dict[str, Callable[[Path], None]]] = {
    "ali-ccp": ali_ccp,
    "aliexpress": aliexpress,
    "amazon-reviews": amazon_reviews,
    "census-income": census_income,
    "kuairand": kuairand,
    "movielens": movielens,
    "otto": otto,
    "retailrocket": retailrocket,
    "taobao-user-behavior": taobao_user_behavior,
}
