"""A shop to a run in which no stage is worse off for sharing, and the evidence for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daogou import artifact
from daogou.artifact import Artifact
from daogou.artifact.counts import counts_of
from daogou.errors import ArtifactError, ConfigError
from daogou.learn.adopt import adopt
from daogou.learn.answers import answers_of
from daogou.learn.claim import claimed, ended
from daogou.learn.compare import size_of
from daogou.learn.fit import fit
from daogou.learn.judge import questions
from daogou.learn.loop import Progress, quiet
from daogou.learn.onto import Onto
from daogou.learn.settings import refits, settings_of
from daogou.learn.variant import twin_of, varied, without
from daogou.metrics.anytime import Bet
from daogou.schema import OWN, Shop, Task

ALPHA: Final = 0.05
SPLIT: Final = "validation"
MOST_MEMORY: Final = 1.3  # parameters with what stages keep to themselves, over those without
_BLOCK: Final = 50  # users between two looks
Floats = NDArray[np.float64]
Array = NDArray[Any]


@dataclass(frozen=True)
class Evidence:
    """What held-out users say of a stage learnt jointly, against its twin that learnt alone.

    ``difference`` is the joint AUC less the twin's over the validation rows where the stage is
    defined. ``interval`` is of its mean over users, right at any stopping time with 95 %;
    ``e_values`` are of "better", "worse" and "harmless" (not worse by more than the margin), after
    ``n_users`` of ``of_users``.
    """

    verdict: str  # HELPS, NEUTRAL, HURTS or UNDECIDED
    single: float
    multi: float
    interval: tuple[float, float]
    e_values: Mapping[str, float]
    n_users: int
    of_users: int

    @property
    def difference(self) -> float:
        return self.multi - self.single

    @property
    def hurts(self) -> bool:
        """Whether sharing is to end: it hurts, or nothing says that it does not and it seems so."""
        return self.verdict == "HURTS" or (self.verdict == "UNDECIDED" and self.difference < 0)


@dataclass(frozen=True)
class Tried:
    """A whole model: what was learnt jointly, and what the stages in ``own`` were given on top."""

    base: Path
    run: Path
    own: Mapping[str, str]  # what each stage that went keeps to itself
    found: Mapping[str, Evidence]  # of every stage

    def worth(self, margin: float) -> tuple[float, float]:
        """What models are chosen by, the greater the better.

        First how far stages fall short by more than half the margin, together: the other half is
        left to what the validation split cannot see. Then the sum of all differences. A stage that
        cannot be judged has no say.
        """
        gaps = [found.difference for found in self.found.values() if not isnan(found.difference)]
        return sum(min(gap + margin / 2, 0.0) for gap in gaps), sum(gaps)


def guard(
    shop: Shop,
    run: Path | str,
    *,
    margin: float = 0.005,
    resume: bool = False,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Fit a shop jointly, and give stages layers of their own where sharing hurts one.

    1. All tasks are learnt jointly, and each stage of the funnel once more by a twin that learns
       it alone, of the same width and on the same tables (``RUN/guard/``).
    2. Held-out users decide (`weigh_up`): the validation split, whose labels also picked both
       sides' epochs. No label of the test split is read.
    3. If a stage is hurt, whichever it is, the sparsest of those that still share stops teaching
       what is shared, and the rest learns again without it: the others live on what the dense one
       knows, and the dense one, alone in the end, is as good as its twin.
    4. The stages that went are taught last, on what the others made and without changing it, first
       by an expert of their own; where that is no better than the twin and than sharing was, with
       rows of their own too, as wide as `MOST_MEMORY` allows. Each stage keeps its own best epoch
       in one model. All stages are judged again, until none that shares is hurt.
    5. Of all models tried the best is kept (`Tried.worth`), which may be the shared one.

    What was found is in ``RUN/receipt.json``, in the manifest, and in the answer. Matching,
    profiles, titles and amounts are not guarded; ``daogou compare`` judges them.

    Raises ConfigError for a shop of fewer than two stages; otherwise as `fit`.
    """
    run = Path(run)
    stages = [task for task in shop.of_family("funnel") if not task.is_value]
    _check(shop, stages, margin)
    if resume and (told_before := ended(run, shop)) is not None:
        if "guard" not in told_before:
            raise ArtifactError(f"{run}: was fitted without --guard; give another folder")
        if (before := told_before["guard"]["margin"]) != margin:
            raise ArtifactError(f"{run}: was fitted with --margin {before}; give another folder")
        return told_before
    with claimed(run, shop, resume):
        work = run / "guard"
        work.mkdir(exist_ok=True)
        runs = _Runs(shop, work, progress)
        tried = _tried(runs, shop, [task.name for task in stages], margin)
        chosen = max(tried, key=lambda each: each.worth(margin))
        receipt = _receipt(chosen, tried, stages, margin, runs.seconds)
        return _finish(run, chosen, receipt)


def _tried(runs: "_Runs", shop: Shop, names: list[str], margin: float) -> list[Tried]:
    """The shared model, then those in which ever more of the sparsest stages went their way."""
    base = runs.fit("shared", shop)
    alone = {name: runs.fit(f"alone-{place}", twin_of(shop, name))
             for place, name in enumerate(names)}  # fmt: skip

    def judged(base: Path, made: Path, own: Mapping[str, str]) -> Tried:
        found = {name: weigh_up(made, alone[name], name, margin=margin) for name in names}
        return Tried(base, made, own, found)

    tried = [judged(base, base, {})]
    # A stage's own expert has to be as good as its twin, and as sharing was.
    least = {name: max(found.difference, 0.0) for name, found in tried[0].found.items()}
    largest = MOST_MEMORY * _size(base)
    apart: list[str] = []
    for name in _sparsest_first(base, names)[:-1]:
        if not any(tried[-1].found[each].hurts for each in names if each not in apart):
            break
        apart.append(name)
        places = "-".join(str(names.index(each)) for each in apart)
        base = runs.fit(f"without-{places}", without(shop, *apart))
        own, lacking = dict.fromkeys(apart, OWN[1]), apart
        while lacking:
            made = _taught(runs, shop, names, base, own, largest)
            tried.append(judged(base, made, own))
            gaps = {each: found.difference for each, found in tried[-1].found.items()}
            lacking = [each for each in own if own[each] == OWN[1] and gaps[each] < least[each]]
            own = {**own, **dict.fromkeys(lacking, OWN[-1])}
    return tried


def _sparsest_first(run: Path, names: list[str]) -> list[str]:
    """Stages by how often they happened in training; of equals the later one first."""
    made = artifact.load(run, verify=False)
    first, last = made.store.ranges["train"]
    labels = np.asarray(made.store["exposures/labels"][first:last])
    happened = dict(zip(made.transform.stages, (labels == 1).sum(0).tolist(), strict=True))
    return sorted(reversed(names), key=lambda name: happened[name])


def weigh_up(joint: Path, alone: Path, task: str, *, margin: float) -> Evidence:
    """What the validation split's users say of a stage in two runs on the same tables.

    Each user brings one number between -1 and 1: by how much more of all negatives their positives
    outrank in the joint run than in the other, the mean over their positives (averaged over
    positives these differences add up to that of the AUCs). Users come one after the other, in an
    order drawn from the seed, and three bets are laid on them (`Bet`): that the mean is above 0,
    below 0, and above ``-margin``. Whoever stops looking when a bet is won at `ALPHA` is wrong no
    more often than that, of one verdict: a guard asks the same users anew, with fresh bets, for
    each stage and each run that it tries, and nothing corrects for how often.
    """
    ours, theirs = (artifact.load(path, verify=False) for path in (joint, alone))
    given = ours.shop.task(task).given
    names = (task, f"{task}|{given}")  # the latter is asked where the former is learnt
    asked = [each for each in questions(ours.shop, ours.store, ours.transform, SPLIT)
             if each.name in names][-1]  # fmt: skip
    asked = asked.only(asked.weight > 0)
    answers = [_answers(run)[asked.name] for run in (ours, theirs)]
    multi, single = (asked.judge(answer).value for answer in answers)
    yes, mass = asked.target > 0, asked.weight
    placed = [placements(answer[asked.at].astype(np.float64), yes, mass) for answer in answers]
    values = _by_user(placed[0] - placed[1], asked.groups[yes], mass[yes])
    values = np.random.default_rng(ours.shop.seed).permutation(values)
    bets = {
        "better": (Bet(0.0, low=-1.0, high=1.0), 1.0),
        "worse": (Bet(0.0, low=-1.0, high=1.0), -1.0),
        "harmless": (Bet(-margin, low=-1.0, high=1.0), 1.0),
    }
    seen = 0
    while seen < len(values):
        block = values[seen : seen + _BLOCK]
        for bet, sign in bets.values():
            bet.update(sign * block)
        seen += len(block)
        if bets["better"][0].rejects(ALPHA) or bets["worse"][0].rejects(ALPHA):
            break
    won = {name: bet.rejects(ALPHA) for name, (bet, _) in bets.items()}
    verdict = next((said for name, said in _SAID if won[name]), "UNDECIDED")
    return Evidence(
        verdict, single, multi, bets["better"][0].interval(ALPHA),
        {name: bet.e_value for name, (bet, _) in bets.items()}, seen, len(values),
    )  # fmt: skip


_SAID: Final = (("better", "HELPS"), ("worse", "HURTS"), ("harmless", "NEUTRAL"))


def placements(scores: Floats, yes: NDArray[np.bool_], mass: Floats) -> Floats:
    """The share of negatives that each positive outranks, ``[n_positives]``; ties count half.

    The mean of these is the AUC (DeLong et al., "Comparing the Areas under Two or More Correlated
    ROC Curves", Biometrics 1988). All arguments are ``[n]``.

    >>> placements(np.array([0.9, 0.4, 0.5, 0.4]), np.array([True, True, False, False]), np.ones(4))
    array([1.  , 0.25])
    """
    order = np.argsort(scores[~yes], kind="stable")
    values = scores[~yes][order]
    below = np.concatenate([[0.0], np.cumsum(mass[~yes][order])])
    ends = [np.searchsorted(values, scores[yes], side=side) for side in ("left", "right")]
    total = below[-1] if below[-1] > 0 else np.nan
    found: Floats = (below[ends[0]] + below[ends[1]]) / (2 * total)
    return found


# ---- the runs -----------------------------------------------------------------------------


class _Runs:
    """Fits under one folder, on the tables of the first; what is finished is not done again."""

    def __init__(self, shop: Shop, folder: Path, progress: Progress) -> None:
        self.shop, self.folder, self.progress = shop, folder, progress
        self.seconds: dict[str, float] = {}

    def fit(self, name: str, variant: Shop, onto: Onto | None = None) -> Path:
        run = self.folder / name
        self.progress("guard", len(self.seconds), 0, name)
        if ended(run, variant) is None:
            first = self.folder / "shared"
            fit(
                variant, run, resume=run.exists(), progress=self.progress,
                like=None if run == first else first, onto=onto,
            )  # fmt: skip
        self.seconds[name] = float(artifact.read_manifest(run)["fit"]["seconds"])
        return run


def _taught(
    runs: _Runs,
    shop: Shop,
    names: list[str],
    base: Path,
    levels: Mapping[str, str],
    largest: float,
) -> Path:
    """The base run with each stage of ``levels`` taught on top of it, one after the other."""
    tasks = {name: {"weight": 0.0, "own": level} for name, level in levels.items()}
    width = {"own_width": _own_width(shop, tasks, base, largest)}
    key = "-".join(f"{names.index(name)}{level}" for name, level in levels.items())
    run = base
    for name in levels:
        variant = varied(shop, model=width, training={"watch": name}, tasks=tasks)
        run = runs.fit(f"own-{key}-{names.index(name)}", variant, Onto(run, name))
    return run


def _own_width(shop: Shop, tasks: Mapping[str, Any], base: Path, largest: float) -> int:
    """The widest rows of their own under which the model has ``largest`` parameters at most."""
    loaded = artifact.load(base, verify=False)
    counts = counts_of(loaded.transform, loaded.store, shop.tasks)
    widest, _, _ = settings_of(shop)[1].widths()
    for width in range(widest, 1, -1):
        variant = varied(shop, model={"own_width": width}, tasks=tasks)
        size = size_of(variant, loaded.transform, counts, settings_of(variant)[1])
        if size <= largest:
            return width
    return 1


def _size(run: Path) -> int:
    return int(artifact.read_manifest(run)["fit"]["parameters"])


# ---- what is told -------------------------------------------------------------------------


def _told(found: Evidence) -> dict[str, Any]:
    return {
        "verdict": found.verdict,
        "single": found.single,
        "multi": found.multi,
        "difference": found.difference,
        "interval": list(found.interval),
        "e_values": dict(found.e_values),
        "n_users": found.n_users,
        "of_users": found.of_users,
    }


def _receipt(
    chosen: Tried,
    tried: list[Tried],
    stages: list[Task],
    margin: float,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """What held-out users say of the chosen model, and under ``steps`` of each that was tried."""
    tasks = {}
    for task in stages:
        found = chosen.found[task.name]
        tasks[task.name] = {
            **_told(found),
            "own": chosen.own.get(task.name, OWN[0]),
            "metric": "auc",
            "given": task.given,  # rows where this happened are the ones that were judged
            "margin": margin,
            "smallest_detectable": None,
            "met": found.difference >= -margin,
            "steps": [
                {
                    "own": each.own.get(task.name, OWN[0]),
                    "apart": list(each.own),
                    "chosen": each is chosen,
                    **_told(each.found[task.name]),
                }
                for each in tried
            ],
        }
    size, shared_size = _size(chosen.run), _size(tried[0].run)
    return {
        "kind": "guard",
        "split": SPLIT,
        "margin": margin,
        "tasks": tasks,
        "cost": {
            "seconds": dict(seconds),
            "parameters": size,
            "parameters_shared": shared_size,
            "memory": size / shared_size,
        },
    }


def _finish(run: Path, chosen: Tried, receipt: Mapping[str, Any]) -> dict[str, Any]:
    """The chosen weights as those of ``run``, with the receipt beside and in the manifest.

    Epochs are those of its base, in which all tasks but those that went were taught.
    """
    artifact.write_document(run / "receipt.json", receipt)
    return adopt(run, chosen.run, {"guard": dict(receipt)}, base=chosen.base)


# ---- rows and users -----------------------------------------------------------------------


def _check(shop: Shop, stages: list[Task], margin: float) -> None:
    if len(stages) < 2:
        raise ConfigError(
            f"{shop.name}: {len(stages)} stage to guard; sharing can hurt where there are two"
        )
    if not 0 < margin < 1:
        raise ConfigError(f"--margin: {margin}; give an AUC between 0 and 1, such as 0.005")
    if refits(shop, settings_of(shop)[0]):
        raise ConfigError("fit.refit: a guarded run is judged by validation; leave one of them out")
    given = [task.name for task in stages if task.own != OWN[0]]
    if given:
        raise ConfigError(f"tasks.{given[0]}.own: the guard decides that; leave it out")


def _answers(run: Artifact) -> Mapping[str, Array]:
    """A run's chances on the split that decides, by the names of `questions`."""
    return answers_of(
        run.model, run.store, run.transform, SPLIT,
        history_length=run.history_length, families={"funnel"},
    )  # fmt: skip


def _by_user(values: Floats, users: Array, mass: Floats) -> Floats:
    """The weighted mean of each user's values, in the order of the users' numbers."""
    _, place = np.unique(users, return_inverse=True)
    found: Floats = np.bincount(place, values * mass) / np.bincount(place, mass)
    return found
