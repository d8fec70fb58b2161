"""One shared network whose weights each domain scales: scenes, sites, countries."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from daogou.model.experts import Experts


class STAR(nn.Module):
    """A domain's layer is the shared one times its own factors, plus its own shift.

    Sheng et al., "One Model to Serve All: Star Topology Adaptive Recommender for Multi-Domain CTR
    Prediction", CIKM 2021, equation 3: ``W_d = W * F_d``. Unlike the paper the factors are stored
    as what they add to 1, so that weight decay pulls a domain towards what is shared, and the
    layers have the house's norm in place of one with statistics per domain, which a batch of few
    rows of a domain could not give. All tasks read the one output, as from a shared bottom. Rows
    of an unknown domain (0) read the shared weights alone. Takes ``n_domains`` times the weights.

    Shapes: ``[B, D]`` and domains ``[B]`` -> ``[T, B, H]``.
    """

    def __init__(
        self,
        n_inputs: int,
        n_tasks: int,
        *,
        widths: Sequence[int] = (64, 64),
        dropout: float = 0.1,
        n_domains: int = 1,
    ) -> None:
        super().__init__()
        self.n_outputs, self.n_tasks = widths[-1], n_tasks
        self.shared = Experts(1, n_inputs, widths, dropout=dropout)
        self.factors, self.shifts = nn.ParameterList(), nn.ParameterList()
        if n_domains > 1:
            for n_read, width in pairwise([n_inputs, *widths]):
                self.factors.append(torch.zeros(n_domains - 1, n_read, width))
                self.shifts.append(torch.zeros(n_domains - 1, width))

    def forward(self, inputs: Tensor, domain: Tensor | None = None) -> Tensor:
        hidden = inputs
        for place, layer in enumerate(self.shared.layers):
            shared: Tensor = layer.weight[:, 0]  # type: ignore[index]
            linear = hidden @ shared
            if domain is not None and len(self.factors):
                linear = linear + self._own(place, shared, hidden, domain)
            hidden = self.shared.activate(place, linear)
        return hidden.expand(self.n_tasks, *hidden.shape)

    def _own(self, place: int, shared: Tensor, hidden: Tensor, domain: Tensor) -> Tensor:
        """What their domains add to rows ``[B, I]``: a product for each domain of the batch."""
        order = domain.argsort(stable=True)
        present, counts = domain.unique(return_counts=True)
        pieces = []
        for each, rows in zip(present.tolist(), order.split(counts.tolist()), strict=True):
            if each == 0:
                pieces.append(hidden.new_zeros(len(rows), shared.shape[1]))
                continue
            factor, shift = self.factors[place][each - 1], self.shifts[place][each - 1]
            pieces.append(hidden.index_select(0, rows) @ (shared * factor) + shift)
        if not pieces:
            return hidden.new_zeros(0, shared.shape[1])
        return torch.cat(pieces).index_select(0, order.argsort())
