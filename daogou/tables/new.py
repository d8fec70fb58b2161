"""A folder of tables to a commented shop.toml: guesses from names and values, each with its why."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from daogou.errors import ConfigError
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.names import (
    ITEMS,
    KINDS,
    LABELS,
    PROFILES,
    REQUESTS,
    STEPS,
    TEXTS,
    TIANCHI,
    TIMES,
    USERS,
    WEIGHTS,
    plain,
)
from daogou.tables.sample import Column, Table, tables_in

_UNIQUE: Final = 0.5  # a text column with more different values than this share is a name or link

_LIMIT: Final = 5000  # different words a context or profile input may have

_PROFILE_MOST: Final = 60

_NAMED: Final = 0.5  # of the products whose title says a column's word, for it to be an attribute

_POSITIONS: Final = ("position", "pos", "rank", "slot", "位置", "坑位", "展示位置")

_AMOUNTS: Final = (
    "amount",
    "orderamount",
    "revenue",
    "paid",
    "金额",
    "成交金额",
    "实付金额",
    "付款金额",
)

# Words in the names of files.
_ITEM_FILES: Final = "item product good sku 商品 货品 宝贝"

_USER_FILES: Final = "user custom member 用户 会员 顾客 客户"

_EVENT_FILES: Final = "event interaction behavi log action 行为 日志 事件"


def propose(folder: Path) -> str:
    """The text of a ``shop.toml`` for the tables in a folder, each guess with its reason.

    Reads names and the first rows only, and writes nothing. Amazon Personalize's, RetailRocket's,
    REES46's and Taobao UserBehavior's own names are known.

    Raises `ConfigError` where the folder has a ``shop.toml`` or no table that a model could be
    made of, and `DataError` where a file is damaged.
    """
    if (folder / "shop.toml").exists():
        raise ConfigError(f"{folder / 'shop.toml'}: exists already; edit it, or move it away first")
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give the one that holds the tables")
    with Engine(threads=1, memory_limit="1GB") as engine:
        tables = tables_in(engine, folder)
        sections, left = _sections(engine, tables)
    if not sections:
        raise ConfigError(_nothing(folder, tables))
    lines = [
        "# A proposal: every line is a guess from names and the first rows. Correct it, then run",
        "# `daogou check shop.toml`.",
        f"name = {_text(folder.resolve().name or 'shop')}",
        "seed = 0",
    ]
    for name in ("items", "users", "events"):
        if name in sections:
            lines += ["", f"[{name}]", *sections[name]]
    if left:
        lines += ["", "# Not used:", *(f"#   {line}" for line in left)]
    return "\n".join(lines) + "\n"


def _nothing(folder: Path, tables: Sequence[Table]) -> str:
    """That no table is one of a shop's, what there is, and what would be known."""
    if not tables:
        return (
            f"{folder}: no parquet, csv, tsv or jsonl file; put the tables there, or give their "
            "folder"
        )
    found = "; ".join(
        f"{table.path} ({', '.join(column.name for column in table.columns)})" for table in tables
    )
    return (
        f"{folder}: no products, users or events among: {found}. Tables are known by the names of "
        "their columns: user_id, item_id, time, event (用户编号、商品编号、时间、行为) and the "
        "like, events also by more kinds than one; rename columns so, or write shop.toml by hand"
    )


def _text(value: str) -> str:
    """A TOML string; JSON's escapes are TOML's."""
    return json.dumps(value, ensure_ascii=False)


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(_text(value) for value in values)}]"


def _sections(engine: Engine, tables: list[Table]) -> tuple[Mapping[str, list[str]], list[str]]:
    """The lines of each section that a table was found for, and what was left out and why."""
    sections: dict[str, list[str]] = {}
    left: list[str] = []
    tables = [table for table in tables if table.rows]
    events = _pick(tables, lambda table: _likely_events(engine, table))
    rest = [table for table in tables if table is not events]
    items = _pick(rest, lambda table: _likely_key(engine, table, ITEMS, _ITEM_FILES))
    rest = [table for table in rest if table is not items]
    users = _pick(rest, lambda table: _likely_key(engine, table, USERS, _USER_FILES))
    rest = [table for table in rest if table is not users]
    for table in rest:
        left.append(
            f"{table.path}: neither one row per item or user, nor events with user, item, time and "
            f"kind, nor labels of 0 and 1 ({', '.join(column.name for column in table.columns)})"
        )
    if items:
        sections["items"] = _item_lines(engine, items)
    if users:
        sections["users"] = _user_lines(users)
    if events:
        sections["events"] = _event_lines(engine, events)
    return sections, left


def _pick(tables: list[Table], score: Callable[[Table], float]) -> Table | None:
    """The table with the highest score above 0, the first of equals."""
    scores = [score(table) for table in tables]
    best = max(scores, default=0.0)
    return tables[scores.index(best)] if best > 0 else None


def _likely_events(engine: Engine, table: Table) -> float:
    roles = [table.find(words) for words in (USERS, ITEMS, TIMES, KINDS)]
    # One kind of event alone has no outcome to learn.
    is_log = all(roles) and bool(roles[3] and roles[3].values > 1)
    if not is_log and not _label_columns(engine, table):
        return 0
    roles_found = sum(role is not None for role in roles)
    return 1.0 + 10 * is_log + roles_found + _named(table, _EVENT_FILES)


def _likely_key(engine: Engine, table: Table, keys: Iterable[str], words: str) -> float:
    """Above 0 if a column of that kind is a key; more if the file's name says so too."""
    key = table.find([*keys, "id", "key"] if _named(table, words) else keys)
    if key is None or key.filled < table.rows:
        return 0
    name = name_of(key.name)
    if engine.value(f"SELECT count(DISTINCT {name}) FROM {table.relation}") < table.rows:
        return 0
    return 1.0 + _named(table, words)


def _named(table: Table, words: str) -> bool:
    return any(word in table.path.lower() for word in words.split())


def _sort(
    columns: Iterable[Column], rows: int, most: int | None = None
) -> tuple[list[str], list[str]]:
    """Names of the columns that can be inputs, and a comment for each that cannot."""
    good: list[str] = []
    comments: list[str] = []
    for column in columns:
        if column.is_nested:
            why = f"is {column.type}, a list or record"
        elif column.values < 2 and column.filled in (0, rows):
            why = "has one value"
        elif not column.is_number and column.values > max(20, _UNIQUE * column.filled):
            why = "is different on nearly every row"
        elif not column.is_number and most and column.values > most:
            why = f"has about {column.values} different words"
        else:
            good.append(column.name)
            continue
        comments.append(f"# left out: {column.name!r} {why}")
    return good, comments


def _item_lines(engine: Engine, table: Table) -> list[str]:
    key = table.find([*ITEMS, "id", "key"])
    texts = [column for column in table.columns if column.word in TEXTS and column is not key]
    texts.sort(key=lambda column: TEXTS.index(column.word))
    spans = next(
        (column for column in table.columns if column.is_nested and "attribute" in column.type),
        None,
    )
    used = {key, spans, *texts}
    annotated = next((c for c in table.columns if c.word == "annotated" and c.is_nested), None)
    columns, comments = _sort(
        (column for column in table.columns if column not in used and column is not annotated),
        table.rows,
    )
    lines = [
        f"path = {_text(table.path)}",
        f"key = {_text(key.name if key else '')}",
        f"text = {_list(column.name for column in texts)}  # text[0] is the title",
        f"columns = {_list(columns)}  # inputs",
    ]
    named = [] if spans or not texts else _in_titles(engine, table, texts[0], columns)
    if named:
        lines.append(
            f"attributes = {_list(named)}  # most titles say them: extraction learns to find them"
        )
    lines += comments
    if spans and texts:
        found = engine.rows(
            f"SELECT DISTINCT unnest({name_of(spans.name)}).attribute FROM {table.relation} "
            "ORDER BY 1"
        )
        attributes = [str(row[0]) for row in found if row[0] is not None]
        if attributes:
            lines += [
                f"attributes = {_list(attributes)}  # every attribute that a span names",
                f"spans = {_text(spans.name)}",
            ]
            lines += [f"annotated = {_text(annotated.name)}"] if annotated else []
    return lines


def _in_titles(engine: Engine, table: Table, title: Column, columns: Sequence[str]) -> list[str]:
    """Columns of words that stand in the titles of at least half of the products that have one."""
    words = [each.name for each in table.columns if each.name in columns and not each.is_number]
    if not words:
        return []
    where = f"lower(CAST({name_of(title.name)} AS VARCHAR))"
    shares = [
        f"avg(CAST(contains({where}, lower({value})) AS DOUBLE)) FILTER (WHERE length({value}) > 1)"
        for value in (f"trim(CAST({name_of(name)} AS VARCHAR))" for name in words)
    ]
    found = engine.rows(f"SELECT {', '.join(shares)} FROM {table.relation}")[0]
    return [name for name, share in zip(words, found, strict=True) if (share or 0) >= _NAMED]


def _user_lines(table: Table) -> list[str]:
    key = table.find([*USERS, "id", "key"])
    profile = [
        column.name
        for column in table.columns
        if column.word in PROFILES and 2 <= column.values <= _PROFILE_MOST
    ]
    columns, comments = _sort(
        (each for each in table.columns if each is not key and each.name not in profile),
        table.rows,
    )
    return [
        f"path = {_text(table.path)}",
        f"key = {_text(key.name if key else '')}",
        f"columns = {_list(columns)}  # inputs",
        f"profile = {_list(profile)}  # what profiling predicts; never an input",
        *comments,
    ]


def _event_lines(engine: Engine, table: Table) -> list[str]:
    user, item, time, kind = (table.find(words) for words in (USERS, ITEMS, TIMES, KINDS))
    labels = _label_columns(engine, table)
    request, weight = table.find(REQUESTS), table.find(WEIGHTS)
    lines = [f"# {note}" for note in table.notes]
    lines.append(f"path = {_text(table.path)}")
    roles = {"user": user, "item": item, "time": time, "request": request, "weight": weight}
    is_log = bool(user and item and time and kind and kind.values > 1)
    unfit: set[str] = set()
    shown = "true"
    if is_log and kind:
        roles["kind"] = kind
        funnel, more = _funnel_lines(engine, table, kind)
        shown = f"CAST({name_of(kind.name)} AS VARCHAR) = {quoted(funnel[0])}"
    name = table.find(("exposureid", "impressionid", "id", "eventid", "rowid", "index", "column0"))
    if name and name.word not in (role.word for role in roles.values() if role):
        roles["id"] = name if _names_rows(engine, table, name, shown) else None
        unfit |= {name.name}
    lines += [f"{role} = {_text(column.name)}" for role, column in roles.items() if column]
    used = {column.name for column in roles.values() if column}
    if is_log and kind:
        lines += more
        # What no exposure carries is only known afterwards: an order's number, a price paid.
        unfit |= _unknown_when_shown(engine, table, shown)
    else:
        lines.append(f"labels = {_list(labels)}  # columns of 0 and 1, independent of each other")
        used |= set(labels)
    context, comments = _sort(
        (each for each in table.columns if each.name not in used | unfit), table.rows, _LIMIT
    )
    comments += [
        f"# left out: {each!r} numbers rows or is empty on every exposure"
        for each in sorted(unfit - used)
    ]
    lines.append(f"context = {_list(context)}  # inputs known when the item is shown")
    place = table.find(_POSITIONS)
    if place and place.name in context:
        lines.append(f"position = {_text(place.name)}  # the place in a list")
    amount = table.find(_AMOUNTS)
    if is_log and amount and amount.name not in used | set(context):
        lines.append(
            f"# value = {_text(amount.name)}  # would learn what the last stage is worth too"
        )
    return lines + comments


def _label_columns(engine: Engine, table: Table) -> list[str]:
    """Columns that are named like an outcome and hold 0 and 1 only, in the order of the steps."""
    found = []
    for column in table.columns:
        word = column.word.removeprefix("is").removesuffix("ed").removesuffix("label")
        if column.is_number and {word, column.word} & set(LABELS) and column.values < 4:
            name = f"TRY_CAST({name_of(column.name)} AS DOUBLE)"
            values = engine.rows(
                f"SELECT DISTINCT {name} FROM {table.relation} WHERE {name} IS NOT NULL ORDER BY 1"
            )
            if values == [(0.0,), (1.0,)]:
                place = min(LABELS.index(each) for each in (word, column.word) if each in LABELS)
                found.append((place, column.name))
    return [name for _, name in sorted(found)]


def _funnel_lines(engine: Engine, table: Table, kind: Column) -> tuple[list[str], list[str]]:
    """The kinds of the funnel in order, and the lines that say so."""
    name = name_of(kind.name)
    counts = {
        str(word): int(count)
        for word, count in engine.rows(
            f"SELECT CAST({name} AS VARCHAR), count(*) FROM {table.relation} "
            f"WHERE {name} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 50"
        )
    }
    funnel: list[str] = []
    why = "in the order a shopper goes; the first is the exposure"
    known = counts
    if set(counts) <= set(TIANCHI):
        funnel = [word for word in ("1", "3", "4") if word in counts]
        named = ", ".join(f"{word} = {TIANCHI[word]}" for word in funnel)
        why = f"taken as {named}, Tianchi's numbers"
    else:
        for step in STEPS:
            same = [word for word in known if plain(word) in step]
            funnel += same[:1]  # the most frequent of the words for one step
    if len(funnel) < 2:
        funnel = list(counts)[:4]
        why = "NOT known words: ordered by how often they occur, please correct"
    rest = [f"{word} ({count})" for word, count in counts.items() if word not in funnel]
    lines = [f"funnel = {_list(funnel)}  # {why}"]
    if rest:
        lines.append(f"# kinds left out of the funnel: {json.dumps(', '.join(rest))}")
    lines.append(
        "# window_h = { click = 24 }  # hours within which a stage counts; 24 if not given"
    )
    return funnel, lines


def _names_rows(engine: Engine, table: Table, column: Column, shown: str) -> bool:
    """Whether every exposure has a value of its own."""
    name = name_of(column.name)
    rows, values = engine.rows(
        f"SELECT count(*), count(DISTINCT {name}) FROM {table.relation} WHERE {shown}"
    )[0]
    return bool(rows == values)


def _unknown_when_shown(engine: Engine, table: Table, shown: str) -> set[str]:
    """Columns that are empty on every exposure."""
    counts = ", ".join(f"count({name_of(column.name)})" for column in table.columns)
    row = engine.rows(f"SELECT {counts} FROM {table.relation} WHERE {shown}")[0]
    return {column.name for column, count in zip(table.columns, row, strict=True) if not count}
