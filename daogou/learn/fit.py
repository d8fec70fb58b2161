"""A shop to a trained run: prepare, transform, one loop of one step, the best joint epoch kept."""

import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from daogou import artifact
from daogou.balance import BALANCERS, Balancer
from daogou.config import arguments, make
from daogou.errors import ArtifactError, ConfigError, DataError, unknown
from daogou.features.batch import Batch, Epoch, make_batch, plan_epoch
from daogou.features.store import SPLITS, Store, compile_store, open_store
from daogou.features.transform import Transform, fit_transform
from daogou.learn.optimise import RowAdagrad, dense_of, omega, row_groups, weights_of
from daogou.learn.step import backward
from daogou.learn.validate import TaskLoss, joint_score, validation_losses
from daogou.model.build import SIZES, Shape
from daogou.model.joint import JointModel
from daogou.model.mixers import MIXERS
from daogou.schema import Shop
from daogou.tables import Counts, prepare
from daogou.tables.check import CHECKS, Finding, check
from daogou.tables.engine import Engine

Progress = Callable[[str, int, int, str], None]  # what, done, of how many, a few words


@dataclass(frozen=True)
class Settings:
    """What ``[fit]`` may say."""

    epochs: int = 10
    patience: int = 3  # epochs without a better joint score before training stops
    rows_per_step: int = 2048
    learning_rate: float = 0.002  # AdamW, dense layers
    row_learning_rate: float = 0.2  # row-wise Adagrad, tables
    weight_decay: float = 0.01  # AdamW
    row_l2: float = 0.0  # pull on touched rows, divided by how often each was touched
    l1: float = 0.0  # lambda * Omega on dense weights: l1 * sum |w| + l2 / 2 * sum w^2
    l2: float = 0.0
    clip: float = 5.0  # largest norm of the dense gradient
    history_length: int = 50
    extra_items: int = 256  # drawn evenly from the catalogue into each batch, for matching
    titles_per_step: int = 32  # in a shop of titles alone
    title_passes: float = 8.0  # how often an epoch of exposures sees each annotated title
    profile_passes: float = 4.0  # how often an epoch of exposures sees each user's known profile
    balancer: str = "fixed"
    gram_every: int = 10  # steps between Grams, for balancers that ask for one
    watch: str = "joint"  # "joint", or a task's name: whose validation loss picks the epoch
    min_count: int = 1  # an id or category seen less often in training is unknown
    buckets: int = 32  # quantiles of a number
    text_length: int = 0  # tokens of a title; 0 = what 99 % of the training titles need
    word_count: int = 2  # a word in fewer distinct training titles is read by its letters alone
    threads: int = 1  # of torch; small layers gain nothing from more; 0 leaves it alone
    memory_limit: str = "2GB"  # of DuckDB
    waive: tuple[str, ...] = ()  # names of failed checks that may pass


@dataclass
class State:
    """Where training stands. Everything that resuming needs, and nothing else."""

    epoch: int = 0  # epochs done
    best_epoch: int = -1
    best_score: float = float("inf")
    seconds: float = 0.0

    @property
    def since_best(self) -> int:
        """Epochs since the best one."""
        return self.epoch - 1 - self.best_epoch


def quiet(what: str, done: int, total: int, words: str) -> None:
    """Progress that nobody watches."""


def settings_of(shop: Shop) -> tuple[Settings, Shape]:
    """``[fit]`` and ``[model]``, checked; every problem at once."""
    problems: list[str] = []
    settings, shape = Settings(), Shape()
    try:
        settings = make("fit", Settings, shop.fit)
    except ConfigError as error:
        problems.append(str(error))
    try:
        shape = make("model", Shape, shop.model)
    except ConfigError as error:
        problems.append(str(error))
    if shape.mixer not in MIXERS:
        problems.append(f"model.mixer: {unknown(shape.mixer, MIXERS)}")
    elif shape.mixer_options:
        given = ("n_inputs", "n_tasks", "width", "depth", "dropout")
        try:
            arguments("model.mixer_options", MIXERS[shape.mixer], shape.mixer_options, given=given)
        except ConfigError as error:
            problems.append(str(error))
    if settings.balancer not in BALANCERS:
        problems.append(f"fit.balancer: {unknown(settings.balancer, BALANCERS)}")
    names = ["joint", *(task.name for task in shop.tasks)]
    if settings.watch not in names:
        problems.append(f"fit.watch: {unknown(settings.watch, names)}")
    problems += [
        f"fit.waive: {unknown(name, CHECKS)}" for name in settings.waive if name not in CHECKS
    ]
    problems += _out_of_range("fit", settings) + _out_of_range("model", shape)
    if problems:
        raise ConfigError("\n".join(problems))
    return settings, shape


_FROM_ONE: Final = frozenset(
    [
        "epochs",
        "rows_per_step",
        "titles_per_step",
        "history_length",
        "gram_every",
        "min_count",
        "text_width",
        "depth",
        "tower",
    ]
)
_SHARES: Final = frozenset(("dropout", "id_dropout", "event_dropout"))


def _out_of_range(where: str, given: Settings | Shape) -> list[str]:
    """What is wrong with the numbers of a section: no number of either may be negative."""
    problems: list[str] = []
    for name, value in vars(given).items():
        if not isinstance(value, int | float):
            continue
        if name in _SHARES and not 0 <= value < 1:
            problems.append(f"{where}.{name}: {value}; give a share from 0 up to 1")
        elif name in _FROM_ONE and value < 1:
            problems.append(f"{where}.{name}: {value}; give 1 or more")
        elif not 0 <= value < float("inf"):
            problems.append(f"{where}.{name}: {value}; give 0 or more")
    if isinstance(given, Shape) and given.size not in SIZES:
        problems.append(f"{where}.size: {unknown(given.size, SIZES)}")
    return problems


def fit(
    shop: Shop, run: Path | str, *, resume: bool = False, progress: Progress = quiet
) -> dict[str, Any]:
    """Train a shop's tasks jointly into the folder ``run`` and return what became of it.

    The same seed, machine and number of threads give the same weights, also when the process
    is killed and started again with ``resume``: an epoch's order and each step's randomness
    follow from (seed, epoch, step) alone, and a checkpoint is written after every epoch.
    """
    run = Path(run)
    settings, shape = settings_of(shop)
    if not shop.tasks:
        reasons = "; ".join(f"{family}: {why}" for family, why in shop.absent.items())
        raise ConfigError(f"no task to learn ({reasons})")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    _claim(run, shop, resume)
    transform, store, prepared = _compiled(shop, settings, run, progress)
    _teachable(shop, store)
    torch.manual_seed(shop.seed)
    model = artifact.model_of(transform, store, shop, shape)
    # Numbers too small to be normal slow a processor down many times; flushing is a state of the
    # whole thread, so it ends with the training.
    torch.set_flush_denormal(True)
    try:
        state = _train(model, store, shop, settings, run, progress)
    finally:
        torch.set_flush_denormal(False)
    model.load_state_dict(load_file(run / "checkpoint" / "best.safetensors"))
    losses = validation_losses(model, store, "validation", history_length=settings.history_length)
    answer = {
        "run": str(run),
        "tasks": [task.name for task in shop.tasks],
        "absent": dict(shop.absent),
        "epochs": state.epoch,
        "best_epoch": state.best_epoch + 1,
        "seconds": round(state.seconds, 1),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "validation": {name: _task_document(loss) for name, loss in losses.items()},
    }
    artifact.save(
        run,
        shop=shop,
        transform=transform,
        model=model,
        shape=shape,
        record={
            "history_length": settings.history_length,
            "settings": asdict(settings),
            "fit": answer,
            "prepared": prepared,
        },
    )
    shutil.rmtree(run / "checkpoint", ignore_errors=True)
    return answer


def _claim(run: Path, shop: Shop, resume: bool) -> None:
    """Make the run folder ours, or say why it cannot be."""
    started = run / "started.json"
    wanted = json.dumps({"shop": shop.document, "root": str(shop.root.resolve())}, sort_keys=True)
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
    elif run.exists() and any(run.iterdir()):
        raise ArtifactError(f"{run}: not empty and not a run; give a new folder")
    else:
        run.mkdir(parents=True, exist_ok=True)
        started.write_text(wanted, encoding="utf-8")


def _compiled(
    shop: Shop, settings: Settings, run: Path, progress: Progress
) -> tuple[Transform, Store, Mapping[str, Any]]:
    """Transform and store of the shop's tables; those of an earlier try where it got so far."""
    done = run / "transform.json"
    if done.exists() and (run / "store" / "store.json").exists():
        document = json.loads(done.read_text("utf-8"))
        prepared = json.loads((run / "prepared.json").read_text("utf-8"))
        return Transform.from_json(document), open_store(run / "store"), prepared
    with Engine(memory_limit=settings.memory_limit) as engine:
        progress("prepare", 0, 3, "reading tables")
        counts: Counts = prepare(engine, shop)
        _sound(check(engine, shop, counts), settings.waive)
        progress("prepare", 1, 3, "fitting the transform")
        transform = fit_transform(
            engine,
            shop,
            min_count=settings.min_count,
            buckets=settings.buckets,
            text_length=settings.text_length,
            word_count=settings.word_count,
        )
        progress("prepare", 2, 3, "compiling the store")
        store = compile_store(engine, shop, transform, run / "store")
        progress("prepare", 3, 3, "ready")
    prepared = counts.document()
    artifact.write_whole(run / "prepared.json", json.dumps(prepared, default=str))
    artifact.write_whole(done, json.dumps(transform.to_json(), ensure_ascii=False))
    return transform, store, prepared


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


def _train(
    model: JointModel, store: Store, shop: Shop, settings: Settings, run: Path, progress: Progress
) -> State:
    """Epochs of steps until none is left or none helps; the best epoch's weights on disk."""
    dense = dense_of(model)
    rows = RowAdagrad(
        row_groups(model, l2=settings.row_l2), learning_rate=settings.row_learning_rate
    )
    adam = torch.optim.AdamW(
        dense, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    balancer = BALANCERS[settings.balancer]()
    folder = run / "checkpoint"
    folder.mkdir(exist_ok=True)
    state = _resume(folder, model, rows, adam)
    static = torch.tensor([task.weight for task in shop.tasks])
    while state.epoch < settings.epochs and state.since_best < max(settings.patience, 1):
        started = time.perf_counter()
        plan = _plan(store, settings, shop.seed, state.epoch)
        _set_rates(adam, rows, settings, state.epoch)
        taught = _epoch(
            _Teacher(model, dense, rows, adam, static, balancer, settings),
            store, plan, (shop.seed, state.epoch), progress,
        )  # fmt: skip
        losses = validation_losses(
            model, store, "validation", history_length=settings.history_length
        )
        score = _watched(losses, settings.watch)
        state.epoch += 1
        # With nothing to judge by, the last epoch counts as the best.
        if score < state.best_score or state.best_score == float("inf"):
            state.best_score, state.best_epoch = score, state.epoch - 1
            _save(model.state_dict(), folder / "best.safetensors")
        state.seconds += time.perf_counter() - started
        _keep(folder, model, rows, adam, state)
        record = {
            "epoch": state.epoch,
            "score": score,
            "seconds": state.seconds,
            "train": dict(zip([task.name for task in shop.tasks], taught.tolist(), strict=True)),
            "validation": {name: _task_document(loss) for name, loss in losses.items()},
        }
        with (run / "events.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(artifact.plain(record)) + "\n")
        progress("epoch", state.epoch, settings.epochs, f"joint score {score:.4f}")
    return state


@dataclass(frozen=True)
class _Teacher:
    """Everything one step needs beside its batch."""

    model: JointModel
    dense: list[Tensor]
    rows: RowAdagrad
    adam: torch.optim.AdamW
    static: Tensor
    balancer: Balancer
    settings: Settings


def _epoch(
    teacher: _Teacher, store: Store, plan: Epoch, seed: tuple[int, int], progress: Progress
) -> Tensor:
    """One pass; returns the mean loss of each task over the steps, ``[T]``."""
    settings = teacher.settings

    def batch_of(step: int) -> Batch:
        return make_batch(
            store,
            plan.exposures[step],
            history_length=settings.history_length,
            extra_items=plan.extra_items[step],
            titles=plan.titles[step],
            taught=plan.taught[step],
        )

    total = torch.zeros(len(teacher.static))
    gram: Tensor | None = None
    with ThreadPoolExecutor(1) as prefetch:
        coming = prefetch.submit(batch_of, 0) if len(plan) else None
        for step in range(len(plan)):
            assert coming is not None
            batch = coming.result()
            if step + 1 < len(plan):
                coming = prefetch.submit(batch_of, step + 1)
            # A step's randomness follows from its place alone, so that resuming is exact.
            torch.manual_seed(int(np.random.SeedSequence([*seed, step]).generate_state(1)[0]))
            teacher.model.train()
            losses, gram = _teach(teacher, batch, gram, take_gram=step % settings.gram_every == 0)
            total += losses
            if step % 10 == 0 or step + 1 == len(plan):
                words = f"epoch {seed[1] + 1}, loss {float(losses.sum()):.4f}"
                progress("steps", step + 1, len(plan), words)
    return total / max(len(plan), 1)


def _teach(
    teacher: _Teacher, batch: Batch, gram: Tensor | None, *, take_gram: bool
) -> tuple[Tensor, Tensor | None]:
    teacher.adam.zero_grad(set_to_none=True)
    teacher.rows.zero_grad(set_to_none=True)
    stepped = backward(
        teacher.model, batch, teacher.static, teacher.balancer, gram, take_gram=take_gram
    )
    penalty = omega(teacher.dense, l1=teacher.settings.l1, l2=teacher.settings.l2)
    if isinstance(penalty, Tensor):
        penalty.backward()
    if not stepped.losses.isfinite().all():
        raise DataError(
            f"the loss became {stepped.losses.tolist()}; lower fit.learning_rate and "
            "fit.row_learning_rate, or look for extreme values with `daogou check`"
        )
    torch.nn.utils.clip_grad_norm_(teacher.dense, teacher.settings.clip)
    teacher.adam.step()
    teacher.rows.step()
    return stepped.losses, stepped.gram


def _plan(store: Store, settings: Settings, seed: int, epoch: int) -> Epoch:
    return plan_epoch(
        store,
        seed=seed,
        epoch=epoch,
        rows_per_step=settings.rows_per_step,
        titles_per_step=settings.titles_per_step,
        title_passes=settings.title_passes,
        profile_passes=settings.profile_passes,
        extra_items=settings.extra_items,
    )


def _set_rates(
    adam: torch.optim.Optimizer, rows: torch.optim.Optimizer, settings: Settings, epoch: int
) -> None:
    """Learning rates of an epoch: from full to a fiftieth along a half cosine over all epochs."""
    share = 0.51 + 0.49 * np.cos(np.pi * epoch / max(settings.epochs, 1))
    pairs = ((adam, settings.learning_rate), (rows, settings.row_learning_rate))
    for optimiser, rate in pairs:
        for group in optimiser.param_groups:
            group["lr"] = rate * float(share)


def _watched(losses: Mapping[str, TaskLoss], watch: str) -> float:
    score = joint_score(losses) if watch == "joint" else losses[watch].relative
    return score if np.isfinite(score) else float("inf")


def _keep(
    folder: Path, model: JointModel, rows: RowAdagrad, adam: torch.optim.AdamW, state: State
) -> None:
    """Write the checkpoint of an epoch; the rename makes it count."""
    tensors = {f"model.{name}": weight for name, weight in model.state_dict().items()}
    for kind, optimiser in (("rows", rows), ("adam", adam)):
        for i, weight in enumerate(weights_of(optimiser)):
            found = optimiser.state.get(weight, {})
            tensors |= {f"{kind}.{i}.{name}": value for name, value in found.items()}
    _save(tensors, folder / "last.safetensors", {"state": json.dumps(asdict(state))})


def _resume(folder: Path, model: JointModel, rows: RowAdagrad, adam: torch.optim.AdamW) -> State:
    """The state of the last whole epoch, with weights and optimisers as they were then."""
    path = folder / "last.safetensors"
    if not path.exists():
        return State()
    tensors = load_file(path)
    weights = {
        name.removeprefix("model."): value
        for name, value in tensors.items()
        if name.startswith("model.")
    }
    model.load_state_dict(weights)
    for kind, optimiser in (("rows", rows), ("adam", adam)):
        for i, weight in enumerate(weights_of(optimiser)):
            prefix = f"{kind}.{i}."
            found = {
                name.removeprefix(prefix): value
                for name, value in tensors.items()
                if name.startswith(prefix)
            }
            if found:
                optimiser.state[weight] = found
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return State(**json.loads(header["__metadata__"]["state"]))


def _save(
    tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
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


def _task_document(loss: TaskLoss) -> dict[str, Any]:
    return {"loss": loss.loss, "constant": loss.constant, "n": loss.n}
