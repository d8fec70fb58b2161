"""A model to some answers that its run keeps, by which it is known again wherever it is loaded."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray

from daogou.features.batch import make_batch
from daogou.features.queries import full_queries
from daogou.features.store import SPLITS, Store
from daogou.model import predict
from daogou.model.heads.funnel import FunnelHead
from daogou.model.heads.match import MatchHead
from daogou.model.joint import JointModel

Array = NDArray[Any]
SAMPLES: Final = 24  # exposures; of users, products and titles half as many
# By how much an answer, or of one above 1 its share, may differ. What one processor's float32
# kernels and another's make of a run is apart by some 1e-6; what another model says, by far more.
CLOSE: Final = 1e-4
_DIGITS: Final = 9  # tell every float32 from its neighbours


@torch.inference_mode()
def sample_answers(model: JointModel, store: Store, *, history_length: int) -> dict[str, Any]:
    """What a model says of some rows of its store: ``{"rows": ..., "answers": ...}``.

    ``rows`` names the rows that are asked about, ``answers`` has a list of numbers for each task:
    stages their chances of exposures of the test (of validation or training where a shop has no
    other), matching the scores of products for users, profiles their distributions, extraction
    its confidences. The same model and store are always asked the same.
    """
    model.eval()
    rows: dict[str, Array] = {}
    answers: dict[str, Array] = {}
    users, items = _spread(0, store.n_users + 1), _spread(0, store.n_items + 1)
    if "funnel" in model.heads:
        rows["exposures"] = _exposures(store)
        batch = make_batch(store, rows["exposures"], history_length=history_length)
        head = cast(FunnelHead, model.heads["funnel"])
        names = [task.name for task in model.tasks if task.family == "funnel"]
        chances = head.chances(model.encode(batch), batch)[0]
        answers |= dict(zip(names, chances.numpy(), strict=True))
    if "match" in model.heads:
        rows |= {"users": users, "items": items}
        answers["match"] = _matched(model, store, users, items, history_length)
    if "profile" in model.heads:
        rows["users"] = users
        names = [task.name for task in model.tasks if task.family == "profile"]
        said = predict.profile_scores(model, store, users, history_length=history_length)
        answers |= dict(zip(names, said, strict=True))
    if "extract" in model.heads:
        rows["titles"] = _spread(0, len(store["titles/text"]))
        sure = [sure.ravel() for *_, sure in predict.title_tags(model, store, rows["titles"])]
        values = predict.title_values(model, store, rows["titles"])
        answers["extract"] = np.concatenate([np.zeros(0), *sure, *map(np.ravel, values)])
    return {
        "rows": {name: each.tolist() for name, each in rows.items()},
        "answers": {
            name: [float(f"{number:.{_DIGITS}g}") for number in each.ravel().tolist()]
            for name, each in answers.items()
        },
    }


def differences(kept: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What of `sample_answers` is not as it was kept, a sentence each; empty if all is close.

    >>> kept = {"rows": {}, "answers": {"click": [0.25, 0.5]}}
    >>> differences(kept, {"rows": {}, "answers": {"click": [0.25, 0.50002]}})
    []
    >>> differences(kept, {"rows": {}, "answers": {"click": [0.25, 0.7]}})
    ['1 of 2 answers of click, by up to 0.2']
    """
    if kept["rows"] != found["rows"]:
        return ["the store has other rows"]
    ours, theirs = kept["answers"], found["answers"]
    told = [f"{name} is missing" for name in ours if name not in theirs]
    told += [f"{name} is new" for name in theirs if name not in ours]
    return [*told, *_changed(ours, theirs)]


def _changed(
    ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    for name in (name for name in ours if name in theirs):
        before, now = np.array(ours[name], dtype=float), np.array(theirs[name], dtype=float)
        if len(before) != len(now):
            yield f"{len(now)} answers of {name} where there were {len(before)}"
            continue
        apart = np.abs(now - before)
        wrong = ~(apart <= CLOSE * np.maximum(np.abs(before), 1.0))  # so that NaN is wrong
        wrong &= ~(np.isnan(before) & np.isnan(now))
        if wrong.any():
            most = np.nan_to_num(apart[wrong], nan=np.inf).max()
            yield f"{wrong.sum()} of {len(now)} answers of {name}, by up to {most:.2g}"


def _spread(first: int, last: int, n: int = SAMPLES // 2) -> Array:
    """At most ``n`` rows from ``first`` to before ``last``, evenly spread."""
    return np.unique(np.linspace(first, max(last - 1, first), min(n, last - first)).astype(int))


def _exposures(store: Store) -> Array:
    """Exposures of the last split that has any."""
    for split in reversed(SPLITS):
        first, last = store.ranges[split]
        if last > first:
            return _spread(first, last, SAMPLES)
    return _spread(0, 0)


def _matched(
    model: JointModel, store: Store, users: Array, items: Array, history_length: int
) -> Array:
    """Scores ``[Q, R]`` of catalogue rows for users at the end of the log."""
    head = cast(MatchHead, model.heads["match"])
    queries = full_queries(store, users)
    batch = make_batch(store, queries=queries, extra_items=items, history_length=history_length)
    encoded = model.encode(batch)
    assert encoded.users is not None and encoded.items is not None
    ids = batch.items["id"][batch.extra]
    scores = head.query(encoded.users) @ head.index(encoded.items[batch.extra], ids).T
    hints = head.tally.hints(*predict.past_of(batch))
    added = head.tally.of_hints(hints)
    place = torch.full((store.n_items + 1,), -1)
    place[torch.from_numpy(items)] = torch.arange(len(items))
    asked = place[hints.row] >= 0
    at = (hints.query[asked], place[hints.row[asked]])
    return np.asarray(scores.index_put(at, added[asked], accumulate=True).numpy())
