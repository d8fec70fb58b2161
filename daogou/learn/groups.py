"""What tasks give one another to the groups in which each receives most."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

MOST_EXHAUSTIVE: Final = 10  # tasks whose partitions are all looked at: 115 975


def best_groups(affinity: Matrix) -> list[list[int]]:
    """The partition of tasks ``[T]`` whose members receive most from one another.

    What a task receives is the sum of its group's affinities onto it, since a step adds their
    gradients up; alone it receives 0. TAG takes the mean over a group instead, which leaves a weak
    helper out beside a strong one. NaN counts as 0, and of equal partitions the one with the fewest
    groups is taken. All partitions are looked at up to `MOST_EXHAUSTIVE` tasks; beyond, the two
    groups that gain most are joined for as long as any gain.

    >>> best_groups(np.array([[0.0, 0.2, -0.3], [0.1, 0.0, 0.1], [-0.1, 0.1, 0.0]]))
    [[0, 1], [2]]
    """
    both = np.nan_to_num(affinity) + np.nan_to_num(affinity).T  # [T, T], what a pair is worth
    np.fill_diagonal(both, 0.0)
    if len(both) > MOST_EXHAUSTIVE:
        return _merged(both)
    best: tuple[float, int] = (-math.inf, 0)
    chosen: list[list[int]] = []
    for worth, groups in _partitions(both):
        score = (round(worth, 12), -len(groups))  # sums of the same numbers in another order
        if score > best:
            best, chosen = score, [list(group) for group in groups]
    return chosen


def _partitions(both: Matrix) -> Iterator[tuple[float, list[list[int]]]]:
    """Every partition and what its pairs are worth; the lists are changed by the next one."""
    values = both.tolist()
    groups: list[list[int]] = []

    def place(task: int, worth: float) -> Iterator[tuple[float, list[list[int]]]]:
        if task == len(values):
            yield worth, groups
            return
        for group in groups:
            gained = sum(values[task][member] for member in group)
            group.append(task)
            yield from place(task + 1, worth + gained)
            group.pop()
        groups.append([task])
        yield from place(task + 1, worth)
        groups.pop()

    return place(0, 0.0)


def _merged(both: Matrix) -> list[list[int]]:
    groups = [[task] for task in range(len(both))]
    while len(groups) > 1:
        gains = [
            (float(both[np.ix_(one, other)].sum()), i, j)
            for j, other in enumerate(groups)
            for i, one in enumerate(groups[:j])
        ]
        gain, i, j = max(gains)
        if gain < 0:
            break
        groups[i] = sorted(groups[i] + groups.pop(j))
    return groups


def received(matrix: Matrix, givers: Sequence[int], receiver: int) -> float:
    """The sum of what is known; NaN where nothing is, 0 without a giver."""
    given = matrix[list(givers), receiver]
    return float(np.nansum(given)) if np.isfinite(given).any() or not len(given) else math.nan
