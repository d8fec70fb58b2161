"""A candidate, its user, the user's history and the moment to one input for the mixer."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from daogou.features.batch import N_AGES, Batch
from daogou.model.embed import Fields
from daogou.model.encoded import Encoded

N_AFFINITIES: Final = 8
VIEW_WIDTH: Final = 8


class Meet(nn.Module):
    """``x = [v, u, u*v, attended, attended*v, affinities, repeats, context]``, as the shop has it.

    ``attended`` is the part of the history that resembles the candidate (Zhou et al., "Deep
    Interest Network", KDD 2018); unlike the paper a scaled dot product over the last
    ``attend_length`` events, with one more, empty, event that takes the attention when nothing
    resembles. Products of user and item stand for themselves because a small MLP is slow to
    learn them (Rendle et al., "Neural Collaborative Filtering vs. Matrix Factorization", 2020);
    for the same reason `N_AFFINITIES` inner products of learned views of both are given too.

    Shapes: -> ``[B, n_outputs]``.
    """

    def __init__(
        self,
        width: int,
        *,
        has_items: bool,
        has_users: bool,
        context: Fields | None,
        missing: Sequence[int] = (),
        last_action: int = 1,
        attend_length: int = 50,
    ) -> None:
        super().__init__()
        self.context = context
        self.attend_length = attend_length
        self.last_action = last_action
        self.n_outputs = (context.n_outputs if context else 0) + width * (
            5 if has_items and has_users else int(has_items or has_users)
        )
        if has_items and has_users:
            self.ask, self.key = nn.Linear(width, width), nn.Linear(width, width)
            views = N_AFFINITIES * VIEW_WIDTH
            self.user_views = nn.Linear(width, views)
            self.item_views = nn.Linear(width, views)
            self.n_outputs += N_AFFINITIES + 3 * len(missing)
        # Which mark of each column says that nothing is known: two unknowns have nothing in common.
        self.register_buffer("missing", torch.tensor(missing, dtype=torch.int64), persistent=False)

    missing: Tensor

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
            if encoded.marks is not None and len(self.missing):
                parts.append(self.repeats(encoded.marks, batch))
        if self.context is not None:
            parts.append(self.context(exposures["fields"], exposures["numbers"]))
        return torch.cat(parts, dim=1)

    def affinities(self, u: Tensor, v: Tensor) -> Tensor:
        """Inner products of learned views of user and item, ``[B, N_AFFINITIES]``."""
        products = self.user_views(u) * self.item_views(v)
        found: Tensor = products.view(len(u), N_AFFINITIES, VIEW_WIDTH).sum(-1) / VIEW_WIDTH**0.5
        return found

    def repeats(self, marks: Tensor, batch: Batch) -> Tensor:
        """How the history repeats the candidate, ``[B, 3 M]``.

        For the product itself and each of its columns: the log of how many events share it, the
        same for the last kind of action alone, and how recent the latest of them is. Attention
        gives a mean, which says what was taken and not how often.
        """
        users, user = batch.users, batch.exposures["user"]
        candidate = marks[batch.exposures["item"]]  # [B, M]
        action, age = users["action"], users["age"]
        past = torch.where((action > 0)[..., None], marks[users["history"]], -1)  # [Q, L, M]
        comparable = (candidate != self.missing)[:, None]
        same = (past[user] == candidate[:, None]) & comparable  # [B, L, M]
        last = (action == self.last_action)[user]
        fresh = 1.0 - age.float() / N_AGES
        latest = (same * fresh[user][..., None]).amax(1)
        counts = torch.cat([same.sum(1), (same & last[..., None]).sum(1)], dim=1)
        return torch.cat([torch.log1p(counts.float()), latest], dim=1)

    def attend(self, v: Tensor, events: Tensor, action: Tensor, user: Tensor) -> Tensor:
        """What of each user's history resembles the candidate, ``[B, D]``."""
        weights = self.attention(v, events, action, user)
        return torch.einsum("bl,bld->bd", weights, events[:, : self.attend_length][user])

    def attention(self, v: Tensor, events: Tensor, action: Tensor, user: Tensor) -> Tensor:
        """How much of its attention each candidate gives each event, ``[B, attend_length]``.

        A row adds up to less than 1: the rest goes to nothing.
        """
        known = action[:, : self.attend_length] > 0
        keys = self.key(events[:, : self.attend_length])  # once per user, not per exposure
        scores = torch.einsum("bd,bld->bl", self.ask(v), keys[user]) / v.shape[1] ** 0.5
        scores = scores.masked_fill(~known[user], -torch.inf)
        nothing = scores.new_zeros(len(scores), 1)
        return torch.cat([scores, nothing], dim=1).softmax(1)[:, :-1]
