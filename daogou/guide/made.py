"""A run to what its guide finds by: an index of the catalogue, and how popular products are."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.artifact import Artifact
from daogou.artifact.counts import positive_share
from daogou.guide.index import Index
from daogou.guide.kept import NOWHERE, Kept
from daogou.guide.near import is_here
from daogou.guide.score import Scorer, Shoppers, some_users
from daogou.model.heads.match import MatchHead
from daogou.schema import GuideSetting


def query_of(artifact: Artifact, shoppers: Shoppers) -> Tensor:
    """What users ask the index with, ``[Q, D]``."""
    assert shoppers.encoded.users is not None
    return cast(MatchHead, artifact.model.heads["match"]).query(shoppers.encoded.users)


def searched(index: Index, scorer: Scorer, setting: GuideSetting, kept: Kept = NOWHERE) -> Index:
    """The index as ``[guide]`` has it searched: where the extra is not installed, exactly."""
    if len(index.vectors) < setting.approximate_from or not is_here():
        return index
    queries = _sample_queries(scorer)
    return index.in_cells(queries, least=setting.approximate_from, kept=kept)


@torch.inference_mode()
def _sample_queries(scorer: Scorer) -> Tensor:
    """What some users, evenly spread, ask the index with at the end of the log, ``[Q, D]``."""
    shoppers = scorer.shoppers(scorer.queries(some_users(scorer.artifact.store)))
    assert shoppers is not None
    return query_of(scorer.artifact, shoppers)


def past_of(shoppers: Shoppers) -> tuple[Tensor, Tensor, Tensor]:
    """Catalogue rows, actions and ages ``[Q, L]`` of what users did."""
    return shoppers.columns["history"], shoppers.columns["action"], shoppers.columns["age"]


def hints_of(artifact: Artifact, shoppers: Shoppers) -> tuple[Tensor, Tensor, Tensor]:
    """What users' own events add to match: user, catalogue row and number, ``[n]`` each."""
    tally = cast(MatchHead, artifact.model.heads["match"]).tally
    found = tally.hints(*past_of(shoppers))
    return found.query, found.row, tally.of_hints(found)


def ids_of(scorer: Scorer, rows: Tensor | None = None) -> Tensor:
    """Id rows of catalogue rows, None = of all."""
    ids = scorer.items.item_ids
    assert ids is not None
    return ids if rows is None else ids[rows]


@torch.inference_mode()
def indexed(artifact: Artifact, vectors: Tensor, ids: Tensor) -> Tensor:
    """What the index holds of item vectors ``[I, D]`` of id rows ``[I]``."""
    return cast(MatchHead, artifact.model.heads["match"]).index(vectors, ids)


def popularity_of(artifact: Artifact) -> NDArray[np.float64]:
    """The share of the catalogue that each row beats in training positives, ``[I + 1]``."""
    share = positive_share(artifact.transform, artifact.store).numpy()
    # A product unseen in training reads the unknown id, which must not look popular.
    share[0] = 0.0
    taken = share[artifact.store["items/id"]]
    others = np.sort(taken[1:])
    return np.searchsorted(others, taken, side="left") / max(len(others), 1)
