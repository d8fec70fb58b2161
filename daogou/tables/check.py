"""Prepared tables to findings: what would spoil a model, each with a name, a count and examples."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from daogou.schema import Shop, Task
from daogou.tables import Counts
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.read import pointers

FEW_EVENTS: Final = 1000
FEW_USERS: Final = 25  # with two events or more; the floors that hosted recommenders ask for
_EXAMPLES: Final = 10
_HASHES: Final = 2**24  # of events that are counted at a time: 0.5 GB
_ENOUGH: Final = 10  # rows of each class before a copy of the label is more than chance
_GLANCE: Final = 50_000  # exposures that nearly always show that a column is no copy of a label

Level = Literal["PASS", "WARN", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """What one check found. Made by `check`."""

    name: str  # a key of `CHECKS`
    level: Level  # FAIL stops a fit unless it is waived by name
    count: int
    examples: tuple[str, ...]  # at most ten
    text: str  # one sentence, with the remedy where there is something to do


Check = Callable[[Engine, Shop, Counts], Iterable[Finding]]


def check(engine: Engine, shop: Shop, counts: Counts) -> list[Finding]:
    """Every check of `CHECKS` on the relations that `prepare` left, in order.

    A check gives one PASS, or one finding per thing that is wrong. ``[truth]`` is not opened.
    """
    found: list[Finding] = []
    for name, look in CHECKS.items():
        found += list(look(engine, shop, counts)) or [Finding(name, "PASS", 0, (), "nothing found")]
    return found


def _orphans(engine: Engine, shop: Shop, counts: Counts, table: str) -> Iterable[Finding]:
    for pointed, column, key in pointers(shop):
        count = counts.read.orphans.get(pointed, 0)
        if pointed != table or not count:
            continue
        ids = engine.rows(
            f"SELECT DISTINCT {name_of(column)} FROM events WHERE {name_of(column)} IS NOT NULL "
            f"AND {name_of(column)} NOT IN (SELECT {name_of(key)} FROM {table}) "
            f"ORDER BY 1 LIMIT {_EXAMPLES}"
        )
        yield Finding(
            f"orphan_{table}",
            "WARN",
            count,
            tuple(str(row[0]) for row in ids),
            f"{count} events name a {column} without a row in {table}; they are treated as "
            f"unknown {table}: add the rows if there are any",
        )


def _late_events(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    if counts.late:
        yield Finding(
            "late_events",
            "FAIL",
            counts.late,
            (),
            f"{counts.late} events of the later files are older than the log of the run that the "
            "fit goes on from; if they are in that log too they would count twice: give what came "
            "after it, or waive this check to take them as history and labels",
        )


def _orphan_users(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    return _orphans(engine, shop, counts, "users")


def _orphan_items(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    return _orphans(engine, shop, counts, "items")


def _duplicate_events(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    events = shop.events
    if not events or not events.funnel:
        return
    names = (events.user, events.item, events.time, events.kind, events.request)
    columns = ", ".join(name_of(name) for name in names if name)
    # Rows that are alike have one hash, so a hash for every row spares grouping by five columns.
    # Hashes that are counted cannot leave memory, so of many events a part is counted at a time.
    parts = 1 + int(engine.value("SELECT count(*) FROM events")) // _HASHES
    if not any(
        engine.value(
            f"SELECT count(*) - count(DISTINCT h) FROM (SELECT hash({columns}) AS h FROM events) "
            f"WHERE h % {parts} = {part}"
        )
        for part in range(parts)
    ):
        return
    count = int(
        engine.value(
            "SELECT coalesce(sum(n - 1), 0) FROM "
            f"(SELECT count(*) AS n FROM events GROUP BY {columns} HAVING count(*) > 1)"
        )
    )
    if count:
        rows = engine.rows(
            f"SELECT {columns}, count(*) FROM events GROUP BY ALL HAVING count(*) > 1 "
            f"ORDER BY count(*) DESC, 1, 2, 3 LIMIT {_EXAMPLES}"
        )
        yield Finding(
            "duplicate_events",
            "WARN",
            count,
            tuple(" ".join(map(str, row[:-1])) + f" ({row[-1]} times)" for row in rows),
            f"{count} events repeat another in user, item, time and kind; "
            "remove them where the file is written if they are an export's fault",
        )


def _labels(engine: Engine, shop: Shop) -> Iterable[tuple[str, str | None, str, int, int]]:
    """Task, ``given``, split, labels known and labels of 1, for each funnel task and split."""
    tasks = [task for task in shop.of_family("funnel") if not task.is_value]
    names = list(dict.fromkeys(name for task in tasks for name in (task.name, task.given) if name))
    if not names:
        return
    columns = ", ".join(name_of(f"label_{name}") for name in names)
    rows = engine.rows(f"SELECT split, count(*), {columns} FROM exposures GROUP BY ALL")
    found: dict[tuple[str, str], list[int]] = {}
    for task in tasks:
        for split, n, *values in sorted(rows, key=lambda row: row[0]):
            label = dict(zip(names, values, strict=True))
            if task.given is None or label[task.given] == 1:
                count = found.setdefault((task.name, split), [0, 0])
                count[0] += n * (label[task.name] is not None)
                count[1] += n * (label[task.name] == 1)
    given = {task.name: task.given for task in tasks}
    for (name, split), (known, ones) in found.items():
        yield name, given[name], split, known, ones


def _where(given: str | None) -> str:
    return f" of the exposures with {given}" if given else ""


def _one_class_label(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    for name, given, split, known, ones in _labels(engine, shop):
        if known and ones in (0, known):
            yield Finding(
                "one_class_label",
                "FAIL" if split == "train" else "WARN",
                known,
                (f"{name} {split}",),
                f"all {known} known {name} labels{_where(given)} in {split} are "
                f"{min(ones, 1)}: nothing can be learnt or measured; check the kind's spelling "
                "and window, give more data, or set "
                f"[tasks.{name}] enabled = false",
            )


def _all_labels_missing(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    # A split where the earlier stage never happened has no row in `_labels` either.
    known_in = {(name, split): known for name, _, split, known, _ in _labels(engine, shop)}
    for task in (task for task in shop.of_family("funnel") if not task.is_value):
        for split, n_rows in counts.split.exposures.items():
            if n_rows and not known_in.get((task.name, split)):
                yield Finding(
                    "all_labels_missing",
                    "FAIL" if split == "train" else "WARN",
                    n_rows,
                    (f"{task.name} {split}",),
                    f"no {task.name} label{_where(task.given)} is known in {split}: its window is "
                    f"longer than the split; shorten events.window_h.{task.name} or take more days",
                )


def _no_values(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    for task, split, known, above in _values(engine, shop):
        if not above:
            yield Finding(
                "no_values",
                "FAIL" if split == "train" else "WARN",
                known,
                (f"{task.name} {split}",),
                f"no {task.name} above 0{_where(task.given)} is known in {split}: nothing can be "
                "learnt or measured; check the column that events.value names, or take it out",
            )


def _zero_values(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    for task, split, known, above in _values(engine, shop):
        if split == "train" and above < known and task.loss == "lognormal":
            yield Finding(
                "zero_values",
                "WARN",
                known - above,
                (task.name,),
                f"{known - above} of {known} values{_where(task.given)} in train are 0, which "
                f'"lognormal" leaves out, so that it expects too much; '
                f'set [tasks.{task.name}] loss = "zero_inflated"',
            )


def _values(engine: Engine, shop: Shop) -> Iterable[tuple[Task, str, int, int]]:
    """Of the value's task and each split: the values that are known, and those above 0."""
    for task in shop.of_family("funnel"):
        if task.is_value:
            given = f"WHERE {name_of('label_' + task.given)} = 1" if task.given else ""
            found = {
                str(split): (int(known), int(above))
                for split, known, above in engine.rows(
                    "SELECT split, count(value), count(*) FILTER (WHERE value > 0) "
                    f"FROM exposures {given} GROUP BY split"
                )
            }
            sizes = engine.rows("SELECT DISTINCT split FROM exposures ORDER BY split")
            for (split,) in sizes:
                yield task, str(split), *found.get(str(split), (0, 0))


def _few_events(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    count = counts.read.rows.get("events")
    if count is not None and count < FEW_EVENTS:
        yield Finding(
            "few_events",
            "WARN",
            count,
            (),
            f"{count} events are fewer than {FEW_EVENTS}; expect wide intervals, or give more days",
        )


def _few_users(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    events = shop.events
    if not events or not events.user:
        return
    user = name_of(events.user)
    count = int(
        engine.value(
            f"SELECT count(*) FROM (SELECT {user} FROM events WHERE {user} IS NOT NULL "
            "GROUP BY 1 HAVING count(*) > 1)"
        )
    )
    if count < FEW_USERS:
        yield Finding(
            "few_users",
            "WARN",
            count,
            (),
            f"{count} users have two events or more, fewer than {FEW_USERS}; "
            "check that the user column names people, not visits",
        )


def _later_without_earlier(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    for stage, count in counts.funnel.implied.items():
        if count:
            yield Finding(
                "later_without_earlier",
                "WARN",
                count,
                (stage,),
                f"{count} exposures have a later stage and no {stage}, which is implied; "
                "check that every page logs it",
            )


def _uncredited_events(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    for stage, count in counts.funnel.uncredited.items():
        if count:
            yield Finding(
                "uncredited_events",
                "WARN",
                count,
                (stage,),
                f"{count} {stage} events have no exposure of their user and item before them "
                f"within {shop.events.window_of(stage) if shop.events else 0:g} h; "
                "lengthen events.window_h, or log the exposures of every page",
            )


def _untimed_events(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    if counts.read.untimed:
        yield Finding(
            "untimed_events",
            "WARN",
            counts.read.untimed,
            (),
            f"{counts.read.untimed} events have no time that can be read and are left out; "
            "write ISO 8601 or epoch numbers",
        )


def _time_order(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    if not shop.events or not shop.events.time:
        return
    time = name_of(shop.events.time)
    count = int(
        engine.value(
            f"SELECT count(*) FROM (SELECT {time} < lag({time}) OVER () AS back FROM events) "
            "WHERE back"
        )
    )
    yield Finding(
        "time_order",
        "PASS",
        count,
        (),
        f"{count} events stand after a later one; order is not needed",
    )


def _future_times(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    if not shop.events or not shop.events.time:
        return
    time = name_of(shop.events.time)
    for level, condition, text in (
        (
            "FAIL",
            f"{time} >= TIMESTAMP '2100-01-01'",
            "are after 2100, which moves the end of the log and of every window; correct them",
        ),
        (
            "WARN",
            f"{time} < TIMESTAMP '1990-01-01'",
            "are before 1990; check the unit, unless times count from an origin of their own",
        ),
    ):
        count = int(engine.value(f"SELECT count(*) FROM events WHERE {condition}"))
        if count:
            rows = engine.rows(
                f"SELECT DISTINCT CAST({time} AS VARCHAR) FROM events WHERE {condition} "
                f"ORDER BY 1 LIMIT {_EXAMPLES}"
            )
            yield Finding(
                "future_times",
                "FAIL" if level == "FAIL" else "WARN",
                count,
                tuple(str(row[0]) for row in rows),
                f"{count} times {text}",
            )


def _null_text(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    items = shop.items
    if not items or not items.text:
        return
    key = name_of(items.key)
    blank = f"coalesce(trim(CAST({name_of(items.text[0])} AS VARCHAR)), '') = ''"
    count = int(engine.value(f"SELECT count(*) FROM items WHERE {blank}"))
    if count:
        rows = engine.rows(f"SELECT {key} FROM items WHERE {blank} ORDER BY 1 LIMIT {_EXAMPLES}")
        yield Finding(
            "null_text",
            "WARN",
            count,
            tuple(str(row[0]) for row in rows),
            f"{count} items have no {items.text[0]}; they are known by id and columns only",
        )


def _numbers_as_text(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    found = [note for note in counts.read.notes if "is kept as text because" in note]
    if found:
        yield Finding(
            "numbers_as_text",
            "WARN",
            len(found),
            tuple(found[:_EXAMPLES]),
            f"{len(found)} columns are words because a few values are not numbers; "
            "leave those values empty if the column is a quantity",
        )


def _spans(engine: Engine, shop: Shop, name: str, condition: str, text: str) -> Iterable[Finding]:
    """A finding of the gold spans for which the SQL condition on ``span`` and ``title`` holds."""
    items = shop.items
    if not items or not items.spans or not items.text:
        return
    rows = (
        f"FROM (SELECT {name_of(items.key)} AS item, CAST({name_of(items.text[0])} AS VARCHAR) "
        f"AS title, unnest({name_of(items.spans)}) AS span FROM items) WHERE {condition}"
    )
    count = int(engine.value(f"SELECT count(*) {rows}"))
    if count:
        found = engine.rows(f"SELECT item, CAST(span AS VARCHAR) {rows} ORDER BY 1, 2 LIMIT 10")
        examples = tuple(f"{item}: {span}" for item, span in found)
        yield Finding(name, "FAIL", count, examples, f"{count} spans {text}")


def _spans_out_of_text(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    # `length` counts code points, as spans do.
    return _spans(
        engine,
        shop,
        "spans_out_of_text",
        'span IS NULL OR span."start" IS NULL OR span."end" IS NULL OR span."start" < 0 '
        'OR span."start" >= span."end" OR span."end" > coalesce(length(title), 0)',
        "do not lie in their title; count Unicode code points of the raw text, end exclusive",
    )


def _unknown_attribute(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    known = ", ".join(quoted(each) for each in shop.attributes) or "''"
    return _spans(
        engine,
        shop,
        "unknown_attribute_in_spans",
        f"span.attribute IS NULL OR span.attribute NOT IN ({known})",
        "name an attribute that items.attributes does not list; add it there or correct the span",
    )


def _profile_one_value(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    for column in shop.users.profile if shop.users else ():
        name = name_of(column)
        filled, values = engine.rows(f"SELECT count({name}), count(DISTINCT {name}) FROM users")[0]
        if values < 2:
            yield Finding(
                "profile_column_one_value",
                "FAIL",
                int(filled),
                (column,),
                f"users.profile {column!r} has {values} different values in {filled} rows: "
                "there is nothing to predict; take it out or give more users",
            )


def _leaky_context(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    events = shop.events
    if not events:
        return
    sources = [
        (f"events.context {name!r}", f"e.{name_of('context_' + name)}", "")
        for name in events.context
    ]
    for table, key, pointed, names in _joined(shop):
        join = f"JOIN {table} AS t ON t.{name_of(key)} = e.{pointed}"
        sources += [(f"{table}.columns {name!r}", f"t.{name_of(name)}", join) for name in names]
    for where, value, join in sources:
        for stage in events.stages:
            n_rows = _told(engine, value, join, name_of("label_" + stage))
            if n_rows:
                yield Finding(
                    "leaky_context",
                    "FAIL",
                    n_rows,
                    (f"{where}: {stage}",),
                    f"{where} tells exactly where {stage} happened: it is the answer, "
                    "not an input; take it out",
                )


def _told(engine: Engine, value: str, join: str, label: str) -> int:
    """How many labels the column gives away: all that are known, or none."""
    for seen in (f"exposure < {_GLANCE}", "true"):
        classes = engine.rows(
            f"SELECT {label}, count(*), count(DISTINCT {value}), count({value}), "
            f"CAST(min({value}) AS VARCHAR) FROM exposures AS e {join} "
            f"WHERE {label} IS NOT NULL AND {seen} GROUP BY 1 ORDER BY 1"
        )
        counts = [int(row[1]) for row in classes]
        if len(classes) == 2 and _tells(classes[0][1:], classes[1][1:]):
            n_rows = sum(counts)
        elif len(classes) == 2 and min(counts) >= _ENOUGH:
            return 0  # what some rows contradict, all rows do
        else:
            n_rows = 0
    return n_rows


def _joined(shop: Shop) -> Iterable[tuple[str, str, str, tuple[str, ...]]]:
    if shop.items and shop.events and shop.events.item:
        yield "items", shop.items.key, "item", shop.items.columns
    if shop.users and shop.events and shop.events.user:
        yield "users", shop.users.key, '"user"', shop.users.columns


def _tells(zero: tuple[int, int, int, str | None], one: tuple[int, int, int, str | None]) -> bool:
    """Whether a column's value, or its being filled, says which class a row is of.

    Each class is its rows, distinct values, filled rows and least value.
    """
    if min(zero[0], one[0]) < _ENOUGH:
        return False
    constant = all(
        distinct <= 1 and filled in (0, rows) for rows, distinct, filled, _ in (zero, one)
    )
    filled = {(zero[2] == zero[0], one[2] == 0), (zero[2] == 0, one[2] == one[0])}
    return (constant and zero[3] != one[3]) or (True, True) in filled


def _leaky_profile(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    users = shop.users
    if not users:
        return
    for target in users.profile:
        for column in users.columns:
            one, other = name_of(column), name_of(target)
            filled, n_one, n_other, n_both = engine.rows(
                f"SELECT count(*), count(DISTINCT {one}), count(DISTINCT {other}), "
                f"count(DISTINCT ({one}, {other})) FROM users "
                f"WHERE {one} IS NOT NULL AND {other} IS NOT NULL"
            )[0]
            # A column of names is one-to-one with anything as fine; groups are what leaks.
            if n_one == n_other == n_both > 1 and filled >= _ENOUGH * n_both:
                yield Finding(
                    "leaky_profile",
                    "FAIL",
                    int(filled),
                    (f"{column}: {target}",),
                    f"users.columns {column!r} is {target!r} under other names; "
                    "take it out of the inputs",
                )


def _truth_as_feature(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    if not shop.truth:
        return
    features = [
        *(
            (f"events.context {name!r}", name)
            for name in (shop.events.context if shop.events else ())
        ),
        *((f"items.columns {name!r}", name) for name in (shop.items.columns if shop.items else ())),
        *((f"users.columns {name!r}", name) for name in (shop.users.columns if shop.users else ())),
    ]
    planted = tuple(
        where for where, name in features if name.startswith(("p_", "k_", "posterior_", "latent"))
    )
    if planted:
        yield Finding(
            "truth_column_as_feature",
            "FAIL",
            len(planted),
            planted[:_EXAMPLES],
            f"{', '.join(planted)}: named like the planted truth; take it out of the inputs",
        )


CHECKS: Final[dict[str, Check]] = {
    "orphan_users": _orphan_users,
    "orphan_items": _orphan_items,
    "duplicate_events": _duplicate_events,
    "late_events": _late_events,
    "untimed_events": _untimed_events,
    "time_order": _time_order,
    "future_times": _future_times,
    "few_events": _few_events,
    "few_users": _few_users,
    "later_without_earlier": _later_without_earlier,
    "uncredited_events": _uncredited_events,
    "one_class_label": _one_class_label,
    "all_labels_missing": _all_labels_missing,
    "no_values": _no_values,
    "zero_values": _zero_values,
    "profile_column_one_value": _profile_one_value,
    "numbers_as_text": _numbers_as_text,
    "null_text": _null_text,
    "spans_out_of_text": _spans_out_of_text,
    "unknown_attribute_in_spans": _unknown_attribute,
    "leaky_context": _leaky_context,
    "leaky_profile": _leaky_profile,
    "truth_column_as_feature": _truth_as_feature,
}
