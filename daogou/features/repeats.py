"""A candidate and a user's past to how often, and how lately, the past repeats the candidate."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
MOST_EVENTS: Final = 4096  # of a past, the latest, that are counted
N_PER_MARK: Final = 3
_YEAR: Final = np.log1p(365.0 * 24 * 60)  # on the scale of ages: the log of minutes


def repeats(candidates: Array, past: Array, strong: Array, hours: Array) -> NDArray[np.float32]:
    """How a past repeats each candidate, ``[r, 3 M]``.

    ``candidates [r, M]`` and ``past [L, M]``, newest first, are marks: whole numbers that two
    products may have in common; -1 resembles nothing. ``strong [L]`` are events of the strongest
    kind, ``hours [L]`` the ages. For every mark the log of one plus how many events share it, then
    for every mark the same of strong events, then how recent the latest is: from 1 for now to 0
    for a year ago, or never.

    >>> past = np.array([[7, 2], [8, 2]])
    >>> found = repeats(np.array([[8, 2]]), past, np.array([True, False]), np.array([0.0, 8760.0]))
    >>> np.expm1(found[0, :4]).round(3).tolist(), found[0, 4:].tolist()
    ([1.0, 2.0, 0.0, 1.0], [0.0, 1.0])
    """
    # Attention gives a mean, which says what was taken and not how often; and it reads few events,
    # where who bought a thing ten times in a year is who buys it again.
    same = candidates[:, :, None] == np.ascontiguousarray(past.T)  # [r, M, L]
    same &= candidates[:, :, None] >= 0
    counts, of_strong = same.sum(2), same[:, :, strong].sum(2)
    ages = np.log1p(60.0 * hours[same.argmax(2)]) / _YEAR
    fresh = np.where(counts > 0, np.maximum(1.0 - ages, 0.0), 0.0)
    found = np.concatenate([np.log1p(counts), np.log1p(of_strong), fresh], axis=1)
    return found.astype(np.float32)
