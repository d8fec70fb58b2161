"""Relations to a fitted transform: each column's code is decided once, on train."""

from collections.abc import Collection

import numpy as np

from daogou.errors import DataError
from daogou.features.numeric import Numeric, fit_numeric
from daogou.features.order import in_order
from daogou.features.transform import LogScale, Transform, fit_log_scale
from daogou.features.transform.fields import NO_FIELDS, Fields
from daogou.features.transform.seen import are_numbers, context_numbers, count_log, counting
from daogou.features.transform.titles import fit_titles, fit_values, told_attributes
from daogou.features.vocab import Vocab, fit_vocab
from daogou.schema import Shop, Users
from daogou.tables.engine import Engine, name_of


def fit_transform(
    engine: Engine,
    shop: Shop,
    *,
    min_count: int = 1,
    buckets: int = 32,
    text_length: int = 0,
    word_count: int = 2,
    counted: bool = False,
) -> Transform:
    """Fit every column on the training split of the prepared relations, and on nothing else.

    Where the log is ``counted`` already, what `count_log` makes is there.

    Ids, columns and titles are those of items and users with a training exposure, also an
    ``earlier`` one, which counts for what it is still worth; a shop whose exposures name no item
    takes the items whose title is in the training split. Profile classes come from users whose
    labels may teach. Raises `ConfigError` where a column is to be learnt in an order that nothing
    tells.
    """
    if not counted:
        count_log(engine, shop)
    if shop.items and not (shop.events and shop.events.item):
        engine.run("INSERT INTO seen_items SELECT item, 1 FROM title_split WHERE split = 'train'")
    lists = _lists(engine, shop)
    profile = _fit_profile(engine, shop, lists)
    _check_orders(shop, profile)
    events = shop.events
    stages = events.stages if events else ()
    return Transform(
        item_ids=fit_vocab(_counts(engine, "item"), min_count=min_count),
        user_ids=fit_vocab(_counts(engine, "user"), min_count=min_count),
        items=_fit_inputs(engine, shop, "item", buckets, min_count),
        users=_fit_inputs(engine, shop, "user", buckets, min_count),
        context=_fit_context(engine, shop, buckets, min_count),
        profile=profile,
        text=fit_titles(engine, shop, text_length, word_count),
        text_columns=shop.items.text if shop.items else (),
        attributes=shop.attributes,
        actions=events.history_kinds if events else (),
        stages=stages,
        windows=tuple(events.window_of(stage) for stage in stages) if events else (),
        domain=events.domain if events else None,
        position=events.position if events else None,
        value=_fit_value(engine, shop),
        many=_fit_lists(engine, shop, lists),
        values=fit_values(engine, shop),
        traits=_fit_traits(engine, shop, min_count),
    )


def _fit_inputs(engine: Engine, shop: Shop, kind: str, buckets: int, min_count: int) -> Fields:
    """The columns of the products or of the users, ``kind`` ``item`` or ``user``."""
    table = shop.items if kind == "item" else shop.users
    if table is None:
        return NO_FIELDS
    return _fit_fields(
        engine, f"{kind}s", table.columns, buckets, min_count,
        where=f"{name_of(table.key)} IN (SELECT {kind} FROM seen_{kind}s)",
        categories=table.categories,
    )  # fmt: skip


def _fit_context(engine: Engine, shop: Shop, buckets: int, min_count: int) -> Fields:
    """The columns of the context, of what `count_log` counted."""
    numbers = context_numbers(engine, shop)
    coders = [
        _coder(engine, f"FROM seen_context_{place}", number, buckets, min_count)
        for place, number in enumerate(numbers.values())
    ]
    return Fields(tuple(numbers), tuple(coders))


def _fit_profile(engine: Engine, shop: Shop, lists: Collection[str]) -> Fields:
    """The profile columns, but for the ``lists``: their classes are what may teach."""
    if shop.users is None:
        return NO_FIELDS
    names = tuple(name for name in shop.users.profile if name not in lists)
    return _fit_fields(engine, "users", names, 0, 1, where=_teaches(shop.users))


def _teaches(users: Users) -> str:
    """SQL for: this user's labels may teach."""
    return f"{name_of(users.key)} IN (SELECT user FROM user_split WHERE split = 'train')"


def _counts(engine: Engine, column: str) -> dict[str, int]:
    sql = f"SELECT CAST({column} AS VARCHAR), sum(n)::BIGINT FROM seen_{column}s GROUP BY ALL"
    return dict(engine.rows(sql))


def _fit_fields(
    engine: Engine,
    relation: str,
    names: tuple[str, ...],
    buckets: int,
    min_count: int,
    *,
    where: str,
    categories: Collection[str] = (),
) -> Fields:
    """Fit each named column: a number as quantiles, anything else as a vocabulary.

    A number named in ``categories`` is a vocabulary too; with ``buckets = 0`` every column is.
    """
    numbers = are_numbers(engine, relation, names, categories) if buckets else [False] * len(names)
    coders = []
    for name, number in zip(names, numbers, strict=True):
        counts = f"FROM ({counting(relation, name, number, where)})"
        coders.append(_coder(engine, counts, number, buckets, min_count))
    return Fields(names, tuple(coders))


def _coder(
    engine: Engine, counts: str, number: bool, buckets: int, min_count: int
) -> Vocab | Numeric:
    """A column's code from its values and how often each came."""
    if not number:
        return fit_vocab(dict(engine.rows(f"SELECT value, n {counts}")), min_count=min_count)
    table = engine.table(f"SELECT value, n {counts} ORDER BY value")
    return fit_numeric(table["value"].to_numpy(), table["n"].to_numpy(), buckets=buckets)


def _lists(engine: Engine, shop: Shop) -> tuple[str, ...]:
    """The profile columns that hold lists; `DataError` where a task's loss wants another type."""
    if shop.users is None:
        return ()
    types = engine.columns("users")
    lists = tuple(name for name in shop.users.profile if types[name].endswith("[]"))
    for task in shop.of_family("profile"):
        name = task.name.removeprefix("profile.")
        found = f"tasks.{task.name}.loss: {task.loss!r}, and column {name!r} is {types[name]}"
        if task.loss == "multilabel" and name not in lists:
            raise DataError(f"{found}; write it as a list of texts in parquet, or take loss out")
        if task.loss == "ordinal" and name in lists:
            raise DataError(f"{found}; a list has no order: take loss out")
    return lists


def _check_orders(shop: Shop, profile: Fields) -> None:
    """Ask for the classes' order before the tables are compiled, and not after."""
    for task in shop.of_family("profile"):
        name = task.name.removeprefix("profile.")
        if task.loss == "ordinal" and name in profile.names:
            coder = profile.coders[profile.names.index(name)]
            assert isinstance(coder, Vocab)
            in_order(coder.words, task.order, where=f"tasks.{task.name}.order")


def _fit_lists(engine: Engine, shop: Shop, names: tuple[str, ...]) -> Fields:
    """A vocabulary of the values in each column of lists."""
    if shop.users is None:
        return NO_FIELDS
    where, coders = _teaches(shop.users), []
    for name in names:
        sql = (
            f"SELECT value, count(*) FROM (SELECT unnest(CAST({name_of(name)} AS VARCHAR[])) "
            f"AS value FROM users WHERE {where}) WHERE value IS NOT NULL GROUP BY ALL"
        )
        coders.append(fit_vocab(dict(engine.rows(sql))))
    return Fields(names, tuple(coders))


def _fit_value(engine: Engine, shop: Shop) -> LogScale | None:
    """The scale of the value where the stage that it is given happened."""
    if not any(task.is_value for task in shop.of_family("funnel")):
        return None
    # In order, so that a sum of floats is the same in every run.
    table = engine.table("SELECT value, n FROM seen_amounts ORDER BY value")
    return fit_log_scale(np.repeat(table["value"].to_numpy(), table["n"].to_numpy()))


def _fit_traits(engine: Engine, shop: Shop, min_count: int) -> Fields:
    """A vocabulary for each attribute that the catalogue tells and that is no input already.

    Profiles count them in histories. No encoder reads them, so what extraction is to learn from a
    title does not reach it by another way.
    """
    if shop.items is None or not shop.of_family("profile"):
        return NO_FIELDS
    told = told_attributes(engine, shop)
    names = tuple(name for name in told if name not in shop.items.columns)
    where = f"{name_of(shop.items.key)} IN (SELECT item FROM seen_items)"
    return _fit_fields(engine, "items", names, 0, min_count, where=where)
