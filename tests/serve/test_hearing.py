"""A new product through the API: shown and clicked, its score follows, and so after a restart."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from daogou.guide import Guide
from daogou.serve import hearing
from daogou.serve.hearing import Hearing
from daogou.serve.limits import Limits
from daogou.serve.meters import Meters
from daogou.serve.service import Service
from daogou.serve.store import Store
from tests.serve.conftest import NOW_US, Clock, calling, good

HOUR = 3_600_000_000
DAYS = 100 * HOUR
PRODUCT = {"item": "new", "fields": {"title": "red hammock", "category": "hammock", "price": 20}}
Serve = Callable[..., Service]


@pytest.fixture
def serve(
    guide: Guide, made_run: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Serve]:
    """Begins a server on one database, from the made run; ``changes`` are of its ``[guide]``."""
    begun: list[Service] = []

    def begin(**changes: Any) -> Service:
        loaded = guide.following(**changes) if changes else guide
        monkeypatch.setattr(Guide, "load", lambda _run: loaded)
        store = Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock=clock)
        begun.append(Service(made_run, store, Limits(), Meters()))
        return begun[-1]

    yield begin
    for each in begun:
        each.close()


def look(service: Service) -> None:
    """Let a server look at the store, and wait until it has."""
    service.answerers._looking.result()
    service.answerers.look_about()
    service.answerers._looking.result()


def happened(client: TestClient, n: int, clicks: int, **more: Any) -> None:
    """That so many were shown the new product, and some of them clicked, a minute later."""
    rows = [
        {"kind": kind, "user": f"u{i}", "item": "new", "time": (NOW_US + minute * HOUR // 60)}
        for i in range(n)
        for kind, minute in (("impression", 0), ("click", 1))
        if kind == "impression" or i < clicks
    ]
    told = good(client.post("/v1/events", json={"events": [{**row, **more} for row in rows]}), 202)
    assert told["rejected"] == 0


def score(client: TestClient, item: str = "new") -> float:
    (line,) = good(client.post("/v1/rank", json={"user": "x", "items": [item]}))["items"]
    return float(line["p"]["click"])


def test_a_new_products_score_follows_its_clicks_and_is_the_same_after_a_restart(
    serve: Serve, clock: Clock, guide: Guide
) -> None:
    service, other = serve(), serve()
    known = guide.catalogue.keys[1]
    with calling(service) as client, calling(other) as second:
        good(client.put("/v1/items", json={"items": [PRODUCT]}))
        before, of_known = score(client), score(client, known)
        happened(client, 20, 15)
        for minutes in (2, 30):
            clock.us = NOW_US + minutes * HOUR // 60
            look(service)
            assert service.answerers.main.offer.hearing.heard["new"].is_open
            assert score(client) == before, "no window is over yet"
        clock.us = NOW_US + DAYS
        for each in (service, other):
            look(each)
        after = score(client)
        assert after > before
        assert score(client, known) == of_known
        assert score(second) == after, "another process hears the same"
        explained = good(client.post("/v1/explain", json={"user": "x", "item": "new"}))
        (line,) = (x for x in explained["contributions"] if x["feature"] == "item.heard")
        assert line["value"].startswith("shown 20, click 15")
        assert line["weight"] > 0
    again = serve()
    look(again)
    with calling(again) as client:
        assert score(client) == after
    frozen = serve(count_new=False)
    look(frozen)
    assert not frozen.answerers.main.offer.hearing.heard
    with calling(frozen) as client:
        assert score(client) == before


def test_a_product_that_nobody_clicks_sinks_and_its_events_may_come_before_it(
    serve: Serve, clock: Clock
) -> None:
    service = serve()
    with calling(service) as client:
        happened(client, 20, 0)
        clock.us = NOW_US + DAYS
        look(service)
        assert not service.answerers.main.offer.hearing.heard
        good(client.put("/v1/items", json={"items": [PRODUCT]}))
        before = score(client)
        look(service)
        assert score(client) < before
        good(client.delete("/v1/items/new"))
        good(client.put("/v1/items", json={"items": [PRODUCT]}))
        assert score(client) < before, "what is written anew has been shown all the same"


def test_a_look_reads_a_bounded_part_and_the_next_ones_the_rest(
    serve: Serve, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = serve()
    names = [f"new{i}" for i in range(6)]
    with calling(service) as client:
        good(client.put("/v1/items", json={"items": [{**PRODUCT, "item": each} for each in names]}))
        for each in names:
            happened(client, 4, 1, item=each)
            clock.us += 1
    clock.us = NOW_US + DAYS
    _, guide = service.answerers._looking.result(), service.answerers.main.offer.guide
    whole = Hearing().listened(service.store, guide)
    assert {each.shown for each in whole.heard.values()} == {4}
    monkeypatch.setattr(hearing, "PRODUCTS", 1)
    monkeypatch.setattr(hearing, "ARRIVED", 7)
    found, looks = Hearing(), 0
    while found.next_us == 0:
        before, found = found, found.listened(service.store, guide)
        assert len(found.heard) <= len(before.heard) + 1
        looks += 1
    assert found.heard == whole.heard
    assert looks > 3
    assert found.listened(service.store, guide) is found, "until it is time"
    clock.us = found.next_us
    monkeypatch.undo()
    assert found.listened(service.store, guide).heard == whole.heard


def test_what_arrives_after_the_clock_went_back_is_heard(serve: Serve, clock: Clock) -> None:
    service = serve()
    with calling(service) as client:
        good(client.put("/v1/items", json={"items": [PRODUCT]}))
        _, guide = service.answerers._looking.result(), service.answerers.main.offer.guide
        clock.us = NOW_US + 2 * DAYS
        found = Hearing().listened(service.store, guide)
        assert found.listened(service.store, guide) is found, "until it is time"
        clock.us = NOW_US
        happened(client, 4, 1)
        clock.us += HOUR
        found = found.listened(service.store, guide)
        assert found.heard["new"].is_open and found.until_us == clock.us
        clock.us = NOW_US + DAYS
        assert found.listened(service.store, guide).heard["new"].shown == 4


def test_only_the_last_events_of_a_product_count(
    serve: Serve, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = serve()
    with calling(service) as client:
        good(client.put("/v1/items", json={"items": [PRODUCT]}))
        happened(client, 9, 0)
    clock.us = NOW_US + DAYS
    monkeypatch.setattr(hearing, "LAST", 5)
    _, guide = service.answerers._looking.result(), service.answerers.main.offer.guide
    assert Hearing().listened(service.store, guide).heard["new"].shown == 5


def test_what_a_session_did_is_one_visits(serve: Serve, clock: Clock) -> None:
    service = serve()
    with calling(service) as client:
        good(client.put("/v1/items", json={"items": [PRODUCT]}))
        for session in ("s1", "s2"):
            happened(client, 1, session == "s1", user=None, session=session)
        clock.us = NOW_US + DAYS
        look(service)
        found = service.answerers.main.offer.hearing.heard["new"]
        assert (found.shown, found.known[0], found.reached[0]) == (2, 2, 1)


def test_an_event_by_a_clock_that_is_ahead_counts_once_its_time_has_come(
    serve: Serve, clock: Clock
) -> None:
    service = serve()
    with calling(service) as client:
        good(client.put("/v1/items", json={"items": [PRODUCT]}))
        clock.us = NOW_US - HOUR // 12
        happened(client, 1, 1)
    _, guide = service.answerers._looking.result(), service.answerers.main.offer.guide
    found = Hearing().listened(service.store, guide)
    assert not found.heard
    for minutes in (0, 1, 2, 3, 10):  # long after their arrival the events are not new any more
        clock.us = NOW_US + minutes * HOUR // 60
        found = found.listened(service.store, guide)
    assert found.heard["new"].shown == 1
    assert found.heard == Hearing().listened(service.store, guide).heard


def test_products_whose_windows_run_are_looked_at_once_a_minute_however_many(
    serve: Serve, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = serve()
    names = [f"new{i}" for i in range(3)]
    with calling(service) as client:
        good(client.put("/v1/items", json={"items": [{**PRODUCT, "item": each} for each in names]}))
        for each in names:
            happened(client, 2, 0, item=each)
    clock.us = NOW_US + hearing.LATE_US * 3
    _, guide = service.answerers._looking.result(), service.answerers.main.offer.guide
    found = Hearing().listened(service.store, guide)
    assert [each.is_open for each in found.heard.values()] == [True] * 3
    monkeypatch.setattr(hearing, "PRODUCTS", 1)
    clock.us = found.next_us
    looks = 0
    while looks == 0 or found.next_us == 0:
        found = found.listened(service.store, guide)
        looks += 1
        clock.us += 1_000_000
        assert looks <= 3
