"""Events to exposures with labels, and to the histories that an exposure may look back on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from daogou.errors import ConfigError, DataError
from daogou.schema import Events, Shop
from daogou.tables.censor import censor, windowed
from daogou.tables.credit import DEEPEST, ROW, VALUE, credit, delayed, log_columns, value_of
from daogou.tables.engine import Engine, name_of, quoted

_TRUE: Final = "('1', '1.0', 'true', 't', 'yes')"

_FALSE: Final = "('0', '0.0', 'false', 'f', 'no')"


@dataclass(frozen=True)
class Exposed:
    """What became of the events. Made by `exposures`."""

    exposures: int
    history: int
    end: str | None  # the last event's time, UTC, or until when was asked
    dropped: Mapping[str, int]  # reason -> events (a log) or rows (a wide table) left out
    implied: Mapping[str, int]  # stage -> exposures where only a later stage tells of it
    uncredited: Mapping[str, int]  # stage -> events that no open exposure claims
    censored: Mapping[str, int]  # stage -> labels whose window closes after the log's end


def exposures(engine: Engine, shop: Shop, until: str | None = None) -> Exposed:
    """Make the tables ``exposures`` and ``history`` from ``events``.

    In a log, an event credits the latest exposure of the same user and item (and request, if
    there is one) at or before it whose window still runs, and implies every earlier stage.
    In a wide table a row is an exposure and its labels are taken as they are. The log ends at
    ``until``, a time in UTC; None is its last event.

    Where the shop names a value, ``exposures`` has a column ``value``: of a log the sum over the
    credited events of the last stage, 0 where none came and NULL where none says its amount;
    censored as that stage's label is.

    For a stage whose loss asks for it, see `delayed`, there are ``delay_<stage>``, the hours to the
    earliest credited event of the stage or of a later one, and ``watched_<stage>``, for how many
    hours of its window the exposure was watched. A censored label keeps both.

    Raises `ConfigError` where a wide table is asked for delays, and `DataError` where a label is
    not 0 or 1, an exposure's id is missing or repeated, a weight is not above 0, a value is below
    0 or not finite, or no exposure is left.
    """
    events = shop.events
    if events is None:
        engine.run(
            "CREATE OR REPLACE TABLE exposures AS SELECT CAST(NULL AS BIGINT) AS exposure, "
            f"{_common(engine, shop, Events(''))} LIMIT 0"
        )
        _make_no_history(engine)
        return Exposed(0, 0, None, {}, {}, {}, {})
    check_events(engine, shop)
    made = make_exposures(engine, shop)
    check_some(engine, made.dropped)
    check_exposures(engine, events)
    end = until or end_of(engine, events)
    return replace(made, end=end, censored=_censor(engine, shop, end))


def make_exposures(engine: Engine, shop: Shop, until: str | None = None) -> Exposed:
    """`exposures`, but that nothing is checked, and the log ends at ``until`` or not at all."""
    events = shop.events
    assert events is not None
    timed = delayed(shop)
    uncredited: Mapping[str, int] = {}
    implied: Mapping[str, int] = {}
    if events.funnel:
        usable, dropped = _counts(engine, events)
        credited, implied = credit(engine, events, timed)
        uncredited = {stage: usable.get(stage, 0) - credited[stage] for stage in events.stages}
        _show(engine, events, timed, _common(engine, shop, events))
        _make_history(engine, events)
    else:
        dropped = _widen(engine, events, _common(engine, shop, events))
        _make_no_history(engine)
    return Exposed(
        exposures=int(engine.value("SELECT count(*) FROM exposures")),
        history=int(engine.value("SELECT count(*) FROM history")),
        end=until,
        dropped={reason: count for reason, count in dropped.items() if count},
        implied=implied,
        uncredited=uncredited,
        censored=_censor(engine, shop, until),
    )


def end_of(engine: Engine, events: Events) -> str | None:
    """The last event's time, UTC."""
    if not events.time:
        return None
    end: str | None = engine.value(
        f"SELECT CAST(max({name_of(events.time)}) AS VARCHAR) FROM events"
    )
    return end


def check_events(engine: Engine, shop: Shop) -> None:
    """What `exposures` raises before it has made any."""
    events = shop.events
    assert events is not None
    _check_values(engine, events)
    _check_labels(engine, events)
    timed = delayed(shop)
    if timed and not events.funnel:
        raise ConfigError(
            f"tasks.{timed[0]}.loss: {shop.task(timed[0]).loss!r} learns from delays, which only a "
            'log with a funnel tells; take "conditional"'
        )


def check_some(engine: Engine, dropped: Mapping[str, int]) -> None:
    """What `exposures` raises if it made none; ``dropped`` says why."""
    if not engine.value("SELECT count(*) FROM (FROM exposures LIMIT 1)"):
        raise DataError(
            f"events.path: no exposure is left of {sum(dropped.values())} rows ({_why(dropped)}); "
            "correct the table or the settings of [events]"
        )


def check_exposures(engine: Engine, events: Events) -> None:
    """What `exposures` raises of the ids and weights of those that it made."""
    _check_ids(engine, events)
    _check_weights(engine, events)


def is_exposure(events: Events) -> str:
    """SQL for: a row of ``events`` becomes an exposure."""
    if not events.funnel:
        return f"{name_of(events.time)} IS NOT NULL" if events.time else "true"
    user, item, time, kind = log_columns(events)
    return (
        f"{kind} = {quoted(events.funnel[0])} AND {time} IS NOT NULL "
        f"AND {user} IS NOT NULL AND {item} IS NOT NULL"
    )


def _why(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count) or "none"


def _make_no_history(engine: Engine) -> None:
    engine.run(
        'CREATE OR REPLACE TABLE history AS SELECT "user", item, CAST(NULL AS VARCHAR) AS action, '
        "time FROM exposures LIMIT 0"
    )


def _common(engine: Engine, shop: Shop, events: Events) -> str:
    """The columns of ``exposures`` that need no look at other rows."""
    # A missing key has the type of the table it would point to, so that joins need no cast.
    user = engine.columns("users")[shop.users.key] if shop.users else "BIGINT"
    item = engine.columns("items")[shop.items.key] if shop.items else "BIGINT"

    def given(column: str | None, otherwise: str) -> str:
        return name_of(column) if column else otherwise

    columns = [
        f"CAST({given(events.id, 'rowid' if shop.events else 'NULL')} AS VARCHAR) AS id",
        f'{given(events.user, f"CAST(NULL AS {user})")} AS "user"',
        f"{given(events.item, f'CAST(NULL AS {item})')} AS item",
        f"{given(events.time, 'CAST(NULL AS TIMESTAMP)')} AS time",
        f"CAST({given(events.request, 'NULL')} AS VARCHAR) AS request",
        f"{given(events.weight, '1.0::DOUBLE')} AS weight",
        *(f"{name_of(each)} AS {name_of('context_' + each)}" for each in events.context),
    ]
    if events.split:
        columns.append(f"{name_of(events.split)} AS split")
    return ", ".join(columns)


def _counts(engine: Engine, events: Events) -> tuple[dict[str, int], dict[str, int]]:
    """The log's usable events by kind, and how many nothing can use by reason."""
    user, item, time, kind = log_columns(events)
    used = {*events.funnel, *_history(events)}
    usable: dict[str, int] = {}
    other = untimed = anonymous = 0
    for word, n, n_untimed, n_anonymous in engine.rows(
        f"SELECT {kind}, count(*), count(*) FILTER (WHERE {time} IS NULL), count(*) FILTER "
        f"(WHERE {time} IS NOT NULL AND ({user} IS NULL OR {item} IS NULL)) FROM events GROUP BY 1"
    ):
        if word not in used:
            other += n
            continue
        untimed += n_untimed
        anonymous += n_anonymous
        usable[word] = n - n_untimed - n_anonymous
    return usable, {
        "of a kind that nothing uses": other,
        "without a time that can be read": untimed,
        "without user or item": anonymous,
    }


def _history(events: Events) -> tuple[str, ...]:
    return tuple(events.history_kinds)


def _show(engine: Engine, events: Events, timed: Sequence[str], common: str) -> None:
    """``exposures`` of a log, numbered in order of time, with the labels that ``credits`` tells."""
    labels = ", ".join(
        f"CAST(coalesce({DEEPEST}, -1) >= {k} AS TINYINT) AS {name_of('label_' + stage)}"
        for k, stage in enumerate(events.stages)
    )
    if events.value:
        # Where the last stage never came nothing was paid, which is not the same as not known.
        came = f"coalesce({DEEPEST}, -1) = {len(events.stages) - 1}"
        labels += f", CASE WHEN {came} THEN {VALUE} ELSE 0 END AS value"
    told = f"{DEEPEST}, {VALUE}" if events.value else DEEPEST
    for stage in timed:
        delay, window_h = name_of(f"delay_{stage}"), events.window_of(stage)
        labels += f", {delay}, {window_h}::DOUBLE AS {name_of(f'watched_{stage}')}"
        told += f", {delay}"
    where = is_exposure(events)
    _number(
        engine,
        f"SELECT {common}, rowid AS row, {labels} FROM events LEFT JOIN "
        f"(SELECT {ROW}, {told} FROM credits) ON {ROW} = events.rowid WHERE {where}",
        'time, "user", request, row',
    )
    engine.run("DROP TABLE credits")


def _number(engine: Engine, select: str, order: str) -> None:
    """Make ``exposures`` of a query with a column ``row``, numbered in the given order."""
    engine.run(
        "CREATE OR REPLACE TABLE exposures AS SELECT row_number() OVER () - 1 AS exposure, "
        f"* EXCLUDE (row) FROM ({select} ORDER BY {order})"
    )


def _make_history(engine: Engine, events: Events) -> None:
    user, item, time, kind = log_columns(events)
    kinds = ", ".join(quoted(each) for each in _history(events))
    engine.run(
        f'CREATE OR REPLACE TABLE history AS SELECT {user} AS "user", {item} AS item, '
        f"{kind} AS action, {time} AS time FROM events WHERE {kind} IN ({kinds}) "
        f"AND {time} IS NOT NULL AND {user} IS NOT NULL AND {item} IS NOT NULL "
        f'ORDER BY "user", time, rowid'
    )


def _widen(engine: Engine, events: Events, common: str) -> dict[str, int]:
    """``exposures`` of a wide table: its rows, in order of time, labels as 0, 1 or NULL."""
    casts = []
    for label in events.labels:
        text = _label_text(label)
        casts.append(
            f"CAST(CASE WHEN {text} IN {_TRUE} THEN 1 WHEN {text} IN {_FALSE} THEN 0 END "
            f"AS TINYINT) AS {name_of('label_' + label)}"
        )
    if events.value:
        casts.append(f"{value_of(events)} AS value")
    where = is_exposure(events)
    _number(
        engine,
        f"SELECT {common}, {', '.join(casts)}, rowid AS row FROM events WHERE {where}",
        'time, "user", request, row' if events.time else "row",
    )
    untimed = 0
    if events.time:
        untimed = engine.value(f"SELECT count(*) FROM events WHERE {name_of(events.time)} IS NULL")
    return {"without a time that can be read": int(untimed)}


def _label_text(label: str) -> str:
    return f"lower(trim(CAST({name_of(label)} AS VARCHAR)))"


def _check_labels(engine: Engine, events: Events) -> None:
    problems = []
    for label in () if events.funnel else events.labels:
        text = _label_text(label)
        odd = engine.rows(
            f"SELECT {text}, count(*), sum(count(*)) OVER () FROM events WHERE {text} <> '' "
            f"AND {text} NOT IN {_TRUE} AND {text} NOT IN {_FALSE} GROUP BY 1 ORDER BY 2 DESC, 1 "
            "LIMIT 3"
        )
        if odd:
            examples = ", ".join(f"{value!r} ({count} times)" for value, count, _ in odd)
            problems.append(
                f"events.labels: {odd[0][2]} values of {label!r} are not 0 or 1: {examples}; "
                "write 0, 1, or nothing where it is not known"
            )
    if problems:
        raise DataError("\n".join(problems))


def _check_ids(engine: Engine, events: Events) -> None:
    if not events.id:
        return
    missing = engine.value("SELECT count(*) FROM exposures WHERE id IS NULL")
    if missing:
        raise DataError(
            f"events.id: {missing} exposures have no {events.id!r}; "
            "give each one, or take the setting out to number the rows"
        )
    twice = engine.rows(
        "SELECT id, count(*), count(*) OVER () FROM exposures GROUP BY id HAVING count(*) > 1 "
        "ORDER BY id LIMIT 1"
    )
    if twice:
        example, times, count = twice[0]
        raise DataError(
            f"events.id: {count} ids are repeated ({example!r} names {times} exposures); "
            "an id must name one exposure"
        )


def _check_values(engine: Engine, events: Events) -> None:
    if not events.value:
        return
    last = f"{name_of(events.kind or '')} = {quoted(events.stages[-1])}"
    of = f" AND {last}" if events.funnel else ""
    bad = f"({value_of(events)} < 0 OR isinf({value_of(events)})){of}"
    count = engine.value(f"SELECT count(*) FROM events WHERE {bad}")
    if count:
        rows = engine.rows(f"SELECT {value_of(events)} FROM events WHERE {bad} ORDER BY 1 LIMIT 3")
        raise DataError(
            f"events.value: {count} values of {events.value!r} are below 0 or not finite "
            f"({', '.join(str(row[0]) for row in rows)}); correct them, or leave empty what is "
            "not known"
        )


def _check_weights(engine: Engine, events: Events) -> None:
    if not events.weight:
        return
    bad = "weight IS NULL OR NOT isfinite(weight) OR weight <= 0"
    count = engine.value(f"SELECT count(*) FROM exposures WHERE {bad}")
    if count:
        name, weight = engine.rows(
            f"SELECT id, weight FROM exposures WHERE {bad} ORDER BY exposure LIMIT 1"
        )[0]
        raise DataError(
            f"events.weight: {count} exposures have no weight above 0 "
            f"(exposure {name!r}: {weight}); a weight is 1 / the chance that the row was kept"
        )


def _censor(engine: Engine, shop: Shop, end: str | None) -> dict[str, int]:
    """Forget, whatever they say, the labels whose window closes after the end of the log."""
    if end is None or shop.events is None:
        return {}
    return {stage: censor(engine, shop, stage, end, "true") for stage in windowed(shop.events)}
