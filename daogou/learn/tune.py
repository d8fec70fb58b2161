"""A shop and a space of settings to the best run found, by trials that a kill does not lose."""

import json
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from daogou import artifact
from daogou.artifact import read_records
from daogou.errors import ArtifactError, ConfigError, DataError, unknown
from daogou.learn.claim import ended, started_as
from daogou.learn.compile import compile_tables
from daogou.learn.fit import fit
from daogou.learn.lock import Lock
from daogou.learn.loop import Progress, quiet
from daogou.learn.settings import settings_of
from daogou.learn.space import Space, shop_with, tuning_of
from daogou.learn.trials import SAMPLERS, Trial, Trials, front, params_of
from daogou.learn.variant import judged_by_validation
from daogou.learn.watch import Halted, Outcome, Search, Watch, best_of, best_record
from daogou.schema import Shop

# They learn from finished trials alone, and of a front's trials none is behind in all tasks early.
_NEVER_STOP: Final = ("gp", "nsga2")


def tune(
    shop: Shop,
    folder: Path | str,
    *,
    sampler: str = "tpe",
    trials: int = 40,
    minutes: float | None = None,
    resume: bool = False,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Search the settings of ``[tune.space]`` and return what became of it, as a document.

    ``trials`` counts all of the search; each is a fit on one compiled store with the shop's seed.
    Its score is the least validation loss over its epochs, over the best constant's: of all tasks
    (``joint``) or of the one that ``[tune] objective`` names; the epoch is picked by the same. With
    ``nsga2`` each task's own loss at that epoch is an objective, and the score says which of the
    front is kept. No label of the test split is read. ``folder`` gets ``tune.db``, ``tune.json``
    and ``best``, the run of the best trial.

    A trial follows from those before it and (seed, its number), and an unfinished one is gone on
    with, so a killed search that is resumed equals one that was not; several processes that resume
    the same folder share its trials. After ``minutes`` no trial begins, and one that runs is left
    after its epoch if another has finished. A trial whose loss does not stay finite has failed and
    the search goes on.

    Raises ConfigError, ArtifactError for a folder that holds something else, MissingExtra without
    Optuna, and DataError if no trial finishes or there is nothing to judge them by.
    """
    shop, folder = judged_by_validation(shop), Path(folder)
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    tuning, space, objective = tuning_of(shop)
    begin(shop, folder, sampler=sampler, trials=trials, minutes=minutes, resume=resume)
    settings, _ = settings_of(shop)
    if settings.threads:  # what proposes trials computes as in a process that has fitted one
        torch.set_num_threads(settings.threads)
    mutex = Lock(folder / "lock")
    with mutex:
        held = Trials(folder / "tune.db", "search", len(shop.tasks) if sampler == "nsga2" else 1)
    halving = 0 if sampler in _NEVER_STOP else tuning.halving
    search = Search(shop, folder, space, sampler, objective, halving, held, progress, deadline)
    try:
        with mutex:
            compile_tables(shop_with(shop, {}), folder / "tables", progress=progress)
        while _one(search, mutex, trials):
            pass
        with mutex:
            document = _concluded(search)
    finally:
        held.close()
    return document


def begin(
    shop: Shop,
    folder: Path,
    *,
    sampler: str,
    trials: int,
    minutes: float | None = None,
    resume: bool = False,
) -> None:
    """Check what is asked and make the folder this search's."""
    shop = judged_by_validation(shop)
    _check_call(shop, tuning_of(shop)[1], sampler, trials, minutes)
    _claim(folder, shop, sampler, resume)


def _check_call(shop: Shop, space: Space, sampler: str, trials: int, minutes: float | None) -> None:
    if not shop.tasks:
        reasons = "; ".join(f"{family}: {why}" for family, why in shop.absent.items())
        raise ConfigError(f"no task to learn ({reasons})")
    if sampler not in SAMPLERS:
        raise ConfigError(f"--sampler: {unknown(sampler, SAMPLERS)}")
    if trials < 1:
        raise ConfigError(f"--trials: {trials}; give 1 or more")
    if minutes is not None and not minutes > 0:
        raise ConfigError(f"--minutes: {minutes}; give more than 0")
    if sampler == "nsga2" and len(shop.tasks) < 2:
        raise ConfigError(
            f"--sampler: nsga2 weighs tasks against each other, and {shop.name} has one; take tpe"
        )
    if sampler == "grid":
        space.grid()


def _claim(folder: Path, shop: Shop, sampler: str, resume: bool) -> None:
    """Make the folder this search's, or say why it cannot be."""
    started = folder / "search.json"
    wanted = json.dumps({**json.loads(started_as(shop)), "sampler": sampler}, sort_keys=True)
    if not started.exists():
        half = [started.with_name(started.name + ".partial")]  # of a try that was killed
        if folder.exists() and (not folder.is_dir() or [*folder.iterdir()] not in ([], half)):
            raise ArtifactError(f"{folder}: not empty and no search; give a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        artifact.write_whole(started, wanted)
    elif not resume:
        raise ArtifactError(
            f"{folder}: holds a search; add --resume to go on with it or to take part in it, or "
            "give another folder"
        )
    elif started.read_text("utf-8") != wanted:
        raise ArtifactError(
            f"{folder}: was started with other settings, another sampler or another shop; resume "
            "with the same"
        )
    (folder / "trials").mkdir(exist_ok=True)


def _one(search: Search, mutex: Lock, n_trials: int) -> bool:
    """Fit one trial; False if there is none left to begin, or no time."""
    with mutex:
        begun = _begun(search, n_trials)
    if begun is None:
        return False
    trial, held = begun
    try:
        outcome = _tried(search, trial)
        with mutex:
            if outcome is not None:
                search.trials.end(trial.number, outcome.state, outcome.values, outcome.notes)
            held.give_back()
            told = search.trials.all()
            _tidy(search, told)
    finally:
        held.give_back()
    best = best_of(told)
    words = "" if best is None else f"best {best.notes['score']:.4f} by trial {best.number}"
    done = sum(each.state != "unfinished" for each in told)
    search.progress("trial", done, n_trials, words)
    return outcome is not None


def _begun(search: Search, n_trials: int) -> tuple[Trial, Lock] | None:
    """A trial that nobody works on any more, or else the next one; with its lock."""
    if time.monotonic() > search.deadline:
        return None
    told = search.trials.all()
    for trial in told:
        held = search.lock_of(trial)
        if trial.state == "unfinished" and held.take(wait=False):
            return trial, held
    if len(told) >= n_trials:
        return None
    proposed = search.trials.propose(search.space, search.sampler, search.shop.seed)
    if proposed is None:
        return None
    number = search.trials.begin(proposed)
    trial = search.trials.all()[number]
    held = search.lock_of(trial)
    held.take()
    return trial, held


def _tried(search: Search, trial: Trial) -> Outcome | None:
    """Fit a trial, from where another process left it; None if time ran out."""
    run, shop = search.run_of(trial), search.shop_of(trial)
    watch = Watch(search, trial)
    try:
        _clear_half_begun(run, shop)
        watch.look()
        _fitted(shop, run, search.folder, watch)
    except Halted as halted:
        if not halted.for_good:
            return None
        best = best_record(run)
        return Outcome("stopped", [best["score"]], _notes(search, run, best))
    except (ConfigError, DataError) as error:
        return Outcome("failed", [], {"reason": str(error)})
    best = best_record(run)
    if best["score"] is None:
        _judged(search, best)
        return Outcome("failed", [], {"reason": "no epoch has a finite validation loss"})
    notes = _notes(search, run, best)
    values = [best["score"]]
    if search.sampler == "nsga2":
        # What the split cannot judge is the same for all, so that it changes no front.
        values = [1.0 if one is None else one for one in notes["relative"].values()]
    return Outcome("finished", values, notes)


def _fitted(shop: Shop, run: Path, folder: Path, progress: Progress) -> None:
    """A whole run, unless it is there."""
    if ended(run, shop) is None:
        fit(shop, run, resume=run.exists(), progress=progress, like=folder / "tables")


def _clear_half_begun(run: Path, shop: Shop) -> None:
    """Remove a run that was killed before it said what it is of."""
    started = run / "started.json"
    if run.exists() and (not started.exists() or started.read_text("utf-8") != started_as(shop)):
        shutil.rmtree(run)


def _notes(search: Search, run: Path, best: Mapping[str, Any]) -> dict[str, Any]:
    records = read_records(run / "events.jsonl")
    return {
        "score": best["score"],
        "relative": {
            task.name: _relative(best["validation"][task.name]) for task in search.shop.tasks
        },
        "best_epoch": best["epoch"],
        "epochs": len(records),
        "seconds": round(records[-1]["seconds"], 2),
    }


def _relative(loss: Mapping[str, Any]) -> float | None:
    """A task's loss over the constant's; None where the split cannot judge it."""
    if not loss["n"] or loss["loss"] is None or not loss["constant"] or loss["constant"] <= 0:
        return None
    return float(loss["loss"] / loss["constant"])


def _judged(search: Search, record: Mapping[str, Any]) -> None:
    """DataError if no trial could ever have a score."""
    names = [task.name for task in search.shop.tasks]
    asked = names if search.objective == "joint" else [search.objective]
    if not any(record["validation"][name]["n"] for name in asked):
        raise DataError(
            f"{search.shop.name}: the validation split has no label of {', '.join(asked)}, so "
            "nothing can choose between trials; move the split, or name another [tune] objective"
        )


def _tidy(search: Search, told: Sequence[Trial]) -> None:
    """Remove what is left of ended trials, all but the best's run."""
    best = best_of(told)
    for trial in told:
        if trial.state == "unfinished":
            continue
        search.lock_of(trial).path.unlink(missing_ok=True)
        if trial is not best:
            shutil.rmtree(search.run_of(trial), ignore_errors=True)


def _concluded(search: Search) -> dict[str, Any]:
    """The search's document, on disk too, with the best trial's run beside it."""
    told = search.trials.all()
    best = best_of(told)
    failed = [trial for trial in told if trial.state == "failed"]
    if best is None and failed and len(failed) == len(told):
        raise DataError(
            f"{search.folder}: none of {len(told)} trials finished; the last one: "
            f"{failed[-1].notes['reason']}"
        )
    if best is not None:
        _keep(search, best)
    _tidy(search, told)
    document = artifact.plain(_document(search, told, best))
    artifact.write_document(search.folder / "tune.json", document)
    return dict(document)


def _keep(search: Search, best: Trial) -> None:
    """Make ``best`` in the folder the run of this trial; fitted again if it is gone."""
    target, run, shop = search.folder / "best", search.run_of(best), search.shop_of(best)
    started = target / "started.json"
    if (target / "manifest.json").exists() and started.read_text("utf-8") == started_as(shop):
        return
    _clear_half_begun(run, shop)
    _fitted(shop, run, search.folder, search.progress)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(run, target)


def _document(search: Search, told: Sequence[Trial], best: Trial | None) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {
            "number": trial.number,
            "state": trial.state,
            "settings": params_of(search.space, trial),
            **{
                name: trial.notes.get(name)
                for name in ("score", "relative", "best_epoch", "epochs", "seconds", "reason")
            },
        }
        for trial in told
    ]
    finished = [row for row in rows if row["state"] == "finished"]
    judged = [
        task.name
        for task in search.shop.tasks
        if all(row["relative"][task.name] is not None for row in finished)
    ]
    points = [[row["relative"][name] for name in judged] for row in finished]
    states = ("finished", "stopped", "failed", "unfinished")
    return {
        "shop": search.shop.name,
        "seed": search.shop.seed,
        "sampler": search.sampler,
        "objective": search.objective,
        "space": {each.key: each.document() for each in search.space.dimensions},
        "counts": {state: sum(row["state"] == state for row in rows) for state in states},
        "best": None if best is None else {**rows[best.number], "run": str(search.folder / "best")},
        "pareto": [finished[place]["number"] for place in front(points)] if judged else [],
        "trials": rows,
    }
