"""What a shop's rules leave of its products, and that they say so."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from daogou.guide import Guide
from daogou.guide.catalogue import Catalogue
from daogou.guide.rules import allowed
from daogou.schema import DAY_US, GuideSetting

FOREVER = 1e6


def with_stock(guide: Guide, there: list[object]) -> Guide:
    columns = {**guide.catalogue.columns, "in_stock": pa.array(there)}
    catalogue = replace(guide.catalogue, columns=columns)
    return replace(guide, catalogue=catalogue, setting=GuideSetting(stock="in_stock"))


def past(guide: Guide, user: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    store = guide.artifact.store
    mine = store.history_slice(store.user_rows[user])
    item, action, time = (
        np.asarray(store[f"history/{n}"][mine]) for n in ("item", "action", "time")
    )
    return item, action, time


def keys(guide: Guide, answer: dict) -> set[str]:  # type: ignore[type-arg]
    return {line["item"] for line in answer["items"]}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([True, False, None], [False, True, False]),
        ([3, 0, -1], [False, True, True]),
        ([0.5, 0.0, None], [False, True, False]),
        (["yes", " No ", ""], [False, True, True]),
        (["有货", "无", "0"], [False, True, True]),
    ],
)
def test_a_product_is_out_of_stock_where_its_column_says_no(
    column: list[object], expected: list[bool]
) -> None:
    shop = Catalogue(["", *"abc"], {}, {"stock": pa.array(column)}, None, {})
    assert shop.out_of_stock("stock").tolist() == [False, *expected]
    there = shop.keep(None, None, None, in_stock=True)
    assert there is not None and there.tolist() == [False, *(not each for each in expected)]


def test_what_is_out_of_stock_is_not_recommended_and_the_answer_says_so(guide: Guide) -> None:
    there: list[object] = [j % 4 != 0 for j in range(80)]
    answer = with_stock(guide, there).recommend("100001", k=80)
    gone = {guide.catalogue.keys[1 + j] for j in range(0, 80, 4)}
    assert keys(guide, answer) == set(guide.catalogue.keys[1:]) - gone
    assert answer["rules"] == [{"rule": "stock", "removed": 20}]
    assert answer["fallback"] is None


def test_an_empty_shop_recommends_nothing_and_says_why(guide: Guide) -> None:
    answer = with_stock(guide, [False] * 80).recommend("100001")
    assert (answer["items"], answer["fallback"]) == ([], "stock")


def test_what_was_bought_of_late_is_left_out(guide: Guide, regular: str) -> None:
    item, action, time = past(guide, regular)
    actions = guide.artifact.transform.actions
    bought = action == actions.index("purchase")
    assert bought.any() and not bought.all(), "or this test would show nothing"
    answer = guide.following(bought_days=FOREVER).recommend(regular, k=80)
    rows = set(item[bought].tolist())
    assert keys(guide, answer) == {
        key for row, key in enumerate(guide.catalogue.keys) if row and row not in rows
    }
    assert answer["rules"] == [{"rule": "bought", "removed": len(rows)}]
    days = (guide.scorer.now - time[bought].max()) / DAY_US
    assert "rules" not in guide.following(bought_days=days / 2).recommend(regular)


def test_what_was_bought_just_now_is_left_out_too(guide: Guide) -> None:
    first = guide.recommend("stranger", k=1)["items"][0]["item"]
    answer = guide.following(bought_days=1.0).recommend(
        "stranger", k=80, events=[{"item": first, "kind": "purchase"}]
    )
    assert keys(guide, answer) == set(guide.catalogue.keys[1:]) - {first}


def test_what_was_seen_is_left_out_by_its_own_rule_after_what_was_bought(
    guide: Guide, regular: str
) -> None:
    item, action, _ = past(guide, regular)
    bought = set(item[action == guide.artifact.transform.actions.index("purchase")].tolist())
    other = set(item.tolist()) - bought
    answer = guide.following(bought_days=FOREVER, seen_days=FOREVER).recommend(regular, k=80)
    assert answer["rules"] == [
        {"rule": "bought", "removed": len(bought)}, {"rule": "seen", "removed": len(other)},
    ]  # fmt: skip


def test_a_rule_on_the_past_that_would_leave_nothing_is_lifted_and_told_of(
    guide: Guide, regular: str
) -> None:
    item, _, _ = past(guide, regular)
    wished = np.zeros(81, dtype=bool)
    wished[item[0]] = True
    queries = guide.scorer.queries([guide.artifact.store.user_rows[regular]])
    seen = GuideSetting(seen_days=FOREVER)
    found = allowed(guide.artifact, guide.catalogue, seen, queries, wished)
    assert found.rows.tolist() == wished.tolist()
    assert (found.removed, found.fallback) == ([], "seen")


def test_wishes_that_nothing_passes_are_no_rules_fault(guide: Guide, regular: str) -> None:
    answer = guide.following(seen_days=FOREVER).recommend(regular, category="no such thing")
    assert (answer["items"], answer["fallback"], "rules" in answer) == ([], None, False)


def test_a_category_has_no_more_than_its_cap(guide: Guide, regular: str) -> None:
    answer = guide.following(per_category=2).recommend(regular, k=8)
    rows = [guide.catalogue.row(line["item"]) for line in answer["items"]]
    categories = [guide.catalogue.value("category", row) for row in rows]
    assert max(categories.count(each) for each in categories) == 2
    free = guide.recommend(regular, k=8)
    missing = len(keys(guide, free) - keys(guide, answer))
    assert missing and answer["rules"] == [{"rule": "per_category", "removed": missing}]
