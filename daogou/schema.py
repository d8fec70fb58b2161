"""What a shop's tables and columns mean, and which tasks they allow: checked once, then frozen.

The field names of these classes are the legal keys of `shop.toml`: a setting is written once.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from daogou.errors import ConfigError, unknown

FAMILIES: Final = ("funnel", "match", "profile", "extract")
# How each family's tasks may be learnt; the first is the default. `daogou.model` has the losses.
LOSSES: Final[Mapping[str, tuple[str, ...]]] = {
    "funnel": ("conditional", "marginal", "esmm", "escm2_ips", "escm2_dr", "dfm"),
    "value": ("lognormal", "zero_inflated"),  # of the funnel's last task, an amount
    "match": ("sampled_softmax",),
    "profile": ("categorical", "ordinal", "multilabel"),
    "extract": ("chain",),
}
OWN: Final = ("nothing", "experts", "rows")  # what a stage may keep to itself, least first
DEFAULT_WINDOW_H: Final = 24.0
NEED_GIVEN: Final = ("esmm", "escm2_ips", "escm2_dr")  # losses that read the stage before
NEED_DELAYS: Final = ("dfm",)  # losses that read how long a stage took
VALUE: Final = "value"  # the task that `Events.value` allows


@dataclass(frozen=True)
class Items:
    """The catalogue: one row per product."""

    path: str
    key: str
    text: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()  # numbers among the inputs that only name a kind
    attributes: tuple[str, ...] = ()  # what extraction learns to fill
    spans: str | None = None  # gold spans of text[0]: a list of {start, end, attribute}
    annotated: str | None = None  # which attributes were labelled on a row; null = none
    shown: tuple[str, ...] = ()  # further columns that answers read and the model does not
    split: str | None = None  # overrides the split by title: train, validation or test
    query: str | None = None  # what gives the rows, where path is the URL of a database


@dataclass(frozen=True)
class Users:
    """The shop's users: one row each."""

    path: str
    key: str
    columns: tuple[str, ...] = ()  # inputs
    categories: tuple[str, ...] = ()  # numbers among them that only name a kind
    profile: tuple[str, ...] = ()  # what profiling predicts; never an input
    sensitive: tuple[str, ...] = ()  # columns that are not read at all, wherever else they stand
    allowed: tuple[str, ...] = ()  # those of them that may be read, predicted and told all the same
    split: str | None = None  # overrides the split by user hash
    query: str | None = None  # what gives the rows, where path is the URL of a database

    @property
    def withheld(self) -> tuple[str, ...]:
        """The sensitive columns that are not allowed."""
        return tuple(name for name in self.sensitive if name not in self.allowed)

    def within_consent(self) -> "Users":
        """The same table as it may be read: no withheld column is an input or predicted."""
        return replace(
            self,
            columns=self._kept(self.columns),
            categories=self._kept(self.categories),
            profile=self._kept(self.profile),
        )

    def _kept(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if name not in self.withheld)


@dataclass(frozen=True)
class Events:
    """What happened: a log of events with a kind, or one wide table with label columns."""

    path: str
    user: str | None = None
    item: str | None = None
    time: str | None = None
    kind: str | None = None
    funnel: tuple[str, ...] = ()  # first = exposure, the rest = labels in order
    labels: tuple[str, ...] = ()  # a wide table's label columns, instead of kind and funnel
    window_h: Mapping[str, float] = field(default_factory=dict)
    context: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()  # numbers among the context that only name a kind
    domain: str | None = None  # of the context: the scene, site or country of an exposure
    position: str | None = None  # of the context: the place in a list; answers are for the first
    value: str | None = None  # what the last stage is worth: an amount, a time; 0 or more
    history: tuple[str, ...] = ()  # kinds that enter a user's history; empty = funnel[1:]
    request: str | None = None  # ties an exposure and its events exactly; groups a slate
    id: str | None = None  # names an exposure
    weight: str | None = None  # inverse of the chance that a row was kept
    split: str | None = None  # overrides the split by time
    query: str | None = None  # what gives the rows, where path is the URL of a database
    more: tuple[str, ...] = ()  # further files, as path: those that came later

    @property
    def stages(self) -> tuple[str, ...]:
        """The labels, in order: the funnel after its exposure, or the label columns."""
        return self.funnel[1:] if self.funnel else self.labels

    @property
    def history_kinds(self) -> tuple[str, ...]:
        """The kinds of event that a user's history is made of."""
        return self.history or self.funnel[1:]

    def window_of(self, stage: str) -> float:
        """Hours from the exposure within which an event of ``stage`` counts."""
        return float(self.window_h.get(stage, DEFAULT_WINDOW_H))


@dataclass(frozen=True)
class Split:
    """How the three splits are cut. Exposures by time; profile labels and titles by hash."""

    validation: float = 0.1  # share of exposures, the last before the test's
    test: float = 0.1  # share of exposures, the very last
    validation_from: str | None = None  # ISO time; overrides the shares
    test_from: str | None = None
    folds: int = 5  # users (profile) and titles (extract) fall into this many hash folds
    fold: int = 0  # this fold is the test, the next one the validation


@dataclass(frozen=True)
class Task:
    """One thing the model learns."""

    name: str  # "click", "match", "profile.gender", "extract"
    family: str  # one of FAMILIES
    given: str | None = None  # funnel: learnt where this stage happened
    weight: float = 1.0
    loss: str = ""  # one of its family's LOSSES; empty = the first
    own: str = OWN[0]  # funnel: what no other task shares, one of OWN
    order: tuple[str, ...] = ()  # ordinal: the classes from the lowest; () = by their numbers

    @property
    def is_value(self) -> bool:
        """Whether it is learnt as an amount, and has no chance."""
        return self.loss in LOSSES["value"]


@dataclass(frozen=True)
class TaskSetting:
    """What ``[tasks.NAME]`` may say."""

    weight: float | None = None
    given: str | None = None
    loss: str | None = None  # one of the family's LOSSES
    own: str = OWN[0]  # of a stage: what it shares with no other task, one of OWN
    order: tuple[str, ...] = ()  # of an ordinal profile: its classes from the lowest
    enabled: bool = True


@dataclass(frozen=True)
class GuideSetting:
    """What ``[guide]`` may say: how products are ranked for a user, and which are left out."""

    weights: Mapping[str, float] | None = None  # stage -> what reaching it is worth
    by_value: bool = False  # rank by money: what is expected to be paid
    diversity: float = 0.0  # 0 = by score alone, 1 = as unlike one another as can be
    stock: str | None = None  # a column of items that says whether there are any
    per_category: int = 0  # most products of one category in an answer; 0 = any number
    bought_days: float = 0.0  # leave out what the user bought within so many days
    seen_days: float = 0.0  # leave out what the user did anything with
    approximate_from: int = 300_000  # products from which matching need not compare every one
    count_new: bool = True  # a new product's chances follow what became of it


@dataclass(frozen=True)
class Truth:
    """Where a simulated shop keeps what it planted. Only ``evaluate`` opens it."""

    path: str


@dataclass(frozen=True)
class TextSetting:
    """What may read titles beside our own rows of words."""

    encoder: str | None = None  # a folder in Hugging Face format, relative to the shop's
    tune: bool = False  # whether training changes its weights


@dataclass(frozen=True)
class Shop:
    """A shop's tables, what they mean, and the tasks they allow."""

    root: Path
    name: str = "shop"
    seed: int = 0
    items: Items | None = None
    users: Users | None = None
    events: Events | None = None
    tasks: tuple[Task, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)  # family -> why it has no task
    split: Split = field(default_factory=Split)
    truth: Truth | None = None
    guide: GuideSetting = field(default_factory=GuideSetting)
    text: TextSetting = field(default_factory=TextSetting)
    model: Mapping[str, Any] = field(default_factory=dict)  # fields of model.build.Shape
    fit: Mapping[str, Any] = field(default_factory=dict)  # fields of learn.settings.Settings
    tune: Mapping[str, Any] = field(default_factory=dict)  # fields of learn.space.Tuning
    document: Mapping[str, Any] = field(default_factory=dict)  # the TOML that all this came from

    def task(self, name: str) -> Task:
        """The task of that name."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise ConfigError(f"tasks.{name}: {unknown(name, [task.name for task in self.tasks])}")

    def of_family(self, family: str) -> tuple[Task, ...]:
        """The tasks of one family, in order."""
        return tuple(task for task in self.tasks if task.family == family)

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that extraction learns."""
        return self.items.attributes if self.items else ()


# Weights from evidence (docs/design.md): what a family says of an exposure is summed as it is
# but for matching and profiles, whose few users must not steer the encoders.
DEFAULT_WEIGHTS: Final[Mapping[str, float]] = {
    "funnel": 1.0,
    "match": 0.3,
    "profile": 0.1,
    "extract": 1.0,
}


def find_tasks(
    items: Items | None,
    users: Users | None,
    events: Events | None,
    settings: Mapping[str, TaskSetting],
) -> tuple[tuple[Task, ...], dict[str, str]]:
    """The tasks that these tables allow, and for each family without one the reason.

    >>> shop_events = Events("e.parquet", "user", "item", "ts", "kind", ("shown", "click", "buy"))
    >>> tasks, absent = find_tasks(None, None, shop_events, {})
    >>> [(task.name, task.given) for task in tasks]
    [('click', None), ('buy', 'click'), ('match', None)]
    >>> absent["profile"]
    '[users] profile names no column'

    A stage whose condition is switched off is conditional on the stage before that, so that
    later stages stay no likelier than earlier ones.
    """
    found = list(_possible(items, users, events))
    off = {name for name, setting in settings.items() if not setting.enabled}
    before = {name: given for name, _, given in found}
    names = [name for name, _, _ in found]
    problems = [f"tasks.{name}: {unknown(name, names)}" for name in settings if name not in names]
    tasks: list[Task] = []
    for name, family, given in found:
        setting = settings.get(name, TaskSetting())
        if not setting.enabled:
            continue
        is_value = bool(events and events.value) and name == VALUE
        losses = LOSSES["value" if is_value else family]
        loss = losses[0] if setting.loss is None else setting.loss
        if loss not in losses:
            problems.append(f"tasks.{name}.loss: {unknown(loss, losses)}")
        weight = DEFAULT_WEIGHTS[family] if setting.weight is None else setting.weight
        if not 0 <= weight < math.inf:
            problems.append(f"tasks.{name}.weight: {weight}; give a finite number, 0 or more")
        if setting.given is not None:
            stages = events.stages if events else ()
            earlier = stages[: stages.index(name)] if name in stages else ()
            earlier = stages if is_value else earlier
            if setting.given not in earlier:
                problems.append(f"tasks.{name}.given: {unknown(setting.given, earlier)}")
            elif setting.given in off:
                problems.append(f"tasks.{name}.given: {setting.given!r} is switched off")
            given = setting.given
        while given in off:
            given = before[given]
        given = None if loss == "marginal" else given
        tasks.append(Task(name, family, given, weight, loss, setting.own, setting.order))
        problems += _check_task(tasks[-1], events)
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(tasks), _absent(items, users, events)


def _check_task(task: Task, events: Events | None) -> list[str]:
    """What is wrong with the settings of a task taken together."""
    name, loss, order = task.name, task.loss, task.order
    problems: list[str] = []
    if task.own not in OWN:
        problems.append(f"tasks.{name}.own: {unknown(task.own, OWN)}")
    elif task.own != OWN[0] and task.family != "funnel":
        problems.append(f"tasks.{name}.own: only stages of the funnel meet in a mixer")
    if loss in NEED_GIVEN and task.given is None:
        problems.append(
            f"tasks.{name}.loss: {loss!r} corrects for the stage before, and there is none; "
            'take "conditional", or name one with given'
        )
    if order and loss != "ordinal":
        problems.append(f'tasks.{name}.order: {loss!r} asks for none; set loss = "ordinal"')
    problems += [
        f"tasks.{name}.order: {word!r} is listed twice"
        for word in sorted({word for word in order if order.count(word) > 1})
    ]
    if events and events.funnel and task.is_value:
        problems += _check_zeros(task, events.stages[-1])
    return problems


def _check_zeros(task: Task, last: str) -> list[str]:
    """Whether a log's value is learnt by a loss that bears the amounts of 0 it then has."""
    if task.given == last or task.loss != "lognormal":
        return []
    given = task.given
    where = f"where {given!r} happened and {last!r} did not" if given else f"where no {last!r} came"
    return [
        f"tasks.{task.name}.loss: {task.loss!r} leaves out amounts of 0, which is what they are "
        f'{where}, so that it would expect too much; set loss = "zero_inflated", or '
        f'given = "{last}"'
    ]


def _possible(
    items: Items | None, users: Users | None, events: Events | None
) -> Iterator[tuple[str, str, str | None]]:
    """Name, family and default ``given`` of every task these tables could teach."""
    if events:
        # A funnel's stage is learnt where the one before it happened; a wide table's labels
        # are independent unless the TOML says `given`.
        previous: str | None = None
        for stage in events.stages:
            yield stage, "funnel", previous
            previous = stage if events.funnel else None
        if events.value and events.stages:
            yield VALUE, "funnel", previous
        if events.user and events.item and events.stages:
            yield "match", "match", None
    if users and events and events.user and events.item and events.time:
        for column in users.profile:
            yield f"profile.{column}", "profile", None
    if items and items.text and items.attributes:
        yield "extract", "extract", None


def _absent(items: Items | None, users: Users | None, events: Events | None) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if not events:
        reasons["funnel"] = "there is no [events] table"
        reasons["match"] = reasons["profile"] = reasons["funnel"]
    else:
        if not events.stages:
            reasons["funnel"] = "[events] names no funnel and no labels"
        if not (events.user and events.item and events.stages):
            reasons["match"] = "[events] needs user, item and a funnel or labels"
        if not (events.user and events.item and events.time):
            reasons["profile"] = "[events] needs user, item and time: profiles read behaviour"
    if not (users and users.profile):
        reasons.setdefault("profile", "[users] profile names no column")
    if not (items and items.text and items.attributes):
        reasons["extract"] = "[items] needs text and attributes"
    return reasons


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
            problems.append("items.spans: spans point into items.text, which is not given")
        if items.spans and not items.attributes:
            problems.append("items.attributes: list the attributes that items.spans annotates")
        if items.annotated and not items.spans:
            problems.append("items.annotated: says which spans exist, and items.spans is not given")
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
