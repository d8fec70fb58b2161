"""A space and the trials so far to the next trial, and trials to a file: the door to Optuna."""

import importlib
import json
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from daogou.errors import ArtifactError, MissingExtra
from daogou.learn.dimension import Dimension
from daogou.learn.space import Space

SAMPLERS: Final = ("grid", "random", "tpe", "gp", "nsga2")
POPULATION: Final = 12  # of nsga2: small, so that some generations fit into tens of trials
_STATES: Final = {  # Optuna's words and ours
    "COMPLETE": "finished",
    "PRUNED": "stopped",
    "FAIL": "failed",
    "RUNNING": "unfinished",
}


@dataclass(frozen=True)
class Trial:
    """One set of settings that was tried. Values are losses: lower is better."""

    number: int
    state: str  # finished, stopped (early), failed or unfinished
    params: Mapping[str, Any]
    values: tuple[float, ...]  # one per objective; empty while there are none
    by_epoch: Mapping[int, float]  # the least objective until then
    notes: Mapping[str, Any]


class Trials:
    """The trials of one search in an SQLite file that Optuna's dashboard opens.

    A trial is written whole, with its settings, by the statement that begins it. Who calls must
    hold a lock over `propose` and `begin`, so that trials have their numbers in order.
    """

    def __init__(self, path: Path, name: str, n_objectives: int) -> None:
        self._optuna = _optuna()
        optuna, storages = self._optuna, self._optuna.storages
        self._storage = storages.RDBStorage(
            f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 600.0}}
        )
        minimize = optuna.study.StudyDirection.MINIMIZE
        try:
            self._study = self._storage.get_study_id_from_name(name)
        except KeyError:
            self._study = self._storage.create_new_study([minimize] * n_objectives, name)
        if len(self._storage.get_study_directions(self._study)) != n_objectives:
            raise ArtifactError(f"{path}: holds a search with other objectives")

    def close(self) -> None:
        """Let go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def all(self) -> list[Trial]:
        """Every trial, in order."""
        return [_ours(trial) for trial in self._frozen()]

    def propose(self, space: Space, sampler: str, seed: int) -> Any:
        """The next trial, for `begin`; None where a grid has no more points.

        It follows from the trials so far, the sampler and (seed, its number) alone: the sampler is
        made anew for each trial and shown a copy in memory. So a search that was killed goes on as
        if it had not been.
        """
        history = self._frozen()
        if sampler == "grid":
            points = space.grid()
            random.Random(seed).shuffle(points)  # a budget below its size covers it evenly
            if len(history) >= len(points):
                return None
            params = _labels(space, points[len(history)])
            notes: dict[str, Any] = {}
        else:
            n_objectives = len(self._storage.get_study_directions(self._study))
            params, notes = _sampled(space, sampler, (seed, len(history)), history, n_objectives)
        by_key = {each.key: _distribution(each) for each in space.dimensions}
        return self._optuna.trial.create_trial(
            state=self._optuna.trial.TrialState.RUNNING,
            params=params,
            distributions={key: by_key[key] for key in params},
            system_attrs=notes,
        )

    def begin(self, proposed: Any) -> int:
        """Write a proposed trial down; its number."""
        identity = self._storage.create_new_trial(self._study, template_trial=proposed)
        return int(self._storage.get_trial_number_from_id(identity))

    def report(self, number: int, epoch: int, value: float) -> None:
        """The least objective of a trial until an epoch."""
        self._storage.set_trial_intermediate_value(self._id(number), epoch, value)

    def end(
        self, number: int, state: str, values: Sequence[float], notes: Mapping[str, Any]
    ) -> None:
        """End a trial: ``state`` is finished, stopped or failed."""
        for name, value in notes.items():
            self._storage.set_trial_user_attr(self._id(number), name, value)
        states = {ours: theirs for theirs, ours in _STATES.items()}
        self._storage.set_trial_state_values(
            self._id(number),
            self._optuna.trial.TrialState[states[state]],
            list(values) if values else None,
        )

    def _id(self, number: int) -> int:
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._study, number))

    def _frozen(self) -> list[Any]:
        return list(self._storage.get_all_trials(self._study, deepcopy=False))


def params_of(space: Space, trial: Trial) -> dict[str, Any]:
    """A trial's settings as shop.toml has them: choices that Optuna cannot hold are JSON there."""
    by_label = {
        each.key: {_label(choice): choice for choice in each.span.choices}
        for each in space.dimensions
    }
    return {
        each.key: by_label[each.key].get(trial.params[each.key], trial.params[each.key])
        for each in space.dimensions
        if each.key in trial.params
    }


def falls_behind(value: float, others: Sequence[float], factor: int) -> bool:
    """Whether a trial is not among the best one in ``factor`` of those that came as far.

    It is one of them itself; of fewer than ``factor`` only the best goes on. The rule of
    asynchronous successive halving: Li et al., "A System for Massively Parallel Hyperparameter
    Tuning", MLSys 2020. Optuna has it as a pruner, which writes down that a trial passed before
    its answer is acted on; a kill in between would let a stopped trial go on.

    >>> falls_behind(0.9, [0.5, 0.6, 0.7], 3), falls_behind(0.4, [0.5, 0.6, 0.7], 3)
    (True, False)
    """
    ranked = sorted([*others, value])
    return value > ranked[max(len(ranked) // factor, 1) - 1]


def is_rung(epoch: int, factor: int) -> bool:
    """Whether trials are compared after this epoch: 1, factor, factor squared...

    >>> [epoch for epoch in range(1, 30) if is_rung(epoch, 3)]
    [1, 3, 9, 27]
    """
    while factor and epoch and epoch % factor == 0:
        epoch //= factor
    return bool(factor) and epoch == 1


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """The places of points ``[n, T]`` that no other is better than in all that differ; lower wins.

    >>> front([[1.0, 3.0], [2.0, 2.0], [2.0, 3.0], [1.0, 3.0]])
    [0, 1, 3]
    """
    values = np.asarray(points, dtype=np.float64)
    return [
        place
        for place, own in enumerate(values)
        if not ((values <= own).all(1) & (values < own).any(1)).any()
    ]


# ---- Optuna -------------------------------------------------------------------------------


def _optuna() -> Any:
    """The library, told to be quiet."""
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise MissingExtra(
            f"daogou tune needs Optuna, which is not installed ({error}); "
            "pip install 'daogou[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """What is experimental in Optuna is pinned and tested here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _sampled(
    space: Space,
    name: str,
    seeds: tuple[int, int],
    history: Sequence[Any],
    n_objectives: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Labels of the settings of the next trial, and what the sampler notes with it."""
    optuna = _optuna()
    seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
    with _quiet(optuna):
        study = optuna.create_study(
            directions=["minimize"] * n_objectives, sampler=_sampler(optuna, name, seed)
        )
        study.add_trials(history)
        asked = study.ask()
        params: dict[str, Any] = {}
        chosen: dict[str, Any] = {}
        for dimension in space.dimensions:
            if dimension.is_asked(chosen):
                label = _suggested(asked, dimension)
                params[dimension.key] = label
                by_label = {_label(choice): choice for choice in dimension.span.choices}
                chosen[dimension.key] = by_label.get(label, label)
        (made,) = study.get_trials(deepcopy=False)[len(history) :]
    return params, dict(made.system_attrs)


def _sampler(optuna: Any, name: str, seed: int) -> Any:
    samplers = optuna.samplers
    if name == "random":
        return samplers.RandomSampler(seed=seed)
    if name == "tpe":
        return samplers.TPESampler(seed=seed)
    if name == "gp":
        return samplers.GPSampler(seed=seed, warn_independent_sampling=False)
    return samplers.NSGAIISampler(seed=seed, population_size=POPULATION)


def _suggested(asked: Any, dimension: Dimension) -> Any:
    if dimension.kind is None:
        return asked.suggest_categorical(dimension.key, [*map(_label, dimension.span.choices)])
    low, high = dimension.ends
    span = dimension.span
    if dimension.kind is int:
        step = 1 if span.step is None else int(span.step)
        return asked.suggest_int(dimension.key, low, high, step=step, log=span.log)
    return asked.suggest_float(dimension.key, low, high, step=span.step, log=span.log)


def _distribution(dimension: Dimension) -> Any:
    distributions = _optuna().distributions
    span = dimension.span
    if dimension.kind is None:
        return distributions.CategoricalDistribution([*map(_label, span.choices)])
    low, high = dimension.ends
    if dimension.kind is int:
        step = 1 if span.step is None else int(span.step)
        return distributions.IntDistribution(low, high, step=step, log=span.log)
    return distributions.FloatDistribution(low, high, step=span.step, log=span.log)


def _label(choice: Any) -> Any:
    """A choice as Optuna can hold it."""
    return choice if isinstance(choice, str | int | float) else json.dumps(choice)


def _labels(space: Space, point: Mapping[str, Any]) -> dict[str, Any]:
    return {
        each.key: _label(point[each.key]) if each.kind is None else point[each.key]
        for each in space.dimensions
        if each.key in point
    }


def _ours(trial: Any) -> Trial:
    return Trial(
        number=trial.number,
        state=_STATES[trial.state.name],
        params=dict(trial.params),
        values=tuple(trial.values or ()),
        by_epoch=dict(trial.intermediate_values),
        notes=dict(trial.user_attrs),
    )
