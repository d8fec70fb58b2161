"""A shop to which of its tasks help which: looked ahead along one run, and by leaving each out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daogou import artifact
from daogou.artifact import read_records
from daogou.errors import ConfigError
from daogou.learn.claim import ended, opened_folder
from daogou.learn.fit import fit
from daogou.learn.groups import Matrix, best_groups, received
from daogou.learn.loop import Progress, quiet
from daogou.learn.probe import Probe, Probed, read_probes
from daogou.learn.settings import Settings, settings_of
from daogou.learn.variant import judged_by_validation, varied, without
from daogou.metrics import spearman
from daogou.metrics.paired import student_quantile
from daogou.schema import Shop

PROBES: Final = 16  # about as many in a whole run, at least one an epoch

SEEDS: Final = 2  # further joint runs, whose spread is the noise

# Of 90 % of differences between a run and the mean of 1 + SEEDS others (Student, 2 degrees).
_T_90: Final = 2.92


def relate(
    shop: Shop,
    folder: Path | str,
    *,
    leave_out: bool = True,
    resume: bool = False,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Which tasks help which, as a document; the runs it took are in ``folder``.

    One joint run (``all``) is probed as it trains, see `probe`. With ``leave_out`` each task is
    then left out of a run of its own (``without-TASK``) and two more joint runs (``seed-N``) say
    what is noise. Losses are of the validation split, over the best constant's; no label of the
    test split is read. A task is left out by weight 0: it goes on training its own layers and
    nothing of it reaches what is shared, so that later stages of a funnel stay what they are
    conditional on.

    Raises ConfigError for a shop of one task, and ArtifactError if the folder holds something else
    or, without ``resume``, anything.
    """
    shop, folder = judged_by_validation(shop), Path(folder)
    names = [task.name for task in shop.tasks]
    settings, _ = settings_of(shop)
    if len(names) < 2:
        raise ConfigError(
            f"{shop.name}: {', '.join(names) or 'no task'}; two tasks at least can be related"
        )
    _relatable(settings)
    with opened_folder(folder, resume=resume):
        wanted = _runs(shop, folder, leave_out)
        probe = Probe(
            folder / "probes.jsonl", shop.seed, per_epoch=max(1, round(PROBES / settings.epochs))
        )
        for number, (run, variant) in enumerate(wanted.items()):
            progress("run", number, len(wanted), run.name)
            is_joint = number == 0
            if ended(run, variant) is None:
                fit(
                    variant,
                    run,
                    resume=run.exists(),
                    progress=progress,
                    observe=probe if is_joint else None,
                    like=None if is_joint else folder / "all",
                )
        progress("run", len(wanted), len(wanted), "done")
        curves = {run.name: losses_of(run, names) for run in wanted}
        probes = read_probes(folder / "probes.jsonl", names)
        document = document_of(shop, curves, probes, leave_out=leave_out)
        artifact.write_document(folder / "relate.json", document)
        return document


def document_of(
    shop: Shop, curves: Mapping[str, Matrix], probes: Sequence[Probed], *, leave_out: bool
) -> dict[str, Any]:
    """The document of `relate`, from each run's ``[epochs, T]`` losses and the joint run's probes.

    Probes after the joint run's kept epoch are not counted: what they taught was not kept. A mean
    over probes is ``clear`` beyond Student's 95 % interval around 0, of three probes at least.
    """
    names = [task.name for task in shop.tasks]
    watched = _watched(shop)
    kept = _kept_epoch(curves["all"], watched)
    counted = [one for one in probes if one.epoch <= kept]
    affinity = np.stack([one.affinity.numpy() for one in counted]).astype(np.float64)
    mean, error = _mean_and_error(affinity)
    clear = np.abs(mean) > _reach(affinity) * error
    transfer = _left_out(shop, curves, watched) if leave_out else None
    gradients = _gradients(counted)
    document: dict[str, Any] = {
        "shop": shop.name,
        "seed": shop.seed,
        "tasks": [
            {"name": task.name, "family": task.family, "weight": task.weight} for task in shop.tasks
        ],
        "kept_epoch": kept + 1,
        "affinity": {
            "mean": _table(mean, names),
            "se": _table(error, names),
            "clear": _table(clear, names),
            "n_probes": len(counted),
        },
        "gradients": {
            module: {
                "cosine": _table(cosine, names),
                "magnitude_similarity": _table(size, names),
            }
            for module, (cosine, size) in gradients.items()
        },
        "leave_out": None,
        "agreement": None,
        "groups": _group_documents(np.where(clear, mean, 0.0), names, mean, transfer),
        "groups_by_leave_out": None,
    }
    if transfer is not None:
        document["leave_out"] = {
            "transfer": _table(transfer.gain, names),
            "noise": dict(zip(names, transfer.noise.tolist(), strict=True)),
            "margin": dict(zip(names, transfer.margin.tolist(), strict=True)),
            "beyond_noise": _table(np.abs(transfer.gain) > transfer.margin, names),
            "relative_loss": {
                run: dict(zip(names, losses.tolist(), strict=True))
                for run, losses in transfer.losses.items()
            },
        }
        document["agreement"] = {
            "affinity": _agreement(mean, transfer.gain),
            "cosine": _agreement(_mean_cosine(gradients), transfer.gain),
        }
        beyond = np.where(np.abs(transfer.gain) > transfer.margin, transfer.gain, 0.0)
        document["groups_by_leave_out"] = _group_documents(beyond, names, mean, transfer)
    return document


def _relatable(settings: Settings) -> None:
    """Refuse settings under which the numbers would not mean what they are said to."""
    if settings.sampling != "joint":
        raise ConfigError(
            f"fit.sampling: {settings.sampling!r} gives a step the rows of some tasks only; "
            'a look ahead needs all, so take "joint" for this'
        )


def _watched(shop: Shop) -> int | None:
    """The place of the task that chooses the epoch; None where all do."""
    settings, _ = settings_of(shop)
    names = [task.name for task in shop.tasks]
    return None if settings.watch == "joint" else names.index(settings.watch)


def _runs(shop: Shop, folder: Path, leave_out: bool) -> dict[Path, Shop]:
    """Each run's folder and shop; the joint one first."""
    wanted = {folder / "all": shop}
    if leave_out:
        wanted |= {
            folder / f"seed-{seed}": varied(shop, seed=seed)
            for seed in range(shop.seed + 1, shop.seed + 1 + SEEDS)
        }
        wanted |= {
            folder / run_name(task.name): without(shop, task.name)
            for task in shop.tasks
            if task.weight > 0
        }
    return wanted


def run_name(task: str) -> str:
    """The folder of the run without a task.

    >>> run_name("profile.gender"), run_name("add/cart")
    ('without-profile.gender', 'without-add%2fcart')
    """
    return "without-" + artifact.legal_name(task)


def losses_of(run: Path, names: Sequence[str]) -> Matrix:
    """Validation loss of each epoch over the best constant's, ``[epochs, T]``, from a run's log.

    NaN for an epoch that a kill kept out of the log, and for what the split cannot judge.
    """
    rows: dict[int, list[float]] = {}
    for record in read_records(run / "events.jsonl"):
        found = [record["validation"][name] for name in names]
        rows[record["epoch"]] = [
            one["loss"] / one["constant"]
            if one["n"] and one["loss"] is not None and (one["constant"] or 0) > 0
            else math.nan
            for one in found
        ]
    nothing = [math.nan] * len(names)
    return np.array([rows.get(epoch, nothing) for epoch in range(1, max(rows, default=0) + 1)])


@dataclass(frozen=True)
class Transfer:
    """What leaving tasks out showed.

    ``gain [T, T]``: row i, column j is by how much task j's relative loss is lower with task i
    than without it. ``noise [T]`` is the spread of that loss over seeds, ``margin [T]`` what 90 %
    of differences that mean nothing stay within. ``losses`` are those of each run.
    """

    gain: Matrix
    noise: Matrix
    margin: Matrix
    losses: Mapping[str, Matrix]


def _left_out(shop: Shop, curves: Mapping[str, Matrix], watched: int | None) -> Transfer:
    names = [task.name for task in shop.tasks]
    joint_runs = ["all", *(run for run in curves if run.startswith("seed-"))]
    losses = {run: curves[run][_kept_epoch(curves[run], watched)] for run in joint_runs}
    joint = np.stack(list(losses.values()))
    noise = joint.std(axis=0, ddof=1)
    gain = np.full((len(names), len(names)), math.nan)
    for i, name in enumerate(names):
        curve = curves.get(run_name(name))
        if curve is None:  # its weight is 0: it reaches nothing as it is
            continue
        # Without it the others choose the epoch: that is the run one would keep.
        left = np.delete(curve, i, axis=1) if watched in (None, i) else curve
        losses[run_name(name)] = curve[_kept_epoch(left, None if watched == i else watched)]
        gain[i] = losses[run_name(name)] - joint.mean(axis=0)
        gain[i, i] = math.nan
    margin = _T_90 * noise * math.sqrt(1 + 1 / len(joint))
    return Transfer(gain, noise, margin, losses)


def _kept_epoch(curve: Matrix, watched: int | None) -> int:
    """The epoch with the least mean over tasks of ``[epochs, T]``; the last if none can tell.

    With ``watched`` it is that of one task, as `Settings.watch` has it.
    """
    curve = curve if watched is None else curve[:, [watched]]
    known = np.isfinite(curve)
    counts = known.sum(axis=1)
    means = np.where(known, curve, 0.0).sum(axis=1) / np.maximum(counts, 1)
    means[counts == 0] = math.inf
    return int(means.argmin()) if np.isfinite(means).any() else len(curve) - 1


def _mean_and_error(values: Matrix) -> tuple[Matrix, Matrix]:
    """Mean and its standard error over the probes ``[P, T, T]`` that saw a pair; NaN without one.

    The error of a single probe is infinite: nothing is known of it.
    """
    known = np.isfinite(values)
    n = known.sum(axis=0)
    filled = np.where(known, values, 0.0)
    mean = filled.sum(axis=0) / np.maximum(n, 1)
    squares = np.where(known, (values - mean) ** 2, 0.0).sum(axis=0)
    error = np.sqrt(squares / np.maximum(n - 1, 1) / np.maximum(n, 1))
    return np.where(n > 0, mean, math.nan), np.where(n > 1, error, np.where(n > 0, np.inf, np.nan))


def _reach(values: Matrix) -> Matrix:
    """How many standard errors 95 % of means without any effect stay within, ``[T, T]``.

    Student's quantile for as many probes ``[P, T, T]`` as saw a pair; NaN below three, where it
    would be 12.7 and rest on a single difference.
    """
    n = np.isfinite(values).sum(axis=0)
    reach = {int(each): student_quantile(0.975, int(each) - 1) for each in np.unique(n[n > 2])}
    found: Matrix = np.vectorize(lambda each: reach.get(int(each), math.nan), otypes=[float])(n)
    return found


def _gradients(probes: Sequence[Probed]) -> dict[str, tuple[Matrix, Matrix]]:
    """Mean cosine and magnitude similarity ``[T, T]`` of each module in which tasks meet."""
    found: dict[str, tuple[Matrix, Matrix]] = {}
    for module in probes[0].grams if probes else ():
        grams = np.stack([one.grams[module].numpy() for one in probes]).astype(np.float64)
        cosines, sizes = zip(*map(alike, grams), strict=True)
        cosine, _ = _mean_and_error(np.stack(cosines))
        size, _ = _mean_and_error(np.stack(sizes))
        if np.isfinite(cosine).sum() > np.isfinite(cosine.diagonal()).sum():
            found[module] = cosine, size
    return found


def alike(gram: Matrix) -> tuple[Matrix, Matrix]:
    """Cosine and magnitude similarity ``2|a||b| / (|a|^2 + |b|^2)`` from a Gram ``[T, T]``.

    Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020.

    >>> cosine, size = alike(np.array([[1.0, 1.2], [1.2, 4.0]]))
    >>> round(float(cosine[0, 1]), 3), round(float(size[0, 1]), 3)
    (0.6, 0.8)
    """
    squares = gram.diagonal()
    lengths = np.sqrt(squares)
    both = lengths[:, None] * lengths
    return gram / both, 2 * both / (squares[:, None] + squares)


def _mean_cosine(gradients: Mapping[str, tuple[Matrix, Matrix]]) -> Matrix:
    """A pair's cosine over the modules in which it meets."""
    mean, _ = _mean_and_error(np.stack([cosine for cosine, _ in gradients.values()]))
    return mean


def _agreement(measured: Matrix, gain: Matrix) -> float:
    """Rank correlation over pairs of different tasks; NaN for fewer than 4 pairs."""
    pairs = np.isfinite(measured) & np.isfinite(gain) & ~np.eye(len(gain), dtype=bool)
    return spearman(measured[pairs], gain[pairs]) if pairs.sum() >= 4 else math.nan


def _group_documents(
    clear: Matrix, names: Sequence[str], affinity: Matrix, transfer: Transfer | None
) -> list[dict[str, Any]]:
    """The best groups by what is ``clear``, and what each member gets from inside and outside."""
    gain = np.full_like(affinity, math.nan) if transfer is None else transfer.gain
    documents = []
    for group in best_groups(clear):
        members: dict[str, Any] = {}
        for member in group:
            inside = [i for i in group if i != member]
            outside = [i for i in range(len(names)) if i not in group]
            members[names[member]] = {
                "affinity_from_group": received(affinity, inside, member),
                "affinity_from_others": received(affinity, outside, member),
                "transfer_from_group": received(gain, inside, member),
                "transfer_from_others": received(gain, outside, member),
            }
        documents.append({"tasks": [names[member] for member in group], "members": members})
    return documents


def _table(matrix: NDArray[Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Rows by the task that gives, then by the task that receives."""
    return {
        giver: dict(zip(names, row.tolist(), strict=True))
        for giver, row in zip(names, matrix, strict=True)
    }
