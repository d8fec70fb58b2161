"""shop.toml to objects; the legal keys are read from the makers' signatures."""

import inspect
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from daogou.errors import ConfigError, unknown
from daogou.schema import (
    Events,
    GuideSetting,
    Items,
    Shop,
    Split,
    TaskSetting,
    TextSetting,
    Truth,
    Users,
)
from daogou.schema.check import check_guide, check_shop
from daogou.schema.find import find_tasks

T = TypeVar("T")

_SECTIONS: Mapping[str, Callable[..., Any]] = {
    "items": Items,
    "users": Users,
    "events": Events,
    "split": Split,
    "truth": Truth,
    "guide": GuideSetting,
    "text": TextSetting,
}


def read_shop(path: Path | str, overrides: Iterable[str] = ()) -> Shop:
    """The shop that a TOML file describes. ``overrides`` are ``key.sub=value`` in TOML's words.

    Every problem is reported at once. Keys of ``[model]``, ``[fit]`` and ``[tune]`` are
    checked by `arguments` where they are used, against the signatures of their makers.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "shop.toml"
    try:
        document = read_toml(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `daogou new DIR` writes one") from None
    for override in overrides:
        apply(document, override)
    try:
        return shop_of(document, path.parent)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in str(error).split("\n"))) from None


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says. Raises ConfigError where it is not UTF-8, or no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    except (ValueError, RecursionError) as error:  # also of a number or a nesting without end
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def shop_of(document: Mapping[str, Any], root: Path) -> Shop:
    """The shop that a parsed TOML document describes, its paths relative to ``root``."""
    legal = [*_SECTIONS, "tasks", "model", "fit", "tune", "seed", "name"]
    problems = [f"{key}: {unknown(key, legal)}" for key in document if key not in legal]
    made: dict[str, Any] = {}
    for name, maker in _SECTIONS.items():
        if name in document:
            try:
                made[name] = make(name, maker, document[name])
            except ConfigError as error:
                problems.append(str(error))
    settings: dict[str, TaskSetting] = {}
    for name, table in _flat_tasks(document.get("tasks", {})).items():
        try:
            settings[name] = make(f"tasks.{name}" if name else "tasks", TaskSetting, table)
        except ConfigError as error:
            problems.append(str(error))
    problems += [
        f"{key}: {_KINDS[kind]} is wanted, found {document[key]!r}"
        for key, kind in (("seed", int), ("name", str))
        if key in document and type(document[key]) is not kind  # true is an int to isinstance
    ]
    problems += [
        f"{key}: a table is wanted, found {document[key]!r}"
        for key in ("model", "fit", "tune")
        if not isinstance(document.get(key, {}), dict)
    ]
    if type(document.get("seed")) is int and document["seed"] < 0:
        problems.append(f"seed: {document['seed']} is negative; give 0 or more")
    items, users, events = (made.get(name) for name in ("items", "users", "events"))
    if not problems:
        problems += check_shop(items, users, events)
        problems += check_guide(made.get("guide", GuideSetting()), items, events)
    if problems:
        raise ConfigError("\n".join(problems))
    withheld = {}
    if users:
        withheld = {
            f"profile.{name}": f"{name!r} is sensitive; users.allowed would let it be predicted"
            for name in users.profile
            if name in users.withheld
        }
        made["users"] = users = users.within_consent()
        # What is said of a task counts again when its column is allowed.
        settings = {name: each for name, each in settings.items() if name not in withheld}
    tasks, absent = find_tasks(items, users, events, settings)
    return Shop(
        root=root,
        name=document.get("name", root.name or "shop"),
        seed=document.get("seed", 0),
        tasks=tasks,
        absent=absent | withheld,
        model=document.get("model", {}),
        fit=document.get("fit", {}),
        tune=document.get("tune", {}),
        document=document,
        **made,
    )


def make(where: str, maker: Callable[..., T], table: Any) -> T:
    """Call ``maker`` with the keys of ``table``, each checked against its signature.

    >>> make("split", Split, {"validaton": 0.2})
    Traceback (most recent call last):
    daogou.errors.ConfigError: split.validaton: no 'validaton' here (did you mean 'validation'?)...
    """
    return maker(**arguments(where, maker, table))


def arguments(
    where: str, maker: Callable[..., Any], table: Any, *, given: Iterable[str] = ()
) -> dict[str, Any]:
    """The keys of ``table`` as arguments of ``maker``; those in ``given`` come from elsewhere."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: a table is wanted, found {table!r}")
    skipped = set(given)
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(maker).parameters.items()
        if name not in skipped
    }
    hints = typing.get_type_hints(maker.__init__ if inspect.isclass(maker) else maker)
    problems: list[str] = []
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key not in parameters:
            problems.append(f"{where}.{key}: {unknown(key, parameters)}")
            continue
        try:
            found[key] = _typed(f"{where}.{key}", value, hints.get(key, Any))
        except ConfigError as error:
            problems.append(str(error))
    problems += [
        f"{where}.{name}: missing, and there is no default"
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and name not in table
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _typed(where: str, value: Any, hint: Any) -> Any:
    """``value`` as the annotated type, or an error that names both."""
    if hint is Any:
        return value
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in inner:
            return None
        return _typed(where, value, next(kind for kind in inner if kind is not type(None)))
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: a list is wanted, found {value!r}")
        return tuple(_typed(f"{where}[{i}]", each, inner[0]) for i, each in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: a table is wanted, found {value!r}")
        return {key: _typed(f"{where}.{key}", each, inner[1]) for key, each in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: {_KINDS.get(hint, hint.__name__)} is wanted, found {value!r}")
    return value


_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _flat_tasks(tables: Any) -> dict[str, Any]:
    """``[tasks.profile.gender]`` and ``[tasks."profile.gender"]`` name the same task."""
    if not isinstance(tables, Mapping):
        return {"": tables}
    flat: dict[str, Any] = {}
    own = dict(tables)
    if isinstance(own.get("profile"), Mapping):
        nested = own.pop("profile")
        flat = {f"profile.{key}": each for key, each in nested.items() if isinstance(each, Mapping)}
        rest = {key: each for key, each in nested.items() if not isinstance(each, Mapping)}
        own |= {"profile": rest} if rest else {}
    for name, table in own.items():
        both = name in flat and isinstance(table, Mapping)
        flat[name] = {**flat[name], **table} if both else table
    return flat


def _path(key: str) -> list[str]:
    """The parts of a dotted key, quoted ones whole; a key that TOML would refuse is cut at dots."""
    try:
        table: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return key.strip().split(".")
    path: list[str] = []
    while isinstance(table, dict):
        name, table = next(iter(table.items()))
        path.append(name)
    return path


def apply(document: dict[str, Any], override: str) -> None:
    """Put one ``key.sub=value`` into the document; a bare word is taken as text."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override!r}: write it as key=value, e.g. fit.epochs=3")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = _path(key)
    if sections[:2] == ["tasks", "profile"] and len(sections) == 3:
        sections = ["tasks", f"profile.{sections[2]}"]
    table = document
    for section in sections:
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override!r}: {section} is a value, not a table")
        table = inner
    table[last] = value
