"""A run and a split to the report: one entry per task, exact, with intervals, never pooled."""

import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from daogou.artifact import Artifact
from daogou.errors import DataError, unknown
from daogou.features.store import SPLITS, Store, compile_store
from daogou.features.tokens import Span
from daogou.learn.judge import gold_spans, groups_of, said_spans, truth_of
from daogou.learn.returning import judge_returning
from daogou.metrics import (
    auc,
    auc_interval,
    bootstrap,
    calibration_error,
    ceiling_auc,
    f1_of,
    fit_ranks,
    gap_closed,
    gauc,
    leak_alarm,
    log_error,
    log_loss,
    macro_auc,
    macro_f1,
    mean_absolute_error,
    mean_of,
    ndcg_by_group,
    normalised_gini,
    predicted_over_observed,
    reliability,
    span_f1,
    spearman,
    value_f1,
    value_ratio,
)
from daogou.model import predict
from daogou.model.heads.profile import Listed, Ordered
from daogou.schema import Shop, Task
from daogou.tables import engine_for, prepare
from daogou.tables.truth import Truth

Array = NDArray[Any]
Entry = dict[str, Any]
DRAWS = 200  # of users, for each interval
BINS = 10  # of a calibration curve, at most
PER_BIN = 8  # rows of the rarer label: of fewer a share says nothing


@dataclass(frozen=True)
class Asked:
    """A run, the split that is judged, and what a simulated shop planted."""

    run: Artifact
    split: str
    truth: Truth | None
    seed: int

    @property
    def store(self) -> Store:
        """The arrays that are judged."""
        return self.run.store


def evaluate(run: Artifact, *, split: str = "test", data: Shop | None = None) -> dict[str, Any]:
    """The report of a split: ``{"split": ..., "tasks": {name: {metric: value}}}``.

    ``data`` judges the run on another shop's tables, through the run's own transform. Intervals
    are 95 % and draw whole users. A stage with a condition is reported twice: over all exposures
    under its name, and where it is defined as ``stage|given``. Undefined numbers are NaN here and
    null in JSON. ``returning`` says of the test how well the next purchase was foretold.
    """
    if split not in SPLITS:
        raise DataError(f"split: {unknown(split, SPLITS)}")
    if split == "validation" and run.refit and (data is None or _tables(data) == _tables(run.shop)):
        raise DataError(
            f"{run.folder}: its validation rows taught it in the end (fit.refit), what they "
            "said before is in its manifest's fit.validation: ask for --split test"
        )
    if data is None:
        return _report(run, split)
    with tempfile.TemporaryDirectory(prefix="daogou-") as folder, engine_for(data) as engine:
        prepare(engine, data)
        store = compile_store(engine, data, run.transform, Path(folder) / "store")
        store = replace(store, taught=run.store)
        return _report(replace(run, store=store, shop=data), split)


def _tables(shop: Shop) -> list[Path | None]:
    """Where a shop's tables lie."""
    tables = (shop.items, shop.users, shop.events)
    return [(shop.root / each.path).resolve() if each else None for each in tables]


def _report(run: Artifact, split: str) -> dict[str, Any]:
    asked = Asked(run, split, truth_of(run.shop), run.shop.seed)
    tasks: dict[str, Entry] = {}
    by_family: dict[str, list[Task]] = {}
    for task in run.model.tasks:
        by_family.setdefault(task.family, []).append(task)
    for family, members in by_family.items():
        tasks |= _FAMILIES[family](asked, members)
    report: dict[str, Any] = {"split": split, "tasks": tasks}
    if run.returning is not None and split == "test":
        report["returning"] = judge_returning(
            run.returning, run.store, run.transform,
            history_length=run.history_length, seed=run.shop.seed,
        )  # fmt: skip
    return report


# ---- funnel ---------------------------------------------------------------------------


def _funnel(asked: Asked, tasks: list[Task]) -> dict[str, Entry]:
    store, run = asked.store, asked.run
    first, last = store.ranges[asked.split]
    head: Any = run.model.heads["funnel"]
    scores = predict.funnel_scores(run.model, store, asked.split, history_length=run.history_length)
    keys = store.exposure_keys(asked.split)
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
    conditional_before = head.calibrated.before(_tensor(scores.conditional.T))
    chances_before = head.chained(conditional_before).numpy().T
    for stage, task in enumerate(tasks):
        if task.is_value:
            found |= _values(asked, rows, scores, head.given[stage], task)
            continue
        known = labels[:, stage] >= 0
        chances = scores.chances[:, stage].astype(np.float64)
        found[task.name] = _binary(asked, rows, chances, stage, known, task.name)
        both = chances, chances_before[:, stage]
        found[task.name] |= _reliability(rows, both, stage, known)
        if task.given is not None:
            defined = head.defined(_tensor(labels), stage).numpy()
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


def _values(
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


# ---- match ----------------------------------------------------------------------------


def _match(asked: Asked, tasks: list[Task]) -> dict[str, Entry]:
    store, run = asked.store, asked.run
    queries, relevant = predict.first_queries(store, asked.split)
    wanted = [items - 1 for items in relevant]  # scores start at row 1
    blocks = predict.match_scores(run.model, store, queries, history_length=run.history_length)
    entry = _ranked(blocks, wanted, asked.seed)
    if asked.truth is not None and len(wanted):
        names = {row: name for name, row in store.user_rows.items()}
        oracle = asked.truth.match_scores([names[row] for row in queries.user.tolist()])
        place = {name: j for j, name in enumerate(asked.truth.item_ids)}
        order = [place[name] for name in store.item_keys[1:]]
        ceiling = _ranked(iter([oracle[:, order]]), wanted, asked.seed)
        entry |= {f"ceiling_{name}": ceiling[name] for name in ("recall@50", "ndcg@20")}
        entry["share_of_ceiling"] = entry["recall@50"] / ceiling["recall@50"]
    return {tasks[0].name: entry}


def _ranked(blocks: Any, wanted: list[Array], seed: int) -> Entry:
    if not wanted:
        return {"recall@50": float("nan"), "ndcg@20": float("nan"), "n": 0}
    ranks = fit_ranks(blocks, wanted)
    entry: Entry = {}
    for name, values in (
        ("recall@20", ranks.recall_at(20)),
        ("recall@50", ranks.recall_at(50)),
        ("ndcg@20", ranks.ndcg_at(20)),
    ):
        entry[name] = mean_of(values)
        entry[f"{name}_interval"] = _mean_interval(values, seed)
    return entry | {"n": len(wanted), "positives": int(sum(map(len, wanted)))}


def _mean_interval(values: Array, seed: int) -> list[float]:
    users = np.arange(len(values))
    return list(bootstrap(lambda w: mean_of(values, w), users, n=DRAWS, seed=seed))


# ---- profile --------------------------------------------------------------------------


def _profile(asked: Asked, tasks: list[Task]) -> dict[str, Entry]:
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


# ---- extract --------------------------------------------------------------------------


def _extract(asked: Asked, tasks: list[Task]) -> dict[str, Entry]:
    store, run = asked.store, asked.run
    titles = np.flatnonzero(store["titles/split"] == SPLITS.index(asked.split))
    texts = store.titles["text"].take(titles).to_pylist()
    gold, annotated = gold_spans(store, titles)
    sure = said_spans(run.model, store, run.transform, titles)
    said = [[span[:3] for span in spans] for spans in sure]
    spans_found = span_f1(said, gold, annotated)
    values_found = value_f1(said, gold, texts, annotated)
    numbers = np.arange(len(texts))
    interval = (
        list(bootstrap(lambda w: f1_of(spans_found.by_text, w), numbers, n=DRAWS, seed=asked.seed))
        if len(texts) > 1
        else [float("nan")] * 2
    )
    entry: Entry = {
        "f1": spans_found.f1,
        "f1_interval": interval,
        "precision": spans_found.precision,
        "recall": spans_found.recall,
        "value_f1": values_found.f1,
        **confidence(sure, gold, annotated),
        "by_attribute": {
            name: {
                "f1": one.f1,
                "gold": one.gold,
                "predicted": one.predicted,
                "correct": one.correct,
            }
            for name, one in spans_found.by_attribute.items()
        },
        "n": len(texts),
        "gold": spans_found.gold,
        "predicted": spans_found.predicted,
        "correct": spans_found.correct,
        "from_columns": not (run.shop.items and run.shop.items.spans),
        **_read_values(asked, titles),
        "value_counts": [values_found.correct, values_found.predicted, values_found.gold],
    }
    return {tasks[0].name: entry}


def _read_values(asked: Asked, titles: Array) -> Entry:
    """How the attributes that are read as classes are judged, by attribute."""
    found: Entry = {}
    store, names = asked.store, asked.run.transform.values.names
    for place, chances in enumerate(predict.title_values(asked.run.model, store, titles)):
        actual = np.asarray(store["titles/values"][titles, place], dtype=np.int64)
        known = actual >= 0
        if known.any():
            said, actual, n = chances[known].argmax(1), actual[known], chances.shape[1]
            found[names[place]] = {
                "macro_f1": macro_f1(said, actual, n),
                "accuracy": float((said == actual).mean()),
                "ece": calibration_error(chances[known].max(1).clip(0, 1), said == actual),
                "n": int(known.sum()),
            }
    return {"values": found} if found else {}


def confidence(
    said: Sequence[Sequence[tuple[int, int, str, float]]],
    gold: Sequence[Sequence[Span]],
    annotated: Sequence[Collection[str] | None],
) -> Entry:
    """How far the confidence of a span is the chance that it is right."""
    chances: list[float] = []
    right: list[bool] = []
    for spans, true, names in zip(said, gold, annotated, strict=True):
        for *span, chance in spans:
            if span[2] in (names or ()):
                chances.append(chance)
                right.append(tuple(span) in set(true))
    if not chances:
        return {"ece": float("nan")}
    return {
        "ece": calibration_error(chances, right),
        "log_loss": log_loss(chances, right),
    }


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


_FAMILIES: dict[str, Callable[[Asked, list[Task]], dict[str, Entry]]] = {
    "funnel": _funnel,
    "match": _match,
    "profile": _profile,
    "extract": _extract,
}
