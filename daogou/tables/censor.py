"""Labels whose window closes too late to be known."""

from daogou.schema import HOUR_US, Events, Shop
from daogou.tables.credit import delayed
from daogou.tables.engine import Engine, name_of, quoted


def windowed(events: Events) -> tuple[str, ...]:
    """The stages whose labels take time: a log's, and a wide table's that name a window."""
    return (
        events.stages if events.funnel else tuple(s for s in events.labels if s in events.window_h)
    )


def censor(engine: Engine, shop: Shop, stage: str, end: str, where: str) -> int:
    """Set ``label_<stage>`` to NULL where its window closes after ``end``; how many it were.

    With the last stage's label goes the value. A stage's delays are kept that were seen before
    ``end``; nothing that came later may teach. Such an exposure was watched until then.

    ``end`` is a time in UTC, ``where`` an SQL condition on ``exposures``.
    """
    events = shop.events
    assert events is not None
    label = name_of(f"label_{stage}")
    worth = ", value = NULL" if events.value and stage == events.stages[-1] else ""
    at = f"CAST({quoted(end)} AS TIMESTAMP)"
    # Subtracting from `end` keeps the scan a comparison with one constant.
    open_ = f"{where} AND time > {at} - to_microseconds({events.window_us(stage)})"
    known = f"{open_} AND {label} IS NOT NULL"
    count = int(engine.value(f"SELECT count(*) FROM exposures WHERE {known}"))
    if count:
        engine.run(f"UPDATE exposures SET {label} = NULL{worth} WHERE {known}")
    if stage in delayed(shop):
        delay, watched = name_of(f"delay_{stage}"), name_of(f"watched_{stage}")
        # The same division as of the delays: an event at the very end is not before it.
        left_h = f"(epoch_us({at}) - epoch_us(time)) / {HOUR_US}"
        engine.run(
            f"UPDATE exposures SET {watched} = {left_h}, "
            f"{delay} = CASE WHEN {delay} < {left_h} THEN {delay} END WHERE {open_}"
        )
    return count
