from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from daogou.errors import ConfigError
from daogou.guide import Guide
from daogou.guide.catalogue import Catalogue

KEYS = ["", "a1", "a2", "b1", "b2"]


def make(**columns: Any) -> Catalogue:
    arrays = {name: pa.array(values) for name, values in columns.items()}
    rows = {key: row for row, key in enumerate(KEYS) if row}
    return Catalogue(KEYS, rows, arrays, "title" if "title" in columns else None, {})


SHOP = make(
    title=["red boot", None, "hat", ""],
    main_category=["shoes", "shoes", "hats", None],
    price=[10.0, 20.0, 30.0, None],
    size=[40, 41, 2**60, None],
    new=[True, False, False, True],
    tags=[["x"], [], ["y"], None],
)


def kept(catalogue: Catalogue, **filters: Any) -> list[str]:
    filters = {"category": None, "price_max": None, "where": None} | filters
    mask = catalogue.keep(**filters)
    assert mask is not None
    assert len(mask) == len(KEYS)
    return [key for key, keep in zip(KEYS, mask, strict=True) if keep]


def test_without_a_filter_there_is_no_mask() -> None:
    assert SHOP.keep(None, None, None) is None
    assert SHOP.keep(None, None, {}) is None


def test_a_category_and_a_price_find_their_columns_by_name() -> None:
    assert kept(SHOP, category="shoes") == ["a1", "a2"]
    assert kept(SHOP, price_max=20) == ["a1", "a2"], "a missing price is not within a limit"
    assert kept(SHOP, category="shoes", price_max=19.99) == ["a1"]


def test_a_price_may_have_a_least_too() -> None:
    assert SHOP.keep(None, None, None, price_min=20) is not None
    assert kept(SHOP, price_min=20) == ["a2", "b1"], "a missing price is not within a limit"
    assert kept(SHOP, price_min=15, price_max=25) == ["a2"]


def test_in_stock_is_what_its_column_does_not_deny() -> None:
    for values in ([True, False, None, True], [3, 0, None, 1], ["true", "false", None, "有货"]):
        assert kept(make(in_stock=values), in_stock=True) == ["a1", "b1", "b2"]


def test_excluded_and_withdrawn_products_never_pass() -> None:
    assert kept(SHOP, exclude=["a1", "nothing"]) == ["a2", "b1", "b2"]
    assert kept(replace(SHOP, withdrawn=frozenset([2])), exclude=["a1"]) == ["b1", "b2"]
    without = replace(SHOP, withdrawn=frozenset([4])).keep(None, None, None)
    assert without is not None and without.tolist() == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"main_category": "hats"}, ["b1"]),
        ({"main_category": ["hats", "shoes"]}, ["a1", "a2", "b1"]),
        ({"main_category": None}, ["b2"]),
        ({"main_category": [None, "hats"]}, ["b1", "b2"]),
        ({"main_category": []}, []),
        ({"main_category": "nothing like it"}, []),
        ({"main_category": "\ud83d"}, []),
        ({"price": 10}, ["a1"]),
        ({"price": "20"}, ["a2"]),
        ({"size": 40}, ["a1"]),
        ({"size": 40.0}, ["a1"]),
        ({"size": "41"}, ["a2"]),
        ({"size": 2**60}, ["b1"]),
        ({"size": 2**60 + 1}, []),
        ({"new": True}, ["a1", "b2"]),
        ({"new": "false", "size": 41}, ["a2"]),
    ],
)
def test_where_keeps_the_products_with_the_value(
    where: dict[str, Any], expected: list[str]
) -> None:
    assert kept(SHOP, where=where) == expected


def test_a_price_may_be_a_decimal_or_a_whole_number() -> None:
    decimals = make(price=[Decimal("9.99"), Decimal("10.00"), None, Decimal("10.01")])
    assert kept(decimals, price_max=10) == ["a1", "a2"]
    assert kept(decimals, where={"price": 10}) == ["a2"]
    assert kept(make(list_price=[5, 2**60, 3, None]), price_max=5) == ["a1", "b1"]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"where": {"brnad": "x"}}, r"where.brnad: no 'brnad' here \(did you mean 'brand'\?\)"),
        ({"category": "shoes"}, "category: no 'category' here; known: brand, cost"),
        ({"price_max": 3}, "price_max: no 'price' here"),
        ({"where": {"brand": {"not": "x"}}}, "where.brand: a value or a list is wanted"),
    ],
)
def test_a_filter_on_a_column_that_is_not_there_is_refused(
    filters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        kept(make(brand=["x"] * 4, cost=[1.0] * 4), **filters)


def test_a_setting_that_wants_a_column_is_named_where_there_is_none() -> None:
    with pytest.raises(ConfigError, match=r"^guide.per_category: no 'category' here; known: cost"):
        make(cost=[1.0] * 4).named("category", "guide.per_category")


def test_a_column_of_lists_cannot_be_filtered() -> None:
    with pytest.raises(ConfigError, match=r"where.tags: holds list"):
        kept(SHOP, where={"tags": "x"})


def test_a_price_of_words_cannot_be_compared() -> None:
    with pytest.raises(ConfigError, match="price_max: column 'price' holds string, not numbers"):
        kept(make(price=["cheap"] * 4), price_max=3)


@pytest.mark.parametrize("price", ["cheap", float("nan")])
def test_a_limit_that_is_no_number_is_refused(price: Any) -> None:
    with pytest.raises(ConfigError, match="price_max: a number is wanted"):
        kept(SHOP, price_max=price)


def test_a_product_without_title_is_called_by_its_id() -> None:
    assert [SHOP.name(row) for row in range(1, 5)] == ["red boot", "a2", "hat", "b2"]
    assert make(price=[1.0] * 4).name(1) == "a1"


def test_a_product_is_found_by_its_id_and_the_unknown_is_row_0() -> None:
    assert (SHOP.row("a2"), SHOP.row("zz"), SHOP.row("")) == (2, 0, 0)
    assert SHOP.value("price", 0) is None


def test_a_misspelt_product_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no 'b11' among the 4 products \(did you mean 'b1'"):
        SHOP.known_row("b11")
    with pytest.raises(ConfigError, match=r"no 'qqq' among the 4 products; give the id"):
        SHOP.known_row("qqq")


def test_products_share_categories_and_attributes_but_no_price_or_title(guide: Guide) -> None:
    shared = guide.catalogue.shared
    assert {"category", "brand", "colour"} <= set(shared)
    assert not {"price", "title"} & set(shared)
    assert sum(shared["category"].values()) == pytest.approx(1)
