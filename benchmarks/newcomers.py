"""A made shop's run to how soon a user or a product is known: by the model, and by further heads.

The ways of `daogou.learn.meta` against the model as it is, which knows a newcomer by content and by
what they did. Half of the users (products) teach, with the validation split as what is asked; the
other half is judged on the test split. A newcomer is one whose id is unknown and of whom only the
latest so many events (exposures of a product) before the split are known. The model as it is served
counts those of a product (`daogou.guide.newcomers`); the other ways read what it says without that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.artifact import Artifact
from daogou.features.batch import make_batch
from daogou.features.store import Store
from daogou.guide.heard import Heard, chances_of
from daogou.guide.newcomers import with_heard
from daogou.guide.score import fit_scorer
from daogou.learn.judge import Question, questions
from daogou.learn.meta import (
    Groups,
    adapt,
    anil,
    fit_variance,
    generator,
    laplace,
    nats,
    reptile,
)
from daogou.metrics.interval import replicates
from daogou.metrics.paired import Paired, combine
from daogou.model.heads.funnel import FunnelHead

Array = NDArray[Any]
EVENTS: Final = (0, 1, 2, 5, 10, 20)
WARM: Final = 40  # events, or training exposures, of who is judged
WAYS: Final = ("model", "laplace", "reptile", "anil", "generated")
_MOST: Final = 128  # labelled rows of a group that a head reads, the latest
_RATES: Final = (0.1, 0.3, 1.0)
_LEARNING_RATES: Final = (0.0003, 0.001, 0.003)  # of what generates
_SCALES: Final = (0.003, 0.03, 0.3)
_ROWS: Final = 4096
_DRAWS: Final = 200
_SPLITS: Final = ("validation", "test")


@dataclass(frozen=True)
class Told:
    """Test AUC of click by way for so many events, of the same rows warm, and against the model."""

    values: Mapping[str, float]
    warm: float
    against: Mapping[str, Paired]


@dataclass(frozen=True)
class _Side:
    """A split's rows of some groups: what a head may read, and what is asked of it."""

    support: Groups
    query: Groups
    content: Tensor  # [G, C]
    lift: Tensor  # [G]: what the model, as it is served, is told of a product's exposures
    rows: Array  # exposures asked, in the order of the query's rows that are no padding


def newcomers(run: Artifact, kind: str, n_events: int) -> Told:
    """How users or items (``kind``) with so many events are known."""
    teach, judged = (
        _side(run, kind, n_events, split, part) for part, split in enumerate(_SPLITS)
    )  # fmt: skip
    said = _ways(teach, judged)
    (asked,) = [
        each
        for each in questions(run.shop, run.store, run.transform, "test")
        if each.name == "click"
    ]
    first = run.store.ranges["test"][0]
    asked = asked.only(np.isin(asked.rows, judged.rows))
    answers = {way: _placed(asked, judged.rows, said[way], first) for way in said}
    warm = _placed(asked, judged.rows, _read(run, run.store, judged.rows)[0], first)
    return Told(
        {way: asked.judge(answer).value for way, answer in answers.items()},
        asked.judge(warm).value,
        {way: _less(asked, answers[way], answers["model"]) for way in WAYS[1:]},
    )


def _placed(asked: Question, rows: Array, said: Array, first: int) -> Array:
    answer = np.zeros(int(asked.at.max()) + 1)
    answer[rows - first] = said
    return answer


def _less(asked: Question, one: Array, other: Array) -> Paired:
    both = [asked.judge(each) for each in (one, other)]
    drawn = [replicates(each.statistic, each.groups, n=_DRAWS, seed=0) for each in both]
    return combine([both[0].value - both[1].value], [drawn[0] - drawn[1]])


# ---- rows ----------------------------------------------------------------------------------------


def _side(run: Artifact, kind: str, n_events: int, split: str, part: int) -> _Side:
    """What is known before a split and what is asked in it, of one half of the groups."""
    store = run.store
    first, last = store.ranges[split]
    now = int(store["exposures/time"][first])
    known = np.arange(first)  # all splits before
    of = _group_of(store, kind)
    if kind == "user":
        events = _events_before(store, now)
        groups = np.flatnonzero(events >= WARM)
        changed = _forgetful(store, now, n_events)
    else:
        groups = np.flatnonzero(np.bincount(of[known], minlength=store.n_items + 1) >= WARM)
        changed = store
    groups = groups[(groups > 0) & (groups % 2 == part)]
    if kind == "item":
        ids = np.array(store["items/id"])
        ids[groups] = 0
        changed = replace(store, arrays={**store.arrays, "items/id": ids})
    query = [np.arange(first, last)[of[first:last] == group] for group in groups]
    kept = [place for place, rows in enumerate(query) if len(rows)]
    groups, query = groups[kept], [query[place] for place in kept]
    support = [_support(store, kind, group, known[of[known] == group], now, n_events)
               for group in groups]  # fmt: skip
    return _Side(
        _padded(run, changed, kind, support),
        _padded(run, changed, kind, query),
        _content(run, changed, kind, query),
        _lift(run, changed, groups, support) if kind == "item" else torch.zeros(len(groups)),
        np.concatenate(query),
    )


def _lift(run: Artifact, store: Store, groups: Array, support: list[Array]) -> Tensor:
    """What serving adds to the logit of a click, from these exposures of new products, ``[G]``."""
    stages = [task.name for task in chances_of(run.shop.tasks)]
    labels = store["exposures/labels"][:, [run.transform.stages.index(each) for each in stages]]
    heard = {}
    for group, rows in zip(groups.tolist(), support, strict=True):
        told = labels[rows]
        before = np.column_stack([np.ones(len(rows)), told[:, :-1]]) == 1
        heard[group] = Heard(
            len(rows), tuple((before & (told >= 0)).sum(0)), tuple((before & (told == 1)).sum(0))
        )
    scorer = with_heard(fit_scorer(replace(run, store=store)), heard, 0)
    assert scorer.items.lift is not None
    return scorer.items.lift[groups, stages.index("click")]


def _group_of(store: Store, kind: str) -> Array:
    if kind == "item":
        return np.asarray(store["exposures/item"])
    found: Array = store["queries/user"][store["exposures/query"]]
    return found


def _events_before(store: Store, now: int) -> Array:
    """How many events each user has before a moment, ``[U + 1]``."""
    early = np.concatenate([[0], np.cumsum(np.asarray(store["history/time"]) < now)])
    start = np.asarray(store["users/start"])
    return np.asarray(early[start[1:]] - early[start[:-1]])


def _support(
    store: Store, kind: str, group: int, rows: Array, now: int, n_events: int
) -> Array:  # fmt: skip
    """The labelled rows that go with the latest events: a user's since the first of them."""
    if n_events == 0:
        return rows[:0]
    if kind == "item":
        return rows[-n_events:]
    times = store["history/time"][store.history_slice(group)]
    since = times[times < now][-n_events:][0]
    found: Array = rows[store["exposures/time"][rows] >= since][-_MOST:]
    return found


def _forgetful(store: Store, now: int, n_events: int) -> Store:
    """The store as if all users were new and had done nothing but their latest events by now.

    Every moment becomes a user of its own, whose history is the part of those events before it.
    """
    user, end = store["queries/user"], np.asarray(store["queries/end"])
    reach = np.asarray(store["users/start"])[user] + _events_before(store, now)[user]
    end = np.minimum(end, reach)
    begin = np.minimum(np.maximum(store["users/start"][user], reach - n_events), end)
    at = np.concatenate([np.arange(a, b) for a, b in zip(begin, end, strict=True)])
    start = np.concatenate([[0, 0], np.cumsum(end - begin)])
    arrays: dict[str, Array] = dict(store.arrays)
    arrays |= {
        f"history/{name}": store[f"history/{name}"][at] for name in ("item", "action", "time")
    }
    for name, value in store.arrays.items():
        if name.startswith("users/") and name != "users/start":
            arrays[name] = np.concatenate([value[:1], value[user]])
    arrays |= {
        "users/id": np.zeros(len(user) + 1, dtype=np.int32),
        "users/start": start,
        "queries/user": np.arange(1, len(user) + 1),
        "queries/end": start[2:],
    }
    return replace(store, arrays=arrays)


@torch.inference_mode()
def _read(run: Artifact, store: Store, rows: Array) -> tuple[Array, Array, Array]:
    """Of exposures the logit of a click ``[n]``, and the vectors of product and user ``[n, D]``."""
    head = cast(FunnelHead, run.model.heads["funnel"])
    run.model.eval()
    found: list[list[Array]] = [[], [], []]
    for start in range(0, len(rows), _ROWS):
        batch = make_batch(store, rows[start : start + _ROWS], history_length=run.history_length)
        encoded = run.model.encode(batch)
        assert encoded.items is not None
        assert encoded.users is not None
        pieces = (
            head.towers(encoded, batch).logits[0],
            encoded.items[batch.exposures["item"]],
            encoded.users[batch.exposures["user"]],
        )
        for each, piece in zip(found, pieces, strict=True):
            each.append(piece.numpy())
    logits, items, users = (np.concatenate(each) for each in found)
    return logits, items, users


def _padded(run: Artifact, store: Store, kind: str, rows: list[Array]) -> Groups:
    """Rows of groups side by side: of a user's rows the products are told, and the other way."""
    longest = max(max(map(len, rows)), 1)
    whole = np.concatenate(rows)
    place = np.concatenate([np.arange(len(each)) for each in rows])
    owner = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    width = int(run.model.item.norm.normalized_shape[0]) if run.model.item else 0
    features = np.zeros((len(rows), longest, 1 + width), dtype=np.float32)
    offsets, labels, weight = (
        np.zeros((len(rows), longest), dtype=np.float32) for _ in range(3)
    )  # fmt: skip
    if len(whole):
        logits, items, users = _read(run, store, whole)
        told = items if kind == "user" else users
        features[owner, place, 0] = 1.0
        features[owner, place, 1:] = told / width**0.5
        offsets[owner, place] = logits
        click = run.transform.stages.index("click")
        labels[owner, place] = store["exposures/labels"][whole, click] == 1
        weight[owner, place] = store["exposures/labels"][whole, click] >= 0
    return Groups(*(torch.from_numpy(each) for each in (features, offsets, labels, weight)))


def _content(run: Artifact, store: Store, kind: str, rows: list[Array]) -> Tensor:
    """What the encoder makes of each group before its first row is asked, ``[G, D]``."""
    _, items, users = _read(run, store, np.array([each[0] for each in rows]))
    return torch.from_numpy(users if kind == "user" else items)


# ---- ways ----------------------------------------------------------------------------------------


def _ways(teach: _Side, judged: _Side) -> dict[str, Array]:
    """Each way's scores of the rows that are asked; what is chosen is chosen by who teaches."""
    scores: dict[str, Tensor] = {"model": judged.query.offsets + judged.lift[:, None]}
    n_features = teach.query.features.shape[2]
    _, variance = fit_variance(teach.support, teach.query, _SCALES, torch.ones(n_features))
    posterior = laplace(judged.support, variance)
    scores["laplace"] = posterior.chances(judged.query).logit()

    def best(found: Mapping[float, Tensor]) -> float:
        return min(
            found,
            key=lambda rate: float(
                nats(
                    teach.query,
                    teach.query.logits(adapt(found[rate], teach.support, rate=rate)),
                )
            ),
        )

    starts = {
        "reptile": {rate: reptile(teach.query, rate=rate) for rate in _RATES},
        "anil": {rate: anil(teach.support, teach.query, rate=rate) for rate in _RATES},
    }
    for way, found in starts.items():
        rate = best(found)
        heads = adapt(found[rate], judged.support, rate=rate)
        scores[way] = judged.query.logits(heads)
    make, rate = _generator(teach)
    heads = adapt(make(judged.content), judged.support, rate=rate)
    scores["generated"] = judged.query.logits(heads)
    # A row without a label weighs nothing and is asked all the same: rows are told by their count.
    n_rows = [int(each) for each in (judged.query.features[:, :, 0] > 0).sum(1)]
    return {
        way: np.concatenate([each[:n].numpy() for each, n in zip(score, n_rows, strict=True)])
        for way, score in scores.items()
    }


def _generator(teach: _Side) -> tuple[Callable[[Tensor], Tensor], float]:
    """What one half of who teaches makes of content, at the rates that suit the other half."""
    is_odd = torch.arange(len(teach.content)) % 2 == 1
    ones, others = ~is_odd, is_odd
    support, query, content = teach.support[ones], teach.query[ones], teach.content[ones]
    found = []
    for rate in _RATES:
        for learning_rate in _LEARNING_RATES:
            make = generator(content, support, query, rate=rate, learning_rate=learning_rate)
            heads = adapt(make(teach.content[others]), teach.support[others], rate=rate)
            loss = float(nats(teach.query[others], teach.query[others].logits(heads)))
            found.append((loss, make, rate))
    _, make, rate = min(found, key=lambda each: each[0])
    return make, rate
