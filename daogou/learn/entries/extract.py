"""Spans and values that are read from titles, to the entry of extraction."""

from collections.abc import Collection, Sequence

import numpy as np

from daogou.features.store import SPLITS
from daogou.features.tokens import Span
from daogou.learn.answers import said_spans
from daogou.learn.entries.asked import DRAWS, Array, Asked, Entry
from daogou.learn.judge import gold_spans
from daogou.metrics import (
    bootstrap,
    calibration_error,
    f1_of,
    log_loss,
    macro_f1,
    span_f1,
    value_f1,
)
from daogou.model import predict
from daogou.schema import Task


def extract(asked: Asked, tasks: list[Task]) -> dict[str, Entry]:
    """The entry of extraction."""
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
