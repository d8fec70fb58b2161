"""A run and what has happened since to what has changed, and whether going on is still enough."""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray

from daogou import artifact
from daogou.artifact import Artifact
from daogou.features.batch import user_rows
from daogou.features.store import Store, compile_store
from daogou.features.text import PADDING, UNKNOWN
from daogou.features.transform import Fields, Transform
from daogou.features.vocab import Vocab
from daogou.learn.settings import settings_of
from daogou.metrics import (
    auc,
    auc_replicates,
    bias_corrected_calibration_error,
    calibration_error,
    holm,
    predicted_over_observed,
    standard_error,
)
from daogou.model import predict
from daogou.model.calibrated import logits_of
from daogou.model.heads.funnel import FunnelHead
from daogou.schema import Shop
from daogou.tables import Seam, engine_for, prepare
from daogou.tables.censor import windowed

Array = NDArray[Any]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

SAME, MOVED, FAR, NOT_KNOWN = "same", "moved", "far", "not known"
REFIT, GO_ON = "refit in full", "go on"
LEVEL: Final = 0.05  # of one false alarm among all lines
MOST_BINS: Final = 20  # of a feature, and one for what is unknown
MOST_ROWS: Final = 200_000  # exposures that are counted, evenly spread
LEAST: Final = 20  # of the rarer label, to say anything of a stage
DRAWS: Final = 200
_SURE: Final = 1.96
_STEPS: Final = 50
_HOUR_US: Final = 3_600_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OTHER, _UNKNOWN = "other", "unknown"
_RATE: Final = ("no", "yes")
DRIFT: Final = "drift.json"  # beside a run that went on from another, what it was begun upon
# By kind, the change from which a line has moved, and from which going on does not mend it.
BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "feature": (0.1, 0.25),  # population stability index beyond its noise
    "unknown": (0.05, math.inf),  # share: new values get rows of their own
    "rate": (math.log(1.1), math.inf),  # logarithm of the ratio: going on learns it
    "slope": (math.log(1.1), math.inf),  # logarithm of the calibration's: it is made anew
    "auc": (0.005, 0.02),  # lost since the run's own test
}


@dataclass(frozen=True)
class Shares:
    """How some rows fall into ``bins``: shares ``[K]`` and their covariance ``[K, K]`` by luck."""

    bins: tuple[str, ...]
    share: Floats
    covariance: Floats
    n: int

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Shares":
        """The shares of a document made of them."""
        share, covariance = (  # an undefined number was written as null
            np.asarray(document[key], dtype=np.float64) for key in ("share", "covariance")
        )
        return Shares(tuple(document["bins"]), share, covariance, int(document["n"]))

    def to_json(self) -> dict[str, Any]:
        """A document from which `from_json` makes equal shares."""
        return {
            "bins": list(self.bins),
            "share": self.share.tolist(),
            "covariance": self.covariance.tolist(),
            "n": self.n,
        }


def shares_of(
    bins: Sequence[str], place: Rows, groups: Rows, weight: Floats | None = None
) -> Shares:
    """How rows at ``place [n]`` of the bins fall, drawn by whole ``groups [n]``, with ``weight``.

    The covariance is that of a ratio of sums over independent groups, by linearisation.

    >>> found = shares_of(("no", "yes"), np.array([0, 1, 0, 0]), np.array([0, 1, 2, 3]))
    >>> found.share.tolist(), round(float(found.covariance[1, 1]), 4)  # 1/4 * 3/4 / 3
    ([0.75, 0.25], 0.0625)
    """
    mass = np.ones(len(place)) if weight is None else weight
    if not len(place) or not mass.sum():
        nothing = np.full(len(bins), np.nan)
        return Shares(tuple(bins), nothing, np.outer(nothing, nothing), 0)
    codes = np.unique(groups, return_inverse=True)[1]
    n_groups, n_bins = int(codes.max()) + 1, len(bins)
    flat = np.bincount(codes * n_bins + place, mass, n_groups * n_bins)
    counts = flat.reshape(n_groups, n_bins) / mass.sum()
    share = counts.sum(0)
    apart = counts - counts.sum(1, keepdims=True) * share
    luck = n_groups / (n_groups - 1) if n_groups > 1 else math.nan
    return Shares(tuple(bins), share, luck * apart.T @ apart, len(place))


@dataclass(frozen=True)
class Moved:
    """How far shares are from earlier ones: ``index``, what of it is noise, and a p value."""

    index: float
    noise: float
    p: float


def moved(before: Shares, now: Shares) -> Moved:
    """The population stability index of two independent draws, ``sum (q - p) ln (q / p)``.

    Each bin counts half a row more, so that the index is finite. Without a change it is luck
    alone: to first order a quadratic form in the shares' differences, whose mean is ``noise`` and
    whose law is nearly that of a scaled chi square (Rao & Scott, "The Analysis of Categorical Data
    from Complex Sample Surveys", 1981, with Satterthwaite's degrees of freedom), the cube root of
    which is nearly normal (Wilson & Hilferty, 1931). Rows of one user are so taken for what they
    are, not for as many witnesses.
    """
    if not before.n or not now.n:
        return Moved(math.nan, math.nan, math.nan)
    p, q = ((each.share * each.n + 0.5) / (each.n + 0.5 * len(each.bins)) for each in (before, now))
    index = float(((q - p) * np.log(q / p)).sum())
    middle = (before.share + now.share) / 2
    there = middle > 0
    apart = (now.share - before.share)[there]
    both = (before.covariance + now.covariance)[np.ix_(there, there)]
    scaled = both / np.sqrt(np.outer(middle[there], middle[there]))
    noise, square = float(np.trace(scaled)), float((scaled**2).sum())
    if not noise > 0:
        return Moved(index, noise, math.nan if math.isnan(noise) else float(not apart.any()))
    found, freedom = float((apart**2 / middle[there]).sum()), noise**2 / square
    ninth = 2 / (9 * freedom)
    normal = ((found / noise) ** (1 / 3) - (1 - ninth)) / math.sqrt(ninth)
    return Moved(index, noise, _above(normal))


def _above(normal: float) -> float:
    return math.erfc(normal / math.sqrt(2)) / 2


@dataclass(frozen=True)
class Line:
    """One thing that may have changed: by how much, and how sure that is."""

    kind: str  # one of `BOUNDS`
    name: str
    change: float  # on the scale of `BOUNDS`
    p: float
    told: Mapping[str, Any]


def judged(lines: Sequence[Line]) -> list[str]:
    """A verdict for each line, with at most `LEVEL` chance of a false alarm among all (Holm).

    What is surely no luck has `MOVED` if it is at least the first of its `BOUNDS`, and is `FAR`
    from the second on.
    """
    found = []
    for line, p in zip(lines, holm([line.p for line in lines]).tolist(), strict=True):
        little, much = BOUNDS[line.kind]
        if math.isnan(p) or math.isnan(line.change):
            found.append(NOT_KNOWN)
        elif p > LEVEL or line.change < little:
            found.append(SAME)
        else:
            found.append(FAR if line.change >= much else MOVED)
    return found


def drift(run: Artifact, shop: Shop, seam: Seam) -> dict[str, Any]:
    """What has changed in the log of ``shop`` since a run, told in lines with verdicts.

    Of each column, what the exposures after the run's log say, against the training exposures of
    the last fit in full; of each stage its rate, and of the run's answers their calibration and
    AUC, over the exposures whose label was not known at the end of its log, against its own test
    split. `REFIT` is the verdict if some line is `FAR`, else `GO_ON`.
    """
    before, limit = reference(run), settings_of(shop)[0].memory_limit
    with (
        tempfile.TemporaryDirectory(prefix="daogou-") as folder,
        engine_for(shop, memory_limit=limit) as engine,
    ):
        prepare(engine, shop, seam=replace(seam, judged=True, events=()))
        store = compile_store(engine, shop, run.transform, Path(folder) / "store")
        since = Since(replace(store, taught=run.store), shop, seam)
        lines = [*_columns(run, since, before), *_answers(run, since, before)]
        n = len(since.rows())
    verdicts = judged(lines)
    return {
        "shop": shop.name,
        "run": str(run.folder),
        "since": seam.end,
        "n": n,
        "verdict": REFIT if FAR in verdicts else GO_ON,
        "lines": [
            {"kind": line.kind, "name": line.name, "change": line.change, "p": line.p, **line.told}
            | {"verdict": verdict}
            for line, verdict in zip(lines, verdicts, strict=True)
        ],
        "bounds": {kind: list(pair) for kind, pair in BOUNDS.items()},
        "reference": {name: each.to_json() for name, each in before.items()},
    }


def reference(run: Artifact) -> dict[str, Shares]:
    """What a run is compared with: its own fit, or the one in full that it went on from."""
    kept = artifact.read_document(run.folder / DRIFT)
    if kept is not None:
        return {name: Shares.from_json(each) for name, each in kept["reference"].items()}
    train, test = (np.arange(*run.store.ranges[split]) for split in ("train", "test"))
    return {
        **summary(run.store, run.transform, train),
        **unknown(run.store, run.transform, test),
        **rates(run.store, run.shop, run.transform),
    }


@dataclass(frozen=True)
class Since:
    """The exposures after a run, all in the test split, and before them those of open labels."""

    store: Store
    shop: Shop
    seam: Seam

    def rows(self, stage: str | None = None) -> Rows:
        """Exposures after the run's log, or those whose label of a stage it could not know."""
        events = self.shop.events
        assert events is not None
        hours = events.window_of(stage) if stage in windowed(events) and stage else 0.0
        end = datetime.fromisoformat(self.seam.end).replace(tzinfo=UTC)
        from_us = round((end - _EPOCH) / timedelta(microseconds=1) - hours * _HOUR_US)
        return np.flatnonzero(np.asarray(self.store["exposures/time"]) > from_us)


# ---- columns --------------------------------------------------------------------------


def summary(
    store: Store,
    transform: Transform,
    rows: Rows,
    bins: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, Shares]:
    """How exposures, ``rows``, fall into the values of each column.

    The bins are those given, or the most frequent values, the rest, and what is unknown.
    """
    rows = _some(rows)
    user, item = user_rows(store, rows), np.asarray(store["exposures/item"])[rows]
    groups = _groups(user, rows)
    found = {}
    for kind, fields, at in (
        ("items", transform.items, ("items/fields", item)),
        ("users", transform.users, ("users/fields", user)),
        ("events.context", transform.context, ("exposures/fields", rows)),
    ):
        values = np.asarray(store[at[0]][at[1]])
        for place, (name, offset) in enumerate(zip(fields.names, fields.offsets, strict=True)):
            labels, of_row = _labels(fields, place), values[:, place] - offset
            key = f"feature {kind}.{name}"
            chosen = bins[key] if bins is not None else _frequent(labels, of_row)
            numbers = {label: number for number, label in enumerate(chosen)}
            lut = np.array([numbers.get(label, numbers[_OTHER]) for label in labels])
            found[key] = shares_of(chosen, lut[of_row], groups)
    return found


def _labels(fields: Fields, place: int) -> list[str]:
    """What each row of a column's coder is called, wherever it stands."""
    coder = fields.coders[place]
    if isinstance(coder, Vocab):
        return [_UNKNOWN, *(f"={word}" for word in coder.words)]
    n = coder.n_rows - 1  # neighbouring buckets together, so that there are few
    return [_UNKNOWN, *(f"#{bucket * min(n, MOST_BINS) // n}" for bucket in range(n))]


def _frequent(labels: Sequence[str], rows: Rows) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for label, n in zip(labels, np.bincount(rows, minlength=len(labels)).tolist(), strict=True):
        counts[label] = counts.get(label, 0) + n
    del counts[_UNKNOWN]
    most = sorted(counts, key=lambda label: (-counts[label], label))[:MOST_BINS]
    return (_UNKNOWN, *most, _OTHER)


def unknown(store: Store, transform: Transform, rows: Rows) -> dict[str, Shares]:
    """How many of the exposures, ``rows``, are of ids and words that no row is of."""
    rows = _some(rows)
    user, item = user_rows(store, rows), np.asarray(store["exposures/item"])[rows]
    groups, names = _groups(user, rows), ("known", _UNKNOWN)
    found = {}
    for kind, row in (("users", user), ("items", item)):
        named = row > 0
        if named.any():
            ids = np.asarray(store[f"{kind}/id"])[row[named]]
            found[f"unknown {kind}"] = shares_of(names, (ids == 0).astype(int), groups[named])
    if transform.text is not None:
        words = np.asarray(store["texts/tokens"])[..., 0][np.asarray(store["items/text"])[item]]
        missing = (words == UNKNOWN).sum(1)
        mass = np.concatenate([(words != PADDING).sum(1) - missing, missing]).astype(float)
        place = np.repeat([0, 1], len(rows))
        found["unknown words"] = shares_of(names, place, np.tile(groups, 2), mass)
    return found


def _some(rows: Rows) -> Rows:
    return rows[:: -(-len(rows) // MOST_ROWS) or 1]


def _groups(user: Rows, rows: Rows) -> Rows:
    """Whose each exposure is; nobody's is a group by itself."""
    return np.where(user > 0, user, -1 - rows)


def _columns(run: Artifact, since: Since, before: Mapping[str, Shares]) -> Iterator[Line]:
    bins = {name: each.bins for name, each in before.items()}
    rows = since.rows()
    for name, now in summary(since.store, run.transform, rows, bins).items():
        found = moved(before[name], now)
        both = [float(each.share[0]) for each in (before[name], now)]
        told: dict[str, Any] = {"index": found.index, "noise": found.noise, "n": now.n}
        told["unknown"] = both
        yield Line("feature", name.split(" ", 1)[1], found.index - found.noise, found.p, told)
    for name, now in unknown(since.store, run.transform, rows).items():
        then = before.get(name, Shares(now.bins, *_nothing(2), 0))
        change = float(now.share[1] - then.share[1])
        se = math.sqrt(now.covariance[1, 1] + then.covariance[1, 1])
        told = {"before": float(then.share[1]), "now": float(now.share[1]), "n": len(rows)}
        told["interval"] = [change - _SURE * se, change + _SURE * se]
        yield Line("unknown", name.split(" ", 1)[1], change, _above(_in_se(change, se)), told)


def _nothing(n: int) -> tuple[Floats, Floats]:
    return np.full(n, np.nan), np.full((n, n), np.nan)


def _in_se(change: float, se: float) -> float:
    if se == 0:
        return math.copysign(math.inf, change) if change else 0.0
    return change / se


# ---- answers --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Answers:
    """Chances ``[n]`` of one stage, whether it happened, weights and whose."""

    chance: Floats
    happened: NDArray[np.bool_]
    weight: Floats
    groups: Rows

    @property
    def tells(self) -> bool:
        """Whether both outcomes are often enough, and of enough users, to say anything."""
        rarer = min(int(self.happened.sum()), int((~self.happened).sum()))
        return rarer >= LEAST and len(np.unique(self.groups)) > 1


def _answers(run: Artifact, since: Since, before: Mapping[str, Shares]) -> Iterator[Line]:
    if "funnel" not in run.model.heads:
        return
    head = cast(FunnelHead, run.model.heads["funnel"])
    of = []
    for store in (run.store, since.store):
        scores = predict.funnel_scores(run.model, store, "test", history_length=run.history_length)
        of.append((store, scores.chances))
    stages = [task for task in run.shop.of_family("funnel") if not task.is_value]
    for place, task in enumerate(stages):
        column, first = head.columns[place], since.rows(task.name)
        then = _of_stage(*of[0], place, column, np.arange(*run.store.ranges["test"]))
        now = _of_stage(*of[1], place, column, first)
        yield _rate(task.name, before[f"rate {task.name}"], now)
        yield _slope(task.name, now)
        yield _lost(task.name, then, now, run.shop.seed)


def _of_stage(store: Store, chances: Array, place: int, column: int, rows: Rows) -> _Answers:
    first, _ = store.ranges["test"]
    label = np.asarray(store["exposures/labels"])[rows, column]
    rows, label = rows[label >= 0], label[label >= 0]
    weight = np.asarray(store["exposures/weight"], dtype=np.float64)[rows]
    chance = chances[rows - first, place].astype(np.float64).clip(0, 1)
    return _Answers(chance, label == 1, weight, _groups(user_rows(store, rows), rows))


def rates(store: Store, shop: Shop, transform: Transform) -> dict[str, Shares]:
    """How often each stage was reached by the training exposures where that is known."""
    rows = np.arange(*store.ranges["train"])
    found = {}
    for task in shop.of_family("funnel"):
        if task.is_value:
            continue
        label = np.asarray(store["exposures/labels"])[rows, transform.stages.index(task.name)]
        at = rows[label >= 0]
        groups = _groups(user_rows(store, at), at)
        weight = np.asarray(store["exposures/weight"], dtype=np.float64)[at]
        found[f"rate {task.name}"] = shares_of(_RATE, label[label >= 0].astype(int), groups, weight)
    return found


def _rate(name: str, before: Shares, said: _Answers) -> Line:
    now = shares_of(_RATE, said.happened.astype(int), said.groups, said.weight)
    p, q = float(before.share[1]), float(now.share[1])
    told: dict[str, Any] = {"before": p, "now": q, "n": now.n}
    if not said.tells or not p > 0:
        return Line("rate", name, math.nan, math.nan, told)
    se = math.sqrt(before.covariance[1, 1] / p**2 + now.covariance[1, 1] / q**2)
    ratio = math.log(q / p)
    told |= {"ratio": q / p}
    told["interval"] = [math.exp(ratio - _SURE * se), math.exp(ratio + _SURE * se)]
    return Line("rate", name, abs(ratio), moved(before, now).p, told)


def _slope(name: str, said: _Answers) -> Line:
    """How the logits of what was said must be stretched to come true; 1 = they are as they are."""
    told: dict[str, Any] = {"n": len(said.chance), "positives": int(said.happened.sum())}
    if not said.tells:
        return Line("slope", name, math.nan, math.nan, told)
    logits = logits_of(torch.from_numpy(said.chance)).numpy()
    (slope, intercept), covariance = line_through(logits, said.happened, said.weight, said.groups)
    se, se_of_intercept = np.sqrt(np.diag(covariance)).tolist()
    given = said.chance, said.happened, said.weight
    told |= {
        "slope": slope,
        "interval": [slope - _SURE * se, slope + _SURE * se],
        "intercept": intercept,
        "intercept_interval": [
            intercept - _SURE * se_of_intercept, intercept + _SURE * se_of_intercept
        ],
        "ece": calibration_error(*given),
        "ece_beyond_noise": bias_corrected_calibration_error(*given),
        "predicted_over_observed": predicted_over_observed(*given),
    }  # fmt: skip
    change = abs(math.log(slope)) if slope > 0 else math.inf
    return Line("slope", name, change, min(2 * _above(abs(_in_se(slope - 1, se))), 1.0), told)


def line_through(
    logits: Floats, happened: NDArray[np.bool_], weight: Floats, groups: Rows
) -> tuple[tuple[float, float], Floats]:
    """Slope and intercept under which labels are likeliest, and their covariance ``[2, 2]``.

    Newton's method; the covariance is the sandwich of independent groups (Liang & Zeger,
    "Longitudinal Data Analysis Using Generalized Linear Models", 1986).
    """
    x = np.stack([logits, np.ones_like(logits)], axis=1)
    at = np.array([1.0, 0.0])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-(x @ at)))
        curvature = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, x.T @ (weight * (happened - p)))
        at = at + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < 1e-8:
            break
    codes = np.unique(groups, return_inverse=True)[1]
    pulls = x * (weight * (happened - 1 / (1 + np.exp(-(x @ at)))))[:, None]
    of_group = np.stack([np.bincount(codes, pull) for pull in pulls.T], axis=1)
    bread = np.linalg.inv(curvature)
    covariance = np.asarray(bread @ of_group.T @ of_group @ bread, dtype=np.float64)
    return (float(at[0]), float(at[1])), covariance


def _lost(name: str, then: _Answers, now: _Answers, seed: int) -> Line:
    """How much lower the AUC is than on the run's own test split."""
    values, errors = [], []
    for each in (then, now):
        given = each.chance, each.happened
        values.append(auc(*given, each.weight) if each.tells else math.nan)
        draws = auc_replicates(*given, each.groups, each.weight, n=DRAWS, seed=seed)
        errors.append(standard_error(draws) if each.tells else math.nan)
    se, change = math.hypot(*errors), values[0] - values[1]
    told: dict[str, Any] = {"before": values[0], "now": values[1], "n": len(now.chance)}
    told["interval"] = [change - _SURE * se, change + _SURE * se]
    p = math.nan if math.isnan(change + se) else _above(_in_se(change, se))
    return Line("auc", name, change, p, told)
