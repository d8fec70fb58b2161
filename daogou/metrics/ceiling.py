"""What a simulated shop planted to how good a model can be, and an alarm if it seems better."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from daogou.errors import DataError
from daogou.metrics.binary import Floats, auc, checked_probabilities, run_starts
from daogou.metrics.interval import paired_difference


@dataclass(frozen=True)
class Alarm:
    """How much better the model ranks than what was knowable, and if that is beyond luck."""

    difference: float
    se: float
    fires: bool


def ceiling_auc(p: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The AUC to expect of the true probabilities ``[n]`` themselves: no model can beat it.

    ``sum_ij p_i (1 - p_j) ([p_i > p_j] + [p_i = p_j] / 2) / (sum p sum (1 - p))``, in one sort.
    NaN when one class cannot come. DataError if ``p`` is not 0 to 1, or as in `binary.auc`.

    >>> round(ceiling_auc([0.8, 0.2]), 6)  # 0.8 * 0.8, and half of 0.8 * 0.2 twice
    0.8
    >>> round(ceiling_auc([0.3, 0.3, 0.3]), 6)
    0.5
    >>> ceiling_auc([0.0, 0.0])
    nan
    """
    return expected_auc(p, p, weights)


def expected_auc(scores: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The AUC to expect of scores ``[n]`` where labels come with the true chance ``p`` ``[n]``.

    Free of the labels' luck, so it tells models apart on fewer rows. NaN as in `ceiling_auc`.

    >>> round(expected_auc([1, 2], [0.8, 0.2]), 6)
    0.2
    """
    chance, _, mass = checked_probabilities(p, np.zeros(np.shape(p)), weights)
    twice = np.concatenate([np.asarray(scores, dtype=np.float64)] * 2)
    labels = np.repeat([1, 0], len(chance))  # each row both ways, weighted by how likely
    return auc(twice, labels, np.concatenate([mass * chance, mass * (1.0 - chance)]))


def leak_alarm(
    scores: ArrayLike,
    known: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    n: int = 100,
    seed: int = 0,
) -> Alarm:
    """Whether the model ranks better than the knowable probability, beyond luck: then it peeks.

    AUC(scores) - AUC(known) on the same rows ``[n]`` and labels, its standard error from draws of
    whole groups. Fires above two standard errors, which luck alone reaches 2 times in 100 for a
    model that is itself at the ceiling. Where the difference or its error is NaN it stays silent.

    >>> leak_alarm([0.1, 0.9], [0.5, 0.5], [0, 1], ["ann", "ann"])
    Alarm(difference=0.5, se=nan, fires=False)
    """
    found = paired_difference(scores, known, labels, groups, weights, n=n, seed=seed)
    fires = found.value > 0.0 and found.value > 2.0 * found.se
    return Alarm(found.value, found.se, fires)


def gap_closed(value: float, ceiling: float, floor: float = 0.5) -> float:
    """The share of the way from ``floor`` to ``ceiling`` that ``value`` has gone.

    NaN where the ceiling is not above the floor: there was nothing to learn.

    >>> round(gap_closed(0.7, 0.9), 6)
    0.5
    >>> gap_closed(0.7, 0.5)
    nan
    """
    return (value - floor) / (ceiling - floor) if ceiling > floor else float("nan")


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """The rank correlation of ``[n]`` and ``[n]``; tied values share their mean rank.

    NaN when either is constant: it has no order. DataError on lengths that differ, and on NaN.

    >>> round(spearman([1, 2, 3], [10, 20, 15]), 6)
    0.5
    >>> spearman([1, 1, 1], [1, 2, 3])
    nan
    """
    one, other = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape:
        raise DataError(f"spearman: shapes {list(one.shape)} and {list(other.shape)}; give equal")
    if np.isnan(one).any() or np.isnan(other).any():
        raise DataError("spearman: found NaN, which has no rank; leave those rows out")
    if not len(one):
        return float("nan")
    x, y = (ranks - ranks.mean() for ranks in (_mean_ranks(one), _mean_ranks(other)))
    size = np.sqrt(np.dot(x, x) * np.dot(y, y))
    return float(np.dot(x, y) / size) if size > 0.0 else float("nan")


def _mean_ranks(values: Floats) -> Floats:
    order = np.argsort(values)
    starts = run_starts(values[order])
    lengths = np.diff(starts, append=len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(starts + (lengths - 1) / 2.0, lengths)
    return ranks
