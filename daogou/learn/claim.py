"""Whose a folder is: a shop's run, begun, finished or somebody else's."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daogou import artifact
from daogou.errors import ArtifactError
from daogou.learn.lock import alone, holds_work, unlocked
from daogou.schema import Shop


def started_as(shop: Shop) -> str:
    """What ``started.json`` of a run of this shop says: all but how much memory tables may take.

    That changes nothing of a run, and who had too little of it goes on with another limit.
    """
    fit = {key: each for key, each in shop.fit.items() if key != "memory_limit"}
    document = {key: each for key, each in shop.document.items() if key != "fit"}
    document |= {"fit": fit} if fit else {}
    return json.dumps({"shop": document, "root": str(shop.root.resolve())}, sort_keys=True)


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


def ended(run: Path, shop: Shop) -> dict[str, Any] | None:
    """What `fit` returned of a run that is whole; None if there is none yet.

    What a kill kept it from taking away goes. ArtifactError as in `finished`, or if another process
    works there.
    """
    if not finished(run, shop):
        return None
    with alone(run):
        tidy(run)
        unlocked(run)
    answer: dict[str, Any] = artifact.read_manifest(run)["fit"]
    return answer


def tidy(run: Path) -> None:
    """Take away what a finished run needs no more."""
    for done_with in (run / "checkpoint", run / "chosen"):
        shutil.rmtree(done_with, ignore_errors=True)


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
