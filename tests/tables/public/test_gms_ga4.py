import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.tables import Engine, prepare
from daogou.tables.public.gms_ga4 import import_gms_ga4

# User 1, session 7: lists {1, 2} then {2, 3}, checks 2 out, sees 4 listed, buys 2 and the never
# listed 5. User 2 has a session 7 of their own: lists {1}, buys 1 without a checkout.
# User 3: a checkout of 1 and nothing listed.
EVENTS = """\
user_id,ga_session_id,country,device,type,item_id,date
1,7,US,mobile,add_to_cart,2,2020-11-01 10:00:00
1,7,US,mobile,add_to_cart,1,2020-11-01 10:00:00
1,7,US,mobile,add_to_cart,3,2020-11-01 10:05:00
1,7,US,mobile,add_to_cart,2,2020-11-01 10:05:00
1,7,US,mobile,begin_checkout,2,2020-11-01 10:10:00
1,7,US,mobile,begin_checkout,2,2020-11-01 10:11:00
1,7,US,mobile,add_to_cart,4,2020-11-01 10:12:00
1,7,US,mobile,purchase,2,2020-11-01 10:20:00
1,7,US,mobile,purchase,5,2020-11-01 10:20:00
2,7,IN,desktop,add_to_cart,1,2020-11-20 09:00:00
2,7,IN,desktop,purchase,1,2020-11-20 09:30:00
3,8,SE,tablet,begin_checkout,1,2020-11-30 09:30:00
"""
ITEMS = """\
id,name,brand,variant,category,price_in_usd
1,Google Tee,Google, LG,Apparel,22
2,Google "G" Mug,Google,Single Option Only,Drinkware,20
3,Cap,Google,,Apparel,14
4,Bag,Google,,Bags,30
5,Pen,YouTube,,Office,2
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "cleaned_events.csv").write_text(EVENTS, encoding="utf-8")
    (folder / "cleaned_items.csv").write_text(ITEMS.replace('"G"', "G"), encoding="utf-8")
    return folder


def log(out: Path) -> list[tuple[object, ...]]:
    rows = pq.read_table(out / "events.parquet").to_pylist()
    return [(r["session"], r["item_id"], r["kind"], r["time"].strftime("%H:%M")) for r in rows]


def test_a_session_exposes_what_it_lists_before_its_first_checkout(
    source: Path, tmp_path: Path
) -> None:
    counts = import_gms_ga4(source, tmp_path / "out")
    listed = [row for row in log(tmp_path / "out") if row[2] == "listed"]
    # Product 2 is listed twice and exposed once, at 10:00; product 4 comes after the checkout.
    assert listed == [
        ("1-7", 1, "listed", "10:00"),
        ("1-7", 2, "listed", "10:00"),
        ("1-7", 3, "listed", "10:05"),
        ("2-7", 1, "listed", "09:00"),
    ]
    assert counts == {
        "items": 5,
        "events": 9,
        "checkout_pairs": 2,
        "sessions": 3,
        "listed": 4,
        "listed_after_checkout": 1,
        "relisted_rows": 1,
        "listed_checked_out": 1,
        "listed_bought": 2,
        "checkout": 2,
        "purchase": 3,
        "checkout_bought": 1,
    }


def test_what_was_never_listed_is_history_and_no_exposure(source: Path, tmp_path: Path) -> None:
    import_gms_ga4(source, tmp_path / "out")
    rest = [row for row in log(tmp_path / "out") if row[2] != "listed"]
    assert rest == [
        ("1-7", 2, "checkout", "10:10"),
        ("1-7", 2, "purchase", "10:20"),
        ("1-7", 5, "purchase", "10:20"),
        ("2-7", 1, "purchase", "09:30"),
        ("3-8", 1, "checkout", "09:30"),
    ]


def test_the_labels_are_those_of_the_session(source: Path, tmp_path: Path) -> None:
    import_gms_ga4(source, tmp_path / "out")
    splits = ["split.validation=0", "split.test=0"]
    with Engine() as engine:
        counts = prepare(engine, read_shop(tmp_path / "out", splits))
        labels = engine.rows(
            "SELECT request, item, label_checkout, label_purchase FROM exposures ORDER BY 1, 2"
        )
    # User 2 bought without a checkout event: the purchase implies it.
    assert labels == [("1-7", 1, 0, 0), ("1-7", 2, 1, 1), ("1-7", 3, 0, 0), ("2-7", 1, 1, 1)]
    assert counts.funnel.implied["checkout"] == 1
    assert counts.funnel.uncredited == {"checkout": 1, "purchase": 1}


def test_the_number_and_size_of_a_list_use_nothing_later(source: Path, tmp_path: Path) -> None:
    import_gms_ga4(source, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "events.parquet").to_pylist()
    slates = {(r["session"], r["item_id"]): (r["slate"], r["slate_size"]) for r in rows[:3]}
    assert slates == {("1-7", 1): (1, 2), ("1-7", 2): (1, 2), ("1-7", 3): (2, 2)}
    assert all(r["slate"] is None for r in rows if r["kind"] != "listed")
    # The first half of the log, up to 10:05, gives the same rows as the whole.
    early = source.parent / "early"
    early.mkdir()
    (early / "cleaned_items.csv").write_bytes((source / "cleaned_items.csv").read_bytes())
    (early / "cleaned_events.csv").write_text("\n".join(EVENTS.split("\n")[:5]), encoding="utf-8")
    import_gms_ga4(early, tmp_path / "early_out")
    assert pq.read_table(tmp_path / "early_out" / "events.parquet").to_pylist() == rows[:3]


def test_the_checkout_shop_asks_what_of_a_basket_was_bought(source: Path, tmp_path: Path) -> None:
    import_gms_ga4(source, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "checkout" / "events.parquet").to_pylist()
    assert [(r["session"], r["item_id"], r["purchase"], r["basket_size"]) for r in rows] == [
        ("1-7", 2, 1, 1),
        ("3-8", 1, 0, 1),
    ]
    shop = read_shop(tmp_path / "out" / "checkout")
    assert [(task.name, task.given) for task in shop.of_family("funnel")] == [("purchase", None)]
    with Engine() as engine:
        prepare(engine, read_shop(tmp_path / "out" / "checkout", ["split.validation=0"]))


def test_a_size_loses_its_leading_space_and_a_missing_one_stays_missing(
    source: Path, tmp_path: Path
) -> None:
    import_gms_ga4(source, tmp_path / "out")
    items = pq.read_table(tmp_path / "out" / "items.parquet").to_pydict()
    assert items["variant"] == ["LG", "Single Option Only", None, None, None]
    assert items["price_usd"] == [22.0, 20.0, 14.0, 30.0, 2.0]


def test_the_events_may_be_zipped(source: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(source / "cleaned_events.csv.zip", "w") as archive:
        archive.write(source / "cleaned_events.csv", "cleaned_events.csv")
    plain = import_gms_ga4(source, tmp_path / "plain")
    (source / "cleaned_events.csv").unlink()
    assert import_gms_ga4(source, tmp_path / "zipped") == plain


def test_a_zip_without_the_events_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "cleaned_events.csv").unlink()
    with zipfile.ZipFile(source / "cleaned_events.csv.zip", "w") as archive:
        archive.writestr("other.csv", "")
    with pytest.raises(DataError, match=r"events.csv.zip: no cleaned_events.csv in it"):
        import_gms_ga4(source, tmp_path / "out")


def test_an_unknown_type_of_event_is_refused_with_its_row(source: Path, tmp_path: Path) -> None:
    text = EVENTS.replace("begin_checkout,1", "refund,1")
    (source / "cleaned_events.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"row 12 has type 'refund'; known: add_to_cart"):
        import_gms_ga4(source, tmp_path / "out")


def test_the_real_store_has_the_counts_that_its_readme_states(
    tmp_path: Path, real: Callable[[str], Path]
) -> None:
    counts = import_gms_ga4(real("gms_ga4_funnel"), tmp_path / "out")
    stated = {
        "items": 1381,
        "sessions": 18101,
        "checkout_pairs": 18287,
        "checkout": 18287,
        "purchase": 14072,
        "listed_after_checkout": 16549,
    }
    assert {name: counts[name] for name in stated} == stated
    assert round(counts["checkout_bought"] / counts["checkout_pairs"], 3) == 0.598
    assert counts["listed"] == 275935
    with Engine() as engine:
        funnel = prepare(engine, read_shop(tmp_path / "out")).funnel
        assert funnel.exposures == 275935
        # Every checkout and purchase of a listed pair is credited, so the window loses none.
        assert funnel.uncredited == {"checkout": 18287 - 4124, "purchase": 14072 - 2208}
        # No exposure has seen a checkout or a purchase of its own session.
        assert not engine.value(
            "SELECT count(*) FROM events AS e JOIN exposures AS x ON e.session = x.request "
            "WHERE e.kind <> 'listed' AND e.time <= x.time"
        )
