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
    catalogue.

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
        log_chance = self.log_chance(ids, len(wanted), len(batch.extra))
        column = torch.searchsorted(sample, wanted)
        values = sampled_softmax(scores, column, log_chance)
        mean = masked_mean(values, torch.ones_like(values, dtype=torch.bool),
                           exposures["weight"][positive])  # fmt: skip
        return TaskLosses(mean[None])

    def log_chance(self, ids: Tensor, n_positives: int, n_extra: int) -> Tensor:
        """Log of the chance that an item got into the sample, ``[N]``.

        It is missed by each of the positives and by each even draw.
        """
        even = n_extra / max(self.n_items, 1)
        missed = n_positives * torch.log1p(-self.positive_share[ids].clamp(max=0.999)) - even
        return torch.log(-torch.expm1(missed).clamp(max=-1e-9))
