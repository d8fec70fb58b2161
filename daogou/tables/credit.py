"""Events to the exposures that they are credited to, and how far each went."""

from collections.abc import Sequence

from daogou.schema import HOUR_US, NEED_DELAYS, Events, Shop
from daogou.tables.engine import Engine, name_of, quoted

ROW, _STAGE, DEEPEST = '"@row"', '"@stage"', '"@deepest"'  # beside columns that a shop names

VALUE, _AFTER = '"@value"', '"@after"'


def delayed(shop: Shop) -> tuple[str, ...]:
    """The stages whose loss learns from how long they took, in the shop's order."""
    asked = {task.name for task in shop.tasks if task.loss in NEED_DELAYS}
    return tuple(stage for stage in (shop.events.stages if shop.events else ()) if stage in asked)


def log_columns(events: Events) -> tuple[str, str, str, str]:
    """The columns of a log that its events are told by."""
    names = (events.user, events.item, events.time, events.kind)
    user, item, time, kind = (name_of(name or "") for name in names)
    return user, item, time, kind


def credit(
    engine: Engine, events: Events, timed: Sequence[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """Make ``credits``: by the row of an exposure in ``events``, the stages it is credited with.

    Of the stages ``timed`` it has the hours to the earliest event that tells of them.

    Returns by stage the events that are credited, and the exposures where it is only implied.
    """
    user, item, time, kind = log_columns(events)
    stages = events.stages
    keys = [user, item, *([name_of(events.request)] if events.request else [])]
    known = f"{time} IS NOT NULL AND {user} IS NOT NULL AND {item} IS NOT NULL"
    told = f"{kind} IN ({', '.join(quoted(stage) for stage in stages)}) AND {known}"
    # Of several exposures at one moment the later row is credited, so only it stays open. Most
    # are followed by nothing and need not be sorted by time.
    engine.run(
        f"CREATE OR REPLACE TABLE open AS SELECT {', '.join(keys)}, {time}, max(rowid) AS {ROW} "
        f"FROM events WHERE {kind} = {quoted(events.funnel[0])} AND {known} "
        f"AND ({', '.join(keys)}) IN (SELECT ({', '.join(keys)}) FROM events WHERE {told}) "
        "GROUP BY ALL"
    )
    depth = " ".join(f"WHEN {quoted(stage)} THEN {k}" for k, stage in enumerate(stages))
    window = " ".join(f"WHEN {k} THEN {events.window_us(s)}" for k, s in enumerate(stages))
    same = " AND ".join(f"happened.{key} = open.{key}" for key in keys)
    # The latest exposure's window runs longest: if it is over, so are those of all before it.
    after_us = f"epoch_us(happened.{time}) - epoch_us(open.{time})"
    amount = f", {value_of(events)} AS {VALUE}" if events.value else ""
    amount += f", ({after_us}) / {HOUR_US} AS {_AFTER}" if timed else ""
    worth = (
        # In order, so that a sum of floats is the same however the events lie.
        f"list_sum(list({VALUE} ORDER BY {VALUE}) FILTER (WHERE stage = {len(stages) - 1} "
        f"AND {VALUE} IS NOT NULL)) AS {VALUE}, "
        if events.value
        else ""
    )
    # A later stage tells that this one has come, so what comes later is no earlier.
    worth += "".join(
        f"min({_AFTER}) FILTER (WHERE stage >= {stages.index(stage)}) "
        f"AS {name_of('delay_' + stage)}, "
        for stage in timed
    )
    engine.run(
        f"CREATE OR REPLACE TABLE credits AS SELECT {ROW}, max(stage) AS {DEEPEST}, "
        f"bit_or(CAST(1 AS BIGINT) << stage) AS stages, {worth}"
        f"{', '.join(f'count(*) FILTER (WHERE stage = {k}) AS n_{k}' for k in range(len(stages)))} "
        f"FROM (SELECT {_STAGE} AS stage, {ROW}{amount} FROM "
        f"(SELECT *, CASE {kind} {depth} END AS {_STAGE} FROM events WHERE {told}) AS happened "
        f"ASOF JOIN open ON {same} AND happened.{time} >= open.{time} WHERE "
        f"{after_us} < CASE {_STAGE} {window} END) "
        "GROUP BY ALL"
    )
    sums = ", ".join(
        f"coalesce(sum(n_{k}), 0), "
        f"count(*) FILTER (WHERE {DEEPEST} >= {k} AND (stages >> {k}) & 1 = 0)"
        for k in range(len(stages))
    )
    row = engine.rows(f"SELECT {sums} FROM credits")[0]
    engine.run("DROP TABLE open")
    credited, implied = row[::2], row[1::2]
    return (
        {stage: int(n) for stage, n in zip(stages, credited, strict=True)},
        {stage: int(n) for stage, n in zip(stages, implied, strict=True)},
    )


def value_of(events: Events) -> str:
    """SQL for the value of a row of ``events``: NULL for what is no number."""
    name = name_of(events.value or "")
    return f"CASE WHEN NOT isnan({name}) THEN {name} END"
