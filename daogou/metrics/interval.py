"""A metric and whose rows are whose to how far luck could have moved it.

Rows of one user are not independent, so whole groups are drawn, with replacement, and a group
drawn twice counts twice: a weight per row, which every weighted metric understands. The interval
is the percentile interval of Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
chapter 13; groups instead of rows as in Field and Welsh, "Bootstrapping clustered data", 2007.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from daogou.errors import DataError
from daogou.metrics.binary import (
    Floats,
    checked_rows,
    fit_auc_order,
    group_codes,
)

LEVEL: Final = 0.95


@dataclass(frozen=True)
class Difference:
    """The AUC of one score less that of another, on the same rows and the same draws."""

    value: float
    low: float
    high: float
    se: float


def bootstrap(
    statistic: Callable[[Floats], float], groups: ArrayLike, *, n: int = 200, seed: int
) -> tuple[float, float]:
    """The 95 % interval of a statistic when other groups might as well have come.

    ``statistic`` receives ``[rows]`` multipliers of the rows' weights and returns the metric;
    ``groups`` is ``[rows]``. Draws where the metric is NaN are left out; the interval is NaN if
    more than half are, or if there are fewer than two groups. DataError as in `replicates`.

    >>> from daogou.metrics.binary import mean_of
    >>> low, high = bootstrap(lambda w: mean_of([0.0, 1.0, 0.0, 1.0], w), [1, 2, 3, 4], seed=0)
    >>> 0.0 <= low < 0.5 < high <= 1.0
    True
    >>> bootstrap(lambda w: mean_of([0.0, 1.0], w), ["ann", "ann"], seed=0)
    (nan, nan)
    """
    return percentiles(replicates(statistic, groups, n=n, seed=seed))


def replicates(
    statistic: Callable[[Floats], float], groups: ArrayLike, *, n: int = 200, seed: int
) -> Floats:
    """The statistic, ``[n]``, on ``n`` draws of the groups; the same draws for the same seed.

    All NaN with fewer than two groups: there is nothing to draw from.
    Raises DataError if ``groups`` is not one key per row, or ``n`` is below 2.

    >>> replicates(lambda w: w.sum(), ["ann", "bo"], n=3, seed=0).tolist()
    [2.0, 2.0, 2.0]
    """
    names = np.asarray(groups)
    codes, n_groups = group_codes(names, len(names) if names.ndim else 0)
    return _collected((statistic(draw[codes]) for draw in _draws(n_groups, n, seed)), n)


def percentiles(values: ArrayLike) -> tuple[float, float]:
    """The middle 95 % of replicates ``[n]``; NaN ones are left out, (NaN, NaN) if over half are.

    >>> percentiles([1.0, 3.0])
    (1.05, 2.95)
    >>> percentiles([1.0, float("nan"), float("nan")])
    (nan, nan)
    """
    defined = _defined(values)
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return float(low), float(high)


def standard_error(values: ArrayLike) -> float:
    """The standard deviation of replicates ``[n]``; NaN as in `percentiles`, and for one alone.

    >>> round(standard_error([1.0, 3.0]), 4)
    1.4142
    >>> standard_error([1.0])
    nan
    """
    defined = _defined(values)
    return float(np.std(defined, ddof=1)) if len(defined) > 1 else float("nan")


def auc_replicates(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    n: int = 200,
    seed: int = 0,
) -> Floats:
    """The AUC, ``[n]``, on the draws of `replicates`, sorting the rows only once.

    >>> auc_replicates([0.1, 0.9], [0, 0], ["ann", "bo"], n=2).tolist()
    [nan, nan]
    """
    _, _, mass = checked_rows(scores, labels, weights)
    codes, n_groups = group_codes(groups, len(mass))
    order = fit_auc_order(scores, labels)
    down, up = mass[order.negatives], mass[order.positives]
    down_codes, up_codes = codes[order.negatives], codes[order.positives]
    return _collected(
        (
            order.auc(down * draw[down_codes], up * draw[up_codes])
            for draw in _draws(n_groups, n, seed)
        ),
        n,
    )


def auc_interval(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    n: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """`bootstrap` of `binary.auc`, sorting the rows only once.

    >>> auc_interval([0.1, 0.9], [0, 1], ["ann", "ann"])
    (nan, nan)
    """
    return percentiles(auc_replicates(scores, labels, groups, weights, n=n, seed=seed))


def paired_difference(
    scores: ArrayLike,
    others: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    n: int = 200,
    seed: int = 0,
) -> Difference:
    """AUC(scores) - AUC(others), ``[rows]`` each, with both judged on the same draws.

    What luck does to both it takes out, so this sees differences far smaller than either
    interval is wide. NaN as in `bootstrap`.

    >>> paired_difference([0.2, 0.3, 0.4], [2, 3, 4], [0, 1, 1], ["ann", "bo", "cy"]).value
    0.0
    >>> paired_difference([0.2, 0.3], [2, 3], [1, 1], ["ann", "bo"])
    Difference(value=nan, low=nan, high=nan, se=nan)
    """
    _, _, mass = checked_rows(scores, labels, weights)
    areas = []
    for column in (scores, others):
        order = fit_auc_order(column, labels)
        areas.append(order.auc(mass[order.negatives], mass[order.positives]))
    gaps = auc_replicates(scores, labels, groups, weights, n=n, seed=seed) - auc_replicates(
        others, labels, groups, weights, n=n, seed=seed
    )
    low, high = percentiles(gaps)
    return Difference(areas[0] - areas[1], low, high, standard_error(gaps))


def _draws(n_groups: int, n: int, seed: int) -> Iterator[Floats]:
    """How often each group was drawn, ``[n_groups]``, ``n`` times; nothing below two groups."""
    if n < 2:
        raise DataError(f"n: {n} draws; at least two are needed, 200 give a usable interval")
    if n_groups < 2:
        return
    random = np.random.default_rng(seed)
    for _ in range(n):
        drawn = random.integers(n_groups, size=n_groups)
        yield np.bincount(drawn, minlength=n_groups).astype(np.float64)


def _collected(values: Iterator[float], n: int) -> Floats:
    found = np.fromiter(values, dtype=np.float64)
    return found if len(found) else np.full(n, np.nan)


def _defined(values: ArrayLike) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    defined = found[~np.isnan(found)]
    return defined if 2 * len(defined) >= len(found) else np.zeros(0)
