"""User and item vectors to the score of one for the other, over the whole catalogue."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from daogou.features.batch import Batch
from daogou.model.encoded import Encoded, TaskLosses, weigh
from daogou.model.heads.tally import Tally
from daogou.model.losses import masked_mean, sampled_softmax


class MatchHead(nn.Module):
    """Two towers beside what was counted: ``a (u . v / temperature + b_v) + tally``.

    Unit vectors, a learnt temperature within [0.03, 1] (SCIENCE 4.2), and a bias that lets what
    a product's content says of its popularity live outside the angle. `Tally` has the popularity
    that was counted, which the towers are taught beside, and what a user's own events say; an
    index carries all that is the same for everybody as one more dimension. Positives are the
    exposures whose first stage happened; the sample is their items and some drawn evenly from the
    catalogue. What a user took elsewhere in the batch is no negative of theirs.

    ``positive_share [n_ids]`` is each id row's share of training positives.
    """

    def __init__(
        self,
        width: int,
        positive_share: Tensor,
        n_items: int,
        *,
        n_actions: int = 0,
        temperature: float = 0.2,
    ) -> None:
        super().__init__()
        self.user = nn.Linear(width, width)
        self.item = nn.Linear(width, width)
        self.bias = nn.Linear(width, 1, bias=False)  # a constant would move no softmax
        self.log_temperature = nn.Parameter(torch.tensor(temperature).log())
        self.n_items = n_items
        self.tally = Tally(len(positive_share), n_actions)
        self.register_buffer("positive_share", positive_share.float())

    positive_share: Tensor

    def index(self, items: Tensor, ids: Tensor) -> Tensor:
        """What an index stores of each item: ``[I, D + 1]``, direction then bias.

        ``ids [I]`` are the items' id rows.
        """
        bias = self.tally.of_learnt * self.bias(items)[:, 0] + self.tally.of_products(ids)
        return torch.cat([self.direction(items), bias[:, None]], dim=-1)

    def direction(self, items: Tensor) -> Tensor:
        """Where items point, ``[I, D]`` of length 1; alike ones point alike."""
        return functional.normalize(self.item(items), dim=-1)

    def query(self, users: Tensor) -> Tensor:
        """What a user asks the index with: ``[Q, D + 1]``.

        The inner product is the score but for what `Tally.of_histories` adds.
        """
        temperature = self.log_temperature.exp().clamp(0.03, 1.0)
        direction = functional.normalize(self.user(users), dim=-1) / temperature
        ones = torch.ones_like(direction[:, :1])
        return torch.cat([self.tally.of_learnt * direction, ones], dim=-1)

    def losses(self, encoded: Encoded, batch: Batch, weights: Tensor) -> TaskLosses:
        """Sampled softmax of each positive's item, ``[1]``; 0 in a batch without positives."""
        assert encoded.users is not None and encoded.items is not None
        exposures = batch.exposures
        positive = (exposures["labels"][:, 0] == 1) & (exposures["item"] > 0)
        sample = torch.cat([exposures["item"][positive], batch.extra]).unique()
        sample = sample[sample > 0]
        if not len(sample) or not positive.any():
            return TaskLosses((encoded.users.sum() * 0)[None])
        users = weigh(encoded.users[None], weights)[0]
        items = weigh(encoded.items[None], weights)[0]
        wanted, asking = exposures["item"][positive], exposures["user"][positive]
        ids = batch.items["id"][sample]
        scores = self.query(users)[asking] @ self.index(items[sample], ids).T  # [P, N]
        log_chance = self.log_chance(ids, len(wanted) - 1, len(batch.extra))
        column = torch.searchsorted(sample, wanted)
        hits = also_taken(batch.users["row"][asking], column, len(sample))
        values = sampled_softmax(scores.masked_fill(hits, -torch.inf), column, log_chance)
        mean = masked_mean(values, torch.ones_like(values, dtype=torch.bool),
                           exposures["weight"][positive])  # fmt: skip
        return TaskLosses(mean[None])

    def log_chance(self, ids: Tensor, n_others: int, n_extra: int) -> Tensor:
        """Log of the chance that an item got into a positive's sample, ``[N]``.

        It is missed by each of the other positives and by each even draw. The positive itself is
        known to be another item, and is there for sure.
        """
        even = n_extra / max(self.n_items, 1)
        missed = n_others * torch.log1p(-self.positive_share[ids].clamp(max=0.999)) - even
        return torch.log(-torch.expm1(missed).clamp(max=-1e-9))


def also_taken(user: Tensor, column: Tensor, n_sampled: int) -> Tensor:
    """What else of the sample each positive's user took, ``[P, N]``: accidental hits.

    ``user [P]`` are rows of the table of users, 0 the unknown one, who is many, so that nothing
    is said of it; ``column [P]`` are the positives' places in the sample.

    >>> also_taken(torch.tensor([7, 7, 0, 0]), torch.tensor([0, 2, 0, 1]), 3).int().tolist()
    [[0, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    """
    distinct, place = user.unique(return_inverse=True)
    taken = torch.zeros(len(distinct), n_sampled, dtype=torch.bool, device=user.device)
    taken[place, column] = True
    found = taken[place] & (user > 0)[:, None]
    return found.scatter(1, column[:, None], False)
