"""``[tune]`` of a shop.toml to a typed space of settings, and a point of it to a shop."""

import copy
import inspect
import itertools
import json
import math
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from daogou.balance import BALANCERS
from daogou.balance.base import GIVEN as BALANCERS_GIVEN
from daogou.config import make, shop_of
from daogou.errors import ConfigError, unknown
from daogou.learn.dimension import Dimension, Params, Range
from daogou.learn.settings import Settings, settings_of
from daogou.model.build import Shape
from daogou.model.mixers import MIXERS
from daogou.model.mixers.base import GIVEN as MIXERS_GIVEN
from daogou.schema import Shop

LARGEST_GRID: Final = 100_000

_TABLES = "changes how tables are read, and all trials read one store; make a search for each value"

_MEASURE = "changes what trials are compared by"

_MACHINE = "changes where and how training runs, and not what is learnt"

# Settings of [fit] that trials may not differ in.
_FIXED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("min_count", "buckets", "text_length", "word_count"), _TABLES),
    **dict.fromkeys(("watch", "calibration"), _MEASURE),
    **dict.fromkeys(("device", "threads", "memory_limit", "waive", "track", "track_to"), _MACHINE),
}

# Whose further settings belong to one method, and the table that has the methods.
_METHODS: Final[Mapping[str, tuple[str, Mapping[str, Callable[..., Any]], frozenset[str]]]] = {
    "model.mixer": ("model.mixer_options", MIXERS, frozenset(MIXERS_GIVEN)),
    "fit.balancer": ("fit.balancer_options", BALANCERS, frozenset(BALANCERS_GIVEN)),
}


@dataclass(frozen=True)
class Tuning:
    """What ``[tune]`` may say."""

    space: Mapping[str, Any] = field(default_factory=dict)  # setting -> `Range`; {} = a small one
    objective: str | None = None  # "joint" or a task's name; None = fit.watch
    halving: int = 3  # one trial in so many goes on after epochs 1, 3, 9, ...; 0 = all do


@dataclass(frozen=True)
class Space:
    """The settings that are searched; each after those that it depends on."""

    dimensions: tuple[Dimension, ...]

    def grid(self) -> list[dict[str, Any]]:
        """Every point of the grid, the last dimension the fastest.

        Raises ConfigError for ranges without steps and for more than `LARGEST_GRID` points.
        """
        points: list[dict[str, Any]] = [{}]
        for dimension in self.dimensions:
            values = dimension.steps()
            points = [
                {**point, dimension.key: value} if dimension.is_asked(point) else point
                for point in points
                for value in (values if dimension.is_asked(point) else values[:1])
            ]
            if len(points) > LARGEST_GRID:
                raise ConfigError(
                    f"tune.space: a grid of more than {LARGEST_GRID} points; give fewer points, "
                    "or take --sampler random"
                )
        return points


def default_space(shop: Shop) -> dict[str, Any]:
    """What is searched where ``[tune.space]`` says nothing: rates, dropout, and the mixer."""
    found: dict[str, Any] = {
        "fit.learning_rate": {"low": 0.0005, "high": 0.01, "log": True, "points": 3},
        "fit.row_learning_rate": {"low": 0.02, "high": 0.5, "log": True, "points": 3},
        "model.dropout": {"low": 0.0, "high": 0.5, "points": 3},
    }
    if len(shop.of_family("funnel")) > 1:
        found |= {
            "model.mixer": {"choices": ["shared_bottom", "mmoe", "ple"]},
            "model.mixer_options.n_experts": {
                "low": 2,
                "high": 8,
                "points": 3,
                "when": {"model.mixer": "mmoe"},
            },
        }
    return found


def tuning_of(shop: Shop) -> tuple[Tuning, Space, str]:
    """``[tune]``, its space and the objective's name, checked; every problem at once.

    Each dimension is tried at its ends, with what it depends on, so that no setting is refused in
    the middle of a search.
    """
    tuning = make("tune", Tuning, shop.tune)
    settings, shape = settings_of(shop)
    problems: list[str] = []
    if tuning.halving != 0 and tuning.halving < 2:
        problems.append(f"tune.halving: {tuning.halving}; give 2 or more, or 0 for none")
    objective = settings.watch if tuning.objective is None else tuning.objective
    objectives = ["joint", *(task.name for task in shop.tasks)]
    if objective not in objectives:
        problems.append(f"tune.objective: {unknown(objective, objectives)}")
    own = {"model.mixer": shape.mixer, "fit.balancer": settings.balancer}
    found: dict[str, Dimension] = {}
    for key, table in _flat(tuning.space or default_space(shop)).items():
        try:
            found[key] = _dimension(key, table, shop, own)
        except ConfigError as error:
            problems.append(str(error))
    if not problems:
        problems += _wrong_conditions(found)
    if problems:
        raise ConfigError("\n".join(problems))
    space = Space(tuple(_ordered(found)))
    problems = list(dict.fromkeys(_refused(space, shop)))
    if problems:
        raise ConfigError("\n".join(problems))
    return tuning, space, objective


def shop_with(shop: Shop, params: Params) -> Shop:
    """The shop with these settings and without ``[tune]``.

    Options that the shop gives to its own mixer or balancer go with it if another one is taken.
    """
    document = copy.deepcopy(dict(shop.document))
    document.pop("tune", None)
    for method, (options, _, _) in _METHODS.items():
        section, name = method.split(".")
        table = document.get(section, {})
        default = {"model.mixer": Shape.mixer, "fit.balancer": Settings.balancer}[method]
        if method in params and params[method] != table.get(name, default):
            table.pop(options.split(".")[1], None)
    for key, value in params.items():
        *sections, last = _places(key)
        table = document
        for section in sections:
            inner = table.setdefault(section, {})
            if not isinstance(inner, dict):  # such as an option of a mixer that has none
                inner = table[section] = {}
            table = inner
        table[last] = list(value) if isinstance(value, tuple) else value
    return shop_of(document, shop.root)


def _places(key: str) -> list[str]:
    """The path of a setting in the document; a task's name may have dots."""
    section, _, rest = key.partition(".")
    if section == "tasks":
        return [section, *rest.rsplit(".", 1)]
    return key.split(".")


def _flat(tables: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """``{fit: {learning_rate: {low...}}}`` and ``{"fit.learning_rate": {low...}}`` are the same."""
    legal = {each.name for each in fields(Range)}
    found: dict[str, Any] = {}
    for name, table in tables.items():
        if isinstance(table, Mapping) and table and not legal & set(table):
            found |= _flat(table, f"{before}{name}.")
        else:
            found[before + name] = table
    return found


def _flat_values(tables: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tables.items():
        inner = isinstance(value, Mapping)
        found |= _flat_values(value, f"{before}{name}.") if inner else {before + name: value}
    return found


def _dimension(key: str, table: Any, shop: Shop, own: Mapping[str, str]) -> Dimension:
    where = f"tune.space.{key}"
    span = make(where, Range, table)
    when = {
        name: tuple(value) if isinstance(value, list) else (value,)
        for name, value in _flat_values(span.when).items()
    }
    kind = _kind_of(key, shop, {**{name: (method,) for name, method in own.items()}, **when})
    problem = _wrong_choices(span) if span.choices else _wrong_range(span, kind)
    if key.startswith("tasks.") and 0 in (span.low, *span.choices):
        problem = "a task of weight 0 has no say in the joint score; it must be above 0"
    if problem:
        raise ConfigError(f"{where}: {problem}")
    return Dimension(key, None if span.choices else kind, span, when)


def _kind_of(key: str, shop: Shop, methods: Mapping[str, tuple[Any, ...]]) -> type:
    """The type of a setting; ConfigError if there is none such, or none that may be searched."""
    section, _, name = key.partition(".")
    where = f"tune.space.{key}"
    for method, (options, makers, given) in _METHODS.items():
        if key.startswith(options + "."):
            named = [each for each in methods[method] if each in makers]
            hints = [_hints(makers[each], given) for each in named]
            return _found(where, key.removeprefix(options + "."), hints[0] if hints else {})
    if section == "fit":
        if name in _FIXED:
            raise ConfigError(f"{where}: {_FIXED[name]}")
        return _found(where, name, _hints(Settings, _FIXED))
    if section == "model":
        return _found(where, name, _hints(Shape, ()))
    if section == "tasks":
        task, _, setting = name.rpartition(".")
        shop.task(task)
        return _found(where, setting, {"weight": float, "own": str})
    raise ConfigError(
        f"{where}: settings of [fit] and [model] can be searched, and a task's weight and own"
    )


def _hints(maker: Callable[..., Any], without: Iterable[str]) -> dict[str, Any]:
    """The settings of a maker and their types."""
    hints = typing.get_type_hints(maker.__init__ if inspect.isclass(maker) else maker)
    skipped = set(without)
    return {
        name: hints.get(name, Any)
        for name in inspect.signature(maker).parameters
        if name not in skipped
    }


def _found(where: str, name: str, hints: Mapping[str, Any]) -> type:
    if name not in hints:
        raise ConfigError(f"{where}: {unknown(name, hints)}")
    kind = hints[name]
    return kind if isinstance(kind, type) else object


def _wrong_choices(span: Range) -> str | None:
    numbers = (span.low, span.high, span.step, span.points)
    if any(number is not None for number in numbers) or span.log:
        return "give choices, or a range with low and high, not both"
    if len({json.dumps(choice) for choice in span.choices}) < len(span.choices):
        return "a choice is listed twice"
    return None


def _wrong_range(span: Range, kind: type) -> str | None:
    """What is wrong with a range of numbers; the first thing only."""
    low, high, step = span.low, span.high, span.step
    if kind not in (int, float):
        return "no number; give choices = [...]"
    if low is None or high is None:
        return "give low and high, or choices = [...]"
    numbers = [low, high] if step is None else [low, high, step]
    if not all(math.isfinite(number) for number in numbers):
        return "low, high and step must be finite"
    if kind is int and any(number != int(number) for number in numbers):
        return "whole numbers are wanted"
    wrong = {
        f"low is {low:g} and high {high:g}; low must be less": low >= high,
        "on a log scale low must be above 0": span.log and low <= 0,
        "step and log do not go together; a grid on a log scale has points": (
            span.log and step is not None
        ),
        f"step is {step}; it must be above 0": step is not None and step <= 0,
        f"points is {span.points}; give 1 or more": span.points is not None and span.points < 1,
        "give step or points, not both": span.points is not None and step is not None,
    }
    return next((words for words, is_so in wrong.items() if is_so), None)


def _wrong_conditions(found: Mapping[str, Dimension]) -> list[str]:
    problems = []
    for key, dimension in found.items():
        where = f"tune.space.{key}.when"
        for name, allowed in dimension.when.items():
            if name not in found:
                problems.append(f"{where}: {unknown(name, found)}")
            elif found[name].kind is not None:
                problems.append(f"{where}: {name} is a range; a condition needs choices")
            else:
                choices = found[name].span.choices
                problems += [
                    f"{where}.{name}: {unknown(str(one), map(str, choices))}"
                    for one in allowed
                    if one not in choices
                ]
    return problems


def _ordered(found: Mapping[str, Dimension]) -> Iterator[Dimension]:
    """Each after those that it depends on, otherwise as given."""
    left, done = dict(found), set[str]()
    while left:
        ready = [key for key, each in left.items() if done >= set(each.when)]
        if not ready:
            raise ConfigError(f"tune.space: {' and '.join(left)} depend on each other")
        yield left.pop(ready[0])
        done.add(ready[0])


def _refused(space: Space, shop: Shop) -> Iterator[str]:
    """What `settings_of` says to the ends of each dimension."""
    by_key = {each.key: each for each in space.dimensions}
    methods = [by_key[name] for name in _METHODS if name in by_key]
    for dimension in space.dimensions:
        base = _asked_for(dimension, by_key)
        others = [each for each in methods if each.key not in base and each is not dimension]
        cases: Sequence[tuple[Any, ...]] = [
            *itertools.product(*(each.span.choices for each in others if each.is_asked(base)))
        ]
        names = [each.key for each in others if each.is_asked(base)]
        for end, case in itertools.product(dimension.ends, cases):
            params = {**base, **dict(zip(names, case, strict=True)), dimension.key: end}
            try:
                settings_of(shop_with(shop, params))
            except ConfigError as error:
                said = ", ".join(f"{name} = {value!r}" for name, value in params.items())
                for line in str(error).split("\n"):
                    yield f"tune.space: with {said}: {line}"


def _asked_for(dimension: Dimension, by_key: Mapping[str, Dimension]) -> dict[str, Any]:
    """Values of others with which a dimension is asked for."""
    params: dict[str, Any] = {}
    for name, allowed in dimension.when.items():
        params |= {**_asked_for(by_key[name], by_key), name: allowed[0]}
    return params
