"""Vectors in cells around centres to the rows that a query probably likes best, by faiss.

Only this file knows faiss (``pip install 'daogou[ann]'``).
"""

import importlib
import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

RECALL: Final = 0.95  # of the best rows of sample queries, which decides how many cells are read
_CELLS: Final = 4.0  # times the root of the number of vectors
_TAUGHT_BY: Final = 64  # vectors a cell, which place the centres
_FEW: Final = 64  # rows that are not allowed: so many more are asked for, and they are dropped


def is_here() -> bool:
    """Whether faiss is installed."""
    return importlib.util.find_spec("faiss") is not None


@dataclass(frozen=True)
class Near:
    """Vectors ``[N, D]`` in cells, of which a query reads the ``probes`` nearest ones.

    An inverted file (Jégou et al., "Product Quantization for Nearest Neighbor Search", TPAMI
    2011; here nothing is quantised). The largest inner products are the least distances once each
    vector has one more coordinate that makes all equally long (Bachrach et al., "Speeding Up the
    Xbox Recommender System Using a Euclidean Transformation for Inner-Product Spaces", RecSys
    2014). Unlike there, coordinates are first multiplied by how large queries are along them,
    and queries divided by it, so that cells part what queries part. Made by `fit_near`.
    """

    cells: Any  # faiss.IndexIVFFlat
    scale: Tensor  # [D]
    probes: int
    recall: float  # that was measured with so many probes
    n: int

    def rows(self, query: Tensor, k: int, allowed: Tensor) -> Tensor:
        """At most ``k`` rows of a large inner product with ``query [D]``, in no order.

        ``allowed`` is bool ``[N]``; the cells are read for those rows alone, and so many more
        cells that as many vectors are compared as without a filter.
        """
        faiss = _faiss()
        n_allowed = n_true(allowed)
        if self.n - n_allowed > _FEW:
            packed = np.packbits(allowed.numpy(), bitorder="little")
            probes = min(math.ceil(self.probes * self.n / max(n_allowed, 1)), self.cells.nlist)
            chosen = faiss.SearchParametersIVF(sel=faiss.IDSelectorBitmap(packed), nprobe=probes)
        else:
            k += self.n - n_allowed
            chosen = faiss.SearchParametersIVF(nprobe=self.probes)
        asked = torch.cat([query / self.scale, query.new_zeros(1)])[None]
        _, found = self.cells.search(asked.numpy(), min(k, self.n), params=chosen)
        rows = torch.from_numpy(found[0][found[0] >= 0])
        return rows[allowed[rows]]


def near_arrays(near: Near) -> dict[str, Tensor]:
    """All of it as arrays, see `near_of`."""
    told = torch.tensor([near.probes, near.recall, near.n], dtype=torch.float64)
    held = torch.from_numpy(_faiss().serialize_index(near.cells))
    return {"cells": held, "scale": near.scale, "told": told}


def near_of(found: Mapping[str, Tensor]) -> Near:
    """The way back from `near_arrays`."""
    probes, recall, n = found["told"].tolist()
    cells = _faiss().deserialize_index(found["cells"].numpy())
    return Near(cells, found["scale"], int(probes), recall, int(n))


def fit_near(vectors: Tensor, queries: Tensor, k: int) -> Near:
    """Place the centres, and read as many cells as find the best ``k`` of sample queries.

    The number of cells that are read is doubled until `RECALL` of the best rows of ``queries
    [Q, D]`` are found; all cells together find everything.
    """
    faiss = _faiss()
    n, width = vectors.shape
    n_cells = max(min(int(_CELLS * math.sqrt(n)), n // _TAUGHT_BY), 1)
    cells = faiss.IndexIVFFlat(faiss.IndexFlatL2(width + 1), width + 1, n_cells)
    cells.cp.max_points_per_centroid = _TAUGHT_BY
    cells.cp.min_points_per_centroid = 1  # a small catalogue is no fault
    scale = queries.square().mean(0).sqrt()
    scale = scale.clamp(min=1e-3 * float(scale.max()) + 1e-12)
    scaled = vectors * scale
    length = scaled.square().sum(1)
    level = (length.max() - length).clamp(min=0).sqrt()
    held = torch.cat([scaled, level[:, None]], 1).numpy()
    cells.train(held)
    cells.add(held)
    best, probes = _best(vectors, queries, k), 1
    while True:
        near = Near(cells, scale, probes, math.nan, n)
        recall = _found(near, queries, best)
        if recall >= RECALL or probes >= n_cells:
            return Near(cells, scale, probes, recall, n)
        probes = min(2 * probes, n_cells)


def _faiss() -> Any:
    """The module, whose type stubs know no search parameters."""
    return importlib.import_module("faiss")


def recall_of(near: Near, vectors: Tensor, queries: Tensor, k: int) -> float:
    """The share of the best ``k`` rows of queries ``[Q, D]`` that are found."""
    return _found(near, queries, _best(vectors, queries, k))


def n_true(mask: Tensor) -> int:
    """How many of a mask are true; torch's own sum takes twenty times as long."""
    return int(np.count_nonzero(mask.numpy()))


def _best(vectors: Tensor, queries: Tensor, k: int) -> Tensor:
    """The best rows of each query, ``[Q, K]``, by reading all."""
    return (queries @ vectors.T).topk(min(k, len(vectors))).indices


def _found(near: Near, queries: Tensor, best: Tensor) -> float:
    allowed = torch.ones(near.n, dtype=torch.bool)
    shares = [
        torch.isin(wanted, near.rows(query, len(wanted), allowed)).double().mean()
        for query, wanted in zip(queries, best, strict=True)
    ]
    return float(torch.stack(shares).mean()) if shares else 1.0
