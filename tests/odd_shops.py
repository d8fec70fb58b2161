"""Shops as they might come from anywhere: drawn with their tables, names, values and settings.

Most of what is drawn is usual, so that most shops have something to learn from; every kind of
oddity comes up in some.
"""

import csv
import json
import math
import random
from collections.abc import Callable, Sequence
from datetime import datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

Document = dict[str, Any]
Table = dict[str, list[Any]]  # column -> values

NAMES: Final = (
    "item_id", "价格", "unit price", 'say "so"', "it's", "select", "group", "2nd", "a.b", "a=b",
    "user", "item", "time", "row", "split", "exposure", "rowid", "filename", "id", "value",
    "weight", "label_click", "Price", "price", "😀", "%s{}", "x" * 80, "a\nb", "\\", "item_row",
    "request", "history", "file_row_number", "table", "e", "n", "user_key", "context_x", "query",
    "place", "-- drop", "last,first", "tab\tbed",
)  # fmt: skip
STAGES: Final = (
    "click", "buy", "下单", "add to cart", "it's", "select", "1", "a.b", "purchase|click", "é",
    "value", "match", "", "profile.x", "CLICK", "label",
)  # fmt: skip
WORDS: Final = (
    "red", "blue", "红色", "", " ", "it's", '"', "NULL", "nan", "007", "1e999", "😀👍🏽", "select",
    "\\N", "train", "a" * 3000, "\u202eabc", "é", "e\u0301", "\x00", "<b>", "-", "true", "1", "２",
)  # fmt: skip
TITLES: Final = (
    "red wool boot", "blue hat", "红色 羊毛 围巾 新款", "", " ", "😀", "green", "red " * 900,
    "长" * 2500, "mauve silk scarf 10cm",
    "\u3000", "a\tb\nc", "BLUE HAT", "ｂｌｕｅ ｈａｔ", "e\u0301té", "0",
)  # fmt: skip
NUMBERS: Final = (
    0.0, 1.0, 9.99, 10.0, 250.0, -3.5, 1e308, -1e308, 5e-324, math.inf, -math.inf, math.nan,
    2.0**53,
)  # fmt: skip
COLOURS: Final = ("red", "blue", "green", "mauve", "红色")


class Draw:
    """Choices that shrink to the usual, and cells by a seed, which are too many for that."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self.cells = random.Random(draw(st.integers(0, 2**32)))

    def often(self, share: float = 0.5) -> bool:
        """True with a chance."""
        return self._draw(st.integers(0, 999)) >= 1000 - 1000 * share

    def one(self, of: Sequence[Any]) -> Any:
        """One of several."""
        return self._draw(st.sampled_from(of))

    def some(self, of: Sequence[Any], n: int) -> list[Any]:
        """So many different ones, in any order."""
        return list(self._draw(st.permutations(of)))[:n]

    def number(self, least: int, most: int) -> int:
        """A whole number."""
        return self._draw(st.integers(least, most))

    def mostly(self, usual: Any, *odd: Any, share: float = 0.85) -> Any:
        """The usual, or now and then one of the odd."""
        return self.one(odd) if self.often(1 - share) else usual

    def column(self, n: int) -> list[Any]:
        """The values of a column that is an input or a class."""
        kind = self.one(_KINDS)
        pool = self.some(_POOLS[kind], self.number(1, 6))
        return self.some_missing([self.cells.choice(pool) for _ in range(n)])

    def some_missing(self, values: list[Any]) -> list[Any]:
        """The values, some of which may be missing."""
        share = self.mostly(0.0, 0.3, 0.9, share=0.6)
        return [None if self.cells.random() < share else each for each in values]


_POOLS: Final[dict[str, tuple[Any, ...]]] = {
    "word": WORDS,
    "few words": ("a", "b", "红"),
    "number": NUMBERS,
    "price": (1.0, 9.99, 19.5, 250.0, 3.0, 7.25, 88.0),
    "whole": (0, 1, 2, 3, 50, -7, 2**62, -(2**63)),
    "truth": (True, False),
    "numeral": ("1", "2", "3.5", "¥1,299.00", "abc", "1e5", "-0"),
    "day": (datetime(1969, 12, 31), datetime(2024, 2, 29), datetime(9999, 1, 1)),
    "decimal": (Decimal("1.10"), Decimal("99.90"), Decimal("-5.00")),
    "list": (["a"], ["a", "b"], [], ["b", None]),
    "bytes": (b"a", b"\xff\x00", b""),
    "part": ({"a": 1, "b": "x"}, {"a": 2, "b": None}),
    "hour": (time(8, 5), time(0), time(23, 59, 59, 999_999)),
    "spell": (timedelta(hours=1), timedelta(days=-400), timedelta(0)),
    "nothing": (None,),
    "constant": ("same",),
}
_KINDS: Final = (*_POOLS, "few words", "few words", "price", "price", "word", "number")


def keys_of(draw: Draw, n: int) -> list[Any]:
    """A table's keys: one kind for all of them, each once unless it is odd."""
    kind = draw.mostly("whole", "text", "large", "odd", "float", "digits", "unsigned", share=0.5)
    of: Callable[[int], Any] = {
        "whole": lambda i: i + 1,
        "text": lambda i: f"k{i}",
        "large": lambda i: 2**53 + i,
        "odd": lambda i: (WORDS[i % len(WORDS)] or "空") + (str(i) if i >= len(WORDS) else ""),
        "float": lambda i: i + 0.5,
        "digits": lambda i: f"{i:04}",
        "unsigned": lambda i: 2**63 + i,
    }[kind]
    found: list[Any] = [of(i) for i in range(n)]
    odd = draw.mostly("", "twice", "missing", "empty", share=0.95)
    if odd and found:
        found[-1] = {"twice": found[0], "missing": None, "empty": ""}[odd]
        if odd == "empty" and not isinstance(found[0], str):
            found[-1] = None
    return found


def times_of(draw: Draw, hours: Sequence[float]) -> list[Any]:
    """Moments some hours after a first, written in one of many ways."""
    start = draw.mostly(
        datetime(2024, 1, 1), datetime(1969, 12, 30), datetime(9998, 1, 1), datetime(3, 1, 1),
        datetime(2038, 1, 19), share=0.7,
    )  # fmt: skip
    way = draw.mostly(
        "time", "s", "ms", "us", "iso", "zone", "equal", "day", "yyyymmdd", "float", "mixed",
        "digits", "slashes", "words", "nothing", "zero", share=0.5,
    )  # fmt: skip
    at = [start + timedelta(seconds=round(3600 * hour)) for hour in hours]
    since = [(each - datetime(1970, 1, 1)).total_seconds() for each in at]
    told: dict[str, list[Any]] = {
        "time": at,
        "s": [int(each) for each in since],
        "ms": [int(each * 1000) for each in since],
        "us": [int(each * 1e6) for each in since],
        "float": [each + 0.25 for each in since],
        "digits": [str(int(each)) for each in since],
        "iso": [each.isoformat() for each in at],
        "zone": [each.isoformat() + "+08:00" for each in at],
        "equal": [start for _ in at],
        "day": [each.date() for each in at],
        "yyyymmdd": [int(f"{each:%Y%m%d}") for each in at],
        "mixed": [each.isoformat() + "Z" * (i % 2) for i, each in enumerate(at)],
        "slashes": [f"{each.year}/{each.month}/{each.day} {each.hour}:00:00" for each in at],
        "words": ["yesterday" for _ in at],
        "nothing": [None for _ in at],
        "zero": [0 for _ in at],
    }
    return draw.some_missing(told[way]) if draw.often(0.2) else told[way]


def items_of(draw: Draw, names: list[str]) -> tuple[Document, Table]:
    """A catalogue and its section."""
    n = draw.mostly(12, 0, 1, 2, 40, share=0.9)
    key, title, gold, *columns = names
    table: Table = {key: keys_of(draw, n)}
    section: Document = {"key": key}
    table[title] = draw.some_missing([draw.cells.choice(TITLES) for _ in range(n)])
    if draw.often(0.8):
        section["text"] = [title]
    section["columns"] = columns[: draw.number(0, 3)]
    table |= {name: draw.column(n) for name in columns}
    if draw.often(0.7):
        section["attributes"] = ["colour", *columns[3:4]]
        table["colour"] = draw.some_missing([draw.cells.choice(COLOURS) for _ in range(n)])
        if draw.often():
            section["spans"] = gold
            table[gold] = [_spans_of(draw, each) for each in table[title]]
            if draw.often(0.3):
                section["annotated"] = columns[-1]
                table[columns[-1]] = [draw.cells.choice((["colour"], [], None)) for _ in range(n)]
    if draw.often(0.2):
        section["shown"] = columns[:1]
    if draw.often(0.1):
        section["split"] = columns[0]
        table[columns[0]] = [draw.cells.choice(_SPLITS) for _ in range(n)]
    return section, table


_SPLITS: Final = ("train", "train", "train", "validation", "test", None)


def _spans_of(draw: Draw, title: str | None) -> list[Document] | None:
    found = [each for each in COLOURS if title and each in title]
    spans = [
        {"start": str(title).index(each), "end": str(title).index(each) + len(each),
         "attribute": "colour"}
        for each in found[:1]
    ]  # fmt: skip
    odd = draw.cells.random()
    if odd < 0.002 and spans:
        spans[0]["end"] = 10**6
    return None if odd > 0.95 else spans


def users_of(draw: Draw, names: list[str]) -> tuple[Document, Table]:
    """A table of users and its section."""
    n = draw.mostly(15, 0, 1, 2, 60, share=0.9)
    key, *columns = names
    table: Table = {key: keys_of(draw, n)} | {name: draw.column(n) for name in columns}
    section: Document = {
        "key": key,
        "columns": columns[: draw.number(0, 2)],
        "profile": columns[2 : 2 + draw.number(0, 2)],
    }
    if draw.often(0.1):
        section["sensitive"] = [columns[2]]
    if draw.often(0.1):
        section["split"] = columns[-1]
        table[columns[-1]] = [draw.cells.choice(_SPLITS) for _ in range(n)]
    return section, table


def log_of(
    draw: Draw, names: list[str], users: list[Any], items: list[Any]
) -> tuple[Document, Table]:
    """A log with a funnel and its section."""
    user, item, at, kind, request, amount, weight, name_id, *context = names
    n_stages = draw.number(1, 3)
    funnel = ["shown", *draw.some(STAGES[:8], n_stages)]
    if draw.often(0.1):
        funnel = draw.some(STAGES, n_stages + 1)
    rows: list[tuple[float, Any, Any, str, str]] = []
    for place in range(draw.mostly(90, 0, 1, 12, 300, share=0.85)):
        hour, who, what = place * 1.5, draw.cells.choice(users), draw.cells.choice(items)
        for depth, word in enumerate(funnel):
            rows.append((hour + depth * 0.3, who, what, word, f"r{place // 3}"))
            if draw.cells.random() > 0.6:
                break
    if draw.often(0.1):
        rows += [draw.cells.choice(rows) for _ in range(5) if rows]
    n = len(rows)
    table: Table = {
        user: [row[1] for row in rows],
        item: [row[2] for row in rows],
        at: times_of(draw, [row[0] for row in rows]),
        kind: [row[3] for row in rows],
        request: draw.some_missing([row[4] for row in rows]),
        amount: draw.some_missing([draw.cells.choice((0, 1.5, 20, 1e6, 3)) for _ in rows]),
        weight: [draw.cells.choice((1, 2, 0.5)) for _ in rows],
        name_id: [f"x{i}" for i in range(n)],
    } | {each: draw.column(n) for each in context}
    section: Document = {"user": user, "item": item, "time": at, "kind": kind, "funnel": funnel}
    section["context"] = context[: draw.number(0, 3)]
    for setting, column, share in (
        ("request", request, 0.4), ("value", amount, 0.3), ("weight", weight, 0.15),
        ("id", name_id, 0.15),
    ):  # fmt: skip
        if draw.often(share):
            section[setting] = column
    _wish_of_log(draw, section, table, context[-1])
    return section, table


def _wish_of_log(draw: Draw, section: Document, table: Table, spare: str) -> None:
    """Settings of a log that need no column, or a spare one."""
    funnel = section["funnel"]
    for setting in ("domain", "position"):
        if section["context"] and draw.often(0.15):
            section[setting] = section["context"][-(setting == "position")]
    if draw.often(0.4):
        hours = (1, 24, 0.5, 1e9, 1e-6, 400)
        section["window_h"] = {each: draw.one(hours) for each in funnel[1:]}
    if draw.often(0.15):
        section["history"] = draw.some(funnel, draw.number(1, len(funnel)))
    if draw.often(0.1):
        section["split"] = spare
        table[spare] = [draw.cells.choice(_SPLITS) for _ in table[spare]]


def wide_of(
    draw: Draw, names: list[str], users: list[Any], items: list[Any]
) -> tuple[Document, Table]:
    """A wide table with label columns and its section."""
    user, item, at, request, amount, *context = names
    n = draw.mostly(120, 0, 1, 10, share=0.85)
    labels = draw.some(STAGES[:8], draw.number(1, 3))
    labels = [each for each in labels if each not in names]
    table: Table = {
        user: [draw.cells.choice([*users, None]) for _ in range(n)],
        item: [draw.cells.choice([*items, None]) for _ in range(n)],
        at: times_of(draw, [1.5 * place for place in range(n)]),
        request: [f"r{place // 3}" for place in range(n)],
        amount: draw.some_missing([draw.cells.choice((0, 1.5, 20, 1e6, 3)) for _ in range(n)]),
    } | {each: draw.column(n) for each in context}
    values = draw.mostly((0, 1), (0, 1, None), (True, False), ("1", "0"), (0, 0), (1,), (0, 1, 7))
    table |= {each: [draw.cells.choice(values) for _ in range(n)] for each in labels}
    section: Document = {"labels": labels, "context": context[: draw.number(1, 4)]}
    for setting, column, share in (
        ("user", user, 0.6), ("item", item, 0.6), ("time", at, 0.6), ("request", request, 0.2),
        ("value", amount, 0.3),
    ):  # fmt: skip
        if draw.often(share):
            section[setting] = column
    if draw.often(0.15):
        section["position"] = section["context"][0]
    return section, table


def settings_of(draw: Draw, document: Document) -> None:
    """Put in a small fit, and some settings of everything else."""
    fit: Document = {
        "epochs": 1, "rows_per_step": draw.mostly(64, 1000, 3), "extra_items": draw.mostly(8, 0),
        "history_length": draw.mostly(5, 1, 50), "titles_per_step": 8, "title_passes": 1.0,
        "profile_passes": 1.0,
    }  # fmt: skip
    choices: dict[str, Sequence[Any]] = {
        "calibration": ("none", "isotonic"), "row_l2": (0.1,), "pretrain_epochs": (1,),
        "sampling": ("proportional", "stop_and_go", "temperature"), "checkpoint_minutes": (0,),
        "min_count": (2, 5), "buckets": (2, 1), "text_length": (1, 3), "word_count": (1,),
        "refit": (True, False), "balancer": ("dwa", "famo", "fairgrad", "gradnorm", "pcgrad"),
    }  # fmt: skip
    fit |= {key: draw.one(of) for key, of in choices.items() if draw.often(0.12)}
    model: Document = {"width": 8}
    if draw.often(0.3):
        model["mixer"] = draw.one(("shared_bottom", "mmoe", "ple", "aitm", "single"))
    document |= {"fit": fit, "model": model}
    if draw.often(0.3):
        document["split"] = draw.one(
            ({"validation": 0.3, "test": 0.3}, {"test": 0}, {"validation": 0}, {"folds": 3},
             {"test_from": "2024-01-04"}, {"validation": 0, "test": 0}, {"fold": 4},
             {"validation_from": "2024-01-03T00:00:00+08:00", "test_from": "2024-01-05"})
        )  # fmt: skip
    if draw.often(0.2):
        document["guide"] = draw.one(
            ({"diversity": 1.0}, {"by_value": True}, {"per_category": 1}, {"seen_days": 1e6},
             {"bought_days": 0.1})
        )  # fmt: skip
    events = document.get("events", {})
    names = events.get("funnel", [""])[1:] or events.get("labels")
    if draw.often(0.2) and names:
        loss = draw.one(("marginal", "esmm", "escm2_ips", "escm2_dr", "dfm"))
        document["tasks"] = {names[-1]: {"loss": loss}}
    if draw.often(0.05) and "events" in document:
        document.setdefault("tasks", {})["match"] = {"enabled": False}
    profile = document.get("users", {}).get("profile")
    if profile and draw.often(0.2):
        document.setdefault("tasks", {})[f"profile.{profile[0]}"] = {"loss": "ordinal"}


def misname(draw: Draw, section: Document, columns: list[str]) -> None:
    """Let a setting name a column that is meant for another one."""
    setting = draw.one([each for each in section if each not in ("funnel", "labels", "window_h")])
    if isinstance(section[setting], list):
        section[setting] = [*section[setting], draw.one(columns)]
    else:
        section[setting] = draw.one(columns)


@st.composite
def odd_shops(draw: st.DrawFn) -> tuple[Document, dict[str, Table], str]:
    """A shop's document, its tables, and of what form their files are."""
    pick = Draw(draw)
    form = pick.mostly("parquet", "csv", "jsonl", "tsv", share=0.6)
    kind = pick.mostly("log", "wide", "titles", share=0.7)
    tidy = pick.often(0.5)
    document: Document = {"seed": pick.number(0, 3)}
    tables: dict[str, Table] = {}

    def names(n: int) -> list[str]:
        return [f"c{i}" for i in range(n)] if tidy else pick.some(NAMES, n)

    if kind == "titles" or pick.often(0.75):
        document["items"], tables["items"] = items_of(pick, names(8))
    if kind != "titles" and pick.often(0.75):
        document["users"], tables["users"] = users_of(pick, names(6))
    if kind != "titles":
        users, items = (
            tables[table][document[table]["key"]]
            if table in tables
            else [f"x{i}" for i in range(9)]
            for table in ("users", "items")
        )
        strangers = [] if pick.often() else [12345]
        ids = [
            [*of, *(map(str, strangers) if of and isinstance(of[0], str) else strangers)] or [7]
            for of in (users, items)
        ]
        make = log_of if kind == "log" else wide_of
        document["events"], tables["events"] = make(pick, names(12), *ids)
    for name, table in tables.items():
        if pick.often(0.08):
            misname(pick, document[name], [*table])
        document[name]["path"] = f"{name}.{form}"
    settings_of(pick, document)
    return document, tables, form


# ---- files ----------------------------------------------------------------------------------


def write_odd(folder: Path, document: Document, tables: dict[str, Table], form: str) -> None:
    """The shop as files."""
    for name, table in tables.items():
        path = folder / f"{name}.{form}"
        if form == "parquet":
            pq.write_table(pa.table({key: _array(of) for key, of in table.items()}), path)
            continue
        rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
        with path.open("w", encoding="utf-8", newline="") as file:
            if form == "jsonl":
                file.writelines(json.dumps(row, default=str).replace("NaN", "null") + "\n"
                                for row in rows)  # fmt: skip
            else:
                writer = csv.writer(file, delimiter="\t" if form == "tsv" else ",")
                writer.writerow(table)
                writer.writerows([_cell(each) for each in row.values()] for row in rows)
    (folder / "shop.toml").write_text(toml_of(document), encoding="utf-8")


def _array(values: list[Any]) -> pa.Array:
    known = [each for each in values if each is not None]
    if not known:
        return pa.array(values, pa.string())
    if isinstance(known[0], int) and not isinstance(known[0], bool) and max(known) >= 2**63:
        return pa.array(values, pa.uint64())
    if any(isinstance(each, float) for each in known):
        return pa.array(values, pa.float64())
    if isinstance(known[0], list):
        fallback = pa.list_(pa.string())
        return pa.array(values, None if any(known) and isinstance(max(known, key=len)[0], dict)
                        else fallback)  # fmt: skip
    return pa.array(values)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def toml_of(document: Document) -> str:
    """A document as TOML, each table of it inline."""
    return "".join(f"{_quoted(key)} = {_value(each)}\n" for key, each in document.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)} = {_value(of)}" for key, of in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
