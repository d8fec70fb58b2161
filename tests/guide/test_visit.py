from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import torch

from daogou.errors import ConfigError
from daogou.guide import Guide
from daogou.guide.moments import EPOCH, microseconds
from daogou.guide.visit import read_events
from daogou.model.predict import encoded_queries

ITEMS = ["500001", "500007", "500033", "nothing"]


def history(guide: Guide, user: str) -> list[dict[str, Any]]:
    """A user's stored history as live events, oldest first."""
    store = guide.artifact.store
    piece = store.history_slice(store.user_rows[user])
    return [
        {
            "item": guide.catalogue.keys[int(store["history/item"][place])],
            "kind": guide.artifact.transform.actions[int(store["history/action"][place])],
            "time": int(store["history/time"][place]),
        }
        for place in range(piece.start, piece.stop)
    ]


def forgetting(guide: Guide, user: str, keep: int = 0) -> Guide:
    """The same guide, in whose store a user has only their ``keep`` oldest events."""
    store = guide.artifact.store
    row = store.user_rows[user]
    piece = store.history_slice(row)
    gone = slice(piece.start + keep, piece.stop)
    arrays = dict(store.arrays)
    for name in ("item", "action", "time"):
        arrays[f"history/{name}"] = np.delete(store[f"history/{name}"], gone)
    start = np.array(store["users/start"])
    start[row + 1 :] -= gone.stop - gone.start
    arrays["users/start"] = start
    return Guide.of(
        replace(guide.artifact, store=replace(store, arrays=arrays)), new_id=guide.new_id
    )


def answers(guide: Guide, user: str | None, **wishes: Any) -> list[dict[str, Any]]:
    found = [
        guide.recommend(user, **wishes),
        guide.score(user, ITEMS, **wishes),
        guide.match(user, ITEMS, **wishes),
        guide.profile(user, **wishes),
        guide.explain(user, "500001", **wishes),
    ]
    for answer in found:
        answer.pop("events", None)
    # What is usual in the shop is counted over all that is stored, and a user's own rhythm leans
    # on it: with other events in the store both may be a little different.
    for name in ("rhythm", "text"):
        found[3].pop(name)
    return found


def check_alike(found: Any, expected: Any) -> None:
    """Equal documents, but that numbers may be 1e-6 apart."""
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert list(found) == list(expected)
        found, expected = list(found.values()), list(expected.values())
    if isinstance(found, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            check_alike(one, other)
    elif isinstance(found, float):
        assert found == pytest.approx(expected, abs=1e-6)
    else:
        assert found == expected


@pytest.mark.parametrize("keep", [0, 3])
def test_a_history_given_live_answers_as_the_stored_one(
    guide: Guide, regular: str, keep: int
) -> None:
    events = history(guide, regular)
    assert len(events) > 6
    expected = answers(guide, regular, at=guide.scorer.now)
    forgetful = forgetting(guide, regular, keep)
    found = answers(forgetful, regular, events=events[keep:][::-1], at=guide.scorer.now)
    for one, other in zip(found, expected, strict=True):
        check_alike(one, other)
    less = answers(forgetful, regular, at=guide.scorer.now)
    assert less[1] != expected[1], "or the events were not read and the test would show nothing"


def test_an_anonymous_session_is_an_unknown_user_with_the_same_events(
    guide: Guide, regular: str
) -> None:
    events = history(guide, regular)[-5:]
    session, stranger = (guide.score(who, ITEMS, events=events) for who in (None, "a stranger"))
    assert session["user"] is None and not session["known"]
    assert session["items"] == stranger["items"]
    assert session["items"] != guide.score(None, ITEMS, events=[])["items"]


def test_live_events_come_on_top_of_what_is_stored(guide: Guide, regular: str) -> None:
    later = guide.scorer.now + 3_600_000_000
    event = {"item": "500001", "kind": "click", "time": later}
    asks = guide.ranker.visit(regular, [event], None)
    past = guide.scorer.past(asks.queries)
    stored = guide.scorer.past(guide.scorer.queries([asks.row]))
    assert past.now == later + 1, "now is just after the newest event"
    read = [guide.catalogue.row("500001"), *stored.item.tolist()]
    assert past.item.tolist() == read[: guide.artifact.history_length]


def test_no_more_is_read_than_the_model_was_trained_on(guide: Guide, regular: str) -> None:
    length = guide.artifact.history_length
    event = {"item": "500001", "kind": "click"}
    past = guide.scorer.past(guide.ranker.visit(regular, [event] * (length + 9), None).queries)
    assert past.item.tolist() == [guide.catalogue.row("500001")] * length


def test_nothing_at_or_after_the_moment_is_read(guide: Guide, regular: str) -> None:
    moment = guide.scorer.now
    late = [{"item": "500001", "kind": "click", "time": moment + wait} for wait in (0, 1)]
    found = guide.score(regular, ITEMS, events=late, at=moment)
    assert found.pop("events")["read"] == 0
    assert found == guide.score(regular, ITEMS, at=moment)


def test_a_query_reads_no_live_event_after_its_moment(guide: Guide, regular: str) -> None:
    """Also when whoever made the query did not look."""
    asks = guide.ranker.visit(regular, [{"item": "500001", "kind": "click"}], None)
    assert asks.queries.live is not None
    early = guide.scorer.queries([asks.row], guide.scorer.start, asks.queries.live)
    assert len(guide.scorer.past(early).item) == 0


def test_an_exposure_that_histories_hold_too_is_done_and_shown(guide: Guide) -> None:
    """As where a shop's log begins with a product's page: the store counts it as both."""
    artifact = guide.artifact
    assert artifact.shop.events is not None
    events = replace(artifact.shop.events, funnel=("click", "cart", "purchase"))
    scorer = replace(
        guide.scorer, artifact=replace(artifact, shop=replace(artifact.shop, events=events))
    )
    done = {1: "click", 2: "cart", 3: "click"}
    given = [{"item": guide.catalogue.keys[row], "kind": kind} for row, kind in done.items()]
    live, shown, _, told = read_events(scorer, guide.catalogue, given, None)
    assert live.item.tolist() == [1, 2, 3] and shown.item.tolist() == [1, 3]
    assert told == {"read": 3, "ignored": []} and scorer.kinds == artifact.transform.actions


def test_what_cannot_be_read_is_ignored_and_told(guide: Guide, regular: str) -> None:
    good = {"item": 500001, "kind": "click", "time": "2024-01-01T00:00:00Z"}
    bad: list[Any] = [
        {"item": "nothing", "kind": "click"},
        {"item": "500001", "kind": "clik"},
        {"item": "500001", "kind": "shown"},
        {"item": "500001", "kind": "click", "time": "yesterday"},
        {"item": "500001", "kind": "click", "time": 1.5},
        {"kind": "click"},
        {},
        "a click",
        None,
    ]
    told = guide.score(regular, ITEMS, events=[*bad, good])["events"]
    assert told["read"] == 1
    assert [line["event"] for line in told["ignored"]] == list(range(len(bad)))
    assert told["ignored"][1]["reason"].startswith("kind: no 'clik' here (did you mean 'click'?)")
    assert told["ignored"][3]["reason"] == (
        "time: 'yesterday'; give ISO 8601 or microseconds since 1970, a whole number"
    )


def test_no_events_are_told_as_none_and_change_nothing(guide: Guide, regular: str) -> None:
    found = guide.score(regular, ITEMS, events=[])
    assert found.pop("events") == {"read": 0, "ignored": []}
    assert found == guide.score(regular, ITEMS)


@pytest.mark.parametrize("events", [{"item": 1}, "clicks", 3])
def test_what_is_no_list_of_events_is_refused(guide: Guide, events: Any) -> None:
    with pytest.raises(ConfigError, match="events: a list of"):
        guide.score("100001", ITEMS, events=events)


def test_times_are_read_in_every_spelling() -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    wanted = (moment - EPOCH) // timedelta(microseconds=1)
    for spelt in (moment, moment.replace(tzinfo=None), "2024-01-01", "2024-01-01T08:00:00+08:00"):
        assert microseconds(spelt) == wanted
    assert microseconds(wanted) == wanted


def test_users_are_read_as_training_reads_them(guide: Guide) -> None:
    """The served path makes no batch, and must make of users what batches make of them."""
    artifact = guide.artifact
    queries = guide.scorer.queries([0, 3, 7, 11])
    found = guide.scorer.shoppers(queries)
    ((batch, encoded),) = encoded_queries(
        artifact.model, artifact.store, queries, history_length=artifact.history_length
    )
    assert found is not None and found.encoded.users is not None and encoded.users is not None
    torch.testing.assert_close(found.encoded.users, encoded.users, atol=1e-5, rtol=0)
    assert set(found.columns.tensors) == set(batch.users.tensors)
