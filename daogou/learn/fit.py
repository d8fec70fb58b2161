"""A shop to a trained run: prepare, transform, one loop of one step, the best joint epoch kept.

With ``fit.refit`` all of it is done a second time, when the validation split has chosen how long:
its rows then teach too.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from daogou import artifact
from daogou.errors import ConfigError, DataError
from daogou.features.store import SPLITS, Store, open_store
from daogou.learn.claim import claimed, ended, tidy
from daogou.learn.compile import Others, Tables, compiled, take_over
from daogou.learn.course import Course, Taught, teach
from daogou.learn.finish import Finished, finish, finish_like
from daogou.learn.loop import Learner, Observer, Progress, quiet
from daogou.learn.onto import Onto
from daogou.learn.peers import ALONE, Peers
from daogou.learn.returning import fit_returning
from daogou.learn.settings import Settings, refits, settings_of
from daogou.learn.track import Followed, Tracker, tracker_of
from daogou.model.joint import JointModel
from daogou.schema import Shop


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
    one, every ``fit.checkpoint_minutes``. A run that is whole already is told of once more.

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
    every step and asks the model of a part of the validation rows, the leader alone decides and
    writes, and all get its answer.
    """
    run = Path(run)
    settings, _ = settings_of(shop)
    if resume and peers is ALONE and (told_before := ended(run, shop)) is not None:
        _tracker(shop, settings, run).end(told_before)  # which a kill may have kept from hearing it
        return told_before
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
        first = Course(
            _first_folder(shop, run), run / "events.jsonl", settings.epochs, tracker, keep_each
        )
        learner = partial(Learner, settings=settings, observe=observe, onto=onto, peers=peers)
        beside = open_store(onto.beside) if onto is not None and onto.beside is not None else None
        chosen = teach(tables, learner, shop, first, progress, beside=beside)
        again = None
        if twice:
            second = Course(run, run / "refit.jsonl", chosen.state.best_epoch + 1)
            anew = partial(compiled, shop, settings, run, progress, validation_teaches=True)
            learner = partial(Learner, settings=settings, peers=peers)
            both = peers.in_turn(anew)
            _check_same(run, tables, both)
            again = teach(both, learner, shop, second, progress)
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
            take_over(like, folder)
        tables = compiled(shop, settings, folder, progress, others=others(folder))
        _teachable(shop, tables.store)
        yield tables


def _first_folder(shop: Shop, run: Path) -> Path:
    """Where the training that validation judges has its tables and checkpoint."""
    return run / "chosen" if refits(shop, settings_of(shop)[0]) else run


def _concluded(
    run: Path, shop: Shop, chosen: Taught, again: Taught | None, told: Mapping[str, Any]
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
        "validation": {name: loss.document() for name, loss in done.losses.items()},
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
    tidy(run)
    return answer


def _check_same(run: Path, chosen: Tables, both: Tables) -> None:
    """Refuse tables that were written while they were learnt from the first time."""
    before, now = (dict(tables.prepared["read"]["rows"]) for tables in (chosen, both))
    if before != now:
        raise DataError(
            f"{run}: the tables had {before} rows when they were learnt from and have {now} now "
            "that the validation rows are to teach too; begin anew, or set fit.refit = false"
        )


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


def _tracker(shop: Shop, settings: Settings, run: Path) -> Tracker:
    """Who else hears of the epochs; asked twice for one run, it is the same to the outside."""
    followed = Followed(run, shop.name, settings.track_to, asdict(settings))
    return tracker_of(settings.track, followed)
