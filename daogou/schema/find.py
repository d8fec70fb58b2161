"""Tables to the tasks that they allow, and why the others are not there."""

import math
from collections.abc import Iterator, Mapping
from typing import Final

from daogou.errors import ConfigError, unknown
from daogou.schema import LOSSES, NEED_GIVEN, OWN, VALUE, Events, Items, Task, TaskSetting, Users

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
