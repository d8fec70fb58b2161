"""A folder of tables to a commented shop.toml: guesses from names and values, each with its why."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daogou.errors import ConfigError
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.read import MONEY, form_of, glance

_SAMPLE: Final = 200_000
_UNIQUE: Final = 0.5  # a text column with more different values than this share is a name or link
_LIMIT: Final = 5000  # different words a context or profile input may have
_PROFILE_MOST: Final = 60
_NAMED: Final = 0.5  # of the products whose title says a column's word, for it to be an attribute

# Names are compared in lower case without marks, so USER_ID, userId and user-id are one.
_USERS: Final = (
    "userid",
    "uid",
    "user",
    "visitorid",
    "customerid",
    "memberid",
    "shopperid",
    "buyerid",
    "custid",
    *("用户id", "用户编号", "用户", "会员id", "会员编号", "会员号", "会员", "顾客id", "顾客编号"),
    *("客户id", "客户编号", "买家id", "买家"),
)
_ITEMS: Final = (
    "itemid",
    "productid",
    "sku",
    "skuid",
    "asin",
    "goodsid",
    "articleid",
    "spuid",
    "iid",
    "item",
    "product",
    "nid",
    *("商品id", "商品编号", "商品编码", "商品", "宝贝id", "货号", "sku编号", "sku编码", "款号"),
)
_TIMES: Final = (
    "timestamp",
    "ts",
    "eventtime",
    "time",
    "datetime",
    "eventtimestamp",
    "behaviortime",
    "timestamps",
    "createdat",
    "date",
    "day",
    *("时间", "时间戳", "事件时间", "行为时间", "发生时间", "操作时间", "日期"),
)
_KINDS: Final = (
    "event",
    "eventtype",
    "kind",
    "behavior",
    "behaviour",
    "behaviortype",
    "action",
    "actiontype",
    "eventname",
    "type",
    *("行为", "行为类型", "事件", "事件类型", "事件名", "动作", "类型"),
)
_REQUESTS: Final = (
    "request",
    "requestid",
    "slate",
    "slateid",
    "queryid",
    "recommendationid",
    "请求id",
)
_TEXTS: Final = (
    "title",
    "name",
    "productname",
    "itemname",
    "producttitle",
    "titlezh",
    "titleen",
    "goodsname",
    *("商品标题", "标题", "商品名称", "商品名", "宝贝标题", "名称"),
)
_PROFILES: Final = (
    "gender",
    "sex",
    "age",
    "ageband",
    "agerange",
    "agegroup",
    "agelevel",
    "agedesc",
    "income",
    "incomedesc",
    "incomelevel",
    "maritalstatus",
    "maritalstatuscode",
    "education",
    "occupation",
    "tier",
    "userlevel",
    "householdsize",
    "married",
    *("性别", "年龄", "年龄段", "年龄层", "收入", "婚姻", "婚姻状况", "学历", "职业", "会员等级"),
)
_WEIGHTS: Final = ("weight", "sampleweight", "instanceweight", "fnlwgt")
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

# From the first step a shopper can take to the last; words of one step mean the same.
_STEPS: Final[tuple[tuple[str, ...], ...]] = (
    ("impression", "impressions", "exposure", "expose", "shown", "show", "曝光", "展示", "展现"),
    ("view", "pv", "pageview", "viewitem", "productview", "detail", "watch", "浏览", "查看"),
    ("click", "clk", "clicks", "点击"),
    ("cart", "addtocart", "basket", "addcart", "加购", "加入购物车", "加购物车"),
    (
        *("purchase", "buy", "order", "transaction", "bought", "pay", "paid"),
        *("购买", "下单", "支付", "付款", "成交"),
    ),
)
_TIANCHI: Final = {"1": "view", "2": "favourite", "3": "cart", "4": "buy"}
_LABELS: Final = (
    *(word for step in _STEPS for word in step),
    *("label", "target", "conversion", "converted", "y", "like", "follow", "forward", "longview"),
)
# Words in the names of files.
_ITEM_FILES: Final = "item product good sku 商品 货品 宝贝"
_USER_FILES: Final = "user custom member 用户 会员 顾客 客户"
_EVENT_FILES: Final = "event interaction behavi log action 行为 日志 事件"
_USER_BEHAVIOR: Final = ("user_id", "item_id", "category_id", "behavior", "timestamp")


@dataclass(frozen=True)
class _Column:
    """What a sample says about a column."""

    name: str
    type: str
    filled: int
    values: int  # different ones, about
    is_number: bool

    @property
    def word(self) -> str:
        """The name as it is compared."""
        return _plain(self.name)

    @property
    def is_nested(self) -> bool:
        """Whether a value is a list or a record."""
        return self.type.endswith("]") or self.type.startswith(("STRUCT", "MAP", "UNION"))


@dataclass(frozen=True)
class _Table:
    """A file, or several of one form, and what a sample of the first says."""

    path: str  # relative to the folder; a glob for several
    relation: str
    rows: int
    columns: tuple[_Column, ...]
    notes: tuple[str, ...] = ()

    def find(self, words: Iterable[str]) -> _Column | None:
        """The column whose name is the earliest of the words."""
        named = {column.word: column for column in reversed(self.columns)}
        return next((named[word] for word in words if word in named), None)


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
        tables = _tables(engine, folder)
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


def _nothing(folder: Path, tables: Sequence[_Table]) -> str:
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


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _text(value: str) -> str:
    """A TOML string; JSON's escapes are TOML's."""
    return json.dumps(value, ensure_ascii=False)


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(_text(value) for value in values)}]"


def _tables(engine: Engine, folder: Path) -> list[_Table]:
    """The folder's tables; files of one form and one set of columns are one table."""
    groups: dict[tuple[str | None, tuple[str, ...]], list[tuple[Path, int]]] = {}
    sampled: dict[int, tuple[str, tuple[str, ...]]] = {}
    for number, path in enumerate(_candidates(folder)):
        relation = f"sample_{number}"
        notes = _sample(engine, path, relation)
        key = (form_of(path), tuple(engine.columns(relation)))
        groups.setdefault(key, []).append((path, number))
        sampled[number] = (relation, notes)
    found = []
    for members in groups.values():
        paths = [path for path, _ in members]
        relation, notes = sampled[members[0][1]]
        together = _together(folder, paths) if len(paths) > 1 else None
        if together:
            found.append(_measure(engine, together, relation, notes))
            continue
        for path, number in members:
            relation, notes = sampled[number]
            place = _place(folder, path)
            found.append(_measure(engine, place, relation, notes))
    return found


def _candidates(folder: Path) -> list[Path]:
    """Files of the folder, and the first file of each of its subfolders of parts."""
    found = []
    for each in sorted(folder.iterdir()):
        if each.name.startswith((".", "truth")):
            continue
        if each.is_file() and form_of(each):
            found.append(each)
        elif each.is_dir():
            parts = sorted(part for part in each.rglob("*") if part.is_file() and form_of(part))
            found += parts[:1]
    return found


def _place(folder: Path, path: Path) -> str:
    """The path for shop.toml: the file, or the subfolder whose parts are one table."""
    return path.relative_to(folder).parts[0]


def _together(folder: Path, paths: list[Path]) -> str | None:
    """A glob that names just these files."""
    names = [_place(folder, path) for path in paths]
    start = _shared(names)
    end = _shared([name[::-1] for name in names])[::-1]
    pattern = f"{start}*{end}"
    return pattern if {each.name for each in folder.glob(pattern)} == set(names) else None


def _shared(names: list[str]) -> str:
    """The letters that all names begin with."""
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same)


def _sample(engine: Engine, path: Path, relation: str) -> tuple[str, ...]:
    """Keep the first rows of a file as ``relation``; name its columns if it does not."""
    header = list(glance(engine, path, relation, rows=_SAMPLE))
    if len(header) == 5 and header[3].lower() in ("pv", "buy", "cart", "fav"):
        renamed = ", ".join(
            f"{name_of(old)} AS {name_of(new)}"
            for old, new in zip(header, _USER_BEHAVIOR, strict=True)
        )
        engine.run(f"CREATE OR REPLACE TABLE {relation} AS SELECT {renamed} FROM {relation}")
        return (
            "Taobao UserBehavior: the file has no line of column names. Put this line first:",
            f"  {','.join(_USER_BEHAVIOR)}",
        )
    return ()


def _measure(engine: Engine, path: str, relation: str, notes: tuple[str, ...]) -> _Table:
    columns = engine.columns(relation)
    counts = ", ".join(
        f"count({name_of(name)}), approx_count_distinct(CAST({name_of(name)} AS VARCHAR)), "
        f"count(*) FILTER (WHERE TRY_CAST(CAST({name_of(name)} AS VARCHAR) AS DOUBLE) IS NOT NULL "
        f"OR regexp_full_match(trim(CAST({name_of(name)} AS VARCHAR)), {quoted(MONEY)}))"
        for name in columns
    )
    rows, *found = engine.rows(f"SELECT count(*), {counts} FROM {relation}")[0]
    measured = []
    for i, (name, kind) in enumerate(columns.items()):
        filled, values, numbers = found[3 * i : 3 * i + 3]
        measured.append(_Column(name, kind, filled, values, 0 < filled == numbers))
    return _Table(path, relation, rows, tuple(measured), notes)


def _sections(engine: Engine, tables: list[_Table]) -> tuple[Mapping[str, list[str]], list[str]]:
    """The lines of each section that a table was found for, and what was left out and why."""
    sections: dict[str, list[str]] = {}
    left: list[str] = []
    tables = [table for table in tables if table.rows]
    events = _pick(tables, lambda table: _likely_events(engine, table))
    rest = [table for table in tables if table is not events]
    items = _pick(rest, lambda table: _likely_key(engine, table, _ITEMS, _ITEM_FILES))
    rest = [table for table in rest if table is not items]
    users = _pick(rest, lambda table: _likely_key(engine, table, _USERS, _USER_FILES))
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


def _pick(tables: list[_Table], score: Callable[[_Table], float]) -> _Table | None:
    """The table with the highest score above 0, the first of equals."""
    scores = [score(table) for table in tables]
    best = max(scores, default=0.0)
    return tables[scores.index(best)] if best > 0 else None


def _likely_events(engine: Engine, table: _Table) -> float:
    roles = [table.find(words) for words in (_USERS, _ITEMS, _TIMES, _KINDS)]
    # One kind of event alone has no outcome to learn.
    is_log = all(roles) and bool(roles[3] and roles[3].values > 1)
    if not is_log and not _label_columns(engine, table):
        return 0
    roles_found = sum(role is not None for role in roles)
    return 1.0 + 10 * is_log + roles_found + _named(table, _EVENT_FILES)


def _likely_key(engine: Engine, table: _Table, keys: Iterable[str], words: str) -> float:
    """Above 0 if a column of that kind is a key; more if the file's name says so too."""
    key = table.find([*keys, "id", "key"] if _named(table, words) else keys)
    if key is None or key.filled < table.rows:
        return 0
    name = name_of(key.name)
    if engine.value(f"SELECT count(DISTINCT {name}) FROM {table.relation}") < table.rows:
        return 0
    return 1.0 + _named(table, words)


def _named(table: _Table, words: str) -> bool:
    return any(word in table.path.lower() for word in words.split())


def _sort(
    columns: Iterable[_Column], rows: int, most: int | None = None
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


def _item_lines(engine: Engine, table: _Table) -> list[str]:
    key = table.find([*_ITEMS, "id", "key"])
    texts = [column for column in table.columns if column.word in _TEXTS and column is not key]
    texts.sort(key=lambda column: _TEXTS.index(column.word))
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


def _in_titles(engine: Engine, table: _Table, title: _Column, columns: Sequence[str]) -> list[str]:
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


def _user_lines(table: _Table) -> list[str]:
    key = table.find([*_USERS, "id", "key"])
    profile = [
        column.name
        for column in table.columns
        if column.word in _PROFILES and 2 <= column.values <= _PROFILE_MOST
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


def _event_lines(engine: Engine, table: _Table) -> list[str]:
    user, item, time, kind = (table.find(words) for words in (_USERS, _ITEMS, _TIMES, _KINDS))
    labels = _label_columns(engine, table)
    request, weight = table.find(_REQUESTS), table.find(_WEIGHTS)
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


def _label_columns(engine: Engine, table: _Table) -> list[str]:
    """Columns that are named like an outcome and hold 0 and 1 only, in the order of the steps."""
    found = []
    for column in table.columns:
        word = column.word.removeprefix("is").removesuffix("ed").removesuffix("label")
        if column.is_number and {word, column.word} & set(_LABELS) and column.values < 4:
            name = f"TRY_CAST({name_of(column.name)} AS DOUBLE)"
            values = engine.rows(
                f"SELECT DISTINCT {name} FROM {table.relation} WHERE {name} IS NOT NULL ORDER BY 1"
            )
            if values == [(0.0,), (1.0,)]:
                place = min(_LABELS.index(each) for each in (word, column.word) if each in _LABELS)
                found.append((place, column.name))
    return [name for _, name in sorted(found)]


def _funnel_lines(engine: Engine, table: _Table, kind: _Column) -> tuple[list[str], list[str]]:
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
    if set(counts) <= set(_TIANCHI):
        funnel = [word for word in ("1", "3", "4") if word in counts]
        named = ", ".join(f"{word} = {_TIANCHI[word]}" for word in funnel)
        why = f"taken as {named}, Tianchi's numbers"
    else:
        for step in _STEPS:
            same = [word for word in known if _plain(word) in step]
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


def _names_rows(engine: Engine, table: _Table, column: _Column, shown: str) -> bool:
    """Whether every exposure has a value of its own."""
    name = name_of(column.name)
    rows, values = engine.rows(
        f"SELECT count(*), count(DISTINCT {name}) FROM {table.relation} WHERE {shown}"
    )[0]
    return bool(rows == values)


def _unknown_when_shown(engine: Engine, table: _Table, shown: str) -> set[str]:
    """Columns that are empty on every exposure."""
    counts = ", ".join(f"count({name_of(column.name)})" for column in table.columns)
    row = engine.rows(f"SELECT {counts} FROM {table.relation} WHERE {shown}")[0]
    return {column.name for column, count in zip(table.columns, row, strict=True) if not count}
