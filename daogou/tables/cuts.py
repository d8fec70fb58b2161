"""Where a log, or a shop's own column, cuts its exposures into three splits."""

import datetime
import itertools
from collections.abc import Callable
from typing import Final

from daogou.errors import ConfigError, DataError
from daogou.schema import Shop, Split
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.leave import rewrite

SPLITS: Final = ("train", "validation", "test")

STRADDLES: Final = "of a request that lies on both sides of a cut"

_EMPTY: Final = "whose split column is empty"

CARVED: Final = 10  # a tenth of train is the validation where an override names none

BUCKETS: Final = 1_000_000

_STEPS: Final = 65_536  # in which a span of time is counted

Cuts = tuple[str | None, str | None]  # the first moments of validation and of test, UTC

Starts = Callable[[Engine, int], list[tuple[int, str]]]


def _utc(setting: str, text: str) -> str:
    """An ISO time as the engine writes it, in UTC without a zone."""
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"split.{setting}: {text!r} is not an ISO time; write e.g. 2024-05-31T00:00:00"
        ) from None
    if time.tzinfo:
        time = time.astimezone(datetime.UTC).replace(tzinfo=None)
    return time.isoformat(sep=" ")


def numbered(engine: Engine, place: int) -> list[tuple[int, str]]:
    """The time of the exposure at this place in order of time, and the next other one.

    Each with how many exposures are earlier, which their numbers say.
    """
    return [
        (int(first), str(time))
        for first, time in engine.rows(
            "SELECT min(exposure), CAST(time AS VARCHAR) FROM exposures WHERE time IN ("
            f"SELECT time FROM exposures WHERE exposure = {place} UNION ALL "
            "SELECT min(time) FROM exposures WHERE time > (SELECT time FROM exposures "
            f"WHERE exposure = {place})) GROUP BY time ORDER BY time"
        )
    ]


def counted(engine: Engine, place: int) -> list[tuple[int, str]]:
    """`numbered` of exposures without numbers: counted in ever finer steps of time."""
    low, high = engine.rows("SELECT epoch_us(min(time)), epoch_us(max(time)) FROM exposures")[0]
    width, earlier = high - low + 1, 0
    while width > 1:
        step, at = -(-width // _STEPS), 0
        for step_at, n in engine.rows(
            f"SELECT (epoch_us(time) - {low}) // {step}, count(*) FROM exposures WHERE "
            f"time >= make_timestamp({low}) AND time < make_timestamp({low + width}) "
            "GROUP BY 1 ORDER BY 1"
        ):
            at = step_at
            if earlier + n > place:
                break
            earlier += n
        low, width = low + at * step, step
    here = f"make_timestamp({low})"
    n, found, later = engine.rows(
        f"SELECT count(*) FILTER (WHERE time = {here}), CAST({here} AS VARCHAR), "
        f"CAST(min(time) FILTER (WHERE time > {here}) AS VARCHAR) FROM exposures"
    )[0]
    return [(earlier, found), *([(earlier + n, later)] if later is not None else [])]


def cuts_of(engine: Engine, split: Split, since: str | None, starts: Starts = numbered) -> Cuts:
    """The first moments of validation and of test; None where that split is not wanted."""
    later = f" WHERE time > CAST({quoted(since)} AS TIMESTAMP)" if since else ""
    n, total = engine.rows(
        f"SELECT (SELECT count(*) FROM exposures{later}), count(*) FROM exposures"
    )[0]
    test: str | None
    if split.test_from:
        test = _utc("test_from", split.test_from)
    else:
        test = _cut(engine, total, split.test * n, None, starts) if split.test else None
    if split.validation_from:
        validation = _utc("validation_from", split.validation_from)
    elif split.validation:
        validation = _cut(engine, total, split.validation * n, test, starts)
    else:
        validation = None
    if validation and test and validation >= test:
        raise ConfigError(
            f"split: validation would start at {validation} and test at {test}; "
            "validation must be before test"
        )
    return validation, test


def _cut(engine: Engine, n: int, wanted: float, before: str | None, starts: Starts) -> str:
    """The timestamp from which about ``wanted`` of all ``n`` exposures lie, up to ``before``."""
    end = n
    if before is not None:
        end = int(
            engine.value(
                f"SELECT count(*) FROM exposures WHERE time < CAST({quoted(before)} AS TIMESTAMP)"
            )
        )
    start = end - wanted
    # A timestamp goes to one split as a whole: the nearest of the two borders around the share.
    found = starts(engine, min(max(int(start), 0), n - 1))
    fit = [(abs(first - start), time) for first, time in found if 0 < first < end]
    if not fit:
        raise DataError(
            "split: the exposures have too few different times for train, validation and test; "
            "take [events] time out to split by hash, or name a split column in [events] split"
        )
    return str(min(fit)[1])


def cut_log(engine: Engine, split: Split) -> Cuts:
    """The cuts of a log whose ``exposures`` are not numbered yet.

    Makes ``straddling``, the requests that lie on several sides.
    """
    cuts = cuts_of(engine, split, None, counted)
    engine.run(f"CREATE OR REPLACE TABLE straddling AS {_straddling(_side(cuts), 'true')}")
    return cuts


def taught_until(engine: Engine, cuts: Cuts) -> str | None:
    """The last moment of the exposures that stay in train where `cut_log` has cut, UTC."""
    stays = "request IS NULL OR request NOT IN (FROM straddling)"
    last: str | None = engine.value(
        f"SELECT CAST(max(time) AS VARCHAR) FROM exposures WHERE {_side(cuts)} = 'train' "
        f"AND ({stays})"
    )
    return last


def by_time(engine: Engine, cuts: Cuts, across: str | None = None) -> dict[str, int]:
    """Give each exposure the split of its time; how many were left out and why.

    ``across`` is SQL of the requests that lie on several sides; None looks for them.
    """
    side = _side(cuts)
    across = across or _straddling(side, "true")
    if engine.value(f"SELECT count(*) FROM ({across})"):
        return {STRADDLES: rewrite(engine, _whole(side, "true", across))}
    # Every exposure stays in its place: one more column is a fifth of the cost of a new table.
    engine.run("ALTER TABLE exposures ADD COLUMN split VARCHAR")
    engine.run(f"ALTER TABLE exposures ALTER split SET DATA TYPE VARCHAR USING {side}")
    return {}


def _side(cuts: Cuts) -> str:
    """SQL of the split that an exposure's time is of."""
    named = [
        (cut, word) for cut, word in ((cuts[1], "test"), (cuts[0], "validation")) if cut is not None
    ]
    whens = " ".join(
        f"WHEN time >= CAST({quoted(cut)} AS TIMESTAMP) THEN {quoted(word)}" for cut, word in named
    )
    return f"CASE {whens} ELSE 'train' END" if whens else "'train'"


def _whole(side: str, where: str, across: str) -> str:
    """SQL of ``side``, NULL for those requests of the rows ``where`` that are ``across``."""
    return (
        f"CASE WHEN request IS NULL OR NOT ({where}) OR request NOT IN ({across}) THEN {side} END"
    )


def _straddling(side: str, where: str) -> str:
    """SQL of the requests of the rows ``where`` that lie on several sides."""
    return (
        f"SELECT request FROM exposures WHERE request IS NOT NULL AND {where} "
        f"GROUP BY request HAVING min({side}) <> max({side})"
    )


def by_column(engine: Engine, shop: Shop, notes: list[str]) -> dict[str, int]:
    """Take the shop's split column; carve the validation out of train where it names none."""
    check_words(engine, "exposures", "split", "events.split")
    words = sizes_of(engine, "exposures")
    value = "split"
    if not words["validation"] and shop.split.validation:
        timed = bool(shop.events and shop.events.time)
        if timed:
            share = shop.split.validation
            cut = engine.value(
                "SELECT CAST(time AS VARCHAR) FROM (SELECT time, row_number() OVER "
                "(ORDER BY exposure) AS n, count(*) OVER () AS total FROM exposures "
                f"WHERE split = 'train') WHERE n > total * {1 - share} ORDER BY n LIMIT 1"
            )
            late = f"time >= CAST({quoted(cut)} AS TIMESTAMP)"
            side = f"CASE WHEN split = 'train' AND {late} THEN 'validation' ELSE split END"
            where = "split = 'train'"
            value = _whole(side, where, _straddling(side, where))
            notes.append(f"events.split names no validation: train from {cut} on is taken")
        else:
            carved = f"{bucket('exposure', 'coalesce(request, id)')} < {BUCKETS // CARVED}"
            value = f"CASE WHEN split = 'train' AND {carved} THEN 'validation' ELSE split END"
            notes.append("events.split names no validation: a tenth of train is taken by hash")
    empty = int(engine.value("SELECT count(*) FROM exposures WHERE split IS NULL"))
    return {_EMPTY: empty, STRADDLES: rewrite(engine, value) - empty}


def ordered_cuts(engine: Engine, notes: list[str]) -> Cuts:
    """The first moments of validation and test if the given splits follow each other in time."""
    bounds = {
        str(word): (first, last)
        for word, first, last in engine.rows(
            "SELECT split, CAST(min(time) AS VARCHAR), CAST(max(time) AS VARCHAR) FROM exposures "
            "GROUP BY split"
        )
    }
    found = [bounds[word] for word in SPLITS if word in bounds]
    if any(
        engine.value(
            f"SELECT CAST({quoted(one[1])} AS TIMESTAMP) >= CAST({quoted(two[0])} AS TIMESTAMP)"
        )
        for one, two in itertools.pairwise(found)
    ):
        notes.append(
            "events.split: the splits overlap in time, so a later event may teach about an "
            "earlier one; labels are kept whatever their window"
        )
        return None, None
    first = {word: bounds[word][0] for word in bounds}
    return first.get("validation"), first.get("test")


def bucket(salt: str, text: str, buckets: int = BUCKETS) -> str:
    """A number below ``buckets`` from a text; md5, because DuckDB's own hash changes by version."""
    return f"md5_number_lower({quoted(salt + ':')} || CAST({text} AS VARCHAR)) % {buckets}::UBIGINT"


def check_words(engine: Engine, relation: str, column: str, setting: str) -> None:
    """Refuse a split column that says anything but the three splits."""
    legal = ", ".join(quoted(word) for word in SPLITS)
    name = name_of(column)
    odd = engine.rows(
        f"SELECT {name}, count(*), sum(count(*)) OVER () FROM {relation} WHERE {name} IS NOT NULL "
        f"AND {name} NOT IN ({legal}) GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3"
    )
    if odd:
        examples = ", ".join(f"{word!r} ({count} times)" for word, count, _ in odd)
        raise DataError(
            f"{setting}: {odd[0][2]} rows say {examples}; write train, validation or test"
        )


def sizes_of(engine: Engine, relation: str) -> dict[str, int]:
    """How many rows of a relation are in each split."""
    found = dict(engine.rows(f"SELECT split, count(*) FROM {relation} GROUP BY split"))
    return {word: int(found.get(word, 0)) for word in SPLITS}
