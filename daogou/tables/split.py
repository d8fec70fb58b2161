"""Exposures, users and titles to train, validation and test."""

import datetime
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from daogou.errors import ConfigError, DataError
from daogou.schema import Shop, Split
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.funnel import censor, windowed

SPLITS: Final = ("train", "validation", "test")
_STRADDLES: Final = "of a request that lies on both sides of a cut"
_EMPTY: Final = "whose split column is empty"
_CARVED: Final = 10  # a tenth of train is the validation where an override names none
_BUCKETS: Final = 1_000_000

# Full-width letters and the ideographic space, which one keyboard writes for the other.
_WIDE: Final = "".join(chr(code) for code in range(0xFF01, 0xFF5F)) + "\u3000"
_NARROW: Final = "".join(chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)) + " "


@dataclass(frozen=True)
class Divided:
    """How the three splits fell. Made by `split`."""

    exposures: Mapping[str, int]  # split -> exposures
    users: Mapping[str, int]  # split -> users
    titles: Mapping[str, int]  # split -> items with a title
    dropped: Mapping[str, int]  # reason -> exposures left out
    censored: Mapping[str, Mapping[str, int]]  # split -> stage -> labels whose window is cut off
    validation_from: str | None  # UTC
    test_from: str | None  # UTC
    notes: tuple[str, ...]


def split(
    engine: Engine,
    shop: Shop,
    *,
    validation_teaches: bool = False,
    since: str | None = None,
    judged: bool = False,
) -> Divided:
    """Add ``split`` to ``exposures``; make ``user_split`` and ``title_split``.

    By time, whole timestamps and requests together, so that the last train exposure is before the
    first of validation, and that before the first of test; by a hash of the row where there is no
    time. Users go by a hash of their key, items by a hash of their normalised title. A split
    column of the shop's own wins. A label whose window closes after the end of its split becomes
    missing. Where ``validation_teaches``, what is validation otherwise is train, and test is the
    same to the row. ``since`` is a time in UTC: shares are of the exposures after it. Where all
    are ``judged``, all are test.

    Raises `ConfigError` where ``[split]`` does not leave three splits, and `DataError` where a
    split column holds another word or a split has no exposure.
    """
    _check(shop.split)
    notes: list[str] = []
    dropped: dict[str, int] = {}
    cuts: tuple[str | None, str | None] = (None, None)
    censored: Mapping[str, Mapping[str, int]] = {}
    if shop.events is None:
        engine.run("ALTER TABLE exposures ADD COLUMN IF NOT EXISTS split VARCHAR")
    elif judged:
        _rewrite(engine, quoted("test"))
    else:
        if shop.events.split:
            dropped = _by_column(engine, shop, notes)
        elif shop.events.time:
            cuts = _cuts(engine, shop.split, since)
            dropped = _by_time(engine, cuts)
        else:
            key = "coalesce(request, id)"
            _rewrite(engine, _by_share(bucket("exposure", key), shop.split))
        _check_filled(engine, shop.split)
        if validation_teaches:
            _teach_validation(engine, "exposures")
            cuts = (None, cuts[1])
        if shop.events.split and shop.events.time:
            cuts = _ordered_cuts(engine, notes)
        censored = _censor(engine, shop, cuts)
    _split_users(engine, shop, notes)
    _split_titles(engine, shop, notes)
    if validation_teaches:
        _teach_validation(engine, "user_split")
        _teach_validation(engine, "title_split")
    return Divided(
        exposures=_sizes(engine, "exposures"),
        users=_sizes(engine, "user_split"),
        titles=_sizes(engine, "title_split"),
        dropped={reason: count for reason, count in dropped.items() if count},
        censored=censored,
        validation_from=cuts[0],
        test_from=cuts[1],
        notes=tuple(notes),
    )


def _check(split: Split) -> None:
    problems = [
        f"split.{name}: {share} is not a share; give 0 or more and less than 1"
        for name, share in (("validation", split.validation), ("test", split.test))
        if not 0 <= share < 1
    ]
    if split.validation + split.test >= 1:
        problems.append(
            f"split: validation {split.validation} and test {split.test} leave nothing to train on"
        )
    if split.folds < 3:
        problems.append(f"split.folds: {split.folds}; three splits need 3 or more")
    elif not 0 <= split.fold < split.folds:
        problems.append(f"split.fold: {split.fold} is not between 0 and {split.folds - 1}")
    if problems:
        raise ConfigError("\n".join(problems))


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


def _cuts(engine: Engine, split: Split, since: str | None) -> tuple[str | None, str | None]:
    """The first moments of validation and of test; None where that split is not wanted."""
    later = f" WHERE time > CAST({quoted(since)} AS TIMESTAMP)" if since else ""
    n, total = engine.rows(
        f"SELECT (SELECT count(*) FROM exposures{later}), count(*) FROM exposures"
    )[0]
    test: str | None
    if split.test_from:
        test = _utc("test_from", split.test_from)
    else:
        test = _cut(engine, total, split.test * n, before=None) if split.test else None
    if split.validation_from:
        validation = _utc("validation_from", split.validation_from)
    elif split.validation:
        validation = _cut(engine, total, split.validation * n, before=test)
    else:
        validation = None
    if validation and test and validation >= test:
        raise ConfigError(
            f"split: validation would start at {validation} and test at {test}; "
            "validation must be before test"
        )
    return validation, test


def _cut(engine: Engine, n: int, wanted: float, *, before: str | None) -> str:
    """The timestamp from which about ``wanted`` of all ``n`` exposures lie, up to ``before``.

    Exposures are numbered by time, so the number says how many are earlier.
    """
    end = n
    if before is not None:
        end = int(
            engine.value(
                f"SELECT count(*) FROM exposures WHERE time < CAST({quoted(before)} AS TIMESTAMP)"
            )
        )
    start = end - wanted
    # A timestamp goes to one split as a whole: the nearest of the two borders around the share.
    starts = engine.rows(
        "SELECT min(exposure), CAST(time AS VARCHAR) FROM exposures WHERE time IN ("
        f"SELECT time FROM exposures WHERE exposure = {min(max(int(start), 0), n - 1)} UNION ALL "
        "SELECT min(time) FROM exposures WHERE time > (SELECT time FROM exposures "
        f"WHERE exposure = {min(max(int(start), 0), n - 1)})) GROUP BY time ORDER BY time"
    )
    fit = [(abs(first - start), time) for first, time in starts if 0 < first < end]
    if not fit:
        raise DataError(
            "split: the exposures have too few different times for train, validation and test; "
            "take [events] time out to split by hash, or name a split column in [events] split"
        )
    return str(min(fit)[1])


def _by_time(engine: Engine, cuts: tuple[str | None, str | None]) -> dict[str, int]:
    named = [
        (cut, word) for cut, word in ((cuts[1], "test"), (cuts[0], "validation")) if cut is not None
    ]
    whens = " ".join(
        f"WHEN time >= CAST({quoted(cut)} AS TIMESTAMP) THEN {quoted(word)}" for cut, word in named
    )
    side = f"CASE {whens} ELSE 'train' END" if whens else "'train'"
    straddling = _straddling(side, "true")
    if engine.value(f"SELECT count(*) FROM ({straddling})"):
        return {_STRADDLES: _rewrite(engine, _whole(side, "true"))}
    # Every exposure stays in its place: one more column is a fifth of the cost of a new table.
    engine.run("ALTER TABLE exposures ADD COLUMN split VARCHAR")
    engine.run(f"ALTER TABLE exposures ALTER split SET DATA TYPE VARCHAR USING {side}")
    return {}


def _whole(side: str, where: str) -> str:
    """SQL of ``side``, NULL for a request of the rows ``where`` that lies on several sides."""
    return (
        f"CASE WHEN request IS NULL OR NOT ({where}) "
        f"OR request NOT IN ({_straddling(side, where)}) THEN {side} END"
    )


def _straddling(side: str, where: str) -> str:
    """SQL of the requests of the rows ``where`` that lie on several sides."""
    return (
        f"SELECT request FROM exposures WHERE request IS NOT NULL AND {where} "
        f"GROUP BY request HAVING min({side}) <> max({side})"
    )


def _by_column(engine: Engine, shop: Shop, notes: list[str]) -> dict[str, int]:
    """Take the shop's split column; carve the validation out of train where it names none."""
    _check_words(engine, "exposures", "split", "events.split")
    words = _sizes(engine, "exposures")
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
            value = _whole(side, "split = 'train'")
            notes.append(f"events.split names no validation: train from {cut} on is taken")
        else:
            carved = f"{bucket('exposure', 'coalesce(request, id)')} < {_BUCKETS // _CARVED}"
            value = f"CASE WHEN split = 'train' AND {carved} THEN 'validation' ELSE split END"
            notes.append("events.split names no validation: a tenth of train is taken by hash")
    empty = int(engine.value("SELECT count(*) FROM exposures WHERE split IS NULL"))
    return {_EMPTY: empty, _STRADDLES: _rewrite(engine, value) - empty}


def _ordered_cuts(engine: Engine, notes: list[str]) -> tuple[str | None, str | None]:
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


def _by_share(number: str, split: Split) -> str:
    test = round(split.test * _BUCKETS)
    validation = test + round(split.validation * _BUCKETS)
    return (
        f"CASE WHEN {number} < {test} THEN 'test' "
        f"WHEN {number} < {validation} THEN 'validation' ELSE 'train' END"
    )


def bucket(salt: str, text: str, buckets: int = _BUCKETS) -> str:
    """A number below ``buckets`` from a text; md5, because DuckDB's own hash changes by version."""
    return f"md5_number_lower({quoted(salt + ':')} || CAST({text} AS VARCHAR)) % {buckets}::UBIGINT"


def keep_latest(engine: Engine, n: int) -> None:
    """Leave the latest ``n`` training exposures, and no history from before them.

    The tables are then those of a shop that opened later: validation and test stay as they are.
    """
    oldest = engine.value(
        "SELECT min(exposure) FROM (SELECT exposure FROM exposures WHERE split = 'train' "
        f"ORDER BY exposure DESC LIMIT {n})"
    )
    start = engine.value(
        f"SELECT CAST(time AS VARCHAR) FROM exposures WHERE exposure = {oldest or 0}"
    )
    leave(engine, f"split IS DISTINCT FROM 'train' OR exposure >= {oldest or 0}")
    if start is not None:
        cut = f"CAST({quoted(str(start))} AS TIMESTAMP)"
        engine.run(f"CREATE OR REPLACE TABLE later AS SELECT * FROM history WHERE time >= {cut}")
        _put(engine, "later", "history")


def leave(engine: Engine, where: str) -> None:
    """Leave the exposures for which the SQL condition holds, numbered anew in their order."""
    engine.run(
        "CREATE OR REPLACE TABLE placed AS SELECT * REPLACE ((row_number() OVER (ORDER BY exposure)"
        f" - 1)::BIGINT AS exposure) FROM exposures WHERE {where} ORDER BY exposure"
    )
    _put(engine, "placed", "exposures")


def _rewrite(engine: Engine, split: str) -> int:
    """Give every exposure its split, drop those without, number the rest; how many were dropped."""
    columns = ", ".join(
        name_of(name) for name in engine.columns("exposures") if name not in ("exposure", "split")
    )
    engine.run(
        f"CREATE OR REPLACE TABLE placed AS SELECT exposure, {columns}, {split} AS split "
        "FROM exposures"
    )
    dropped = int(engine.value("SELECT count(*) FROM placed WHERE split IS NULL"))
    if not dropped:  # the numbers stand; sorting again would cost as much as the funnel did
        _put(engine, "placed", "exposures")
        return 0
    engine.run(
        "CREATE OR REPLACE TABLE exposures AS SELECT row_number() OVER (ORDER BY exposure) - 1 "
        f"AS exposure, {columns}, split FROM placed WHERE split IS NOT NULL "
        "ORDER BY placed.exposure"
    )
    engine.run("DROP TABLE placed")
    return dropped


def _put(engine: Engine, table: str, place: str) -> None:
    """Put a table in the place of another."""
    engine.run(f"DROP TABLE {place}")
    engine.run(f"ALTER TABLE {table} RENAME TO {place}")


def _check_words(engine: Engine, relation: str, column: str, setting: str) -> None:
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


def _check_filled(engine: Engine, split: Split) -> None:
    sizes = _sizes(engine, "exposures")
    wanted = {
        "train": True,
        "validation": bool(split.validation or split.validation_from),
        "test": bool(split.test or split.test_from),
    }
    empty = [word for word in SPLITS if wanted[word] and not sizes[word]]
    if empty:
        found = ", ".join(f"{word} {count}" for word, count in sizes.items())
        raise DataError(
            f"split: {empty[0]} has no exposure ({found}); change [split] or give more exposures"
        )


def _teach_validation(engine: Engine, relation: str) -> None:
    engine.run(f"UPDATE {relation} SET split = 'train' WHERE split = 'validation'")


def _sizes(engine: Engine, relation: str) -> dict[str, int]:
    found = dict(engine.rows(f"SELECT split, count(*) FROM {relation} GROUP BY split"))
    return {word: int(found.get(word, 0)) for word in SPLITS}


def _censor(
    engine: Engine, shop: Shop, cuts: tuple[str | None, str | None]
) -> dict[str, dict[str, int]]:
    """Forget labels whose window closes after the end of their split; all missing ones counted."""
    events = shop.events
    if events is None or not events.time:
        return {}
    validation, test = cuts
    ends = {"train": validation or test, "validation": test}
    for word, end in ends.items():
        if end is not None:
            for stage in windowed(events):
                censor(engine, shop, stage, end, f"split = {quoted(word)}")
    stages = windowed(events)
    if not stages:
        return {}
    counts = ", ".join(
        f"count(*) FILTER (WHERE {name_of('label_' + stage)} IS NULL)" for stage in stages
    )
    rows = engine.rows(f"SELECT split, {counts} FROM exposures GROUP BY split")
    found = {str(row[0]): dict(zip(stages, map(int, row[1:]), strict=True)) for row in rows}
    return {word: found[word] for word in SPLITS if word in found}


def _split_users(engine: Engine, shop: Shop, notes: list[str]) -> None:
    users = shop.users
    if users is None:
        engine.run(
            'CREATE OR REPLACE TABLE user_split AS SELECT "user", split FROM exposures LIMIT 0'
        )
        return
    key = name_of(users.key)
    engine.run(
        f'CREATE OR REPLACE TABLE user_split AS SELECT {key} AS "user", '
        f"{_override(engine, shop, 'users', users.split, ('user', key), notes)} AS split FROM users"
    )
    engine.run("DELETE FROM user_split WHERE split IS NULL")


def _split_titles(engine: Engine, shop: Shop, notes: list[str]) -> None:
    items = shop.items
    if items is None or not items.text:
        engine.run(
            "CREATE OR REPLACE TABLE title_split AS SELECT item, split FROM exposures LIMIT 0"
        )
        return
    key = name_of(items.key)
    narrow = (
        f"translate(nfc_normalize(CAST({name_of(items.text[0])} AS VARCHAR)), "
        f"{quoted(_WIDE)}, {quoted(_NARROW)})"
    )
    title = f"nullif(lower(trim(regexp_replace({narrow}, '\\s+', ' ', 'g'))), '')"
    # A row without a title falls by its key, lest all of them share one fold.
    text = f"coalesce({title}, '#' || CAST({key} AS VARCHAR))"
    word = _override(engine, shop, "items", items.split, ("title", text), notes)
    engine.run(
        f"CREATE OR REPLACE TABLE title_split AS SELECT {key} AS item, {word} AS split FROM items"
    )
    engine.run("DELETE FROM title_split WHERE split IS NULL")


def _override(
    engine: Engine,
    shop: Shop,
    table: str,
    column: str | None,
    hashed: tuple[str, str],
    notes: list[str],
) -> str:
    """SQL of a row's split: by hash fold, or what the shop's own column says."""
    salt, text = hashed
    if column is None:
        folds, fold = shop.split.folds, shop.split.fold
        number = bucket(salt, text, folds)
        return (
            f"CASE {number} WHEN {fold} THEN 'test' WHEN {(fold + 1) % folds} THEN 'validation' "
            "ELSE 'train' END"
        )
    setting, name = f"{table}.split", name_of(column)
    _check_words(engine, table, column, setting)
    if engine.value(f"SELECT count(*) FROM {table} WHERE {name} = 'validation'"):
        return name
    notes.append(f"{setting} names no validation: a tenth of train is taken by hash of the {salt}")
    number = bucket(salt, text, _CARVED)
    return f"CASE WHEN {name} = 'train' AND {number} = 0 THEN 'validation' ELSE {name} END"
