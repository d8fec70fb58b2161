"""Exposures, users and titles to train, validation and test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from daogou.errors import ConfigError, DataError
from daogou.schema import Shop, Split
from daogou.tables.censor import censor, windowed
from daogou.tables.cuts import (
    BUCKETS,
    CARVED,
    SPLITS,
    STRADDLES,
    Cuts,
    bucket,
    by_column,
    by_time,
    check_words,
    cuts_of,
    ordered_cuts,
    sizes_of,
)
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.leave import rewrite

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
    check_split(shop.split)
    notes: list[str] = []
    dropped: dict[str, int] = {}
    cuts: Cuts = (None, None)
    censored: Mapping[str, Mapping[str, int]] = {}
    if shop.events is None:
        engine.run("ALTER TABLE exposures ADD COLUMN IF NOT EXISTS split VARCHAR")
    elif judged:
        rewrite(engine, quoted("test"))
    else:
        if shop.events.split:
            dropped = by_column(engine, shop, notes)
        elif shop.events.time:
            cuts = cuts_of(engine, shop.split, since)
            dropped = by_time(engine, cuts)
        else:
            key = "coalesce(request, id)"
            rewrite(engine, _by_share(bucket("exposure", key), shop.split))
        _check_filled(sizes_of(engine, "exposures"), shop.split)
        if validation_teaches:
            _teach_validation(engine, "exposures")
            cuts = (None, cuts[1])
        if shop.events.split and shop.events.time:
            cuts = ordered_cuts(engine, notes)
        censored = _censor(engine, shop, cuts)
    sizes = sizes_of(engine, "exposures")
    return _divided(engine, shop, validation_teaches, sizes, dropped, censored, cuts, notes)


def check_split(split: Split) -> None:
    """ConfigError where ``[split]`` can leave no three splits, whatever the tables hold."""
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


def split_part(
    engine: Engine, shop: Shop, cuts: Cuts, *, validation_teaches: bool = False
) -> Divided:
    """`split` of some users' exposures, where `cut_log` has cut and ``straddling`` is there."""
    dropped = by_time(engine, cuts, "FROM straddling")
    if validation_teaches:
        _teach_validation(engine, "exposures")
        cuts = (None, cuts[1])
    censored = _censor(engine, shop, cuts)
    return Divided(sizes_of(engine, "exposures"), {}, {}, dropped, censored, *cuts, ())


def split_rest(
    engine: Engine, shop: Shop, parts: Sequence[Divided], *, validation_teaches: bool = False
) -> Divided:
    """`split` of a shop whose exposures are in parts: that of users and titles, and all counts.

    Where validation teaches, whether each split has exposures has been asked before.
    """
    sizes = {word: sum(part.exposures[word] for part in parts) for word in SPLITS}
    if not validation_teaches:
        _check_filled(sizes, shop.split)
    dropped = {STRADDLES: sum(part.dropped.get(STRADDLES, 0) for part in parts)}
    censored: dict[str, dict[str, int]] = {}
    for word in SPLITS:
        for found in (part.censored[word] for part in parts if word in part.censored):
            before = censored.get(word, {})
            censored[word] = {stage: n + before.get(stage, 0) for stage, n in found.items()}
    cuts = parts[0].validation_from, parts[0].test_from
    return _divided(engine, shop, validation_teaches, sizes, dropped, censored, cuts, [])


def _divided(
    engine: Engine,
    shop: Shop,
    validation_teaches: bool,
    sizes: Mapping[str, int],
    dropped: Mapping[str, int],
    censored: Mapping[str, Mapping[str, int]],
    cuts: Cuts,
    notes: list[str],
) -> Divided:
    """Split users and titles, when the exposures are."""
    _split_users(engine, shop, notes)
    _split_titles(engine, shop, notes)
    if validation_teaches:
        _teach_validation(engine, "user_split")
        _teach_validation(engine, "title_split")
    return Divided(
        exposures=sizes,
        users=sizes_of(engine, "user_split"),
        titles=sizes_of(engine, "title_split"),
        dropped={reason: count for reason, count in dropped.items() if count},
        censored=censored,
        validation_from=cuts[0],
        test_from=cuts[1],
        notes=tuple(notes),
    )


def _by_share(number: str, split: Split) -> str:
    test = round(split.test * BUCKETS)
    validation = test + round(split.validation * BUCKETS)
    return (
        f"CASE WHEN {number} < {test} THEN 'test' "
        f"WHEN {number} < {validation} THEN 'validation' ELSE 'train' END"
    )


def _check_filled(sizes: Mapping[str, int], split: Split) -> None:
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


def _censor(engine: Engine, shop: Shop, cuts: Cuts) -> dict[str, dict[str, int]]:
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
    check_words(engine, table, column, setting)
    if engine.value(f"SELECT count(*) FROM {table} WHERE {name} = 'validation'"):
        return name
    notes.append(f"{setting} names no validation: a tenth of train is taken by hash of the {salt}")
    number = bucket(salt, text, CARVED)
    return f"CASE WHEN {name} = 'train' AND {number} = 0 THEN 'validation' ELSE {name} END"
