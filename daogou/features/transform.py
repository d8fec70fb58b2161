"""Relations to a fitted transform: what every column of a shop becomes, decided once on train."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from daogou.errors import ArtifactError, DataError
from daogou.features.gazetteer import Gazetteer, Taught, fit_gazetteer
from daogou.features.numeric import Numeric, fit_numeric
from daogou.features.order import in_order
from daogou.features.subwords import open_subwords
from daogou.features.tags import find_values
from daogou.features.text import TextVocab, fit_text
from daogou.features.tokens import tokenise
from daogou.features.vocab import Vocab, fit_vocab
from daogou.schema import Events, Shop
from daogou.tables.engine import Engine, name_of, quoted

VERSION: Final = 5
MOST_VALUES: Final = 50_000  # of a column that are looked for in titles
MOST_CLASSES: Final = 1024  # of an attribute that is read as classes
_TEACHING: Final = "SELECT item FROM title_split WHERE split = 'train'"
MAX_TOKENS: Final = 64  # a title is cut here unless text_length says otherwise
_NUMBERS: Final = (
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT",
    "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
    "FLOAT", "DOUBLE", "DECIMAL",
)  # fmt: skip


@dataclass(frozen=True)
class Fields:
    """The fitted input columns of one table, in order."""

    names: tuple[str, ...]
    coders: tuple[Vocab | Numeric, ...]

    @property
    def offsets(self) -> tuple[int, ...]:
        """First row of each column in the one table that all columns of this kind share."""
        sizes = [coder.n_rows for coder in self.coders]
        return tuple(int(start) for start in np.cumsum([0, *sizes[:-1]])) if sizes else ()

    @property
    def n_rows(self) -> int:
        """Rows of that table."""
        return sum(coder.n_rows for coder in self.coders)

    @property
    def n_numbers(self) -> int:
        """How many of the columns are numbers."""
        return sum(isinstance(coder, Numeric) for coder in self.coders)

    def encode(
        self, columns: Mapping[str, pa.ChunkedArray], n: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Table rows, int32 ``[n, C]``, and ranks of the numbers, float32 ``[n, K]``.

        A column that is not among ``columns`` is encoded as missing: serving may know less.
        """
        rows = np.zeros((n, len(self.names)), dtype=np.int32)
        ranks: list[NDArray[np.float32]] = []
        pieces = zip(self.names, self.coders, self.offsets, strict=True)
        for j, (name, coder, offset) in enumerate(pieces):
            column = columns.get(name)
            if isinstance(coder, Vocab):
                coded = coder.encode(column) if column is not None else 0
            else:
                numbers = as_numbers(column) if column is not None else np.full(n, np.nan)
                coded = coder.bucket(numbers)
                ranks.append(coder.rank(numbers))
            rows[:, j] = coded + offset
        return rows, np.stack(ranks, axis=1) if ranks else np.zeros((n, 0), dtype=np.float32)

    def kept(self, names: Collection[str]) -> "Fields":
        """Those of the columns that are among ``names``, which is what a table may lack."""
        pairs = zip(self.names, self.coders, strict=True)
        found = {name: coder for name, coder in pairs if name in names}
        return Fields(tuple(found), tuple(found.values()))

    def select(self, relation: str, prefix: str = "") -> str:
        """SQL that yields these columns of ``relation``, text as text and numbers as DOUBLE."""
        return ", ".join(
            f"TRY_CAST({relation}.{name_of(prefix + name)} AS "
            f"{'VARCHAR' if isinstance(coder, Vocab) else 'DOUBLE'}) AS {name_of(prefix + name)}"
            for name, coder in zip(self.names, self.coders, strict=True)
        )

    def to_json(self) -> list[dict[str, Any]]:
        """A document from which `from_json` makes equal fields."""
        return [
            {"name": name, "kind": type(coder).__name__.lower(), **coder.to_json()}
            for name, coder in zip(self.names, self.coders, strict=True)
        ]

    @staticmethod
    def from_json(document: list[dict[str, Any]]) -> "Fields":
        """The fields of a document made by `to_json`."""
        makers: Mapping[str, Callable[[Mapping[str, Any]], Vocab | Numeric]]
        makers = {"vocab": Vocab.from_json, "numeric": Numeric.from_json}
        return Fields(
            tuple(field["name"] for field in document),
            tuple(makers[field["kind"]](field) for field in document),
        )


@dataclass(frozen=True)
class LogScale:
    """Where the logarithms of the training values above 0 lie. Made by `fit_log_scale`."""

    mean: float
    spread: float  # standard deviation, above 0
    least: float
    most: float


def fit_log_scale(logs: NDArray[np.float64]) -> LogScale:
    """The scale of some logarithms ``[n]``; 0 and 1 stand for what too few of them leave open.

    >>> fit_log_scale(np.array([1.0, 3.0]))
    LogScale(mean=2.0, spread=1.0, least=1.0, most=3.0)
    >>> fit_log_scale(np.array([]))
    LogScale(mean=0.0, spread=1.0, least=0.0, most=0.0)
    """
    if not len(logs):
        return LogScale(0.0, 1.0, 0.0, 0.0)
    spread = float(logs.std())
    return LogScale(
        float(logs.mean()), spread if spread > 1e-9 else 1.0, float(logs.min()), float(logs.max())
    )


@dataclass(frozen=True)
class Transform:
    """Everything that turns a shop's rows into the model's arrays, in training and in serving."""

    item_ids: Vocab
    user_ids: Vocab
    items: Fields
    users: Fields
    context: Fields
    profile: Fields  # vocabularies of the profile columns; their words are the classes
    text: TextVocab | None
    text_columns: tuple[str, ...]
    attributes: tuple[str, ...]
    actions: tuple[str, ...]  # kinds of history event
    stages: tuple[str, ...]  # funnel labels
    windows: tuple[float, ...] = ()  # hours within which each stage counts
    domain: str | None = None  # which column of the context is the domain
    position: str | None = None  # and which the place in a list
    value: LogScale | None = None  # of what the last stage is worth
    many: Fields = Fields((), ())  # vocabularies of the profile columns that hold lists
    values: Fields = Fields((), ())  # vocabularies of attributes of few values, for their classes
    traits: Fields = Fields((), ())  # of attributes that the catalogue tells, for habits

    def classes(self, column: str) -> tuple[str, ...]:
        """The values of a profile column, of what its lists hold, or of an attribute's classes."""
        of = (fields for fields in (self.many, self.values) if column in fields.names)
        fields = next(of, self.profile)
        coder = fields.coders[fields.names.index(column)]
        assert isinstance(coder, Vocab)
        return coder.words

    @property
    def first_values(self) -> tuple[int, ...]:
        """Place of each list column's first value among the values of all of them."""
        ends = np.cumsum([0, *(coder.n_rows - 1 for coder in self.many.coders)])
        return tuple(int(start) for start in ends[:-1])

    def to_json(self) -> dict[str, Any]:
        """A document from which `from_json` makes an equal transform."""
        return {
            "version": VERSION,
            "item_ids": self.item_ids.to_json(),
            "user_ids": self.user_ids.to_json(),
            "items": self.items.to_json(),
            "users": self.users.to_json(),
            "context": self.context.to_json(),
            "profile": self.profile.to_json(),
            "text": self.text.to_json() if self.text else None,
            "text_columns": list(self.text_columns),
            "attributes": list(self.attributes),
            "actions": list(self.actions),
            "stages": list(self.stages),
            "windows": list(self.windows),
            "domain": self.domain,
            "position": self.position,
            "value": asdict(self.value) if self.value else None,
            "many": self.many.to_json(),
            "values": self.values.to_json(),
            "traits": self.traits.to_json(),
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Transform":
        """The transform of a document made by `to_json`."""
        if document.get("version") != VERSION:
            raise ArtifactError(
                f"transform: version {document.get('version')!r}, this Daogou reads {VERSION}; "
                "fit again, or use the Daogou that made it"
            )
        return Transform(
            item_ids=Vocab.from_json(document["item_ids"]),
            user_ids=Vocab.from_json(document["user_ids"]),
            items=Fields.from_json(document["items"]),
            users=Fields.from_json(document["users"]),
            context=Fields.from_json(document["context"]),
            profile=Fields.from_json(document["profile"]),
            text=TextVocab.from_json(document["text"]) if document["text"] else None,
            text_columns=tuple(document["text_columns"]),
            attributes=tuple(document["attributes"]),
            actions=tuple(document["actions"]),
            stages=tuple(document["stages"]),
            windows=tuple(document["windows"]),
            domain=document["domain"],
            position=document["position"],
            value=LogScale(**document["value"]) if document.get("value") else None,
            many=Fields.from_json(document.get("many", [])),
            values=Fields.from_json(document["values"]),
            traits=Fields.from_json(document["traits"]),
        )


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
    items_seen, users_seen = "SELECT item FROM seen_items", "SELECT user FROM seen_users"
    items = _fit_fields(
        engine, "items", shop.items.columns if shop.items else (), buckets, min_count,
        where=f"{name_of(shop.items.key)} IN ({items_seen})" if shop.items else "",
        categories=shop.items.categories if shop.items else (),
    )  # fmt: skip
    users = _fit_fields(
        engine, "users", shop.users.columns if shop.users else (), buckets, min_count,
        where=f"{name_of(shop.users.key)} IN ({users_seen})" if shop.users else "",
        categories=shop.users.categories if shop.users else (),
    )  # fmt: skip
    lists = _lists(engine, shop)
    teaches = (
        f"{name_of(shop.users.key)} IN (SELECT user FROM user_split WHERE split = 'train')"
        if shop.users
        else ""
    )
    profile = _fit_fields(
        engine, "users",
        tuple(name for name in shop.users.profile if name not in lists) if shop.users else (),
        0, 1, where=teaches,
    )  # fmt: skip
    context = _context(shop)
    numbers = _are_numbers(engine, "exposures", context, _kinds(shop.events), "context_")
    shown = [
        _coder(engine, f"FROM seen_context_{place}", number, buckets, min_count)
        for place, number in enumerate(numbers)
    ]
    _check_orders(shop, profile)
    text_columns = shop.items.text if shop.items else ()
    return Transform(
        item_ids=fit_vocab(_counts(engine, "item"), min_count=min_count),
        user_ids=fit_vocab(_counts(engine, "user"), min_count=min_count),
        items=items,
        users=users,
        context=Fields(context, tuple(shown)),
        profile=profile,
        text=_fit_text(engine, shop, text_length, word_count),
        text_columns=text_columns,
        attributes=shop.attributes,
        actions=shop.events.history_kinds if shop.events else (),
        stages=shop.events.stages if shop.events else (),
        windows=tuple(shop.events.window_of(stage) for stage in shop.events.stages)
        if shop.events
        else (),
        domain=shop.events.domain if shop.events else None,
        position=shop.events.position if shop.events else None,
        value=_fit_value(engine, shop),
        many=_fit_lists(engine, lists, teaches),
        values=_fit_values(engine, shop),
        traits=_fit_traits(engine, shop, min_count),
    )


def _kinds(events: Events | None) -> tuple[str, ...]:
    """The columns of the context that only name a kind; a domain is one whatever its type."""
    if events is None:
        return ()
    return (*events.categories, *([events.domain] if events.domain else []))


def text_of(columns: tuple[str, ...], relation: str) -> str:
    """SQL for the text of a row: the text columns with a space between, missing ones empty."""
    parts = [f"coalesce(CAST({relation}.{name_of(name)} AS VARCHAR), '')" for name in columns]
    return " || ' ' || ".join(parts) if parts else "''"


def as_numbers(column: pa.ChunkedArray | pa.Array) -> NDArray[np.float64]:
    """An Arrow column of numbers as float64, missing as NaN."""
    numbers: NDArray[np.float64] = (
        column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        if (isinstance(column, pa.Array))
        else column.cast(pa.float64()).to_numpy()
    )
    return numbers.astype(np.float64, copy=False)


def counted_tables(shop: Shop) -> tuple[str, ...]:
    """The tables that `count_log` makes: ``n`` of each value, which parts of a log add up."""
    context = (f"seen_context_{place}" for place in range(len(_context(shop))))
    return ("seen_items", "seen_users", "seen_amounts", *context)


def count_log(engine: Engine, shop: Shop, until: str | None = None) -> None:
    """Count what a transform is fitted on in the exposures that teach, and their histories.

    A table each of items and users, of the values of each column of the context, and of the
    logarithms of amounts. Histories count up to ``until``, UTC; None is the last training exposure.
    """
    _keep_seen(engine, quoted(until) + "::TIMESTAMP" if until else None)
    context = _context(shop)
    numbers = _are_numbers(engine, "exposures", context, _kinds(shop.events), "context_")
    for place, (name, number) in enumerate(zip(context, numbers, strict=True)):
        counts = _counting("exposures", f"context_{name}", number, "split = 'train'")
        engine.run(f"CREATE OR REPLACE TABLE seen_context_{place} AS {counts}")
    amounts = "SELECT 0::DOUBLE AS value, 0 AS n WHERE false"
    for task in shop.of_family("funnel"):
        if task.is_value:
            given = f" AND {name_of('label_' + task.given)} = 1" if task.given else ""
            amounts = (
                "SELECT ln(value) AS value, count(*) AS n FROM exposures "
                f"WHERE split = 'train' AND value > 0{given} GROUP BY 1"
            )
    engine.run(f"CREATE OR REPLACE TABLE seen_amounts AS {amounts}")


def _context(shop: Shop) -> tuple[str, ...]:
    return shop.events.context if shop.events else ()


def _keep_seen(engine: Engine, until: str | None) -> None:
    """Tables of the items and users that training may look at, with how often each was seen."""
    until = until or "(SELECT max(time) FROM exposures WHERE split = 'train')"
    taught = (
        "SELECT user, item, 1 AS worth FROM exposures WHERE split = 'train' "
        "UNION ALL SELECT user, item, worth FROM earlier"
    )
    engine.run(
        "CREATE OR REPLACE TABLE seen_items AS SELECT item, ceil(sum(worth)) AS n FROM ("
        f"SELECT item, worth FROM ({taught}) UNION ALL "
        f"SELECT item, 1 FROM history WHERE time <= {until}) WHERE item IS NOT NULL GROUP BY item"
    )
    engine.run(
        f"CREATE OR REPLACE TABLE seen_users AS SELECT user, ceil(sum(worth)) AS n FROM ({taught}) "
        "WHERE user IS NOT NULL GROUP BY user"
    )


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
    numbers = _are_numbers(engine, relation, names, categories) if buckets else [False] * len(names)
    coders = []
    for name, number in zip(names, numbers, strict=True):
        counts = f"FROM ({_counting(relation, name, number, where)})"
        coders.append(_coder(engine, counts, number, buckets, min_count))
    return Fields(names, tuple(coders))


def _are_numbers(
    engine: Engine,
    relation: str,
    names: tuple[str, ...],
    categories: Collection[str],
    prefix: str = "",
) -> list[bool]:
    """Which columns are fitted as numbers."""
    types = engine.columns(relation) if names else {}
    return [types[prefix + name].startswith(_NUMBERS) and name not in categories for name in names]


def _counting(relation: str, name: str, number: bool, where: str) -> str:
    """SQL of each value of a column, and how often it comes where the condition holds."""
    column = name_of(name)
    # Counted in the engine: of a billion positions in a list, ten are different.
    value, known = (
        (f"CAST({column} AS DOUBLE)", f"isfinite(CAST({column} AS DOUBLE))")
        if number
        else (f"CAST({column} AS VARCHAR)", f"{column} IS NOT NULL")
    )
    return (
        f"SELECT {value} AS value, count(*) AS n FROM {relation} WHERE {where} AND {known} "
        "GROUP BY 1"
    )


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


def _fit_lists(engine: Engine, names: tuple[str, ...], where: str) -> Fields:
    """A vocabulary of the values in each column of lists."""
    coders = []
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


def _fit_text(engine: Engine, shop: Shop, length: int, word_count: int) -> TextVocab | None:
    """Words of the titles that training may see; a length of 0 is what 99 % of them need."""
    if not (shop.items and shop.items.text):
        return None
    key = name_of(shop.items.key)
    sql = (
        f"SELECT DISTINCT {text_of(shop.items.text, 'items')} AS text FROM items "
        f"WHERE {key} IN (SELECT item FROM seen_items) ORDER BY text"
    )
    texts = [row[0] for row in engine.rows(sql)]
    if not length:
        sizes = [len(tokenise(text)) for text in texts] or [1]
        length = min(max(int(np.quantile(sizes, 0.99)), 1), MAX_TOKENS)
    return fit_text(
        texts,
        length=length,
        min_count=word_count,
        gazetteer=_lists_of(engine, shop),
        subwords=open_subwords(shop),
    )


def _lists_of(engine: Engine, shop: Shop) -> Gazetteer | None:
    """The values of training titles' gold spans and of their products' columns."""
    if not shop.of_family("extract"):
        return None
    return fit_gazetteer(
        _gold_titles(engine, shop), _catalogue_values(engine, shop), attributes=shop.attributes
    )


def _fit_values(engine: Engine, shop: Shop) -> Fields:
    """A vocabulary for each attribute column of 2 to `MOST_CLASSES` values in training titles."""
    names, coders = [], []
    if shop.items and shop.of_family("extract"):
        types = engine.columns("items")
        for name in shop.attributes:
            if types.get(name) != "VARCHAR":
                continue
            rows = engine.rows(
                f"SELECT {name_of(name)}, count(*) FROM items WHERE {_known(name)} AND "
                f"{name_of(shop.items.key)} IN ({_TEACHING}) GROUP BY 1"
            )
            if 2 <= len(rows) <= MOST_CLASSES:
                names.append(name)
                coders.append(fit_vocab(dict(rows)))
    return Fields(tuple(names), tuple(coders))


def _fit_traits(engine: Engine, shop: Shop, min_count: int) -> Fields:
    """A vocabulary for each attribute that the catalogue tells and that is no input already.

    Profiles count them in histories. No encoder reads them, so what extraction is to learn from a
    title does not reach it by another way.
    """
    if shop.items is None or not shop.of_family("profile"):
        return Fields((), ())
    told = told_attributes(engine, shop)
    names = tuple(name for name in told if name not in shop.items.columns)
    where = f"{name_of(shop.items.key)} IN (SELECT item FROM seen_items)"
    return _fit_fields(engine, "items", names, 0, min_count, where=where)


def _known(column: str) -> str:
    """SQL for: a text column says something. Blank is missing."""
    return f"trim({name_of(column)}) <> ''"


def _gold_titles(engine: Engine, shop: Shop) -> Iterator[Taught]:
    """Training titles, as they will be encoded, with what was annotated in them."""
    assert shop.items is not None
    if not shop.items.spans:
        yield from _told_titles(engine, shop)
        return
    key, spans = name_of(shop.items.key), name_of(shop.items.spans)
    annotated = name_of(shop.items.annotated) if shop.items.annotated else "NULL"
    rows = engine.rows(
        f"SELECT {text_of(shop.items.text, 'items')}, {spans}, {annotated} FROM items "
        f"WHERE {key} IN ({_TEACHING}) ORDER BY {key}"
    )
    for text, found, looked_for in rows:
        gold = [(span["start"], span["end"], span["attribute"]) for span in found or ()]
        names = (looked_for or ()) if shop.items.annotated else shop.attributes
        yield Taught(text, gold, frozenset(names))


def _told_titles(engine: Engine, shop: Shop) -> Iterator[Taught]:
    """Training titles with the values of their own columns wherever they stand in them."""
    assert shop.items is not None
    names = told_attributes(engine, shop)
    columns = ", ".join(name_of(name) for name in names)
    rows = engine.rows(
        f"SELECT {text_of(shop.items.text, 'items')}, {columns} FROM items WHERE "
        f"{name_of(shop.items.key)} IN ({_TEACHING}) ORDER BY {name_of(shop.items.key)}"
    ) if names else []  # fmt: skip
    for text, *values in rows:
        told = {
            name: value
            for name, value in zip(names, values, strict=True)
            if value and value.strip()
        }
        yield Taught(text, find_values(text, told), frozenset(told))


def told_attributes(engine: Engine, shop: Shop) -> tuple[str, ...]:
    """The attributes that a column of texts says of each product."""
    types = engine.columns("items")
    return tuple(name for name in shop.attributes if types.get(name) == "VARCHAR")


def _catalogue_values(engine: Engine, shop: Shop) -> Iterator[tuple[str, str, str]]:
    """(column, value, title) of training titles' products: of each value two titles, or its one.

    Columns of texts alone, and of each the `MOST_VALUES` values that most products have.
    """
    assert shop.items is not None
    types = engine.columns("items")
    key, text = name_of(shop.items.key), text_of(shop.items.text, "items")
    for name in dict.fromkeys((*shop.attributes, *shop.items.columns)):
        if types.get(name) != "VARCHAR":
            continue
        rows = engine.rows(
            f"SELECT {name_of(name)}, min({text}), max({text}) FROM items WHERE "
            f"{_known(name)} AND {key} IN ({_TEACHING}) "
            f"GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {MOST_VALUES}"
        )
        for value, first, last in rows:
            yield name, value, first
            yield name, value, last
