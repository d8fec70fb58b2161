"""Labels credited by hand on small logs, and the laws that any log keeps."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daogou.errors import ConfigError, DataError
from daogou.schema import Events, Shop, Task
from daogou.tables.engine import Engine
from daogou.tables.funnel import Exposed, exposures

START = datetime(2024, 1, 1)
FUNNEL = ("shown", "click", "buy")
LOG = Events(
    "log.parquet",
    user="user_id",
    item="item_id",
    time="ts",
    kind="event",
    funnel=FUNNEL,
    window_h={"click": 1, "buy": 24},
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as made:
        yield made


def shop_of(events: Events, *awaited: str) -> Shop:
    """A shop whose stages ``awaited`` are learnt from their delays."""
    tasks = tuple(Task(stage, "funnel", loss="dfm") for stage in awaited)
    return Shop(root=Path(), events=events, tasks=tasks)


def run_log(
    engine: Engine,
    rows: list[tuple[float, int, int, str]],
    events: Events = LOG,
    awaited: tuple[str, ...] = (),
    **columns: list[object],
) -> Exposed:
    """The log of (hours since the start, user, item, kind), with 99 hours of silence after it."""
    table = pa.table(
        {
            "user_id": pa.array([row[1] for row in rows], pa.int64()),
            "item_id": pa.array([row[2] for row in rows], pa.int64()),
            "ts": pa.array([START + timedelta(hours=row[0]) for row in rows], pa.timestamp("us")),
            "event": [row[3] for row in rows],
            **columns,
        }
    )
    engine.add("events", table)
    return exposures(engine, shop_of(events, *awaited))


QUIET = (1000.0, 0, 0, "noise")  # moves the end of the log, so that no window is still open


def labels(engine: Engine) -> list[tuple[int | None, int | None]]:
    return [
        (click, buy)
        for click, buy in engine.rows(
            "SELECT label_click, label_buy FROM exposures ORDER BY exposure"
        )
    ]


def test_an_event_credits_the_latest_exposure_at_or_before_it(engine: Engine) -> None:
    run_log(
        engine,
        [
            (0, 1, 7, "shown"),
            (0.5, 1, 7, "shown"),
            (0.5, 1, 7, "click"),  # the same moment as the second exposure: credited to it
            (0.6, 1, 8, "shown"),  # another item
            QUIET,
        ],
    )
    assert labels(engine) == [(0, 0), (1, 0), (0, 0)]


def test_a_window_excludes_its_last_moment_and_a_late_event_is_counted(engine: Engine) -> None:
    counts = run_log(
        engine,
        [
            (0, 1, 7, "shown"),
            (1, 1, 7, "click"),  # the click window is [0 h, 1 h)
            (0, 2, 7, "shown"),
            (0.999, 2, 7, "click"),
            QUIET,
        ],
    )
    assert labels(engine) == [(0, 0), (1, 0)]
    assert counts.uncredited == {"click": 1, "buy": 0}


def test_a_later_stage_implies_the_earlier_ones_and_is_counted(engine: Engine) -> None:
    counts = run_log(
        engine,
        [
            (0, 1, 7, "shown"),
            (20, 1, 7, "buy"),  # no click at all, and after the click's window
            (0, 2, 7, "shown"),
            (0.1, 2, 7, "click"),
            (0.2, 2, 7, "buy"),
            QUIET,
        ],
    )
    assert labels(engine) == [(1, 1), (1, 1)]
    assert counts.implied == {"click": 1, "buy": 0}


def test_an_event_before_any_exposure_credits_none(engine: Engine) -> None:
    counts = run_log(engine, [(0, 1, 7, "click"), (1, 1, 7, "shown"), QUIET])
    assert labels(engine) == [(0, 0)]
    assert counts.uncredited["click"] == 1


def test_a_request_ties_an_event_to_its_own_exposure(engine: Engine) -> None:
    rows = [(0.0, 1, 7, "shown"), (0.1, 1, 7, "shown"), (0.2, 1, 7, "click"), QUIET]
    tied = Events(**{**vars(LOG), "request": "slate"})
    run_log(engine, rows, tied, slate=["a", "b", "a", None])
    assert labels(engine) == [(1, 0), (0, 0)]
    run_log(engine, rows)
    assert labels(engine) == [(0, 0), (1, 0)]


def test_a_shops_columns_may_have_any_name(engine: Engine) -> None:
    names = ("stage", "row", "stages", "deepest", "open", "happened", "credits", "exposure")
    rows = [(0.0, 1, 7, "shown"), (0.2, 1, 7, "click"), QUIET]
    columns: dict[str, list[object]] = {name: [name, None, None] for name in names}
    run_log(engine, rows, Events(**{**vars(LOG), "context": names}), (), **columns)
    assert labels(engine) == [(1, 0)]
    chosen = ", ".join(f'"context_{name}"' for name in names)
    assert engine.rows(f"SELECT {chosen} FROM exposures") == [names]


def test_exposures_lie_in_the_order_of_their_numbers_whatever_the_threads() -> None:
    n = 300_000  # more than two row groups, so that two threads write
    with Engine(threads=2) as several:
        several.run(
            "CREATE TABLE events AS SELECT range % 1000 AS user_id, range AS item_id, "
            f"TIMESTAMP '2024-01-01' + to_minutes(range * 7919 % {n // 3}) AS ts, "
            f"'shown' AS event FROM range({n})"
        )
        exposures(several, shop_of(LOG))
        wrong = several.rows(
            "SELECT count(*) FILTER (WHERE exposure <> rowid), count(*) FILTER (WHERE number <> "
            "exposure) FROM (SELECT exposure, rowid, row_number() OVER "
            '(ORDER BY time, "user", request, CAST(id AS BIGINT)) - 1 AS number FROM exposures)'
        )
        assert wrong == [(0, 0)]


def test_of_two_exposures_at_one_moment_the_later_row_is_credited(engine: Engine) -> None:
    run_log(
        engine,
        [(0, 1, 7, "shown"), (0, 1, 7, "shown"), (0.1, 1, 7, "click"), QUIET],
    )
    rows = engine.rows("SELECT id, label_click FROM exposures ORDER BY exposure")
    assert rows == [("0", 0), ("1", 1)]


def test_a_label_whose_window_is_open_at_the_end_is_missing_whatever_happened(
    engine: Engine,
) -> None:
    counts = run_log(
        engine,
        [
            (0, 1, 7, "shown"),
            (3, 2, 7, "shown"),
            (3.5, 2, 7, "buy"),
            (4, 0, 0, "noise"),  # the end of the log: click windows are closed, buy windows not
        ],
    )
    assert labels(engine) == [(0, None), (1, None)]
    assert counts.censored == {"click": 0, "buy": 2}
    assert counts.end == "2024-01-01 04:00:00"


def test_what_is_left_out_is_counted_by_reason(engine: Engine) -> None:
    table = pa.table(
        {
            "user_id": pa.array([1, None, 1, 1], pa.int64()),
            "item_id": pa.array([7, 7, 7, 7], pa.int64()),
            "ts": pa.array([START, START, None, START], pa.timestamp("us")),
            "event": ["shown", "shown", "click", "scroll"],
        }
    )
    engine.add("events", table)
    counts = exposures(engine, shop_of(LOG))
    assert counts.exposures == 1
    assert counts.dropped == {
        "of a kind that nothing uses": 1,
        "without a time that can be read": 1,
        "without user or item": 1,
    }


def test_the_history_holds_the_stages_by_user_and_time(engine: Engine) -> None:
    run_log(
        engine,
        [
            (5, 2, 7, "click"),
            (4, 1, 8, "buy"),
            (3, 1, 7, "click"),
            (0, 1, 7, "shown"),
            QUIET,
        ],
    )
    assert engine.rows('SELECT "user", item, action FROM history') == [
        (1, 7, "click"),
        (1, 8, "buy"),
        (2, 7, "click"),
    ]


def test_exposures_are_numbered_by_time_then_user_then_request(engine: Engine) -> None:
    tied = Events(**{**vars(LOG), "request": "slate", "context": ("scene",)})
    run_log(
        engine,
        [(1, 1, 7, "shown"), (0, 2, 7, "shown"), (0, 1, 8, "shown"), (0, 1, 9, "shown")],
        tied,
        slate=["d", "c", "b", "a"],
        scene=["w", "x", "y", "z"],
    )
    rows = engine.rows(
        "SELECT exposure, id, request, weight, context_scene FROM exposures ORDER BY exposure"
    )
    assert rows == [
        (0, "3", "a", 1.0, "z"),
        (1, "2", "b", 1.0, "y"),
        (2, "1", "c", 1.0, "x"),
        (3, "0", "d", 1.0, "w"),
    ]


def test_a_repeated_or_missing_id_is_refused(engine: Engine) -> None:
    named = Events(**{**vars(LOG), "id": "row_id"})
    rows = [(0.0, 1, 7, "shown"), (1.0, 1, 7, "shown"), QUIET]
    with pytest.raises(DataError, match=r"events\.id: 1 ids are repeated \('a' names 2 exposures"):
        run_log(engine, rows, named, row_id=["a", "a", None])
    with pytest.raises(DataError, match=r"events\.id: 1 exposures have no 'row_id'"):
        run_log(engine, rows, named, row_id=["a", None, None])


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), None])
def test_a_weight_that_is_not_above_zero_is_refused(engine: Engine, weight: float | None) -> None:
    weighed = Events(**{**vars(LOG), "weight": "w"})
    with pytest.raises(DataError, match=r"events\.weight: 1 exposures have no weight above 0"):
        run_log(engine, [(0, 1, 7, "shown"), QUIET], weighed, w=pa.array([weight, 1.0]))


def test_a_log_without_a_usable_exposure_is_refused(engine: Engine) -> None:
    with pytest.raises(DataError, match="no exposure is left"):
        run_log(engine, [(0, 1, 7, "click"), QUIET])


def test_a_wide_tables_rows_are_exposures_and_its_labels_stay_as_they_are(engine: Engine) -> None:
    engine.add("events", pa.table({"age": [30, 40, 50], "rich": ["0", "1", None]}))
    counts = exposures(engine, shop_of(Events("t.csv", labels=("rich",), context=("age",))))
    assert engine.rows(
        'SELECT exposure, id, "user", item, time, request, weight, context_age, label_rich '
        "FROM exposures ORDER BY exposure"
    ) == [
        (0, "0", None, None, None, None, 1.0, 30, 0),
        (1, "1", None, None, None, None, 1.0, 40, 1),
        (2, "2", None, None, None, None, 1.0, 50, None),
    ]
    assert counts.history == 0
    assert engine.columns("history").keys() == {"user", "item", "action", "time"}


def test_a_wide_label_other_than_zero_or_one_is_refused_with_examples(engine: Engine) -> None:
    engine.add("events", pa.table({"rich": [0, 1, 5, 5, 2], "old": [0.0, 1.0, 1.0, None, 0.0]}))
    with pytest.raises(
        DataError, match=r"3 values of 'rich' are not 0 or 1: '5' \(2 times\), '2' \(1 times\)"
    ):
        exposures(engine, shop_of(Events("t.csv", labels=("rich", "old"))))


def test_a_shop_without_events_has_empty_relations(engine: Engine) -> None:
    counts = exposures(engine, Shop(root=Path()))
    assert counts.exposures == 0
    assert engine.rows("SELECT * FROM exposures") == []
    assert list(engine.columns("exposures"))[:4] == ["exposure", "id", "user", "item"]


EVENT = st.tuples(
    st.integers(0, 40).map(lambda quarter: quarter / 4),  # hours, so that many coincide
    st.integers(1, 2),
    st.integers(7, 8),
    st.sampled_from(FUNNEL),
)


def credited(rows: list[tuple[float, int, int, str]]) -> dict[str, tuple[int, int]]:
    """The labels by the plainest reading of the rule: for each event look at every exposure."""
    deepest = {str(n): 0 for n, row in enumerate(rows) if row[3] == "shown"}
    for hours, user, item, kind in rows:
        depth = FUNNEL.index(kind) if kind in FUNNEL else 0
        if depth == 0:
            continue
        before = [
            (rows[int(n)][0], int(n))
            for n in deepest
            if rows[int(n)][1:3] == (user, item)
            and 0 <= hours - rows[int(n)][0] < LOG.window_of(kind)
        ]
        if before:
            latest = str(max(before)[1])
            deepest[latest] = max(deepest[latest], depth)
    return {n: (int(depth >= 1), int(depth >= 2)) for n, depth in deepest.items()}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(EVENT, min_size=1, max_size=25))
def test_labels_equal_the_plain_reading_of_the_rule(
    engine: Engine, log: list[tuple[float, int, int, str]]
) -> None:
    rows = [(0.0, 9, 9, "shown"), *log, QUIET]
    run_log(engine, rows)
    found = {
        name: (click, buy)
        for name, click, buy in engine.rows("SELECT id, label_click, label_buy FROM exposures")
    }
    assert found == credited(rows)
    assert all(buy <= click for click, buy in found.values())
    numbers = [row[0] for row in engine.rows("SELECT exposure FROM exposures")]
    assert numbers == list(range(len(found)))


PAID = replace(LOG, value="amount")


def values(engine: Engine) -> list[float | None]:
    return [row[0] for row in engine.rows("SELECT value FROM exposures ORDER BY exposure")]


def test_an_exposure_s_value_is_the_sum_over_its_credited_events_of_the_last_stage(
    engine: Engine,
) -> None:
    rows: list[tuple[float, int, int, str]] = [
        (0, 1, 7, "shown"),
        (0.1, 1, 7, "click"),
        (0.2, 1, 7, "buy"),
        (0.3, 1, 7, "buy"),
        (1, 1, 8, "shown"),  # only clicked, and worth nothing
        (1.1, 1, 8, "click"),
        (2, 1, 9, "shown"),  # bought, and nobody wrote for how much
        (2.1, 1, 9, "buy"),
        (2.2, 1, 9, "buy"),  # nan is no number
        (50, 1, 9, "buy"),  # too late for the window
        QUIET,
    ]
    nan = float("nan")
    amount = [9.0, 5.0, 20.0, 0.5, 9.0, 5.0, None, None, nan, 8.0, -1.0]
    run_log(engine, rows, PAID, amount=pa.array(amount, pa.float64()))
    assert values(engine) == [20.5, 0.0, None]


def test_a_value_is_the_same_sum_in_whatever_order_the_events_lie(engine: Engine) -> None:
    rows = [(0.0, 1, 7, "shown"), *[(1.0, 1, 7, "buy")] * 3, QUIET]
    found = []
    for paid in ([0.3, 0.2, 0.1], [0.1, 0.2, 0.3], [0.3, 0.1, 0.2]):  # as floats .6 or a bit more
        run_log(engine, rows, PAID, amount=pa.array([None, *paid, None], pa.float64()))
        found += values(engine)
    assert found == [0.1 + 0.2 + 0.3] * 3


def test_a_value_is_censored_with_the_label_of_the_last_stage(engine: Engine) -> None:
    rows: list[tuple[float, int, int, str]] = [
        (0, 1, 7, "shown"),
        (1, 1, 7, "buy"),
        (20, 2, 7, "shown"),
        (21, 2, 7, "buy"),
        (30, 0, 0, "noise"),  # the log ends within a day of the second exposure
    ]
    run_log(engine, rows, PAID, amount=pa.array([None, 4.0, None, 6.0, None], pa.float64()))
    assert labels(engine) == [(1, 1), (1, None)]
    assert values(engine) == [4.0, None]


@pytest.mark.parametrize("amount", [-1.0, float("inf")])
def test_a_value_below_zero_or_without_end_is_refused(engine: Engine, amount: float) -> None:
    rows: list[tuple[float, int, int, str]] = [(0, 1, 7, "shown"), (1, 1, 7, "buy"), QUIET]
    with pytest.raises(DataError, match=r"events\.value: 1 values of 'amount' are below 0"):
        run_log(engine, rows, PAID, amount=pa.array([None, amount, None], pa.float64()))


def test_a_wide_table_s_value_is_the_row_s_own(engine: Engine) -> None:
    engine.add("events", pa.table({"buy": [1, 0, 1], "amount": [2.5, None, 0.0]}))
    exposures(engine, shop_of(Events("wide.parquet", labels=("buy",), value="amount")))
    assert values(engine) == [2.5, None, 0.0]


def test_without_a_value_there_is_no_such_column(engine: Engine) -> None:
    run_log(engine, [(0, 1, 7, "shown"), QUIET])
    assert "value" not in engine.columns("exposures")


def delays(engine: Engine, stage: str) -> list[tuple[float | None, float]]:
    return engine.rows(f"SELECT delay_{stage}, watched_{stage} FROM exposures ORDER BY exposure")


def test_a_delay_is_that_of_the_earliest_event_that_tells_of_the_stage(engine: Engine) -> None:
    rows: list[tuple[float, int, int, str]] = [
        (0, 1, 7, "shown"),
        (0.5, 1, 7, "click"),
        (0.75, 1, 7, "click"),
        (3, 1, 7, "buy"),
        (10, 1, 8, "shown"),  # only a purchase tells of the click, 2 hours after its own window
        (13, 1, 8, "buy"),
        (14, 1, 8, "buy"),
        (20, 1, 9, "shown"),  # a click comes after the purchase that already tells of it
        (20.25, 1, 9, "buy"),
        (20.5, 1, 9, "click"),
        (30, 1, 6, "shown"),  # too late
        (31, 1, 6, "click"),
        QUIET,
    ]
    run_log(engine, rows, awaited=("click", "buy"))
    assert delays(engine, "click") == [(0.5, 1), (3, 1), (0.25, 1), (None, 1)]
    assert delays(engine, "buy") == [(3, 24), (3, 24), (0.25, 24), (None, 24)]


def test_a_censored_label_keeps_its_delay_and_how_long_it_was_watched(engine: Engine) -> None:
    rows: list[tuple[float, int, int, str]] = [
        (0, 1, 7, "shown"),
        (6, 2, 7, "shown"),  # a day after it begins with the end of the log
        (10, 3, 7, "shown"),
        (12, 3, 7, "buy"),
        (20, 4, 7, "shown"),
        (30, 4, 7, "buy"),  # at the very end, which is not before it
    ]
    run_log(engine, rows, awaited=("buy",))
    assert labels(engine) == [(0, 0), (0, 0), (1, None), (1, None)]
    assert delays(engine, "buy") == [(None, 24), (None, 24), (2, 20), (None, 10)]
    assert "delay_click" not in engine.columns("exposures")


def test_where_no_loss_asks_for_delays_there_are_none(engine: Engine) -> None:
    run_log(engine, [(0, 1, 7, "shown"), (0.1, 1, 7, "click"), QUIET])
    assert not [name for name in engine.columns("exposures") if name.startswith("delay")]


def test_a_wide_table_has_no_delays_to_learn_from(engine: Engine) -> None:
    engine.add("events", pa.table({"buy": [1, 0]}))
    with pytest.raises(ConfigError, match=r"tasks\.buy\.loss: 'dfm' learns from delays"):
        exposures(engine, shop_of(Events("wide.parquet", labels=("buy",)), "buy"))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(EVENT, min_size=1, max_size=25))
def test_a_delay_is_there_where_the_label_is_one_and_within_the_window_if_its_own(
    engine: Engine, log: list[tuple[float, int, int, str]]
) -> None:
    run_log(engine, [(0.0, 9, 9, "shown"), *log, QUIET], awaited=("click", "buy"))
    for (click, buy), (click_h, _), (buy_h, watched) in zip(
        labels(engine), delays(engine, "click"), delays(engine, "buy"), strict=True
    ):
        assert (click_h is not None, buy_h is not None) == (click == 1, buy == 1)
        assert buy_h is None or (click_h is not None and click_h <= buy_h < watched == 24)
