"""Token states of titles to the value that each closed attribute has, said in the title or not."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from daogou.features.text import CHANNELS, PADDING
from daogou.model.embed import Table, spread


class ValueReader(nn.Module):
    """One class per attribute from what its own question finds in a title.

    An attribute attends to the tokens with a question of its own. Its classes read what that
    gathers, and a bag of rows of the title's words and pairs that nothing else reads (Joulin et
    al., "Bag of Tricks for Efficient Text Classification", EACL 2017): classes are often nearly
    linear in words, and a network is slow to find that out. In training half of a title's rows are
    left out of the bag, which is a prior on their weights that spares what is rare but telling
    (Wager et al., "Dropout Training as Adaptive Regularization", NIPS 2013). The layer that reads
    tokens is its own too: classes learnt through the projection that ranks products cost ranking
    more than they gave.

    Shapes: ``[N, L, D]`` and rows ``[N, L, F]`` -> ``[N, C]`` for each attribute, with N titles, L
    tokens, D width, F channels, C the attribute's classes.
    """

    sharpness: Tensor

    def __init__(
        self,
        width: int,
        n_classes: Mapping[str, int],
        n_rows: int,
        *,
        hidden: int = 128,
        bag: int = 64,
        dropout: float = 0.3,
        bag_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.bag_dropout = bag_dropout
        self.names, self.n_classes = tuple(n_classes), tuple(n_classes.values())
        self.own = nn.Linear(width, hidden)
        self.ask = nn.Linear(hidden, len(n_classes))
        self.dropout = nn.Dropout(dropout)
        self.bag = Table(n_rows, bag, std=spread(bag), padding=PADDING)
        self.out = nn.ModuleList(nn.Linear(hidden + bag, n) for n in self.n_classes)
        self.register_buffer("sharpness", torch.ones(len(n_classes)))

    def forward(self, states: Tensor, rows: Tensor) -> list[Tensor]:
        """Logits ``[N, C]`` of each attribute's classes; a title without a token has some too."""
        present = rows[..., 0] != PADDING  # [N, L]
        hidden = functional.silu(self.own(states))
        scores = self.ask(hidden).masked_fill(~present[..., None], -torch.inf)  # [N, L, V]
        # A title without a token has nothing to attend to: its weights would be 0 / 0.
        share = torch.nan_to_num(scores.softmax(dim=1))
        found = torch.einsum("nlv,nlh->nvh", share, hidden)
        bag = self._bag(rows[..., : len(CHANNELS)].flatten(1), present.sum(1, keepdim=True))
        return [
            out(self.dropout(torch.cat([found[:, place], bag], dim=1)))
            for place, out in enumerate(self.out)
        ]

    def _bag(self, rows: Tensor, n_tokens: Tensor) -> Tensor:
        """The bag ``[N, W]`` of titles' rows ``[N, R]``; dropped ones are made up for."""
        kept = 1.0
        if self.training and self.bag_dropout > 0:
            kept = 1 - self.bag_dropout
            rows = torch.where(torch.rand(rows.shape, device=rows.device) < kept, rows, PADDING)
        return self.bag.sums(rows) / (kept * n_tokens.clamp(min=1).sqrt())

    def loss(self, logits: Sequence[Tensor], values: Tensor) -> Tensor:
        """Nats per known value; ``values`` is integer ``[N, A]``, -1 unknown and adding nothing."""
        known = (values >= 0).sum().clamp(min=1)
        total = values.new_zeros((), dtype=self.own.weight.dtype)
        for place, each in enumerate(logits):
            total = total + functional.cross_entropy(
                each, values[:, place].long(), ignore_index=-1, reduction="sum"
            )
        return total / known

    def chances(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """Distributions ``[N, C]`` of each attribute, at the temperature that validation chose."""
        pairs = zip(logits, self.sharpness, strict=True)
        return [(each * sharp).softmax(-1) for each, sharp in pairs]
