"""Checks of a log: whose events they are, of what, when, and how many."""

from collections.abc import Iterable
from typing import Final

from daogou.schema import Shop
from daogou.tables import Counts
from daogou.tables.checks.finding import EXAMPLES, Finding
from daogou.tables.engine import Engine, name_of
from daogou.tables.read.source import pointers

FEW_EVENTS: Final = 1000
FEW_USERS: Final = 25  # with two events or more; the floors that hosted recommenders ask for

_HASHES: Final = 2**24  # of events that are counted at a time: 0.5 GB


def _orphans(engine: Engine, shop: Shop, counts: Counts, table: str) -> Iterable[Finding]:
    for pointed, column, key in pointers(shop):
        count = counts.read.orphans.get(pointed, 0)
        if pointed != table or not count:
            continue
        ids = engine.rows(
            f"SELECT DISTINCT {name_of(column)} FROM events WHERE {name_of(column)} IS NOT NULL "
            f"AND {name_of(column)} NOT IN (SELECT {name_of(key)} FROM {table}) "
            f"ORDER BY 1 LIMIT {EXAMPLES}"
        )
        yield Finding(
            f"orphan_{table}",
            "WARN",
            count,
            tuple(str(row[0]) for row in ids),
            f"{count} events name a {column} without a row in {table}; they are treated as "
            f"unknown {table}: add the rows if there are any",
        )


def late_events(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Later events that are older than the log of the run that they go on from."""
    if counts.late:
        yield Finding(
            "late_events",
            "FAIL",
            counts.late,
            (),
            f"{counts.late} events of the later files are older than the log of the run that the "
            "fit goes on from; if they are in that log too they would count twice: give what came "
            "after it, or waive this check to take them as history and labels",
        )


def orphan_users(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Events of users that the table of users lacks."""
    return _orphans(engine, shop, counts, "users")


def orphan_items(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Events of products that the catalogue lacks."""
    return _orphans(engine, shop, counts, "items")


def duplicate_events(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Events that repeat another."""
    events = shop.events
    if not events or not events.funnel:
        return
    names = (events.user, events.item, events.time, events.kind, events.request)
    columns = ", ".join(name_of(name) for name in names if name)
    # Rows that are alike have one hash, so a hash for every row spares grouping by five columns.
    # Hashes that are counted cannot leave memory, so of many events a part is counted at a time.
    parts = 1 + int(engine.value("SELECT count(*) FROM events")) // _HASHES
    if not any(
        engine.value(
            f"SELECT count(*) - count(DISTINCT h) FROM (SELECT hash({columns}) AS h FROM events) "
            f"WHERE h % {parts} = {part}"
        )
        for part in range(parts)
    ):
        return
    count = int(
        engine.value(
            "SELECT coalesce(sum(n - 1), 0) FROM "
            f"(SELECT count(*) AS n FROM events GROUP BY {columns} HAVING count(*) > 1)"
        )
    )
    if count:
        rows = engine.rows(
            f"SELECT {columns}, count(*) FROM events GROUP BY ALL HAVING count(*) > 1 "
            f"ORDER BY count(*) DESC, 1, 2, 3 LIMIT {EXAMPLES}"
        )
        yield Finding(
            "duplicate_events",
            "WARN",
            count,
            tuple(" ".join(map(str, row[:-1])) + f" ({row[-1]} times)" for row in rows),
            f"{count} events repeat another in user, item, time and kind; "
            "remove them where the file is written if they are an export's fault",
        )


def few_events(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """A log too short to learn from."""
    count = counts.read.rows.get("events")
    if count is not None and count < FEW_EVENTS:
        yield Finding(
            "few_events",
            "WARN",
            count,
            (),
            f"{count} events are fewer than {FEW_EVENTS}; expect wide intervals, or give more days",
        )


def few_users(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Users with a past that are too few to learn from."""
    events = shop.events
    if not events or not events.user:
        return
    user = name_of(events.user)
    count = int(
        engine.value(
            f"SELECT count(*) FROM (SELECT {user} FROM events WHERE {user} IS NOT NULL "
            "GROUP BY 1 HAVING count(*) > 1)"
        )
    )
    if count < FEW_USERS:
        yield Finding(
            "few_users",
            "WARN",
            count,
            (),
            f"{count} users have two events or more, fewer than {FEW_USERS}; "
            "check that the user column names people, not visits",
        )


def later_without_earlier(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Events of a stage whose earlier stage never came."""
    for stage, count in counts.funnel.implied.items():
        if count:
            yield Finding(
                "later_without_earlier",
                "WARN",
                count,
                (stage,),
                f"{count} exposures have a later stage and no {stage}, which is implied; "
                "check that every page logs it",
            )


def uncredited_events(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Events that no exposure explains."""
    for stage, count in counts.funnel.uncredited.items():
        if count:
            yield Finding(
                "uncredited_events",
                "WARN",
                count,
                (stage,),
                f"{count} {stage} events have no exposure of their user and item before them "
                f"within {shop.events.window_of(stage) if shop.events else 0:g} h; "
                "lengthen events.window_h, or log the exposures of every page",
            )


def untimed_events(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Events without a time."""
    if counts.read.untimed:
        yield Finding(
            "untimed_events",
            "WARN",
            counts.read.untimed,
            (),
            f"{counts.read.untimed} events have no time that can be read and are left out; "
            "write ISO 8601 or epoch numbers",
        )


def time_order(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Events that stand after a later one."""
    if not shop.events or not shop.events.time:
        return
    time = name_of(shop.events.time)
    count = int(
        engine.value(
            f"SELECT count(*) FROM (SELECT {time} < lag({time}) OVER () AS back FROM events) "
            "WHERE back"
        )
    )
    yield Finding(
        "time_order",
        "PASS",
        count,
        (),
        f"{count} events stand after a later one; order is not needed",
    )


def future_times(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Times that are no shop's."""
    if not shop.events or not shop.events.time:
        return
    time = name_of(shop.events.time)
    for level, condition, text in (
        (
            "FAIL",
            f"{time} >= TIMESTAMP '2100-01-01'",
            "are after 2100, which moves the end of the log and of every window; correct them",
        ),
        (
            "WARN",
            f"{time} < TIMESTAMP '1990-01-01'",
            "are before 1990; check the unit, unless times count from an origin of their own",
        ),
    ):
        count = int(engine.value(f"SELECT count(*) FROM events WHERE {condition}"))
        if count:
            rows = engine.rows(
                f"SELECT DISTINCT CAST({time} AS VARCHAR) FROM events WHERE {condition} "
                f"ORDER BY 1 LIMIT {EXAMPLES}"
            )
            yield Finding(
                "future_times",
                "FAIL" if level == "FAIL" else "WARN",
                count,
                tuple(str(row[0]) for row in rows),
                f"{count} times {text}",
            )
