"""Queries and item vectors to the nearest items, exactly: every score is computed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from daogou.errors import DataError


@dataclass(frozen=True)
class Index:
    """Vectors of a catalogue, ``[N, D]``, searched by inner product. Made once, never changed."""

    vectors: Tensor

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
        n_allowed = len(self.vectors) if allowed is None else int(allowed.sum())
        k = min(k, n_allowed)
        scores, rows = [], []
        for start in range(0, len(queries), block):
            found = queries[start : start + block] @ self.vectors.T
            if added is not None:
                found = found + added[start : start + block]
            if allowed is not None:
                found = found.masked_fill(~allowed, -torch.inf)
            best, at = found.topk(k, dim=1)
            by_row = at.argsort(dim=1)
            best, at = best.gather(1, by_row), at.gather(1, by_row)
            order = best.argsort(dim=1, descending=True, stable=True)
            scores.append(best.gather(1, order))
            rows.append(at.gather(1, order))
        if not scores:
            return queries.new_zeros(0, k), torch.zeros(0, k, dtype=torch.int64)
        return torch.cat(scores), torch.cat(rows)

    def with_vectors(self, rows: Tensor, vectors: Tensor) -> "Index":
        """The same index with other vectors at ``rows [R]`` (see `placed`)."""
        return Index(placed(self.vectors, rows, vectors))

    def _fits(self, queries: Tensor) -> None:
        if queries.dim() != 2 or queries.shape[1] != self.vectors.shape[1]:
            raise DataError(
                f"index: queries {list(queries.shape)} do not fit vectors "
                f"{list(self.vectors.shape)}; ask with [Q, {self.vectors.shape[1]}]"
            )


def placed(old: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    """A copy of ``old [N, ...]`` with ``new [R, ...]`` at ``rows [R]``; those from N on are added.

    >>> placed(torch.tensor([1, 2]), torch.tensor([2, 0]), torch.tensor([7, 9])).tolist()
    [9, 2, 7]
    """
    n_more = max(int(rows.max()) + 1 - len(old), 0) if len(rows) else 0
    grown = torch.cat([old, old.new_zeros(n_more, *old.shape[1:])])
    grown[rows] = new
    return grown
