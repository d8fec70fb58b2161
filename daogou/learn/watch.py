"""A trial's fit, epoch by epoch, to whether it goes on."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daogou.artifact import read_records
from daogou.learn.lock import Lock
from daogou.learn.loop import Progress
from daogou.learn.settings import settings_of
from daogou.learn.space import Space, shop_with
from daogou.learn.trials import Trial, Trials, falls_behind, is_rung, params_of
from daogou.schema import Shop


@dataclass(frozen=True)
class Search:
    """What all trials of a search have in common."""

    shop: Shop
    folder: Path
    space: Space
    sampler: str
    objective: str  # "joint" or a task's name
    halving: int  # 0 = no trial is stopped early
    trials: Trials
    progress: Progress
    deadline: float  # of time.monotonic

    def shop_of(self, trial: Trial) -> Shop:
        """The shop that a trial fits."""
        settings = params_of(self.space, trial)
        return shop_with(self.shop, {**settings, "fit.watch": self.objective})

    def run_of(self, trial: Trial) -> Path:
        """Where a trial is fitted."""
        return self.folder / "trials" / f"{trial.number:04d}"

    def lock_of(self, trial: Trial) -> Lock:
        """Held by the process that fits a trial."""
        return Lock(self.run_of(trial).with_suffix(".lock"))


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    state: str  # finished, stopped or failed
    values: Sequence[float]
    notes: Mapping[str, Any]


class Halted(Exception):
    """The fit ends here; ``for_good`` unless it is only out of time."""

    def __init__(self, *, for_good: bool) -> None:
        super().__init__()
        self.for_good = for_good


class Watch:
    """Progress of a trial's fit that leaves it after an epoch, if there is reason to."""

    def __init__(self, search: Search, trial: Trial) -> None:
        self.search, self.trial = search, trial
        self.epochs = settings_of(search.shop_of(trial))[0].epochs
        self.seen: set[int] = set()

    def __call__(self, what: str, done: int, total: int, words: str) -> None:
        self.search.progress(what, done, total, words)
        if what == "epoch":
            self.look()
            if done < total and self._is_late():
                raise Halted(for_good=False)

    def look(self) -> None:
        """Report the epochs not yet seen, and halt at one that falls behind."""
        for epoch, value in _least_by_epoch(self.search.run_of(self.trial)).items():
            if epoch in self.seen:
                continue
            self.seen.add(epoch)
            if epoch not in self.trial.by_epoch:
                self.search.trials.report(self.trial.number, epoch, value)
            if epoch < self.epochs and is_rung(epoch, self.search.halving):
                others = [
                    each.by_epoch[epoch]
                    for each in self.search.trials.all()
                    if each.number != self.trial.number and epoch in each.by_epoch
                ]
                if falls_behind(value, others, self.search.halving):
                    raise Halted(for_good=True)

    def _is_late(self) -> bool:
        late = time.monotonic() > self.search.deadline
        return late and best_of(self.search.trials.all()) is not None


def _least_by_epoch(run: Path) -> dict[int, float]:
    """The least score until each epoch; infinite ones are left out."""
    found: dict[int, float] = {}
    for record in read_records(run / "events.jsonl"):
        score = math.inf if record["score"] is None else record["score"]
        least = min([score, *found.values()])
        if math.isfinite(least):
            found[record["epoch"]] = least
    return found


def best_record(run: Path) -> dict[str, Any]:
    """The record of the epoch that the run kept: the first of the least score."""
    return min(
        read_records(run / "events.jsonl"),
        key=lambda one: math.inf if one["score"] is None else one["score"],
    )


def best_of(told: Sequence[Trial]) -> Trial | None:
    """The finished trial of the least score, the first of equal ones."""
    finished = [trial for trial in told if trial.state == "finished"]
    return min(finished, key=lambda trial: trial.notes["score"], default=None)
