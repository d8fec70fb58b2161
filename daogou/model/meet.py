"""A candidate, its user, the user's history and the moment to one input for the mixer."""

from typing import Final

import torch
from torch import Tensor, nn

from daogou.features.batch import Batch
from daogou.model.embed import Fields
from daogou.model.encoded import Encoded

N_AFFINITIES: Final = 8
VIEW_WIDTH: Final = 8


class Meet(nn.Module):
    """``x = [v, u, u*v, attended, attended*v, affinities, context]``, as much of it as the shop has.

    ``attended`` is the part of the history that resembles the candidate (Zhou et al., "Deep
    Interest Network", KDD 2018); unlike the paper a scaled dot product over the last
    ``attend_length`` events, with one more, empty, event that takes the attention when nothing
    resembles. Products of user and item stand for themselves because a small MLP is slow to
    learn them (Rendle et al., "Neural Collaborative Filtering vs. Matrix Factorization", 2020);
    for the same reason `N_AFFINITIES` inner products of learned views of both are given too.

    Shapes: -> ``[B, n_outputs]``.
    """

    def __init__(
        self, width: int, *, has_items: bool, has_users: bool, context: Fields | None,
        attend_length: int = 50,
    ) -> None:  # fmt: skip
        super().__init__()
        self.context = context
        self.attend_length = attend_length
        self.n_outputs = (context.n_outputs if context else 0) + width * (
            5 if has_items and has_users else int(has_items or has_users)
        )
        if has_items and has_users:
            self.ask, self.key = nn.Linear(width, width), nn.Linear(width, width)
            views = N_AFFINITIES * VIEW_WIDTH
            self.user_views = nn.Linear(width, views)
            self.item_views = nn.Linear(width, views)
            self.n_outputs += N_AFFINITIES

    def forward(self, encoded: Encoded, batch: Batch) -> Tensor:
        exposures = batch.exposures
        parts: list[Tensor] = []
        items, users, events = encoded.items, encoded.users, encoded.events
        if items is not None:
            parts.append(items[exposures["item"]])
        if users is not None:
            parts.append(users[exposures["user"]])
        if items is not None and users is not None and events is not None:
            v, u = parts
            attended = self.attend(v, events, batch.users["action"], exposures["user"])
            parts += [u * v, attended, attended * v, self.affinities(u, v)]
        if self.context is not None:
            parts.append(self.context(exposures["fields"], exposures["numbers"]))
        return torch.cat(parts, dim=1)

    def affinities(self, u: Tensor, v: Tensor) -> Tensor:
        """Inner products of learned views of user and item, ``[B, N_AFFINITIES]``."""
        products = self.user_views(u) * self.item_views(v)
        found: Tensor = products.view(len(u), N_AFFINITIES, VIEW_WIDTH).sum(-1) / VIEW_WIDTH**0.5
        return found

    def attend(self, v: Tensor, events: Tensor, action: Tensor, user: Tensor) -> Tensor:
        """What of each user's history resembles the candidate, ``[B, D]``."""
        events = events[:, : self.attend_length]
        known = action[:, : self.attend_length] > 0
        keys = self.key(events)  # [Q, L, D]: projected once per user, not per exposure
        scores = torch.einsum("bd,bld->bl", self.ask(v), keys[user]) / v.shape[1] ** 0.5
        scores = scores.masked_fill(~known[user], -torch.inf)
        nothing = scores.new_zeros(len(scores), 1)
        weights = torch.cat([scores, nothing], dim=1).softmax(1)[:, :-1]
        return torch.einsum("bl,bld->bd", weights, events[user])
