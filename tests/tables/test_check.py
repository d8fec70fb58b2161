"""Each check fails on a table made to fail it, and a sound shop passes them all."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daogou.schema import Events, Items, Shop, Truth, Users
from daogou.schema.find import find_tasks
from daogou.tables import prepare
from daogou.tables.check import CHECKS, check
from daogou.tables.checks import log
from daogou.tables.checks.finding import Finding
from daogou.tables.engine import Engine

N_USERS, N_ITEMS, N_DAYS = 40, 30, 40


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as made:
        yield made


def sound() -> dict[str, dict[str, list[Any]]]:
    """A shop without a fault: every user sees an item a day, clicks a third, buys a ninth."""
    events: dict[str, list[Any]] = {name: [] for name in ("u", "i", "t", "k", "scene")}
    for day in range(N_DAYS):
        for user in range(N_USERS):
            n = day * N_USERS + user
            reached = 2 if n % 9 == 0 else 1 if n % 3 == 0 else 0
            for stage in range(reached + 1):
                events["u"].append(user)
                events["i"].append((user * 7 + day) % N_ITEMS)
                events["t"].append(datetime(2024, 1, 1) + timedelta(days=day, minutes=stage))
                events["k"].append(("view", "click", "buy")[stage])
                events["scene"].append(("home", "search")[n % 2])
    return {
        "events": events,
        "items": {
            "i": list(range(N_ITEMS)),
            "title": [f"red boot {i}" for i in range(N_ITEMS)],
            "brand": [f"b{i % 4}" for i in range(N_ITEMS)],
            "spans": [[{"start": 0, "end": 3, "attribute": "colour"}]] * N_ITEMS,
        },
        "users": {
            "u": list(range(N_USERS)),
            "city": [f"c{i % 3}" for i in range(N_USERS)],
            "gender": ["fm"[i % 2] for i in range(N_USERS)],
        },
    }


def describe(folder: Path) -> Shop:
    items = Items(
        "items.parquet",
        key="i",
        text=("title",),
        columns=("brand",),
        attributes=("colour",),
        spans="spans",
    )
    users = Users("users.parquet", key="u", columns=("city",), profile=("gender",))
    events = Events(
        "events.parquet",
        user="u",
        item="i",
        time="t",
        kind="k",
        funnel=("view", "click", "buy"),
        context=("scene",),
    )
    return shop_of(folder, items, users, events)


def shop_of(folder: Path, items: Items | None, users: Users | None, events: Events | None) -> Shop:
    tasks, absent = find_tasks(items, users, events, {})
    return Shop(root=folder, items=items, users=users, events=events, tasks=tasks, absent=absent)


def look(engine: Engine, shop: Shop, tables: dict[str, dict[str, list[Any]]]) -> list[Finding]:
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), shop.root / f"{name}.parquet")
    return check(engine, shop, prepare(engine, shop))


def only(findings: list[Finding], name: str) -> Finding:
    found = [each for each in findings if each.name == name and each.level != "PASS"]
    assert found, f"{name} found nothing"
    return found[0]


def test_a_sound_shop_passes_every_check(engine: Engine, tmp_path: Path) -> None:
    findings = look(engine, describe(tmp_path), sound())
    assert {each.name for each in findings} == set(CHECKS)
    assert [each for each in findings if each.level != "PASS"] == []


def test_ids_without_a_row_are_a_warning_with_their_events(engine: Engine, tmp_path: Path) -> None:
    tables = sound()
    tables["users"] = {name: values[1:] for name, values in tables["users"].items()}
    tables["items"] = {name: values[:-1] for name, values in tables["items"].items()}
    findings = look(engine, describe(tmp_path), tables)
    users, items = only(findings, "orphan_users"), only(findings, "orphan_items")
    assert (users.level, users.examples) == ("WARN", ("0",))
    assert users.count == tables["events"]["u"].count(0)
    assert items.examples == (str(N_ITEMS - 1),)


@pytest.mark.parametrize("at_once", [2**24, 100])
def test_repeated_events_are_counted_beyond_the_first(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(log, "_HASHES", at_once)
    tables = sound()
    none = [each for each in look(engine, describe(tmp_path), tables) if each.level != "PASS"]
    assert none == []
    tables["events"] = {name: [*rows, rows[0], rows[0]] for name, rows in tables["events"].items()}
    finding = only(look(engine, describe(tmp_path), tables), "duplicate_events")
    assert (finding.level, finding.count) == ("WARN", 2)
    assert "(3 times)" in finding.examples[0]


def test_a_label_of_one_class_fails_in_train_and_warns_elsewhere(
    engine: Engine, tmp_path: Path
) -> None:
    tables = sound()
    tables["events"]["k"] = ["click" if k == "buy" else k for k in tables["events"]["k"]]
    findings = [
        each
        for each in look(engine, describe(tmp_path), tables)
        if each.name == "one_class_label" and each.level != "PASS"
    ]
    assert {(each.examples[0], each.level) for each in findings} == {
        ("buy train", "FAIL"),
        ("buy validation", "WARN"),
        ("buy test", "WARN"),
    }
    assert "of the exposures with click in train are 0" in next(
        each.text for each in findings if each.level == "FAIL"
    )


def test_a_window_longer_than_the_log_leaves_no_label(engine: Engine, tmp_path: Path) -> None:
    shop = describe(tmp_path)
    assert shop.events
    long = replace(shop.events, window_h={"buy": 24.0 * 99})
    findings = look(engine, replace(shop, events=long), sound())
    finding = only(findings, "all_labels_missing")
    assert finding.level == "FAIL"
    assert "shorten events.window_h.buy" in finding.text


def test_few_events_and_few_users_are_warnings(engine: Engine, tmp_path: Path) -> None:
    tables = sound()
    tables["events"] = {name: values[:500] for name, values in tables["events"].items()}
    tables["events"]["u"] = [user % 5 for user in tables["events"]["u"]]
    findings = look(engine, describe(tmp_path), tables)
    assert only(findings, "few_events").count == 500
    assert only(findings, "few_users").count == 5


def test_a_stage_that_is_only_implied_is_a_warning(engine: Engine, tmp_path: Path) -> None:
    tables = sound()
    kinds = tables["events"]["k"]
    # The first exposure goes view, click, buy; without its click, buy implies it.
    assert kinds[:3] == ["view", "click", "buy"]
    kinds[1] = "scroll"
    finding = only(look(engine, describe(tmp_path), tables), "later_without_earlier")
    assert (finding.count, finding.examples) == (1, ("click",))


def test_events_without_an_exposure_or_a_time_are_counted(engine: Engine, tmp_path: Path) -> None:
    tables = sound()
    tables["events"]["k"][0] = "scroll"
    tables["events"]["t"][4] = None  # a view without a click
    findings = look(engine, describe(tmp_path), tables)
    assert {
        each.examples[0]: each.count for each in findings if each.name == "uncredited_events"
    } == {"click": 1, "buy": 1}
    assert only(findings, "untimed_events").count == 1


def test_events_out_of_order_pass_and_are_counted(engine: Engine, tmp_path: Path) -> None:
    tables = sound()
    tables["events"] = {name: values[::-1] for name, values in tables["events"].items()}
    findings = look(engine, describe(tmp_path), tables)
    order = next(each for each in findings if each.name == "time_order")
    assert order.level == "PASS"
    assert order.count > N_DAYS - 2


def test_times_far_ahead_fail_and_times_long_ago_warn(engine: Engine, tmp_path: Path) -> None:
    tables = sound()
    tables["events"] = {name: [*rows, rows[0]] for name, rows in tables["events"].items()}
    tables["events"]["t"][-1] = datetime(2999, 1, 1)
    ahead = only(look(engine, describe(tmp_path), tables), "future_times")
    assert (ahead.level, ahead.count, ahead.examples) == ("FAIL", 1, ("2999-01-01 00:00:00",))
    tables["events"]["t"][-1] = datetime(1970, 1, 1)
    assert only(look(engine, describe(tmp_path), tables), "future_times").level == "WARN"


def test_items_without_a_title_are_a_warning(engine: Engine, tmp_path: Path) -> None:
    tables = sound()
    tables["items"]["title"][3:5] = [None, "  "]
    tables["items"]["spans"][3:5] = [[], None]
    finding = only(look(engine, describe(tmp_path), tables), "null_text")
    assert (finding.count, finding.examples) == (2, ("3", "4"))


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (3, 3), (4, 3), (0, 99)])
def test_a_span_outside_its_title_fails(
    engine: Engine, tmp_path: Path, start: int, end: int
) -> None:
    tables = sound()
    tables["items"]["spans"] = [
        [{"start": start, "end": end, "attribute": "colour"}],
        *tables["items"]["spans"][1:],
    ]
    finding = only(look(engine, describe(tmp_path), tables), "spans_out_of_text")
    assert (finding.level, finding.count) == ("FAIL", 1)
    assert finding.examples[0].startswith("0: ")


def test_spans_count_code_points_and_not_bytes(engine: Engine, tmp_path: Path) -> None:
    tables = sound()
    tables["items"]["title"] = ["红👠x"] * N_ITEMS  # three code points, eight bytes
    assert not [
        each
        for each in look(engine, describe(tmp_path), tables)
        if each.name == "spans_out_of_text" and each.level == "FAIL"
    ]
    tables["items"]["title"] = ["红👠"] * N_ITEMS
    finding = only(look(engine, describe(tmp_path), tables), "spans_out_of_text")
    assert finding.count == N_ITEMS
    assert len(finding.examples) == 10


def test_an_attribute_that_no_setting_lists_fails(engine: Engine, tmp_path: Path) -> None:
    tables = sound()
    tables["items"]["spans"] = [[{"start": 0, "end": 3, "attribute": "color"}]] * N_ITEMS
    finding = only(look(engine, describe(tmp_path), tables), "unknown_attribute_in_spans")
    assert (finding.level, finding.count) == ("FAIL", N_ITEMS)


def test_a_profile_of_one_value_fails(engine: Engine, tmp_path: Path) -> None:
    tables = sound()
    tables["users"]["gender"] = ["f"] * N_USERS
    finding = only(look(engine, describe(tmp_path), tables), "profile_column_one_value")
    assert (finding.level, finding.count) == ("FAIL", N_USERS)


def test_a_copy_of_the_label_among_the_inputs_fails(engine: Engine, tmp_path: Path) -> None:
    # A wide table: y is the label, `paid` its copy under other words, `order` filled only if y.
    n = 1200
    y = [i % 7 == 0 for i in range(n)]
    columns: dict[str, list[Any]] = {
        "y": [int(each) for each in y],
        "paid": ["yes" if each else "no" for each in y],
        "order": [i if each else None for i, each in enumerate(y)],
        "honest": [i % 5 for i in range(n)],
    }
    events = Events("events.parquet", labels=("y",), context=("paid", "order", "honest"))
    findings = look(engine, shop_of(tmp_path, None, None, events), {"events": columns})
    leaks = [each for each in findings if each.name == "leaky_context"]
    assert [each.level for each in leaks] == ["FAIL", "FAIL"]
    assert "events.context 'paid' tells exactly where y happened" in leaks[0].text
    assert "'order'" in leaks[1].text


@pytest.mark.parametrize(
    ("told", "reported"),
    [
        (lambda n, y: y, True),  # a copy throughout
        (lambda n, y: y if n < 600 else n % 2, False),  # a copy in the rows of the first glance
        (lambda n, y: n % 2 if n < 600 else y, False),  # a copy in all the others
    ],
)
def test_a_leak_is_one_of_all_rows_and_not_of_the_first(
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: Callable[[int, int], int],
    reported: bool,
) -> None:
    monkeypatch.setattr("daogou.tables.checks.leaks._GLANCE", 600)
    y = [int(n % 7 == 0) for n in range(1200)]
    columns: dict[str, list[Any]] = {"y": y, "paid": [told(n, each) for n, each in enumerate(y)]}
    events = Events("events.parquet", labels=("y",), context=("paid",))
    findings = look(engine, shop_of(tmp_path, None, None, events), {"events": columns})
    assert (
        any(each.name == "leaky_context" and each.level == "FAIL" for each in findings) == reported
    )


def test_a_leak_is_found_whose_label_is_not_in_the_first_rows(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daogou.tables.checks.leaks._GLANCE", 600)
    y = [int(n > 600 and n % 7 == 0) for n in range(1200)]
    columns: dict[str, list[Any]] = {"y": y, "paid": y}
    events = Events("events.parquet", labels=("y",), context=("paid",))
    findings = look(engine, shop_of(tmp_path, None, None, events), {"events": columns})
    assert only(findings, "leaky_context").count == 1200


def test_a_table_may_name_a_column_as_we_name_a_label(engine: Engine, tmp_path: Path) -> None:
    tables = sound()
    tables["items"]["label_click"] = tables["items"]["exposure"] = tables["items"]["brand"]
    shop = describe(tmp_path)
    assert shop.items
    named = replace(shop.items, columns=("brand", "label_click", "exposure"))
    findings = look(engine, replace(shop, items=named), tables)
    assert not [each for each in findings if each.name == "leaky_context" and each.count]


def test_an_input_that_is_the_profile_under_other_names_fails(
    engine: Engine, tmp_path: Path
) -> None:
    tables = sound()
    tables["users"]["city"] = [{"f": 1, "m": 2}[g] for g in tables["users"]["gender"]]
    finding = only(look(engine, describe(tmp_path), tables), "leaky_profile")
    assert (finding.level, finding.examples) == ("FAIL", ("city: gender",))


def test_a_column_of_the_truth_among_the_inputs_fails_and_the_truth_stays_shut(
    engine: Engine, tmp_path: Path
) -> None:
    tables = sound()
    tables["events"]["p_click"] = [0.5] * len(tables["events"]["u"])
    shop = describe(tmp_path)
    assert shop.events
    leaky = replace(shop.events, context=("scene", "p_click"))
    shop = replace(shop, events=leaky, truth=Truth("no/such/folder"))
    finding = only(look(engine, shop, tables), "truth_column_as_feature")
    assert (finding.level, finding.examples) == ("FAIL", ("events.context 'p_click'",))


def test_numbers_that_became_words_are_a_warning(engine: Engine, tmp_path: Path) -> None:
    lines = [f"{i},{i % 2},{i}.5" for i in range(30)]
    lines[4] = "4,0,?"
    (tmp_path / "e.csv").write_text("n,y,price\n" + "\n".join(lines) + "\n")
    shop = shop_of(tmp_path, None, None, Events("e.csv", labels=("y",), context=("price",)))
    finding = only(check(engine, shop, prepare(engine, shop)), "numbers_as_text")
    assert "e.csv line 6: '?'" in finding.examples[0]


def paid(amount: Callable[[int], float | None]) -> dict[str, dict[str, list[Any]]]:
    """The sound shop with an amount for each purchase, the n-th of all events."""
    tables = sound()
    kinds = tables["events"]["k"]
    tables["events"]["amount"] = [
        amount(n) if kind == "buy" else None for n, kind in enumerate(kinds)
    ]
    return tables


def test_values_of_zero_are_a_warning_unless_the_loss_knows_them(
    engine: Engine, tmp_path: Path
) -> None:
    shop = describe(tmp_path)
    assert shop.events is not None
    worth = shop_of(tmp_path, shop.items, shop.users, replace(shop.events, value="amount"))
    findings = look(engine, worth, paid(lambda n: float(n % 2)))
    finding = only(findings, "zero_values")
    assert finding.level == "WARN"
    assert 'set [tasks.value] loss = "zero_inflated"' in finding.text
    tasks = tuple(
        replace(task, loss="zero_inflated") if task.is_value else task for task in worth.tasks
    )
    findings = check(engine, replace(worth, tasks=tasks), prepare(engine, worth))
    assert [each.level for each in findings if each.name == "zero_values"] == ["PASS"]


def test_a_value_that_is_never_above_zero_fails(engine: Engine, tmp_path: Path) -> None:
    shop = describe(tmp_path)
    assert shop.events is not None
    worth = shop_of(tmp_path, shop.items, shop.users, replace(shop.events, value="amount"))
    tables = paid(lambda n: 0.0 if n % 2 else None)
    levels = [each.level for each in look(engine, worth, tables) if each.name == "no_values"]
    assert sorted(levels) == ["FAIL", "WARN", "WARN"]
