"""A shop to a trained run: prepare, transform, one loop of one step, the best joint epoch kept.

With ``fit.refit`` all of it is done a second time, when the validation split has chosen how long:
its rows then teach too.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from daogou import artifact
from daogou.artifact.counts import model_of
from daogou.errors import ArtifactError, ConfigError, DataError
from daogou.features.batch import Epoch
from daogou.features.store import SPLITS, Ranges, Store, open_store
from daogou.features.store.compile import compile_store
from daogou.features.store.writer import Writer, link_store
from daogou.features.transform import Transform, fit_transform
from daogou.learn import rates, tally
from daogou.learn.adapter import settle
from daogou.learn.culprit import NotFiniteError, keep
from daogou.learn.finish import Finished, finish, finish_like
from daogou.learn.gates import watching
from daogou.learn.journal import append_record, keep_records
from daogou.learn.lock import alone, holds_work, unlocked
from daogou.learn.loop import Learner, Midway, Observer, Progress, quiet
from daogou.learn.machine import device_of, fast_memory
from daogou.learn.onto import Onto
from daogou.learn.optimise import weights_of
from daogou.learn.peers import ALONE, Peers
from daogou.learn.pretrain import pretrain
from daogou.learn.returning import fit_returning
from daogou.learn.sampling import Standing, judged, stopped_of
from daogou.learn.settings import Settings, refits, settings_of
from daogou.learn.stop import unbroken
from daogou.learn.track import Followed, Tracker, tracker_of
from daogou.learn.validate import TaskLoss, joint_score, validation_losses
from daogou.model.joint import JointModel
from daogou.schema import Shop, Task
from daogou.tables import Counts, Seam, engine_for, prepare
from daogou.tables.check import STOPPING, check
from daogou.tables.checks.finding import Finding
from daogou.tables.engine import Engine


@dataclass
class State:
    """Where training stands. Everything that resuming needs, and nothing else."""

    epoch: int = 0  # epochs done
    best_epoch: int = -1
    best_score: float = float("inf")
    score: float = float("inf")  # of the last epoch
    seconds: float = 0.0
    standings: dict[str, Standing] = field(default_factory=dict)  # of families, for stop_and_go
    each: dict[str, float] = field(default_factory=dict)  # the least relative loss of each task
    midway: Midway | None = None  # of the epoch that comes, if it has begun

    @property
    def since_best(self) -> int:
        """Epochs since the best one."""
        return self.epoch - 1 - self.best_epoch


@dataclass(frozen=True)
class _Course:
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


class Tables(NamedTuple):
    """A shop's tables compiled, and the document of what was read and left out."""

    transform: Transform
    store: Store
    prepared: Mapping[str, Any]


class Others(Protocol):
    """Who prepares and compiles a log in this process's place."""

    def prepare(self, engine: Engine, shop: Shop, validation_teaches: bool) -> Counts:
        """As `daogou.tables.prepare`, and what `count_log` counts of it all."""

    def write(self, engine: Engine, shop: Shop, transform: Transform, writer: Writer) -> Ranges:
        """The ``log`` of `compile_store`."""

    def over(self) -> None:
        """The tables are there whole."""


class _Taught(NamedTuple):
    """What came of a training: its best epoch's weights, how it went, and on which tables."""

    model: JointModel
    state: State
    tables: Tables


def fit(  # noqa: PLR0913 - ways to begin, and who looks on
    shop: Shop,
    run: Path | str,
    *,
    resume: bool = False,
    progress: Progress = quiet,
    observe: Observer | None = None,
    like: Path | None = None,
    keep_each: bool = False,
    onto: Onto | None = None,
    peers: Peers = ALONE,
) -> dict[str, Any]:
    """Train a shop's tasks jointly into the folder ``run`` and return what became of it.

    The same seed, processor and number of threads give the same weights, also when the process
    is killed and started again with ``resume``: an epoch's order and each step's randomness
    follow from (seed, epoch, step) alone. A checkpoint is written after every epoch and, within
    one, every ``fit.checkpoint_minutes``.

    ``observe`` sees each step before it is taken and changes nothing; there is no checkpoint
    within an epoch then, so that it sees whole ones. ``like`` is a finished run
    on the same tables with the same settings for reading them: its transform and store are used;
    so is a folder that `compile_tables` made. What ``progress`` raises after an epoch leaves the
    fit there, to be resumed.
    ``onto`` is a finished run of the same tables, tasks and shape, whose weights are the start: one
    stage is taught anew and all else stays as it is, or everything learns on. ``keep_each``
    also keeps, under `each_path`, the weights of each task's own best epoch.

    With ``fit.refit`` a second training follows from the same seed, on tables that are read anew
    with the validation split among what teaches, for as many epochs as the first one chose. Its
    weights are the run's; curves and weights that validation taught are the first one's, to which
    those rows were new, and so are the losses on validation that the answer tells. It begins anew,
    so with ``onto`` or ``keep_each`` it is a ConfigError.

    Several ``peers`` call it alike, with one folder that all of them see. Each does its part of
    every step, the leader alone judges and writes, and all get its answer.
    """
    run = Path(run)
    settings, _ = settings_of(shop)
    twice, progress = refits(shop, settings), progress if peers.leads else quiet
    if twice and (onto is not None or keep_each):
        raise ConfigError(
            "fit.refit: the second training begins anew, neither onto a run nor keeping each "
            "task's epoch; set fit.refit = false"
        )
    with ExitStack() as held:
        tables = peers.in_turn(
            lambda: held.enter_context(
                begun(shop, run, resume=resume, progress=progress, like=like, peers=peers)
            )
        )
        tracker = _tracker(shop, settings, run) if peers.leads else None
        first = _Course(
            _first_folder(shop, run), run / "events.jsonl", settings.epochs, tracker, keep_each
        )
        learner = partial(Learner, settings=settings, observe=observe, onto=onto, peers=peers)
        beside = open_store(onto.beside) if onto is not None and onto.beside is not None else None
        chosen = _taught(tables, learner, shop, first, progress, beside=beside)
        again = None
        if twice:
            second = _Course(run, run / "refit.jsonl", chosen.state.best_epoch + 1)
            anew = partial(_compiled, shop, settings, run, progress, validation_teaches=True)
            learner = partial(Learner, settings=settings, peers=peers)
            again = _taught(peers.in_turn(anew), learner, shop, second, progress)
        told = onto.told if onto is not None else {}
        answer = peers.told(_concluded(run, shop, chosen, again, told) if peers.leads else {})
        if tracker is not None:
            tracker.end(answer)
        return answer


@contextmanager
def begun(
    shop: Shop,
    run: Path,
    *,
    resume: bool = False,
    progress: Progress = quiet,
    like: Path | None = None,
    peers: Peers = ALONE,
    others: "Callable[[Path], Others | None]" = lambda _: None,
) -> Iterator[Tables]:
    """The tables that a `fit` teaches from, and its folder, which is ours while the block runs.

    All that is wrong with settings and tables is found here. What is there already is left so. Of
    several ``peers`` the leader has the folder, for all. ``others`` gives who compiles the log of
    the tables in a folder, if not this process.
    """
    settings, _ = settings_of(shop)
    if not shop.tasks:
        reasons = "; ".join(f"{family}: {why}" for family, why in shop.absent.items())
        raise ConfigError(f"no task to learn ({reasons})")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with ExitStack() as held:
        if peers.leads:  # one that was killed may not be gone yet, where others are to follow it
            held.enter_context(claimed(run, shop, resume, wait=peers is not ALONE))
        folder = _first_folder(shop, run)
        folder.mkdir(exist_ok=True)
        if like is not None:
            _take_over(like, folder)
        tables = _compiled(shop, settings, folder, progress, others=others(folder))
        _teachable(shop, tables.store)
        yield tables


def _first_folder(shop: Shop, run: Path) -> Path:
    """Where the training that validation judges has its tables and checkpoint."""
    return run / "chosen" if refits(shop, settings_of(shop)[0]) else run


def _concluded(
    run: Path, shop: Shop, chosen: _Taught, again: _Taught | None, told: Mapping[str, Any]
) -> dict[str, Any]:
    """Calibrate what was taught and write the run; ``told`` is for its manifest."""
    settings, _ = settings_of(shop)
    length, (model, state, tables) = settings.history_length, chosen
    done = finish(model, tables.store, settings.calibration, history_length=length)
    returning = fit_returning(tables.store, tables.transform, history_length=length)
    if again is not None:
        model, _, tables = again
        finish_like(model, chosen.model, done, tables.store, history_length=length)
    trained = {
        "epochs": state.epoch,
        "best_epoch": state.best_epoch + 1,
        "seconds": round(state.seconds, 1),
        "refit": again and {"epochs": again.state.epoch, "seconds": round(again.state.seconds, 1)},
    }
    record = {"returning": None if returning is None else asdict(returning), **told}
    return save_run(run, shop, model, tables, done, trained, record)


def save_run(
    run: Path,
    shop: Shop,
    model: JointModel,
    tables: Tables,
    done: Finished,
    trained: Mapping[str, Any],
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a finished model's run; what became of it, as `fit` returns it.

    ``trained`` says how long it learnt, ``record`` what else the manifest is to hold.
    """
    settings, shape = settings_of(shop)
    answer = {
        "run": str(run),
        "tasks": [task.name for task in shop.tasks],
        "absent": dict(shop.absent),
        **trained,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "validation": {name: task_document(loss) for name, loss in done.losses.items()},
        "straight": done.straight,
        "calibration": done.calibrated,
        "tally": done.weighed,
    }
    artifact.save(
        run,
        shop=shop,
        transform=tables.transform,
        model=model,
        shape=shape,
        record={
            "history_length": settings.history_length,
            "settings": asdict(settings),
            "fit": answer,
            "prepared": tables.prepared,
            **record,
        },
    )
    for done_with in (run / "checkpoint", run / "chosen"):
        shutil.rmtree(done_with, ignore_errors=True)
    return answer


def compile_tables(
    shop: Shop,
    folder: Path,
    *,
    progress: Progress = quiet,
    cut: Callable[[Engine], None] | None = None,
    blend: Callable[[Engine, Transform], Transform] | None = None,
    seam: Seam | None = None,
) -> Tables:
    """Transform and store of a shop's tables, for the ``like`` of many runs; and their counts.

    One that is there whole is left as it is, one that a kill cut short is made anew. ``cut`` takes
    rows out of the prepared tables, ``blend`` makes the transform that is kept of the fitted one.
    With a ``seam`` the tables are of what came since.
    """
    settings, _ = settings_of(shop)
    folder.mkdir(exist_ok=True)
    return _compiled(shop, settings, folder, progress, cut=cut, blend=blend, seam=seam)


def compile_by(
    others: Others, shop: Shop, folder: Path, *, validation_teaches: bool, progress: Progress
) -> Tables:
    """`compile_tables` of a log that others compile."""
    settings, _ = settings_of(shop)
    return _compiled(
        shop, settings, folder, progress, validation_teaches=validation_teaches, others=others
    )


def fit_tables(
    shop: Shop, folder: Path, *, cut: Callable[[Engine], None] | None = None
) -> tuple[Transform, int]:
    """The transform that a shop's training split fits, and the rows of that split.

    ``cut`` takes rows out of the prepared tables first.
    """
    settings, _ = settings_of(shop)
    folder.mkdir(exist_ok=True)
    with _prepared(shop, settings, folder) as (engine, _):
        if cut is not None:
            cut(engine)
        transform = _fitted(engine, shop, settings)
        counted = "SELECT count(*) FROM {} WHERE split = 'train'"
        exposures, titles = (
            int(engine.rows(counted.format(table))[0][0]) for table in ("exposures", "title_split")
        )
    return transform, exposures or titles


def started_as(shop: Shop) -> str:
    """What ``started.json`` of a run of this shop says."""
    return json.dumps({"shop": shop.document, "root": str(shop.root.resolve())}, sort_keys=True)


def finished(run: Path, shop: Shop) -> bool:
    """Whether a run is there and whole; ArtifactError if it is one of something else."""
    if not (run / "manifest.json").exists():
        return False
    started = run / "started.json"
    if not started.exists() or started.read_text("utf-8") != started_as(shop):
        raise ArtifactError(
            f"{run}: was fitted with other settings or another shop; resume with the same, or "
            "give another folder"
        )
    return True


@contextmanager
def opened_folder(folder: Path, *, resume: bool) -> Iterator[None]:
    """A folder for several runs, which is ours while the block runs.

    ArtifactError if it holds anything and is not resumed, or if another process works there.
    """
    if folder.exists() and (not folder.is_dir() or holds_work(folder)) and not resume:
        raise ArtifactError(f"{folder}: not empty; add --resume to go on, or give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        yield
        unlocked(folder)


@contextmanager
def claimed(run: Path, shop: Shop, resume: bool, *, wait: bool = False) -> Iterator[None]:
    """Make the run folder ours alone while the block runs, or say why it cannot be.

    ArtifactError also where another process trains there, unless there is time to ``wait`` for it.
    """
    _check_claim(run, shop, resume)  # before anything is put into somebody's folder
    run.mkdir(parents=True, exist_ok=True)
    with alone(run, wait=wait):
        claim(run, shop, resume)
        yield
        if (run / "manifest.json").exists():
            unlocked(run)


def claim(run: Path, shop: Shop, resume: bool) -> None:
    """Make the run folder ours, or say why it cannot be."""
    _check_claim(run, shop, resume)
    run.mkdir(parents=True, exist_ok=True)
    if not (run / "started.json").exists():
        artifact.write_whole(run / "started.json", started_as(shop))


def _check_claim(run: Path, shop: Shop, resume: bool) -> None:
    started = run / "started.json"
    wanted = started_as(shop)
    if (run / "manifest.json").exists():
        raise ArtifactError(f"{run}: holds a finished run; give another folder")
    if started.exists():
        if not resume:
            raise ArtifactError(f"{run}: holds an unfinished run; add --resume, or delete it")
        if started.read_text("utf-8") != wanted:
            raise ArtifactError(
                f"{run}: was started with other settings or another shop; resume with the same"
            )
    elif run.exists() and not run.is_dir():
        raise ArtifactError(f"{run}: is a file; give a new folder")
    elif run.exists() and holds_work(run, "started.json.partial"):  # of a try that was killed
        raise ArtifactError(f"{run}: not empty and not a run; give a new folder")


def _take_over(like: Path, run: Path) -> None:
    """Transform and store of a finished run in place of our own, unless ours are there."""
    if (run / "transform.json").exists():
        return
    shutil.rmtree(run / "store", ignore_errors=True)  # of a try that was killed
    link_store(like / "store", run / "store")
    for name in ("prepared.json", "transform.json"):  # the last one makes it count
        artifact.write_whole(run / name, (like / name).read_text("utf-8"))


def _compiled(  # noqa: PLR0913 - ways to make the same tables
    shop: Shop,
    settings: Settings,
    run: Path,
    progress: Progress,
    *,
    validation_teaches: bool = False,
    cut: Callable[[Engine], None] | None = None,
    blend: Callable[[Engine, Transform], Transform] | None = None,
    seam: Seam | None = None,
    others: Others | None = None,
) -> Tables:
    """Transform and store of the shop's tables; those of an earlier try where it got so far."""
    done = run / "transform.json"
    if done.exists() and (run / "store" / "store.json").exists():
        document = json.loads(done.read_text("utf-8"))
        prepared = json.loads((run / "prepared.json").read_text("utf-8"))
        return Tables(Transform.from_json(document), open_store(run / "store"), prepared)
    progress("prepare", 0, 3, "reading tables")
    with _prepared(shop, settings, run, validation_teaches, seam, others) as (engine, counts):
        if cut is not None:
            cut(engine)
        progress("prepare", 1, 3, "fitting the transform")
        transform = _fitted(engine, shop, settings, counted=others is not None)
        if blend is not None:
            transform = blend(engine, transform)
        progress("prepare", 2, 3, "compiling the store")
        log = None if others is None else others.write
        store = compile_store(engine, shop, transform, run / "store", log=log)
        progress("prepare", 3, 3, "ready")
    prepared = counts.document()
    artifact.write_whole(run / "prepared.json", json.dumps(prepared, default=str))
    artifact.write_whole(done, json.dumps(transform.to_json(), ensure_ascii=False))
    if others is not None:
        others.over()
    return Tables(transform, store, prepared)


@contextmanager
def _prepared(
    shop: Shop,
    settings: Settings,
    run: Path,
    validation_teaches: bool = False,
    seam: Seam | None = None,
    others: Others | None = None,
) -> Iterator[tuple[Engine, Counts]]:
    """The shop's relations, checked, while the block runs; what does not fit memory is in run."""
    spill = run / "spill"
    shutil.rmtree(spill, ignore_errors=True)  # of a try that was killed
    spill.mkdir()
    with engine_for(shop, memory_limit=settings.memory_limit, spill=spill) as engine:
        if others is None:
            counts = prepare(engine, shop, validation_teaches=validation_teaches, seam=seam)
            found = check(engine, shop, counts)
        else:
            counts = others.prepare(engine, shop, validation_teaches)
            found = check(engine, shop, counts, STOPPING)
        _sound(found, settings.waive)
        yield engine, counts
    spill.rmdir()


def _fitted(engine: Engine, shop: Shop, settings: Settings, *, counted: bool = False) -> Transform:
    return fit_transform(
        engine,
        shop,
        min_count=settings.min_count,
        buckets=settings.buckets,
        text_length=settings.text_length,
        word_count=settings.word_count,
        counted=counted,
    )


def _sound(findings: Iterable[Finding], waived: Collection[str]) -> None:
    """A check that fails stops the fit, unless it is waived by name."""
    failed = [found for found in findings if found.level == "FAIL" and found.name not in waived]
    if failed:
        lines = [f"check {found.name}: {found.text}" for found in failed]
        names = ", ".join(dict.fromkeys(f'"{found.name}"' for found in failed))
        raise DataError("\n".join([*lines, f"to fit all the same: --set 'fit.waive=[{names}]'"]))


def _teachable(shop: Shop, store: Store) -> None:
    """Refuse a shop that has nothing to train some task on."""
    first, last = store.ranges["train"]
    titles = store["titles/split"] == SPLITS.index("train")
    reads_exposures = [task.name for task in shop.tasks if task.family != "extract"]
    if first == last and (reads_exposures or not titles.any()):
        wanted = "training exposure" if reads_exposures else "annotated training title"
        raise DataError(
            f"{shop.name}: no {wanted} is left after the split for "
            f"{', '.join(reads_exposures) or 'extract'}; look at `daogou check`, "
            "or move the split"
        )


def _taught(
    tables: Tables,
    learner_of: Callable[[JointModel], Learner],
    shop: Shop,
    course: _Course,
    progress: Progress,
    *,
    beside: Store | None = None,
) -> _Taught:
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
    return _Taught(model, state, tables)


def _train(
    learner: Learner, store: Store, shop: Shop, course: _Course, progress: Progress
) -> State:
    """Epochs of steps until none is left or none helps; the best epoch's weights on disk."""
    settings, peers = learner.settings, learner.peers
    folder = course.folder / "checkpoint"
    folder.mkdir(exist_ok=True)
    last = folder / "last.safetensors"
    state = restore_state(last, learner)
    if peers.leads:
        keep_records(course.journal, lambda told: bool(told["epoch"] <= state.epoch))
    if learner.may_stay and not state.epoch and state.midway is None:
        if peers.leads:
            state.best_score = _validated(learner, store, shop)[1]
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
        if peers.leads:
            _judge(learner, store, shop, course, state, plan, taught, started)
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
    store: Store,
    shop: Shop,
    course: _Course,
    state: State,
    plan: Epoch,
    taught: Tensor,
    started: float,
) -> None:
    """What an epoch came to, into the state, the journal and the checkpoints.

    ``taught [T]`` are its training losses, ``started`` is when it began.
    """
    model, settings = learner.model, learner.settings
    folder = course.folder / "checkpoint"
    with watching(model) as gates:
        losses, score = _validated(learner, store, shop)
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
            "steps": {family: plan.n_steps(family) for family in model.heads},
            "train": dict(zip([task.name for task in shop.tasks], taught.tolist(), strict=True)),
            "validation": {name: task_document(loss) for name, loss in losses.items()},
            "gates": {name: use.document() for name, use in gates.items()},
        }
        # Before the checkpoint, so that no epoch is lost: one that is taught again is told again.
        course.tell(record)
        keep_state(folder / "last.safetensors", learner, state)


def _validated(learner: Learner, store: Store, shop: Shop) -> tuple[dict[str, TaskLoss], float]:
    """Validation losses of the tasks, and the score that picks the epoch."""
    settings = learner.settings
    losses = validation_losses(
        learner.model, store, "validation", history_length=settings.history_length
    )
    return losses, _watched(losses, settings.watch, shop.tasks)


def _tracker(shop: Shop, settings: Settings, run: Path) -> Tracker:
    """Who else hears of the epochs; asked twice for one run, it is the same to the outside."""
    followed = Followed(run, shop.name, settings.track_to, asdict(settings))
    return tracker_of(settings.track, followed)


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


def state_of(learner: Learner) -> dict[str, Tensor]:
    """All tensors that training on needs."""
    tensors = {f"model.{name}": weight for name, weight in learner.model.state_dict().items()}
    for kind, optimiser in (("rows", learner.rows), ("adam", learner.adam)):
        for i, weight in enumerate(weights_of(optimiser)):
            found = optimiser.state.get(weight, {})
            tensors |= {f"{kind}.{i}.{name}": value for name, value in found.items()}
    return tensors | {f"balancer.{name}": value for name, value in learner.balancer.state().items()}


def keep_state(path: Path, learner: Learner, state: State) -> None:
    """Write all that training on needs; the rename makes it count."""
    tensors = state_of(learner)
    if state.midway is not None:
        found = vars(state.midway) | {"step": torch.tensor(state.midway.step)}
        tensors |= {f"midway.{name}": each for name, each in found.items() if each is not None}
    document = asdict(replace(state, midway=None))
    save_tensors(tensors, path, {"state": json.dumps(document)})


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


def restore_state(path: Path, learner: Learner) -> State:
    """What `keep_state` wrote, with weights and optimisers as they were; as new without a file."""
    if not path.exists():
        return State()
    tensors = load_file(path)
    learner.model.load_state_dict(_under("model.", tensors))
    learner.balancer.restore(_under("balancer.", tensors))
    for kind, optimiser in (("rows", learner.rows), ("adam", learner.adam)):
        for i, weight in enumerate(weights_of(optimiser)):
            found = _under(f"{kind}.{i}.", tensors)
            if found:
                optimiser.state[weight] = {
                    name: value.to(weight.device) for name, value in found.items()
                }
    state = State(**json.loads(metadata_of(path)["state"]))
    state.standings = {
        family: Standing(**standing)  # type: ignore[arg-type]  # as JSON has it
        for family, standing in state.standings.items()
    }
    midway = _under("midway.", tensors)
    if midway:
        state.midway = Midway(int(midway["step"]), midway["total"], midway.get("gram"))
    return state


def metadata_of(path: Path) -> dict[str, str]:
    """The texts that a checkpoint carries beside its tensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        found: dict[str, str] = json.loads(file.read(length))["__metadata__"]
    return found


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name starts so, by the rest of their name."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a checkpoint beside its place and rename it; ArtifactError where the disk is full."""
    partial = path.with_name(path.name + ".partial")
    whole = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(whole, partial, metadata=metadata)
    except (OSError, SafetensorError) as error:  # the latter is how a full disk shows
        partial.unlink(missing_ok=True)
        raise ArtifactError(
            f"{path}: writing the checkpoint failed ({error}); the last whole "
            "one is kept: free some disk and go on with --resume"
        ) from None
    os.replace(partial, path)


def task_document(loss: TaskLoss) -> dict[str, Any]:
    """What records say of a task's validation loss."""
    return {"loss": loss.loss, "constant": loss.constant, "n": loss.n}
