"""Store rows to predictions, in batches and without gradients: validation, tests and serving."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.features.batch import Batch, make_batch, split_batches
from daogou.features.queries import Queries, full_queries
from daogou.features.store import Store
from daogou.features.text import PADDING
from daogou.model.encoded import Encoded
from daogou.model.heads.extract import ExtractHead
from daogou.model.heads.funnel import FunnelHead
from daogou.model.heads.match import MatchHead
from daogou.model.heads.profile import ProfileHead
from daogou.model.joint import JointModel

Array = NDArray[Any]
ROWS: Final = 4096  # exposures read at once
QUERIES: Final = 512  # users at moments read at once
_MOST_SCORES: Final = 2**25  # in a block


@dataclass(frozen=True)
class FunnelScores:
    """Chances ``[n, T]`` of a split's exposures: over all of them, and where defined.

    Of a task that is an amount these are expected values, and ``nats [n]`` its loss, NaN where it
    is not defined; empty without such a task.
    """

    chances: Array
    conditional: Array
    nats: Array


@torch.inference_mode()
def funnel_scores(
    model: JointModel,
    store: Store,
    split: str,
    *,
    history_length: int,
    rows_per_step: int = ROWS,
    rows: Array | None = None,
) -> FunnelScores:
    """Chances of every exposure of a split, in store order; of ``rows`` of it if they are given."""
    model.eval()
    head = cast(FunnelHead, model.heads["funnel"])
    chances, conditional, nats = [], [], []
    batches = split_batches(
        store, split, rows_per_step=rows_per_step, history_length=history_length, rows=rows
    )
    for _, cpu_batch in batches:
        batch = cpu_batch.to(model.device)
        towers = head.towers(model.encode(batch), batch)
        over_all, given = head.said(towers)
        if head.worth is not None:
            seen = head.seen(towers, batch.exposures)[-1]
            where = head.worth.defined(seen)
            nats.append(torch.where(where, head.worth.nats(seen), torch.nan).cpu().numpy())
        chances.append(over_all.T.cpu().numpy())
        conditional.append(given.T.cpu().numpy())
    nothing = np.zeros((0, len(head.given)), dtype=np.float32)
    return FunnelScores(
        np.concatenate([nothing, *chances]),
        np.concatenate([nothing, *conditional]),
        np.concatenate([nothing[:, 0], *nats]),
    )


@torch.inference_mode()
def item_vectors(
    model: JointModel, store: Store, rows: Array | None = None, *, rows_per_step: int = 8192
) -> Tensor:
    """Vectors of catalogue rows, ``[R, D]``; of every row if none are named, the unknown first."""
    model.eval()
    rows = np.arange(store.n_items + 1) if rows is None else rows
    pieces = []
    for start in range(0, len(rows), rows_per_step):
        batch = make_batch(store, extra_items=rows[start : start + rows_per_step])
        batch = batch.to(model.device)
        encoded = model.encode(batch)
        assert encoded.items is not None
        pieces.append(encoded.items[batch.extra])
    return torch.cat(pieces)


def encoded_queries(
    model: JointModel,
    store: Store,
    queries: Queries,
    *,
    history_length: int,
    size: int = QUERIES,
    shown: bool = False,
) -> Iterator[tuple[Batch, Encoded]]:
    """Users at moments, encoded in pieces of ``size``; ``shown`` asks for what they were shown."""
    model.eval()
    for start in range(0, len(queries.user), size):
        piece = slice(start, start + size)
        part = queries[piece]
        with torch.inference_mode():
            batch = make_batch(store, queries=part, history_length=history_length, shown=shown)
            batch = batch.to(model.device)
            encoded = model.encode(batch)
        yield batch, encoded


def match_scores(
    model: JointModel, store: Store, queries: Queries, *, history_length: int
) -> Iterator[Array]:
    """Scores of the whole catalogue for users at moments, in blocks ``[q, I]`` (row 1 first)."""
    head = cast(MatchHead, model.heads["match"])
    ids = item_ids(store).to(model.device)
    with torch.inference_mode():
        index = head.index(item_vectors(model, store), ids)
    size = min(QUERIES, max(_MOST_SCORES // len(ids), 1))
    pieces = encoded_queries(model, store, queries, history_length=history_length, size=size)
    for batch, encoded in pieces:
        assert encoded.users is not None
        with torch.inference_mode():
            scores = head.query(encoded.users) @ index.T
            scores += head.tally.of_histories(len(ids), *past_of(batch))
            yield scores[:, 1:].cpu().numpy()


def item_ids(store: Store) -> Tensor:
    """The id row of each catalogue row, ``[I + 1]``."""
    return torch.from_numpy(np.array(store["items/id"], dtype=np.int64))


def past_of(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Catalogue rows, actions and ages ``[Q, L]`` of what a batch's users did."""
    users = batch.users
    return batch.items["row"][users["history"]], users["action"], users["age"]


def first_queries(store: Store, split: str) -> tuple[Queries, list[Array]]:
    """Each user of a split at their first moment there, and the item rows they then took to.

    Those are the exposures whose first stage happened; users without any are left out.
    """
    first, last = store.ranges[split]
    query = store["exposures/query"][first:last]
    item = store["exposures/item"][first:last]
    positive = (store["exposures/labels"][first:last, 0] == 1) & (query >= 0) & (item > 0)
    users_of = store["queries/user"][query]
    moments = np.flatnonzero(query >= 0)
    users, at = np.unique(users_of[moments], return_index=True)
    earliest = query[moments[at]]
    order = np.lexsort((item[positive], users_of[positive]))
    user, wanted = users_of[positive][order], item[positive][order]
    bounds = np.searchsorted(user, users, side="left"), np.searchsorted(user, users, side="right")
    relevant = [np.unique(wanted[a:b]) for a, b in zip(*bounds, strict=True)]
    kept = np.array([len(items) > 0 for items in relevant], dtype=bool)
    earliest = earliest[kept]
    queries = Queries(
        store["queries/user"][earliest], store["queries/end"][earliest],
        store["queries/time"][earliest],
    )  # fmt: skip
    return queries, [items for items, keep in zip(relevant, kept, strict=True) if keep]


def profile_scores(
    model: JointModel, store: Store, users: Array, *, history_length: int
) -> list[Array]:
    """Distributions ``[U, V_p]`` of each profile task, for user rows with all their history."""
    head = cast(ProfileHead, model.heads["profile"])
    pieces: list[list[Array]] = [[] for _ in head.columns]
    queries = full_queries(store, users)
    read = encoded_queries(model, store, queries, history_length=history_length, shown=True)
    for batch, encoded in read:
        with torch.inference_mode():
            made = head.distributions(encoded, batch.users)
            for piece, distribution in zip(pieces, made, strict=True):
                piece.append(distribution.cpu().numpy())
    return [np.concatenate(piece) if piece else np.zeros((0, 0)) for piece in pieces]


@torch.inference_mode()
def title_tags(
    model: JointModel, store: Store, titles: Array, *, size: int = 256
) -> Iterator[tuple[Array, Array, Array]]:
    """Title rows of each piece, and their tags and confidences ``[g, A, L]``."""
    head = cast(ExtractHead, model.heads["extract"])
    for rows, _, states, tokens in _title_states(model, store, titles, size):
        tags, sure = head.decode(head(states, tokens), tokens[..., 0] != PADDING)
        yield rows, tags.cpu().numpy(), sure.cpu().numpy()


@torch.inference_mode()
def title_nats(
    model: JointModel, store: Store, titles: Array, sharpness: Sequence[float], *, size: int = 256
) -> tuple[Array, int]:
    """Nats of all annotated tags of these titles under each sharpness ``[S]``, and their number."""
    head = cast(ExtractHead, model.heads["extract"])
    total, n = np.zeros(len(sharpness)), 0
    for _, batch, states, tokens in _title_states(model, store, titles, size):
        tags = batch.titles["tags"]
        known, logits = int((tags >= 0).sum()), head(states, tokens)
        total += known * np.array([float(head.loss(logits, tags, sharpness=s)) for s in sharpness])
        n += known
    return total, n


@torch.inference_mode()
def title_values(model: JointModel, store: Store, titles: Array, *, size: int = 256) -> list[Array]:
    """Distributions ``[G, C]`` of each attribute that is read as classes."""
    head = cast(ExtractHead, model.heads["extract"])
    reader = head.values
    if reader is None:
        return []
    pieces: list[list[Array]] = [[np.zeros((0, n))] for n in reader.n_classes]
    for _, _, states, tokens in _title_states(model, store, titles, size):
        made = reader.chances(reader(states, tokens))
        for piece, chances in zip(pieces, made, strict=True):
            piece.append(chances.cpu().numpy())
    return [np.concatenate(piece) for piece in pieces]


def _title_states(
    model: JointModel, store: Store, titles: Array, size: int
) -> Iterator[tuple[Array, Batch, Tensor, Tensor]]:
    """Rows of each piece, their batch, and token states ``[g, L, D]`` and rows ``[g, L, F]``."""
    model.eval()
    assert model.text is not None
    for start in range(0, len(titles), size):
        rows = titles[start : start + size]
        batch = make_batch(store, titles=rows).to(model.device)
        states, _ = model.text(batch.texts["tokens"])
        text = batch.titles["text"]
        yield rows, batch, states[text], batch.texts["tokens"][text]
