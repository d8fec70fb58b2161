"""A log that goes on after a run to the exposures that teach now, and those that taught before."""

from dataclasses import dataclass, replace
from typing import Final

from daogou.errors import ConfigError, DataError
from daogou.schema import DAY_US, Events, Shop
from daogou.tables.censor import windowed
from daogou.tables.cuts import bucket
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.leave import leave
from daogou.tables.read import read_tables

_SHARES: Final = 1_000_000


@dataclass(frozen=True)
class Seam:
    """Where an earlier run stands in a log, times in UTC.

    ``replay`` is the share of the days before that teach once more, drawn by ``seed``. What a day
    before counts for halves every ``half_life_days``, 0 = never. Where the run is ``judged``
    nothing teaches: all exposures are of the test split.
    """

    taught_until: str  # the first moment that its training did not have
    end: str  # the last event that it has seen
    replay: float = 0.0
    half_life_days: float = 0.0
    seed: int = 0
    judged: bool = False
    events: tuple[str, ...] = ()  # the files that came since, where they are named


def apart(engine: Engine, shop: Shop, seam: Seam | None) -> None:
    """Move the exposures that taught before from ``exposures`` to ``earlier``, empty without seam.

    Exposures stay from a longest window before the earlier training's end on: until then some
    label of theirs was not known. Where the run is judged they are those whose labels were not
    known at its end. ``earlier`` has ``user, item, time, weight``, the labels, and ``worth``, what
    an exposure still counts for: 1, halved in each half-life before the first one that stays.
    History is left whole.

    Raises `ConfigError` where the shop's exposures have no time, and `DataError` where nothing has
    come since.
    """
    stages = shop.events.stages if shop.events else ()
    labels = "".join(f", {name_of(f'label_{stage}')}" for stage in stages)
    made = f'CREATE OR REPLACE TABLE earlier AS SELECT "user", item, time, weight{labels}'
    if seam is None:
        engine.run(f"{made}, 1::DECIMAL(18, 9) AS worth FROM exposures LIMIT 0")
        return
    if shop.events is None or not shop.events.time or shop.events.split:
        raise ConfigError(
            "events.time: a fit goes on where another ended in time; name the column, and no "
            "split column, or fit anew"
        )
    if not engine.value(f"SELECT count(*) FROM exposures WHERE time > {_at(seam.end)}"):
        raise DataError(
            f"events: no exposure after {seam.end} UTC, where the log of the run ends; give later "
            "events with --events, or add them to the files that [events] names"
        )
    origin = seam.end if seam.judged else seam.taught_until
    start = f"({_at(origin)} - to_microseconds({longest_us(shop.events)}))"
    day = f"CAST(time AS DATE) || ' {seam.end}'"
    again = f"{bucket(f'replay {seam.seed}', day)} < {round(seam.replay * _SHARES)}"
    stays = f"(time > {start} OR {again})"
    if not seam.judged:  # where there is no window the first moment itself has not taught
        stays = f"({stays} OR time >= {_at(origin)})"
    age = f"(epoch_us({start}) - epoch_us(time)) / {DAY_US * (seam.half_life_days or 1.0)}"
    worth = f"pow(0.5, {age})" if seam.half_life_days else "1"
    engine.run(
        f"{made}, ({worth})::DECIMAL(18, 9) AS worth FROM exposures WHERE NOT {stays} "
        "ORDER BY exposure"
    )
    leave(engine, stays)


def n_late(engine: Engine, shop: Shop, seam: Seam | None) -> int:
    """How many events of the files that came since are older than the end of the run's log."""
    if seam is None or not seam.events or shop.events is None or not shop.events.time:
        return 0
    first, *more = seam.events
    read_tables(engine, Shop(shop.root, events=replace(shop.events, path=first, more=tuple(more))))
    time = name_of(shop.events.time)
    return int(engine.value(f"SELECT count(*) FROM events WHERE {time} < {_at(seam.end)}"))


def longest_us(events: Events) -> int:
    """Microseconds until every label of an exposure is known."""
    return max((events.window_us(stage) for stage in windowed(events)), default=0)


def _at(time: str) -> str:
    return f"CAST({quoted(time)} AS TIMESTAMP)"
