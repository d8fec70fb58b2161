"""The API: each route, each kind of wrong request, and what is left when something fails."""

import dataclasses
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from daogou.errors import ArtifactError
from daogou.guide import Guide
from daogou.serve.auth import SCOPES, new_key
from daogou.serve.database import Database, StoreError
from daogou.serve.events import Event
from daogou.serve.keys import Keys
from daogou.serve.limits import Limits
from daogou.serve.lineup import Lineup, Who
from daogou.serve.meters import Meters
from daogou.serve.offer import Offer
from daogou.serve.problem import Json
from daogou.serve.service import EVENTS_READ, Service
from daogou.serve.store import Store
from daogou.serve.things import Things
from tests.serve.conftest import NOW_US, calling, good, refused


@pytest.fixture
def user(guide: Guide) -> str:
    return next(iter(guide.artifact.store.user_rows))


@pytest.fixture
def items(guide: Guide) -> list[str]:
    return guide.catalogue.keys[1:6]


# ---- events -------------------------------------------------------------------------------


def test_events_are_told_row_by_row_and_kept(client: TestClient, service: Service) -> None:
    rows = [
        {"kind": "click", "user": "17", "item": "3", "event_id": "a"},
        {"kind": "clik", "user": "17", "item": "3"},
        {"kind": "cart", "user": 17, "item": "3", "event_id": "a"},
        "nonsense",
    ]
    told = good(client.post("/v1/events", json={"events": rows}), 202)
    assert [row["status"] for row in told["rows"]] == [
        "accepted", "rejected", "duplicate", "rejected",
    ]  # fmt: skip
    assert (told["accepted"], told["duplicate"], told["rejected"]) == (1, 1, 2)
    assert "did you mean 'click'" in told["rows"][1]["reason"]
    kept = good(client.get("/v1/users/17/events"))["events"]
    assert [(each["event_id"], each["kind"]) for each in kept] == [("a", "click")]
    again = good(client.post("/v1/events", json={"events": rows[:1]}), 202)
    assert again["rows"] == [{"row": 0, "status": "duplicate", "event_id": "a"}]


def test_no_events_are_no_trouble(client: TestClient) -> None:
    assert good(client.post("/v1/events", json={"events": []}), 202)["rows"] == []


# ---- answers ------------------------------------------------------------------------------


def test_recommend_answers_as_the_guide_does_and_keeps_what_it_showed(
    client: TestClient, service: Service, guide: Guide, user: str
) -> None:
    body = {"user": user, "k": 3, "scenario": "home", "context": {"device": "phone"}}
    found = good(client.post("/v1/recommend", json=body))
    direct = guide.recommend(user, k=3, context={"device": "phone"})
    assert [line["item"] for line in found["items"]] == [line["item"] for line in direct["items"]]
    assert found["items"][0]["score"] == pytest.approx(direct["items"][0]["score"], abs=1e-6)
    assert (found["known"], found["degraded"], found["fallback"]) == (True, False, None)
    shown = service.store.request(found["request_id"])
    assert shown is not None
    assert shown.items == [line["item"] for line in found["items"]]
    assert (shown.user_id, shown.scenario, shown.time_us) == (user, "home", NOW_US)


def test_what_somebody_just_did_is_in_the_next_answer(
    client: TestClient, user: str, guide: Guide
) -> None:
    asked = {"user": user, "k": 5}
    before = good(client.post("/v1/recommend", json=asked))
    item = before["items"][-1]["item"]
    rows = [{"kind": "click", "user": user, "item": item, "event_id": str(n)} for n in range(3)]
    good(client.post("/v1/events", json={"events": rows}), 202)
    after = good(client.post("/v1/recommend", json=asked))
    assert after["events"]["read"] == 3
    news = [{"item": item, "kind": "click", "time": NOW_US}] * 3
    direct = guide.recommend(user, k=5, events=news)
    assert [line["score"] for line in after["items"]] == pytest.approx(
        [line["score"] for line in direct["items"]], abs=1e-6
    )
    assert [line["score"] for line in after["items"]] != pytest.approx(
        [line["score"] for line in before["items"]], abs=1e-6
    )


def test_a_session_is_answered_and_its_events_count(client: TestClient, items: list[str]) -> None:
    row = {"kind": "click", "session": "v1", "item": items[0]}
    good(client.post("/v1/events", json={"events": [row]}), 202)
    found = good(client.post("/v1/recommend", json={"session": "v1", "k": 2}))
    assert (found["user"], found["session"], found["known"]) == (None, "v1", False)
    assert found["events"]["read"] == 1 and len(found["items"]) == 2


def test_an_event_older_than_the_run_s_log_is_not_counted_twice(
    client: TestClient, user: str, items: list[str]
) -> None:
    row = {"kind": "click", "user": user, "item": items[0], "time": "1999-01-01"}
    good(client.post("/v1/events", json={"events": [row]}), 202)
    assert good(client.post("/v1/recommend", json={"user": user}))["events"]["read"] == 0


def test_products_that_are_hidden_or_left_out_are_not_shown(client: TestClient, user: str) -> None:
    first = good(client.post("/v1/recommend", json={"user": user, "k": 4}))
    names = [line["item"] for line in first["items"]]
    good(client.put(f"/v1/items/{names[0]}", json={"hidden": True}))
    again = good(client.post("/v1/recommend", json={"user": user, "k": 2, "exclude": [names[1]]}))
    assert [line["item"] for line in again["items"]] == names[2:4]


def test_rank_orders_what_it_is_given_each_once(
    client: TestClient, service: Service, user: str, items: list[str]
) -> None:
    asked = [*items, items[0], "unheard of"]
    found = good(client.post("/v1/rank", json={"user": user, "items": asked}))
    scores = [line["score"] for line in found["items"]]
    assert scores == sorted(scores, reverse=True)
    assert {line["item"] for line in found["items"]} == set(asked)
    assert len(found["items"]) == len(set(asked))
    shown = service.store.request(found["request_id"])
    assert shown is not None and shown.items == [line["item"] for line in found["items"]]


def test_match_explain_and_extract_answer_as_the_guide_does(
    client: TestClient, guide: Guide, user: str, items: list[str]
) -> None:
    found = good(client.post("/v1/match", json={"user": user, "items": items}))
    direct = guide.match(user, items)
    assert [line["item"] for line in found["items"]] == [line["item"] for line in direct["items"]]
    found = good(client.post("/v1/explain", json={"user": user, "item": items[0], "lang": "zh"}))
    assert found["item"] == items[0] and found["contributions"] and found["text"]
    text = str(guide.catalogue.value("title", 1))
    found = good(client.post("/v1/attributes:extract", json={"texts": [text, ""]}))
    spans, alone = found["texts"][0]["spans"], guide.extract(text)["spans"]
    assert [span[:3] for span in spans] == [span[:3] for span in alone]
    # Beside another title its sums are rounded in another order.
    assert [span[3] for span in spans] == pytest.approx([span[3] for span in alone], abs=1e-5)
    assert len(found["texts"]) == 2


def test_what_was_shown_pushes_out_nothing_that_was_done(
    service: Service, guide: Guide, user: str, items: list[str]
) -> None:
    since = {kind: guide.scorer.since(kind) for kind in ("click", "impression")}
    shown = int(np.max(guide.artifact.store["shown/time"]))
    assert since["click"] == guide.scorer.now <= since["impression"] == shown + 1
    event = Event("0", "click", items[0], since["impression"], NOW_US, user)
    later = [
        dataclasses.replace(event, event_id=f"{n}", kind="impression", time_us=event.time_us + n)
        for n in range(1, 2 * EVENTS_READ)
    ]
    known = dataclasses.replace(later[0], event_id="known", time_us=shown)  # is in the run's log
    service.store.add_events([event, known, *later])
    told, _ = service._known_of(Who(user), guide)
    assert Counter(each["kind"] for each in told["events"]) == {
        "click": 1,
        "impression": EVENTS_READ,
    }
    assert [each["kind"] for each in service.news(guide)[0]] == ["click"]
    service.store.add_events([dataclasses.replace(known, event_id="again", user_id="new")])
    assert service._known_of(Who("new"), guide)[0]["events"] == []


def test_what_trends_is_what_was_just_sent(client: TestClient, items: list[str]) -> None:
    rows = [
        {"kind": "click", "session": f"s{n}", "item": items[2], "event_id": str(n)}
        for n in range(50)
    ]
    good(client.post("/v1/events", json={"events": rows}), 202)
    found = good(client.get("/v1/trending", params={"k": 2}))
    assert found["items"][0]["item"] == items[2] and len(found["items"]) == 2
    good(client.put(f"/v1/items/{items[2]}", json={"hidden": True}))
    again = good(client.get("/v1/trending", params={"k": 2}))
    assert items[2] not in [line["item"] for line in again["items"]]
    assert len(good(client.get("/v1/latest", params={"k": 3}))["items"]) == 3
    refused(client.get("/v1/trending", params={"k": 101}), 422)
    refused(client.get("/v1/latest", params={"price_max": "nan"}), 422)


def test_search_and_the_dialogue_answer_as_the_guide_does(
    client: TestClient, service: Service, guide: Guide, user: str
) -> None:
    word = str(guide.catalogue.value("title", 1)).split()[0]
    found = good(client.post("/v1/search", json={"query": word, "k": 3, "lang": "zh"}))
    direct = guide.search(word, k=3, lang="zh")
    assert [line["item"] for line in found["items"]] == [line["item"] for line in direct["items"]]
    left_out = found["items"][0]["item"]
    asked = {"query": word, "user": user, "exclude": [left_out]}
    found = good(client.post("/v1/search", json=asked))
    assert found["known"] and left_out not in [line["item"] for line in found["items"]]
    first = good(client.post("/v1/guide", json={"user": user}))
    kept = service.store.request(first["request_id"])
    assert kept is not None
    assert kept.items == [line["item"] for line in first["items"]]
    assert (kept.scenario, first["fallback"], first["degraded"]) == ("guide", None, False)
    chip = first["question"]["chips"][0]
    state = first["state"]
    state["answers"].append(chip["answer"])
    second = good(client.post("/v1/guide", json=state))
    assert second["left"] == chip["count"]
    message = refused(client.post("/v1/guide", json={"answers": [{"column": "colr"}]}), 422)
    assert "colr" in message or "answers" in message


def test_similar_products_are_those_of_the_guide_that_pass_the_filters(
    client: TestClient, guide: Guide, items: list[str]
) -> None:
    path = f"/v1/items/{items[0]}/similar"
    assert good(client.post(path, json={"k": 3})) == guide.similar(items[0], k=3)
    some = guide.catalogue.value("category", 7)
    found = good(client.post(path, json={"k": 9, "category": some}))["items"]
    rows = [guide.catalogue.row(line["item"]) for line in found]
    assert {guide.catalogue.value("category", row) for row in rows} == {some}
    assert "no 'nothing'" in refused(client.post("/v1/items/nothing/similar", json={}), 422)
    assert "k: 101" in refused(client.post(path, json={"k": 101}), 422)
    assert "body.usr" in refused(client.post(path, json={"usr": 3}), 422)
    assert "where.colr" in refused(client.post(path, json={"where": {"colr": "red"}}), 422)


def listed(client: TestClient, user: str, near: str) -> dict[str, list[str]]:
    """What each list of products shows."""
    asked = {
        "recommend": client.post("/v1/recommend", json={"user": user, "k": 100}),
        "search": client.post("/v1/search", json={"query": "quilted 羽绒服", "k": 100}),
        "similar": client.post(f"/v1/items/{near}/similar", json={"k": 100}),
        "latest": client.get("/v1/latest", params={"k": 100}),
    }
    return {name: [line["item"] for line in good(each)["items"]] for name, each in asked.items()}


def test_a_product_is_in_every_list_once_it_is_written_and_in_none_once_it_is_not(
    client: TestClient, user: str, items: list[str]
) -> None:
    def is_in_all(near: str = items[0]) -> bool:
        found = {name: "new" in shown for name, shown in listed(client, user, near).items()}
        assert len(set(found.values())) == 1, found
        return found["recommend"]

    assert not is_in_all()
    row = {"item": "new", "fields": {"title": "quilted 羽绒服", "lining": "down"}}
    good(client.put("/v1/items", json={"items": [row]}))
    assert is_in_all()
    assert good(client.post("/v1/items/new/similar", json={"k": 2}))["items"]
    good(client.patch("/v1/items/new", json={"hidden": True}))
    assert not is_in_all()
    good(client.patch("/v1/items/new", json={"hidden": False}))
    assert is_in_all()
    good(client.delete("/v1/items/new"))
    assert not is_in_all()
    out = {"table": "items", "row": {
        "item_id": "new", "fields": row["fields"], "hidden": False, "updated_us": 5,
    }}  # fmt: skip
    good(client.post("/v1/admin/import", content=json.dumps(out)))
    assert is_in_all()
    good(client.post("/v1/admin/reload", json={}))
    assert is_in_all()


def test_a_product_that_the_run_has_reads_as_the_store_has_it_and_goes_back(
    client: TestClient, items: list[str]
) -> None:
    def found(**wishes: Any) -> bool:
        told = good(client.post("/v1/search", json={"k": 100, **wishes}))
        return items[0] in [line["item"] for line in told["items"]]

    path = f"/v1/items/{items[0]}"
    assert not found(query="quilted", price_max=0.5)
    good(client.put(path, json={"fields": {"title": "quilted", "price": 0.25}}))
    assert found(query="quilted", price_max=0.5)
    good(client.put(path, json={"fields": {"price": 0.25}}))
    assert found(price_max=0.5) and not found(query="quilted", price_max=0.5)
    good(client.delete(path))
    assert not found(price_max=0.5) and found()


def test_what_a_column_cannot_hold_is_kept_and_the_rest_is_read(
    client: TestClient, items: list[str]
) -> None:
    rows = [
        {"item": "odd", "fields": {"title": "quilted", "price": "dear", "category": 10**40}},
        {"item": items[0], "fields": {"price": 0.25, "brand": None}},
    ]
    good(client.put("/v1/items", json={"items": rows}))
    assert good(client.get("/v1/items/odd"))["fields"]["price"] == "dear"
    told = good(client.post("/v1/search", json={"query": "quilted"}))
    assert [line["item"] for line in told["items"]] == ["odd"]
    told = good(client.post("/v1/search", json={"price_max": 0.5}))
    assert [line["item"] for line in told["items"]] == [items[0]]


def test_products_are_read_again_only_when_some_were_written(
    client: TestClient, service: Service, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good(client.put("/v1/items/new", json={"fields": {"title": "quilted"}}))
    before = service.answerers.main.offer
    monkeypatch.setattr(Things, "written", None)
    assert before.caught_up(service.store) is before
    good(client.post("/v1/recommend", json={"user": user}))
    assert service.answerers.main.guide is before.guide


def test_what_another_server_wrote_is_found_aside(
    client: TestClient, service: Service, items: list[str]
) -> None:
    service.store.items.put({items[0]: ({}, True)})
    service.answerers._looked -= 2
    for _ in range(200):
        shown = good(client.post("/v1/search", json={"k": 100}))["items"]
        if items[0] not in [line["item"] for line in shown]:
            return
        time.sleep(0.05)
    raise AssertionError("it is still shown")


def test_recommend_takes_every_wish_of_the_guide_and_tells_what_rules_removed(
    client: TestClient, service: Service, guide: Guide, user: str
) -> None:
    wishes = {"k": 5, "price_min": 20.0, "diversity": 0.9}
    found = good(client.post("/v1/recommend", json={"user": user, **wishes}))
    direct = guide.recommend(user, **wishes)  # type: ignore[arg-type]
    plain = guide.recommend(user, k=5)
    names = [[line["item"] for line in each["items"]] for each in (found, direct, plain)]
    assert names[0] == names[1] != names[2]
    message = refused(client.post("/v1/recommend", json={"user": user, "diversity": 2}), 422)
    assert "guide.diversity" in message
    ruled = guide.following(per_category=1)
    service.answerers.lineup = Lineup(
        dataclasses.replace(service.answerers.main, offer=Offer(ruled, ruled))
    )
    assert good(client.post("/v1/recommend", json={"user": user}))["rules"]


def test_a_product_s_audience_is_known_users(
    client: TestClient, guide: Guide, items: list[str]
) -> None:
    found = good(client.post(f"/v1/items/{items[0]}/audience", params={"k": 2}))
    users = [line["user"] for line in found["users"]]
    assert len(users) == 2 and set(users) <= set(guide.artifact.store.user_rows)
    assert "no 'nothing'" in refused(client.post("/v1/items/nothing/audience"), 422)


# ---- profiles -----------------------------------------------------------------------------


def test_a_profile_is_told_edited_and_cleared(client: TestClient, user: str) -> None:
    path = f"/v1/users/{user}/profile"
    found = good(client.get(path, params={"lang": "zh"}))
    assert found["columns"] and found["edits"] == {"set": {}, "forbid": {}}
    edits = {"set": {"gender": "F"}, "forbid": {"category": ["shoes", "bags"], "brand": "x"}}
    told = good(client.patch(path, json=edits))["edits"]
    assert told == {
        "set": {"gender": "F"},
        "forbid": {"brand": ["x"], "category": ["bags", "shoes"]},
    }
    told = good(client.patch(path, json={"set": {"gender": None}}))["edits"]
    assert told["set"] == {} and good(client.get(path))["edits"] == told
    assert good(client.delete(path))["removed"] == 3
    message = refused(client.patch(path, json={"set": {"gendr": "F"}}), 422)
    assert "set.gendr: no 'gendr' here (did you mean 'gender'?)" in message
    refused(client.patch(path, json={"set": {"gender": {"a": 1}}}), 422)
    good(client.patch(path, json={"set": {"gender": "F"}}))
    message = refused(client.patch(path, json={"forbid": {"gender": ["F"]}}), 422)
    assert "both set and forbidden" in message
    assert good(client.get(path))["edits"] == {"set": {"gender": "F"}, "forbid": {}}


def test_what_a_user_forbids_is_not_recommended_any_more(
    client: TestClient, guide: Guide, user: str
) -> None:
    asked = {"user": user, "k": 5}
    first = good(client.post("/v1/recommend", json=asked))["items"][0]["item"]
    value = str(guide.catalogue.value("category", guide.catalogue.row(first)))
    good(client.patch(f"/v1/users/{user}/profile", json={"forbid": {"category": value}}))
    found = good(client.post("/v1/recommend", json=asked))
    shown = [guide.catalogue.row(line["item"]) for line in found["items"]]
    assert value not in {guide.catalogue.value("category", row) for row in shown}
    assert found["edits"]["forbid"] == {"category": [value]}
    matched = good(client.post("/v1/match", json={"user": user, "items": [first]}))
    assert matched["items"][0]["forbidden"] is True
    other = found["items"][0]["item"]
    ranked = good(client.post("/v1/rank", json={"user": user, "items": [first, other]}))["items"]
    assert [line["item"] for line in ranked] == [other, first] and ranked[1]["forbidden"]
    assert ranked[0]["score"] == pytest.approx(found["items"][0]["score"], abs=1e-6)


def test_edits_that_a_new_run_has_no_use_for_are_left_out_and_told(
    client: TestClient, service: Service, user: str
) -> None:
    service.store.edit(user, {"shoe_size": "43"}, {})
    found = good(client.post("/v1/recommend", json={"user": user, "k": 2}))
    assert "no 'shoe_size' here" in found["edits_ignored"]
    assert len(found["items"]) == 2 and not found["degraded"]


# ---- products and users -------------------------------------------------------------------


@pytest.mark.parametrize(("table", "key"), [("items", "item"), ("users", "user")])
def test_things_are_written_read_changed_and_removed(
    client: TestClient, table: str, key: str
) -> None:
    rows = [{key: "b", "fields": {"a": 1}}, {key: "a"}, {key: ""}, {key: "c", "field": {}}]
    told = good(client.put(f"/v1/{table}", json={table: rows}))
    assert told["written"] == 2
    assert [each["row"] for each in told["rejected"]] == [2, 3]
    assert "did you mean 'fields'" in told["rejected"][1]["reason"]
    assert [each[key] for each in good(client.get(f"/v1/{table}"))[table]] == ["a", "b"]
    page = good(client.get(f"/v1/{table}", params={"after": "a", "limit": 1}))[table]
    assert [each[key] for each in page] == ["b"]
    changed = good(client.patch(f"/v1/{table}/b", json={"fields": {"a": None, "c": "红"}}))
    assert changed["fields"] == {"c": "红"} and good(client.get(f"/v1/{table}/b")) == changed
    good(client.put(f"/v1/{table}/b", json={"fields": {}}))
    assert good(client.get(f"/v1/{table}/b"))["fields"] == {}
    good(client.delete(f"/v1/{table}/b"))
    assert "no 'b'" in refused(client.get(f"/v1/{table}/b"), 404)
    refused(client.patch(f"/v1/{table}/b", json={}), 404)
    if table == "items":
        refused(client.delete(f"/v1/{table}/b"), 404)


def test_a_user_is_forgotten_and_it_is_said_what_went(
    client: TestClient, service: Service, user: str, items: list[str]
) -> None:
    good(client.post("/v1/recommend", json={"user": user, "k": 1}))
    row = {"kind": "click", "user": user, "item": items[0]}
    good(client.post("/v1/events", json={"events": [row]}), 202)
    told = good(client.delete(f"/v1/users/{user}"))
    assert told["removed"] == {"events": 1, "users": 0, "edits": 0, "requests": 1}
    assert told["in_run"] is True
    assert sum(service.store.counts().values()) == 0
    assert good(client.delete("/v1/users/nobody"))["in_run"] is False


# ---- the run and the store as a whole -------------------------------------------------------


def test_what_is_exported_can_be_taken_in(client: TestClient, service: Service, user: str) -> None:
    good(client.post("/v1/recommend", json={"user": user, "k": 1}))
    good(client.put("/v1/users/红", json={"fields": {"a": 1}}))
    out = client.get("/v1/admin/export")
    lines = [json.loads(line) for line in out.text.splitlines()]
    assert [line["table"] for line in lines] == ["users", "requests"]
    service.store.forget(user)
    service.store.forget("红")
    added = good(client.post("/v1/admin/import", content=out.content))["added"]
    assert (added["users"], added["requests"]) == (1, 1)
    assert client.get("/v1/admin/export").text == out.text
    message = refused(client.post("/v1/admin/import", content=out.content + b"{"), 422)
    assert "line 3: not JSON" in message


def test_a_reload_swaps_the_run_and_a_bad_one_changes_nothing(
    client: TestClient, service: Service, guide: Guide, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    message = refused(client.post("/v1/admin/reload", json={"run": str(tmp_path)}), 422)
    assert str(tmp_path) in message
    assert service.answerers.main.guide is guide
    manifest = {**guide.artifact.manifest, "files": {"model.safetensors": "another"}}
    other = dataclasses.replace(
        guide, artifact=dataclasses.replace(guide.artifact, manifest=manifest)
    )
    monkeypatch.setattr(Guide, "load", lambda _run: other)
    told = good(client.post("/v1/admin/reload", json={}))
    assert (told["before"]["digest"], told["now"]["digest"]) == (
        guide.artifact.manifest["files"]["model.safetensors"], "another",
    )  # fmt: skip
    assert service.answerers.main.guide is other
    model, former = good(client.get("/v1/models"))["models"]
    assert former["digest"] == guide.artifact.manifest["files"]["model.safetensors"]
    assert model["digest"] == "another" and "click" in model["tasks"]


def test_counters_tell_of_requests_events_and_the_run(client: TestClient, user: str) -> None:
    row = {"kind": "click", "user": user, "item": "3"}
    good(client.post("/v1/events", json={"events": [row, {}]}), 202)
    good(client.get(f"/v1/users/{user}/events"))
    refused(client.get("/nothing"), 404)
    page = client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    lines = page.text.splitlines()
    assert 'daogou_events_total{outcome="accepted"} 1.0' in lines
    assert 'daogou_events_total{outcome="rejected"} 1.0' in lines
    assert 'daogou_store_rows{table="events"} 1.0' in lines
    assert "daogou_store_up 1.0" in lines
    counted = [line for line in lines if line.startswith("daogou_request_seconds_count")]
    assert any('route="/v1/users/{user}/events"' in line for line in counted)
    assert any('route="none"' in line and 'status="404"' in line for line in counted)
    assert any(line.startswith("daogou_model_info{digest=") for line in lines)
    assert any(line.startswith('daogou_model_validation_loss{task="click"}') for line in lines)
    assert user not in [word for line in counted for word in line.split('"')]


def test_health_is_told_to_anybody(service: Service) -> None:
    with calling(service, at_home=False, address="10.0.0.9") as client:
        assert good(client.get("/healthz")) == {"status": "ok"}
        assert good(client.get("/readyz"))["store"] is True


# ---- when something is away -----------------------------------------------------------------


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store cannot be reached any more."""

    def refuse(*_: Any, **__: Any) -> None:
        raise StoreError("the store at secret.host is away")

    for part, *names in (
        (Store, "add_events", "events_of", "log_request", "counts", "edits_of"),
        (Things, "version", "get"),
        (Keys, "get"),
        (Database, "ping"),
    ):
        for name in names:
            monkeypatch.setattr(part, name, refuse)


@pytest.mark.usefixtures("away")
def test_without_the_store_products_are_recommended_and_it_is_told(
    client: TestClient, user: str, guide: Guide
) -> None:
    found = good(client.post("/v1/recommend", json={"user": user, "k": 2}))
    assert found["degraded"] is True and found["fallback"] is None
    direct = guide.recommend(user, k=2)
    assert [line["item"] for line in found["items"]] == [line["item"] for line in direct["items"]]
    assert "daogou_store_up 0.0" in client.get("/metrics").text


@pytest.mark.usefixtures("away")
def test_without_the_store_what_needs_it_says_so_and_when_to_come_again(
    client: TestClient,
) -> None:
    row = {"kind": "click", "user": "17", "item": "3"}
    for answer in (
        client.post("/v1/events", json={"events": [row]}),
        client.get("/v1/items/3"),
    ):
        assert "secret.host" not in refused(answer, 503)
        assert answer.headers["retry-after"] == "2"
    assert client.get("/readyz").json()["store"] is False
    assert client.get("/readyz").status_code == 503
    good(client.get("/healthz"))


def test_without_the_model_popular_products_are_shown(
    client: TestClient, service: Service, user: str, guide: Guide, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Guide, "recommend", fail)
    monkeypatch.setattr(Guide, "score", fail)
    monkeypatch.setattr(Guide, "ask", fail)
    found = good(client.post("/v1/recommend", json={"user": user, "k": 3}))
    assert (found["degraded"], found["fallback"], found["user"]) == (True, "popular", user)
    rows = [guide.catalogue.row(line["item"]) for line in found["items"]]
    taken = guide.popularity[rows]
    assert taken[0] == guide.popularity.max() and sorted(taken, reverse=True) == list(taken)
    assert service.store.request(found["request_id"]) is not None
    some = guide.catalogue.value("category", 1)
    found = good(client.post("/v1/recommend", json={"user": user, "category": some}))
    rows = [guide.catalogue.row(line["item"]) for line in found["items"]]
    assert {guide.catalogue.value("category", row) for row in rows} == {some}
    found = good(client.post("/v1/rank", json={"user": user, "items": ["3", "1"]}))
    assert [line["item"] for line in found["items"]] == ["3", "1"] and found["degraded"]
    state = {"answers": [{"column": "category", "value": some}], "lang": "zh"}
    found = good(client.post("/v1/guide", json=state))
    assert (found["question"], found["fallback"], len(found["items"])) == (None, "popular", 4)
    assert found["state"]["answers"] == state["answers"]
    assert 'daogou_degraded_total{cause="model"} 4.0' in client.get("/metrics").text


def test_a_model_that_is_slow_is_not_waited_for(
    guide: Guide, service: Service, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(*_: Any, **__: Any) -> None:
        time.sleep(0.5)

    monkeypatch.setattr(Guide, "recommend", sleep)
    monkeypatch.setattr(Guide, "profile", sleep)
    service.limits = Limits(timeout_s=0.1)
    with calling(service) as client:
        found = good(client.post("/v1/recommend", json={"user": user}))
        assert found["fallback"] == "popular" and found["degraded"]
        assert "no answer in time" in refused(client.get(f"/v1/users/{user}/profile"), 503)


def test_events_are_taken_however_slow_the_model_is(
    guide: Guide, made_run: Path, files_store: Store, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, end = threading.Event(), threading.Event()

    def stuck(*_: Any, **__: Any) -> Any:
        begun.set()
        end.wait(60)
        return {"items": []}

    monkeypatch.setattr(Guide, "load", lambda _run: guide)
    monkeypatch.setattr(Guide, "recommend", stuck)
    service = Service(made_run, files_store, Limits(threads=1, timeout_s=30), Meters())
    with calling(service) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, "/v1/recommend", json={"user": user})
        try:
            assert begun.wait(30)
            row = {"kind": "click", "user": user, "item": "3"}
            assert good(client.post("/v1/events", json={"events": [row]}), 202)["accepted"] == 1
        finally:
            end.set()
        good(waiting.result())


def test_a_fault_of_ours_is_a_500_that_tells_nothing(
    client: TestClient, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a secret path")

    monkeypatch.setattr(Guide, "profile", fail)
    assert "secret" not in refused(client.get(f"/v1/users/{user}/profile"), 500)


# ---- keys and how often -------------------------------------------------------------------

# One route for each scope; the door is asked before the body is looked at.
DOORS: dict[str, Callable[[TestClient, dict[str, str]], Any]] = {
    "public": lambda client, headers: client.post(
        "/v1/events", json={"events": []}, headers=headers
    ),
    "server": lambda client, headers: client.get("/v1/items", headers=headers),
    "admin": lambda client, headers: client.get("/v1/admin/export", headers=headers),
}


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize("held", SCOPES)
def test_a_key_opens_its_scope_and_those_before_it(service: Service, held: str) -> None:
    text, key = new_key("k", held, NOW_US)
    service.store.keys.add(key)
    with calling(service, at_home=False, address="10.0.0.9") as client:
        for needed, door in DOORS.items():
            if SCOPES.index(held) >= SCOPES.index(needed):
                assert door(client, bearer(text)).is_success
            else:
                assert f"{needed} is needed" in refused(door(client, bearer(text)), 403)
            answer = door(client, bearer(text + "x"))
            assert text not in refused(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"


def test_every_route_but_health_asks_for_a_key(service: Service) -> None:
    with calling(service, at_home=False) as client:
        paths = client.app.openapi()["paths"]  # type: ignore[attr-defined]
        asked = [(method, path) for path, methods in paths.items() for method in methods]
        assert len(asked) > 20
        for method, path in asked:
            answer = client.request(method, path.replace("{", "").replace("}", ""))
            if path in ("/healthz", "/readyz"):
                assert answer.is_success
            else:
                refused(answer, 401)


@pytest.mark.parametrize(
    ("at_home", "address", "headers"),
    [
        (False, "127.0.0.1", {}),
        (True, "10.0.0.9", {}),
        (True, "127.0.0.1", {"x-forwarded-for": "127.0.0.1"}),
        (True, "127.0.0.1", {"host": "evil.test"}),
        (True, "127.0.0.1", {"origin": "http://evil.test"}),
        (True, "127.0.0.1", bearer("dg_no_such")),
    ],
)
def test_only_a_program_of_this_machine_needs_no_key(
    service: Service, at_home: bool, address: str, headers: dict[str, str]
) -> None:
    with calling(service, at_home=at_home, address=address) as client:
        refused(client.get("/v1/items", headers=headers), 401)


def test_who_comes_too_often_is_told_when_to_come_again(service: Service) -> None:
    service.limits = Limits(rate_per_s=0.5, burst=2)
    with calling(service) as client:
        for _ in range(2):
            good(client.get("/v1/items"))
        answer = client.get("/v1/items")
        assert "too many" in refused(answer, 429) and answer.headers["retry-after"] == "2"
        good(client.get("/healthz"))


def test_a_public_key_s_holders_are_told_apart_by_address(service: Service) -> None:
    text, key = new_key("page", "public", NOW_US)
    service.store.keys.add(key)
    service.limits = Limits(rate_per_s=1, burst=1)
    with calling(service, at_home=False, address="10.0.0.1") as client:
        door = DOORS["public"]
        good(door(client, bearer(text)), 202)
        refused(door(client, bearer(text)), 429)
        client._transport.client = ("10.0.0.2", 1)  # type: ignore[attr-defined]
        good(door(client, bearer(text)), 202)


# ---- wrong requests -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("events", {}, "body.events: missing"),
        ("events", {"events": 3}, "body.events"),
        ("events", [], "body"),
        ("recommend", {}, "whom is the answer for?"),
        ("recommend", {"user": "1", "k": 0}, "body.k"),
        ("recommend", {"user": "1", "k": "3"}, "body.k"),
        ("recommend", {"user": "1", "k": 101}, "k: 101; 100 are the most"),
        ("recommend", {"user": "1", "k": 10**30}, "k"),
        ("recommend", {"user": "1", "lang": "de"}, "body.lang"),
        ("recommend", {"user": "1", "usr": 3}, "body.usr"),
        ("recommend", {"user": "1", "price_max": "cheap"}, "body.price_max"),
        ("recommend", {"user": "1", "where": {"colr": "red"}}, "where.colr: no 'colr' here"),
        ("recommend", {"user": "1", "where": {"category": {"a": 1}}}, "where.category"),
        ("recommend", {"user": "1", "where": {"price": "dear"}}, "where.price"),
        ("recommend", {"user": "1", "context": {"devce": 1}}, "devce"),
        ("recommend", {"user": "a\x00"}, "NUL"),
        ("recommend", {"user": "a" * 300}, "256"),
        ("recommend", {"user": ["a"]}, "body.user: an id is wanted"),
        ("rank", {"user": "1", "items": []}, "body.items"),
        ("rank", {"user": "1"}, "body.items: missing"),
        ("match", {"user": "1", "items": [True]}, "body.items.0: an id is wanted"),
        ("explain", {"user": "1", "item": "no such"}, "no 'no such' among"),
        ("attributes:extract", {"texts": [1]}, "body.texts.0: a text is wanted"),
        ("attributes:extract", {"texts": ["x" * 10_001]}, "10000 are the most"),
        ("admin/reload", {"run": 3}, "body.run: a text is wanted"),
        ("admin/reload", {"run": "/no/such/run"}, "/no/such/run"),
    ],
)
def test_a_wrong_body_is_refused_with_the_reason(
    client: TestClient, path: str, body: Any, message: str
) -> None:
    assert message in refused(client.post(f"/v1/{path}", json=body), 422)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"user": "\\ud800"}', b'{"user": NaN}',
        b'{"\\ud800": 1}', b'{"user": "1", "where": {"\\ud800": "\\udfff"}}', b"null", b'"x"',
        b'{"user": "1", "context": {"a": 1e999}}', b'{"user": 123456789012345678901234567890}',
    ],
)  # fmt: skip
def test_a_body_that_is_hardly_json_is_refused_and_never_a_fault(
    client: TestClient, text: bytes
) -> None:
    for path in ("recommend", "events", "rank", "explain"):
        answer = client.post(
            f"/v1/{path}", content=text, headers={"Content-Type": "application/json"}
        )
        assert refused(answer, answer.status_code)
        assert answer.status_code in (400, 422)


@pytest.mark.parametrize("name", ["%00", "%ff", "%ED%A0%80", "a" * 300])
def test_a_path_with_no_id_in_it_is_refused(client: TestClient, name: str) -> None:
    for method, path in (("GET", "items"), ("DELETE", "users"), ("GET", "users")):
        answer = client.request(method, f"/v1/{path}/{name}")
        assert 400 <= answer.status_code < 500 or answer.is_success


def test_unknown_routes_and_methods_are_problems_too(client: TestClient) -> None:
    refused(client.get("/v1/nothing"), 404)
    refused(client.get("/v1/recommend"), 405)
    refused(client.get("/v1/items", params={"limit": "many"}), 422)


def test_a_batch_or_body_that_is_too_large_is_refused(client: TestClient, service: Service) -> None:
    message = refused(client.post("/v1/events", json={"events": [{}] * 1001}), 413)
    assert "1001 rows; 1000 are the most" in message
    large = b'{"events": ["' + b"x" * service.limits.body_bytes + b'"]}'
    assert "bytes are the most" in refused(client.post("/v1/events", content=large), 413)
    pieces = (large[start : start + 65_536] for start in range(0, len(large), 65_536))
    headers = {"Content-Type": "application/json"}  # and no length
    answer = client.post("/v1/events", content=pieces, headers=headers)
    assert "bytes are the most" in refused(answer, 413)
    refused(client.post("/v1/events", content=b"{}", headers={"Content-Length": "-1"}), 413)


# ---- headers, pages, and the description ----------------------------------------------------


def test_every_answer_has_the_headers_that_keep_browsers_safe(client: TestClient) -> None:
    for answer in (client.get("/healthz"), client.get("/no"), client.post("/v1/recommend")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_pages_of_elsewhere_may_call_only_where_they_are_named(service: Service) -> None:
    asked = {"Origin": "https://shop.test", "Access-Control-Request-Method": "POST"}
    with calling(service) as client:
        answer = client.options("/v1/events", headers=asked)
        assert "access-control-allow-origin" not in answer.headers


def test_pages_that_are_named_may_call(service: Service) -> None:
    asked = {"Origin": "https://shop.test", "Access-Control-Request-Method": "POST"}
    with calling(service, origins=["https://shop.test"]) as client:
        answer = client.options("/v1/events", headers=asked)
        assert answer.headers["access-control-allow-origin"] == "https://shop.test"
        other = client.options("/v1/events", headers={**asked, "Origin": "https://evil.test"})
        assert "access-control-allow-origin" not in other.headers


def test_a_log_line_names_neither_people_nor_keys(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    text, key = new_key("k", "admin", NOW_US)
    service.store.keys.add(key)
    caplog.set_level("INFO")
    with calling(service, at_home=False) as client:
        client.get("/v1/users/zenobia/events", headers=bearer(text))
        client.get("/v1/users/zenobia/events", headers=bearer("dg_wrong_secretive"))
        client.post("/v1/recommend", json={"user": "zenobia"}, headers=bearer(text))
    ours = [each for each in caplog.records if each.name.startswith("daogou")]
    said = "\n".join(each.getMessage() for each in ours)
    assert "GET /v1/users/{user}/events 200" in said
    assert not [word for word in ("zenobia", text, "secretive", key.digest) if word in said]


def test_the_description_names_every_route_with_examples(client: TestClient) -> None:
    described = good(client.get("/openapi.json"))
    bodies = described["components"]["schemas"]
    assert {"EventRow", "ItemRow", "UserRow"} <= set(bodies)
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            assert route["summary"] and route["description"] and route["tags"], (path, method)
    lacking = [
        name for name, body in bodies.items() if name.endswith("Body") and "example" not in body
    ]
    assert not lacking


def test_what_the_examples_say_is_right(client: TestClient) -> None:
    described = good(client.get("/openapi.json"))
    sent = 0
    for path, methods in described["paths"].items():
        route = methods.get("post")
        content = (route or {}).get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {}).get("$ref", "")
        if not schema or path == "/v1/admin/reload":
            continue
        example = described["components"]["schemas"][schema.rsplit("/", 1)[1]]["example"]
        answer = client.post(path, json=example)
        # An example's columns are of no shop in particular.
        assert answer.is_success or "no '" in answer.json()["detail"], answer.text
        sent += 1
    assert sent >= 6


def test_the_errors_of_a_run_are_ours(service: Service) -> None:
    with pytest.raises(ArtifactError):
        service.answerers.reload(Path("/no/such/run"))


def test_answers_are_json_whatever_numbers_and_texts_they_hold() -> None:
    document = {"a": math.nan, "b": [np.float32(0.5), np.inf], "c": np.int64(3), "d": (True, None)}
    plain = {"a": None, "b": [0.5, None], "c": 3, "d": [True, None]}
    assert json.loads(Json(document).body) == plain
    assert json.loads(Json({**document, "e": "半\ud800"}).body) == {**plain, "e": "半\ud800"}
