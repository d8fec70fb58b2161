from typing import Any

import numpy as np
import pytest
import torch

from daogou.errors import ConfigError
from daogou.features.queries import Events
from daogou.guide import Guide
from daogou.guide.crowd import heat_of
from daogou.schema import DAY_US


def rows(guide: Guide, answer: dict[str, Any]) -> list[int]:
    return [guide.catalogue.row(line["item"]) for line in answer["items"]]


def test_an_event_of_a_week_ago_counts_half() -> None:
    now = 100 * DAY_US
    times = np.array([now - 7 * DAY_US, now - 14 * DAY_US, now - 1, now, now + DAY_US])
    events = Events(np.array([1, 1, 2, 3, 3]), np.zeros(5), times)
    assert heat_of(events, now, 5).tolist() == pytest.approx([0, 0.75, 1, 0, 0])


def test_trending_counts_the_histories_of_all(guide: Guide) -> None:
    store = guide.artifact.store
    answer = guide.trending(k=100)
    expected = np.zeros(store.n_items + 1)
    pairs = zip(store["history/item"].tolist(), store["history/time"].tolist(), strict=True)
    for item, time in pairs:
        expected[item] += 0.5 ** ((guide.scorer.now - time) / (7 * DAY_US))
    found = rows(guide, answer)
    assert len(found) == (expected > 0).sum() > 20
    scores = [line["score"] for line in answer["items"]]
    np.testing.assert_allclose(scores, expected[found])
    assert scores == sorted(scores, reverse=True)


def test_waiting_cools_all_products_alike_and_the_past_counts_only_what_came_before(
    guide: Guide,
) -> None:
    now, later = guide.trending(k=5), guide.trending(k=5, at=guide.scorer.now + 7 * DAY_US)
    assert rows(guide, now) == rows(guide, later)
    for one, other in zip(now["items"], later["items"], strict=True):
        assert other["score"] == pytest.approx(one["score"] / 2)
    assert guide.trending(at=guide.scorer.start)["items"] == []


def test_live_events_make_a_product_trend(guide: Guide) -> None:
    more = guide.with_items([{"item": "n1", "title": "red boot", "category": "new"}])
    event = {"item": "n1", "kind": "click"}
    answer = more.trending(events=[event] * 1000 + [{"item": "x", "kind": "click"}], k=1)
    assert answer["items"][0]["item"] == "n1"
    assert answer["items"][0]["score"] == pytest.approx(1000)
    assert answer["events"]["read"] == 1000 and len(answer["events"]["ignored"]) == 1
    assert more.trending(category="new")["items"] == []


def test_the_latest_were_added_last_or_met_last(guide: Guide) -> None:
    store = guide.artifact.store
    items, times = np.asarray(store["history/item"]), np.asarray(store["history/time"])
    found = rows(guide, guide.latest(k=100))
    first = [times[items == row].min() for row in found]
    assert len(found) == len(np.unique(items)) > 20
    assert first == sorted(first, reverse=True)
    more = guide.with_items([{"item": "n1"}]).with_items([{"item": "n2"}])
    newest = more.latest(k=3)["items"]
    assert [line["item"] for line in newest[:2]] == ["n2", "n1"]
    assert newest[0]["since"] is None and newest[2]["since"].startswith("20")
    assert rows(guide, {"items": newest[2:]}) == found[:1]
    assert "n2" not in [line["item"] for line in more.without_items(["n2"]).latest()["items"]]


def test_an_audience_is_matching_read_backwards(guide: Guide) -> None:
    """By its definition: the score of the product above the log of the mean over the catalogue."""
    item = "500007"
    answer = guide.audience(item, k=1000)
    assert len(answer["users"]) == guide.artifact.store.n_users
    scores = [line["score"] for line in answer["users"]]
    assert scores == sorted(scores, reverse=True)
    for line in (answer["users"][0], answer["users"][-1]):
        found = guide.match(line["user"], guide.catalogue.keys[1:])["items"]
        by_item = {each["item"]: each["score"] for each in found}
        level = torch.tensor(list(by_item.values())).exp().mean().log()
        assert line["score"] == pytest.approx(by_item[item] - float(level), abs=1e-4)


def test_a_new_product_has_an_audience_and_costs_no_new_states(guide: Guide) -> None:
    row = guide.catalogue.row("500007")
    said = {name: guide.catalogue.value(name, row) for name in guide.catalogue.columns}
    more = guide.with_items([{"item": "twin", **said}])
    assert more.crowd is guide.crowd
    one, other = (more.audience(item, k=1000)["users"] for item in ("twin", "500007"))
    assert {line["user"] for line in one} == {line["user"] for line in other}
    assert one != other, "its id is unknown"


def test_no_audience_is_made_up_for_a_product_nobody_knows(guide: Guide) -> None:
    with pytest.raises(ConfigError, match="no '50000' among the 80 products"):
        guide.audience("50000")
