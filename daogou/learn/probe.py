"""A step of training to what each task's part of it would do to every task, held out."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from daogou.artifact import read_records
from daogou.errors import ArtifactError
from daogou.features.batch import Batch, make_batch
from daogou.features.columns import Columns
from daogou.features.queries import full_queries
from daogou.features.store import SPLITS, Store
from daogou.learn.journal import append_record
from daogou.learn.loop import Learner, Place
from daogou.learn.optimise import distinct_rows, tables_of
from daogou.learn.validate import NORMAL_NATS
from daogou.model.joint import JointModel

MIXER_INPUT: Final = "mixer_input"  # the activation that the funnel's tasks share
ROWS: Final = ".rows"  # ends the name of a module's tables
_USERS, _TITLES = 512, 256  # of the validation split, at most, in a held-out batch
_RUN: Final = 10  # neighbouring exposures that stay together: they share users and moments
# Of a step. Momentum spreads a batch's gradient over about ten steps, beside those of nine other
# batches; in one whole step of its own the noise of a single batch would outweigh what it teaches.
_SHARE: Final = 0.1


@dataclass(frozen=True)
class Move:
    """What a weight is changed by: all of it, or the ``rows`` of a table."""

    weight: Tensor
    change: Tensor
    rows: Tensor | None = None


@dataclass(frozen=True)
class Probed:
    """What one probe measured; NaN where a task had no label in the batch or is not shared there.

    ``affinity [T, T]``: row i, column j is by what share of itself task j's held-out loss falls in
    a step along task i's gradient alone. ``grams`` hold for each shared module the inner products
    ``[T, T]`` of the tasks' gradients.
    """

    epoch: int
    step: int
    affinity: Tensor
    grams: Mapping[str, Tensor]


class Probe:
    """An observer of `fit` that measures some steps and writes a line of JSON for each.

    ``per_epoch`` steps of each epoch are probed, evenly spread, so that a run which stops early or
    goes on later has probed the same ones. Weights, gradients and optimisers are as before.
    """

    def __init__(self, path: Path, seed: int, *, per_epoch: int) -> None:
        self.path, self.seed, self.per_epoch = path, seed, per_epoch

    def __call__(self, learner: Learner, store: Store, batch: Batch, place: Place) -> None:
        if place.step not in probed_steps(place.n_steps, self.per_epoch):
            return
        seed = np.random.SeedSequence([self.seed, place.epoch, place.step, 1])
        with torch.random.fork_rng():
            torch.manual_seed(int(seed.generate_state(1)[0]))
            held = held_out(store, learner, np.random.default_rng(seed)).to(learner.device)
            affinity, grams = probe(learner, batch, held)
        record = {
            "epoch": place.epoch,
            "step": place.step,
            "tasks": [task.name for task in learner.model.tasks],
            "affinity": affinity.tolist(),
            "grams": {name: gram.tolist() for name, gram in grams.items()},
        }
        append_record(self.path, record)


def probed_steps(n_steps: int, per_epoch: int) -> set[int]:
    """The steps of an epoch that are probed: the middles of ``per_epoch`` equal parts.

    >>> sorted(probed_steps(10, 2)), sorted(probed_steps(1, 3))
    ([2, 7], [0])
    """
    return {int((part + 0.5) * n_steps / per_epoch) for part in range(per_epoch)}


def read_probes(path: Path, tasks: Sequence[str]) -> list[Probed]:
    """The probes of a file in order; of a step that was probed twice, the later one.

    ArtifactError if the file is not there, or its tasks are not ``tasks``.
    """
    if not path.exists():
        raise ArtifactError(
            f"{path}: missing, and the joint run is finished; delete the folder and start again"
        )
    found: dict[tuple[int, int], Probed] = {}
    for record in read_records(path):
        if record["tasks"] != list(tasks):
            raise ArtifactError(
                f"{path}: was measured for {', '.join(record['tasks'])}, the shop has "
                f"{', '.join(tasks)}; give another folder"
            )
        grams = {name: _tensor(gram) for name, gram in record["grams"].items()}
        at = record["epoch"], record["step"]
        found[at] = Probed(*at, _tensor(record["affinity"]), grams)
    return [found[at] for at in sorted(found)]


def _tensor(rows: Sequence[Sequence[float | None]]) -> Tensor:
    return torch.tensor([[math.nan if x is None else x for x in row] for row in rows])


# ---- one probe ----------------------------------------------------------------------------


def probe(learner: Learner, batch: Batch, held: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Affinity ``[T, T]`` and each module's Gram ``[T, T]`` at a training and a held-out batch.

    Fifty et al., "Efficiently Identifying Task Groupings for Multi-Task Learning" (TAG, NeurIPS
    2021): ``Z[i, j] = 1 - L_j(after a step of the shared weights along task i) / L_j(before)``,
    task j's own layers as they are. Unlike the paper

    * the losses are of held-out rows without dropout, not of the batch that gave the gradients:
      whether tasks hurt each other is a question about what carries over;
    * the step is a tenth of the one that the optimisers would take with task i's gradient alone:
      AdamW's second moments and the tables' accumulators as training left them, at the epoch's
      rates, without momentum or decay. A plain step at one rate would move little but the tables;
    * a task's gradient counts with its static weight, as in training (the balancer's is left
      out), so a task of weight 0 has no row: nothing of it reaches what is shared;
    * an amount's nats have no natural zero, so its loss is divided by the best constant's.
    """
    modules = shared_weights(learner.model)
    weights = [weight for group in modules.values() for weight in group]
    gradients, at_input = task_gradients(learner, batch, weights)
    tables = {id(weight) for weight in tables_of(learner.model)}
    grams: dict[str, Tensor] = {}
    at = 0
    for name, group in modules.items():
        found = (gram_of([row[at + i] for row in gradients]) for i in range(len(group)))
        parts = [gram.to(learner.device) for gram in found]
        grams[name] = _unshared(torch.stack(parts).sum(0))
        at += len(group)
    if at_input is not None:
        grams[MIXER_INPUT] = _unshared(at_input.flatten(1) @ at_input.flatten(1).T)
    moves = [moves_of(learner, weights, row, tables) for row in gradients]
    scale = _scales(learner.model, held)
    affinity = look_ahead(moves, lambda: held_out_losses(learner.model, held), scale)
    return affinity.cpu(), {name: gram.cpu() for name, gram in grams.items()}


def _unshared(gram: Tensor) -> Tensor:
    """NaN for tasks that send nothing here: no gradient is not one at a right angle."""
    nothing = gram.diagonal() == 0
    return gram.masked_fill(nothing[:, None] | nothing[None, :], math.nan)


def shared_weights(model: JointModel) -> dict[str, list[Tensor]]:
    """Weights below the forks by module, tables apart from the layers; a task's own are left out.

    What a mixer keeps to one task is among them; no other task has a gradient there.
    """
    parts: dict[str, nn.Module | None] = {
        "text": model.text, "item": model.item, "user": model.user
    }  # fmt: skip
    if "funnel" in model.heads:
        funnel: Any = model.heads["funnel"]
        parts |= {"meet": funnel.meet, "mixer": funnel.mixer}
    found: dict[str, list[Tensor]] = {}
    for name, part in parts.items():
        if part is None:
            continue
        tables = tables_of(part)
        inside = {id(weight) for weight in tables}
        layers: list[Tensor] = [each for each in part.parameters() if id(each) not in inside]
        found |= {key: group for key, group in ((name, layers), (name + ROWS, tables)) if group}
    return found


def task_gradients(
    learner: Learner, batch: Batch, weights: Sequence[Tensor]
) -> tuple[list[list[Tensor | None]], Tensor | None]:
    """Each task's gradients of ``weights``, and ``[T, B, D]`` of the mixer's input if there is one.

    Static weights act at the forks as they do in training; what is dropped is drawn anew.
    """
    model = learner.model
    model.train()
    encoded = model.encode(batch)
    read = dict.fromkeys(model.heads, encoded)
    found = model.losses(read, batch, learner.static.clone())
    ends = [*weights, *([] if found.shared is None else [found.shared])]
    rows: list[list[Tensor | None]] = []
    at_input: list[Tensor] = []
    for value in found.values:
        made: list[Tensor | None] = list(
            torch.autograd.grad(value, ends, retain_graph=True, allow_unused=True)
        )
        if found.shared is not None:
            arrived = made.pop()
            at_input.append(torch.zeros_like(found.shared) if arrived is None else arrived)
        rows.append(made)
    return rows, torch.stack(at_input).detach() if at_input else None


def gram_of(gradients: Sequence[Tensor | None]) -> Tensor:
    """Inner products ``[T, T]`` of tasks' gradients of one weight, sparse or dense; None is 0."""
    given = [gradient for gradient in gradients if gradient is not None]
    if not given:
        return torch.zeros(len(gradients), len(gradients))
    if given[0].is_sparse:
        rows = {i: distinct_rows(g) for i, g in enumerate(gradients) if g is not None}
        touched = torch.cat([each for each, _ in rows.values()]).unique()
        width = given[0].shape[1]
        lines = given[0].new_zeros(
            (len(gradients), len(touched), width), layout=torch.strided
        )  # all tasks over the rows that any touched
        for i, (each, values) in rows.items():
            lines[i, torch.searchsorted(touched, each)] = values
        flat = lines.flatten(1)
    else:
        nothing = torch.zeros_like(given[0])
        flat = torch.stack([(nothing if g is None else g).flatten() for g in gradients])
    return flat @ flat.T


# ---- the look-ahead -----------------------------------------------------------------------


def moves_of(
    learner: Learner,
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    tables: set[int],
) -> list[Move]:
    """The step that the optimisers would take with one task's gradients alone."""
    pairs = [
        (weight, gradient)
        for weight, gradient in zip(weights, gradients, strict=True)
        if gradient is not None
    ]
    squares = [g.square().sum() for weight, g in pairs if id(weight) not in tables]
    norm = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
    clipped = min(1.0, learner.settings.clip / norm) if norm > 0 else 1.0
    rates = {
        id(weight): group["lr"]
        for optimiser in (learner.adam, learner.rows)
        for group in optimiser.param_groups
        for weight in group["params"]
    }
    return [
        _row_move(learner, weight, gradient, rates[id(weight)])
        if id(weight) in tables
        else _dense_move(learner, weight, gradient * clipped, rates[id(weight)])
        for weight, gradient in pairs
    ]


def _dense_move(learner: Learner, weight: Tensor, gradient: Tensor, rate: float) -> Move:
    group = learner.adam.param_groups[0]
    _, beta = group["betas"]
    state = learner.adam.state.get(weight, {})
    steps = float(state["step"]) if "step" in state else 0.0
    moment = gradient.square() * (1 - beta)
    if "exp_avg_sq" in state:
        moment = moment + beta * state["exp_avg_sq"]
    spread = (moment / (1 - beta ** (steps + 1))).sqrt()
    return Move(weight, gradient * (-_SHARE * rate) / (spread + group["eps"]))


def _row_move(learner: Learner, weight: Tensor, gradient: Tensor, rate: float) -> Move:
    rows, values = distinct_rows(gradient)
    squares = learner.rows.state[weight]["squares"][rows] + values.square().mean(1)
    return Move(weight, values * (-_SHARE * rate / (squares.sqrt() + 1e-10))[:, None], rows)


@contextmanager
def moved(moves: Sequence[Move]) -> Iterator[None]:
    """Weights as after a step; as they were, bit by bit, when the block ends."""
    kept: list[Tensor] = []
    with torch.no_grad():
        try:
            for move in moves:
                if move.rows is None:
                    kept.append(move.weight.clone())
                    move.weight.add_(move.change)
                else:
                    kept.append(move.weight[move.rows])
                    move.weight.index_add_(0, move.rows, move.change)
            yield
        finally:
            for move, before in zip(moves, kept, strict=False):
                if move.rows is None:
                    move.weight.copy_(before)
                else:
                    move.weight.index_copy_(0, move.rows, before)


def look_ahead(
    moves: Sequence[Sequence[Move]], measure: Callable[[], Tensor], scale: Tensor | None = None
) -> Tensor:
    """``[T, T]``: by what share of ``scale [T]`` each task's loss falls after each task's moves.

    Without a scale it is the loss itself. NaN in the row of a task that moves nothing, and in the
    column of a task without a loss.

    >>> w = torch.zeros(1)
    >>> moves = [[Move(w, torch.ones(1))], []]
    >>> look_ahead(moves, lambda: torch.cat([(w - 2) ** 2, w + 4])).tolist()
    [[0.75, -0.25], [nan, nan]]
    """
    before = measure()
    base = before if scale is None else torch.where(scale.isnan(), before, scale)
    rows = []
    for step in moves:
        if not any(bool((move.change != 0).any()) for move in step):
            rows.append(torch.full_like(before, math.nan))
            continue
        with moved(step):
            rows.append((before - measure()) / base)
    return torch.stack(rows).masked_fill(before == 0, math.nan)


# ---- what is held out ---------------------------------------------------------------------


def held_out(store: Store, learner: Learner, rng: np.random.Generator) -> Batch:
    """A batch of the validation split: exposures, users whose profile chooses, titles.

    Its users' profiles are marked as if they might teach, so that a head has a loss for them.
    """
    settings = learner.settings
    first, last = store.ranges["validation"]
    starts = np.arange(first, last, _RUN)
    rng.shuffle(starts)
    rows = (starts[:, None] + np.arange(_RUN)).ravel()
    rows = np.sort(rows[rows < last][: settings.rows_per_step])
    chooses = SPLITS.index("validation")
    users = _some(np.flatnonzero(store["users/split"] == chooses), _USERS, rng)
    titles = _some(np.flatnonzero(store["titles/split"] == chooses), _TITLES, rng)
    n_extra = settings.extra_items if store.n_items and len(rows) else 0
    batch = make_batch(
        store,
        rows,
        history_length=settings.history_length,
        extra_items=rng.integers(1, store.n_items + 1, n_extra) if n_extra else titles[:0],
        titles=titles,
        taught=full_queries(store, users),
    )
    split = batch.users["split"]
    judged = torch.where(split == chooses, torch.full_like(split, SPLITS.index("train")), split)
    return replace(batch, users=Columns({**batch.users.tensors, "split": judged}))


def _some(rows: Any, most: int, rng: np.random.Generator) -> Any:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


@torch.no_grad()
def held_out_losses(model: JointModel, batch: Batch) -> Tensor:
    """The loss of every task on a batch without dropout, ``[T]`` in double precision."""
    model.eval()
    encoded = model.encode(batch)
    ones = torch.ones(len(model.tasks), device=model.device)
    return model.losses(dict.fromkeys(model.heads, encoded), batch, ones).values.double()


def _scales(model: JointModel, batch: Batch) -> Tensor:
    """What an amount's falls are shares of, ``[T]``; NaN for the others, who have their loss."""
    found = torch.full((len(model.tasks),), math.nan, dtype=torch.float64, device=model.device)
    for place, task in enumerate(model.tasks):
        if task.is_value:
            weight = batch.exposures["weight"].double()
            above = batch.exposures["value"] > 0
            found[place] = NORMAL_NATS * (weight * above).sum() / weight.sum()
    return found
