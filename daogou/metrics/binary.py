"""Scores or probabilities, and what happened, to numbers of merit for one task.

Tasks are never pooled here: differing base rates alone would look like skill.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from daogou.errors import DataError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]

CLIP: Final = 1e-7  # a certain, wrong answer costs 16.1 nats instead of infinity


@dataclass(frozen=True)
class Grouped:
    """A mean over groups, and how many groups had a value."""

    value: float
    n_groups_used: int
    n_groups_skipped: int
    weight: float  # of the rows in the groups used


@dataclass(frozen=True)
class AucOrder:
    """Rows sorted once, so that the AUC under many weightings costs no further sort.

    Made by `fit_auc_order`. ``below`` and ``through`` count, for each positive, the negatives
    that score less, and those that score no more.
    """

    negatives: Rows  # rows, by rising score
    positives: Rows
    below: Rows
    through: Rows

    def auc(self, negative_weights: Floats, positive_weights: Floats) -> float:
        """The AUC with these weights, given in the order of ``negatives`` and ``positives``."""
        lost = np.zeros(len(negative_weights) + 1)
        np.cumsum(negative_weights, out=lost[1:])
        pairs = positive_weights.sum() * lost[-1]
        if pairs <= 0.0:
            return float("nan")
        wins = np.dot(positive_weights, lost[self.below] + lost[self.through]) / 2.0
        return float(wins / pairs)


def fit_auc_order(scores: ArrayLike, labels: ArrayLike) -> AucOrder:
    """Sort ``[n]`` scores of rows labelled 0 or 1, for `AucOrder.auc`. DataError as in `auc`."""
    values, positive, _ = checked_rows(scores, labels)
    negatives, positives = np.flatnonzero(~positive), np.flatnonzero(positive)
    negatives = negatives[np.argsort(values[negatives])]
    positives = positives[np.argsort(values[positives])]  # sorted lookups stay in the cache
    lower, upper = values[negatives], values[positives]
    return AucOrder(
        negatives=negatives,
        positives=positives,
        below=np.searchsorted(lower, upper, side="left").astype(np.int64),
        through=np.searchsorted(lower, upper, side="right").astype(np.int64),
    )


def auc(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Chance that a random positive outscores a random negative; ties count a half.

    Scores, labels (0 or 1) and weights are ``[n]``. Exact: no thresholds, which lose all order
    among rare labels' small probabilities. NaN when a class is absent or weighs nothing: an
    undefined value is not 0.5, and must not be averaged.

    Raises DataError on lengths that differ, NaN scores, other labels, negative weights.

    >>> auc([0.1, 0.4, 0.4, 0.8], [0, 1, 0, 1])  # three pairs won, one tied, of four
    0.875
    >>> auc([0.9, 0.4], [1, 1])
    nan
    """
    _, _, mass = checked_rows(scores, labels, weights)
    order = fit_auc_order(scores, labels)
    return order.auc(mass[order.negatives], mass[order.positives])


def gauc(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike | None = None,
) -> Grouped:
    """The mean AUC within groups (users, requests), each counting by the weight of its rows.

    Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, eq. 7.
    All arguments are ``[n]``; a group is any value that sorts. A group of one class has no AUC
    and is skipped, not counted as 0.5; NaN when every group is skipped. DataError as in `auc`.

    >>> gauc([0.2, 0.7, 0.5, 0.1], [0, 1, 1, 0], ["ann", "ann", "bo", "cy"])
    Grouped(value=1.0, n_groups_used=1, n_groups_skipped=2, weight=2.0)
    >>> gauc([0.2, 0.7], [0, 1], ["ann", "bo"]).value
    nan
    """
    values, positive, mass = checked_rows(scores, labels, weights)
    codes, n_groups = group_codes(groups, len(values))
    if not len(values):
        return Grouped(float("nan"), 0, 0, 0.0)
    order = np.lexsort((values, codes))
    values, positive, mass, codes = values[order], positive[order], mass[order], codes[order]
    starts = run_starts(values, codes)
    owner = codes[starts]  # [ties]: a run of equal scores within one group
    ups = np.add.reduceat(np.where(positive, mass, 0.0), starts)
    downs = np.add.reduceat(np.where(positive, 0.0, mass), starts)
    below = np.cumsum(downs) - downs
    below -= below[np.searchsorted(owner, np.arange(n_groups))][owner]
    wins = np.bincount(owner, ups * (below + downs / 2.0), n_groups)
    up, down = np.bincount(owner, ups, n_groups), np.bincount(owner, downs, n_groups)
    used = (up > 0.0) & (down > 0.0)
    n_used, size = int(used.sum()), (up + down)[used]
    if not n_used:
        return Grouped(float("nan"), 0, n_groups, 0.0)
    value = np.average(wins[used] / (up[used] * down[used]), weights=size)
    return Grouped(float(value), n_used, n_groups - n_used, float(size.sum()))


def log_loss(p: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean of ``-log`` of the probability given to what happened, in nats.

    ``p`` is ``[n]``, clipped to `CLIP` from 0 and 1. NaN when nothing has weight.
    Raises DataError as `auc` does, and on a ``p`` outside 0 to 1.

    >>> round(log_loss([0.5, 0.5], [0, 1]), 4)
    0.6931
    >>> log_loss([], [])
    nan
    """
    values, positive, mass = checked_probabilities(p, labels, weights)
    inside = np.clip(values, CLIP, 1.0 - CLIP)
    return mean_of(-np.where(positive, np.log(inside), np.log1p(-inside)), mass)


def normalised_entropy(p: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The log loss over that of always saying these rows' base rate: below 1 is skill.

    He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014.
    NaN when a class is absent: the base rate is then certain and its log loss 0. DataError as
    in `log_loss`.

    >>> normalised_entropy([0.25] * 4, [1, 0, 0, 0])
    1.0
    >>> normalised_entropy([0.1, 0.2], [0, 0])
    nan
    """
    _, positive, mass = checked_probabilities(p, labels, weights)
    rate = mean_of(positive.astype(np.float64), mass)
    if not 0.0 < rate < 1.0:
        return float("nan")
    return log_loss(p, labels, weights) / float(-rate * np.log(rate) - (1 - rate) * np.log1p(-rate))


def average_precision(
    scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """The precision at each positive, averaged; tied rows enter together.

    No skill gives the base rate, not a half. NaN without positives. DataError as in `auc`.

    >>> round(average_precision([0.9, 0.8, 0.7], [1, 0, 1]), 4)  # (1/1 + 2/3) / 2
    0.8333
    >>> average_precision([0.9, 0.8], [0, 0])
    nan
    """
    values, positive, mass = checked_rows(scores, labels, weights)
    if not (positive & (mass > 0.0)).any():
        return float("nan")
    order = np.argsort(-values)
    starts = run_starts(values[order])
    found = np.add.reduceat(np.where(positive, mass, 0.0)[order], starts)
    shown = np.cumsum(np.add.reduceat(mass[order], starts))
    some = found > 0.0  # where nothing was found nothing is added, and `shown` may still be 0
    precision = np.cumsum(found)[some] / shown[some]
    return mean_of(precision, found[some])


def accuracy(predicted: ArrayLike, actual: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The share of rows whose class, ``[n]`` each, is right. NaN when nothing has weight.

    >>> accuracy([0, 1, 1, 2], [0, 1, 2, 2])
    0.75
    >>> accuracy([], [])
    nan
    """
    said, true = np.asarray(predicted), np.asarray(actual)
    _same_length("predicted classes", said, "actual classes", true)
    return mean_of((said == true).astype(np.float64), checked_weights(weights, len(true)))


def macro_f1(
    predicted: ArrayLike,
    actual: ArrayLike,
    n_classes: int,
    weights: ArrayLike | None = None,
) -> float:
    """The mean over classes of F1, for ``[n]`` classes numbered 0 to ``n_classes - 1``.

    Classes absent from ``actual`` are left out of the mean: nothing was there to find. (Saying
    such a class still costs the class that it hid.) NaN when nothing has weight.
    Raises DataError on lengths that differ and on numbers that are no class.

    >>> round(macro_f1([0, 1, 1], [0, 0, 1], 3), 4)  # class 2 is not asked for
    0.6667
    >>> macro_f1([], [], 3)
    nan
    """
    said, true = _classes("predicted", predicted, n_classes), _classes("actual", actual, n_classes)
    _same_length("predicted classes", said, "actual classes", true)
    mass = checked_weights(weights, len(true))
    right = np.bincount(true, np.where(said == true, mass, 0.0), n_classes)
    there, claimed = np.bincount(true, mass, n_classes), np.bincount(said, mass, n_classes)
    asked = there > 0.0
    if not asked.any():
        return float("nan")
    return float((2.0 * right[asked] / (there[asked] + claimed[asked])).mean())


def macro_auc(
    probabilities: ArrayLike, actual: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """The mean over classes of the AUC of one class against the rest.

    ``probabilities`` is ``[n, C]``, ``actual`` ``[n]`` of 0 to C - 1. Only classes with rows on
    both sides count; NaN when there is none. DataError as in `macro_f1` and `auc`.

    >>> macro_auc([[0.8, 0.2, 0.0], [0.3, 0.7, 0.0]], [0, 1])
    1.0
    >>> macro_auc([[0.8, 0.2]], [0])
    nan
    """
    table = np.asarray(probabilities, dtype=np.float64)
    if table.ndim != 2:
        raise DataError(f"probabilities: shape {list(table.shape)}; give [rows, classes]")
    true = _classes("actual", actual, table.shape[1])
    areas = [auc(column, true == i, weights) for i, column in enumerate(table.T)]
    defined = [area for area in areas if not np.isnan(area)]
    return float(np.mean(defined)) if defined else float("nan")


def mean_of(values: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The weighted mean of ``[n]`` values; NaN values are left out, NaN when none is left.

    >>> mean_of([1.0, float("nan"), 0.0])
    0.5
    >>> mean_of([float("nan")])
    nan
    """
    numbers = np.asarray(values, dtype=np.float64)
    mass = checked_weights(weights, len(numbers))
    defined = ~np.isnan(numbers)
    total = mass[defined].sum()
    return float(np.dot(numbers[defined], mass[defined]) / total) if total > 0 else float("nan")


def checked_rows(
    scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Floats, Bools, Floats]:
    """Scores, is-positive and weights of ``[n]`` rows, or a DataError that says what is amiss."""
    if np.ma.is_masked(labels):  # asarray would put filler where the label is missing
        raise DataError("labels: some are masked; leave out the rows whose label is missing")
    values, marks = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    _same_length("scores", values, "labels", marks)
    n_undefined = int(np.isnan(values).sum())
    if n_undefined:
        raise DataError(f"scores: {n_undefined} of {len(values)} are NaN; the model diverged")
    positive = marks.astype(np.bool_)
    if marks.dtype != np.bool_:
        strange = marks[(marks != 0) & (marks != 1)]
        if len(strange):
            raise DataError(
                f"labels: found {strange[0]} in {len(strange)} of {len(marks)} rows; a label is "
                "0 or 1, so leave out the rows whose label is missing"
            )
    return values, positive, checked_weights(weights, len(values))


def checked_probabilities(
    p: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Floats, Bools, Floats]:
    """As `checked_rows`, with scores that are probabilities."""
    values, positive, mass = checked_rows(p, labels, weights)
    outside = values[(values < 0.0) | (values > 1.0)]
    if len(outside):
        raise DataError(f"p: found {outside[0]}; a probability is 0 to 1, is this a logit?")
    return values, positive, mass


def checked_weights(weights: ArrayLike | None, n_rows: int) -> Floats:
    """Weights of ``n_rows`` rows, 1 where none are given, or a DataError."""
    if weights is None:
        return np.ones(n_rows)
    mass = np.asarray(weights, dtype=np.float64)
    if mass.shape != (n_rows,):
        raise DataError(f"weights: shape {list(mass.shape)} for {n_rows} rows; give one per row")
    strange = mass[~(np.isfinite(mass) & (mass >= 0.0))]
    if len(strange):
        raise DataError(f"weights: found {strange[0]}; a weight is finite and 0 or more")
    return mass


def group_codes(groups: ArrayLike, n_rows: int) -> tuple[Rows, int]:
    """Groups of ``n_rows`` rows as numbers from 0 in sorted order, and how many there are."""
    names = np.asarray(groups)
    if names.shape != (n_rows,):
        raise DataError(f"groups: shape {list(names.shape)} for {n_rows} rows; give one per row")
    try:
        known, codes = np.unique(names, return_inverse=True)
    except TypeError as error:
        raise DataError(f"groups: {error}; give one kind of key, without nulls") from None
    return codes.astype(np.int64), len(known)


def run_starts(*keys: Floats | Rows) -> Rows:
    """Where runs of equal keys begin, for keys ``[n]`` already sorted together, n at least 1."""
    differs = np.zeros(len(keys[0]), dtype=np.bool_)
    differs[0] = True
    for key in keys:
        differs[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(differs)


def _same_length(
    one: str, values: NDArray[np.generic], other: str, marks: NDArray[np.generic]
) -> None:
    if values.ndim != 1 or values.shape != marks.shape:
        raise DataError(
            f"{one} {list(values.shape)} and {other} {list(marks.shape)}; give one of each per row"
        )


def _classes(name: str, values: ArrayLike, n_classes: int) -> Rows:
    given = np.asarray(values)
    numbers = given.astype(np.int64)
    strange = given[(numbers != given) | (numbers < 0) | (numbers >= n_classes)]
    if len(strange):
        raise DataError(
            f"{name}: found {strange[0]}; a class is 0 to {n_classes - 1}, so leave out the rows "
            "whose class is missing"
        )
    return numbers
