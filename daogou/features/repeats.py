"""A candidate and a user's past to how often, and how lately, the past repeats the candidate."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
MOST_EVENTS: Final = 4096  # of a past, the latest, that are counted
N_PER_MARK: Final = 3
_FEW: Final = 64  # candidates; more are looked up, which a request may ask of a whole catalogue
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
    found = _compared if len(candidates) <= _FEW else _looked_up
    counts, of_strong, latest = found(candidates, past, strong)
    ages = np.log1p(60.0 * hours[latest]) / _YEAR
    fresh = np.where(counts > 0, np.maximum(1.0 - ages, 0.0), 0.0)
    told = np.concatenate([np.log1p(counts), np.log1p(of_strong), fresh], axis=1)
    return told.astype(np.float32)


def _compared(candidates: Array, past: Array, strong: Array) -> tuple[Array, Array, Array]:
    """Events that share each mark, strong ones, and the latest (any if none): ``[r, M]`` each."""
    same = candidates[:, :, None] == np.ascontiguousarray(past.T)  # [r, M, L]
    same &= candidates[:, :, None] >= 0
    return same.sum(2), same[:, :, strong].sum(2), same.argmax(2)


def _looked_up(candidates: Array, past: Array, strong: Array) -> tuple[Array, Array, Array]:
    """The same by sorting the past once: without room and time for all pairs."""
    found = np.zeros((3, *candidates.shape), dtype=np.int64)
    for place, asked in enumerate(candidates.T):
        marks, latest, owner = np.unique(past[:, place], return_index=True, return_inverse=True)
        told = np.bincount(owner), np.bincount(owner[strong], minlength=len(marks)), latest
        at = np.searchsorted(marks, asked).clip(max=len(marks) - 1)
        shared = (marks[at] == asked) & (asked >= 0)
        found[:, shared, place] = np.stack(told)[:, at[shared]]
    return found[0], found[1], found[2]
