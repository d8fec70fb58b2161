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
from daogou.model.heads.habits import Habits, Tastes
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
class Choice:
    """What a column's straight path reads beside the counts of columns that have few values.

    ``many`` are columns of more values (places among the items' marks), ``factors`` those of what
    was taken; ``shown`` are shares of what was shown, which ``shown_factors`` stand beside.
    """

    many: tuple[int, ...] = ()
    factors: bool = False
    shown: bool = False
    shown_factors: bool = False


class ProfileHead(nn.Module):
    """One small network per column, reading behaviour only: no id and no profile input.

    Beside it a straight path reads `Habits` of what was ``taken`` and, if the shop tells, of what
    was ``shown`` by a linear layer. It is not trained in steps but solved exactly when training
    has ended (`daogou.learn.straight`): with a few hundred labelled users a ridge on counts is
    hard to beat, and steps that suit a network stop too early for it or too late. ``paths [P, 2]``
    say what the network's logits count and what the straight ones'; until it is solved, and in
    training, the network answers alone.

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
        shown: Tastes | None = None,
        hidden: int = 32,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.taken = Habits(tastes) if tastes is not None and tastes.columns else None
        self.shown = Habits(shown) if self.taken is not None and shown is not None else None
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
        if self.taken is not None:
            n_signs = sum(each.tastes.n_signs for each in self.pasts)
            for place, n in enumerate(self.n_outputs):
                is_ordered = str(place) in self.steps
                n_shifts = n_classes[place] - 1 if is_ordered else n
                self.register_buffer(f"straight_{place}", torch.zeros(n, n_signs))
                self.register_buffer(f"shift_{place}", torch.zeros(n_shifts))
        self.columns = list(columns)
        self.n_classes = list(n_classes)
        self.register_buffer("paths", torch.tensor([[1.0, 0.0]]).repeat(len(self.columns), 1))
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, hidden),
                nn.SiLU(),
                nn.Dropout(dropout),
                nn.Linear(hidden, max(n, 1)),
            )
            for n in self.n_outputs
        )

    paths: Tensor

    @property
    def pasts(self) -> list[Habits]:
        """What the straight paths count: what was taken, then what was shown."""
        return [each for each in (self.taken, self.shown) if each is not None]

    def logits(self, states: Tensor) -> list[Tensor]:
        """Logits ``[Q, V_p]`` of each network; of an ordered one, logarithms of the chances.

        ``states [P, Q, D]``, one copy per column.
        """
        made = zip(self.networks, states, self.n_outputs, strict=True)
        found = [network(state)[:, :n] for network, state, n in made]
        for key, steps in self.steps.items():
            place = int(key)
            found[place] = ordered(found[place][:, 0], steps)[:, getattr(self, f"ranks_{place}")]
        return found

    def habits(self, encoded: Encoded, users: Columns) -> Tensor | None:
        """What `Habits` count of a batch's users, side by side; None where nothing is counted."""
        if self.taken is None or encoded.marks is None:
            return None
        history, ids = users["history"], encoded.item_ids
        counted = [
            self.taken.count(
                encoded.marks[history], None if ids is None else ids[history], users["action"]
            )
        ]
        if self.shown is not None:
            seen = (users["shown"][..., 0] > 0).long()
            counted.append(self.shown.count(users["shown"], users["shown_id"], seen))
        return torch.cat(counted, dim=1)

    def compare_with(self, counted: Tensor) -> None:
        """Remember what is usual among some users, as `habits` counted them."""
        for past, part in zip(self.pasts, self._parts(counted), strict=True):
            past.compare_with(part)

    def standard(self, counted: Tensor) -> Tensor:
        """What a linear layer reads of what `habits` counted, ``[Q, F]``."""
        parts = zip(self.pasts, self._parts(counted), strict=True)
        return torch.cat([past.standard(part) for past, part in parts], dim=1)

    def _parts(self, counted: Tensor) -> Sequence[Tensor]:
        parts: Sequence[Tensor] = counted.split([p.tastes.n_counted for p in self.pasts], dim=1)
        return parts

    def reading(self, choice: Choice) -> Tensor:
        """Places ``[F']`` in `standard` that are read under a choice."""
        assert self.taken is not None
        read = [self.taken.tastes.reading(choice.many, logs=True, factors=choice.factors)]
        if self.shown is not None:
            each = self.shown.tastes.reading((), logs=False, factors=choice.shown_factors)
            read.append(each & choice.shown)
        return torch.cat(read).nonzero()[:, 0]

    def straight(self, counted: Tensor, place: int) -> Tensor:
        """Logits ``[Q, V_p]`` of a column's straight path, of what `habits` counted."""
        scores = self.standard(counted) @ getattr(self, f"straight_{place}").T
        shift: Tensor = getattr(self, f"shift_{place}")
        if str(place) in self.steps:
            return ordered(scores[:, 0], shift)[:, getattr(self, f"ranks_{place}")]
        found: Tensor = scores + shift
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
        made = self.logits(states)
        found = []
        for place, (column, logits) in enumerate(zip(self.columns, made, strict=True)):
            kind = self.kinds.get(place)
            if isinstance(kind, Listed):
                values = users["many"][:, kind.first : kind.first + logits.shape[1]]
                found.append(multilabel(logits, torch.where(teaches[:, None], values, -1), share))
            else:
                classes = torch.where(teaches, users["profile"][:, column], -1)
                found.append(categorical(logits, classes, share))
        return TaskLosses(torch.stack(found))

    def distributions(self, encoded: Encoded, users: Columns) -> list[Tensor]:
        """Probability of each value, ``[Q, V_p]`` per column, for a batch's ``users``.

        They sum to 1, except over the values of a list, each of which has a chance of its own.
        Outside training the network's logits and the straight path's count what ``paths`` says.
        """
        assert encoded.h is not None
        made = self.logits(encoded.h.expand(len(self.columns), -1, -1))
        if not self.training:
            made = [logits * sharp for logits, sharp in zip(made, self.paths[:, 0], strict=True)]
            counted = self.habits(encoded, users) if self.paths[:, 1].any() else None
            if counted is not None:
                made = [
                    logits + self.straight(counted, place) * self.paths[place, 1]
                    for place, logits in enumerate(made)
                ]
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
