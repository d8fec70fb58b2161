"""Logits and labels to the likeliest line, rising curve or sharpness."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from daogou.model.calibrated import N_KNOTS, Curve

_LEAST_SLOPE: Final = 0.01  # above 0, so that what is likelier stays likelier

_MOST_SHARP: Final = 100.0

Floats = NDArray[np.float64]

Fit = Callable[[Floats, NDArray[np.bool_], Floats], Curve]


def fit_line(logits: ArrayLike, happened: ArrayLike, weights: ArrayLike) -> Curve:
    """The line through logits under which the labels are likeliest: all arguments are ``[n]``.

    Platt, "Probabilistic Outputs for Support Vector Machines", 1999. Unlike there, labels are
    taken as they are, and a normal prior of spread 1 holds slope and intercept to those of what
    was said: it too keeps them finite, and few labels move little. The slope is at least
    `_LEAST_SLOPE`.

    >>> often = fit_line([0.0] * 1000, [1] * 750 + [0] * 250, [1.0] * 1000)  # logit of 3/4: 1.0986
    >>> round(often.mended[0], 2)
    1.09
    """
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(happened, dtype=np.float64)
    mass = mass_of(weights)
    both = np.stack([x, np.ones_like(x)])
    slope, intercept = _likeliest(both, np.zeros_like(x), y, mass, np.array([1.0, 0.0]))
    if slope < _LEAST_SLOPE:
        slope = _LEAST_SLOPE
        (intercept,) = _likeliest(both[1:], slope * x, y, mass, np.zeros(1))
    return Curve((0.0,), (float(intercept),), float(slope))


def fit_curve(logits: ArrayLike, happened: ArrayLike, weights: ArrayLike) -> Curve:
    """A rising curve through logits, of at most `N_KNOTS` knots: all arguments are ``[n]``.

    Zadrozny & Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability
    Estimates", KDD 2002, with one knot in the middle of each block of equal chances and lines
    between (Oron & Flournoy, "Centered Isotonic Regression", 2017): steps would make ties of what
    the model can tell apart. Unlike there rows are first put into bins that each know their logit
    equally well, equal sums of ``p (1 - p)``; a bin's rate is held to `fit_line`'s by a prior
    worth one row of the rarer label, so that none is 0 or 1, and beyond the ends its slope goes
    on.
    """
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(happened, dtype=np.float64)
    mass = mass_of(weights)
    line = fit_line(x, y, mass)
    order = np.argsort(x)
    p = sigmoid(line.mended[0] + line.slope * x)
    known = np.cumsum((mass * p * (1 - p))[order])
    cuts = np.searchsorted(known, known[-1] * np.arange(1, N_KNOTS) / N_KNOTS)
    edges = np.unique(x[order][cuts])
    bins = np.unique(np.searchsorted(edges, x, side="left"), return_inverse=True)[1]
    heavy, said, true = (np.bincount(bins, mass * each) for each in (np.ones_like(x), x, y))
    centre = said / heavy
    prior = (np.bincount(bins, mass * p) / heavy).clip(1e-7, 1 - 1e-7)
    pull = 1.0 / np.minimum(prior, 1 - prior)
    total = heavy + pull
    rate, starts = rising((true + pull * prior) / total, total)
    middle = np.add.reduceat(total * centre, starts) / np.add.reduceat(total, starts)
    mended = np.log(rate) - np.log1p(-rate)
    return Curve(tuple(middle.tolist()), tuple(mended.tolist()), line.slope)


def rising(values: Floats, weights: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """The nearest rising values by weighted squares: each block's value and where it starts.

    Neighbours that fall are pooled until none do (Ayer et al., 1955). Blocks rise strictly.

    >>> rising(np.array([1.0, 3.0, 2.0, 5.0]), np.array([1.0, 1.0, 3.0, 1.0]))
    (array([1.  , 2.25, 5.  ]), array([0, 1, 3]))
    """
    blocks: list[tuple[float, float, int]] = []
    for start, (value, weight) in enumerate(zip(values.tolist(), weights.tolist(), strict=True)):
        at = start
        while blocks and blocks[-1][0] >= value:
            other, mass, at = blocks.pop()
            value = (value * weight + other * mass) / (weight + mass)
            weight += mass
        blocks.append((value, weight, at))
    return np.array([block[0] for block in blocks]), np.array([block[2] for block in blocks])


def fit_sharpness(logits: ArrayLike, actual: ArrayLike, *, is_list: bool = False) -> float:
    """What to multiply logits ``[n, V]`` by: the inverse of the likeliest temperature.

    ``actual`` are classes ``[n]``, or of a list 0 or 1 for each value ``[n, V]``. Guo et al., "On
    Calibration of Modern Neural Networks", ICML 2017; unlike there a normal prior of spread 1
    holds it to 1. It lies between `_LEAST_SLOPE` and `_MOST_SHARP`.

    >>> said = np.log([[0.9, 0.1]] * 1000)  # and 750 of 1000 are so: ln 3 / ln 9 = 0.5
    >>> round(fit_sharpness(said, [0] * 750 + [1] * 250), 2)
    0.5
    """
    given = np.asarray(logits, dtype=np.float64)
    truth = np.asarray(actual)
    yes = truth.astype(np.float64) if is_list else np.eye(given.shape[1])[truth.astype(np.int64)]
    low, high = _LEAST_SLOPE, _MOST_SHARP
    for _ in range(60):
        middle = (low + high) / 2
        sharp = middle * given
        expected = sigmoid(sharp) if is_list else softmax(sharp)
        if ((expected - yes) * given).sum() + middle - 1.0 > 0:  # the loss rises with it
            high = middle
        else:
            low = middle
    return (low + high) / 2


def _likeliest(
    inputs: Floats, offset: Floats, happened: Floats, mass: Floats, centre: Floats
) -> Floats:
    """Newton's coefficients ``[P]`` of a logistic regression on ``inputs [P, n]``.

    The prior is normal, of spread 1, around ``centre [P]``; it makes the minimum one and finite.
    """

    def nats(at: Floats) -> float:
        logits = at @ inputs + offset
        fit = mass @ (np.logaddexp(0.0, logits) - happened * logits)
        return float(fit + ((at - centre) ** 2).sum() / 2)

    at, loss = centre.copy(), nats(centre)
    for _ in range(100):
        p = sigmoid(at @ inputs + offset)
        gradient = inputs @ (mass * (p - happened)) + at - centre
        curvature = (inputs * (mass * p * (1 - p))) @ inputs.T + np.eye(len(at))
        step = np.linalg.solve(curvature, gradient)
        while nats(at - step) > loss and np.abs(step).max() > 1e-12:
            step = step / 2
        at = at - step
        loss = nats(at)
        if np.abs(step).max() < 1e-10:
            break
    return at


def mass_of(weights: ArrayLike) -> Floats:
    """Weights that add up to the number of rows, so that a prior is worth the same anywhere."""
    given = np.asarray(weights, dtype=np.float64)
    return given / given.mean() if len(given) else given


def sigmoid(values: Floats) -> Floats:
    """Chances of logits."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -values)))


def softmax(values: Floats) -> Floats:
    """Chances [n, V] of logits [n, V]."""
    raised = np.exp(values - values.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))
