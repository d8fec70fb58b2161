"""A behaviour state to a distribution over the values of each profile column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from daogou.features.batch import Batch
from daogou.features.columns import Columns
from daogou.features.store import SPLITS
from daogou.model.encoded import Encoded, TaskLosses, weigh
from daogou.model.losses import binary, categorical, masked_mean

_LEAST_STEP: Final = 1e-3  # between two thresholds, so that no class has a chance of 0


@dataclass(frozen=True)
class Ordered:
    """A column whose classes have an order: ``order [V]`` are they, from the lowest."""

    order: tuple[int, ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        """Place of each class in the order."""
        return tuple(self.order.index(place) for place in range(len(self.order)))


@dataclass(frozen=True)
class Listed:
    """A column of lists: ``first`` is its first value's place among the users' ``many``."""

    first: int


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

    An `Ordered` column has one score and a threshold between each class and the next (the
    proportional odds of McCullagh, "Regression Models for Ordinal Data", JRSS B 1980; thresholds
    are a first one and steps above 0, so that their order is never broken). A `Listed` column
    says yes or no to each value by itself.

    Shapes: states ``[Q, D]`` -> per column logits ``[Q, V_p]``. ``columns[p]`` is the column of
    task p among the users' profile labels, -1 for a list; ``kinds`` names by task those that are
    ordered or lists.
    """

    def __init__(
        self,
        width: int,
        n_classes: Sequence[int],
        columns: Sequence[int],
        *,
        kinds: Mapping[int, Ordered | Listed] | None = None,
        tastes: Tastes | None = None,
        precision: float = 300.0,
        hidden: int = 32,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.tastes = tastes if tastes is not None and tastes.columns else None
        self.precision = precision
        self.kinds = dict(kinds or {})
        self.n_outputs = [
            min(n, 1) if isinstance(self.kinds.get(place), Ordered) else n
            for place, n in enumerate(n_classes)
        ]
        self.steps = nn.ParameterDict()
        for place, kind in self.kinds.items():
            if isinstance(kind, Ordered) and n_classes[place] > 1:
                self.steps[str(place)] = nn.Parameter(even_steps(n_classes[place]))
                ranks = torch.tensor(kind.ranks)
                self.register_buffer(f"ranks_{place}", ranks, persistent=False)
        if self.tastes is not None:
            self.register_buffer("mean", self.tastes.mean)
            self.register_buffer("spread", self.tastes.spread)
            self.wide = nn.Linear(len(self.tastes.mean), sum(self.n_outputs), bias=False)
            nn.init.zeros_(self.wide.weight)
        self.columns = list(columns)
        self.n_classes = list(n_classes)
        self.register_buffer("sharpness", torch.ones(len(self.columns)))
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, hidden),
                nn.SiLU(),
                nn.Dropout(dropout),
                nn.Linear(hidden, max(n, 1)),
            )
            for n in self.n_outputs
        )

    mean: Tensor
    spread: Tensor
    sharpness: Tensor

    def logits(self, states: Tensor, straight: Tensor | None = None) -> list[Tensor]:
        """Logits ``[Q, V_p]`` of each column; of an ordered one, logarithms of the chances.

        ``states [P, Q, D]``, one copy per column; ``straight`` is the linear part, see `straight`.
        """
        made = zip(self.networks, states, self.n_outputs, strict=True)
        found = [network(state)[:, :n] for network, state, n in made]
        if straight is not None:
            parts = straight.split(self.n_outputs, dim=1)
            found = [deep + part for deep, part in zip(found, parts, strict=True)]
        for key, steps in self.steps.items():
            place = int(key)
            found[place] = ordered(found[place][:, 0], steps)[:, getattr(self, f"ranks_{place}")]
        return found

    def straight(self, encoded: Encoded, users: Columns) -> Tensor | None:
        """The linear part of the columns' outputs side by side; None where nothing is counted.

        ``[Q, sum of outputs]``: an ordered column has one, its score, any other one a class.
        """
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
        found = []
        for place, (column, logits) in enumerate(zip(self.columns, made, strict=True)):
            kind = self.kinds.get(place)
            if isinstance(kind, Listed):
                values = users["many"][:, kind.first : kind.first + logits.shape[1]]
                found.append(multilabel(logits, torch.where(teaches[:, None], values, -1), share))
            else:
                classes = torch.where(teaches, users["profile"][:, column], -1)
                found.append(categorical(logits, classes, share))
        values = torch.stack(found)
        # What is held out is judged by its nats alone.
        return TaskLosses(values + self.penalties() * teaches.any() if self.training else values)

    def penalties(self) -> Tensor:
        """The prior's part of each column's mean loss, ``[P]``."""
        if self.tastes is None:
            return torch.zeros(len(self.columns), device=next(self.parameters()).device)
        squares = self.wide.weight.square().sum(1).split(self.n_outputs)
        scale = self.precision / (2.0 * max(self.tastes.n_users, 1))
        return torch.stack([part.sum() * scale for part in squares])

    def distributions(self, encoded: Encoded, users: Columns) -> list[Tensor]:
        """Probability of each value, ``[Q, V_p]`` per column, for a batch's ``users``.

        They sum to 1, except over the values of a list, each of which has a chance of its own.
        Outside training they are calibrated: a column's logits are multiplied by its
        ``sharpness [P]``, the inverse of its temperature (Guo et al., "On Calibration of Modern
        Neural Networks", ICML 2017).
        """
        assert encoded.h is not None
        states = encoded.h.expand(len(self.columns), -1, -1)
        made = self.logits(states, self.straight(encoded, users))
        if not self.training:
            made = [logits * sharp for logits, sharp in zip(made, self.sharpness, strict=True)]
        return [
            logits.sigmoid() if isinstance(self.kinds.get(place), Listed) else logits.softmax(-1)
            for place, logits in enumerate(made)
        ]


def even_steps(n_classes: int) -> Tensor:
    """What `ordered` reads as thresholds that make classes equally likely at a score of 0."""
    cuts = (torch.arange(1, n_classes) / n_classes).logit()
    wanted = cuts.diff() - _LEAST_STEP
    return torch.cat([cuts[:1], wanted.expm1().log()])  # the inverse of softplus


def ordered(scores: Tensor, steps: Tensor) -> Tensor:
    """Log chances ``[Q, V]`` of the classes from the lowest, of ``scores [Q]``.

    ``P(class <= k) = sigmoid(threshold_k - score)``; ``steps [V - 1]`` is the first threshold and
    what softplus makes the distance to each next one.

    >>> chances = ordered(torch.tensor([0.0, 3.0]), torch.tensor([-1.0, 2.0])).exp()
    >>> [round(each, 3) for each in chances[0].tolist()]
    [0.269, 0.487, 0.245]
    """
    gaps = functional.softplus(steps[1:]) + _LEAST_STEP
    cuts = torch.cat([steps[:1], gaps]).cumsum(0)
    below = cuts - scores[:, None]  # [Q, V - 1]
    # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)): no difference of the alike.
    reached = functional.pad(functional.logsigmoid(-below), (1, 0))
    left = functional.pad(functional.logsigmoid(below), (0, 1))
    within = functional.pad((-torch.expm1(-gaps)).log(), (1, 1))
    return reached + left + within


def multilabel(logits: Tensor, values: Tensor, weights: Tensor) -> Tensor:
    """Mean over users, then values, of the nats of each yes or no: ``values [Q, V]``, -1 unknown.

    A user's list is known as a whole or not at all. 0, gradient too, where none is.
    """
    if not logits.shape[1]:
        return logits.sum()
    nats = binary(logits, values.clamp(min=0).to(logits.dtype)).mean(1)
    return masked_mean(nats, values[:, 0] >= 0, weights)
