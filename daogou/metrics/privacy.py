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
_SHARES: Final = (1, 2, 4, 8)  # of canaries one in so many is guessed
_CONFIDENCE: Final = 0.95


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


def audited(scores: NDArray[Any], was: NDArray[np.bool_], delta: float) -> dict[str, Any]:
    """What guesses of coins ``was [m]`` prove, by scores ``[m]`` that are high where heads are.

    The surest are guessed, as many of the highest to be heads as of the lowest to be tails: all of
    them, a half, a quarter and an eighth. ``epsilon`` is the largest that any of these proves, by
    ``right`` of ``guesses``, with a ``confidence`` that all four share; ``auc`` is of all scores.
    """
    tries = [_guessed(scores, was, delta, share) for share in _SHARES]
    best = max(tries, key=lambda one: one["epsilon"])
    found = auc(np.asarray(scores), np.asarray(was))
    return {"auc": found, "canaries": len(scores), "confidence": _CONFIDENCE, **best}


def _guessed(
    scores: NDArray[Any], was: NDArray[np.bool_], delta: float, share: int
) -> dict[str, Any]:
    each = len(scores) // (2 * share)
    order = np.argsort(scores, kind="stable")
    right = int(was[order[len(order) - each :]].sum() + (~was[order[:each]]).sum())
    error = (1 - _CONFIDENCE) / len(_SHARES)
    bound = least_epsilon(right, 2 * each, len(scores), delta, error)
    return {"epsilon": bound, "right": right, "guesses": 2 * each}


def least_epsilon(right: int, guesses: int, canaries: int, delta: float, error: float) -> float:
    """The largest epsilon that so many right guesses refute, but with a chance of ``error``.

    0 where they refute none.

    >>> round(least_epsilon(10, 10, 10, 0.0, 0.05), 2)  # 0.05^(1/10) = 0.741 of guesses are right
    1.05
    """
    low, high = 0.0, 1.0
    if chance_of(right, guesses, canaries, low, delta) > error:
        return 0.0
    while chance_of(right, guesses, canaries, high, delta) <= error:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        if chance_of(right, guesses, canaries, middle, delta) <= error:
            low = middle
        else:
            high = middle
    return low


def chance_of(right: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """At most so likely are so many right guesses where (epsilon, delta) is true, or more.

    Each canary is in with a chance of one half. Theorem 5.2 of Steinke, Nasr and Jagielski,
    "Privacy Auditing with One (1) Training Run", NeurIPS 2023: right guesses are as the heads of a
    coin of chance ``e^epsilon / (1 + e^epsilon)``, but for ``2 m delta`` times the steepest mean
    slope of their tail.
    """
    k = np.arange(guesses + 1)
    log_choose = math.lgamma(guesses + 1) - np.array(
        [math.lgamma(each + 1) + math.lgamma(guesses - each + 1) for each in k]
    )
    # Of k heads, with log q = -log(1 + e^-epsilon) and log(1 - q) = log q - epsilon.
    masses = np.exp(log_choose - guesses * np.log1p(np.exp(-epsilon)) - (guesses - k) * epsilon)
    tail = float(masses[right:].sum())
    below = np.cumsum(masses[:right][::-1])
    slope = float((below / np.arange(1, right + 1)).max(initial=0.0))
    return min(tail + 2 * canaries * delta * slope, 1.0)
