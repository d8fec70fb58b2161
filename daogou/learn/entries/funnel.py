"""The funnel's chances and amounts on a split to an entry for each task."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from daogou.learn.entries.asked import BINS, DRAWS, Array, Asked, Entry, tensor_of
from daogou.learn.judge import groups_of
from daogou.metrics import (
    auc,
    auc_interval,
    bootstrap,
    calibration_error,
    ceiling_auc,
    gap_closed,
    gauc,
    leak_alarm,
    log_error,
    log_loss,
    mean_absolute_error,
    mean_of,
    ndcg_by_group,
    normalised_gini,
    predicted_over_observed,
    reliability,
    spearman,
    value_ratio,
)
from daogou.model import predict
from daogou.schema import Task

PER_BIN = 8  # rows of the rarer label: of fewer a share says nothing


def funnel(asked: Asked, tasks: list[Task]) -> dict[str, Entry]:
    """An entry for each stage, on all exposures and given the one before, and for the value."""
    store, run = asked.store, asked.run
    first, last = store.ranges[asked.split]
    head: Any = run.model.heads["funnel"]
    scores = predict.funnel_scores(run.model, store, asked.split, history_length=run.history_length)
    columns = ["user", "request", *(["id"] if asked.truth else [])]
    keys = store.exposure_keys(asked.split, columns)
    labels = store["exposures/labels"][first:last][:, head.columns]
    rows = _Exposures(
        labels=labels,
        weight=np.asarray(store["exposures/weight"][first:last], dtype=np.float64),
        users=groups_of(keys["user"]),
        requests=groups_of(keys["request"], keys["user"]),
        grouped=keys["user"].null_count < len(keys) or keys["request"].null_count < len(keys),
        planted=asked.truth.exposures(keys["id"].to_pylist()) if asked.truth else {},
    )
    found: dict[str, Entry] = {}
    conditional_before = head.calibrated.before(tensor_of(scores.conditional.T))
    chances_before = head.chained(conditional_before).numpy().T
    for stage, task in enumerate(tasks):
        if task.is_value:
            found |= values(asked, rows, scores, head.given[stage], task)
            continue
        known = labels[:, stage] >= 0
        chances = scores.chances[:, stage].astype(np.float64)
        found[task.name] = _binary(asked, rows, chances, stage, known, task.name)
        both = chances, chances_before[:, stage]
        found[task.name] |= _reliability(rows, both, stage, known)
        if task.given is not None:
            defined = head.defined(tensor_of(labels), stage).numpy()
            conditional = scores.conditional[:, stage].astype(np.float64)
            # The truth plants a stage's chance given the stage just before it in the funnel.
            stages = run.transform.stages
            planted = stages.index(task.given) == stages.index(task.name) - 1
            name = f"{task.name}_given" if planted else ""
            entry = _binary(asked, rows, conditional, stage, defined, name)
            both = conditional, conditional_before[stage].numpy()
            entry |= _reliability(rows, both, stage, defined)
            found[f"{task.name}|{task.given}"] = entry
    return found


@dataclass(frozen=True)
class _Exposures:
    """What the exposures of a split are judged by."""

    labels: Array
    weight: Array
    users: Array
    requests: Array
    grouped: bool  # whether there is a user or a request to group by
    planted: dict[str, Array]


def _binary(
    asked: Asked, rows: _Exposures, scores: Array, stage: int, known: Array, name: str
) -> Entry:
    p, y, w = scores[known], rows.labels[known, stage] == 1, rows.weight[known]
    users, requests = rows.users[known], rows.requests[known]
    entry: Entry = {
        "auc": auc(p, y, w),
        "auc_interval": list(auc_interval(p, y, users, w, n=DRAWS, seed=asked.seed)),
        "gauc": gauc(p, y, requests, w).value if rows.grouped else float("nan"),
        "ndcg@10": mean_of(ndcg_by_group(p, y, requests, 10)) if rows.grouped else float("nan"),
        "log_loss": log_loss(p, y, w) if len(y) else float("nan"),
        "ece": calibration_error(p, y, w) if len(y) else float("nan"),
        "predicted_over_observed": predicted_over_observed(p, y, w) if len(y) else float("nan"),
        "n": int(known.sum()),
        "positives": int(y.sum()),
    }
    knowable = rows.planted.get(f"k_{name}")
    if knowable is not None:
        k = knowable[known]
        alarm = leak_alarm(p, k, y, users, w, seed=asked.seed)
        entry |= {
            "ceiling_auc": auc(k, y, w),
            "expected_ceiling_auc": ceiling_auc(k, w),
            "gap_closed": gap_closed(entry["auc"], auc(k, y, w)),
            "spearman_true": spearman(p, k),
            "above_ceiling": alarm.difference,
            "above_ceiling_se": alarm.se,
            "leak_alarm": alarm.fires,
        }
    return entry


def _reliability(
    rows: _Exposures, both: tuple[Array, Array], stage: int, known: Array
) -> dict[str, list[list[float]]]:
    """``[mean said, share that came true, weight]`` of a few bins of equal weight.

    Of the chances that are answered, and of those before calibration where it moved them.
    """
    if not known.any():
        return {}
    y, w = rows.labels[known, stage] == 1, rows.weight[known]
    n_bins = min(max(int(min(y.sum(), (~y).sum())) // PER_BIN, 1), BINS)
    found = {}
    for name, chances in zip(("reliability", "reliability_before"), both, strict=True):
        plot = reliability(chances[known].astype(np.float64).clip(0, 1), y, w, n_bins)
        found[name] = np.stack([plot.predicted, plot.observed, plot.weight], 1).tolist()
    if np.allclose(both[0][known], both[1][known], rtol=1e-5, atol=0):
        del found["reliability_before"]
    return found


def values(
    asked: Asked, rows: _Exposures, scores: predict.FunnelScores, before: int, task: Task
) -> dict[str, Entry]:
    """What an amount is judged by: over all exposures, 0 where its stage did not happen."""
    first, last = asked.store.ranges[asked.split]
    value = np.asarray(asked.store["exposures/value"][first:last], dtype=np.float64)
    over_all, given = scores.chances[:, -1], scores.conditional[:, -1]
    if before < 0:
        return {task.name: _amount(asked, rows, over_all, value)}
    happened = rows.labels[:, before]
    everywhere = np.where(happened == 1, value, np.where(happened == 0, 0.0, np.nan))
    judged = _amount(asked, rows, over_all, everywhere)
    del judged["log_rmse"]  # it would compare a value with its chance times it
    return {
        task.name: judged,
        f"{task.name}|{task.given}": _amount(
            asked, rows, given, np.where(happened == 1, value, np.nan)
        ),
    }


def _amount(asked: Asked, rows: _Exposures, predicted: Array, value: Array) -> Entry:
    known = ~np.isnan(value)
    said, actual = predicted[known].astype(np.float64), value[known]
    w, users = rows.weight[known], rows.users[known]
    interval = [float("nan")] * 2
    if len(actual):
        interval = list(
            bootstrap(
                lambda drawn: normalised_gini(said, actual, w * drawn), users, n=DRAWS,
                seed=asked.seed,
            )
        )  # fmt: skip
    return {
        "gini": normalised_gini(said, actual, w),
        "gini_interval": interval,
        "mae": mean_absolute_error(said, actual, w),
        "log_rmse": log_error(said, actual, w),
        "spearman": spearman(said, actual),
        "predicted_over_observed": value_ratio(said, actual, w),
        "mean": mean_of(actual, w),
        "n": int(known.sum()),
        "positives": int((actual > 0).sum()),
    }
