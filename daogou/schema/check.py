"""Descriptions of tables to what is wrong with them, a sentence each."""

import math

from daogou.errors import unknown
from daogou.schema import VALUE, Events, GuideSetting, Items, Users


def check_shop(items: Items | None, users: Users | None, events: Events | None) -> list[str]:
    """What is wrong with these tables' descriptions, one sentence each, all at once."""
    problems: list[str] = []
    if not (items or users or events):
        problems.append("no table: give at least one of [items], [users], [events]")
    if events:
        problems += _check_events(events)
    if users:
        both = set(users.columns) & set(users.profile)
        problems += [
            f"users.columns: {name!r} is also in users.profile; an input that is also the "
            "answer would leak, keep it in one of the two"
            for name in sorted(both)
        ]
        problems += [
            f"users.allowed: {unknown(name, users.sensitive)}; only what users.sensitive lists "
            "needs leave"
            for name in users.allowed
            if name not in users.sensitive
        ]
        problems += [
            f"users.sensitive: {name!r} is the key or the split of the table, which cannot be "
            "withheld; replace it by another"
            for name in users.withheld
            if name in (users.key, users.split)
        ]
    inputs = {
        "items": (items.categories, items.columns) if items else ((), ()),
        "users": (users.categories, users.columns) if users else ((), ()),
        "events": (events.categories, events.context) if events else ((), ()),
    }
    problems += [
        f"{table}.categories: {unknown(name, known)}"
        for table, (named, known) in inputs.items()
        for name in named
        if name not in known
    ]
    problems += [
        f"{name}.query: {name}.path is no URL of a database; it names files, which are read whole"
        for name, table in (("items", items), ("users", users), ("events", events))
        if table is not None and table.query is not None and "://" not in table.path
    ]
    if items:
        if items.spans and not items.text:
            problems.append("items.spans: they point into a title; name its column in items.text")
        if items.spans and not items.attributes:
            problems.append("items.attributes: list the attributes that items.spans annotates")
        if items.annotated and not items.spans:
            problems.append(
                "items.annotated: says which spans exist; name their column in items.spans"
            )
    return problems


def check_guide(guide: GuideSetting, items: Items | None, events: Events | None) -> list[str]:
    """What is wrong with ``[guide]``, one sentence each."""
    problems: list[str] = []
    stages = events.stages if events else ()
    weights = guide.weights or {}
    problems += [f"guide.weights.{n}: {unknown(n, stages)}" for n in weights if n not in stages]
    problems += [
        f"guide.weights.{name}: {weight}; give a number, 0 or more"
        for name, weight in weights.items()
        if not 0 <= weight < math.inf
    ]
    if guide.weights is not None and not sum(weights.values()) > 0:
        problems.append("guide.weights: nothing is worth anything; give a stage more than 0")
    if not 0 <= guide.diversity <= 1:
        problems.append(f"guide.diversity: {guide.diversity}; give a share from 0 to 1")
    named = (*items.columns, *items.shown, *items.attributes) if items else ()
    if guide.stock is not None and guide.stock not in named:
        problems.append(f"guide.stock: {unknown(guide.stock, named)}; list it in items.shown")
    for name in ("per_category", "bought_days", "seen_days"):
        value = getattr(guide, name)
        if not 0 <= value < math.inf:
            problems.append(f"guide.{name}: {value}; give 0 or more")
    if guide.approximate_from < 1:
        problems.append(f"guide.approximate_from: {guide.approximate_from}; give 1 or more")
    return problems


def _check_events(events: Events) -> list[str]:
    problems: list[str] = []
    if events.more and "://" in events.path:
        problems.append("events.more: events.path is a database; put the events there")
    if events.funnel and events.labels:
        problems.append("events: give funnel (a log) or labels (a wide table), not both")
    if not events.funnel and not events.labels:
        problems.append("events: give funnel = [...] with kind = ..., or labels = [...]")
    if events.funnel:
        needed = {"kind": events.kind, "user": events.user, "item": events.item}
        problems += [
            f"events.{name}: a funnel needs it; name the column"
            for name, value in {**needed, "time": events.time}.items()
            if not value
        ]
        if len(events.funnel) < 2:
            problems.append("events.funnel: needs an exposure and at least one stage after it")
        stages = events.funnel[1:]
        problems += [
            f"events.window_h.{stage}: {unknown(stage, stages)}"
            for stage in events.window_h
            if stage not in stages
        ]
        problems += [
            f"events.window_h.{stage}: {hours} hours; a window must be positive and end"
            for stage, hours in events.window_h.items()
            if not 0 < hours < math.inf
        ]
    names = [*events.funnel, *events.labels]
    problems += [
        f"events: {name!r} is listed twice" for name in sorted(set(names)) if names.count(name) > 1
    ]
    if "" in names:
        problems.append("events: a stage has no name; take '' out of funnel or labels")
    alike = {name.lower(): name for name in names}
    problems += [
        f"events: {name!r} and {alike[name.lower()]!r} differ in nothing but capitals; rename one"
        for name in names
        if alike[name.lower()] != name
    ]
    reserved = {"match", "extract"} & set(names)
    problems += [f"events: {name!r} is the name of a task family" for name in sorted(reserved)]
    problems += [
        f"events.{name}: {unknown(column, events.context)}; list it in events.context too"
        for name, column in (("domain", events.domain), ("position", events.position))
        if column is not None and column not in events.context
    ]
    if events.domain is not None and events.domain == events.position:
        problems.append(f"events.domain: {events.domain!r} is also events.position; it is one")
    if events.value is not None:
        problems += _check_value(events, events.value)
    problems += _check_meanings(events)
    labels_as_inputs = set(events.labels) & set(events.context)
    problems += [
        f"events.context: {name!r} is also a label; an input that is the answer would leak"
        for name in sorted(labels_as_inputs)
    ]
    return problems


def _check_value(events: Events, value: str) -> list[str]:
    problems = [
        f"events.{name}: {VALUE!r} is what the task of events.value is called; rename the stage"
        for name, stages in (("funnel", events.funnel), ("labels", events.labels))
        if VALUE in stages
    ]
    problems += [
        f"events.value: {value!r} is also in events.{name}; an amount that is known only "
        "afterwards would leak, keep it in one of the two"
        for name, columns in (("context", events.context), ("labels", events.labels))
        if value in columns
    ]
    return problems


def _check_meanings(events: Events) -> list[str]:
    """Columns that would have to be of two types, or say two things of an event."""
    problems: list[str] = []
    first: dict[str, str] = {}
    for setting in ("user", "item", "time", "kind", "weight", "split", "value", "request", "id"):
        column = getattr(events, setting)
        before = first.setdefault(column, setting) if column is not None else setting
        # A user's or a product's key may name the request or the exposure as well.
        if before != setting and (
            setting not in ("request", "id") or before not in ("user", "item", "request")
        ):
            problems.append(
                f"events.{setting}: {column!r} is also events.{before}; name another column, or "
                "leave one of the two out"
            )
    return problems
