"""A model, or another method, and a split to its answers to what is asked there."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import numpy as np

from daogou.features.store import SPLITS, Store
from daogou.features.tags import spans_of
from daogou.features.tokens import tokenise
from daogou.features.transform import Transform
from daogou.learn.judge import Answers, Array, Rows, chain_of, gold_spans, recalls
from daogou.metrics import span_f1
from daogou.model import predict
from daogou.model.heads.extract import ExtractHead
from daogou.model.joint import JointModel
from daogou.schema import Shop, Task


def answers_of(
    model: JointModel,
    store: Store,
    transform: Transform,
    split: str,
    *,
    history_length: int,
    families: Collection[str] | None = None,
) -> dict[str, Array]:
    """A model's answers to the `questions` about its own tasks, by their names.

    Chances ``[n]`` of the split's exposures, recalls of its users, distributions ``[U, V]`` and
    counts ``[G, 3]`` of titles, as `Question.judge` takes them. ``families`` are those that are
    asked, None = all.
    """
    found: dict[str, Array] = {}
    by_family: dict[str, list[Task]] = {}
    for task in model.tasks:
        if families is None or task.family in families:
            by_family.setdefault(task.family, []).append(task)
    for family, tasks in by_family.items():
        names = [task.name for task in tasks]
        if family == "funnel":
            said = predict.funnel_scores(model, store, split, history_length=history_length)
            for place, task in enumerate(tasks):
                found[task.name] = said.chances[:, place]
                if task.given in names:
                    found[f"{task.name}|{task.given}"] = said.conditional[:, place]
        elif family == "match":
            queries, relevant = predict.first_queries(store, split)
            blocks = predict.match_scores(model, store, queries, history_length=history_length)
            found[names[0]] = recalls(blocks, relevant)
        elif family == "profile":
            users = np.flatnonzero(store["users/split"] == SPLITS.index(split))
            said_of = predict.profile_scores(model, store, users, history_length=history_length)
            found |= dict(zip(names, said_of, strict=True))
        else:
            found[names[0]] = _span_counts(model, store, transform, split)
    return found


def answers_from(said: Mapping[str, Any], shop: Shop, store: Store, split: str) -> dict[str, Array]:
    """What another method said as answers: scores of the catalogue become recalls, spans counts.

    ``said`` is as `daogou.learn.rivals` has it.
    """
    family = {task.name: task.family for task in shop.tasks}
    found: dict[str, Array] = {}
    for name, each in said.items():
        kind = family.get(name, "funnel")  # a stage|given is no task's name
        if kind == "match":
            found[name] = recalls(each, predict.first_queries(store, split)[1])
        elif kind == "extract":
            titles = np.flatnonzero(store["titles/split"] == SPLITS.index(split))
            gold, annotated = gold_spans(store, titles)
            found[name] = span_f1(each, gold, annotated).by_text
        else:
            found[name] = np.asarray(each)
    return found


def chained(tasks: Sequence[Task], answers: Answers) -> dict[str, Array]:
    """Chances over all exposures from those of each stage given the one before it, multiplied.

    ``answers`` have each stage's chance under ``stage|given``, or its name if it is given none.
    """
    found = dict(answers)
    for task in tasks:
        chain = [name for name in reversed(chain_of(tasks, task.name))] + [task.name]
        if task.family != "funnel" or len(chain) == 1:
            continue
        keys = [
            chain[0],
            *(f"{name}|{before}" for before, name in itertools.pairwise(chain)),
        ]
        if all(key in answers for key in keys):
            found[task.name] = np.prod([answers[key] for key in keys], axis=0)
    return found


def _span_counts(model: JointModel, store: Store, transform: Transform, split: str) -> Rows:
    titles = np.flatnonzero(store["titles/split"] == SPLITS.index(split))
    gold, annotated = gold_spans(store, titles)
    said = [[span[:3] for span in spans] for spans in said_spans(model, store, transform, titles)]
    return span_f1(said, gold, annotated).by_text


def said_spans(
    model: JointModel, store: Store, transform: Transform, titles: Rows
) -> list[list[tuple[int, int, str, float]]]:
    """The spans that a model finds in each of these titles, with how sure it is."""
    head = cast(ExtractHead, model.heads["extract"])
    texts = store.titles["text"].take(titles).to_pylist()
    said: list[list[tuple[int, int, str, float]]] = []
    for rows, tags, sure in predict.title_tags(model, store, titles):
        for i in range(len(rows)):
            text = texts[len(said)]
            spans = spans_of(text, tokenise(text), tags[i], transform.attributes, sure[i])
            said.append(spans)
    chances = iter(head.sure([span[3] for spans in said for span in spans]))
    return [[(*span[:3], next(chances)) for span in spans] for spans in said]
