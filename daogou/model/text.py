"""Rows of title tokens to token states and one pooled vector per title."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from daogou.features.text import PADDING
from daogou.model.dropout import Dropout
from daogou.model.embed import Table


class GatedConvolution(nn.Module):
    """A residual block in which each token reads its neighbours and the whole title's mean.

    Dauphin et al., "Language Modeling with Gated Convolutional Networks", ICML 2017; unlike the
    paper the window is centred, the block normalises its input (LayerNorm) and keeps a residual.

    Shapes: ``[N, L, D]`` -> ``[N, L, D]``. Padding must be zero and stays zero.
    """

    def __init__(self, width: int, *, reach: int, dropout: float) -> None:
        super().__init__()
        self.reach = reach
        self.normal = nn.LayerNorm(width)
        self.mix = nn.Linear(3 * width, 2 * width)
        self.whole = nn.Linear(width, 2 * width, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """States after one block; ``present`` is ``[N, L, 1]``, 1 at tokens and 0 at padding."""
        centre = self.normal(states) * present
        left = functional.pad(centre, (0, 0, self.reach, 0))[:, : centre.shape[1]]
        right = functional.pad(centre, (0, 0, 0, self.reach))[:, self.reach :]
        mean = centre.sum(dim=1, keepdim=True) / present.sum(dim=1, keepdim=True).clamp(min=1)
        mixed = self.mix(torch.cat([left, centre, right], dim=-1))
        mixed = functional.glu(mixed + self.whole(mean), dim=-1)
        out: Tensor = (states + self.dropout(mixed)) * present
        return out


class TextEncoder(nn.Module):
    """Titles as states of their tokens, and one vector for the whole title.

    A token is the sum of its channels' table rows; gated convolutions of growing reach mix
    neighbours; the pooled vector is a learned mean of the states plus their plain mean. In training
    whole channels of a token are dropped, so that no single one (the word, the list) is relied on.

    Shapes: ``[N, L, F]`` rows -> ``[N, L, D]`` states and ``[N, D]`` pooled, with N titles, L
    tokens, F channels, D ``width``. Padding states and the pooled vector of an empty title are 0.
    A title's outputs depend on that title alone, and padding columns change nothing.
    """

    def __init__(
        self,
        n_rows: int,
        n_channels: int,
        width: int,
        *,
        layers: int = 2,
        dropout: float = 0.3,
        channel_dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.width = width
        self.channel_dropout = channel_dropout
        self.table = Table(n_rows, width, std=n_channels**-0.5, padding=PADDING)
        self.normal = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(
            GatedConvolution(width, reach=2**i, dropout=dropout) for i in range(layers)
        )
        self.last = nn.LayerNorm(width)
        self.attend = nn.Linear(width, 1)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Token states ``[N, L, D]`` and pooled vectors ``[N, D]`` of rows ``[N, L, F]``."""
        present = (ids[..., :1] != PADDING).to(self.table.weight.dtype)  # [N, L, 1]
        if self.training and self.channel_dropout > 0:
            kept = torch.rand(ids.shape, device=ids.device) >= self.channel_dropout
            ids = torch.where(kept, ids, PADDING)
        n_titles, length, n_channels = ids.shape
        summed = self.table.sums(ids.view(-1, n_channels)).view(n_titles, length, self.width)
        states = self.dropout(self.normal(summed)) * present
        for block in self.blocks:
            states = block(states, present)
        states = self.last(states) * present
        scores = self.attend(states).masked_fill(present == 0, float("-inf"))  # [N, L, 1]
        # An empty title has no token to attend to: its weights would be 0/0.
        share = torch.nan_to_num(scores.softmax(dim=1))
        mean = states.sum(dim=1) / present.sum(dim=1).clamp(min=1)
        return states, (share * states).sum(dim=1) + mean
