"""The documents of a run's folder, and what of them several parts of its page ask for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from daogou.artifact import read_document, read_records, sha256
from daogou.report.numbers import is_number
from daogou.report.words import Words

Document = Mapping[str, Any]
SPLITS: Final = ("train", "validation", "test")


@dataclass(frozen=True)
class Found:
    """The documents of a folder, as JSON has them; None or empty what is not there.

    ``manifest`` and ``evaluation`` are a run's, ``epochs`` its events.jsonl, ``probes`` a
    probes.jsonl, and the rest bear the names of their files.
    """

    folder: str
    manifest: Document | None = None
    evaluation: Document | None = None
    epochs: Sequence[Document] = field(default_factory=tuple)
    probes: Sequence[Document] = field(default_factory=tuple)
    prepared: Document | None = None
    receipt: Document | None = None


def found_in(run: Path, manifest: Document | None, evaluation: Document | None) -> Found:
    """What the folder of a run holds, beside what its manifest and its evaluation say."""
    whole = run.resolve()
    # The joint run of `daogou relate` is ``all`` in its folder, beside what that probed.
    probed = whole.parent if whole.name == "all" else whole
    return Found(
        whole.name,
        manifest,
        evaluation,
        read_records(run / "events.jsonl"),
        read_records(probed / "probes.jsonl"),
        read_document(run / "prepared.json"),
        read_document(run / "receipt.json"),
    )


def kept_evaluation(run: Path) -> Document | None:
    """The evaluation that is kept beside a run, if it is this run's and not a former one's."""
    kept = read_document(run / "evaluate.json")
    is_its = kept is not None and kept["manifest"] == sha256(run / "manifest.json")
    return kept["evaluation"] if is_its else None


def split_of(found: Found, words: Words) -> str:
    """The split that a run was judged on, in words."""
    split = str((found.evaluation or {}).get("split", ""))
    return words.get(split, split)


def kept_epoch(found: Found) -> Document:
    """The record of the epoch whose weights are kept; of a run under way, the best so far."""
    if found.manifest is not None:
        best = found.manifest["fit"]["best_epoch"]
        return next((each for each in found.epochs if each["epoch"] == best), {})
    known = [each for each in found.epochs if is_number(each["score"])]
    return min(known, key=lambda each: float(each["score"])) if known else {}


def kept_losses(found: Found) -> Mapping[str, Document]:
    """The validation losses of the weights that are kept, by task."""
    if found.manifest is not None:
        kept: Mapping[str, Document] = found.manifest["fit"]["validation"]
        return kept
    best: Mapping[str, Document] = kept_epoch(found).get("validation", {})
    return best


def gates_name(module: str) -> str:
    """A module's name without the layers above it."""
    return module.removeprefix("heads.funnel.").removeprefix("mixer.")


def over_constant(loss: Document) -> float | None:
    """A loss over that of the best constant."""
    own, constant = loss.get("loss"), loss.get("constant")
    return own / constant if is_number(own) and is_number(constant) and constant else None
