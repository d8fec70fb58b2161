"""Cuts worked by hand, and the law that no exposure of a later split is before an earlier one."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daogou.errors import ConfigError, DataError
from daogou.schema import Events, Items, Shop, Split, Task, Users
from daogou.tables.cuts import counted, numbered, taught_until
from daogou.tables.engine import Engine
from daogou.tables.funnel import exposures
from daogou.tables.leave import keep_latest
from daogou.tables.split import Divided, split, split_part

START = datetime(2024, 1, 1)
LOG = Events(
    "log.parquet",
    user="user_id",
    item="item_id",
    time="ts",
    kind="event",
    funnel=("shown", "click"),
    window_h={"click": 1},
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as made:
        yield made


def cut_log(
    engine: Engine,
    hours: list[float],
    setting: Split | None = None,
    events: Events = LOG,
    **columns: Any,
) -> Divided:
    """Split a log with one exposure of its own item at each hour, and 99 more of silence."""
    times = [START + timedelta(hours=hour) for hour in hours]
    table = pa.table(
        {
            "user_id": pa.array([1] * len(hours), pa.int64()),
            "item_id": pa.array(range(len(hours)), pa.int64()),
            "ts": pa.array(times, pa.timestamp("us")),
            "event": ["shown"] * len(hours),
            **columns,
        }
    )
    silence = {name: [None] for name in columns} | {
        "user_id": [1],
        "item_id": [-1],
        "ts": [max(times) + timedelta(hours=99)],
        "event": ["noise"],
    }
    noise = pa.table(
        {
            name: pa.array(silence[name], table.schema.field(name).type)
            for name in table.column_names
        }
    )
    engine.add("events", pa.concat_tables([table, noise]))
    shop = Shop(root=Path(), events=events, split=setting or Split())
    exposures(engine, shop)
    return split(engine, shop)


def words(engine: Engine) -> list[str]:
    return [row[0] for row in engine.rows("SELECT split FROM exposures ORDER BY exposure")]


def test_shares_are_cut_from_the_end(engine: Engine) -> None:
    found = cut_log(engine, [float(i) for i in range(10)], Split(validation=0.2, test=0.3))
    assert words(engine) == ["train"] * 5 + ["validation"] * 2 + ["test"] * 3
    assert found.exposures == {"train": 5, "validation": 2, "test": 3}
    assert (found.validation_from, found.test_from) == (
        "2024-01-01 05:00:00",
        "2024-01-01 07:00:00",
    )


def test_a_part_leaves_out_requests_that_are_on_another_side_in_another_part(
    engine: Engine,
) -> None:
    moments = [START + timedelta(hours=hour) for hour in range(4)]
    rows = {"user_id": [1] * 4, "item_id": [1, 2, 3, 4], "ts": moments, "event": ["shown"] * 4}
    engine.add("events", pa.table(rows | {"request": ["a", "b", "b", "c"]}))
    shop = Shop(root=Path(), events=replace(LOG, request="request"), split=Split())
    exposures(engine, shop)
    engine.add("straddling", pa.table({"request": ["b"]}))
    found = split_part(engine, shop, (None, "2024-01-01 03:00:00"))
    assert engine.rows("SELECT item, split FROM exposures ORDER BY exposure") == [
        (1, "train"),
        (4, "test"),
    ]
    assert sum(found.dropped.values()) == 2 and found.exposures["train"] == 1


def test_a_log_teaches_until_its_last_exposure_that_stays(engine: Engine) -> None:
    moments = [START + timedelta(hours=hour) for hour in range(10)]
    requests = [None] * 6 + ["a", "b", "b", "c"]  # b lies on both sides of hour 8
    engine.add("exposures", pa.table({"time": moments, "request": requests}))
    engine.add("straddling", pa.table({"request": ["b"]}))
    cuts = "2024-01-01 08:00:00", "2024-01-01 09:00:00"
    assert taught_until(engine, cuts) == "2024-01-01 06:00:00"
    assert taught_until(engine, (None, cuts[1])) == "2024-01-01 06:00:00"
    assert taught_until(engine, (None, None)) == "2024-01-01 09:00:00"


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    times=st.lists(st.integers(-(10**12), 10**12) | st.integers(0, 3), min_size=1, max_size=30),
    share=st.floats(0, 1),
)
def test_a_place_in_time_is_found_by_counting_as_by_numbers(
    times: list[int], share: float, engine: Engine
) -> None:
    times.sort()
    moments = pa.array([START + timedelta(microseconds=each) for each in times])
    engine.add("exposures", pa.table({"time": moments, "exposure": range(len(times))}))
    place = round(share * (len(times) - 1))
    assert counted(engine, place) == numbered(engine, place)
    assert numbered(engine, place)[0][0] == times.index(times[place])


def test_one_timestamp_goes_to_one_split(engine: Engine) -> None:
    # 8 of 10 at one moment: the nearest border to a tenth from the end is after them.
    cut_log(engine, [0.0, *[1.0] * 7, 2.0, 3.0], Split(validation=0.1, test=0.1))
    assert words(engine) == ["train"] * 8 + ["validation", "test"]


def test_given_times_win_over_shares_and_zones_are_understood(engine: Engine) -> None:
    setting = Split(validation_from="2024-01-01T04:00:00+01:00", test_from="2024-01-01T08:00:00")
    found = cut_log(engine, [float(i) for i in range(10)], setting)
    assert found.exposures == {"train": 3, "validation": 5, "test": 2}
    assert found.validation_from == "2024-01-01 03:00:00"


def test_a_share_of_validation_is_the_last_before_a_given_test(engine: Engine) -> None:
    setting = Split(validation=0.2, test_from="2024-01-01T06:00:00")
    cut_log(engine, [float(i) for i in range(10)], setting)
    assert words(engine) == ["train"] * 4 + ["validation"] * 2 + ["test"] * 4


def test_a_request_on_both_sides_of_a_cut_is_dropped_and_counted(engine: Engine) -> None:
    slated = Events(**{**vars(LOG), "request": "slate"})
    found = cut_log(
        engine,
        [float(i) for i in range(10)],
        Split(validation=0.2, test=0.2),
        slated,
        slate=["a", "a", "b", "b", "c", "x", "x", "d", "e", "e"],
    )
    # Validation starts at 6 h, in the middle of slate x; two exposures go.
    assert words(engine) == ["train"] * 5 + ["validation"] + ["test"] * 2
    assert found.dropped == {"of a request that lies on both sides of a cut": 2}
    assert engine.value("SELECT max(exposure) FROM exposures") == 7


def test_a_label_still_open_at_the_end_of_its_split_is_missing(engine: Engine) -> None:
    hours = [0.0, 4.0, 4.5, 5.0, 6.0, 6.5, 7.0, 8.0]
    setting = Split(validation_from="2024-01-01T05:00:00", test_from="2024-01-01T07:00:00")
    found = cut_log(engine, hours, setting)
    rows = engine.rows("SELECT split, label_click FROM exposures ORDER BY exposure")
    # A window of 1 h: the one from 4 h closes at 5 h sharp and is known, that from 4.5 h is not.
    assert rows == [
        ("train", 0),
        ("train", 0),
        ("train", None),
        ("validation", 0),
        ("validation", 0),
        ("validation", None),
        ("test", 0),
        ("test", 0),
    ]
    assert found.censored == {
        "train": {"click": 1},
        "validation": {"click": 1},
        "test": {"click": 0},
    }


def test_no_delay_after_the_end_of_a_split_can_be_seen(engine: Engine) -> None:
    """Exposures at hours 0, 4, 4.25, 4.5 and 5, clicked half an hour (the second: 1 h) later."""
    rows = [
        *((0.0, 1, "shown"), (0.5, 1, "click")),
        *((4.0, 2, "shown"), (5.0, 2, "click")),
        *((4.25, 3, "shown"), (4.75, 3, "click")),
        *((4.5, 4, "shown"), (5.0, 4, "click")),  # in the moment in which validation begins
        *((4.75, 5, "shown"), (5.25, 5, "click")),
        *((5.0, 6, "shown"), (5.5, 6, "click")),
        *((7.0, 7, "shown"), (7.5, 7, "click")),
        (99.0, 0, "noise"),
    ]
    table = pa.table(
        {
            "user_id": pa.array([1] * len(rows), pa.int64()),
            "item_id": pa.array([row[1] for row in rows], pa.int64()),
            "ts": pa.array([START + timedelta(hours=row[0]) for row in rows], pa.timestamp("us")),
            "event": [row[2] for row in rows],
        }
    )
    engine.add("events", table)
    shop = Shop(
        root=Path(), events=Events(**{**vars(LOG), "window_h": {"click": 2}}),
        tasks=(Task("click", "funnel", loss="dfm"),),
        split=Split(validation_from="2024-01-01T05:00:00", test_from="2024-01-01T07:00:00"),
    )  # fmt: skip
    exposures(engine, shop)
    split(engine, shop)
    found = engine.rows(
        "SELECT item, label_click, delay_click, watched_click FROM exposures ORDER BY exposure"
    )
    assert found == [
        (1, 1, 0.5, 2.0),
        (2, None, None, 1.0),
        (3, None, 0.5, 0.75),
        (4, None, None, 0.5),
        (5, None, None, 0.25),
        (6, 1, 0.5, 2.0),
        (7, 1, 0.5, 2.0),
    ]


def test_too_few_times_are_refused_with_the_way_out(engine: Engine) -> None:
    with pytest.raises(DataError, match=r"too few different times.*\[events\] split"):
        cut_log(engine, [1.0, 1.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (Split(validation=0.6, test=0.4), "leave nothing to train on"),
        (Split(validation=-0.1), r"split\.validation: -0\.1 is not a share"),
        (Split(folds=2), r"split\.folds: 2; three splits need 3 or more"),
        (Split(fold=5), r"split\.fold: 5 is not between 0 and 4"),
        (Split(test_from="soon"), r"split\.test_from: 'soon' is not an ISO time"),
        (
            Split(validation_from="2024-01-02", test_from="2024-01-01"),
            "validation must be before test",
        ),
    ],
)
def test_settings_that_leave_no_three_splits_are_refused(
    engine: Engine, setting: Split, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        cut_log(engine, [float(i) for i in range(10)], setting)


def test_a_split_without_an_exposure_is_refused(engine: Engine) -> None:
    with pytest.raises(DataError, match=r"split: test has no exposure \(train 9, validation 1"):
        cut_log(engine, [float(i) for i in range(10)], Split(test_from="2030-01-01"))


def test_the_shops_own_column_wins_and_an_empty_one_drops_the_row(engine: Engine) -> None:
    given_split = Events(**{**vars(LOG), "split": "part"})
    part = ["train", "train", None, "validation", "test"]
    found = cut_log(engine, [0.0, 1.0, 2.0, 3.0, 4.0], Split(), given_split, part=part)
    assert words(engine) == ["train", "train", "validation", "test"]
    assert found.dropped == {"whose split column is empty": 1}
    assert (found.validation_from, found.test_from) == (
        "2024-01-01 03:00:00",
        "2024-01-01 04:00:00",
    )


def test_splits_that_overlap_in_time_are_noted_and_keep_their_labels(engine: Engine) -> None:
    given_split = Events(**{**vars(LOG), "split": "part"})
    found = cut_log(
        engine, [0.0, 0.1, 0.2], Split(), given_split, part=["test", "train", "validation"]
    )
    assert found.censored["train"] == {"click": 0}
    assert "overlap in time" in found.notes[0]


def test_without_a_validation_word_the_last_of_train_is_taken(engine: Engine) -> None:
    given_split = Events(**{**vars(LOG), "split": "part"})
    found = cut_log(
        engine,
        [float(i) for i in range(12)],
        Split(validation=0.2),
        given_split,
        part=["train"] * 10 + ["test"] * 2,
    )
    assert words(engine) == ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
    assert "names no validation" in found.notes[0]


def test_another_word_in_a_split_column_is_refused(engine: Engine) -> None:
    given_split = Events(**{**vars(LOG), "split": "part"})
    with pytest.raises(DataError, match=r"events\.split: 2 rows say 'dev' \(2 times\)"):
        cut_log(engine, [0.0, 1.0, 2.0], Split(), given_split, part=["train", "dev", "dev"])


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), min_size=12, max_size=40),
    st.floats(0.05, 0.4),
    st.floats(0.05, 0.4),
)
def test_every_train_exposure_is_before_validation_and_that_before_test(
    engine: Engine, rows: list[tuple[int, int]], validation: float, test: float
) -> None:
    slated = Events(**{**vars(LOG), "request": "slate"})
    try:
        cut_log(
            engine,
            [float(hour) for hour, _ in rows],
            Split(validation=validation, test=test),
            slated,
            slate=[f"{hour // 2}-{slate}" for hour, slate in rows],
        )
    except DataError:
        return  # too few times, or a split lost all its requests: refused, not silently cut
    bounds = {
        word: (first, last)
        for word, first, last in engine.rows(
            "SELECT split, min(time), max(time) FROM exposures GROUP BY split"
        )
    }
    assert bounds["train"][1] < bounds["validation"][0]
    assert bounds["validation"][1] < bounds["test"][0]
    assert not engine.rows(
        "SELECT request FROM exposures GROUP BY request HAVING count(DISTINCT split) > 1"
    )


def flat_shop(engine: Engine, n: int, setting: Split) -> Divided:
    engine.add("events", pa.table({"x": list(range(n)), "y": [i % 2 for i in range(n)]}))
    shop = Shop(root=Path(), events=Events("t.csv", labels=("y",)), split=setting)
    exposures(engine, shop)
    return split(engine, shop)


def test_validation_rows_may_teach_and_the_test_stays_what_it_is(engine: Engine) -> None:
    before = cut_log(engine, list(range(50)))
    told = words(engine)
    engine.add("items", pa.table({"sku": list(range(99)), "title": [f"t {i}" for i in range(99)]}))
    shop = Shop(root=Path(), events=LOG, items=Items("i.csv", key="sku", text=("title",)))
    exposures(engine, shop)
    apart = split(engine, shop)
    exposures(engine, shop)
    found = split(engine, shop, validation_teaches=True)
    assert told.count("validation") > 1
    assert words(engine) == [word.replace("validation", "train") for word in told]
    assert (found.validation_from, found.test_from) == (None, before.test_from)
    assert apart.titles["validation"] > 1 and found.titles["validation"] == 0
    assert found.titles["test"] == apart.titles["test"] > 1


def test_rows_without_a_time_fall_by_hash_in_the_asked_shares(engine: Engine) -> None:
    found = flat_shop(engine, 10_000, Split(validation=0.2, test=0.3))
    # Standard deviations are 40 and 46 of 10,000; five of them are allowed.
    assert abs(found.exposures["validation"] - 2000) < 200
    assert abs(found.exposures["test"] - 3000) < 230
    first = words(engine)
    flat_shop(engine, 10_000, Split(validation=0.2, test=0.3))
    assert words(engine) == first


def test_users_and_titles_fall_by_fold_and_folds_share_no_test(engine: Engine) -> None:
    engine.add("users", pa.table({"user_id": list(range(1000)), "g": ["a"] * 1000}))
    engine.add(
        "items", pa.table({"sku": ["x", "y", "z"], "title": ["Red Ｂoot ", "red  boot", ""]})
    )
    items = Items("i.csv", key="sku", text=("title",))
    users = Users("u.csv", key="user_id")
    tested = []
    for fold in range(5):
        shop = Shop(root=Path(), items=items, users=users, split=Split(fold=fold))
        exposures(engine, shop)
        found = split(engine, shop)
        assert found.users["test"] + found.users["validation"] + found.users["train"] == 1000
        assert 140 < found.users["test"] < 260
        test = {r[0] for r in engine.rows("SELECT \"user\" FROM user_split WHERE split = 'test'")}
        tested.append(test)
        sides = dict(engine.rows("SELECT item, split FROM title_split"))
        assert sides["x"] == sides["y"]  # one title but for width, case and spaces
        assert len(sides) == 3
    assert set.union(*tested) == set(range(1000))
    assert sum(len(test) for test in tested) == 1000


def test_an_item_column_without_validation_gives_a_tenth_of_train(engine: Engine) -> None:
    n = 2000
    engine.add(
        "items",
        pa.table(
            {
                "sku": list(range(n)),
                "title": [f"title {i}" for i in range(n)],
                "part": ["test" if i < 100 else "train" for i in range(n)],
            }
        ),
    )
    shop = Shop(root=Path(), items=Items("i.csv", key="sku", text=("title",), split="part"))
    exposures(engine, shop)
    found = split(engine, shop)
    assert found.titles["test"] == 100
    assert 130 < found.titles["validation"] < 250
    assert "items.split names no validation" in found.notes[0]


def test_a_users_fold_is_the_low_half_of_the_md5_of_its_key(engine: Engine) -> None:
    # Computed apart from DuckDB: a version that hashed otherwise would shuffle every split.
    def side(user: int) -> str:
        digest = hashlib.md5(f"user:{user}".encode()).digest()
        return ["test", "validation", "train", "train", "train"][
            int.from_bytes(digest[8:], "little") % 5
        ]

    engine.add("users", pa.table({"user_id": list(range(50))}))
    shop = Shop(root=Path(), users=Users("u.csv", key="user_id"))
    exposures(engine, shop)
    split(engine, shop)
    assert dict(engine.rows("SELECT * FROM user_split")) == {user: side(user) for user in range(50)}


def test_what_a_shop_lacks_is_an_empty_relation(engine: Engine) -> None:
    shop = Shop(root=Path())
    exposures(engine, shop)
    found = split(engine, shop)
    assert found.exposures == {"train": 0, "validation": 0, "test": 0}
    assert list(engine.columns("user_split")) == ["user", "split"]
    assert list(engine.columns("title_split")) == ["item", "split"]
    assert list(engine.columns("exposures"))[-1] == "split"


# ---- a shop that opened later -----------------------------------------------------------------


def test_the_latest_training_exposures_are_kept_and_no_history_from_before(engine: Engine) -> None:
    cut_log(engine, [float(hour) for hour in range(20)])  # 16 of training, 2 and 2
    engine.run("INSERT INTO history SELECT 1, 5, 'click', time FROM exposures WHERE item < 16")
    keep_latest(engine, 3)
    rows = engine.rows("SELECT exposure, item, split FROM exposures ORDER BY exposure")
    assert rows == [
        (0, 13, "train"), (1, 14, "train"), (2, 15, "train"), (3, 16, "validation"),
        (4, 17, "validation"), (5, 18, "test"), (6, 19, "test"),
    ]  # fmt: skip
    assert engine.rows("SELECT rowid FROM exposures") == [(place,) for place in range(7)]
    assert engine.value("SELECT count(*) FROM history") == 3
    keep_latest(engine, 99)
    assert engine.value("SELECT count(*) FROM exposures") == 7
