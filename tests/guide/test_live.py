from typing import Any

import numpy as np
import pytest
import torch

from daogou.errors import ConfigError
from daogou.guide import Guide, explain

KNOWN = "500007"


def described(guide: Guide, item: str) -> dict[str, Any]:
    row = guide.catalogue.row(item)
    return {name: guide.catalogue.value(name, row) for name in guide.catalogue.columns}


def chances(guide: Guide, user: str, *items: str) -> list[list[float]]:
    return [list(line["p"].values()) for line in guide.score(user, items)["items"]]


def test_a_product_given_again_has_the_score_of_itself_with_its_id_unknown(
    guide: Guide, regular: str
) -> None:
    for item in (KNOWN, "500001", "500033"):
        twin = guide.with_items([{"item_id": "twin", **described(guide, item)}])
        asked = regular, guide.scorer.queries([guide.artifact.store.user_rows[regular]])
        row = guide.catalogue.row(item)
        _, found = explain.contributions(guide.scorer, guide.catalogue, asked, row, None)
        (unknown,) = (each.without for each in found if each.feature == "item.id")
        np.testing.assert_allclose(chances(twin, regular, "twin")[0], unknown, atol=1e-6)


def test_a_product_given_again_under_its_own_key_changes_nothing(
    guide: Guide, regular: str
) -> None:
    same = guide.with_items([{"item_id": int(KNOWN), **described(guide, KNOWN)}])
    assert len(same.catalogue.keys) == len(guide.catalogue.keys)
    items = guide.catalogue.keys[1:]
    np.testing.assert_allclose(
        chances(same, regular, *items), chances(guide, regular, *items), atol=1e-6
    )
    one, other = (each.match(regular, items) for each in (same, guide))
    assert [line["item"] for line in one["items"]] == [line["item"] for line in other["items"]]
    assert described(same, KNOWN) == described(guide, KNOWN)


def test_a_new_product_is_offered_at_once_and_the_old_guide_does_not_know_it(
    guide: Guide, regular: str
) -> None:
    wish = {"category": "hammock"}
    assert guide.recommend(regular, **wish)["items"] == []
    new = {"item": "h1", "title": "red hammock", "category": "hammock", "price": 20}
    more = guide.with_items([new, {"item": "h2", "category": "hammock"}])
    found = more.recommend(regular, **wish)["items"]
    assert {line["item"] for line in found} == {"h1", "h2"}
    assert guide.recommend(regular, **wish)["items"] == []
    assert guide.catalogue.row("h1") == 0
    assert more.catalogue.name(more.catalogue.row("h1")) == "red hammock"
    assert more.explain(regular, "h1")["item"] == "h1"
    assert [line["known"] for line in more.match(regular, ["h1", "h3"])["items"]].count(True) == 1


def test_a_session_may_look_at_a_new_product(guide: Guide) -> None:
    more = guide.with_items([{"item": "h1", **described(guide, KNOWN)}])
    event = {"item": "h1", "kind": "click"}
    assert more.profile(None, events=[event])["events"]["read"] == 1
    assert chances(more, "x", KNOWN) != [
        list(line["p"].values()) for line in more.score(None, [KNOWN], events=[event])["items"]
    ]


def test_an_edit_changes_what_it_names_and_keeps_the_rest(guide: Guide, regular: str) -> None:
    edited = guide.with_items([{"item": KNOWN, "price": 1.5, "brand": None}])
    before = described(guide, KNOWN)
    assert described(edited, KNOWN) == before | {"price": 1.5, "brand": None}
    others = [key for key in guide.catalogue.keys[1:] if key != KNOWN]
    assert chances(edited, regular, *others) == pytest.approx(
        np.array(chances(guide, regular, *others)), abs=1e-6
    )
    assert chances(edited, regular, KNOWN) != chances(guide, regular, KNOWN)
    assert edited.scorer.described(edited.catalogue.row(KNOWN)).id > 0, "it keeps its id"
    back = edited.with_items([{"item": KNOWN, **before}])
    np.testing.assert_allclose(
        chances(back, regular, KNOWN), chances(guide, regular, KNOWN), atol=1e-6
    )


def test_a_withdrawn_product_is_not_offered_and_comes_back(guide: Guide, regular: str) -> None:
    best = guide.recommend(regular, k=1)["items"][0]["item"]
    without = guide.without_items([best])
    found = without.recommend(regular, k=100)["items"]
    assert len(found) == guide.catalogue.n_items - 1
    assert best not in {line["item"] for line in found}
    assert without.score(regular, [best]) == guide.score(regular, [best])
    again = without.with_items([{"item": best}])
    assert again.recommend(regular, k=1)["items"][0]["item"] == best


def test_products_come_in_the_order_given_and_the_last_word_counts(guide: Guide) -> None:
    rows = [
        {"item": "a", "title": "one", "price": 1},
        {"item": "b", "title": "two"},
        {"item": "a", "title": "three"},
    ]
    more = guide.with_items(rows)
    assert more.catalogue.keys[-2:] == ["a", "b"]
    row = more.catalogue.row("a")
    assert (more.catalogue.name(row), more.catalogue.value("price", row)) == ("three", 1.0)
    assert guide.with_items([]) is guide


def test_one_by_one_is_the_same_as_together(guide: Guide, regular: str) -> None:
    rows = [{"item": f"n{i}", "title": f"red boot {i}", "price": 10 * i} for i in range(5)]
    together = guide.with_items(rows)
    one_by_one = guide
    for row in rows:
        one_by_one = one_by_one.with_items([row])
    assert one_by_one.catalogue.keys == together.catalogue.keys
    assert one_by_one.index is not None and together.index is not None
    torch.testing.assert_close(one_by_one.index.vectors, together.index.vectors, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"item": "a"}, "items: a list of products is wanted"),
        (["a"], r"items\[0\]: an object with 'item_id' is wanted, found 'a'"),
        ([{"title": "boot"}], r"items\[0\].item_id: an id is wanted, found None"),
        ([{"item": True}], r"items\[0\].item_id: an id is wanted, found True"),
        ([{"item": 1}, {"item": 2, "titel": ""}], r"items\[1\].titel: no 'titel' here \(did you"),
        ([{"item": 1, "price": "cheap"}], "items.price: the column holds double, found"),
    ],
)
def test_what_is_no_product_is_refused(guide: Guide, rows: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        guide.with_items(rows)


def test_an_unknown_product_cannot_be_withdrawn(guide: Guide) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        guide.without_items(["50000"])
