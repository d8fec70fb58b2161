"""A behaviour state to a distribution over the values of each profile column."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from daogou.features.batch import Batch
from daogou.features.columns import Columns
from daogou.features.store import SPLITS
from daogou.model.encoded import Encoded, TaskLosses, weigh
from daogou.model.losses import categorical


@dataclass(frozen=True)
class Tastes:
    """What a history can be counted by: the values of the items' columns that have few.

    ``columns [K]`` are places among the items' marks, ``first [K]`` the mark of each column's
    first value, ``sizes [K]`` how many values it has. ``mean`` and ``spread [F]`` are those of
    `shares_of` over the users who teach, of whom there are ``n_users``.
    """

    columns: tuple[int, ...]
    first: tuple[int, ...]
    sizes: tuple[int, ...]
    mean: Tensor
    spread: Tensor
    n_users: int


def shares_of(marks: Tensor, known: Tensor, tastes: Tastes) -> Tensor:
    """Log of one plus the percentage of events with each value, ``[Q, F]``.

    ``marks [Q, L, M]`` of the events' items, ``known [Q, L]`` where there is an event. Shares and
    not counts: a long history says what a short one says.
    """
    shares = marks.new_zeros(len(marks), sum(tastes.sizes) + 1, dtype=torch.float32)
    total = known.sum(1, keepdim=True).clamp(min=1)
    start = 1  # place 0 takes what is no event
    for column, first, size in zip(tastes.columns, tastes.first, tastes.sizes, strict=True):
        place = torch.where(known, marks[..., column] - first + start, 0)
        shares.scatter_add_(1, place, known.float() / total)
        start += size
    return torch.log1p(100.0 * shares[:, 1:])


class ProfileHead(nn.Module):
    """One small network per column, reading behaviour only: no id and no profile input.

    Beside it a linear layer reads how large a share of the history has each value of the items'
    columns, under a Gaussian prior of ``precision`` on standardised shares: with a few hundred
    labelled users a ridge on counts is hard to beat, and what is learnt by heart through the
    items' own rows is not.

    A column of which training knows no value has no class, no loss and an empty answer.

    Shapes: states ``[Q, D]`` -> per column logits ``[Q, V_p]``. ``columns[p]`` is the column of
    task p among the users' profile labels.
    """

    def __init__(
        self,
        width: int,
        n_classes: Sequence[int],
        columns: Sequence[int],
        *,
        tastes: Tastes | None = None,
        precision: float = 300.0,
        hidden: int = 32,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.tastes = tastes if tastes is not None and tastes.columns else None
        self.precision = precision
        if self.tastes is not None:
            self.register_buffer("mean", self.tastes.mean)
            self.register_buffer("spread", self.tastes.spread)
            self.wide = nn.Linear(len(self.tastes.mean), sum(n_classes), bias=False)
            nn.init.zeros_(self.wide.weight)
        self.columns = list(columns)
        self.n_classes = list(n_classes)
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, hidden),
                nn.SiLU(),
                nn.Dropout(dropout),
                nn.Linear(hidden, max(n, 1)),
            )
            for n in n_classes
        )

    mean: Tensor
    spread: Tensor

    def logits(self, states: Tensor, straight: Tensor | None = None) -> list[Tensor]:
        """Logits ``[Q, V_p]`` of each column.

        ``states [P, Q, D]``, one copy per column; ``straight [Q, sum V_p]`` is the linear part.
        """
        made = zip(self.networks, states, self.n_classes, strict=True)
        found = [network(state)[:, :n] for network, state, n in made]
        if straight is None:
            return found
        parts = straight.split(self.n_classes, dim=1)
        return [deep + part for deep, part in zip(found, parts, strict=True)]

    def straight(self, encoded: Encoded, users: Columns) -> Tensor | None:
        """The linear part of the logits, ``[Q, sum V_p]``; None where nothing is counted."""
        if self.tastes is None or encoded.marks is None:
            return None
        known = users["action"] > 0
        shares = shares_of(encoded.marks[users["history"]], known, self.tastes)
        standard = (shares - self.mean) / self.spread
        found: Tensor = self.wide(torch.where(known.any(1, keepdim=True), standard, 0.0))
        return found

    def losses(self, encoded: Encoded, batch: Batch, weights: Tensor) -> TaskLosses:
        """Cross-entropy of each column over the users whose labels may teach, ``[P]``.

        A user who stands several times in a batch, at several moments, counts once in all.
        """
        assert encoded.h is not None
        users = batch.users
        teaches = users["split"] == SPLITS.index("train")
        taught = torch.where(teaches, users["row"], -1)
        _, same, counts = taught.unique(return_inverse=True, return_counts=True)
        share = 1.0 / counts[same]
        states = weigh(encoded.h.expand(len(self.columns), -1, -1), weights)
        made = self.logits(states, self.straight(encoded, users))
        found = [
            categorical(logits, torch.where(teaches, users["profile"][:, column], -1), share)
            for column, logits in zip(self.columns, made, strict=True)
        ]
        return TaskLosses(torch.stack(found) + self.penalties() * teaches.any())

    def penalties(self) -> Tensor:
        """The prior's part of each column's mean loss, ``[P]``."""
        if self.tastes is None:
            return torch.zeros(len(self.columns), device=next(self.parameters()).device)
        squares = self.wide.weight.square().sum(1).split(self.n_classes)
        scale = self.precision / (2.0 * max(self.tastes.n_users, 1))
        return torch.stack([part.sum() * scale for part in squares])

    def distributions(self, encoded: Encoded, users: Columns) -> list[Tensor]:
        """Probability of each value, ``[Q, V_p]`` per column, for a batch's ``users``."""
        assert encoded.h is not None
        states = encoded.h.expand(len(self.columns), -1, -1)
        made = self.logits(states, self.straight(encoded, users))
        return [logits.softmax(-1) for logits in made]
