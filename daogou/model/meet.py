"""A candidate, its user, the user's history and the moment to one input for the mixer."""

from typing import Final

import torch
from torch import Tensor, nn

from daogou.features.batch import Batch
from daogou.model.embed import Fields
from daogou.model.encoded import Encoded
from daogou.model.group import Grid, grid_of
from daogou.model.rates import Rates

N_AFFINITIES: Final = 8
VIEW_WIDTH: Final = 8
LEAST_SPREAD: Final = 0.1  # of a repeat: what hardly ever happens is not blown up


class Meet(nn.Module):
    """``x = [v, u, u*v, attended, attended*v, affinities, repeats, rates, context]``, if there.

    ``attended`` is the part of the history that resembles the candidate (Zhou et al., "Deep
    Interest Network", KDD 2018); unlike the paper a scaled dot product over the last
    ``attend_length`` events, with one more, empty, event that takes the attention when nothing
    resembles. Products of user and item stand for themselves because a small MLP is slow to
    learn them (Rendle et al., "Neural Collaborative Filtering vs. Matrix Factorization", 2020);
    for the same reason `N_AFFINITIES` inner products of learned views of both are given too.
    ``repeats`` are counts of the whole past (`daogou.features.repeats`), which attention over a
    few events cannot give, and ``rates`` what training counted of the product.

    ``apart`` are the column and, if it is one, the number of the context that this does not read.

    Shapes: -> ``[B, n_outputs]``.
    """

    def __init__(
        self,
        width: int,
        *,
        has_items: bool,
        has_users: bool,
        context: Fields | None,
        n_repeats: int = 0,
        rates: Rates | None = None,
        attend_length: int = 50,
        apart: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.context = context
        self.apart = apart
        self.attend_length = attend_length
        self.n_repeats = n_repeats if has_items and has_users else 0
        self.rates = rates
        # Of the repeats of training exposures: what is never 0 would move every logit at each step.
        self.register_buffer("usual", torch.zeros(self.n_repeats))
        self.register_buffer("spread", torch.ones(self.n_repeats))
        self.n_outputs = sum(each.n_outputs for each in (context, rates) if each) + width * (
            5 if has_items and has_users else int(has_items or has_users)
        )
        if has_items and has_users:
            self.ask, self.key = nn.Linear(width, width), nn.Linear(width, width)
            views = N_AFFINITIES * VIEW_WIDTH
            self.user_views = nn.Linear(width, views)
            self.item_views = nn.Linear(width, views)
            self.n_outputs += N_AFFINITIES + n_repeats

    usual: Tensor
    spread: Tensor

    def fill(self, repeats: Tensor) -> None:
        """Take mean and spread from the repeats of some training exposures, ``[n, 3 M]``."""
        self.usual.copy_(repeats.mean(0))
        self.spread.copy_(repeats.std(0, correction=0).clamp(min=LEAST_SPREAD))

    def forward(self, encoded: Encoded, batch: Batch) -> Tensor:
        exposures = batch.exposures
        parts: list[Tensor] = []
        items, users, events = encoded.items, encoded.users, encoded.events
        if items is not None:
            parts.append(items.index_select(0, exposures["item"]))
        if users is not None:
            parts.append(users.index_select(0, exposures["user"]))
        if items is not None and users is not None and events is not None:
            v, u = parts
            grid = grid_of(exposures["user"])
            attended = self.attend(v, events, batch.users["action"], grid)
            parts += [u * v, attended, attended * v, self.affinities(u, v)]
            if self.n_repeats:
                parts.append((exposures["repeats"] - self.usual) / self.spread)
        if self.rates is not None:
            assert encoded.item_ids is not None
            folds = exposures["fold"] if self.training else None
            parts.append(self.rates(encoded.item_ids[exposures["item"]], folds))
        if self.context is not None:
            fields, numbers = exposures["fields"], exposures["numbers"]
            if self.apart is not None:
                column, number = self.apart
                fields, numbers = without(fields, column), without(numbers, number)
            parts.append(self.context(fields, numbers))
        return torch.cat(parts, dim=1)

    def affinities(self, u: Tensor, v: Tensor) -> Tensor:
        """Inner products of learned views of user and item, ``[B, N_AFFINITIES]``."""
        products = self.user_views(u) * self.item_views(v)
        found: Tensor = products.view(len(u), N_AFFINITIES, VIEW_WIDTH).sum(-1) / VIEW_WIDTH**0.5
        return found

    def attend(self, v: Tensor, events: Tensor, action: Tensor, grid: Grid) -> Tensor:
        """What of each user's history resembles the candidate, ``[B, D]``."""
        weights = self._attention(v, events, action, grid)
        return grid.gather(weights @ events[:, : self.attend_length].index_select(0, grid.owner))

    def attention(self, v: Tensor, events: Tensor, action: Tensor, grid: Grid) -> Tensor:
        """How much of its attention each candidate gives each event, ``[B, attend_length]``.

        A row adds up to less than 1: the rest goes to nothing.
        """
        return grid.gather(self._attention(v, events, action, grid))

    def _attention(self, v: Tensor, events: Tensor, action: Tensor, grid: Grid) -> Tensor:
        known = action[:, : self.attend_length] > 0
        keys = self.key(events[:, : self.attend_length])  # once per user, not per exposure
        keys = keys.index_select(0, grid.owner)  # [G, L, D]
        scores = grid.spread(self.ask(v)) @ keys.transpose(1, 2) / v.shape[1] ** 0.5  # [G, R, L]
        scores = scores.masked_fill(~known[grid.owner][:, None], -torch.inf)
        nothing = scores.new_zeros(*scores.shape[:2], 1)
        return torch.cat([scores, nothing], dim=2).softmax(2)[..., :-1]


def without(values: Tensor, column: int) -> Tensor:
    """``values [B, C]`` with one column left out; all of them for column -1."""
    return values if column < 0 else torch.cat([values[:, :column], values[:, column + 1 :]], 1)
