"""What is said of users whose profile is known, to an entry for each column."""

from collections.abc import Callable
from typing import Any

import numpy as np

from daogou.features.store import SPLITS
from daogou.learn.entries.asked import DRAWS, Array, Asked, Entry
from daogou.metrics import (
    auc,
    bootstrap,
    log_loss,
    macro_auc,
    macro_f1,
    mean_absolute_error,
    mean_of,
)
from daogou.model import predict
from daogou.model.heads.profile import Listed, Ordered
from daogou.schema import Task


def profile(asked: Asked, tasks: list[Task]) -> dict[str, Entry]:
    """An entry for each column of users."""
    store, run = asked.store, asked.run
    users = np.flatnonzero(store["users/split"] == SPLITS.index(asked.split))
    head: Any = run.model.heads["profile"]
    scores = predict.profile_scores(run.model, store, users, history_length=run.history_length)
    names = {row: name for name, row in store.user_rows.items()}
    found: dict[str, Entry] = {}
    for place, (task, column) in enumerate(zip(tasks, head.columns, strict=True)):
        distribution, kind = scores[place], head.kinds.get(place)
        if isinstance(kind, Listed):
            held = store["users/many"][users, kind.first : kind.first + distribution.shape[1]]
            found[task.name] = _lists(distribution.astype(np.float64), held, asked.seed)
            continue
        classes = store["users/profile"][users, column].astype(np.int64)
        known = classes >= 0
        actual, given = classes[known], distribution[known].astype(np.float64)
        found[task.name] = _classes(actual, given, asked.seed)
        if isinstance(kind, Ordered):
            found[task.name]["class_distance"] = _class_distance(actual, given, kind)
        if asked.truth is None:
            continue
        column_name = task.name.removeprefix("profile.")
        values, posterior = asked.truth.profile_posterior(
            column_name, [names[row] for row in users[known].tolist()]
        )
        words = list(run.transform.classes(column_name))
        order = [list(values).index(word) for word in words]
        ceiling = _classes(actual, np.asarray(posterior)[:, order], asked.seed)
        found[task.name] |= {f"ceiling_{key}": ceiling[key] for key in ("macro_f1", "auc")}
        found[task.name]["share_of_ceiling"] = found[task.name]["macro_f1"] / ceiling["macro_f1"]
    return found


def _classes(actual: Array, given: Array, seed: int) -> Entry:
    if not len(actual):
        return {"macro_f1": float("nan"), "auc": float("nan"), "n": 0}
    n_classes = given.shape[1]
    said = given.argmax(1)
    users = np.arange(len(actual))

    def interval(statistic: Callable[[Array], float]) -> list[float]:
        return list(bootstrap(statistic, users, n=DRAWS, seed=seed))

    return {
        "macro_f1": macro_f1(said, actual, n_classes),
        "macro_f1_interval": interval(lambda w: macro_f1(said, actual, n_classes, w)),
        "auc": macro_auc(given, actual),
        "auc_interval": interval(lambda w: macro_auc(given, actual, w)),
        "accuracy": float((said == actual).mean()),
        "log_loss": float(-np.log(np.clip(given[users, actual], 1e-7, 1)).mean()),
        "n": len(actual),
    }


def _class_distance(actual: Array, given: Array, kind: Ordered) -> float:
    """Mean number of classes between the answer's median and the truth; NaN without a row."""
    if not len(actual):
        return float("nan")
    median = (given[:, list(kind.order)].cumsum(1) < 0.5).sum(1)
    return mean_absolute_error(
        np.minimum(median, len(kind.order) - 1), np.array(kind.ranks)[actual]
    )


def _lists(given: Array, held: Array, seed: int) -> Entry:
    """What chances ``[U, V]`` of a list's values are judged by: means over its values."""
    known = (held >= 0).any(1)
    p, yes = given[known], held[known] == 1
    if not len(p):
        return {"macro_f1": float("nan"), "auc": float("nan"), "n": 0}
    users = np.arange(len(p))

    def mean_auc(w: Array) -> float:
        return mean_of([auc(p[:, value], yes[:, value], w) for value in range(p.shape[1])])

    def mean_f1(w: Array) -> float:
        said = p >= 0.5
        both = [w @ hits for hits in (said & yes, said, yes)]
        total = both[1] + both[2]
        return mean_of(np.where(total > 0, 2 * both[0] / np.where(total > 0, total, 1), np.nan))

    return {
        "macro_f1": mean_f1(np.ones(len(p))),
        "macro_f1_interval": list(bootstrap(mean_f1, users, n=DRAWS, seed=seed)),
        "auc": mean_auc(np.ones(len(p))),
        "auc_interval": list(bootstrap(mean_auc, users, n=DRAWS, seed=seed)),
        "log_loss": log_loss(p.ravel(), yes.ravel()),
        "n": len(p),
        "positives": int(yes.sum()),
    }
