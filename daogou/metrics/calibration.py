"""Probabilities and what happened to how far the one can be read as the other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from daogou.errors import DataError
from daogou.metrics.binary import Floats, checked_probabilities, run_starts


@dataclass(frozen=True)
class Reliability:
    """What was said and what came true in bins of rising probability, ``[bins]`` each."""

    predicted: Floats  # mean probability
    observed: Floats  # share of positives
    weight: Floats
    noise: Floats  # the gap to expect of a calibrated model, by the luck of the draw


def reliability(
    p: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None, bins: int = 20
) -> Reliability:
    """The points of a reliability plot, from at most ``bins`` bins of equal weight.

    ``p``, labels and weights are ``[n]``. Rows of one probability stay in one bin, so the order
    of rows does not matter, and a constant ``p`` makes a single bin; empty bins are left out.

    With ``W`` a bin's weight, ``noise`` is E|sum w (y - p)| / W for independent y ~ Bernoulli(p):
    by the normal law ``sqrt(2 / pi * sum w^2 p (1 - p)) / W``, and never above its bound
    ``2 sum w p (1 - p) / W``, which is where rare labels are.

    Raises DataError as `binary.log_loss` does.

    >>> plot = reliability([0.1, 0.1, 0.8, 0.8], [0, 0, 1, 0], bins=2)
    >>> plot.predicted.tolist(), plot.observed.tolist()
    ([0.1, 0.8], [0.0, 0.5])
    >>> reliability([], []).predicted.tolist()
    []
    """
    if bins < 1:
        raise DataError(f"bins: {bins}; at least one is needed")
    values, positive, mass = checked_probabilities(p, labels, weights)
    kept = mass > 0.0
    values, positive, mass = values[kept], positive[kept], mass[kept]
    if not len(values):
        return Reliability(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0))
    order = np.argsort(values)
    starts = run_starts(values[order])
    blur = values * (1.0 - values)
    heavy, said, true, spread, bound = (
        np.add.reduceat(column[order], starts)
        for column in (mass, mass * values, mass * positive, mass**2 * blur, 2.0 * mass * blur)
    )
    middle = np.cumsum(heavy) - heavy / 2.0
    bin_of = np.minimum((middle / heavy.sum() * bins).astype(np.int64), bins - 1)
    first = run_starts(bin_of)
    heavy, said, true, spread, bound = (
        np.add.reduceat(column, first) for column in (heavy, said, true, spread, bound)
    )
    noise = np.minimum(np.sqrt(2.0 / np.pi * spread), bound)
    return Reliability(said / heavy, true / heavy, heavy, noise / heavy)


def calibration_error(
    p: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None, bins: int = 20
) -> float:
    """The mean distance between what was said and what came true, over the bins of `reliability`.

    ``sum_b W_b / W |observed_b - predicted_b|`` (ECE). Luck makes it positive for every finite
    sample; see `bias_corrected_calibration_error`. NaN when nothing has weight.

    >>> round(calibration_error([0.1, 0.1, 0.8, 0.8], [0, 0, 1, 0], bins=2), 4)  # (0.1 + 0.3) / 2
    0.2
    >>> calibration_error([], [])
    nan
    """
    plot = reliability(p, labels, weights, bins)
    if not len(plot.weight):
        return float("nan")
    return float(np.average(np.abs(plot.observed - plot.predicted), weights=plot.weight))


def bias_corrected_calibration_error(
    p: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None, bins: int = 20
) -> float:
    """`calibration_error` less what a calibrated model would show by luck, and not below 0.

    ``max(0, sum_b W_b / W (|observed_b - predicted_b| - noise_b))``, with the noise of
    `reliability`. Bins may go below 0 and the sum may not: a floor in each bin would leave luck
    in. Where a model is off by more than the noise this says too little, by the noise at most.
    NaN when nothing has weight.

    >>> bias_corrected_calibration_error([0.5, 0.5], [0, 1])
    0.0
    >>> bias_corrected_calibration_error([], [])
    nan
    """
    plot = reliability(p, labels, weights, bins)
    if not len(plot.weight):
        return float("nan")
    gaps = np.abs(plot.observed - plot.predicted) - plot.noise
    return max(0.0, float(np.average(gaps, weights=plot.weight)))


def predicted_over_observed(
    p: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """The positives foretold for each one that came (PCOC): above 1 says too much.

    NaN when none came. DataError as in `binary.log_loss`.

    >>> predicted_over_observed([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0])
    2.0
    >>> predicted_over_observed([0.5], [0])
    nan
    """
    values, positive, mass = checked_probabilities(p, labels, weights)
    came = float(mass[positive].sum())
    return float(np.dot(values, mass)) / came if came > 0.0 else float("nan")
