"""What training with noise gives away, and what can be told of who was in it.

A mechanism that adds Gaussian noise to a sum over a random share of the units (users, or
examples) is (epsilon, delta)-private for each unit: whatever is computed from what it gave,
nobody can tell, but with small chance, whether the unit was there.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daogou.errors import ConfigError
from daogou.metrics.binary import auc

ORDERS: Final = tuple(range(2, 513))  # of the Rényi divergence
_MOST_NOISE: Final = 1e6


def epsilon(
    noise: float, share: float, steps: int, delta: float, orders: Sequence[int] = ORDERS
) -> float:
    """Epsilon that ``steps`` of the Poisson-sampled Gaussian mechanism spend at ``delta``.

    ``noise`` is the standard deviation over the largest length of a unit's contribution, ``share``
    the chance of a unit to be in a step. Each step costs its Rényi divergence at integer orders
    (Mironov, Talwar and Zhang, "Rényi Differential Privacy of the Sampled Gaussian Mechanism",
    2019); the sum becomes an epsilon by the conversion of Canonne, Kamath and Steinke, "The
    Discrete Gaussian for Differential Privacy", NeurIPS 2020.

    >>> round(epsilon(1.3, 250 / 60_000, 15 * 240, 1e-5), 2)
    0.94
    """
    if not 0 < delta < 1:
        raise ConfigError(f"privacy: a delta of {delta}; give one between 0 and 1")
    if steps == 0 or share == 0:
        return 0.0
    if noise == 0:
        return math.inf
    found = math.inf
    for order in orders:
        spent = steps * divergence(noise, share, order)
        gained = math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
        found = min(found, spent + gained)
    return max(found, 0.0)


@lru_cache(maxsize=4096)
def divergence(noise: float, share: float, order: int) -> float:
    """The Rényi divergence of one step at an integer order of 2 or more.

    ``log(sum_k C(a, k) (1 - q)^(a - k) q^k exp((k^2 - k) / (2 z^2))) / (a - 1)`` for an order a, a
    share q and noise z.
    """
    if share >= 1:
        return order / (2 * noise**2)
    k = np.arange(order + 1)
    choose = [
        math.lgamma(order + 1) - math.lgamma(each + 1) - math.lgamma(order - each + 1) for each in k
    ]
    terms = (
        np.array(choose)
        + (order - k) * math.log1p(-share)
        + k * math.log(share)
        + (k**2 - k) / (2 * noise**2)
    )
    return float(np.logaddexp.reduce(terms)) / (order - 1)


def noise_for(budget: float, share: float, steps: int, delta: float) -> float:
    """The least noise with which so many steps spend no more than a budget of epsilon.

    Raises ConfigError where no noise does.
    """
    low, high = 0.0, 1.0
    while epsilon(high, share, steps, delta) > budget:
        low, high = high, 2 * high
        if high > _MOST_NOISE:
            raise ConfigError(
                f"privacy: no noise keeps epsilon at {budget} with a delta of {delta}"
            )
    for _ in range(40):
        middle = (low + high) / 2
        if epsilon(middle, share, steps, delta) > budget:
            low = middle
        else:
            high = middle
    return high


def stray_chance(epsilon: float, outcomes: int) -> float:
    """The chance of each outcome but the true one to be told of it by a randomised response.

    ``1 / (e^epsilon + K - 1)`` of K outcomes; the true one is told with ``e^epsilon`` times that,
    so that whatever is told is at most so many times likelier of one outcome than of another. No
    mechanism of that promise tells the true one more often of outcomes that are alike likely
    (Kairouz, Oh and Viswanath, "Extremal Mechanisms for Local Differential Privacy", 2014).

    >>> round(stray_chance(math.log(3), 2), 12), round(stray_chance(math.log(3), 3), 12)
    (0.25, 0.2)
    """
    return math.exp(-epsilon) / (1 + (outcomes - 1) * math.exp(-epsilon))


def membership(inside: NDArray[Any], outside: NDArray[Any], at: float = 0.001) -> dict[str, float]:
    """How well low losses tell who was in training: losses ``[n]`` of those who were and were not.

    ``auc`` is the chance that of one of each the one who was has the lower loss; ``tpr`` the share
    of those who were that is found at a share ``at`` of the others taken for them (Carlini et al.,
    "Membership Inference Attacks From First Principles", S&P 2022). A half, and ``at``, say nothing
    is given away.
    """
    inside, outside = np.asarray(inside, np.float64), np.asarray(outside, np.float64)
    if not len(inside) or not len(outside):
        return {"auc": math.nan, "tpr": math.nan}
    scores = -np.concatenate([inside, outside])
    was = np.concatenate([np.ones(len(inside)), np.zeros(len(outside))])
    # The bar that no more than the share of those who were not passes.
    bar = np.sort(outside)[int(at * len(outside))]
    return {"auc": auc(scores, was == 1), "tpr": float((inside < bar).mean())}
