"""A shop's variants and seeds to finished runs, and to what they answer about the test split."""

import math
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file

from daogou import artifact
from daogou.artifact import Artifact
from daogou.learn.answers import answers_of, chained
from daogou.learn.claim import ended
from daogou.learn.course import each_path
from daogou.learn.differences import SPLIT, Contender
from daogou.learn.finish import finish
from daogou.learn.fit import fit
from daogou.learn.judge import Array
from daogou.learn.loop import Progress
from daogou.learn.onto import Onto
from daogou.learn.settings import settings_of
from daogou.learn.variant import twin_of, varied
from daogou.schema import Shop, Task

ANSWERS = "scores.safetensors"  # beside a run, the file of what it answers


def folder_of(folder: Path, contender: str, seed: int, task: str = "") -> Path:
    """Where a contender's run is.

    >>> folder_of(Path("x"), "single", 3, "add/cart").name
    'single-add%2fcart-3'
    """
    name = "-".join(part for part in (contender, task, str(seed)) if part)
    return folder / artifact.legal_name(name)


@dataclass
class Runs:
    """The runs of one comparison: what is finished is not done again, and each is told of once."""

    folder: Path
    seeds: Sequence[int]
    progress: Progress
    total: int
    begun: set[str] = field(default_factory=set)

    def of(self, contender: str, seed: int, task: str = "") -> Path:
        """Where a run is."""
        return folder_of(self.folder, contender, seed, task)

    def step(self, run: Path) -> None:
        """A run begins."""
        if run.name not in self.begun:
            self.progress("run", len(self.begun), self.total, run.name)
            self.begun.add(run.name)

    def end(self) -> None:
        """All are done."""
        self.progress("run", self.total, self.total, "done")

    def fitted(
        self,
        name: str,
        shop: Shop,
        seed: int,
        task: str = "",
        *,
        like: Path | None,
        onto: Onto | None = None,
    ) -> Path:
        """The finished run of a contender, or of what comes before one."""
        run = self.of(name, seed, task)
        variant = varied(shop, seed=seed)
        self.step(run)
        if ended(run, variant) is None:
            fit(
                variant, run, resume=run.exists(), progress=self.progress, like=like,
                keep_each=not task, onto=onto,
            )  # fmt: skip
        return run

    def judged(
        self,
        name: str,
        shop: Shop,
        seed: int,
        task: str = "",
        *,
        like: Path | None,
        onto: Onto | None = None,
    ) -> Path:
        """The same with its answers beside it."""
        run = self.fitted(name, shop, seed, task, like=like, onto=onto)
        if not (run / ANSWERS).exists():
            _judge(run)
        shutil.rmtree(run / "each", ignore_errors=True)  # they are judged
        return run


def multi(runs: Runs, candidates: Mapping[str, Shop], base: Artifact) -> Iterator[Contender]:
    """The candidates: every task learnt together."""
    for name, shop in candidates.items():
        made = [runs.judged(name, shop, seed, like=base.folder) for seed in runs.seeds]
        yield replace(
            contender(name, "multi", made), best=[read_answers(run, "best/") for run in made]
        )


def contender(name: str, kind: str, made: Sequence[Path]) -> Contender:
    """A contender by a run a seed of all tasks, with the answers of their joint epochs."""
    return Contender(
        name,
        kind,
        [read_answers(run, "joint/") for run in made],
        **measured([made]),
        validation=[joint_score_of(run) for run in made],
    )


def twins(
    runs: Runs, name: str, shop: Shop, base: Artifact, widths: Mapping[str, Any]
) -> Contender:
    """The twins of every task; of each one only what it was taught is an answer."""
    made = [
        [
            runs.judged(
                name, twin_of(shop, task.name, widths), seed, task.name, like=base.folder
            )
            for seed in runs.seeds
        ]
        for task in shop.tasks
    ]  # fmt: skip
    answers = taught(shop.tasks, made)
    return Contender(name, "single", answers, **measured(made), widths=widths or None)


def taught(tasks: Sequence[Task], runs: Sequence[Sequence[Path]]) -> list[dict[str, Array]]:
    """Answers of each seed of ``runs[task][seed]``, of each run the one that it was taught."""
    found = []
    for of_seed in zip(*runs, strict=True):
        answers: dict[str, Array] = {}
        for task, run in zip(tasks, of_seed, strict=True):
            said = read_answers(run, "joint/")
            key = f"{task.name}|{task.given}"
            key = key if key in said else task.name
            answers[key] = said[key]
        found.append(chained(tasks, answers))
    return found


def measured(runs: Sequence[Sequence[Path]]) -> dict[str, Any]:
    """Seconds, parameters and epochs over the runs of each seed, ``runs[task][seed]``."""
    manifests = [[artifact.read_manifest(run)["fit"] for run in some] for some in runs]
    per_seed = list(zip(*manifests, strict=True))
    return {
        "seconds": [sum(each["seconds"] for each in some) for some in per_seed],
        "parameters": sum(each["parameters"] for each in per_seed[0]),
        "epochs": [statistics.fmean(each["epochs"] for each in some) for some in per_seed],
    }


def joint_score_of(run: Path) -> float:
    """Mean over tasks of validation loss over the best constant's, of the epoch that was kept."""
    relative = [
        loss["loss"] / loss["constant"]
        for loss in artifact.read_manifest(run)["fit"]["validation"].values()
        if loss["n"] and loss["loss"] is not None and (loss["constant"] or 0) > 0
    ]
    return statistics.fmean(relative) if relative else math.nan


# ---- answers ------------------------------------------------------------------------------


def _judge(run: Path) -> None:
    """Write a finished run's answers about the test split, and those of each task's own epoch."""
    loaded = artifact.load(run, verify=False)
    found = {f"joint/{name}": each for name, each in _answers(loaded).items()}
    settings, _ = settings_of(loaded.shop)
    for place, task in enumerate(loaded.model.tasks):
        kept = each_path(run, place)
        if not kept.exists():
            continue
        loaded.model.load_state_dict(load_file(kept))
        finish(
            loaded.model, loaded.store, settings.calibration, history_length=loaded.history_length
        )
        own = _answers(loaded, {task.family})
        found |= {
            f"best/{name}": each
            for name, each in own.items()
            if name == task.name or name.startswith(f"{task.name}|")
        }
    write_answers(run, found)


def _answers(run: Artifact, families: set[str] | None = None) -> dict[str, Array]:
    return answers_of(
        run.model, run.store, run.transform, SPLIT,
        history_length=run.history_length, families=families,
    )  # fmt: skip


def write_answers(run: Path, found: Mapping[str, Array]) -> None:
    """Write answers beside a run, by name."""
    path = run / ANSWERS
    partial = path.with_name(path.name + ".partial")
    save_arrays({name: np.ascontiguousarray(each) for name, each in found.items()}, partial)
    partial.replace(path)


def read_answers(run: Path, prefix: str) -> dict[str, Array]:
    """The answers beside a run whose names begin so, by the rest of their names."""
    return {
        name.removeprefix(prefix): each
        for name, each in load_arrays(run / ANSWERS).items()
        if name.startswith(prefix)
    }
