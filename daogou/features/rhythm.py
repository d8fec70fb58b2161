"""How often users come: whether a silence is long is a question of what is usual, theirs first."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daogou.features.store import Store
from daogou.schema import DAY_US, HOUR_US

Array = NDArray[Any]
_VISIT_US: Final = HOUR_US  # events less than an hour apart are one visit
_MOST_USERS: Final = 2000
_SHOP_GAPS: Final = 2.0  # gaps of the shop's mean that every user starts with
_USUAL: Final = 0.95  # of all gaps; a longer one is a long silence
_NEW_EVENTS: Final = 3  # with fewer events a user is new


@dataclass(frozen=True)
class Rhythm:
    """How far apart a shop's users' visits lie. Made by `fit_rhythm`.

    ``mean`` is of all gaps between visits, in days; all gaps but one in twenty are ``at_most`` so
    many times their user's usual one.
    """

    mean: float
    at_most: float

    def usual(self, time: Array) -> float:
        """Days between the visits of one user, whose event times are in microseconds.

        Theirs and two of the shop's mean gap, averaged: one gap says little.
        """
        gaps = gaps_of(time)
        return (_SHOP_GAPS * self.mean + float(gaps.sum())) / (_SHOP_GAPS + len(gaps))

    def lifecycle(self, time: Array, now: int) -> str:
        """``new`` with fewer than three events, ``lapsing`` after a long silence, else ``active``.

        A silence is long if, of the gaps between visits in this shop, only one in twenty is as
        long beside its user's usual gap.

        >>> daily = np.arange(10) * DAY_US
        >>> [Rhythm(1.0, 3.0).lifecycle(daily, (9 + days) * DAY_US) for days in (2, 4)]
        ['active', 'lapsing']
        """
        if len(time) < _NEW_EVENTS:
            return "new"
        silence = (now - int(time.max())) / DAY_US
        return "lapsing" if silence > self.at_most * self.usual(time) else "active"


def gaps_of(time: Array) -> NDArray[np.float64]:
    """Days between one visit and the next, of event times in microseconds in any order."""
    gaps = np.diff(np.sort(time))
    return np.asarray(gaps[gaps >= _VISIT_US] / DAY_US)


def fit_rhythm(store: Store, until: int | None = None) -> Rhythm:
    """The rhythm of a shop's histories; of more than 2,000 users, of so many evenly spread.

    ``until`` is a moment at and after which no event is read. Where nobody has come twice a third
    of the log is a long silence.
    """
    time, start = store["history/time"], store["users/start"]
    rows = np.flatnonzero(np.diff(start) > 1)
    rows = rows[:: -(-len(rows) // _MOST_USERS) or 1]
    pasts = [np.asarray(time[start[row] : start[row + 1]]) for row in rows.tolist()]
    gaps = [gaps_of(past if until is None else past[past < until]) for past in pasts]
    every = np.concatenate([np.zeros(0), *gaps])
    if not len(every):
        log = (int(time.max()) - int(time.min())) / DAY_US if len(time) else 1.0
        return Rhythm(max(log, 1e-6) / 3, 1.0)
    mean = float(every.mean())
    usual = [(_SHOP_GAPS * mean + own.sum()) / (_SHOP_GAPS + len(own)) for own in gaps]
    beside = np.concatenate([own / each for own, each in zip(gaps, usual, strict=True)])
    return Rhythm(mean, float(np.quantile(beside, _USUAL)))
