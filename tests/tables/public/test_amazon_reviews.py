import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.tables import Engine, prepare
from daogou.tables.public.amazon_reviews import import_amazon_reviews
from tests.tables.public.files import amazon_reviews

REVIEWS, PRODUCTS = "Gift_Cards.jsonl", "meta_Gift_Cards.jsonl"


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, told: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(each) + "\n" for each in told), encoding="utf-8")


def test_a_review_is_rated_liked_and_loved_by_its_stars(tmp_path: Path) -> None:
    amazon_reviews(tmp_path)
    first, second, *_ = lines(tmp_path / REVIEWS)
    write(tmp_path / REVIEWS, [{**first, "rating": 5.0}, {**second, "rating": 4.0}])
    counts = import_amazon_reviews(tmp_path, tmp_path / "out")
    found = pq.read_table(tmp_path / "out" / "events.parquet").to_pylist()
    assert [row["kind"] for row in found] == ["rated", "liked", "loved", "rated", "liked"]
    assert (found[0]["user_id"], found[0]["item_id"]) == (first["user_id"], first["parent_asin"])
    assert found[0]["time"].microsecond == 7000
    assert {name: counts[name] for name in ("rated", "liked", "loved")} == {
        "rated": 2,
        "liked": 2,
        "loved": 1,
    }


def test_attributes_are_the_details_whose_values_stand_in_twenty_titles(tmp_path: Path) -> None:
    amazon_reviews(tmp_path)
    products = lines(tmp_path / PRODUCTS)
    for number, product in enumerate(products):
        few = {"Style": "Card"} if number < 19 else {}
        product["details"] = {**dict(product["details"]), **few}  # type: ignore[call-overload]
    write(tmp_path / PRODUCTS, products)
    counts = import_amazon_reviews(tmp_path, tmp_path / "out")
    items = read_shop(tmp_path / "out").items
    assert items is not None
    assert items.attributes == ("Brand", "Color")
    assert counts["attributes"] == 2
    found = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
    assert [found[0][name] for name in ("title", "Brand", "Color")] == [
        "Norvik card no. 1, red",
        "Norvik",
        "Red",
    ]


def test_nothing_of_the_crawl_is_an_input_and_a_price_is_only_shown(tmp_path: Path) -> None:
    amazon_reviews(tmp_path)
    import_amazon_reviews(tmp_path, tmp_path / "out")
    items = read_shop(tmp_path / "out").items
    assert items is not None
    assert (items.columns, items.shown) == (("main_category", "store"), ("price",))
    table = pq.read_table(tmp_path / "out" / "items.parquet")
    assert not {"average_rating", "rating_number"} & set(table.column_names)
    # A number, nothing, and a text that is no price.
    assert table["price"].to_pylist()[:3] == [None, None, 19.99]


def test_the_splits_are_cut_at_the_publishers_milliseconds(tmp_path: Path) -> None:
    amazon_reviews(tmp_path)
    first, *_ = lines(tmp_path / REVIEWS)
    cuts = (1_628_643_414_042, 1_658_002_729_837)
    moments = [moment for cut in cuts for moment in (cut - 1, cut)]
    told = [{**first, "timestamp": moment, "user_id": f"U{moment}"} for moment in moments]
    write(tmp_path / REVIEWS, told)
    import_amazon_reviews(tmp_path, tmp_path / "out")
    with Engine() as engine:
        prepare(engine, read_shop(tmp_path / "out"))
        splits = engine.rows("SELECT split FROM exposures ORDER BY time")
    assert splits == [("train",), ("validation",), ("validation",), ("test",)]


def test_the_files_may_be_gzipped_and_lie_as_published(tmp_path: Path) -> None:
    amazon_reviews(tmp_path)
    for name, place in ((REVIEWS, "review_categories"), (PRODUCTS, "meta_categories")):
        folder = tmp_path / "raw" / place
        folder.mkdir(parents=True)
        (folder / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        (tmp_path / name).unlink()
    assert import_amazon_reviews(tmp_path, tmp_path / "out")["rated"] == 600


def test_of_two_categories_neither_is_chosen(tmp_path: Path) -> None:
    amazon_reviews(tmp_path)
    (tmp_path / "meta_Books.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"found meta_Books\.jsonl, meta_Gift_Cards\.jsonl"):
        import_amazon_reviews(tmp_path, tmp_path / "out")


def test_reviews_that_are_missing_are_named(tmp_path: Path) -> None:
    amazon_reviews(tmp_path)
    (tmp_path / REVIEWS).unlink()
    with pytest.raises(DataError, match=r"looked for Gift_Cards\.jsonl and found none"):
        import_amazon_reviews(tmp_path, tmp_path / "out")


def test_a_gzip_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    amazon_reviews(tmp_path)
    whole = gzip.compress((tmp_path / REVIEWS).read_bytes())
    (tmp_path / REVIEWS).unlink()
    for length in (20, len(whole) // 2):
        (tmp_path / f"{REVIEWS}.gz").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"Gift_Cards\.jsonl\.gz: not"):
            import_amazon_reviews(tmp_path, tmp_path / "out")
