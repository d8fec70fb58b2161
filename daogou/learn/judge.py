"""A split and any scores to what each task is worth there, as numbers that can be drawn again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from daogou.features.queries import user_rows
from daogou.features.store import SPLITS, Store
from daogou.features.tokens import Span
from daogou.features.transform import Transform
from daogou.metrics import f1_of, fit_ranks, mean_of, normalised_gini, span_f1
from daogou.metrics.binary import fit_auc_order
from daogou.model import predict
from daogou.schema import Shop, Task
from daogou.tables.truth import Truth, read_truth

Array = NDArray[Any]

Rows = NDArray[np.int64]

Floats = NDArray[np.float64]

Statistic = Callable[[Floats], float]

Answers = Mapping[str, Array]

Keys = Any  # pa.ChunkedArray | Sequence[str | None]; pyarrow has no types

RECALL_AT: Final = 50


@dataclass(frozen=True)
class Judged:
    """What an answer is worth on R rows; ``statistic`` is of multipliers ``[R]`` of their weights.

    ``groups [R]`` says whose each row is: they are drawn whole. ``rows [R]`` are rows of the
    store: of exposures, users or titles.
    """

    task: str
    metric: str
    value: float
    statistic: Statistic
    groups: Rows
    n: int
    positives: int
    rows: Rows


@dataclass(frozen=True)
class Question:
    """What a split asks about one task. Made by `questions`.

    ``at [R]`` are the places of its rows in an answer, ``rows [R]`` in the store. ``user`` and
    ``item`` ``[R]`` are catalogue rows, 0 where there is none, ``domain [R]`` names the row's
    domain, -1 where there is none. ``ceiling`` is the answer of a simulated shop's truth.
    """

    name: str  # "purchase", "purchase|cart", "match", "profile.gender", "extract"
    task: str
    metric: str
    kind: str  # one of `_KINDS`
    at: Rows
    rows: Rows
    groups: Rows
    weight: Floats
    target: Array
    user: Rows
    item: Rows
    domain: Rows
    ceiling: Array | None = None

    def only(self, where: Array) -> "Question":
        """The same question of the rows where ``where [R]`` holds."""
        names = ("at", "rows", "groups", "weight", "target", "user", "item", "domain")
        return replace(self, **{name: getattr(self, name)[where] for name in names})

    def judge(self, answer: Array) -> Judged:
        """What an answer, over all rows of the split, is worth; NaN where that is undefined."""
        statistic = _KINDS[self.kind](answer[self.at], self.target, self.weight)
        n = len(self.rows)
        value = statistic(np.ones(n)) if n else float("nan")
        return Judged(
            self.name, self.metric, value, statistic, self.groups, n, self.positives, self.rows
        )

    @property
    def positives(self) -> int:
        """Rows whose answer is yes; of other kinds, how much there was to find."""
        if self.kind in ("counts", "mean"):
            return int(self.target.sum())
        if self.kind == "classes":
            return len(self.target)
        return int((self.target > 0).sum())


def truth_of(shop: Shop) -> Truth | None:
    """What a simulated shop planted; None of any other, and where the folder is gone."""
    if shop.truth is None:
        return None
    folder = shop.root / shop.truth.path
    return read_truth(folder) if folder.exists() else None


def questions(
    shop: Shop, store: Store, transform: Transform, split: str, truth: Truth | None = None
) -> list[Question]:
    """What a split asks about the shop's tasks; a stage that is given another is asked twice.

    Stages are asked for their AUC over all exposures and, under ``stage|given``, where they are
    defined; an amount for its Gini; matching for its recall in the first 50 of the catalogue;
    profiles for the mean AUC of their classes; titles for the F1 of their spans.
    """
    asked = _Asked(shop, store, transform, split, truth)
    found: list[Question] = []
    for family, ask in _ASK.items():
        tasks = shop.of_family(family)
        if tasks:
            found += ask(asked, tasks)
    return found


def chain_of(tasks: Sequence[Task], name: str) -> list[str]:
    """The stages that a task is learnt after, the nearest first.

    >>> stages = [Task("click", "funnel"), Task("buy", "funnel", "click")]
    >>> chain_of(stages, "buy"), chain_of(stages, "click")
    (['click'], [])
    """
    given = {task.name: task.given for task in tasks}
    chain: list[str] = []
    before = given.get(name)
    while before in given and before is not None:
        chain.append(before)
        before = given[before]
    return chain


@dataclass(frozen=True)
class _Asked:
    shop: Shop
    store: Store
    transform: Transform
    split: str
    truth: Truth | None


def _funnel(asked: _Asked, tasks: Sequence[Task]) -> Iterator[Question]:
    store, stages = asked.store, asked.transform.stages
    first, last = store.ranges[asked.split]
    keys = store.exposure_keys(asked.split, ["user", *(["id"] if asked.truth else [])])
    labels = np.asarray(store["exposures/labels"][first:last])
    whole = Question(
        "", "", "auc", "auc",
        at=np.arange(last - first),
        rows=np.arange(first, last),
        groups=groups_of(keys["user"]),
        weight=np.asarray(store["exposures/weight"][first:last], dtype=np.float64),
        target=labels[:, :0],
        user=user_rows(store, np.arange(first, last)),
        item=np.asarray(store["exposures/item"][first:last], dtype=np.int64),
        domain=_domains(asked, first, last),
    )  # fmt: skip
    planted = asked.truth.exposures(keys["id"].to_pylist()) if asked.truth else {}
    names = [task.name for task in tasks]
    for task in tasks:
        given = labels[:, stages.index(task.given)] if task.given in names else None
        if task.is_value:
            yield from _amount(asked, whole, task, given)
            continue
        label = labels[:, stages.index(task.name)]
        asked_of = replace(whole, name=task.name, task=task.name, target=label == 1)
        yield replace(asked_of, ceiling=planted.get(f"k_{task.name}")).only(label >= 0)
        if given is not None and task.given is not None:
            # The truth plants a stage's chance given the stage just before it.
            after = stages.index(task.given) == stages.index(task.name) - 1
            yield replace(
                asked_of,
                name=f"{task.name}|{task.given}",
                ceiling=planted.get(f"k_{task.name}_given") if after else None,
            ).only((label >= 0) & (given == 1))


def _amount(asked: _Asked, whole: Question, task: Task, given: Array | None) -> Iterator[Question]:
    first, last = asked.store.ranges[asked.split]
    value = np.asarray(asked.store["exposures/value"][first:last], dtype=np.float64)
    everywhere = value
    if given is not None:
        everywhere = np.where(given == 1, value, np.where(given == 0, 0.0, np.nan))
    asked_of = replace(whole, task=task.name, metric="gini", kind="gini")
    yield replace(asked_of, name=task.name, target=everywhere).only(~np.isnan(everywhere))
    if given is not None:
        where = (given == 1) & ~np.isnan(value)
        yield replace(asked_of, name=f"{task.name}|{task.given}", target=value).only(where)


def _match(asked: _Asked, tasks: Sequence[Task]) -> Iterator[Question]:
    queries, relevant = predict.first_queries(asked.store, asked.split)
    n = len(relevant)
    ceiling = None
    if asked.truth is not None and n:
        names = {row: name for name, row in asked.store.user_rows.items()}
        oracle = asked.truth.match_scores([names[row] for row in queries.user.tolist()])
        place = {name: j for j, name in enumerate(asked.truth.item_ids)}
        order = [place[name] for name in asked.store.item_keys[1:]]
        ceiling = recalls([oracle[:, order]], relevant)
    name = tasks[0].name
    yield Question(
        name, name, f"recall@{RECALL_AT}", "mean",
        at=np.arange(n),
        rows=np.asarray(queries.user, dtype=np.int64),
        groups=np.arange(n),
        weight=np.ones(n),
        target=np.array([len(items) for items in relevant], dtype=np.int64),
        user=np.asarray(queries.user, dtype=np.int64),
        item=np.zeros(n, dtype=np.int64),
        domain=np.full(n, -1),
        ceiling=ceiling,
    )  # fmt: skip


def _profile(asked: _Asked, tasks: Sequence[Task]) -> Iterator[Question]:
    store, transform = asked.store, asked.transform
    users = np.flatnonzero(store["users/split"] == SPLITS.index(asked.split))
    n = len(users)
    many = dict(zip(transform.many.names, transform.first_values, strict=True))
    names = {row: name for name, row in store.user_rows.items()}
    for task in tasks:
        column = task.name.removeprefix("profile.")
        classes = list(transform.classes(column))
        target: Array
        known: Array
        if column in many:
            target = store["users/many"][users, many[column] : many[column] + len(classes)]
            known, kind, ceiling = np.asarray((target >= 0).any(1)), "lists", None
        else:
            target = store["users/profile"][users, transform.profile.names.index(column)]
            known, kind, ceiling = np.asarray(target >= 0), "classes", None
            if asked.truth is not None:
                values, posterior = asked.truth.profile_posterior(
                    column, [names[row] for row in users.tolist()]
                )
                ceiling = np.asarray(posterior)[:, [list(values).index(word) for word in classes]]
        yield Question(
            task.name, task.name, "auc", kind,
            at=np.arange(n),
            rows=users,
            groups=users,
            weight=np.ones(n),
            target=np.asarray(target, dtype=np.int64),
            user=users,
            item=np.zeros(n, dtype=np.int64),
            domain=np.full(n, -1),
            ceiling=ceiling,
        ).only(known)  # fmt: skip


def _extract(asked: _Asked, tasks: Sequence[Task]) -> Iterator[Question]:
    store = asked.store
    titles = np.flatnonzero(store["titles/split"] == SPLITS.index(asked.split))
    n = len(titles)
    gold, annotated = gold_spans(store, titles)
    nothing: list[list[Span]] = [[] for _ in gold]
    name = tasks[0].name
    yield Question(
        name, name, "f1", "counts",
        at=np.arange(n),
        rows=titles,
        groups=titles,
        weight=np.ones(n),
        target=span_f1(nothing, gold, annotated).by_text[:, 2],
        user=np.zeros(n, dtype=np.int64),
        item=np.asarray(store["titles/item"][titles], dtype=np.int64),
        domain=np.full(n, -1),
    )  # fmt: skip


_ASK: Final[Mapping[str, Callable[[_Asked, Sequence[Task]], Iterator[Question]]]] = {
    "funnel": _funnel,
    "match": _match,
    "profile": _profile,
    "extract": _extract,
}


def gold_spans(store: Store, titles: Rows) -> tuple[list[list[Span]], list[Any]]:
    """The gold spans of each of these titles, and the attributes that were labelled on it."""
    spans = store.titles["spans"].take(titles).to_pylist()
    gold = [[(one["start"], one["end"], one["attribute"]) for one in each] for each in spans]
    return gold, store.titles["annotated"].take(titles).to_pylist()


def _domains(asked: _Asked, first: int, last: int) -> Rows:
    transform = asked.transform
    if transform.domain is None:
        return np.full(last - first, -1)
    column = transform.context.names.index(transform.domain)
    fields = asked.store["exposures/fields"][first:last, column]
    return np.asarray(fields, dtype=np.int64) - transform.context.offsets[column]


def groups_of(keys: Keys, within: Keys | None = None) -> Rows:
    """A number per key ``[n]`` in the order in which they come; rows without one are a group each.

    ``within`` splits a key further, and stands in for keys of which there are none.

    >>> groups_of(["ann", "bo", "ann", None]).tolist()
    [0, 1, 0, 2]
    """
    code = codes_of(keys)
    named = code >= 0
    if within is not None:
        further = codes_of(within) + 1
        if not named.any():
            return groups_of(within)
        code = code * (further.max() + 1) + further
    rows = np.arange(len(code))
    code = np.where(named, code, code.max(initial=0) + 1 + rows)
    _, first, place = np.unique(code, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[place]


def codes_of(keys: Keys) -> Rows:
    """A number from 0 for each different key, ``[n]``; -1 where there is none."""
    column = pa.chunked_array([keys]) if not isinstance(keys, pa.ChunkedArray) else keys
    if column.null_count == len(column):
        return np.full(len(column), -1, dtype=np.int64)
    indices = column.combine_chunks().dictionary_encode().indices
    return np.asarray(indices.fill_null(-1), dtype=np.int64)


def recalls(blocks: Any, relevant: Sequence[Array]) -> Floats:
    """Each user's recall ``[U]`` in the first 50, from scores of the catalogue, row 1 first."""
    if not relevant:
        return np.zeros(0)
    return fit_ranks(iter(blocks), [items - 1 for items in relevant]).recall_at(RECALL_AT)


def _auc(scores: Array, target: Array, weight: Floats) -> Statistic:
    order = fit_auc_order(scores.astype(np.float64), target > 0)
    down, up = weight[order.negatives], weight[order.positives]
    return lambda w: order.auc(down * w[order.negatives], up * w[order.positives])


def _mean_auc(columns: Sequence[tuple[Array, Array]], weight: Floats) -> Statistic:
    areas = [_auc(scores, target, weight) for scores, target in columns]
    return lambda w: mean_of([area(w) for area in areas])


def _of_classes(scores: Array, target: Array, weight: Floats) -> Statistic:
    columns = [(scores[:, place], target == place) for place in range(scores.shape[1])]
    return _mean_auc(columns, weight)


def _of_lists(scores: Array, target: Array, weight: Floats) -> Statistic:
    columns = [(scores[:, place], target[:, place] == 1) for place in range(scores.shape[1])]
    return _mean_auc(columns, weight)


_KINDS: Final[Mapping[str, Callable[[Array, Array, Floats], Statistic]]] = {
    "auc": _auc,
    "classes": _of_classes,
    "lists": _of_lists,
    "mean": lambda scores, _, weight: lambda w: mean_of(scores, weight * w),
    "counts": lambda scores, _, weight: lambda w: f1_of(scores, weight * w),
    "gini": lambda scores, target, weight: (
        lambda w: normalised_gini(scores.astype(np.float64), target, weight * w)
    ),
}
