"""Scores of a catalogue, or of a request's products, to how high the right ones stand.

Tied scores are in no order, so every measure is its mean over all orders of the ties: McSherry
and Najork, "Computing Information Retrieval Performance Measures Efficiently in the Presence of
Tied Scores", ECIR 2008. A constant score then gets what chance gets, not the luck of row numbers.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from daogou.errors import DataError
from daogou.metrics.binary import Floats, Rows, checked_rows, group_codes, run_starts

# [U, N], or blocks of it in order, or a function of the first user and the one past the last.
Scores: TypeAlias = NDArray[Any] | Iterable[NDArray[Any]] | Callable[[int, int], NDArray[Any]]

BLOCK: Final = 256  # users scored at a time
FEW: Final = 32  # up to so many relevant products, counting beats sorting the catalogue


@dataclass(frozen=True)
class Ranks:
    """Where each user's relevant products stand in the whole catalogue. Made by `fit_ranks`.

    With R relevant products over all U users: ``user``, ``above`` and ``tied`` are ``[R]``.
    Every measure is ``[U]``, NaN for users without relevant products.
    """

    n_users: int
    user: Rows
    above: Rows  # candidates that score more
    tied: Rows  # candidates that score the same, itself among them

    @property
    def n_relevant(self) -> Rows:
        """Relevant products of each user, ``[U]``."""
        return np.bincount(self.user, minlength=self.n_users)

    def recall_at(self, k: int) -> Floats:
        """The share of a user's relevant products among the first ``k``."""
        _check_k(k)
        inside = np.clip((k - self.above) / self.tied, 0.0, 1.0)
        return self._per_user(_summed(self.user, inside, self.n_users), self.n_relevant)

    def ndcg_at(self, k: int) -> Floats:
        """Relevant products among the first ``k``, by ``1 / log2(place + 1)``, over the best."""
        _check_k(k)
        discounts = _summed_discounts(k)
        ends = discounts[np.minimum(self.above + self.tied, k)]
        gains = (ends - discounts[np.minimum(self.above, k)]) / self.tied
        best = discounts[np.minimum(self.n_relevant, k)]
        return self._per_user(_summed(self.user, gains, self.n_users), best)

    def hit_rate_at(self, k: int) -> Floats:
        """1 if any relevant product is among the first ``k``, else 0."""
        _check_k(k)
        return self._at_first(np.ones(k))

    def mrr_at(self, k: int) -> Floats:
        """One over the place of the first relevant product, 0 if that is beyond ``k``."""
        _check_k(k)
        return self._at_first(1.0 / np.arange(1.0, k + 1.0))

    def _at_first(self, values: Floats) -> Floats:
        """The mean over orders of ``values[place]`` at the first relevant one, 0 beyond."""
        answers = np.full(self.n_users, np.nan)
        if not len(self.user):
            return answers
        order = np.lexsort((self.above, self.user))
        starts = run_starts(self.user[order], self.above[order])  # [levels] of equal score
        found = np.diff(starts, append=len(order))
        users = self.user[order][starts]
        first = run_starts(users)  # a user's first relevant one is in the best level
        found, above = found[first], self.above[order][starts][first]
        tied = self.tied[order][starts][first]
        worth = np.append(values, 0.0)
        reached, missing = np.zeros(len(first)), np.ones(len(first))
        for step in range(min(len(values), int(tied.max()))):
            hit = np.minimum(found / np.maximum(tied - step, 1), 1.0)
            reached += missing * hit * worth[np.minimum(above + step, len(values))]
            missing *= 1.0 - hit
        answers[users[first]] = reached
        return answers

    def _per_user(self, sums: Floats, sizes: Floats | Rows) -> Floats:
        answers = np.full(self.n_users, np.nan)
        asked = self.n_relevant > 0
        answers[asked] = sums[asked] / sizes[asked]
        return answers


def fit_ranks(
    scores: Scores,
    relevant: Sequence[ArrayLike],
    *,
    exclude: Sequence[ArrayLike] | None = None,
) -> Ranks:
    """Find each relevant product's place among all N, one block of users in memory at a time.

    ``scores`` is ``[U, N]``, an iterable of blocks ``[u, N]`` in order of users, or a function
    ``(start, stop) -> [stop - start, N]``. ``relevant`` and ``exclude`` hold, for each user,
    product numbers 0 to N - 1. An excluded product is no candidate, and not relevant either.

    Raises DataError if the blocks do not hold one row per user, on NaN, and on numbers outside.

    >>> ranks = fit_ranks(np.array([[0.9, 0.5, 0.7], [0.1, 0.2, 0.3]]), [[1], []])
    >>> ranks.above.tolist(), ranks.mrr_at(3).round(3).tolist()
    ([2], [0.333, nan])
    """
    n_users = len(relevant)
    if exclude is not None and len(exclude) != n_users:
        raise DataError(f"exclude: {len(exclude)} users, and relevant has {n_users}; give each one")
    pieces: list[tuple[int, Rows, Rows]] = []
    user = 0
    for block in _blocks(scores, n_users):
        if user + len(block) > n_users:
            raise DataError(f"scores: more than {n_users} rows, and relevant has {n_users} users")
        for row in block:
            wanted = _products("relevant", user, relevant[user], len(row))
            barred = _products("exclude", user, () if exclude is None else exclude[user], len(row))
            wanted = np.setdiff1d(wanted, barred, assume_unique=True)
            if len(wanted):
                pieces.append((user, *_places(row, wanted, barred, user)))
            user += 1
    if user != n_users:
        raise DataError(f"scores: {user} rows, and relevant has {n_users} users")
    none = np.zeros(0, dtype=np.int64)
    return Ranks(
        n_users=n_users,
        user=np.repeat([owner for owner, _, _ in pieces], [len(above) for _, above, _ in pieces])
        if pieces
        else none,
        above=np.concatenate([none, *(above for _, above, _ in pieces)]),
        tied=np.concatenate([none, *(tied for _, _, tied in pieces)]),
    )


def recall_at(
    scores: Scores,
    relevant: Sequence[ArrayLike],
    k: int,
    *,
    exclude: Sequence[ArrayLike] | None = None,
) -> Floats:
    """The share of each user's relevant products among the first ``k``, ``[U]``; see `fit_ranks`.

    NaN for users without relevant products; `binary.mean_of` leaves them out.

    >>> recall_at(np.array([[0.9, 0.5, 0.7], [0.1, 0.2, 0.3]]), [[0, 1], []], 2).tolist()
    [0.5, nan]
    """
    return fit_ranks(scores, relevant, exclude=exclude).recall_at(k)


def ndcg_at(
    scores: Scores,
    relevant: Sequence[ArrayLike],
    k: int,
    *,
    exclude: Sequence[ArrayLike] | None = None,
) -> Floats:
    """Each user's discounted gain at ``k`` over the best possible, ``[U]``; see `fit_ranks`.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002.

    >>> ndcg_at(np.array([[0.9, 0.5], [0.1, 0.2]]), [[0], []], 2).tolist()
    [1.0, nan]
    """
    return fit_ranks(scores, relevant, exclude=exclude).ndcg_at(k)


def hit_rate_at(
    scores: Scores,
    relevant: Sequence[ArrayLike],
    k: int,
    *,
    exclude: Sequence[ArrayLike] | None = None,
) -> Floats:
    """1 where a user's first ``k`` hold any relevant product, ``[U]``; see `fit_ranks`.

    >>> hit_rate_at(np.array([[0.9, 0.5], [0.1, 0.2]]), [[0, 1], []], 1).tolist()
    [1.0, nan]
    """
    return fit_ranks(scores, relevant, exclude=exclude).hit_rate_at(k)


def mrr_at(
    scores: Scores,
    relevant: Sequence[ArrayLike],
    k: int,
    *,
    exclude: Sequence[ArrayLike] | None = None,
) -> Floats:
    """One over the place of the first relevant product, 0 beyond ``k``, ``[U]``; see `fit_ranks`.

    >>> mrr_at(np.array([[0.9, 0.5], [0.1, 0.2]]), [[1], []], 2).tolist()
    [0.5, nan]
    """
    return fit_ranks(scores, relevant, exclude=exclude).mrr_at(k)


def ndcg_by_group(scores: ArrayLike, gains: ArrayLike, groups: ArrayLike, k: int) -> Floats:
    """The NDCG at ``k`` of each group (a request's slate), in the order of the sorted groups.

    Scores, gains (0 or more, taken as they are) and groups are ``[n]``; the answer is
    ``[groups]``, NaN where a group has nothing to gain. A group of one product that gains is 1,
    however it was scored: leave such groups out to see the order alone.

    Raises DataError on lengths that differ, NaN, and negative gains.

    >>> ndcg_by_group([0.2, 0.9, 0.5], [1, 0, 0], ["a", "a", "b"], 2).round(4).tolist()
    [0.6309, nan]
    """
    _check_k(k)
    values, _, gained = checked_rows(scores, np.zeros(np.shape(scores)), gains)
    codes, n_groups = group_codes(groups, len(values))
    if not len(values):
        return np.zeros(0)
    discounts = _summed_discounts(k)
    order = np.lexsort((-values, codes))
    real = _discounted(values[order], gained[order], codes[order], discounts)
    order = np.lexsort((-gained, codes))
    best = _discounted(gained[order], gained[order], codes[order], discounts)
    answers = np.full(n_groups, np.nan)
    answers[best > 0.0] = real[best > 0.0] / best[best > 0.0]
    return answers


def _discounted(keys: Floats, gains: Floats, codes: Rows, discounts: Floats) -> Floats:
    """Discounted gain of each group, for rows sorted by group and falling key."""
    k = len(discounts) - 1
    starts = run_starts(keys, codes)
    owner = codes[starts]
    lengths = np.diff(starts, append=len(keys))
    above = starts - starts[run_starts(owner)][owner]
    share = discounts[np.minimum(above + lengths, k)] - discounts[np.minimum(above, k)]
    return _summed(owner, np.add.reduceat(gains, starts) * share / lengths, owner[-1] + 1)


def _summed(rows: Rows, values: Floats, n_rows: int) -> Floats:
    return np.bincount(rows, values, n_rows).astype(np.float64)


def _summed_discounts(k: int) -> Floats:
    """The sum of ``1 / log2(place + 1)`` over the first 0, 1, ... k places."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2.0, k + 2.0)))])


def _places(row: NDArray[Any], wanted: Rows, barred: Rows, user: int) -> tuple[Rows, Rows]:
    """How many candidates stand above, and how many level with, each wanted product."""
    if np.isnan(row).any():
        raise DataError(f"scores: NaN for user {user}; the model diverged, or mask with -inf")
    if len(wanted) > FEW:
        kept = np.sort(np.delete(row, barred))
        through = np.searchsorted(kept, row[wanted], side="right")
        tied = through - np.searchsorted(kept, row[wanted], side="left")
        return (len(kept) - through).astype(np.int64), tied.astype(np.int64)
    away = row[barred]
    counts = [
        (
            np.count_nonzero(row > score) - np.count_nonzero(away > score),
            np.count_nonzero(row == score) - np.count_nonzero(away == score),
        )
        for score in row[wanted]
    ]
    above, level = np.array(counts, dtype=np.int64).T
    return above, level


def _products(name: str, user: int, numbers: ArrayLike, n_items: int) -> Rows:
    """A user's product numbers, each once."""
    found = np.unique(np.asarray(numbers, dtype=np.int64))
    if len(found) and (found[0] < 0 or found[-1] >= n_items):
        strange = found[0] if found[0] < 0 else found[-1]
        raise DataError(
            f"{name}: user {user} has product {strange}, and scores has columns 0 to {n_items - 1}"
        )
    return found


def _blocks(scores: Scores, n_users: int) -> Iterator[NDArray[Any]]:
    if callable(scores):
        pieces: Iterable[NDArray[Any]] = (
            scores(start, min(start + BLOCK, n_users)) for start in range(0, n_users, BLOCK)
        )
    else:
        pieces = [np.asarray(scores)] if hasattr(scores, "ndim") else scores
    for piece in pieces:
        block = np.asarray(piece)
        if block.ndim != 2:
            raise DataError(f"scores: a block of shape {list(block.shape)}; give [users, products]")
        yield block


def _check_k(k: int) -> None:
    if k < 1:
        raise DataError(f"k: {k}; at least one place is needed")
