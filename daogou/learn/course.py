"""One training from its first epoch to its best: steps, judgement, checkpoints."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file

from daogou.artifact.counts import model_of
from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.learn import rates, tally
from daogou.learn.adapter import settle
from daogou.learn.checkpoint import State, keep_state, restore_state, save_tensors
from daogou.learn.compile import Tables
from daogou.learn.culprit import NotFiniteError, keep
from daogou.learn.gates import watching
from daogou.learn.journal import append_record, keep_records
from daogou.learn.loop import Learner, Midway, Progress
from daogou.learn.machine import device_of, fast_memory
from daogou.learn.pretrain import pretrain
from daogou.learn.sampling import judged, stopped_of
from daogou.learn.settings import settings_of
from daogou.learn.stop import unbroken
from daogou.learn.track import Tracker
from daogou.learn.validate import TaskLoss, joint_score, validation_losses
from daogou.model.joint import JointModel
from daogou.schema import Shop, Task


@dataclass(frozen=True)
class Course:
    """One training of a fit: where its tables and checkpoint lie, its journal, how long it may be.

    The first is judged by the validation split, and a tracker hears of its epochs. In a second the
    validation rows teach, and nothing judges.
    """

    folder: Path
    journal: Path
    epochs: int
    tracker: Tracker | None = None
    keep_each: bool = False  # also the weights of each task's best epoch

    def tell(self, record: Mapping[str, Any]) -> None:
        """Add an epoch to the journal, and let the tracker hear of it."""
        append_record(self.journal, record)
        if self.tracker is not None:
            self.tracker.epoch(record)

    def show(self, state: State, progress: Progress) -> None:
        """Say to whoever waits that an epoch is done."""
        if self.tracker is not None:
            progress("epoch", state.epoch, self.epochs, f"joint score {state.score:.4f}")
        else:
            progress("refit", state.epoch, self.epochs, "with the validation rows")


class Taught(NamedTuple):
    """What came of a training: its best epoch's weights, how it went, and on which tables."""

    model: JointModel
    state: State
    tables: Tables


def teach(
    tables: Tables,
    learner_of: Callable[[JointModel], Learner],
    shop: Shop,
    course: Course,
    progress: Progress,
    *,
    beside: Store | None = None,
) -> Taught:
    """A model of the tables, on the processor, in the leader with the weights of its best epoch.

    ``beside`` is a store whose exposures are taught too.
    """
    transform, store, _ = tables
    settings, shape = settings_of(shop)
    torch.manual_seed(shop.seed)
    model = model_of(transform, store, shop, shape)
    tally.count(model, transform, store)
    rates.count(model, store, beside)
    model.to(device_of(settings.device))
    learner = learner_of(model)
    with fast_memory():
        if learner.peers.leads:
            _read_titles(model, transform, store, shop, course.folder, progress)
        learner.peers.match(model)
        try:
            state = _train(learner, store, shop, course, progress)
        except NotFiniteError as error:
            folder = "-".join(["culprit", *map(str, learner.peers.place)])
            raise keep(error, course.journal.parent / folder, model, transform, store) from None
    model.to("cpu")
    if learner.peers.leads:  # who takes the file away when all is written, perhaps before others
        model.load_state_dict(load_file(course.folder / "checkpoint" / "best.safetensors"))
    settle(model)
    return Taught(model, state, tables)


def _train(learner: Learner, store: Store, shop: Shop, course: Course, progress: Progress) -> State:
    """Epochs of steps until none is left or none helps; the best epoch's weights on disk."""
    settings, peers = learner.settings, learner.peers
    folder = course.folder / "checkpoint"
    folder.mkdir(exist_ok=True)
    last = folder / "last.safetensors"
    state = restore_state(last, learner)
    if peers.leads:
        keep_records(course.journal, lambda told: bool(told["epoch"] <= state.epoch))
    if learner.may_stay and not state.epoch and state.midway is None:
        losses = _validated(learner, store)
        if peers.leads:
            state.best_score = _watched(losses, settings.watch, shop.tasks)
            save_tensors(learner.model.state_dict(), folder / "best.safetensors")
        state = peers.told(state)
    while state.epoch < course.epochs and state.since_best < max(settings.patience, 1):
        started = time.perf_counter()
        plan = learner.plan(store, shop.seed, state.epoch, stopped=stopped_of(state.standings))
        learner.set_rates(state.epoch)
        taught = learner.epoch(
            store, plan, (shop.seed, state.epoch), progress,
            begun=state.midway, keep=_keeper(learner, state, last, started),
        )  # fmt: skip
        state.midway = None
        with watching(learner.model) as gates:
            losses = _validated(learner, store)
        if peers.leads:
            by_task = dict(zip([task.name for task in shop.tasks], taught.tolist(), strict=True))
            told = {
                "steps": {family: plan.n_steps(family) for family in learner.model.heads},
                "train": by_task,
                "gates": {name: use.document() for name, use in gates.items()},
            }
            _judge(learner, shop, course, state, losses, told, started)
        state = peers.told(state)
        if peers.leads:
            course.show(state, progress)
    return state


def _keeper(
    learner: Learner, state: State, path: Path, started: float
) -> Callable[[Midway], None] | None:
    """What writes where an epoch stands whenever ``fit.checkpoint_minutes`` are over.

    Weights are the same in all peers, so that the leader's are enough. None where nothing is to be
    written.
    """
    every = 60 * learner.settings.checkpoint_minutes
    if not every or not learner.peers.leads or learner.observe is not None:
        return None
    kept = started

    def keep(midway: Midway) -> None:
        nonlocal kept
        now = time.perf_counter()
        if now - kept >= every:
            seconds = state.seconds + now - started
            with unbroken():
                keep_state(path, learner, replace(state, midway=midway, seconds=seconds))
            kept = now

    return keep


def _judge(
    learner: Learner,
    shop: Shop,
    course: Course,
    state: State,
    losses: Mapping[str, TaskLoss],
    told: Mapping[str, Any],
    started: float,
) -> None:
    """What an epoch came to, into the state, the journal and the checkpoints.

    ``losses`` are the validation split's, ``told`` is more for the journal, ``started`` when the
    epoch began.
    """
    model, settings = learner.model, learner.settings
    folder = course.folder / "checkpoint"
    score = _watched(losses, settings.watch, shop.tasks)
    state.score = score
    state.epoch += 1
    if settings.sampling == "stop_and_go":
        state.standings = judged(state.standings, shop.tasks, losses)
    with unbroken():  # what an epoch came to is kept as one
        # With nothing to judge by, the last epoch counts as the best.
        if score < state.best_score or state.best_score == float("inf"):
            state.best_score, state.best_epoch = score, state.epoch - 1
            save_tensors(model.state_dict(), folder / "best.safetensors")
        if course.keep_each:
            _keep_each(course.folder, model, losses, state)
        state.seconds += time.perf_counter() - started
        record = {
            "epoch": state.epoch,
            "score": score,
            "seconds": state.seconds,
            "validation": {name: loss.document() for name, loss in losses.items()},
            **told,
        }
        # Before the checkpoint, so that no epoch is lost: one that is taught again is told again.
        course.tell(record)
        keep_state(folder / "last.safetensors", learner, state)


def _validated(learner: Learner, store: Store) -> dict[str, TaskLoss]:
    """Validation losses of the tasks, in the leader; all peers are to ask, who share the work."""
    return validation_losses(
        learner.model, store, "validation", peers=learner.peers,
        history_length=learner.settings.history_length,
    )  # fmt: skip


def _watched(losses: Mapping[str, TaskLoss], watch: str, tasks: Iterable[Task]) -> float:
    """What picks the epoch. Of tasks that reach nothing shared, none has a say in the joint one."""
    heard = {task.name: losses[task.name] for task in tasks if task.weight > 0}
    score = joint_score(heard or losses) if watch == "joint" else losses[watch].relative
    return score if np.isfinite(score) else float("inf")


def each_path(run: Path, place: int) -> Path:
    """Where the weights of the best epoch of the task at ``place`` are, before calibration."""
    return run / "each" / f"{place}.safetensors"


def _keep_each(run: Path, model: JointModel, losses: Mapping[str, TaskLoss], state: State) -> None:
    """Keep the weights for each task that validation has never found better."""
    for place, (name, loss) in enumerate(losses.items()):
        if loss.relative < state.each.get(name, float("inf")):
            state.each[name] = loss.relative
            path = each_path(run, place)
            path.parent.mkdir(exist_ok=True)
            save_tensors(model.state_dict(), path)


def _read_titles(
    model: JointModel,
    transform: Transform,
    store: Store,
    shop: Shop,
    folder: Path,
    progress: Progress,
) -> None:
    """Pre-train the text encoder if that is asked for and no epoch has been taught yet."""
    settings, _ = settings_of(shop)
    if not settings.pretrain_epochs or model.text is None or transform.text is None:
        return
    if not (folder / "checkpoint" / "last.safetensors").exists():
        n_words = len(transform.text.words)
        pretrain(model.text, store, settings, n_words=n_words, seed=shop.seed, progress=progress)
