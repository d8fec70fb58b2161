"""What becomes of new products: labelled as a log is, and what the funnel is told of them."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from daogou.errors import ConfigError
from daogou.guide import Guide
from daogou.guide.heard import Heard, Row, count
from daogou.guide.newcomers import PRIOR
from daogou.schema import Events, Shop, Task

HOUR = 3_600_000_000
KNOWN = "500007"
LONG = 10**18  # long after everything
SHOP = Shop(
    root=Path(),
    events=Events(
        "", "user", "item", "time", "kind", ("impression", "click", "cart"),
        window_h={"click": 1, "cart": 24},
    ),
    tasks=(Task("click", "funnel"), Task("cart", "funnel", given="click")),
)  # fmt: skip


def row(user: str, kind: str, at_h: float, item: str = "new", request: str | None = None) -> Row:
    return user, item, kind, round(at_h * HOUR), request


def test_exposures_are_counted_as_a_log_labels_them_by_hand() -> None:
    rows = [
        row("a", "impression", 0), row("a", "click", 0.5),  # clicked
        row("b", "impression", 0), row("b", "click", 1),  # too late: an hour is over
        row("c", "impression", 0), row("c", "cart", 20),  # a cart tells of a click
        row("d", "click", 0.1),  # of no exposure
        row("a", "impression", 0, "other"),
    ]  # fmt: skip
    found = count(SHOP, rows, round(100 * HOUR))
    assert found["new"] == Heard(3, (3, 2), (2, 1))
    assert found["other"] == Heard(1, (1, 0), (0, 0))
    assert count(SHOP, [], 1) == count(SHOP, [row("d", "click", 1)], LONG) == {}


def test_an_exposure_whose_window_runs_is_neither_a_click_nor_none() -> None:
    rows = [row("a", "impression", 0), row("b", "impression", 0), row("b", "click", 0.1)]
    (young,) = count(SHOP, rows, round(0.9 * HOUR)).values()
    assert young == Heard(2, (0, 0), (0, 0), is_open=True)
    (grown,) = count(SHOP, rows, round(1.1 * HOUR)).values()
    assert grown == Heard(2, (2, 0), (1, 0), is_open=True)
    (old,) = count(SHOP, rows, round(24.1 * HOUR)).values()
    assert old == Heard(2, (2, 1), (1, 0))


def test_nothing_at_or_after_the_moment_is_counted() -> None:
    rows = [row("a", "impression", 0), row("b", "impression", 30)]
    assert count(SHOP, rows, 30 * HOUR) == count(SHOP, rows[:1], 30 * HOUR)


def test_a_request_ties_an_exposure_and_its_click_where_the_shop_has_requests() -> None:
    tied = replace(SHOP, events=replace(SHOP.events, request="request"))  # type: ignore[type-var]
    rows = [
        row("a", "impression", 0, request="one"), row("a", "impression", 0.1, request="two"),
        row("a", "click", 0.2, request="one"),
        row("b", "impression", 0), row("b", "click", 0.2),
    ]  # fmt: skip
    assert count(tied, rows, LONG)["new"] == Heard(3, (3, 2), (2, 0))
    assert count(SHOP, rows[:3], LONG)["new"] == Heard(2, (2, 1), (1, 0))


def chances(guide: Guide, items: Sequence[str]) -> torch.Tensor:
    lines = guide.score(None, items, events=[])["items"]
    return torch.tensor([list(line["p"].values()) for line in lines], dtype=torch.float64)


@pytest.fixture(scope="module")
def twin(guide: Guide) -> Guide:
    """The guide with a product that is described as a known one."""
    at = guide.catalogue.row(KNOWN)
    given = {name: guide.catalogue.value(name, at) for name in guide.catalogue.columns}
    return guide.with_items([{"item_id": "twin", **given}])


def heard(guide: Guide, shown: int, clicks: int) -> Heard:
    n = len(guide.scorer.stages) - 2
    return Heard(shown, (shown, clicks, *[0] * n), (clicks, 0, *[0] * n))


def test_a_chance_follows_what_was_reached_as_the_ratio_says(twin: Guide) -> None:
    told = twin.with_heard({"twin": heard(twin, 20, 9)}, LONG)
    newcomers = told.scorer.newcomers
    assert newcomers is not None
    at = told.catalogue.row("twin")
    expected = float(newcomers.expected[at][0])
    assert told.scorer.items.lift is not None
    lift = told.scorer.items.lift[at]
    assert float(lift[0]) == pytest.approx(math.log((9 + PRIOR) / (20 * expected + PRIOR)))
    carts = float(newcomers.expected[at][1])
    assert float(lift[1]) == pytest.approx(math.log(PRIOR / (9 * carts + PRIOR)))
    assert np.count_nonzero(told.scorer.items.lift) == np.count_nonzero(lift)


def test_many_clicks_raise_a_chance_and_few_lower_it_and_others_stay_to_the_bit(
    twin: Guide,
) -> None:
    items = ["twin", KNOWN, "500001"]
    before = chances(twin, items)
    up, down = (
        chances(twin.with_heard({"twin": heard(twin, 20, n), KNOWN: heard(twin, 20, n)}, LONG),
                items)
        for n in (15, 0)
    )  # fmt: skip
    assert up[0, 0] > before[0, 0] > down[0, 0]
    assert torch.equal(up[1:], before[1:])
    assert torch.equal(down[1:], before[1:])
    more = chances(twin.with_heard({"twin": heard(twin, 200, 150)}, LONG), items)
    assert more[0, 0] > up[0, 0]


def test_as_many_clicks_as_are_usual_of_a_usual_product_change_little(twin: Guide) -> None:
    told = twin.with_heard({"twin": heard(twin, 100, 20)}, LONG)
    assert told.scorer.newcomers is not None
    expected = told.scorer.newcomers.expected[told.catalogue.row("twin")][0]
    usual = heard(twin, 100, round(100 * expected))
    before = chances(twin, ["twin"])[0, 0]
    after = chances(twin.with_heard({"twin": usual}, LONG), ["twin"])[0, 0]
    assert float(after) == pytest.approx(float(before), rel=0.03)


def test_what_is_usual_is_what_training_reached(twin: Guide) -> None:
    """Of training's products, as often as they were shown, as much is expected as was clicked.

    So it is with a model that says too much of everything, as for the first place in a list.
    """
    store, model = twin.artifact.store, copy.deepcopy(twin.artifact.model)
    with torch.no_grad():
        model.heads["funnel"].out.bias[0, 0] += 1.0  # type: ignore[union-attr, index, operator]
    at = np.arange(*store.ranges["train"])
    ids = np.array(store["items/id"])
    hidden = replace(store, arrays={**store.arrays, "items/id": np.zeros_like(ids)})
    assert twin.scorer.items.item_ids is not None
    scorer = replace(
        twin.scorer,
        artifact=replace(twin.artifact, store=hidden, model=model),
        items=replace(
            twin.scorer.items, item_ids=torch.zeros_like(twin.scorer.items.item_ids)
        ),
    )  # fmt: skip
    rows, n = np.unique(store["exposures/item"][at], return_counts=True)
    guide = replace(twin, scorer=scorer)
    told = guide.with_heard(
        {twin.catalogue.keys[each]: heard(twin, 1, 0) for each in rows.tolist()}, LONG
    )
    assert told.scorer.newcomers is not None
    expected = [told.scorer.newcomers.expected[each][0] for each in rows.tolist()]
    clicked = (store["exposures/labels"][at, 0] == 1).mean()
    assert float(np.average(expected, weights=n)) == pytest.approx(clicked, rel=0.1)


def test_counts_outlive_an_edit_and_what_is_expected_follows_it(twin: Guide) -> None:
    told = twin.with_heard({"twin": heard(twin, 20, 9)}, LONG)
    edited = told.with_items([{"item": "twin", "title": "x", "category": None, "brand": None}])
    again = twin.with_items([{"item": "twin", "title": "x", "category": None, "brand": None}])
    again = again.with_heard({"twin": heard(twin, 20, 9)}, LONG)
    assert torch.equal(chances(edited, ["twin"]), chances(again, ["twin"]))
    more = told.with_items([{"item": "another", "title": "y"}])
    assert torch.equal(chances(more, ["twin"]), chances(told, ["twin"]))


def test_what_was_heard_is_told_anew_each_time_and_can_be_switched_off(twin: Guide) -> None:
    before = chances(twin, ["twin"])
    told = twin.with_heard({"twin": heard(twin, 20, 9)}, LONG)
    for frozen in (
        told.with_heard({}, LONG),
        told.following(count_new=False),
        twin.following(count_new=False).with_heard({"twin": heard(twin, 20, 9)}, LONG),
        twin.with_heard({"nothing": heard(twin, 20, 9)}, LONG),
    ):
        assert torch.equal(chances(frozen, ["twin"]), before)


def test_what_was_made_of_the_catalogue_once_is_not_made_again(twin: Guide) -> None:
    twin.warm()
    lengths = twin.scorer.lengths
    told = twin.with_heard({"twin": heard(twin, 20, 9)}, LONG)
    assert told.facets is twin.facets
    assert told.scorer.lengths is lengths


def test_a_moment_before_the_counts_is_not_asked_about(twin: Guide) -> None:
    told = twin.with_heard({"twin": heard(twin, 20, 9)}, LONG)
    with pytest.raises(ConfigError, match=f"at: 5 is before {LONG}, until when new products"):
        told.score("1", ["twin"], at=5)
    assert told.score("1", ["twin"], at=LONG)["items"]


def test_an_explanation_says_what_became_of_a_new_product(twin: Guide, regular: str) -> None:
    told = twin.with_heard({"twin": heard(twin, 20, 19)}, LONG)
    answer = told.explain(regular, "twin")
    (line,) = (each for each in answer["contributions"] if each["feature"] == "item.heard")
    assert line["value"].startswith("shown 20, click 19")
    assert answer["score"] == pytest.approx(told.score(regular, ["twin"])["items"][0]["score"])
    without = twin.score(regular, ["twin"])["items"][0]["score"]
    odds = [math.log(p / (1 - p)) for p in (answer["score"], without)]
    assert line["weight"] == pytest.approx(odds[0] - odds[1], abs=1e-5)
    assert not any(
        each["feature"] == "item.heard" for each in told.explain(regular, KNOWN)["contributions"]
    )
