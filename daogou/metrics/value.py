"""Predicted and actual amounts to how far off they are, and whether the large ones come first."""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from daogou.errors import DataError
from daogou.metrics.binary import checked_weights, run_starts

Floats: TypeAlias = NDArray[np.float64]


def mean_absolute_error(
    predicted: ArrayLike, actual: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """The mean distance between ``[n]`` and ``[n]``; NaN without weight.

    DataError, as from all below, on lengths that differ, on NaN, and on unfit weights.

    >>> mean_absolute_error([1, 4], [3, 4])
    1.0
    >>> mean_absolute_error([], [])
    nan
    """
    values, truth, mass = _checked(predicted, actual, weights)
    return _mean(np.abs(values - truth), mass)


def log_error(predicted: ArrayLike, actual: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The root of the mean squared difference of logarithms, over the rows that are above 0.

    A row where either is 0 has no logarithm and is left out; NaN without any other.

    >>> round(log_error([np.e, 5.0], [1.0, 0.0]), 6)
    1.0
    """
    values, truth, mass = _checked(predicted, actual, weights)
    above = (values > 0) & (truth > 0)
    gaps = np.log(values[above]) - np.log(truth[above])
    return float(np.sqrt(_mean(gaps**2, mass[above])))


def normalised_gini(
    predicted: ArrayLike, actual: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """How early the value comes when the largest prediction is first, 1 if as early as it can.

    The Gini coefficient of ``actual [n]`` in the order of ``predicted [n]``, over that in its own
    order (Wang et al., "A Deep Probabilistic Model for Customer Lifetime Value Prediction", 2019).
    0 is no better than chance, below 0 worse. Equal predictions come at once, so that no order of
    the rows counts. NaN where all values are equal.

    >>> normalised_gini([3, 2, 1], [30, 20, 10])
    1.0
    >>> round(normalised_gini([1, 2, 3], [30, 20, 10]), 6)
    -1.0
    >>> normalised_gini([1, 1, 1], [30, 20, 10])
    0.0
    >>> normalised_gini([1, 2], [5, 5])
    nan
    """
    values, truth, mass = _checked(predicted, actual, weights)
    if (truth < 0).any():
        raise DataError("normalised_gini: found a value below 0; an amount is 0 or more")
    most = _gini(truth, truth, mass)
    return _gini(values, truth, mass) / most if most > 1e-12 else float("nan")


def value_ratio(predicted: ArrayLike, actual: ArrayLike, weights: ArrayLike | None = None) -> float:
    """What was foretold for each unit of value that came: above 1 says too much.

    NaN where none came.

    >>> value_ratio([10, 20], [0, 15])
    2.0
    """
    values, truth, mass = _checked(predicted, actual, weights)
    came = float(np.dot(truth, mass))
    return float(np.dot(values, mass)) / came if came > 0.0 else float("nan")


def _gini(keys: Floats, values: Floats, mass: Floats) -> float:
    total = float(np.dot(values, mass))
    if not len(keys) or total <= 0.0:
        return float("nan")
    order = np.argsort(-keys)
    starts = run_starts(keys[order])
    rows = np.add.reduceat(mass[order], starts) / mass.sum()
    came = np.add.reduceat((values * mass)[order], starts) / total
    before = np.cumsum(came) - came
    area = float(np.dot(rows, before + came / 2.0))
    return 2.0 * area - 1.0


def _mean(numbers: Floats, mass: Floats) -> float:
    total = mass.sum()
    return float(np.dot(numbers, mass) / total) if total > 0.0 else float("nan")


def _checked(
    predicted: ArrayLike, actual: ArrayLike, weights: ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    values, truth = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    if values.ndim != 1 or values.shape != truth.shape:
        raise DataError(
            f"predicted: shape {list(values.shape)}, and actual has {list(truth.shape)}; give one "
            "prediction per row"
        )
    if not (np.isfinite(values).all() and np.isfinite(truth).all()):
        raise DataError(
            "predicted, actual: found NaN or infinity; leave out the rows whose value is missing"
        )
    return values, truth, checked_weights(weights, len(values))
