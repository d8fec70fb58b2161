"""A transform, its tasks and a shape to a model with its weights at their start."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from daogou.errors import ConfigError, unknown
from daogou.features.numeric import Numeric
from daogou.features.order import in_order
from daogou.features.repeats import N_PER_MARK
from daogou.features.text import CHANNELS, TextVocab
from daogou.features.transform import Transform
from daogou.features.transform import fields as features
from daogou.features.vocab import Vocab
from daogou.model.embed import Fields
from daogou.model.heads.extract import ExtractHead
from daogou.model.heads.funnel import FunnelHead, Stage
from daogou.model.heads.habits import Tastes
from daogou.model.heads.match import MatchHead
from daogou.model.heads.profile import Listed, Ordered, ProfileHead
from daogou.model.heads.values import ValueReader
from daogou.model.item import ItemEncoder
from daogou.model.joint import JointModel
from daogou.model.meet import Meet
from daogou.model.mixers import MIXERS
from daogou.model.mixers.unshared import Unshared
from daogou.model.own import OwnRows
from daogou.model.position import Position
from daogou.model.rates import Rates
from daogou.model.subwords import SubWordEncoder
from daogou.model.text import TextEncoder
from daogou.model.user import UserEncoder
from daogou.schema import OWN, Task

SIZES: Final[Mapping[str, tuple[int, int]]] = {  # size -> width of encodings, width of experts
    "small": (32, 64),
    "medium": (64, 128),
    "large": (128, 256),
}


PRECISIONS: Final = ("float32", "bfloat16")


@dataclass(frozen=True)
class Shape:
    """What ``[model]`` may say. The one dial is ``size``; the rest follows from it unless given."""

    size: str = "small"
    width: int = 0  # of item, user and text encodings; 0 = from size
    expert_widths: tuple[int, ...] = ()  # of an expert's layers; () = two, from size
    field_width: int = 0  # of one input column's row; 0 = half of width, at most 16
    text_width: int = 64
    text_layers: int = 2
    tower: int = 32
    own_width: int = 8  # of a row that one task keeps to itself, for mixers that ask
    own_norm: bool = False  # such rows as long as what encoders give
    dropout: float = 0.1
    id_dropout: float = 0.1
    event_dropout: float = 0.5  # share of a history's events that a training step does not see
    precision: str = "float32"  # of the mixer in training; or bfloat16
    mixer: str = "ple"
    mixer_options: Mapping[str, Any] | None = None  # further arguments of the mixer

    def widths(self) -> tuple[int, tuple[int, ...], int]:
        """Widths of encodings, of an expert's layers and of one column's row."""
        if self.size not in SIZES:
            raise ConfigError(f"model.size: {self.size!r}; known: {', '.join(SIZES)}")
        width, expert = SIZES[self.size]
        width, experts = self.width or width, self.expert_widths or (expert, expert)
        return width, experts, self.field_width or min(16, max(width // 2, 4))


@dataclass(frozen=True)
class Counts:
    """What of the data a model must know to be built."""

    n_items: int  # products in the catalogue
    positive_share: Tensor  # [n_item_ids] each id row's share of the training positives
    rates: Mapping[str, float]  # of each stage: its share where it is defined, in training
    tastes: Tastes | None = None  # what the profiles' linear layer counts of what was taken
    shown: Tastes | None = None  # and of what was shown


def build(
    transform: Transform,
    tasks: Sequence[Task],
    counts: Counts,
    shape: Shape,
) -> JointModel:
    """The model of a shop. Weights come from torch's generator: seed it first.

    Encoders exist for what the tables hold and the tasks read; heads for the tasks.
    """
    families = {task.family for task in tasks}
    width, _, field_width = shape.widths()
    has_users = bool(transform.user_ids.words) and bool(families & {"funnel", "match", "profile"})
    has_items = bool(transform.item_ids.words) and bool(families & {"funnel", "match", "profile"})
    text = item = user = None
    if transform.text is not None and (has_items or "extract" in families):
        subwords = transform.text.subwords
        text = TextEncoder(
            transform.text.n_rows,
            len(CHANNELS),
            shape.text_width,
            layers=shape.text_layers,
            subwords=SubWordEncoder(subwords, shape.text_width) if subwords else None,
        )
    if has_items:
        item = ItemEncoder(
            _frequencies(transform.item_ids.frequencies()),
            _fields(transform.items, field_width),
            shape.text_width if text is not None else 0,
            width,
            id_dropout=shape.id_dropout,
        )
    if has_users and has_items:
        user = UserEncoder(
            _frequencies(transform.user_ids.frequencies()),
            _fields(transform.users, field_width),
            len(transform.actions),
            width,
            id_dropout=shape.id_dropout,
            dropout=shape.dropout,
            event_dropout=shape.event_dropout,
        )
    heads: dict[str, nn.Module] = {}
    funnel = [task for task in tasks if task.family == "funnel"]
    if funnel:
        heads["funnel"] = _funnel(
            transform, funnel, shape, counts, item is not None, user is not None
        )
    if "match" in families:
        heads["match"] = MatchHead(
            width, counts.positive_share, counts.n_items, n_actions=len(transform.actions)
        )
    profile = [task for task in tasks if task.family == "profile"]
    if profile:
        heads["profile"] = _profile(transform, profile, width, counts)
    if "extract" in families and transform.text is not None:
        heads["extract"] = _extract(transform, transform.text, shape.text_width)
    return JointModel(tasks, heads, text=text, item=item, user=user)


def _extract(transform: Transform, text: TextVocab, width: int) -> ExtractHead:
    values = transform.values
    classes = {name: coder.n_rows - 1 for name, coder in values.pairs}
    return ExtractHead(
        width,
        transform.attributes,
        first_match=text.first_match,
        values=ValueReader(width, classes, text.n_rows) if classes else None,
    )


def _profile(
    transform: Transform, tasks: Sequence[Task], width: int, counts: Counts
) -> ProfileHead:
    names = [task.name.removeprefix("profile.") for task in tasks]
    firsts = dict(zip(transform.many.names, transform.first_values, strict=True))
    single = transform.profile.names
    kinds: dict[int, Ordered | Listed] = {}
    for place, (task, name) in enumerate(zip(tasks, names, strict=True)):
        if name in firsts:
            kinds[place] = Listed(firsts[name])
        elif task.loss == "ordinal":
            classes, where = transform.classes(name), f"tasks.{task.name}.order"
            kinds[place] = Ordered(in_order(classes, task.order, where=where))
    return ProfileHead(
        width,
        [len(transform.classes(name)) for name in names],
        [-1 if name in firsts else single.index(name) for name in names],
        kinds=kinds,
        tastes=counts.tastes,
        shown=counts.shown,
    )


def _funnel(
    transform: Transform,
    tasks: Sequence[Task],
    shape: Shape,
    counts: Counts,
    has_items: bool,
    has_users: bool,
) -> FunnelHead:
    """Where users meet products, the mixer, and a tower for each stage."""
    _, expert_widths, _ = shape.widths()
    context, apart = transform.context, _apart(transform)
    chances = [task.name for task in tasks if not task.is_value]
    meet = _meet(transform, shape, len(chances), has_items, has_users)
    if shape.mixer not in MIXERS:
        raise ConfigError(f"model.mixer: {unknown(shape.mixer, MIXERS)}")
    maker = MIXERS[shape.mixer]
    asks = inspect.signature(maker).parameters
    options: dict[str, Any] = dict(shape.mixer_options or {})
    apart_tasks = [place for place, task in enumerate(tasks) if task.own != OWN[0]]
    deep = [place for place in apart_tasks if tasks[place].own == "rows"]
    if "n_own_inputs" in asks and deep:
        raise ConfigError(
            f"tasks.{tasks[deep[0]].name}.own: {shape.mixer!r} gives every task rows of its own; "
            "take another model.mixer"
        )
    own = domain = position = None
    if "n_own_inputs" in asks or deep:
        own = _own_rows(transform, shape, len(tasks), len(deep), has_items, has_users)
        if not deep:
            options["n_own_inputs"] = own.n_outputs
    if "n_domains" in asks and transform.domain is not None:
        column = context.names.index(transform.domain)
        domain = column, context.offsets[column]
        options["n_domains"] = context.coders[column].n_rows
    if apart is not None:
        column, coder = apart[0], context.coders[apart[0]]
        position = Position(
            len(tasks),
            column=column,
            start=context.offsets[column],
            n_places=coder.n_rows,
            first=_first_place(coder),
        )
    mixer = maker(
        meet.n_outputs, len(tasks), widths=expert_widths, dropout=shape.dropout, **options
    )
    if apart_tasks:
        mixer = Unshared(
            mixer, meet.n_outputs, apart_tasks, deep, widths=expert_widths, dropout=shape.dropout,
            n_own_inputs=own.n_outputs if own is not None and deep else 0,
        )  # fmt: skip
    return FunnelHead(
        meet, mixer, _stages(transform, tasks, counts), tower=shape.tower,
        bfloat16=shape.precision == "bfloat16", position=position, domain=domain, own=own,
    )  # fmt: skip


def _meet(
    transform: Transform, shape: Shape, n_chances: int, has_items: bool, has_users: bool
) -> Meet:
    """Where users meet products; ConfigError where nobody meets anything."""
    width, _, field_width = shape.widths()
    context, apart = transform.context, _apart(transform)
    shown = (
        _fields(context, field_width, apart) if len(context.names) > (apart is not None) else None
    )
    rates = None
    if has_items and n_chances:
        rates = Rates(transform.item_ids.n_rows, n_chances, id_dropout=shape.id_dropout)
    meet = Meet(
        width,
        has_items=has_items,
        has_users=has_users,
        context=shown,
        n_repeats=N_PER_MARK * (1 + len(transform.items.names)),
        rates=rates,
        apart=apart,
    )
    if not meet.n_outputs:
        what = "names no column" if apart is None else "names the position alone, which is no input"
        raise ConfigError(
            f"events.context: {what}, and there are no products or users either: "
            "nothing to predict from"
        )
    return meet


def _own_rows(
    transform: Transform, shape: Shape, n_tasks: int, n_deep: int, has_items: bool, has_users: bool
) -> OwnRows:
    """Rows of ids that are the tasks' own: of those that ask for them, or of all."""
    context, apart = transform.context, _apart(transform)
    sizes = (
        transform.user_ids.n_rows if has_users else 0,
        transform.item_ids.n_rows if has_items else 0,
        context.n_rows,
    )
    return OwnRows(
        n_deep or n_tasks, sizes, len(context.names), shape.own_width,
        id_dropout=shape.id_dropout, apart=-1 if apart is None else apart[0],
        norm=shape.own_norm or bool(n_deep),
    )  # fmt: skip


def _stages(transform: Transform, tasks: Sequence[Task], counts: Counts) -> list[Stage]:
    """What is learnt of each task, in their order."""
    names = [task.name for task in tasks]
    stages = []
    for task in tasks:
        column = -1 if task.is_value else transform.stages.index(task.name)
        stages.append(
            Stage(
                given=names.index(task.given) if task.given in names else -1,
                column=column,
                loss=task.loss or "conditional",
                window_h=transform.windows[column],
                scale=transform.value if task.is_value else None,
                own_rows=task.own == "rows",
                rate=counts.rates.get(task.name, 0.5),
            )
        )
    return stages


def _apart(transform: Transform) -> tuple[int, int] | None:
    """The position's column of the context, and its place among the numbers, -1 if it is none."""
    if transform.position is None:
        return None
    column = transform.context.names.index(transform.position)
    numbers = [isinstance(coder, Numeric) for coder in transform.context.coders]
    return column, sum(numbers[:column]) if numbers[column] else -1


def _first_place(coder: Vocab | Numeric) -> int:
    """The row of the least place that training saw: 1 for quantiles, a word's for categories."""
    if isinstance(coder, Numeric):
        return 1
    least = min(coder.words, key=_as_number, default=None)
    return 0 if least is None else coder.words.index(least) + 1


def _as_number(word: str) -> tuple[float, str]:
    try:
        return float(word), word
    except ValueError:
        return math.inf, word


def _fields(fields: features.Fields, width: int, apart: tuple[int, int] | None = None) -> Fields:
    n_columns, n_numbers = len(fields.names), fields.n_numbers
    if apart is not None:
        n_columns, n_numbers = n_columns - 1, n_numbers - (apart[1] >= 0)
    return Fields(fields.n_rows, n_columns, n_numbers, width)


def _frequencies(counts: Any) -> Tensor:
    return torch.from_numpy(counts)
