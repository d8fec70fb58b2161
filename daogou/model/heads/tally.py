"""What training counted of products, and a user's own events, to scores beside what is learnt."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

COUNTS: Final = ("taken", "taken_lately", "taken_just_now", "in_histories", "new")
SPANS: Final = (7, 9, 10)  # age buckets at which a span begins: after 1.5, 14 and 41 days
SPAN_NAMES: Final = ("within 1.5 days", "within 14 days", "within 41 days", "before")


@dataclass(frozen=True)
class Hints:
    """What histories say of single products: ``values [n, H]`` of ``query [n]`` and ``row [n]``."""

    query: Tensor
    row: Tensor  # of the catalogue; a query has each row once
    values: Tensor


class Tally(nn.Module):
    """Counts of products and of a user's events with them, weighed; no step of training learns it.

    ``score = counts[id] @ w + hints @ w'``: a softmax over the catalogue of so few inputs that
    the validation split can weigh them (`daogou.learn.tally`). Of a product they are logarithms of
    how often training took it, with and without forgetting, and whether training does not know it
    (`COUNTS`). Of a product and a user: ``log(1 + times)`` for each kind and age of the user's
    events with it, and whether there are any.

    ``counts [n_ids, 5]`` are by id row; all are 0 until they are filled.
    """

    def __init__(self, n_ids: int, n_actions: int) -> None:
        super().__init__()
        self.n_hints = n_actions * len(SPAN_NAMES) + 1
        self.register_buffer("counts", torch.zeros(n_ids, len(COUNTS)))
        self.register_buffer("weights", torch.zeros(1 + len(COUNTS) + self.n_hints))
        self.forget()

    counts: Tensor
    weights: Tensor  # of what is learnt, of the counts, of the hints

    def forget(self) -> None:
        """Weigh as in training: what is learnt, beside how often training took the product."""
        self.weights.zero_()
        self.weights[:2] = 1.0

    @property
    def of_learnt(self) -> Tensor:
        """What the learnt part of a score is multiplied by."""
        return self.weights[0]

    def of_products(self, ids: Tensor) -> Tensor:
        """The part of a score that is the same for everybody, ``[I]`` of id rows ``[I]``."""
        return self.counts[ids] @ self.weights[1 : 1 + len(COUNTS)]

    def of_histories(self, n_rows: int, history: Tensor, action: Tensor, age: Tensor) -> Tensor:
        """The part of a score that a user's events add, ``[Q, n_rows]``; see `hints`."""
        found = self.hints(history, action, age)
        added = self.weights.new_zeros(len(history), n_rows)
        added[found.query, found.row] = self.of_hints(found)
        return added

    def of_hints(self, hints: Hints) -> Tensor:
        """The part of a score that hints add, ``[n]``."""
        return hints.values @ self.weights[1 + len(COUNTS) :]

    def hints(self, history: Tensor, action: Tensor, age: Tensor) -> Hints:
        """What events say of the products that they are of.

        ``history`` (rows of the catalogue), ``action`` and ``age`` ``[Q, L]`` are as in a batch:
        0 past a history's end. Row 0, the unknown product, is many products, so nothing is said
        of it.
        """
        known = (action > 0) & (history > 0)
        query, _ = known.nonzero(as_tuple=True)
        n_rows = int(history.max()) + 1 if history.numel() else 1
        keys, place = (query * n_rows + history[known]).unique(return_inverse=True)
        span = torch.bucketize(age[known], torch.tensor(SPANS, device=age.device), right=True)
        column = (action[known] - 1) * len(SPAN_NAMES) + span
        times = self.weights.new_zeros(len(keys), self.n_hints - 1)
        times.index_put_((place, column), times.new_ones(len(place)), accumulate=True)
        values = torch.cat([times.log1p(), times.new_ones(len(keys), 1)], 1)
        return Hints(keys // n_rows, keys % n_rows, values)
