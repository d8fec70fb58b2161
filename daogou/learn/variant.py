"""A shop to the same shop with other settings: other seeds, without a task, with a task alone."""

import copy
from collections.abc import Mapping
from typing import Any

from daogou.config import shop_of
from daogou.learn.judge import chain_of
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
    return varied(
        shop,
        model={**(widths or {}), "mixer_options": options or None},
        training={
            "balancer": None, "balancer_options": None, "sampling": None, "watch": name,
        },
        tasks=tasks,
    )  # fmt: skip
