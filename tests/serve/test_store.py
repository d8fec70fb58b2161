"""Laws of the store, on each database: durable, idempotent, forgetting, and back."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from daogou.errors import ConfigError, DataError, MissingExtra
from daogou.serve import tables
from daogou.serve.database import StoreError
from daogou.serve.events import Event
from daogou.serve.keys import Key
from daogou.serve.store import Request, Store
from daogou.serve.tables import ABOUT_ITEMS, EVENTS, KEYS, META, METADATA
from tests.serve.conftest import NOW_US, ROOT, Clock


def event(name: str, **changes: Any) -> Event:
    made = Event(name, "click", "boot", NOW_US, NOW_US, user_id="ann")
    return dataclasses.replace(made, **changes)


def fill(store: Store) -> None:
    """Something of everything about Ann and Bob, and what Ann did before she said who she is."""
    store.add_events([event("0", user_id=None, session_id="s1", item_id="sock")])
    store.log_request(Request("r0", NOW_US, ["sock", "boot"], session_id="s1"))
    store.add_events(
        [
            event("1", session_id="s1", value=2.5, position=1, request_id="r0"),
            event("2", user_id="bob", fields={"page": "红色", "n": [1, None, 0.5]}),
        ]
    )
    store.add_events(
        [event("3", user_id=None, session_id="s1"), event("4", user_id=None, session_id="s2")]
    )
    store.items.put({"boot": ({"title": "Boot"}, False), "sock": ({}, True)})
    store.users.put({"ann": ({"city": "Wien"}, False), "bob": ({}, False)})
    store.edit("ann", {"gender": "F"}, {"material": ["wool", "silk"]})
    store.edit("bob", {"gender": "M"}, {})
    store.log_request(Request("r1", NOW_US, ["boot"], "ann", None, "home", "a"))


# ---- events -------------------------------------------------------------------------------


def test_events_wait_for_the_disk_and_what_was_shown_does_not(store: Store) -> None:
    is_file = store.database.engine.dialect.name == "sqlite"
    asked = "PRAGMA synchronous" if is_file else "SHOW synchronous_commit"
    synced: list[tuple[str, bool]] = []

    def look(connection: sa.Connection, clause: object, *_: object) -> None:
        if isinstance(clause, sa.sql.dml.Insert):
            found = connection.exec_driver_sql(asked).scalar()
            synced.append((clause.table.name, found in (2, "on")))

    sa.event.listen(store.database.engine, "before_execute", look)
    for _ in range(2):
        store.add_events([event("1")])
        store.log_request(Request(f"r{len(synced)}", NOW_US, ["boot"], "ann"))
    assert synced == [("events", True), ("requests", False)] * 2


def test_events_come_back_as_they_went_in_oldest_first(store: Store) -> None:
    late = event("1", time_us=NOW_US + 5, fields={"深": {"a": [1, 2.5, None, True]}}, value=0.1)
    early = event("2", time_us=NOW_US - 5, request_id="r", position=0)
    assert store.add_events([late, early, event("3", user_id="bob")]) == [True] * 3
    assert store.events_of(user="ann") == [early, late]
    assert store.events_of(user="ann", last=1) == [late]
    assert store.events_of(user="nobody") == []
    assert store.events_of() == []


def test_the_same_event_id_again_changes_nothing_and_is_told(store: Store) -> None:
    first = event("1")
    assert store.add_events([first]) == [True]
    other = event("1", item_id="sock", user_id="bob")
    assert store.add_events([other, event("2"), other, event("2")]) == [False, True, False, False]
    assert store.events_of(user="ann") == [first, event("2")]


def test_of_two_rows_with_one_id_in_a_batch_the_first_is_kept(store: Store) -> None:
    assert store.add_events([event("1"), event("1", item_id="sock")]) == [True, False]
    assert [each.item_id for each in store.events_of(user="ann")] == ["boot"]


def test_more_events_than_a_statement_takes_are_all_kept(store: Store) -> None:
    many = [event(str(number), time_us=NOW_US + number) for number in range(2300)]
    assert store.add_events(many) == [True] * 2300
    assert store.events_of(user="ann", last=5000) == many


def test_no_event_is_no_trouble(store: Store) -> None:
    assert store.add_events([]) == []


def test_a_session_becomes_the_user_s_when_an_event_names_both(store: Store) -> None:
    fill(store)
    assert [each.event_id for each in store.events_of(user="ann")] == ["0", "1"]
    found = store.request("r0")
    assert found is not None and found.user_id == "ann"


def test_a_session_s_events_are_those_that_are_nobody_s(store: Store) -> None:
    fill(store)
    assert [each.event_id for each in store.events_of(session="s1")] == ["3"]
    assert [each.event_id for each in store.events_of(user="ann", session="s2")] == ["0", "1", "4"]


def test_a_duplicate_merges_no_session(store: Store) -> None:
    store.add_events([event("1"), event("2", user_id=None, session_id="s")])
    store.add_events([event("1", user_id="bob", session_id="s")])
    assert store.events_of(user="bob") == []


def test_writers_at_once_lose_nothing_and_count_each_event_once(
    opened: Callable[[], Store],
) -> None:
    """Four writers with a store of their own send the same 100 events, each in its own order."""
    told: list[bool] = []

    def write(store: Store, step: int) -> None:
        order = [(place * step) % 101 for place in range(1, 101)]
        for start in range(0, 100, 10):
            told.extend(store.add_events([event(str(n)) for n in order[start : start + 10]]))

    threads = [threading.Thread(target=write, args=(opened(), step)) for step in (1, 2, 3, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(told), sum(told)) == (400, 100)


_WRITER = """
import sys
from daogou.serve.events import Event
from daogou.serve.store import Store
store = Store.open(sys.argv[1])
for number in range(100_000):
    store.add_events([Event(f"{sys.argv[2]}-{number}", "click", "boot", 1, 1, user_id="ann")])
    print(number, flush=True)
"""


@pytest.mark.slow
def test_an_accepted_event_survives_a_kill(url: str, opened: Callable[[], Store]) -> None:
    """The writer says that an event is accepted, and is killed with no warning, three times."""
    for life in range(3):
        command = [sys.executable, "-c", _WRITER, url, str(life)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
            assert writer.stdout is not None
            accepted = [writer.stdout.readline() for _ in range(20 + 17 * life)]
            os.kill(writer.pid, signal.SIGKILL)
            accepted += writer.stdout.readlines()
        assert writer.returncode == -signal.SIGKILL
        whole = [line.strip() for line in accepted if line.endswith("\n")]
        store = opened()
        kept = {each.event_id for each in store.events_of(user="ann", last=1_000_000)}
        assert {f"{life}-{number}" for number in whole} <= kept


def test_sqlite_writes_ahead_and_syncs_each_commit(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 's.db'}")
    with store.database.engine.connect() as connection:
        asked = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous")
        ]
    store.close()
    assert asked == ["wal", 2]  # 2 is FULL


def test_a_write_that_fails_has_changed_nothing(store: Store) -> None:
    wrong = event("2", item_id=None)
    with pytest.raises(StoreError):
        store.add_events([event("1"), wrong])
    assert store.counts()["events"] == 0


# ---- products and users -------------------------------------------------------------------


def test_changes_at_once_are_all_kept(opened: Callable[[], Store]) -> None:
    """Each of four writers changes a field of its own, twenty times."""
    opened().items.put({"boot": ({}, False)})

    def write(store: Store, mine: str) -> None:
        for number in range(20):
            store.items.change("boot", {mine: number}, None)

    threads = [threading.Thread(target=write, args=(opened(), name)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = opened().items.get("boot")
    assert found is not None and found.fields == dict.fromkeys("abcd", 19)


@pytest.mark.parametrize("table", ["items", "users"])
def test_things_are_written_changed_paged_and_removed(
    store: Store, clock: Clock, table: str
) -> None:
    things = getattr(store, table)
    things.put({name: ({"title": name}, False) for name in ("b", "a", "c")})
    assert [each.key for each in things.page()] == ["a", "b", "c"]
    assert [each.key for each in things.page(after="a", limit=1)] == ["b"]
    clock.us += 10
    things.put({"a": ({"title": "new"}, False)})
    changed = things.change("b", {"title": None, "price": 3.5}, None)
    assert changed == things.get("b")
    assert changed is not None and changed.fields == {"price": 3.5}
    assert [each.key for each in things.page() if each.updated_us >= clock.us] == ["a", "b"]
    assert things.change("none", {}, None) is None
    assert (things.remove("a"), things.remove("a")) == (True, False)
    assert things.get("a") is None


def test_a_product_is_hidden_and_shown_again(store: Store) -> None:
    store.items.put({"a": ({}, True)})
    changed = store.items.change("a", {"price": 1}, None)
    assert changed is not None and changed.hidden
    changed = store.items.change("a", {}, False)
    assert changed is not None and not changed.hidden and changed.fields == {"price": 1}


# ---- edits --------------------------------------------------------------------------------


def test_edits_replace_by_column_and_null_lets_go(store: Store) -> None:
    store.edit("ann", {"gender": "F", "city": 3}, {"material": ["wool", "silk", "wool"]})
    assert store.edits_of("ann") == {
        "set": {"gender": "F", "city": 3},
        "forbid": {"material": ["silk", "wool"]},
    }
    store.edit("ann", {"gender": None, "city": "Wien"}, {"material": None, "brand": ["x"]})
    assert store.edits_of("ann") == {"set": {"city": "Wien"}, "forbid": {"brand": ["x"]}}
    assert store.edits_of("bob") == {"set": {}, "forbid": {}}
    assert store.clear_edits("ann") == 2
    assert store.edits_of("ann") == {"set": {}, "forbid": {}}


# ---- what was shown -----------------------------------------------------------------------


def test_what_was_shown_is_a_row_for_each_product(store: Store) -> None:
    store.log_request(Request("r1", NOW_US, ["sock", "红 boot"], "ann", None, "home", "a"))
    store.log_request(Request("r2", NOW_US, []))
    with store.database.engine.begin() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM shown ORDER BY position").all()
    assert [tuple(row) for row in rows] == [
        ("r1:0", "sock", NOW_US, "ann", None, "r1", 0, "home", "a"),
        ("r1:1", "红 boot", NOW_US, "ann", None, "r1", 1, "home", "a"),
    ]


# ---- forgetting ---------------------------------------------------------------------------


def test_forgetting_a_user_removes_every_trace_and_says_what(store: Store) -> None:
    fill(store)
    before = store.counts()
    removed = store.forget("ann")
    assert removed == {"events": 3, "users": 1, "edits": 3, "requests": 2}
    assert store.counts() == {name: before[name] - removed.get(name, 0) for name in before}
    assert "ann" not in str(list(store.export()))
    assert "s1" not in str(list(store.export()))
    assert store.edits_of("bob")["set"] == {"gender": "M"}
    assert store.forget("ann") == dict.fromkeys(removed, 0)


def test_no_table_knows_a_user_that_forgetting_does_not_look_into() -> None:
    know = {table.name for table in METADATA.sorted_tables if "user_id" in table.columns}
    assert know == set(tables.OF_USERS)


def test_no_byte_of_a_forgotten_user_stays_in_sqlite_s_files(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 's.db'}")
    store.add_events([event(str(n), user_id="zenobia") for n in range(500)])
    store.add_events([event(f"b{n}") for n in range(500)])

    def files_with(word: bytes) -> list[str]:
        return [path.name for path in tmp_path.iterdir() if word in path.read_bytes()]

    assert files_with(b"zenobia")
    store.forget("zenobia")
    found = files_with(b"zenobia")
    store.close()
    assert found == []


# ---- export and back ----------------------------------------------------------------------


def test_an_export_taken_in_elsewhere_exports_the_same(
    store: Store, tmp_path: Path, clock: Clock
) -> None:
    fill(store)
    store.keys.add(Key("k1", "shop", "admin", "digest", NOW_US))
    lines = list(store.export())
    assert "digest" not in str(lines)
    other = Store.open(f"sqlite:///{tmp_path / 'other.db'}", clock=clock)
    added = other.restore(lines)
    again = list(other.export())
    twice = other.restore(lines)
    other.close()
    assert again == lines
    assert added == store.counts()
    assert set(twice.values()) == {0}


def test_what_is_there_already_stays_when_an_export_is_taken_in(store: Store) -> None:
    fill(store)
    lines = list(store.export())
    store.items.put({"boot": ({"title": "New"}, False)})
    store.restore(lines)
    found = store.items.get("boot")
    assert found is not None and found.fields == {"title": "New"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("row", 'line 2: {"table", "row"} is wanted'),
        ({"table": "keys", "row": {}}, "line 2: no table 'keys'"),
        ({"table": "users", "row": {"user_id": "x"}}, r"missing or strange: \['fields', 'upd"),
        (
            {"table": "users", "row": {"user_id": 1, "fields": {}, "updated_us": 1}},
            "users.user_id: 1 is of another type",
        ),
    ],
)
def test_a_line_that_no_export_writes_is_refused_and_nothing_is_taken_in(
    store: Store, line: Any, message: str
) -> None:
    good = {"table": "users", "row": {"user_id": "x", "fields": {}, "updated_us": 1}}
    with pytest.raises(DataError, match=message):
        store.restore([good, line])
    assert store.counts()["users"] == 0


# ---- keys ---------------------------------------------------------------------------------


def test_what_a_group_of_servers_answers_from_is_its_own(store: Store) -> None:
    assert store.groups.wanted("a") == ("", None)
    first = store.groups.want("a", {"main": "运行"})
    store.groups.want("b", {"main": "other"})
    assert store.groups.wanted("a") == (first, {"main": "运行"})
    again = store.groups.want("a", {"main": "运行"})
    assert again != first and store.groups.wanted("a")[0] == again
    store.groups.want("a", None)
    assert store.groups.wanted("a") == ("", None)
    assert store.groups.wanted("b")[1] == {"main": "other"}


def test_what_groups_answered_from_that_were_killed_is_let_go_of_after_a_day(
    store: Store, clock: Clock
) -> None:
    for group in ("killed", "alive"):
        store.groups.want(group, {"main": group})
    mark, _ = store.groups.wanted("alive")
    for _ in range(30):
        clock.us += 3_600_000_001
        assert store.groups.wanted("alive") == (mark, {"main": "alive"})
    store.groups.forget()
    assert store.groups.wanted("killed") == ("", None)
    assert store.groups.wanted("alive") == (mark, {"main": "alive"})


def test_two_servers_that_are_asked_for_runs_at_once_both_say_so(
    opened: Callable[[], Store],
) -> None:
    told: list[str] = []
    store = opened()
    with store.database.engine.begin() as first:
        first.execute(sa.insert(META).values(name="runs a", value="{}"))
        second = opened() if store.database.engine.dialect.name == "postgresql" else store
        groups = second.groups
        thread = threading.Thread(target=lambda: told.append(groups.want("a", {"main": "b"})))
        thread.start()
        thread.join(0.5)
        assert not told  # it waits for the first
    thread.join(60)
    assert told == [store.groups.wanted("a")[0]]


def test_keys_are_kept_listed_and_taken_away(store: Store) -> None:
    keys = [Key(f"k{n}", "shop", "public", "d", NOW_US + n) for n in range(2)]
    for key in reversed(keys):
        store.keys.add(key)
    assert store.keys.all() == keys
    assert store.keys.get("k1") == keys[1]
    assert (store.keys.remove("k1"), store.keys.remove("k1")) == (True, False)
    assert store.keys.get("k1") is None


# ---- opening ------------------------------------------------------------------------------


def test_a_store_opened_again_has_what_it_had(opened: Callable[[], Store]) -> None:
    fill(opened())
    before = list(opened().export())
    assert list(opened().export()) == before


def test_an_older_store_is_brought_up_step_by_step_and_keeps_its_rows(
    opened: Callable[[], Store],
) -> None:
    old = opened()
    fill(old)
    with old.database.engine.begin() as connection:
        for index in ABOUT_ITEMS:
            index.drop(connection)
        connection.execute(sa.update(META).where(META.c.name == "version").values(value="1"))
    rows = list(old.export())
    for _ in range(2):  # the second time there is nothing to do
        new = opened()
        found = {each["name"] for each in sa.inspect(new.database.engine).get_indexes(EVENTS.name)}
        assert {str(index.name) for index in ABOUT_ITEMS} <= found
        assert list(new.export()) == rows


def test_a_store_of_a_newer_release_is_refused(opened: Callable[[], Store]) -> None:
    with opened().database.engine.begin() as connection:
        connection.execute(sa.update(META).values(value="99"))
    with pytest.raises(DataError, match="version 99 and this release knows 2"):
        opened()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("store.db", "not the URL of a database; write sqlite:///"),
        ("mysql://localhost/x", "'mysql' is no database that is known here"),
        ("postgresql://localhost/x", "write .*postgresql\\+psycopg"),
        ("sqlite://", "in memory would lose every event"),
        ("sqlite:///:memory:", "in memory would lose every event"),
    ],
)
def test_a_url_of_another_kind_is_refused(wrong: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Store.open(wrong)


def test_a_database_that_is_not_there_is_told_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be reached") as told:
        Store.open("postgresql+psycopg://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(told.value)
    with pytest.raises(StoreError, match="cannot be reached"):
        Store.open(f"sqlite:///{tmp_path / 'no' / 'folder.db'}")


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_text("a note, not a database" * 100)
    with pytest.raises(StoreError, match="refused or cannot be reached"):
        Store.open(f"sqlite:///{tmp_path / 's.db'}")


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"pip install 'daogou\[postgres\]'"):
        Store.open("postgresql+psycopg://localhost/x")


def test_an_event_s_fields_are_the_columns_of_its_table() -> None:
    for made, table in ((Event, EVENTS), (Key, KEYS), (Request, tables.REQUESTS)):
        assert {each.name for each in dataclasses.fields(made)} == set(table.columns.keys())


def test_each_write_of_products_has_a_version_and_a_later_time(store: Store) -> None:
    versions, times = [store.items.version()], []

    def written() -> None:
        versions.append(store.items.version())
        times.append(store.items.written().get("a", 0))

    assert versions == [""]
    store.items.put({"a": ({}, False), "b": ({"c": 1}, True)})
    written()
    store.items.put({"a": ({}, False)})  # at the same moment of the clock
    written()
    store.items.change("a", {"d": 2}, None)
    written()
    assert times == sorted(set(times))
    (found,) = store.items.of(["a", "nothing"])
    assert (found.key, found.fields, found.updated_us) == ("a", {"d": 2}, times[-1])
    store.items.remove("a")
    written()
    assert store.items.written().keys() == {"b"} and list(store.items.of([])) == []
    store.users.put({"a": ({"city": "x"}, False)})
    assert store.users.version() == "" and store.users.written().keys() == {"a"}
    assert [each.fields for each in store.users.of(["a", "b"])] == [{"city": "x"}]
    assert len(set(versions)) == len(versions)
    store.users.put({"a": ({}, False)})
    assert store.items.version() == versions[-1]


def test_events_about_a_product_are_its_last_with_the_visit_of_whoever_has_no_user(
    store: Store,
) -> None:
    store.add_events(
        [
            event("a", time_us=1, user_id="u"),
            event("b", time_us=3, user_id=None, session_id="s", request_id="r"),
            event("c", time_us=2, user_id="u"),
            event("d", time_us=4, user_id="u", item_id="other"),
            event("e", time_us=5, user_id="u", kind="cart"),
        ]
    )
    wanted = [("u", "boot", "click", 2, None), ("visit:s", "boot", "click", 3, "r")]
    assert store.events_about("boot", 2, kinds=["click"], last=9) == wanted
    assert store.events_about("boot", 0, kinds=["click"], last=2) == wanted
    assert [row[3] for row in store.events_about("boot", 0, kinds=["click", "cart"], last=1)] == [5]


def test_what_arrived_is_told_in_order_and_no_more_than_is_asked_for(store: Store) -> None:
    store.add_events(
        [event(name, received_us=at, item_id=name) for name, at in (("a", 3), ("b", 1), ("c", 2))]
    )
    store.add_events([event("d", received_us=4, kind="cart")])
    assert store.arrived(2, kinds=["click"], most=9) == [("c", 2), ("a", 3)]
    assert store.arrived(0, kinds=["click"], most=1) == [("b", 1)]
