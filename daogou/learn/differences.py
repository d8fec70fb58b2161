"""Contenders' answers to what each is worth against each: differences, verdicts, slices."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from daogou.artifact import Artifact
from daogou.learn.judge import Answers, Floats, Question, questions, truth_of
from daogou.learn.loop import Progress
from daogou.learn.slices import COLD, HEAD, fit_slices
from daogou.metrics.ceiling import gap_closed
from daogou.metrics.interval import LEVEL, replicates
from daogou.metrics.paired import Paired, combine, delta_m, holm, more_positives, verdicts
from daogou.schema import Shop

SPLIT: Final = "test"
SINGLE: Final = "single"  # twins as wide as the joint model
MARGIN: Final = 0.001
DRAWS: Final = 200  # of users
_UNCUT: Final = ""  # the name of the slice that is everything


@dataclass(frozen=True)
class Asked:
    """What is compared. ``rivals`` None = all that are installed.

    Candidates are the shop's own ``[model]`` and ``[fit]`` and each of ``mixers`` with each of
    ``balancers``; where one of the two is empty it stays the shop's. ``controls`` are single-task
    models that learn of the other tasks by other ways than together with them. ``cold`` and
    ``head`` are where slices are cut, see `daogou.learn.slices.fit_slices`.
    """

    seeds: int = 5
    mixers: tuple[str, ...] = ()
    balancers: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    rivals: tuple[str, ...] | None = None
    margin: float = MARGIN
    cold: int = COLD
    head: float = HEAD
    draws: int = DRAWS


@dataclass(frozen=True)
class Contender:
    """Scores of the test split: ``answers`` and ``best`` are one a seed.

    ``best`` are those of each task's own best epoch, empty where there is one task or no epoch.
    """

    name: str
    kind: str  # multi, single or rival
    answers: Sequence[Answers]
    best: Sequence[Answers] = ()
    seconds: Sequence[float] = ()
    parameters: int = 0
    epochs: Sequence[float] = ()
    validation: Sequence[float] = ()  # joint score of each seed
    widths: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Worth:
    """What a contender's answers are worth on some rows: ``values [S]``, ``drawn [S, n]``."""

    values: Floats
    drawn: Floats

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(self.values.mean())

    def less(self, other: "Worth", n_groups: int) -> Paired:
        """How much better it is than another, seed by seed; NaN where that is undefined.

        Of whom there is one answer only, it is that of every seed.
        """
        seeds = max(len(self.values), len(other.values))
        ours, theirs = self.of(seeds), other.of(seeds)
        return combine(ours.values - theirs.values, ours.drawn - theirs.drawn, n_groups=n_groups)

    def of(self, seeds: int) -> "Worth":
        """The same for so many seeds."""
        repeated = (seeds if len(self.values) == 1 else 1,)
        return Worth(np.tile(self.values, repeated), np.tile(self.drawn, (*repeated, 1)))


@dataclass(frozen=True)
class _Cell:
    """A question, the slice of it that is asked, and what everyone's answers to it are worth."""

    question: Question  # of the slice's rows
    slice: str
    worths: Mapping[str, Worth]  # by contender
    best: Mapping[str, Worth]  # of each task's own epoch
    ceiling: float

    @property
    def n_groups(self) -> int:
        """How many users, or others, can be drawn."""
        return len(np.unique(self.question.groups))


def document_of(
    shop: Shop,
    asked: Asked,
    base: Artifact,
    contenders: Sequence[Contender],
    progress: Progress,
) -> dict[str, Any]:
    """The document of `daogou.learn.compare.compare`, but for what it costs.

    ``base`` is a run whose store all contenders have read. The candidate that is ``chosen`` has the
    least mean over seeds of the joint score on validation; nothing else of what follows is chosen.
    """
    cells = list(_cells(shop, asked, base, contenders, progress))
    multi = [each for each in contenders if each.kind == "multi"]
    chosen = min(multi, key=lambda each: _or_worst(each.validation)).name
    return {
        "shop": shop.name,
        "seed": shop.seed,
        "seeds": list(range(shop.seed, shop.seed + asked.seeds)),
        "split": SPLIT,
        "margin": asked.margin,
        "cold": asked.cold,
        "head": asked.head,
        "level": LEVEL,
        "draws": asked.draws,
        "chosen": chosen,
        "contenders": {each.name: _of_contender(each, cells) for each in contenders},
        "candidates": {each.name: _of_candidate(each.name, cells, asked) for each in multi},
    }


def _or_worst(scores: Sequence[float]) -> float:
    known = [score for score in scores if math.isfinite(score)]
    return statistics.fmean(known) if known else math.inf


def _cells(
    shop: Shop,
    asked: Asked,
    base: Artifact,
    contenders: Sequence[Contender],
    progress: Progress,
) -> Iterator[_Cell]:
    found = questions(shop, base.store, base.transform, SPLIT, truth_of(shop))
    slices = fit_slices(base.store, base.transform, cold=asked.cold, head=asked.head)
    for number, question in enumerate(found):
        progress("judge", number, len(found), question.name)
        cut = {_UNCUT: question}
        cut |= {name: question.only(where) for name, where in slices.of(question).items()}
        for name, part in cut.items():

            def worth(answers: Sequence[Answers], part: Question = part) -> Worth | None:
                return worth_of(part, answers, (asked.draws, shop.seed))

            worths = {each.name: worth(each.answers) for each in contenders}
            best = {each.name: worth(each.best) for each in contenders} if not name else {}
            yield _Cell(
                part,
                name,
                {who: each for who, each in worths.items() if each is not None},
                {who: each for who, each in best.items() if each is not None},
                math.nan if part.ceiling is None else part.judge(part.ceiling).value,
            )
    progress("judge", len(found), len(found), "done")


def worth_of(part: Question, answers: Sequence[Answers], draws: tuple[int, int]) -> Worth | None:
    """None where some answer is missing; draws are the same for all who answer."""
    if not answers or any(part.name not in each for each in answers):
        return None
    judged = [part.judge(each[part.name]) for each in answers]
    n, seed = draws
    drawn = [
        replicates(each.statistic, each.groups, n=n, seed=seed)
        if math.isfinite(each.value)
        else np.full(n, math.nan)
        for each in judged
    ]
    return Worth(np.array([each.value for each in judged]), np.stack(drawn))


def _of_contender(contender: Contender, cells: Sequence[_Cell]) -> dict[str, Any]:
    """What is known of a contender without comparing it."""
    whole = [cell for cell in cells if cell.slice == _UNCUT]
    return {
        "kind": contender.kind,
        "parameters": contender.parameters or None,
        "epochs": list(contender.epochs),
        "validation": list(contender.validation),
        "widths": dict(contender.widths) if contender.widths else None,
        "values": {
            cell.question.name: cell.worths[contender.name].values.tolist()
            for cell in whole
            if contender.name in cell.worths
        },
        "best_per_task": {
            cell.question.name: cell.best[contender.name].values.tolist()
            for cell in whole
            if contender.name in cell.best
        },
        "seconds": list(contender.seconds),
    }


def _of_candidate(name: str, cells: Sequence[_Cell], asked: Asked) -> dict[str, Any]:
    """A candidate against the twins, over all rows and in slices; and against everyone else.

    Holm's correction is over the tasks for what is said of all rows, and over tasks and slices
    together for what is said of slices.
    """
    whole = [cell for cell in cells if cell.slice == _UNCUT]
    sliced = [cell for cell in cells if cell.slice != _UNCUT]
    entries = _compared(name, whole, SINGLE, asked)
    for cell, entry in zip(whole, entries, strict=True):
        entry["against"], entry["best_per_task"] = {}, None
        if name in cell.best:
            gap = cell.best[name].less(cell.worths[SINGLE], cell.n_groups)
            entry["best_per_task"] = {"multi": cell.best[name].mean, **_gap_document(gap)}
    others = dict.fromkeys(other for cell in whole for other in cell.worths)
    for other in others:
        if other not in (name, SINGLE):
            both = [cell for cell in whole if other in cell.worths]
            against = iter(_compared(name, both, other, asked))
            for cell, entry in zip(whole, entries, strict=True):
                if other in cell.worths:
                    entry["against"][other] = next(against)
    found = _compared(name, sliced, SINGLE, asked)
    once = [
        (entry["multi"], entry["single"])
        for cell, entry in zip(whole, entries, strict=True)
        if cell.question.name == cell.question.task  # and not stage|given too
    ]
    return {
        "tasks": {cell.question.name: entry for cell, entry in zip(whole, entries, strict=True)},
        "delta_m": _delta_m([pair for pair in once if pair[1] > 0]),
        "delta_m_of_errors": _delta_m([pair for pair in once if pair[1] < 1], of_errors=True),
        "slices": [
            {"task": cell.question.name, "slice": cell.slice, **entry}
            for cell, entry in zip(sliced, found, strict=True)
        ],
    }  # fmt: skip


def _compared(
    name: str, cells: Sequence[_Cell], control: str, asked: Asked
) -> list[dict[str, Any]]:
    """A candidate against a control in each cell, verdicts corrected over all of them."""
    gaps = {
        str(place): cell.worths[name].less(cell.worths[control], cell.n_groups)
        for place, cell in enumerate(cells)
    }
    said = verdicts(gaps, asked.margin)
    adjusted = holm([gap.p for gap in gaps.values()])
    level = 1 - (1 - LEVEL) / max(len(cells), 1)  # enough whatever the others come to
    found = []
    for place, cell in enumerate(cells):
        gap, positives = gaps[str(place)], cell.question.positives
        ours, theirs = cell.worths[name].mean, cell.worths[control].mean
        undecided = said[str(place)] == "UNDECIDED"
        found.append(
            {
                "metric": cell.question.metric,
                "n": len(cell.question.rows),
                "positives": positives,
                "single": theirs,
                "multi": ours,
                **_gap_document(gap),
                "p_holm": float(adjusted[place]),
                "verdict": said[str(place)],
                "more_positives": more_positives(gap, positives, asked.margin, level)
                if undecided
                else None,
                "relative": _relative(cell.question.metric, ours, theirs),
                "ceiling": cell.ceiling,
                "gap_closed": gap_closed(ours, cell.ceiling, theirs),
            }
        )
    return found


def _delta_m(pairs: Sequence[tuple[float, float]], *, of_errors: bool = False) -> float:
    """Over tasks that are defined; the others would make it undefined."""
    known = [pair for pair in pairs if math.isfinite(sum(pair))]
    ours, theirs = [pair[0] for pair in known], [pair[1] for pair in known]
    return delta_m(ours, theirs, [True] * len(known), of_errors=of_errors)


def _gap_document(gap: Paired) -> dict[str, Any]:
    names = ("se", "seed_se", "test_se", "df", "p", "smallest_detectable")
    found = {name: float(getattr(gap, name)) for name in names}
    return {"difference": float(gap.value), "interval": [float(gap.low), float(gap.high)], **found}


def _relative(metric: str, ours: float, theirs: float) -> float:
    """By how much more a candidate is above chance: 0 is as much, NaN if the control is not."""
    chance = 0.5 if metric == "auc" else 0.0
    return (ours - chance) / (theirs - chance) - 1 if theirs > chance else math.nan
