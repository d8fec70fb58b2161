"""Steps that a user, or an example, cannot be told from: clipped sums with noise.

Every unit's gradient is computed by itself, with everything encoded for it alone: to encode rows
once for a whole batch, as training does otherwise, would mix what must be clipped apart.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.artifact.counts import tastes_of
from daogou.config import make
from daogou.errors import ConfigError, unknown
from daogou.features.batch import Batch, make_batch
from daogou.features.queries import NO_ROWS, teaching_queries, user_rows
from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.learn.loop import Learner
from daogou.learn.optimise import distinct_rows
from daogou.learn.step import backward
from daogou.metrics import epsilon
from daogou.model.build import Counts, Shape, build
from daogou.model.joint import JointModel
from daogou.schema import Task

UNITS: Final = ("user", "example", "label")
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Privacy:
    """What ``[federate.privacy]`` may say. What leaves a shop is private for each unit of it."""

    unit: str = "user"  # what cannot be told: a user with all their rows, an exposure, or a label
    noise: float = 1.0  # standard deviation, in units of clip
    clip: float = 1.0  # longest gradient of a unit
    share: float = 0.05  # chance of a unit to be in a step
    steps: int = 20  # of a round
    delta: float = 0.0  # 0 = one over the units
    budget: float = 0.0  # epsilon after which a shop gives nothing more; 0 = no bound
    learning_rate: float = 0.005  # Adam, all weights that travel
    most_rows: int = 64  # exposures that are read of a user in a step
    epsilon: float = 0.0  # of labels, which are told by chance; the other units add it up

    @property
    def of_labels(self) -> bool:
        """Whether it is in the labels that the noise is, and not in the steps."""
        return self.unit == "label"

    @property
    def reads_past(self) -> bool:
        """Whether histories may be read: what stands in a user's past are labels of theirs."""
        return self.unit == "user"


def privacy_of(table: Any) -> Privacy:
    """``[federate.privacy]``, checked; every problem at once."""
    asked = make("federate.privacy", Privacy, table)
    problems = (
        [] if asked.unit in UNITS else [f"federate.privacy.unit: {unknown(asked.unit, UNITS)}"]
    )
    for name, value in vars(asked).items():
        if isinstance(value, int | float) and not 0 <= value < math.inf:
            problems.append(f"federate.privacy.{name}: {value}; give 0 or more")
    above = ["clip", "steps", "most_rows", *(["epsilon"] if asked.of_labels else [])]
    for name in above:
        if getattr(asked, name) == 0:
            problems.append(f"federate.privacy.{name}: 0; give more than that")
    problems += _idle(asked)
    for name, top in (("share", 1.0), ("delta", 1.0)):
        if getattr(asked, name) > top:
            problems.append(f"federate.privacy.{name}: {getattr(asked, name)}; give 1 or less")
    if problems:
        raise ConfigError("\n".join(problems))
    return asked


def _idle(asked: Privacy) -> list[str]:
    """What is given and says nothing beside the unit."""
    if not asked.of_labels:
        return [] if not asked.epsilon else [
            f"federate.privacy.epsilon: {asked.epsilon}; is the promise of labels alone, of other "
            "units it follows from noise, share and steps: give a budget"
        ]  # fmt: skip
    given = [each for each in fields(asked) if getattr(asked, each.name) != each.default]
    return [
        f'federate.privacy.{each.name}: says nothing where unit is "label"; leave it out'
        for each in given
        if each.name not in ("unit", "epsilon")
    ]


@dataclass(frozen=True)
class Units:
    """Who is protected: the training exposures of each unit, end to end.

    Unit ``j`` has ``rows[start[j]:start[j + 1]]``. ``user [J]`` is its user's row, 0 of nobody.
    """

    rows: Rows
    start: Rows
    user: Rows

    def __len__(self) -> int:
        return len(self.user)


def units_of(store: Store, unit: str, held: NDArray[np.bool_] | None = None) -> Units:
    """The units of a store's training split; exposures of nobody are a unit each.

    Users whose row is ``held`` are left out.
    """
    rows = np.arange(*store.ranges["train"])
    user = user_rows(store, rows)
    if held is not None:
        rows, user = rows[~held[user]], user[~held[user]]
    whose = np.where(user > 0, user, store.n_users + 1 + np.arange(len(rows)))
    if unit != "user":
        whose = np.arange(len(rows))
    order = np.argsort(whose, kind="stable")
    first = np.flatnonzero(np.diff(whose[order], prepend=-1))
    return Units(rows[order], np.append(first, len(rows)), user[order][first])


def spent(privacy: Privacy, n_units: int, steps: int) -> dict[str, Any]:
    """What so many steps have given away of each unit, as records have it.

    Labels are told by chance once, whatever is then made of them.
    """
    if privacy.of_labels:
        return {"unit": privacy.unit, "units": n_units, "delta": 0.0, "epsilon": privacy.epsilon}
    delta = privacy.delta or 1 / max(n_units, 2)
    return {
        "unit": privacy.unit,
        "units": n_units,
        "noise": privacy.noise,
        "clip": privacy.clip,
        "share": privacy.share,
        "steps": steps,
        "delta": delta,
        "epsilon": epsilon(privacy.noise, privacy.share, steps, delta),
    }


def steps_left(privacy: Privacy, n_units: int, steps: int) -> int:
    """How many of a round's steps the budget still pays for."""
    if not privacy.budget:
        return privacy.steps
    left = 0
    while left < privacy.steps:
        if spent(privacy, n_units, steps + left + 1)["epsilon"] > privacy.budget:
            break
        left += 1
    return left


def optimiser(weights: Iterable[Tensor], privacy: Privacy) -> torch.optim.AdamW:
    """Adam over the weights that travel: whatever is made of a noisy sum is as private as it is."""
    return torch.optim.AdamW(list(weights), lr=privacy.learning_rate, weight_decay=0.0)


def uncounted(
    transform: Transform, store: Store, tasks: Sequence[Task], shape: Shape
) -> JointModel:
    """A new model that is told no count of anybody's labels, which gradients would carry on."""
    n_ids = transform.item_ids.n_rows
    share = torch.full((n_ids,), 1 / n_ids)
    counts = Counts(store.n_items, share, {}, *tastes_of(transform, store))
    return build(transform, tasks, counts, shape)


def generator(secret: str, *place: object) -> torch.Generator:
    """Random numbers of a place that whoever lacks the secret cannot draw again."""
    words = "|".join([secret, *map(str, place)])
    seed = int.from_bytes(hashlib.blake2b(words.encode(), digest_size=7).digest())
    return torch.Generator().manual_seed(seed)


def private_step(
    learner: Learner,
    store: Store,
    units: Units,
    privacy: Privacy,
    travelling: Mapping[str, int],
    random: torch.Generator,
) -> int:
    """One step: units by chance, their clipped gradients summed, noise, an update; how many units.

    Weights that travel move by the noisy mean, and what stays at home not at all: it would carry
    what is not private into the next gradients. But where users are the units a user's own row
    moves by their own gradient, which no other's reads. An empty draw still moves the weights, by
    noise: that nobody was drawn is also nobody's business.
    """
    torch.manual_seed(int(torch.randint(2**62, (1,), generator=random)))  # of dropout
    named = dict(learner.model.named_parameters())
    weights = {name: named[name] for name in travelling}
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    drawn = torch.rand(len(units), generator=random) < privacy.share
    learner.model.train()
    for batch in _batches(learner, store, units, drawn.nonzero()[:, 0].tolist(), privacy, random):
        _forget(weights.values())
        backward(learner.model, batch, learner.static, learner.balancer)
        add_clipped(total, weights, travelling, privacy.clip)
    expected = max(privacy.share * len(units), 1.0)
    for name, weight in weights.items():
        noise = torch.empty(weight.shape).normal_(0, 1, generator=random).to(weight.device)
        moved = total[name] + privacy.noise * privacy.clip * noise
        if travelling[name]:
            moved[: travelling[name]] = 0.0
        weight.grad = moved / expected
    learner.adam.step()
    if privacy.unit == "user":
        _move_own_rows(learner)
    _forget(named.values())
    return int(drawn.sum())


@torch.no_grad()
def _move_own_rows(learner: Learner) -> None:
    """Move the rows of users by their own gradients; that of the unknown user is everybody's."""
    own = None if learner.model.user is None else learner.model.user.ids.weight
    _forget(each for each in learner.model.parameters() if each is not own)
    if own is not None:
        unknown_user = own[0].clone()
        learner.rows.step()
        own[0] = unknown_user


def add_clipped(
    total: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    travelling: Mapping[str, int],
    clip: float,
) -> float:
    """Add one unit's gradient to the total, cut to length ``clip``; the length that it had.

    Rows before a weight's first travelling one count for nothing. A gradient that is not finite
    has no length to be cut to and is left out.
    """
    pieces: list[tuple[Tensor, Tensor | None, Tensor]] = []
    square = 0.0
    for name, weight in weights.items():
        if weight.grad is None:
            continue
        rows: Tensor | None = None
        values = weight.grad
        if values.is_sparse:
            rows, values = distinct_rows(values)
            there = rows >= travelling[name]
            rows, values = rows[there], values[there]
        elif travelling[name]:
            values = values.clone()
            values[: travelling[name]] = 0.0
        square += float(values.double().square().sum())
        pieces.append((total[name], rows, values))
    length = math.sqrt(square)
    if not math.isfinite(length):
        return length
    factor = min(1.0, clip / length) if length else 1.0
    for into, rows, values in pieces:
        if rows is None:
            into.add_(values, alpha=factor)
        else:
            into.index_add_(0, rows, values, alpha=factor)
    return length


def _forget(weights: Iterable[Tensor]) -> None:
    for weight in weights:
        weight.grad = None


def _batches(
    learner: Learner,
    store: Store,
    units: Units,
    drawn: list[int],
    privacy: Privacy,
    random: torch.Generator,
) -> Iterator[Batch]:
    """The batch of each unit that was drawn, of nothing but what is its own and the catalogue."""
    teaching = teaching_queries(store) if privacy.unit == "user" else None
    settings = learner.settings
    for unit in drawn:
        rows = units.rows[units.start[unit] : units.start[unit + 1]]
        if len(rows) > privacy.most_rows:
            picked = torch.randperm(len(rows), generator=random)[: privacy.most_rows]
            rows = np.sort(rows[picked.numpy()])
        taught = None
        if teaching is not None and units.user[unit]:
            taught = teaching[np.flatnonzero(teaching.user == units.user[unit])]
        extra = NO_ROWS
        if store.n_items:
            among = (settings.extra_items,)
            extra = torch.randint(1, store.n_items + 1, among, generator=random).numpy()
        yield make_batch(
            store, rows, history_length=settings.history_length, extra_items=extra, taught=taught
        ).to(learner.device)
