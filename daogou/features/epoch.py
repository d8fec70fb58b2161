"""The rows of each step of one pass over the training exposures."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from daogou.features.queries import NO_ROWS, NOBODY, Queries, Rows, just_after, teaching_queries
from daogou.features.store import SPLITS, Store

_TITLE_SHARE: Final = 8  # exposures of a step for each of its titles, at least


@dataclass(frozen=True)
class Epoch:
    """The rows of each step of one pass, decided by the seed alone.

    ``families`` of tasks are those that each step teaches; None = all of them at every step.
    """

    exposures: list[Rows]
    titles: list[Rows]
    extra_items: list[Rows]
    taught: list[Queries]
    families: list[frozenset[str]] | None = None

    def __len__(self) -> int:
        return len(self.exposures)

    def n_steps(self, family: str) -> int:
        """How many of the steps teach a family."""
        if self.families is None:
            return len(self)
        return sum(family in taught for taught in self.families)


def plan_epoch(
    store: Store,
    *,
    seed: int,
    epoch: int,
    rows_per_step: int,
    titles_per_step: int,
    title_passes: float,
    extra_items: int,
    profile_passes: float = 0.0,
) -> Epoch:
    """One pass over the training exposures, each row once, in an order the seed decides.

    Neighbours in the store share a user and a moment, so short runs of them stay together:
    a batch then encodes fewer histories. Titles are spread over the steps, ``title_passes``
    times each; a shop without exposures takes as many steps as its titles fill. So are the users
    whose profile may teach, each at moments of training drawn anew: were every exposure to teach
    its user's profile, a few hundred users would be learnt by heart within an epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    first, last = store.ranges["train"]
    gold = np.flatnonzero(store["titles/split"] == SPLITS.index("train"))
    n_steps = -(-(last - first) // rows_per_step) or -(-len(gold) // titles_per_step)
    block = 10 if len(store["queries/user"]) else 1
    # Half the memory where it is enough: a year of a large shop is 10^8 rows.
    kind: Any = np.int32 if last + block < 2**31 else np.int64
    starts = np.arange(first, last, block, dtype=kind)
    rng.shuffle(starts)
    order = (starts[:, None] + np.arange(block, dtype=kind)).ravel()
    order = order[order < last]
    passes = title_passes if last > first else 1.0
    if last > first and len(gold):  # a step that reads exposures is to be about them
        passes = min(passes, n_steps * rows_per_step / _TITLE_SHARE / len(gold))
    titles = _repeated(gold, passes, rng)
    extra = [
        rng.integers(1, store.n_items + 1, extra_items) if store.n_items and last > first
        else NO_ROWS
        for _ in range(n_steps)
    ]  # fmt: skip
    taught = _taught(store, rng, profile_passes) if profile_passes > 0 else NOBODY
    pieces = np.array_split(np.arange(len(taught)), max(n_steps, 1))
    return Epoch(
        _cut(order, rows_per_step, n_steps),
        np.array_split(titles, max(n_steps, 1)),
        extra,
        [taught[rows] for rows in pieces],
    )


def _taught(store: Store, rng: np.random.Generator, passes: float) -> Queries:
    """Users whose profile may teach, ``passes`` times each, at moments before training ends.

    A moment leaves between a third and all of the user's events of that time to be read.
    """
    whole = teaching_queries(store)
    picked = _repeated(np.arange(len(whole.user)), passes, rng)
    user, start = whole.user[picked], store["users/start"][whole.user[picked]]
    share = rng.uniform(1 / 3, 1.0, len(user))
    end = start + np.ceil(share * (whole.end[picked] - start)).astype(np.int64)
    return Queries(user, end, just_after(store, end))


def _repeated(rows: Rows, passes: float, rng: np.random.Generator) -> Rows:
    """Each row ``passes`` times, a fraction of a pass for some: one shuffled pass after another."""
    shuffled = [rng.permutation(rows) for _ in range(int(np.ceil(passes)))]
    return np.concatenate([NO_ROWS, *shuffled])[: round(passes * len(rows))]


def _cut(order: Rows, size: int, n_steps: int) -> list[Rows]:
    return [order[step * size : (step + 1) * size] for step in range(n_steps)]
