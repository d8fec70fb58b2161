"""A joint epoch's plan to one that teaches families of tasks apart, or some of them less often."""

import math
from collections.abc import Collection, Iterable, Mapping, Sized
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import numpy as np

from daogou.features.epoch import Epoch
from daogou.features.queries import NO_ROWS, NOBODY, Queries, Rows
from daogou.learn.validate import TaskLoss, joint_score
from daogou.schema import Task

SAMPLINGS: Final = ("joint", "proportional", "temperature", "stop_and_go")
# Families that read the same rows share their steps: apart, each would be taught by half of the
# rows, or the rows be encoded twice.
SOURCES: Final[Mapping[str, frozenset[str]]] = {
    "exposures": frozenset(["funnel", "match"]),
    "profiles": frozenset(["profile"]),
    "titles": frozenset(["extract"]),
}
BETTER: Final = 0.001  # of the best loss: less does not count as an improvement
WORSE: Final = 0.005  # of the best loss: more, and a stopped family goes on
EPOCHS: Final = 2  # without an improvement before a family stops
EVERY: Final = 4  # one step in so many still teaches a stopped family
_ORDER: Final = 2**32 - 1  # in the place of a step's number, which no step has
_Some = TypeVar("_Some")


@dataclass(frozen=True)
class Sampling:
    """Which families a step teaches: ``how`` is one of `SAMPLINGS`.

    ``alpha`` is the power of a source's number of rows that its number of steps goes by, for
    "temperature"; "proportional" is the power 1.
    """

    how: str = "joint"
    alpha: float = 0.5

    def plan(
        self, joint: Epoch, families: Iterable[str], *, seed: tuple[int, int],
        stopped: Collection[str] = (),
    ) -> Epoch:  # fmt: skip
        """The steps of an epoch, of the rows that the ``joint`` one has.

        ``families`` are the model's, ``seed`` the run's and the epoch's number; ``stopped`` are the
        families that "stop_and_go" teaches less often.
        """
        if self.how in ("proportional", "temperature"):
            alpha = 1.0 if self.how == "proportional" else self.alpha
            return taken_apart(joint, frozenset(families), alpha=alpha, seed=seed)
        if self.how == "stop_and_go":
            return slowed(joint, frozenset(families), stopped)
        return joint


@dataclass(frozen=True)
class _Step:
    """What one step teaches and reads; nothing where nothing is given."""

    families: frozenset[str]
    exposures: Rows = field(default_factory=lambda: NO_ROWS)
    titles: Rows = field(default_factory=lambda: NO_ROWS)
    extra_items: Rows = field(default_factory=lambda: NO_ROWS)
    taught: Queries = NOBODY


def steps_of(rows: Mapping[str, int], n_steps: int, *, alpha: float) -> dict[str, int]:
    """How many steps teach each source of so many ``rows``, in proportion to ``rows ** alpha``.

    Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    Transformer", JMLR 2020, section 3.5.2: examples-proportional mixing with a temperature, of
    which ``alpha`` is the inverse. The exposures, or where there are none the largest source, take
    ``n_steps``; no source takes fewer than one step or more than it has rows.

    >>> shop = {"exposures": 160, "profiles": 40, "titles": 10}
    >>> steps_of(shop, 8, alpha=1.0)
    {'exposures': 8, 'profiles': 2, 'titles': 1}
    >>> steps_of(shop, 8, alpha=0.5)
    {'exposures': 8, 'profiles': 4, 'titles': 2}
    """
    there = {source: n for source, n in rows.items() if n}
    if not there:
        return {}
    first = "exposures" if "exposures" in there else max(there, key=lambda source: there[source])
    found = {}
    for source, n in there.items():
        wanted = n_steps * (n / there[first]) ** alpha
        found[source] = min(max(math.floor(wanted + 0.5), 1), n)
    return found


def taken_apart(
    joint: Epoch, families: frozenset[str], *, alpha: float, seed: tuple[int, int]
) -> Epoch:
    """The same rows in steps that read one source each, in an order that ``seed`` decides.

    A source's rows, the passes over them included, are spread over its steps, of which `steps_of`
    tells the number: every power teaches the same rows, in other steps. The numbers are what
    drawing each step's source would give on average; only the order is left to chance, so that an
    epoch is one pass over the exposures.
    """
    titles = np.concatenate([NO_ROWS, *joint.titles])
    profiles = Queries.joined(joint.taught)
    found = {
        "exposures": sum(map(len, joint.exposures)),
        "profiles": len(profiles),
        "titles": len(titles),
    }
    read = {source: readers & families for source, readers in SOURCES.items()}
    rows = {source: n if read[source] else 0 for source, n in found.items()}
    n = dict.fromkeys(SOURCES, 0) | steps_of(rows, len(joint), alpha=alpha)
    shown = zip(joint.exposures, joint.extra_items, strict=True) if n["exposures"] else ()
    known, named = _pieces(profiles, n["profiles"]), _pieces(titles, n["titles"])
    steps = [
        *(_Step(read["exposures"], exposures=some, extra_items=extra) for some, extra in shown),
        *(_Step(read["profiles"], taught=profiles[some]) for some in known),
        *(_Step(read["titles"], titles=titles[some]) for some in named),
    ]
    owners = np.repeat(np.arange(len(SOURCES)), [n[source] for source in SOURCES])
    # Who comes when is shuffled; a source's own steps stay in the order that they had.
    shuffled = np.random.default_rng([*seed, _ORDER]).permutation(owners)
    place = np.argsort(np.argsort(shuffled, kind="stable"), kind="stable")
    ordered = [steps[i] for i in place]
    return Epoch(
        [step.exposures for step in ordered],
        [step.titles for step in ordered],
        [step.extra_items for step in ordered],
        [step.taught for step in ordered],
        [step.families for step in ordered],
    )


def slowed(joint: Epoch, families: frozenset[str], stopped: Collection[str]) -> Epoch:
    """The plan, but that ``stopped`` families are taught at one step in `EVERY`.

    Rows that no family of a step reads are left out of it.
    """
    going = families - frozenset(stopped)
    if going == families:
        return joint
    taught = [going if step % EVERY else families for step in range(len(joint))]

    def kept(rows: Iterable[_Some], readers: frozenset[str], nothing: _Some) -> list[_Some]:
        pairs = zip(rows, taught, strict=True)
        return [some if readers & families else nothing for some, families in pairs]

    return Epoch(
        kept(joint.exposures, SOURCES["exposures"], NO_ROWS),
        kept(joint.titles, SOURCES["titles"], NO_ROWS),
        kept(joint.extra_items, frozenset(["match"]), NO_ROWS),
        kept(joint.taught, SOURCES["profiles"], NOBODY),
        taught,
    )


@dataclass(frozen=True)
class Standing:
    """Whether a family has ``stopped``, and its ``best`` loss since it stopped or went on.

    ``since``: epochs without an improvement.
    """

    stopped: bool = False
    best: float = math.inf
    since: int = 0

    def after(self, loss: float) -> "Standing":
        """How it stands after an epoch of this validation loss; as before where that is NaN.

        Lu et al., "12-in-1: Multi-Task Vision and Language Representation Learning", CVPR 2020,
        dynamic stop-and-go: a task that improved by less than 0.1 % over two epochs stops, and is
        taught at one step in four; once it is 0.5 % worse than its best it goes on. Unlike the
        paper, the best is that since it stopped: a family that stops because it had learnt its
        rows by heart is worse than its best ever, and would go on at once.

        >>> standing = Standing()
        >>> for loss in (0.8, 0.7, 0.71, 0.7):
        ...     standing = standing.after(loss)
        >>> standing
        Standing(stopped=True, best=0.7, since=0)
        >>> standing.after(0.703).stopped, standing.after(0.704).stopped
        (True, False)
        """
        if not math.isfinite(loss):
            return self
        if self.stopped:
            if loss > self.best + WORSE * abs(self.best):
                return Standing(best=loss)
            return replace(self, best=min(self.best, loss))
        if self.best == math.inf or loss < self.best - BETTER * abs(self.best):
            return Standing(best=loss)
        if self.since + 1 >= EPOCHS:
            return Standing(stopped=True, best=loss)
        return replace(self, since=self.since + 1)


def judged(
    standings: Mapping[str, Standing], tasks: Iterable[Task], losses: Mapping[str, TaskLoss]
) -> dict[str, Standing]:
    """How each family of ``tasks`` stands after an epoch, by its tasks' validation ``losses``.

    A family's loss is the mean over its tasks of loss over the best constant's.
    """
    by_family: dict[str, dict[str, TaskLoss]] = {}
    for task in tasks:
        by_family.setdefault(task.family, {})[task.name] = losses[task.name]
    return {
        family: standings.get(family, Standing()).after(joint_score(own))
        for family, own in by_family.items()
    }


def stopped_of(standings: Mapping[str, Standing]) -> frozenset[str]:
    """The families that stand still; none where all do, which is for `Settings.patience` to end."""
    still = frozenset(family for family, standing in standings.items() if standing.stopped)
    return still if len(still) < len(standings) else frozenset()


def _pieces(rows: Sized, n_pieces: int) -> list[Rows]:
    """Places of the rows in so many pieces of nearly the same size; none in no piece."""
    return np.array_split(np.arange(len(rows)), n_pieces) if n_pieces else []
