"""What every entry of a report asks: a run, a split, and what was planted there."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from daogou.artifact import Artifact
from daogou.features.store import Store
from daogou.metrics import bootstrap, mean_of
from daogou.tables.truth import Truth

Array = NDArray[Any]

Entry = dict[str, Any]

DRAWS = 200  # of users, for each interval

BINS = 10  # of a calibration curve, at most


@dataclass(frozen=True)
class Asked:
    """A run, the split that is judged, and what a simulated shop planted."""

    run: Artifact
    split: str
    truth: Truth | None
    seed: int

    @property
    def store(self) -> Store:
        """The arrays that are judged."""
        return self.run.store


def mean_interval(values: Array, seed: int) -> list[float]:
    """Where the mean over users lies when they are drawn again."""
    users = np.arange(len(values))
    return list(bootstrap(lambda w: mean_of(values, w), users, n=DRAWS, seed=seed))


def tensor_of(array: Array) -> torch.Tensor:
    """An array as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(array))
