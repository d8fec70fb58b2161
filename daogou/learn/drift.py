"""A run and what has happened since to what has changed, and whether going on is still enough."""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from daogou import artifact
from daogou.artifact import Artifact
from daogou.features.store.compile import compile_store
from daogou.learn.aging import lost, of_stage, rate, rates, slope
from daogou.learn.settings import settings_of
from daogou.learn.shares import Floats, Shares, chance_above, moved, summary, unknown
from daogou.learn.since import SURE, Line, Since, in_se
from daogou.metrics import holm
from daogou.model import predict
from daogou.model.heads.funnel import FunnelHead
from daogou.schema import Shop
from daogou.tables import Seam, engine_for, prepare

SAME, MOVED, FAR, NOT_KNOWN = "same", "moved", "far", "not known"

REFIT, GO_ON = "refit in full", "go on"

LEVEL: Final = 0.05  # of one false alarm among all lines


DRIFT: Final = "drift.json"  # beside a run that went on from another, what it was begun upon

# By kind, the change from which a line has moved, and from which going on does not mend it.
BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "feature": (0.1, 0.25),  # population stability index beyond its noise
    "unknown": (0.05, math.inf),  # share: new values get rows of their own
    "rate": (math.log(1.1), math.inf),  # logarithm of the ratio: going on learns it
    "slope": (math.log(1.1), math.inf),  # logarithm of the calibration's: it is made anew
    "auc": (0.005, 0.02),  # lost since the run's own test
}


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
        told["interval"] = [change - SURE * se, change + SURE * se]
        yield Line("unknown", name.split(" ", 1)[1], change, chance_above(in_se(change, se)), told)


def _nothing(n: int) -> tuple[Floats, Floats]:
    return np.full(n, np.nan), np.full((n, n), np.nan)


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
        then = of_stage(*of[0], place, column, np.arange(*run.store.ranges["test"]))
        now = of_stage(*of[1], place, column, first)
        yield rate(task.name, before[f"rate {task.name}"], now)
        yield slope(task.name, now)
        yield lost(task.name, then, now, run.shop.seed)
