"""How many samples of a shop a way to begin is worth."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from daogou.learn.ways import SCRATCH


def equivalences(found: Mapping[int, Mapping[str, Any]], ways: Sequence[str]) -> dict[str, Any]:
    """How many samples from scratch one sample of each way is worth, by way, task and size."""
    sizes = list(found)
    told: dict[str, Any] = {}
    for way in ways:
        if way == SCRATCH:
            continue
        told[way] = {}
        for name in found[sizes[0]]["values"][SCRATCH]:
            curve = [float(np.mean(found[n]["values"][SCRATCH][name])) for n in sizes]
            told[way][name] = {
                str(n): equivalence(
                    sizes, curve, n, float(np.mean(found[n]["values"][way][name]))
                )
                for n in sizes
                if name in found[n]["values"].get(way, {})
            }  # fmt: skip
    return told


def equivalence(
    sizes: Sequence[int], curve: Sequence[float], n: int, value: float
) -> dict[str, Any]:
    """By what factor scratch needs more samples than ``n`` to reach ``value``.

    ``curve`` are scratch's values at ``sizes``, ascending; between two the logarithm of the size
    is interpolated, and a value counts as reached from the first size on that is as good. Beyond
    the ends only a ``bound`` is known: ``at_least`` or ``at_most`` the factor.

    >>> round(equivalence([100, 1000], [0.6, 0.7], 100, 0.65)["factor"], 6)  # the root of 10
    3.162278
    >>> equivalence([100, 1000], [0.6, 0.7], 100, 0.8)
    {'factor': 10.0, 'bound': 'at_least'}
    """
    if math.isnan(value) or any(math.isnan(each) for each in curve):
        return {"factor": math.nan, "bound": None}
    best = np.maximum.accumulate(curve)
    place = int(np.searchsorted(best, value))
    if place == len(best):
        return {"factor": sizes[-1] / n, "bound": "at_least"}
    if place == 0:
        return {"factor": sizes[0] / n, "bound": "at_most" if value < best[0] else None}
    low, high = best[place - 1], best[place]
    share = (value - low) / (high - low)
    log_size = (1 - share) * math.log(sizes[place - 1]) + share * math.log(sizes[place])
    return {"factor": math.exp(log_size) / n, "bound": None}
