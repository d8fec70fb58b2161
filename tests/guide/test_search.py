import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from daogou.errors import ConfigError
from daogou.guide import Guide
from daogou.guide.catalogue import Catalogue
from daogou.guide.search import Base, Hits, Search, terms_of

TITLES = ["red boots", "red red hat with a brim", "blue boot", "红色 连衣裙", "裙 衣 连", None]
KEYS = ["", *"abcdef"]
ALL = np.array([False, *[True] * 6])


def shop(titles: list[str | None] = TITLES) -> Catalogue:
    columns = {
        "title": pa.array(titles),
        "colour": pa.array(["red", "red", "blue", "red", None, "mauve"]),
    }
    rows = {key: row for row, key in enumerate(KEYS) if row}
    return Catalogue(KEYS, rows, columns, "title", {"colour": {"red": 0.5}})


SEARCH = Search(Base(shop()))


def found(query: str, search: Search = SEARCH) -> str:
    hits = search.hits(query, ALL)
    assert hits is not None
    return "".join(KEYS[row] for row in hits.rows)


def test_the_relevance_is_bm25_worked_by_hand() -> None:
    hits = SEARCH.hits("blue", ALL)
    assert hits is not None and hits.rows.tolist() == [3]
    # The terms of each product, the colour's among them, and the characters' four pairs.
    lengths = [3, 7, 3, 9, 3, 1]
    rarity = math.log(1 + (6 - 1 + 0.5) / (1 + 0.5))
    stretch = 1.2 * (1 - 0.75 + 0.75 * 3 / (sum(lengths) / 6))
    assert hits.relevance[0] == pytest.approx(rarity * 2 * 2.2 / (2 + stretch))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Boot", "ac"),
        ("BOOTS red", "a"),
        ("mauve", "f"),  # a value of a column
        ("连衣裙", "de"),  # pairs of neighbours count, so the word comes before its characters
        ("裙", "ed"),
    ],
)
def test_products_that_hold_all_words_are_found(query: str, expected: str) -> None:
    assert found(query) == expected


def test_where_no_product_holds_all_words_the_most_is_held() -> None:
    hits = SEARCH.hits("red leather boots", ALL)
    assert hits is not None and hits.relaxed
    assert [KEYS[row] for row in hits.rows] == ["a"]
    assert not relaxed("red boots") and relaxed("nothing like it")
    assert found("zzz") == ""


def relaxed(query: str) -> bool:
    hits = SEARCH.hits(query, ALL)
    assert isinstance(hits, Hits)
    return hits.relaxed


@pytest.mark.parametrize("typed", ["boo", "blu"])
def test_a_short_word_is_not_corrected(typed: str) -> None:
    hits = SEARCH.hits(typed, ALL)
    assert hits is not None and not hits.corrected and not len(hits.rows)


@pytest.mark.parametrize(
    ("typed", "read"), [("bboot", "boot"), ("boto", "boot"), ("brimm", "brim"), ("brin", "brim")]
)
def test_a_slip_of_the_fingers_is_corrected_and_told(typed: str, read: str) -> None:
    hits = SEARCH.hits(typed, ALL)
    assert hits is not None and hits.corrected == {typed: read}
    assert found(typed) == found(read)


@pytest.mark.parametrize("query", ["", "  ", "!?", "\ud83d"])
def test_a_query_without_a_word_is_none(query: str) -> None:
    assert SEARCH.hits(query, ALL) is None


def test_only_what_is_kept_is_found_and_decides_what_is_relaxed() -> None:
    kept = ALL.copy()
    kept[1] = False
    hits = SEARCH.hits("red boots", kept)
    assert hits is not None and hits.relaxed
    assert sorted(KEYS[row] for row in hits.rows) == ["b", "c", "d"]


def test_a_changed_product_is_found_by_what_it_is_now() -> None:
    newer = shop(["green boots", *TITLES[1:]])
    search = SEARCH.with_products(newer, [1])
    assert found("green boot", search) == "a"
    assert found("red boot", search) == "a", "its colour is red still"
    assert found("green", SEARCH) == ""


def test_a_product_said_again_has_the_relevance_it_had() -> None:
    search = SEARCH.with_products(shop(), [1, 2, 4])
    for query in ("red boots", "hat", "红色"):
        one, other = (each.hits(query, ALL) for each in (search, SEARCH))
        assert one is not None and other is not None
        np.testing.assert_allclose(one.relevance, other.relevance)
        assert one.rows.tolist() == other.rows.tolist()


def test_terms_keep_what_is_no_plural() -> None:
    assert terms_of("dress bus men's kids 250ml") == ["dress", "bus", "men", "kid", "250", "ml"]


# ---- asked through a guide ----------------------------------------------------------------


def items(answer: dict[str, Any]) -> list[str]:
    return [line["item"] for line in answer["items"]]


def test_a_search_is_json_with_the_agreed_keys(guide: Guide, regular: str) -> None:
    answer = guide.search("red shirt", regular)
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert list(answer) == [
        "query", "user", "known", "total", "offset", "relaxed", "corrected", "items", "facets",
    ]  # fmt: skip
    assert list(answer["items"][0]) == ["item", "title", "relevance", "score"]
    assert [line["column"] for line in answer["facets"]][-1] == "price"


def test_pages_add_up_to_the_whole(guide: Guide, regular: str) -> None:
    for user in (None, regular):
        whole = guide.search("red", user, k=100)
        pages = [guide.search("red", user, k=7, offset=at) for at in range(0, 100, 7)]
        assert [item for page in pages for item in items(page)] == items(whole)
        assert {page["total"] for page in pages} == {whole["total"]} == {len(items(whole))}


@pytest.mark.parametrize("query", ["", "black"])
def test_filters_are_kept_and_their_own_column_still_counts_the_rest(
    guide: Guide, regular: str, query: str
) -> None:
    price = {"price_min": 30, "price_max": 80}
    answer = guide.search(query, regular, k=100, category="shirt", **price)  # type: ignore[arg-type]
    catalogue = guide.catalogue
    rows = [catalogue.row(item) for item in items(answer)]
    assert rows
    assert {catalogue.value("category", row) for row in rows} == {"shirt"}
    assert all(30 <= catalogue.value("price", row) <= 80 for row in rows)
    facets = {line["column"]: line["values"] for line in answer["facets"]}
    assert sum(value["count"] for value in facets["colour"]) == answer["total"]
    others = guide.search(query, k=100, **price)  # type: ignore[arg-type]
    assert sum(value["count"] for value in facets["category"]) == others["total"]
    no_price = guide.search(query, category="shirt")
    assert sum(value["count"] for value in facets["price"]) == no_price["total"]


def test_browsing_for_a_user_is_recommending(guide: Guide, regular: str) -> None:
    found, wanted = guide.search("", regular, k=20), guide.recommend(regular, k=20)
    assert items(found) == items(wanted)
    assert [line["score"] for line in found["items"]] == pytest.approx(
        [line["score"] for line in wanted["items"]]
    )


def test_browsing_for_nobody_is_by_popularity(guide: Guide) -> None:
    rows = [guide.catalogue.row(item) for item in items(guide.search(k=100))]
    popularity = guide.popularity[rows]
    assert (np.diff(popularity) <= 0).all()
    assert len(rows) == guide.catalogue.n_items


def test_a_user_moves_hits_and_adds_none(guide: Guide, regular: str) -> None:
    found, anybody = (guide.search("red", user, k=100) for user in (regular, None))
    assert sorted(items(found)) == sorted(items(anybody))
    assert anybody["items"][0]["score"] is None
    users = list(guide.artifact.store.user_rows)[:20]
    orders = {tuple(items(guide.search("red", user, k=100))) for user in users}
    assert len(orders) > 1


def test_what_is_excluded_or_withdrawn_is_not_found(guide: Guide) -> None:
    first = items(guide.search("red"))[0]
    assert first not in items(guide.search("red", exclude=[first], k=100))
    assert first not in items(guide.without_items([first]).search("red", k=100))


def test_a_new_product_is_found_by_its_title(guide: Guide) -> None:
    new = {"item": "q1", "title": "quilted 羽绒服 boots", "category": "shoes", "price": 12}
    more = guide.with_items([new])
    for query in ("quilted boot", "羽绒服", "quited"):
        assert items(more.search(query)) == ["q1"]
    assert items(guide.search("quilted 羽绒服")) != ["q1"]


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"query": 3}, "query: a text is wanted, found 3"),
        ({"offset": -1}, "offset: -1; give a whole number, 0 or more"),
        ({"k": 0}, "k: 0; give a whole number, 1 or more"),
        ({"price_min": "low"}, "price_min: a number is wanted, found 'low'"),
        ({"in_stock": True}, "stock: no 'stock' here"),
        ({"where": {"colur": "red"}}, "where.colur: no 'colur' here"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    guide: Guide, wish: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        guide.search(**wish)
