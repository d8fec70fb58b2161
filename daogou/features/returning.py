"""A user's history to the chance that they buy again within some days."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daogou.features.rhythm import Rhythm
from daogou.schema import DAY_US

Array = NDArray[Any]
N_SIGNS: Final = 6


def signs_of(time: Array, is_kind: Array, now: int, rhythm: Rhythm) -> NDArray[np.float64]:
    """What a past says of the next time, ``[N_SIGNS]``.

    Logs of one plus: the silence in days, the usual gap between visits, the silence beside it, all
    events, those of the kind that is foretold, and the days since the first. ``time [L]`` in
    microseconds, in any order, at least one; ``is_kind [L]``.
    """
    silence, usual = (now - int(time.max())) / DAY_US, rhythm.usual(time)
    tenure = (now - int(time.min())) / DAY_US
    plain = (silence, usual, silence / usual, len(time), int(is_kind.sum()), tenure)
    return np.log1p(np.array(plain, dtype=np.float64))


@dataclass(frozen=True)
class Returning:
    """A logistic regression on `signs_of`. Made by `learn.returning.fit_returning`."""

    kind: str  # of event that is foretold
    within_days: float
    weights: tuple[float, ...]  # of the signs as they are
    shift: float
    rate: float  # of those who chose: what a constant would say

    def chance(self, signs: Array) -> NDArray[np.float64]:
        """The chance of such an event within so many days, ``[n]`` of ``signs [n, N_SIGNS]``."""
        logits = signs @ np.array(self.weights) + self.shift
        return np.asarray(1 / (1 + np.exp(-logits)))

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Returning":
        """One from a document of its fields."""
        return Returning(
            document["kind"], document["within_days"], tuple(document["weights"]),
            document["shift"], document["rate"],
        )  # fmt: skip
