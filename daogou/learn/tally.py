"""A store to what matching counts, and the validation split to how much each count says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.features.queries import Queries
from daogou.features.store import HALF_LIVES_DAYS, MASSES, Store
from daogou.features.transform import Transform
from daogou.model import predict
from daogou.model.heads.match import MatchHead
from daogou.model.heads.tally import COUNTS, SPAN_NAMES, Hints
from daogou.model.joint import JointModel
from daogou.schema import DAY_US

Array = NDArray[Any]
Rows = NDArray[np.int64]
UNTAKEN: Final = 0.1  # times that a product counts as taken before it is
MOST_QUERIES: Final = 512  # that weigh
MOST_IN_ALL: Final = 2**28  # scores of theirs, all of which are computed at each step
LEAST: Final = 20  # positives, to weigh anything
_MOST_SCORES: Final = 2**22
_STEPS: Final = 30
_CLOSE: Final = 1e-3  # a weight that moves less has arrived


# ---- counts ---------------------------------------------------------------------------


def count(model: JointModel, transform: Transform, store: Store) -> None:
    """Fill the match head's counts from the training split; nothing without one."""
    if "match" not in model.heads:
        return
    tally = cast(MatchHead, model.heads["match"]).tally
    tally.counts.copy_(counts_of(store, transform))


def counts_of(store: Store, transform: Transform) -> Tensor:
    """What training counted of each id row, ``[n_ids, 5]`` as `COUNTS` has them.

    An event's weight halves in a half-life, counted back from the last training exposure. What
    taught before counts too, for what it is still worth. The first four are centred logarithms of
    shares.
    """
    first, last = store.ranges["train"]
    n_ids = transform.item_ids.n_rows
    ids = np.asarray(store["items/id"])
    labels = store["exposures/labels"][first:last]
    taken = np.asarray(labels[:, 0] == 1) if labels.shape[1] else np.zeros(last - first, bool)
    item = ids[store["exposures/item"][first:last][taken]]
    age = (_end(store) - store["exposures/time"][first:last][taken]) / DAY_US
    early = np.asarray(store["history/time"]) <= _end(store)
    strong = np.array([name in transform.stages for name in transform.actions], dtype=bool)
    early &= strong[store["history/action"]] if strong.any() else True
    times = [
        np.bincount(item, minlength=n_ids),
        *(np.bincount(item, 0.5 ** (age / half), n_ids) for half in HALF_LIVES_DAYS),
        np.bincount(ids[store["history/item"][early]], minlength=n_ids),
    ]
    if "earlier/item" in store.arrays and labels.shape[1]:
        before = np.asarray(store["earlier/labels"])[:, 0] == 1
        item, mass = ids[store["earlier/item"][before]], store["earlier/mass"][before]
        for place, name in enumerate(("worth", *HALF_LIVES_DAYS)):
            times[place] = times[place] + np.bincount(item, mass[:, MASSES.index(name)], n_ids)
    columns = []
    for counted in times:
        log = np.log(counted.astype(np.float64) + UNTAKEN)
        log[0] = np.log(UNTAKEN)  # what training does not know it has not taken
        columns.append(log - log.mean())
    return torch.from_numpy(np.stack([*columns, np.arange(n_ids) == 0], 1)).float()


def _end(store: Store) -> int:
    """The moment of the last training exposure."""
    first, last = store.ranges["train"]
    return int(store["exposures/time"][first:last].max()) if last > first else 0


# ---- weights --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Piece:
    """Some questions: what a tally's inputs say, and which products were taken."""

    query: Tensor  # [q, D]
    index: Tensor  # [I + 1, D] of all pieces
    hints: Hints
    taken: tuple[Tensor, Tensor]  # question and row of what was taken, [n] both

    @property
    def learnt(self) -> Tensor:
        """The learnt scores ``[q, I + 1]``, which are too many to be held."""
        return self.query @ self.index.T


def weigh(model: JointModel, store: Store, *, history_length: int) -> dict[str, Any]:
    """Weigh the match head's counts by the validation split; what was done, for a record.

    The likeliest weights of a softmax over the whole catalogue, under a normal prior of spread 1
    around those that training used: a convex problem in a dozen numbers. Asked are moments of
    validation at which something was taken (see `asked_moments`). With fewer than 20 products
    taken, or where the gain is no more than so many numbers gain by luck (Akaike), the weights
    stay.
    """
    if "match" not in model.heads:
        return {}
    tally = cast(MatchHead, model.heads["match"]).tally
    tally.forget()
    queries, relevant = asked_moments(store, "validation")
    n = int(sum(map(len, relevant)))
    if n < LEAST:
        return {"method": "none", "why": f"{n} products taken; {LEAST} needed", "n": n}
    pieces = list(_pieces(model, store, queries, relevant, history_length))
    counts = tally.counts[predict.item_ids(store)].double()
    centre = tally.weights.double()
    before = _nats(pieces, counts, centre)
    at = _likeliest(pieces, counts, centre)
    after = _nats(pieces, counts, at)
    told = {"n": n, "nats": [before / n, after / n]}
    if before - after <= len(at):
        return {"method": "none", "why": f"gains {before - after:.1f} nats, as luck can", **told}
    tally.weights.copy_(at)
    return {"method": "weights", **told, "weights": named(at.tolist())}


def named(weights: Sequence[float]) -> dict[str, Any]:
    """A tally's weights, as a record has them; ``events`` are by kind and then by `SPANS`."""
    n = 1 + len(COUNTS)
    events = weights[n:-1]
    return {
        **dict(zip(("learnt", *COUNTS), weights[:n], strict=True)),
        "events": [
            list(events[start : start + len(SPAN_NAMES)])
            for start in range(0, len(events), len(SPAN_NAMES))
        ],
        "taken_before": weights[-1],
    }


def asked_moments(store: Store, split: str) -> tuple[Queries, list[Rows]]:
    """Moments of a split at which products were taken, at most 512, and which those are.

    Of a large catalogue fewer: their scores of all products are computed again and again.
    """
    first, last = store.ranges[split]
    query = np.asarray(store["exposures/query"][first:last])
    item = np.asarray(store["exposures/item"][first:last])
    taken = (store["exposures/labels"][first:last, 0] == 1) & (query >= 0) & (item > 0)
    query, item = query[taken], item[taken]
    moments = np.unique(query)
    most = min(max(MOST_IN_ALL // (store.n_items + 1), LEAST), MOST_QUERIES)
    moments = moments[:: -(-len(moments) // most) or 1]
    user, end, time = (store[f"queries/{name}"][moments] for name in ("user", "end", "time"))
    taken_at = [np.unique(item[query == moment]) for moment in moments]
    return Queries(user, end, time), taken_at


def _pieces(
    model: JointModel, store: Store, queries: Queries, relevant: list[Rows], length: int
) -> Iterator[_Piece]:
    head = cast(MatchHead, model.heads["match"])
    ids = predict.item_ids(store)
    size = max(_MOST_SCORES // len(ids), 1)
    with torch.inference_mode():
        index = head.index(predict.item_vectors(model, store), ids)
        index[:, -1] -= head.tally.of_products(ids)
    done = 0
    encoded_pieces = predict.encoded_queries(
        model, store, queries, history_length=length, size=size
    )
    for batch, encoded in encoded_pieces:
        assert encoded.users is not None
        with torch.inference_mode():
            query = head.query(encoded.users)
            hints = head.tally.hints(*predict.past_of(batch))
        rows = relevant[done : done + len(query)]
        done += len(query)
        asked = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
        taken = torch.from_numpy(asked), torch.from_numpy(np.concatenate(rows).astype(np.int64))
        yield _Piece(query, index, hints, taken)


def _chances(piece: _Piece, counts: Tensor, weights: Tensor) -> Tensor:
    """Log-chances ``[q, I + 1]`` of every product; the unknown one has none."""
    n = 1 + counts.shape[1]
    scores = weights[0] * piece.learnt.double() + counts @ weights[1:n]
    added = piece.hints.values.double() @ weights[n:]
    scores = scores.index_put((piece.hints.query, piece.hints.row), added, accumulate=True)
    scores[:, 0] = -torch.inf
    return scores.log_softmax(1)


def _nats(pieces: Sequence[_Piece], counts: Tensor, weights: Tensor) -> float:
    total = 0.0
    for piece in pieces:
        chances = _chances(piece, counts, weights)
        total -= float(chances[piece.taken].sum())
    return total


def _likeliest(pieces: Sequence[_Piece], counts: Tensor, centre: Tensor) -> Tensor:
    """Newton's weights ``[W]``, each step halved until it helps; the minimum is one and finite."""

    def loss(at: Tensor) -> float:
        return _nats(pieces, counts, at) + float((at - centre).square().sum()) / 2

    at, lowest = centre, loss(centre)
    for _ in range(_STEPS):
        gradient, curvature = _slopes(pieces, counts, at)
        curvature += torch.eye(len(at), dtype=torch.float64)
        step = torch.linalg.solve(curvature, gradient + at - centre)
        while (tried := loss(at - step)) > lowest and step.abs().max() > _CLOSE:
            step = step / 2
        if tried > lowest:
            break
        at, lowest = at - step, tried
        if step.abs().max() < _CLOSE:
            break
    return at


def _slopes(pieces: Sequence[_Piece], counts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient ``[W]`` and curvature ``[W, W]`` of the nats: moments of the inputs."""
    n, n_all = 1 + counts.shape[1], len(weights)
    gradient = torch.zeros(n_all, dtype=torch.float64)
    second = torch.zeros(n_all, n_all, dtype=torch.float64)
    outer = torch.zeros_like(second)
    for piece in pieces:
        p = _chances(piece, counts, weights).exp()
        learnt, hints = piece.learnt.double(), piece.hints
        said, at = hints.values.double(), (hints.query, hints.row)
        many = torch.bincount(piece.taken[0], minlength=len(p)).double()[:, None]  # [q, 1]
        mass = p * many
        heavy = mass[at][:, None] * said  # [n, H]
        gap = mass.clone()
        gap[piece.taken] -= 1.0
        gradient[0] += (gap * learnt).sum()
        gradient[1:n] += gap.sum(0) @ counts
        gradient[n:] += gap[at] @ said
        second[0, 0] += (mass * learnt.square()).sum()
        second[0, 1:n] += (mass * learnt).sum(0) @ counts
        second[0, n:] += learnt[at] @ heavy
        second[1:n, 1:n] += counts.T @ (mass.sum(0)[:, None] * counts)
        second[1:n, n:] += counts[hints.row].T @ heavy
        second[n:, n:] += said.T @ heavy
        mean = torch.zeros(len(p), n_all, dtype=torch.float64)
        mean[:, 0] = (p * learnt).sum(1)
        mean[:, 1:n] = p @ counts
        mean[:, n:].index_add_(0, hints.query, p[at][:, None] * said)
        outer += mean.T @ (many * mean)
    second[1:, 0] = second[0, 1:]
    second[n:, 1:n] = second[1:n, n:].T
    return gradient, second - outer
