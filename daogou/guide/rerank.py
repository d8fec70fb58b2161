"""Ranked products to the few that are shown: not all alike, not too many of one kind."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray


def choose(
    relevance: NDArray[np.float64],
    k: int,
    *,
    vectors: NDArray[np.float64] | None = None,
    diversity: float = 0.0,
    groups: Sequence[Hashable] | None = None,
    most: int = 0,
) -> list[int]:
    """Places of at most ``k`` products in the order to show them.

    Each time the product is taken for which ``(1 - diversity) * relevance - diversity *`` its
    largest cosine with those taken is largest (Carbonell and Goldstein, "The Use of MMR", SIGIR
    1998; relevance is first brought to 0..1 over the candidates); of equals the earlier one. With a
    diversity of 0 that is the order of relevance. At most ``most`` are taken of a group, 0 = any
    number; a product whose group is None is in none.

    ``relevance [R]``, ``vectors [R, D]`` and ``groups [R]`` are the candidates'.

    >>> twins = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> choose(np.array([3.0, 2.9, 2.0]), 2, vectors=twins, diversity=0.5)
    [0, 2]
    >>> choose(np.array([3.0, 2.9, 2.0]), 3, groups=["bag", "bag", "hat"], most=1)
    [0, 2]
    """
    n = len(relevance)
    spread = float(np.ptp(relevance)) if n else 0.0
    worth = (relevance - relevance.min()) / spread if spread > 0 else np.zeros(n)
    units = None
    if diversity > 0 and vectors is not None and n:
        units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    left, nearest = np.ones(n, dtype=bool), np.full(n, -np.inf)
    taken: list[int] = []
    while len(taken) < k and left.any():
        told = worth if units is None else (1 - diversity) * worth
        if units is not None and taken:
            told = told - diversity * nearest
        best = int(np.where(left, told, -np.inf).argmax())
        taken.append(best)
        left[best] = False
        if units is not None:
            nearest = np.maximum(nearest, units @ units[best])
        if groups is not None and most and groups[best] is not None:
            same = [place for place in taken if groups[place] == groups[best]]
            if len(same) >= most:
                left &= np.array([group != groups[best] for group in groups])
    return taken
