"""Values as they come to whether their mean is above a bound: a test to look at whenever.

Looking at an ordinary test until it says yes makes it say yes in the end, whatever is so. A bet
does not have the fault: nobody can win for long at odds that are fair or worse.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from daogou.errors import DataError
from daogou.metrics.binary import Floats

STAKE: Final = 0.75  # of the wealth, at most, on one value: a bet never ruins
_PRIOR_VARIANCE: Final = 1.0 / 16.0  # of one value more than were seen, in widths of the range
_STEPS: Final = 60  # means on either side of the tested one, 17 % farther from it each
_NEAREST: Final = 1e-4
_CHUNK: Final = 2048


class Bet:
    """Bets that values have a mean above ``at_most``; wealth from 1 is the evidence for it.

    Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B
    2024. A value ``x`` multiplies the wealth by ``1 + stake * (x - at_most)``, the stake being
    what would have grown it fastest on all values before (their approximate GRAPA). If each
    value's mean, given those before, is at most ``at_most``, then wealth is not expected to grow,
    and the chance that it ever reaches ``1 / alpha`` is at most ``alpha`` (Ville): a look after
    each value, and a stop at any, is as good as one at the end.

    Values lie from ``low`` to ``high``, known beforehand; a range far wider than they need
    costs power. A value must be new: the same user looked at again, by the same weights or by
    others, tells what is known and breaks the promise. Values of one user belong in one mean.

    Raises DataError unless low < at_most < high.

    >>> bet = Bet(0.0, low=-1.0, high=1.0)
    >>> bet.update([0.5] * 20)
    >>> bet.rejects(0.05), bet.interval(0.05)[0] > 0.1
    (True, True)
    >>> still = Bet(0.0, low=-1.0, high=1.0)
    >>> still.update([0.5, -0.5] * 50)
    >>> still.rejects(0.05), still.interval(0.05)[0] < 0.0
    (False, True)
    """

    def __init__(self, at_most: float, *, low: float, high: float) -> None:
        if not (low < at_most < high and math.isfinite(high - low)):
            raise DataError(
                f"Bet: at most {at_most}, values from {low} to {high}; give low < at_most < high"
            )
        self.at_most, self.low, self.high = float(at_most), float(low), float(high)
        self.n = 0
        self._sum = 0.0  # of values as shares of the way from low to high
        self._square = 0.0  # of their distances from the mean so far
        tested = (self.at_most - self.low) / (self.high - self.low)
        steps = np.geomspace(_NEAREST, 1.0, _STEPS)
        means = tested + np.concatenate([-steps[::-1], [0.0], steps])
        self._means = means[(means > 0.0) & (means < 1.0)]
        self._tested = int(np.searchsorted(self._means, tested))
        # Logarithms, now and the greatest ever, of a bet that the mean is above each of these,
        # and of one that it is below.
        self._wealth = np.zeros((2, len(self._means)))
        self._peak = np.zeros((2, len(self._means)))

    def update(self, values: ArrayLike) -> None:
        """Bet on ``values [n]``, one after the other; what comes at once makes no difference.

        Raises DataError, having bet on none, if they are not a row, or one is out of range.
        """
        found = np.asarray(values, dtype=np.float64)
        if found.ndim != 1:
            raise DataError(f"values: shape {list(found.shape)}; give one row of them")
        out = ~((found >= self.low) & (found <= self.high))
        if out.any():
            raise DataError(
                f"values: found {found[out][0]}, not from {self.low} to {self.high}; give the "
                "range that was promised, or clip them"
            )
        shares = (found - self.low) / (self.high - self.low)
        for start in range(0, len(shares), _CHUNK):
            self._bet(shares[start : start + _CHUNK])

    @property
    def e_value(self) -> float:
        """The wealth: its expectation is at most 1, whenever one stops, if the mean is as low."""
        return math.exp(min(float(self._wealth[0, self._tested]), 700.0))

    def rejects(self, alpha: float) -> bool:
        """Whether the wealth ever reached ``1 / alpha``; false alarms come at most that often."""
        return bool(self._peak[0, self._tested] >= _needed(alpha))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Where the mean lies, right at all times at once with chance ``1 - alpha``.

        Bets are made that the mean is above, and below, each of a grid around ``at_most``: the
        nearer the finer, 17 % of the distance. The ends are the last of those that all were won
        one after the other, from either side, each with ``alpha / 2``. NaN where they cross: then
        the values have no mean in common.
        """
        above, below = self._peak >= _needed(alpha / 2.0)
        edges = np.concatenate([[0.0], self._means, [1.0]])
        low = edges[np.cumprod(above).sum()]
        high = edges[-1 - np.cumprod(below[::-1]).sum()]
        if low >= high:
            return float("nan"), float("nan")
        width = self.high - self.low
        return float(self.low + width * low), float(self.low + width * high)

    def state(self) -> dict[str, Any]:
        """All there is to know, as JSON; its size does not grow."""
        return {
            "at_most": self.at_most,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "sum": self._sum,
            "square": self._square,
            "wealth": self._wealth.tolist(),
            "peak": self._peak.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken. Raises DataError if that was of another bet."""
        ours = (self.at_most, self.low, self.high)
        theirs = (state["at_most"], state["low"], state["high"])
        if ours != theirs:
            raise DataError(
                f"Bet: the state is of at most {theirs[0]}, values from {theirs[1]} to {theirs[2]}"
                f"; here at most {ours[0]}, from {ours[1]} to {ours[2]}; make the same bet"
            )
        self.n = int(state["n"])
        self._sum, self._square = float(state["sum"]), float(state["square"])
        self._wealth = np.array(state["wealth"], dtype=np.float64)
        self._peak = np.array(state["peak"], dtype=np.float64)

    def _bet(self, shares: Floats) -> None:
        """Stakes know only the values before theirs, and one more that was just as tested."""
        means = self._means
        seen = self.n + np.arange(1, len(shares) + 1)  # with the one that was not
        sums = self._sum + np.cumsum(shares)
        centre = (means[self._tested] + sums) / (seen + 1.0)
        squares = self._square + np.cumsum((shares - centre) ** 2)
        before = np.concatenate([[self._sum], sums[:-1]])
        variance = (_PRIOR_VARIANCE + np.concatenate([[self._square], squares[:-1]])) / seen
        ahead = (means + before[:, None]) / seen[:, None] - means
        stake = ahead / (variance[:, None] + ahead**2)
        gain = shares[:, None] - means
        for side, most in enumerate((STAKE / means, -STAKE / (1.0 - means))):
            held = np.clip(stake, np.minimum(most, 0.0), np.maximum(most, 0.0))
            wealth = self._wealth[side] + np.cumsum(np.log1p(held * gain), axis=0)
            self._wealth[side] = wealth[-1]
            self._peak[side] = np.maximum(self._peak[side], wealth.max(axis=0))
        self.n += len(shares)
        self._sum, self._square = float(sums[-1]), float(squares[-1])


def _needed(alpha: float) -> float:
    if not 0.0 < alpha < 1.0:
        raise DataError(f"alpha: {alpha}; give a chance between 0 and 1, as 0.05")
    return -math.log(alpha)
