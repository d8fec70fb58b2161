"""An item's id, columns and text to one vector."""

import torch
from torch import Tensor, nn

from daogou.model.embed import Fields, Table, forget, spread


class ItemEncoder(nn.Module):
    """``v = LN(W_c columns + W_t text + gate(frequency) * e_id)``.

    The gate opens with the id's training frequency: a product seldom seen is described by its
    content, one seen often by its own row (SCIENCE 4.1, ItemFuse). An id unknown in training
    reads row 0, which id dropout has trained to be the average.

    Shapes: ``[I]`` ids, ``[I, C]`` fields, ``[I, K]`` numbers, ``[I, W]`` pooled text or None
    -> ``[I, D]``.
    """

    def __init__(
        self,
        frequencies: Tensor,
        fields: Fields,
        text_width: int,
        width: int,
        *,
        id_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.ids = Table(len(frequencies), width, std=spread(width))
        self.fields = fields
        n_content = fields.n_outputs + text_width
        self.mix = nn.Linear(n_content, width) if n_content else None
        self.gate_slope = nn.Parameter(torch.tensor(1.0))
        self.gate_shift = nn.Parameter(torch.tensor(0.0))
        self.norm = nn.LayerNorm(width)
        self.id_dropout = id_dropout
        self.register_buffer("log_frequency", torch.log1p(frequencies.float()))

    log_frequency: Tensor

    def forward(self, ids: Tensor, fields: Tensor, numbers: Tensor, text: Tensor | None) -> Tensor:
        ids = forget(ids, self.id_dropout, self.training)
        content = self.fields(fields, numbers)
        if text is not None:
            content = torch.cat([content, text], dim=1)
        gate = torch.sigmoid(self.gate_slope * (self.log_frequency[ids] - 2.0) + self.gate_shift)
        mixed = gate[:, None] * self.ids(ids)
        if self.mix is not None:
            mixed = mixed + self.mix(content)
        encoded: Tensor = self.norm(mixed)
        return encoded
