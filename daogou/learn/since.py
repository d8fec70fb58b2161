"""What came after a run, and the lines that say what has changed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from daogou.features.store import Store
from daogou.learn.shares import Rows
from daogou.schema import Shop
from daogou.tables import Seam
from daogou.tables.censor import windowed

LEAST: Final = 20  # of the rarer label, to say anything of a stage

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SURE: Final = 1.96


@dataclass(frozen=True)
class Line:
    """One thing that may have changed: by how much, and how sure that is."""

    kind: str  # one of `BOUNDS`
    name: str
    change: float  # on the scale of `BOUNDS`
    p: float
    told: Mapping[str, Any]


@dataclass(frozen=True)
class Since:
    """The exposures after a run, all in the test split, and before them those of open labels."""

    store: Store
    shop: Shop
    seam: Seam

    def rows(self, stage: str | None = None) -> Rows:
        """Exposures after the run's log, or those whose label of a stage it could not know."""
        events = self.shop.events
        assert events is not None
        window_us = events.window_us(stage) if stage in windowed(events) and stage else 0
        end = datetime.fromisoformat(self.seam.end).replace(tzinfo=UTC)
        from_us = round((end - _EPOCH) / timedelta(microseconds=1)) - window_us
        return np.flatnonzero(np.asarray(self.store["exposures/time"]) > from_us)


def in_se(change: float, se: float) -> float:
    """A change in standard errors."""
    if se == 0:
        return math.copysign(math.inf, change) if change else 0.0
    return change / se
