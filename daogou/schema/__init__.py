"""What a shop's tables and columns mean, and which tasks they allow: checked once, then frozen.

The field names of these classes are the legal keys of `shop.toml`: a setting is written once.
"""

from collections.abc import Mapping
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

HOUR_US: Final = 3_600_000_000  # microseconds

DAY_US: Final = 24 * HOUR_US

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

    def window_us(self, stage: str) -> int:
        """The same in microseconds."""
        return round(self.window_of(stage) * HOUR_US)


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
