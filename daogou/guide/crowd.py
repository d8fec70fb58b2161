"""Everybody's events and states to what is popular now, and to the users whom a product suits."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.features.queries import Events
from daogou.features.store import Store
from daogou.guide.index import Index
from daogou.guide.score import Scorer, Shoppers
from daogou.schema import DAY_US

Array = NDArray[Any]
TREND_DAYS: Final = 7.0  # an event this old counts half as much for what is trending
NEVER: Final = np.iinfo(np.int64).max
_PIECE: Final = 1 << 20  # events read at once
_USERS: Final = 512  # users encoded at once
_MOST_ITEMS: Final = 1024  # products that a user's level is the mean of


@dataclass(frozen=True)
class Asks:
    """What all users ask the index with, ``query [U + 1, D]``, and what their own events add.

    ``value [n]`` is added to the score of the product at ``row [n]`` for ``user [n]``.
    """

    query: Tensor
    user: Tensor
    row: Tensor
    value: Tensor


@dataclass(frozen=True)
class Crowd:
    """All users of a run, and all their events. What is costly is made when first asked, once."""

    scorer: Scorer
    index: Index | None
    query: Callable[[Shoppers], Tensor]  # what users ask the index with
    hints: Callable[[Shoppers], tuple[Tensor, Tensor, Tensor]]  # what their own events add

    @cached_property
    def _heat(self) -> Array:
        return heat(self.scorer.artifact.store, self.scorer.now)

    def heat_at(self, moment: int) -> Array:
        """Events of each product before a moment, older ones counting less, ``[I + 1]``."""
        waited = moment - self.scorer.now
        if waited < 0:
            return heat(self.scorer.artifact.store, moment)
        return np.asarray(self._heat * 0.5 ** (waited / (TREND_DAYS * DAY_US)))

    @cached_property
    def first_met(self) -> Array:
        """Time of the first event of each product, ``[I + 1]``; `NEVER` without one."""
        store = self.scorer.artifact.store
        first = np.full(store.n_items + 1, NEVER)
        for piece in _pieces(store):
            item = np.asarray(store["history/item"][piece], dtype=np.int64)
            np.minimum.at(first, item, np.asarray(store["history/time"][piece]))
        return first

    @cached_property
    def user_keys(self) -> list[str]:
        """The shop's own ids of the users, in the order of their rows."""
        return list(self.scorer.artifact.store.user_rows)

    @cached_property
    def asks(self) -> Asks:
        """What every user asks at the end of the log."""
        scorer, asks = self.scorer, []
        n_users = scorer.artifact.store.n_users
        with torch.inference_mode():
            for first in range(0, n_users + 1, _USERS):
                rows = range(first, min(first + _USERS, n_users + 1))
                shoppers = scorer.shoppers(scorer.queries(rows))
                assert shoppers is not None
                user, row, value = self.hints(shoppers)
                asks.append((self.query(shoppers), user + first, row, value))
        return Asks(*(torch.cat(parts) for parts in zip(*asks, strict=True)))

    @cached_property
    def level(self) -> Tensor:
        """Each user's log of the mean over products of exp(score), ``[U + 1]``.

        The mean is over at most 1,024 products, evenly spread over the catalogue.
        """
        assert self.index is not None
        n = len(self.index.vectors) - 1
        some = torch.linspace(1, n, min(n, _MOST_ITEMS)).long()
        scores = self.asks.query @ self.index.vectors[some].T
        place = torch.full((n + 1,), -1)
        place[some] = torch.arange(len(some))
        column = place[self.asks.row]
        at = (self.asks.user[column >= 0], column[column >= 0])
        scores = scores.index_put(at, self.asks.value[column >= 0], accumulate=True)
        return torch.logsumexp(scores, dim=1) - math.log(len(some))

    def suits(self, row: int, vector: Tensor) -> Tensor:
        """By how much a product's score is above each user's level, ``[U + 1]``.

        Users differ in how high all their scores are, so a score by itself says little about who of
        them wants the product most; above the level it is the log of the product's chance over that
        of the mean product. ``vector [D]`` is what the index holds of it, ``row`` its place.
        """
        scores = self.asks.query @ vector
        here = self.asks.row == row
        scores = scores.index_put((self.asks.user[here],), self.asks.value[here], accumulate=True)
        return scores - self.level


def _pieces(store: Store) -> Iterator[slice]:
    for first in range(0, len(store["history/time"]), _PIECE):
        yield slice(first, first + _PIECE)


def heat(store: Store, at: int) -> Array:
    """Of each product the sum over its events before ``at`` of ``0.5 ** (age / 7 days)``."""
    total = np.zeros(store.n_items + 1)
    for piece in _pieces(store):
        events = Events(*(store[f"history/{name}"][piece] for name in ("item", "action", "time")))
        total += heat_of(events, at, len(total))
    return total


def heat_of(events: Events, at: int, n_rows: int) -> Array:
    """The same of some events, ``[n_rows]``.

    >>> now = 14 * DAY_US
    >>> events = Events(np.array([1, 1]), np.zeros(2), np.array([7 * DAY_US, now]))
    >>> heat_of(events, now, 2).tolist()
    [0.0, 0.5]
    """
    age = at - np.asarray(events.time, dtype=np.int64)
    weights = np.where(age > 0, 0.5 ** (age / (TREND_DAYS * DAY_US)), 0.0)
    return np.bincount(np.asarray(events.item, dtype=np.int64), weights, minlength=n_rows)
