"""Rows of title tokens to token states and one pooled vector per title."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from daogou.features.text import PADDING
from daogou.model.dropout import Dropout
from daogou.model.embed import Table
from daogou.model.rows import inverse, move, spread, sums
from daogou.model.subwords import SubWordEncoder


class Packed:
    """Titles ``[N, L, F]`` end to end without their padding, ``gap`` empty rows after each.

    ``token [N, L]`` says where tokens are; ``ids [M, F]``; ``present [M, 1]``, 1 at tokens and 0
    in the gaps; ``starts [N]`` and ``owner [M]``, the title of each row; ``length [N, 1]``, at
    least 1. Encoding ``M`` rows instead of ``N * L`` saves what padding would cost, and a gap keeps
    a title's ends from seeing its neighbour.
    """

    def __init__(self, ids: Tensor, gap: int) -> None:
        n_titles, width, _ = ids.shape
        place = torch.arange(width, device=ids.device)
        token = ids[..., 0] != PADDING  # [N, L]
        length = torch.where(token, place + 1, 0).amax(1) if width else token.sum(1)
        ends = (length + gap).cumsum(0)
        n_rows = int(ends[-1]) if n_titles else 0
        self.starts = ends - length - gap
        self.owner = torch.repeat_interleave(length + gap, output_size=n_rows)
        self.token = token
        # Which row each token of the titles is, -1 for padding, and the other way round.
        cell = torch.where(token, self.starts[:, None] + place, -1).flatten()  # [N * L]
        self.cell, self.back = cell, inverse(cell, n_rows)
        self.ids = move(ids.flatten(0, 1), self.back, cell)
        self.present = (self.back >= 0)[:, None].float()
        self.length = length.clamp(min=1)[:, None]
        self.shape = (n_titles, width)

    def padded(self, rows: Tensor) -> Tensor:
        """Rows ``[M, D]`` as the titles lie, ``[N, L, D]``, with zeros for padding."""
        return move(rows, self.cell, self.back).view(*self.shape, rows.shape[1])

    def packed(self, titles: Tensor) -> Tensor:
        """``[N, L, D]`` as rows ``[M, D]``, with zeros in the gaps."""
        return move(titles.flatten(0, 1), self.back, self.cell)

    def sums(self, rows: Tensor) -> Tensor:
        """Sums of each title's rows, ``[M, D] -> [N, D]``."""
        return sums(rows, self.starts, self.owner)

    def spread(self, values: Tensor) -> Tensor:
        """Each title's value at all of its rows, ``[N, D] -> [M, D]``."""
        return spread(values, self.starts, self.owner)


class GatedConvolution(nn.Module):
    """A residual block in which each token reads its neighbours and the whole title's mean.

    Dauphin et al., "Language Modeling with Gated Convolutional Networks", ICML 2017; unlike the
    paper the window is centred, the block normalises its input (LayerNorm) and keeps a residual.

    Shapes: packed rows ``[M, D]`` -> ``[M, D]``. What stands in a gap is not read.
    """

    def __init__(self, width: int, *, reach: int, dropout: float) -> None:
        super().__init__()
        self.reach = reach
        self.normal = nn.LayerNorm(width)
        self.mix = nn.Linear(3 * width, 2 * width)
        self.whole = nn.Linear(width, 2 * width, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, titles: Packed) -> Tensor:
        centre = self.normal(states) * titles.present
        mean = self.whole(titles.sums(centre) / titles.length)
        if torch.is_grad_enabled() or mean.dtype != centre.dtype:  # as bfloat16 makes them
            left = functional.pad(centre, (0, 0, self.reach, 0))[: len(centre)]
            right = functional.pad(centre, (0, 0, 0, self.reach))[self.reach :]
            mixed = self.mix(torch.cat([left, centre, right], dim=1)) + titles.spread(mean)
        else:
            mixed = self._mixed(centre, titles.spread(mean + self.mix.bias))
        out: Tensor = states + self.dropout(functional.glu(mixed, dim=1))
        return out

    def _mixed(self, centre: Tensor, mixed: Tensor) -> Tensor:
        """Add to ``mixed`` what `mix` makes of neighbours: three products, and no copy of rows."""
        left, here, right = self.mix.weight.T.split(centre.shape[1])
        mixed.addmm_(centre, here)
        mixed[self.reach :].addmm_(centre[: -self.reach], left)
        mixed[: -self.reach].addmm_(centre[self.reach :], right)
        return mixed


class TextEncoder(nn.Module):
    """Titles as states of their tokens, and one vector for the whole title.

    A token is the sum of its channels' table rows; gated convolutions of growing reach mix
    neighbours; the pooled vector is a learned mean of the states plus their plain mean. In training
    whole channels of a token are dropped, so that no single one (the word, the list) is relied on.
    ``subwords`` makes vectors ``[N, L, D]`` of further channels, which are added to the rows.

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
        subwords: SubWordEncoder | None = None,
    ) -> None:
        super().__init__()
        self.n_channels, self.subwords = n_channels, subwords
        self.channel_dropout = channel_dropout
        self.table = Table(n_rows, width, std=n_channels**-0.5, padding=PADDING)
        self.normal = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.gap = 2 ** (layers - 1) if layers else 0  # the farthest that a block reaches
        self.blocks = nn.ModuleList(
            GatedConvolution(width, reach=2**i, dropout=dropout) for i in range(layers)
        )
        self.last = nn.LayerNorm(width)
        self.attend = nn.Linear(width, 1)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Token states ``[N, L, D]`` and pooled vectors ``[N, D]`` of rows ``[N, L, F]``."""
        titles = Packed(ids, gap=self.gap)
        states = self._states(ids, titles)
        scores = titles.padded(self.attend(states))[..., 0]  # [N, L]
        # An empty title has no token to attend to: its weights would be 0/0.
        share = torch.nan_to_num(scores.masked_fill(~titles.token, -torch.inf).softmax(dim=1))
        weight = titles.packed(share[..., None]) + 1.0 / titles.length[titles.owner]
        return titles.padded(states), titles.sums(states * weight)

    def tokens(self, ids: Tensor) -> Tensor:
        """Token states ``[N, L, D]`` alone, for whoever needs nothing of the title as a whole."""
        titles = Packed(ids, gap=self.gap)
        return titles.padded(self._states(ids, titles))

    def _states(self, ids: Tensor, titles: Packed) -> Tensor:
        rows = titles.ids[:, : self.n_channels]
        if self.training and self.channel_dropout > 0:
            kept = torch.rand(rows.shape, device=rows.device) >= self.channel_dropout
            rows = torch.where(kept, rows, PADDING)
        states = self.table.sums(rows)
        if self.subwords is not None:
            states = states + titles.packed(self.subwords(ids[..., self.n_channels :]))
        states = self.dropout(self.normal(states))
        for block in self.blocks:
            states = block(states, titles)
        found: Tensor = self.last(states) * titles.present
        return found
