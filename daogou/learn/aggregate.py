"""The changes that several shops made to shared weights to one change: rules of aggregation."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]

_WEISZFELD: Final = 100  # iterations; they are of a number a shop


@dataclass(frozen=True)
class Update:
    """What a shop's training changed of the shared weights; ``rows`` stand behind it."""

    shop: str
    rows: int
    change: Tensors

    @property
    def is_finite(self) -> bool:
        """Whether every number in it is one."""
        return all(bool(each.isfinite().all()) for each in self.change.values())

    @property
    def norm(self) -> float:
        """Euclidean length of the whole change."""
        return math.sqrt(sum(float(each.double().square().sum()) for each in self.change.values()))


def fits(update: Update, weights: Tensors) -> bool:
    """Whether an update is of these weights, finite, and of a positive number of rows."""
    shapes = {name: tuple(each.shape) for name, each in update.change.items()}
    wanted = {name: tuple(each.shape) for name, each in weights.items()}
    return shapes == wanted and update.rows > 0 and update.is_finite


def bounded(updates: Sequence[Update], times: float) -> list[Update]:
    """The updates, none longer than ``times`` the median length of the round.

    Sun et al., "Can You Really Backdoor Federated Learning?", 2019, where the bound is a number
    that somebody has to know; here the other shops tell it.
    """
    norms = [update.norm for update in updates]
    bound = times * float(torch.tensor(norms, dtype=torch.float64).quantile(0.5))
    return [
        update if norm <= bound else _scaled(update, bound / norm)
        for update, norm in zip(updates, norms, strict=True)
    ]


def _scaled(update: Update, factor: float) -> Update:
    return replace(update, change={name: each * factor for name, each in update.change.items()})


def mean(updates: Sequence[Update]) -> dict[str, Tensor]:
    """Each weight's mean change, shops weighed by their rows (McMahan et al., AISTATS 2017).

    The mean of a row is over the shops that changed it: a product that one of five shops sells
    would otherwise learn at a fifth of its rate.
    """
    return _average(updates, [update.rows for update in updates])


def _average(updates: Sequence[Update], weights: Sequence[float]) -> dict[str, Tensor]:
    pairs = zip(updates, weights, strict=True)
    changes, rows = zip(*(weighed(update.change, w) for update, w in pairs), strict=True)
    return {name: over(_sum(changes, name), _sum(rows, name)) for name in updates[0].change}


def _sum(parts: Sequence[Tensors], name: str) -> Tensor:
    return torch.stack([part[name] for part in parts]).sum(0)


def weighed(change: Tensors, rows: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Of each weight the change times ``rows``, and ``rows`` where it changed, float64.

    The sums of both over shops are what `mean` needs: none of a single shop.
    """
    wide = {name: each.double() for name, each in change.items()}
    beside = {name: touched(each[None])[0].double() * rows for name, each in wide.items()}
    return {name: each * rows for name, each in wide.items()}, beside


def over(total: Tensor, rows: Tensor) -> Tensor:
    """A sum of changes times rows by the sum of the rows, float32; 0 where there are none."""
    return (total / rows.clamp(min=torch.finfo(torch.float64).tiny)).float()


def trimmed_mean(updates: Sequence[Update], trim: float) -> dict[str, Tensor]:
    """Of each single weight the mean change without the largest and the smallest.

    Yin et al., "Byzantine-Robust Distributed Learning", ICML 2018: of m shops ``floor(trim m)``
    go at either end. As in `mean`, m are the shops that changed the row. Shops count alike.
    """
    found = {}
    for name in updates[0].change:
        changes = torch.stack([update.change[name] for update in updates])
        took = touched(changes).expand_as(changes)
        many = took.sum(0)
        ordered = torch.where(took, changes, torch.inf).sort(dim=0).values
        place = _beside(torch.arange(len(updates)), changes)
        cut = (trim * many + 1e-9).floor()
        kept = (place >= cut) & (place < many - cut)
        total = torch.where(kept, ordered, 0.0).sum(0)
        found[name] = total / kept.sum(0).clamp(min=1)
    return found


def geometric_median(updates: Sequence[Update]) -> dict[str, Tensor]:
    """The mean change in which a shop counts the less the farther its own is from it.

    Pillutla et al., "Robust Aggregation for Federated Learning", IEEE Transactions on Signal
    Processing 2022: Weiszfeld's iterations to the point with the least sum of distances, to which
    a far update pulls no harder than a near one. Distances weigh by rows, but by no more than the
    round's median, since a shop that lies may lie about them. As in `mean`, a row is of the shops
    that changed it.
    """
    rows = torch.tensor([update.rows for update in updates], dtype=torch.float64)
    rows = rows.clamp(max=float(rows.quantile(0.5)))
    gram = _gram(updates)
    near = 1e-6 * float(gram.diagonal().sqrt().median()) + torch.finfo(torch.float32).tiny
    # Begun at the mean, of two liars of five each iteration would take only a third away.
    square = gram.diagonal() + gram.diagonal()[:, None] - 2 * gram
    weights = rows / square.clamp(min=near**2).sqrt().quantile(0.5, dim=1)
    weights = weights / weights.sum()
    for _ in range(_WEISZFELD):
        across = gram @ weights
        square = gram.diagonal() - 2 * across + weights @ across
        weights = rows / square.clamp(min=near**2).sqrt()
        weights = weights / weights.sum()
    return _average(updates, weights.tolist())


def _gram(updates: Sequence[Update]) -> Tensor:
    """Inner products of the updates, float64 ``[K, K]``: all that their distances need."""
    found = torch.zeros(len(updates), len(updates), dtype=torch.float64)
    for name in updates[0].change:
        flat = torch.stack([update.change[name].flatten() for update in updates]).double()
        found += flat @ flat.T
    return found


def touched(changes: Tensor) -> Tensor:
    """Which rows of ``[K, R, ...]`` each of K shops changed: a mask of as many dimensions."""
    if changes.ndim < 3:
        return changes != 0
    return (changes != 0).flatten(2).any(2).view(*changes.shape[:2], *[1] * (changes.ndim - 2))


def _beside(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))


@dataclass
class Adam:
    """FedAdam: the mean change as a gradient for Adam at the server (Reddi et al., ICLR 2021).

    ``w += rate * m / (sqrt(v) + tau)`` with bias-corrected moments; a weight that no shop changed
    stays, and so do its moments.
    """

    rate: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    tau: float = 1e-3
    step: int = 0
    first: dict[str, Tensor] = field(default_factory=dict)
    second: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, changes: Tensors) -> dict[str, Tensor]:
        """What to add to the weights for these mean changes."""
        self.step += 1
        beta_1, beta_2 = self.betas
        rate = self.rate * math.sqrt(1 - beta_2**self.step) / (1 - beta_1**self.step)
        moves = {}
        for name, change in changes.items():
            zeros = torch.zeros_like(change)
            m, v = self.first.get(name, zeros), self.second.get(name, zeros)
            here = change != 0
            m = torch.where(here, beta_1 * m + (1 - beta_1) * change, m)
            v = torch.where(here, beta_2 * v + (1 - beta_2) * change.square(), v)
            self.first[name], self.second[name] = m, v
            moves[name] = torch.where(here, rate * m / (v.sqrt() + self.tau), 0.0)
        return moves


Rule = Callable[[Sequence[Update], float], dict[str, Tensor]]  # of updates, and `trim`
RULES: Final[Mapping[str, Rule]] = {
    "fedavg": lambda updates, trim: mean(updates),
    "fedadam": lambda updates, trim: mean(updates),  # a gradient for `Adam`
    "trimmed_mean": trimmed_mean,
    "geometric_median": lambda updates, trim: geometric_median(updates),
}
SEES_EACH: Final = ("trimmed_mean", "geometric_median")  # must see each shop's own update
