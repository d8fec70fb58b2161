"""Single-task models that learn of a shop's other tasks by other ways than together with them.

Where they do as well as the joint model, what helps is the other labels or a better start, and not
that layers are shared while they are learnt. Two ways, by name:

``aux``: each stage's twin reads what other twins predict of the other stages, as a two-stage system
does. Predictions of rows that taught the predictor are surer than those of the test, so each
training row is predicted by a model that it did not teach.

``pretrained``: each task is learnt alone from where all other tasks have led, with a budget of
epochs for either.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from daogou import artifact
from daogou.artifact import Artifact
from daogou.features.numeric import fit_numeric
from daogou.features.store import SPLITS, Store
from daogou.features.store.writer import rewrite_store
from daogou.features.transform import Transform
from daogou.features.transform.fields import Fields
from daogou.learn.contenders import Runs, measured, taught
from daogou.learn.differences import Contender
from daogou.learn.onto import Onto
from daogou.learn.variant import finetuning_of, pretraining_of, twin_of
from daogou.model import predict
from daogou.schema import Shop

Array = NDArray[Any]
Floats = NDArray[np.float64]
AUX: Final = "aux"
PRETRAINED: Final = "pretrained"
_HALVES: Final = (0, 1)
_ROWS: Final = 65_536  # of exposures written at a time
_LAST: Final = "transform.json"  # of the files of tables, so that it makes the others count


@dataclass(frozen=True)
class Control:
    """Who makes a control's answers, and how many runs a seed takes."""

    contender: Callable[[Runs, Shop, Artifact], Contender]
    runs: Callable[[Shop], int]


# ---- what others say as an input --------------------------------------------------------------


def _aux(runs: Runs, shop: Shop, base: Artifact) -> Contender:
    """The predictors go with the twins wherever those are deployed, so they count as theirs."""
    stages = [task.name for task in shop.of_family("funnel")]
    made, givers = [], []
    for seed in runs.seeds:
        half = halves(base.store, seed)
        pairs: dict[str, list[Path]] = {stage: [] for stage in stages}
        for number in _HALVES:
            name = f"{AUX}-half{number}"
            tables = runs.of(name, seed)
            if not _is_whole(tables):
                teach_some(base, tables, half == number)
            for stage in stages:
                run = runs.fitted(name, twin_of(shop, stage), seed, stage, like=tables)
                pairs[stage].append(run)
        told = {stage: runs.of(f"{AUX}-told", seed, stage) for stage in stages}
        if not all(map(_is_whole, told.values())):
            said = {stage: said_of(stage, pair, half) for stage, pair in pairs.items()}
            for stage, tables in told.items():
                tell(base, tables, {name: said[name] for name in stages if name != stage})
        givers.append([run for pair in pairs.values() for run in pair])
        made.append(
            [
                runs.judged(AUX, twin_of(shop, stage), seed, stage, like=tables)
                for stage, tables in told.items()
            ]
        )
    by_task = list(zip(*made, strict=True))
    answers = taught(shop.of_family("funnel"), by_task)
    return Contender(AUX, "single", answers, **measured([*by_task, *zip(*givers, strict=True)]))


def halves(store: Store, seed: int) -> Array:
    """Which half, 0 or 1, each exposure is in, ``[n]``; a user's of one moment are together."""
    query = np.asarray(store["exposures/query"])
    rng = np.random.default_rng(seed)
    of_rows = rng.integers(0, 2, len(query))
    of_queries = rng.integers(0, 2, len(store["queries/user"]) + 1)  # the last stands for none
    found: Array = np.where(query >= 0, of_queries[query], of_rows)
    return found


def teach_some(base: Artifact, folder: Path, is_taught: Array) -> None:
    """Tables of a run in which the training rows where not ``is_taught [n]`` weigh nothing."""
    last = base.store.ranges["train"][1]
    weight = np.array(base.store["exposures/weight"])
    weight[:last][~is_taught[:last]] = 0.0
    _write(base, folder, base.transform, {"exposures/weight": [weight]})


def said_of(stage: str, runs: Sequence[Path], half: Array) -> Floats:
    """Chances ``[n]`` of a stage where the one before happened, from two runs of it.

    The first was taught the training rows of half 0 and predicts those of half 1, the second the
    other way round; of all other rows the mean of both is taken.
    """
    givers = [artifact.load(run, verify=False) for run in runs]
    said = np.full(len(half), np.nan)
    for split in SPLITS:
        first, last = givers[0].store.ranges[split]
        one, other = (_chances(giver, stage, split) for giver in givers)
        apart = np.where(half[first:last] == 1, one, other)
        said[first:last] = apart if split == "train" else (one + other) / 2
    return said


def _chances(giver: Artifact, stage: str, split: str) -> Floats:
    stages = [task.name for task in giver.model.tasks if task.family == "funnel"]
    length = giver.history_length
    said = predict.funnel_scores(giver.model, giver.store, split, history_length=length)
    found: Floats = said.conditional[:, stages.index(stage)].astype(np.float64)
    return found


def tell(base: Artifact, folder: Path, said: Mapping[str, Floats]) -> None:
    """Tables of a run whose context has a further column ``said [n]`` for each stage of these."""
    store, context = base.store, base.transform.context
    train = slice(*store.ranges["train"])
    buckets = int(base.manifest["settings"]["buckets"])
    columns = {f"@{stage}": each for stage, each in said.items()}  # no column of a shop begins so
    told = Fields(
        tuple(columns),
        tuple(fit_numeric(each[train], buckets=buckets) for each in columns.values()),
    )
    as_arrow = {name: pa.chunked_array([each]) for name, each in columns.items()}
    rows, ranks = told.encode(as_arrow, len(store["exposures/item"]))
    both = Fields((*context.names, *told.names), (*context.coders, *told.coders))
    arrays = {
        "exposures/fields": _beside(store["exposures/fields"], rows + context.n_rows),
        "exposures/numbers": _beside(store["exposures/numbers"], ranks),
    }
    _write(base, folder, replace(base.transform, context=both), arrays)


def _beside(one: Array, other: Array) -> Iterator[Array]:
    """Columns of both, ``[n, C + D]``, in pieces: what is mapped is never whole in memory."""
    for start in range(0, max(len(one), 1), _ROWS):
        rows = slice(start, start + _ROWS)
        yield np.concatenate([one[rows], other[rows].astype(one.dtype)], axis=1)


def _is_whole(folder: Path) -> bool:
    return (folder / _LAST).exists()


def _write(
    base: Artifact, folder: Path, transform: Transform, arrays: Mapping[str, Iterable[Array]]
) -> None:
    """Tables for the ``like`` of a fit: those of ``base`` with other arrays."""
    folder.mkdir(exist_ok=True)
    rewrite_store(base.store, folder / "store", arrays)
    artifact.write_document(folder / "prepared.json", base.manifest["prepared"])
    artifact.write_whole(folder / _LAST, json.dumps(transform.to_json(), ensure_ascii=False))


# ---- the others first ------------------------------------------------------------------------


def _pretrained(runs: Runs, shop: Shop, base: Artifact) -> Contender:
    """Learning the others first costs seconds, and nothing once deployed."""
    before, made = [], []
    for task in shop.tasks:
        first, then = pretraining_of(shop, task.name), finetuning_of(shop, task.name)
        starts = [
            runs.fitted(f"{PRETRAINED}-first", first, seed, task.name, like=base.folder)
            for seed in runs.seeds
        ]
        before.append(starts)
        made.append(
            [
                runs.judged(PRETRAINED, then, seed, task.name, like=base.folder, onto=Onto(start))
                for seed, start in zip(runs.seeds, starts, strict=True)
            ]
        )
    cost = measured(made) | {"seconds": measured([*before, *made])["seconds"]}
    return Contender(PRETRAINED, "single", taught(shop.tasks, made), **cost)


CONTROLS: Final[Mapping[str, Control]] = {
    AUX: Control(_aux, lambda shop: 3 * len(shop.of_family("funnel"))),
    PRETRAINED: Control(_pretrained, lambda shop: 2 * len(shop.tasks)),
}
