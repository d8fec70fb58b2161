"""Numbers to a bucket and a rank: the fitted quantiles of one column, missing as a value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MISSING: Final = 0  # the bucket of a missing number


@dataclass(frozen=True)
class Numeric:
    """Fitted quantiles of a number. Made by `fit_numeric`; never changes afterwards."""

    edges: tuple[float, ...]  # ascending; a number in bucket b lies in [edges[b-2], edges[b-1])
    knots: tuple[float, ...]  # ascending values whose ranks are evenly spaced from 0 to 1

    @property
    def n_rows(self) -> int:
        """Buckets, the missing one included."""
        return len(self.edges) + 2

    def bucket(self, values: NDArray[np.float64]) -> NDArray[np.int32]:
        """Bucket of each number, int32 ``[n]``; NaN is `MISSING`, the rest 1 and up."""
        rows = np.searchsorted(self.edges, values, side="right") + 1
        return np.where(np.isnan(values), MISSING, rows).astype(np.int32)

    def rank(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Place in the training distribution, float32 ``[n]`` in [0, 1]; NaN becomes a half."""
        places = np.linspace(0.0, 1.0, len(self.knots)) if len(self.knots) > 1 else np.array([0.5])
        ranks = np.interp(values, self.knots, places) if self.knots else np.full(len(values), 0.5)
        return np.where(np.isnan(values), 0.5, ranks).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """A document from which `from_json` makes an equal object."""
        return {"edges": list(self.edges), "knots": list(self.knots)}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Numeric":
        """The quantiles of a document made by `to_json`."""
        return Numeric(tuple(document["edges"]), tuple(document["knots"]))


def fit_numeric(
    values: NDArray[np.float64], counts: NDArray[np.int64] | None = None, *, buckets: int = 32
) -> Numeric:
    """Quantile edges of the finite values; a column of few distinct values gets one bucket each.

    With ``counts`` the values are finite, ascending and distinct, and say how often each came.

    >>> rooms = fit_numeric(np.array([1.0, 2.0, 2.0, 3.0, np.nan]))
    >>> rooms.bucket(np.array([1.0, 2.0, 3.0, 99.0, np.nan])).tolist()
    [1, 2, 3, 3, 0]
    >>> rooms.rank(np.array([1.0, 3.0, np.nan])).tolist()
    [0.0, 1.0, 0.5]
    >>> rooms == fit_numeric(np.array([1.0, 2.0, 3.0]), np.array([1, 2, 1]))
    True
    """
    distinct = values
    if counts is None:
        distinct, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    if len(distinct) <= buckets:
        edges = (distinct[1:] + distinct[:-1]) / 2
        return Numeric(tuple(edges.tolist()), tuple(distinct.tolist()))
    # A number that fills a bucket alone (a gain of 0) is cut off from those beside it, and the
    # rest share the other buckets: quantiles of all would spend nearly every one on that number.
    is_heavy = counts * buckets > counts.sum()
    heavy = np.flatnonzero(is_heavy)
    rest = distinct[~is_heavy], np.cumsum(counts[~is_heavy])
    n_rest = max(buckets - len(heavy), 1)
    after = distinct[heavy[heavy < len(distinct) - 1] + 1]
    inner = np.unique(np.concatenate([_levels(*rest, n_rest)[1:-1], distinct[heavy], after]))
    inner = inner[inner > distinct[0]]
    knots = np.unique(np.concatenate([_levels(*rest, 4 * n_rest), distinct[heavy]]))
    return Numeric(tuple(inner.tolist()), tuple(knots.tolist()))


def _levels(distinct: NDArray[np.float64], upto: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """``n + 1`` quantiles, from the least to the greatest; none of nothing.

    ``upto`` says how many values are at most each distinct one. Between two values as numpy's
    ``quantile`` has it, to the last bit.
    """
    if not len(distinct):
        return distinct
    place = np.linspace(0, 1, n + 1) * (upto[-1] - 1)
    whole = np.floor(place).astype(np.int64)
    low, high = (
        distinct[np.searchsorted(upto, each, side="right")]
        for each in (whole, np.minimum(whole + 1, upto[-1] - 1))
    )
    share = place - whole
    between: NDArray[np.float64] = np.where(
        share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share)
    )
    return between
