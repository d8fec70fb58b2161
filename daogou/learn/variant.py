"""A shop to the same shop with other settings: other seeds, without a task, with a task alone."""

import copy
from collections.abc import Mapping
from typing import Any, Final

from daogou.config import shop_of
from daogou.learn.judge import chain_of
from daogou.learn.settings import refits, settings_of
from daogou.schema import Shop


def varied(
    shop: Shop,
    *,
    seed: int | None = None,
    model: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
) -> Shop:
    """The shop with other words in its TOML; a setting of None is left out of it."""
    document = copy.deepcopy(dict(shop.document))
    if seed is not None:
        document["seed"] = seed
    for section, given in (("model", model), ("fit", training)):
        if given:
            table = {**document.get(section, {}), **given}
            document[section] = {key: value for key, value in table.items() if value is not None}
    for name, given in (tasks or {}).items():
        tables = document.setdefault("tasks", {})
        column = name.removeprefix("profile.")
        nested = tables.get("profile", {}).get(column, {}) if column != name else {}
        table = {**nested, **tables.get(name, {}), **given}
        tables[name] = {key: value for key, value in table.items() if value is not None}
        if nested:
            del tables["profile"][column]
    return shop_of(document, shop.root)


def judged_by_validation(shop: Shop) -> Shop:
    """The shop whose validation rows teach nothing, since more than an epoch is chosen by them."""
    settings, _ = settings_of(shop)
    return varied(shop, training={"refit": False}) if refits(shop, settings) else shop


def without(shop: Shop, *names: str) -> Shop:
    """The shop with tasks at weight 0: their own layers learn, nothing shared hears of them."""
    return varied(shop, tasks={name: {"weight": 0.0} for name in names})


def twin_of(shop: Shop, name: str, widths: Mapping[str, Any] | None = None) -> Shop:
    """The shop as if it had this task alone, and the stages that it is learnt after at weight 0."""
    chain = chain_of(shop.tasks, name)
    tasks: dict[str, dict[str, Any]] = {}
    for task in shop.tasks:
        if task.name == name:
            tasks[task.name] = {"weight": 1.0, "own": None}
        elif task.name in chain:
            tasks[task.name] = {"weight": 0.0, "own": None}
        else:
            tasks[task.name] = {"enabled": False}
    options = dict(shop.model.get("mixer_options", {}))
    options.pop("groups", None)  # it counts the tasks
    model = {**(widths or {}), "mixer_options": options or None}
    return varied(shop, model=model, training=_ALONE | {"watch": name}, tasks=tasks)


# Of a shop in which one task counts there is nothing to weigh or to take turns with.
_ALONE: Final = {"balancer": None, "balancer_options": None, "sampling": None}


def pretraining_of(shop: Shop, name: str) -> Shop:
    """The shop whose other tasks teach what is shared, as they do jointly; this one only reads it.

    It trains its own layers, so that `finetuning_of` finds all weights there.
    """
    tasks: dict[str, dict[str, Any]] = {task.name: {"own": None} for task in shop.tasks}
    tasks[name]["weight"] = 0.0
    return varied(shop, training={"watch": None, "calibration": "none"}, tasks=tasks)


def finetuning_of(shop: Shop, name: str) -> Shop:
    """The shop as if it had this task alone, with the shapes of `pretraining_of`.

    Tasks of its family stay, at weight 0; of other families nothing is shared but encoders.
    """
    family = shop.task(name).family
    tasks: dict[str, dict[str, Any]] = {}
    for task in shop.tasks:
        kept = {"weight": float(task.name == name), "own": None}
        tasks[task.name] = kept if task.family == family else {"enabled": False}
    return varied(shop, training=_ALONE | {"watch": name}, tasks=tasks)
