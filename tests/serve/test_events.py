"""Rows of clients: what is an event, and the reasons why others are none."""

import re
from typing import Any

import pytest

from daogou.serve.events import read_event, read_events
from daogou.serve.values import document, iso, microseconds
from tests.serve.conftest import NOW_US

KINDS = ("impression", "click", "purchase")
ROW = {"kind": "click", "user": "ann", "item": "boot"}


def read(row: object) -> Any:
    return read_event(row, kinds=KINDS, now_us=NOW_US)


def test_a_row_with_little_in_it_is_an_event_of_now() -> None:
    made = read(ROW)
    assert (made.kind, made.user_id, made.item_id) == ("click", "ann", "boot")
    assert made.time_us == made.received_us == NOW_US
    assert read(ROW).event_id != made.event_id


def test_a_timed_row_that_is_sent_twice_is_one_event() -> None:
    row = {**ROW, "time": "2026-11-01T00:00:00Z"}
    assert read(row).event_id == read(dict(reversed(row.items()))).event_id
    assert read(row).event_id != read({**row, "item": "sock"}).event_id


def test_ids_that_are_numbers_become_text() -> None:
    made = read({"kind": "click", "user": 17, "item": 2**63, "session": "s"})
    assert (made.user_id, made.item_id) == ("17", "9223372036854775808")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("click", "an object is wanted"),
        (None, "an object is wanted"),
        ({"kind": "click", "user": "ann"}, "item: missing, and there is no default"),
        ({**ROW, "kind": "clck"}, "kind: no 'clck' here (did you mean 'click'?)"),
        ({**ROW, "usr": 1}, "usr: no 'usr' here (did you mean 'user'?)"),
        ({"kind": "click", "item": "boot"}, "whose event is it?"),
        ({**ROW, "user": ""}, "user: an id has 1 to 256 characters, this one has 0"),
        ({**ROW, "user": "x" * 300}, "this one has 300"),
        ({**ROW, "user": True}, "an id is wanted, text or a whole number, found True"),
        ({**ROW, "user": 1.5}, "found 1.5"),
        ({**ROW, "user": 10**30}, "beyond 64 bits"),
        ({**ROW, "item": "a\x00b"}, "holds a NUL character"),
        ({**ROW, "item": "a\ud800"}, "holds half a character at 1"),
        ({**ROW, "item": None}, "item: input should be a valid string"),
        ({**ROW, "time": "yesterday"}, "time: 'yesterday' is no time"),
        ({**ROW, "time": [1]}, "[1] is no time"),
        ({**ROW, "time": True}, "True is no time"),
        ({**ROW, "time": 1e300}, "1e+300 is no time"),
        ({**ROW, "time": float("nan")}, "nan is no time"),
        ({**ROW, "time": -5}, "-5 is before 1970"),
        ({**ROW, "time": "0001-01-01T00:00:00+14:00"}, "is before 1970"),
        ({**ROW, "time": (NOW_US + 601_000_000) / 1e6}, "ahead of this clock"),
        ({**ROW, "position": -1}, "position: input should be greater than or equal to 0"),
        ({**ROW, "position": 1 << 31}, "position: input should be less than"),
        ({**ROW, "position": "1"}, "position: input should be a valid integer"),
        ({**ROW, "value": float("inf")}, "value: input should be a finite number"),
        ({**ROW, "value": -1}, "value: input should be greater than or equal to 0"),
        ({**ROW, "fields": [1]}, "fields: an object is wanted, found [1]"),
        ({**ROW, "fields": {"a": "\x00"}}, "fields: a: holds a NUL character"),
        ({**ROW, "fields": {"a": float("nan")}}, "fields: a: nan is no number of JSON"),
        ({**ROW, "fields": {"a": "x" * 70_000}}, "64000 are the most"),
    ],
)
def test_a_row_that_is_no_event_says_why(row: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read(row)


def test_all_reasons_of_a_row_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"item: .*; time: .*"):
        read({"kind": "click", "user": 1, "time": "x"})


def test_wrong_rows_stand_in_no_right_one_s_way() -> None:
    found, wrong = read_events([ROW, {}, {**ROW, "kind": "no"}, ROW], kinds=KINDS, now_us=NOW_US)
    assert sorted(found) == [0, 3]
    assert sorted(wrong) == [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-28T12:00:00.5+08:00", "2026-11-28 04:00:00.500", "2026-11-28T04:00:00.5Z",
        1_795_838_400.5, 1_795_838_400_500, 1_795_838_400_500_000,
    ],
)  # fmt: skip
def test_one_moment_in_every_spelling(value: object) -> None:
    assert iso(microseconds(value)) == "2026-11-28T04:00:00.500000+00:00"


def test_a_document_nested_without_end_is_refused() -> None:
    deep: Any = {}
    for _ in range(20):
        deep = {"a": [deep]}
    with pytest.raises(ValueError, match="nested more than 8 deep"):
        document(deep)
