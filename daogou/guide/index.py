"""Queries and item vectors to the nearest items: exactly, or where they are many, nearly so."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from daogou.errors import DataError
from daogou.guide.kept import NOWHERE, Kept
from daogou.guide.near import Near, fit_near, n_true, near_arrays, near_of, recall_of

MATCHED: Final = 500  # rows that a search is judged by
_AS_MUCH: Final = 0.01  # by so much less may cells find that were kept


@dataclass(frozen=True)
class Cells:
    """What an index has beside its vectors so that not every score need be computed."""

    near: Near
    least: int  # rows; among fewer every score is computed
    queries: Tensor  # [Q, D] by which `near` was fitted
    fresh: Tensor  # [F] rows that are not in `near` as they are now


@dataclass(frozen=True)
class Index:
    """Vectors of a catalogue, ``[N, D]``, searched by inner product. Made once, never changed.

    The search is exact, every score being computed, but for large catalogues with `in_cells`.
    """

    vectors: Tensor
    cells: Cells | None = None

    def in_cells(self, queries: Tensor, *, least: int, kept: Kept = NOWHERE) -> "Index":
        """The same index that reads some of its vectors for a query; it needs faiss.

        ``queries [Q, D]`` are like those that will come. Searches among fewer than ``least`` rows
        stay exact. Cells that were ``kept`` are taken if they find as much.
        """

        def fit(found: Mapping[str, Tensor]) -> bool:
            near = near_of(found)
            if near.n != len(self.vectors):
                return False
            return recall_of(near, self.vectors, queries, MATCHED) > near.recall - _AS_MUCH

        made = kept.arrays(
            "cells", lambda: near_arrays(fit_near(self.vectors, queries, MATCHED)), fit
        )
        near = near_of(made)
        return Index(self.vectors, Cells(near, least, queries, torch.zeros(0, dtype=torch.int64)))

    def scores(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Inner products ``[Q, R]`` of queries ``[Q, D]`` with the given rows ``[R]``."""
        self._fits(queries)
        return queries @ self.vectors[rows].T

    def nearest(
        self,
        queries: Tensor,
        k: int,
        *,
        allowed: Tensor | None = None,
        added: Tensor | None = None,
        block: int = 64,
    ) -> tuple[Tensor, Tensor]:
        """The ``k`` best rows of each query and their scores, both ``[Q, K]``, best first.

        ``allowed`` is bool ``[N]``; K is less than ``k`` where fewer rows are allowed. ``added
        [Q, N]`` are added to the inner products. Scores that are equal are in the order of their
        rows. Queries go in blocks, so that memory stays at ``block * N`` numbers.

        >>> index = Index(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
        >>> index.nearest(torch.tensor([[1.0, 0.5]]), 2)[1].tolist()
        [[2, 0]]
        """
        self._fits(queries)
        n_allowed = len(self.vectors) if allowed is None else n_true(allowed)
        k = min(k, n_allowed)
        if not len(queries):
            return queries.new_zeros(0, k), torch.zeros(0, k, dtype=torch.int64)
        if self.cells is not None and k and n_allowed >= self.cells.least:
            if allowed is None:
                allowed = torch.ones(len(self.vectors), dtype=torch.bool)
            found = [
                self._probably(self.cells, query, k, allowed, None if added is None else added[at])
                for at, query in enumerate(queries)
            ]
        else:
            few = n_allowed < len(self.vectors) // 4
            rows = allowed.nonzero()[:, 0] if few and allowed is not None else None
            vectors = self.vectors if rows is None else self.vectors[rows]
            found = []
            for start in range(0, len(queries), block):
                scores = queries[start : start + block] @ vectors.T
                if added is not None:
                    more = added[start : start + block]
                    scores = scores + (more if rows is None else more[:, rows])
                if allowed is not None and rows is None:
                    scores = scores.masked_fill(~allowed, -torch.inf)
                scores, at = best_of(scores, k)
                found.append((scores, at if rows is None else rows[at]))
        best, where = zip(*found, strict=True)
        return torch.cat(best), torch.cat(where)

    def _probably(
        self, cells: Cells, query: Tensor, k: int, allowed: Tensor, added: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The best rows of one query among those that cells have, the fresh ones, and the added."""
        inside = allowed[: cells.near.n].clone()
        inside[cells.fresh[cells.fresh < cells.near.n]] = False
        wanted = k
        others = [cells.fresh]
        if added is not None:
            others.append(added.nonzero()[:, 0])
            wanted += len(others[-1])  # whose places others take if what is added is below 0
        others.append(cells.near.rows(query, wanted, inside))
        rows = torch.cat(others).unique()
        rows = rows[allowed[rows]]
        if len(rows) < k:  # the cells that were read have too few
            rows = allowed.nonzero()[:, 0]
        scores = query[None] @ self.vectors[rows].T
        if added is not None:
            scores = scores + added[rows]
        scores, at = best_of(scores, k)
        return scores, rows[at]

    def with_vectors(self, rows: Tensor, vectors: Tensor) -> "Index":
        """The same index with other vectors at ``rows [R]`` (see `placed`).

        They are compared one by one until there are so many that the cells are made anew.
        """
        changed, cells = placed(self.vectors, rows, vectors), self.cells
        if cells is None:
            return Index(changed)
        fresh = torch.cat([cells.fresh, rows]).unique()
        if len(fresh) >= cells.least:
            return Index(changed).in_cells(cells.queries, least=cells.least)
        return Index(changed, replace(cells, fresh=fresh))

    def _fits(self, queries: Tensor) -> None:
        if queries.dim() != 2 or queries.shape[1] != self.vectors.shape[1]:
            raise DataError(
                f"index: queries {list(queries.shape)} do not fit vectors "
                f"{list(self.vectors.shape)}; ask with [Q, {self.vectors.shape[1]}]"
            )


def best_of(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest of each row of ``scores [Q, N]`` and their columns, equal ones in order."""
    best, at = scores.topk(k, dim=1)
    by_row = at.argsort(dim=1)
    best, at = best.gather(1, by_row), at.gather(1, by_row)
    order = best.argsort(dim=1, descending=True, stable=True)
    return best.gather(1, order), at.gather(1, order)


def placed(old: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    """A copy of ``old [N, ...]`` with ``new [R, ...]`` at ``rows [R]``; those from N on are added.

    >>> placed(torch.tensor([1, 2]), torch.tensor([2, 0]), torch.tensor([7, 9])).tolist()
    [9, 2, 7]
    """
    n_more = max(int(rows.max()) + 1 - len(old), 0) if len(rows) else 0
    grown = torch.cat([old, old.new_zeros(n_more, *old.shape[1:])])
    grown[rows] = new
    return grown
