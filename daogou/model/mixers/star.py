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
    rows of a domain could not give; the paper's network of the domain alone and the shift that all
    domains share are left out. All tasks read the one output, as from a shared bottom. Rows
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
        if domain is None or not len(domain) or not len(self.factors):
            hidden = self._layers(inputs, [0], [len(inputs)])
            return hidden.expand(self.n_tasks, *hidden.shape)
        order = domain.argsort(stable=True)
        present, counts = domain.unique(return_counts=True)
        hidden = self._layers(inputs.index_select(0, order), present.tolist(), counts.tolist())
        hidden = hidden.index_select(0, order.argsort())
        return hidden.expand(self.n_tasks, *hidden.shape)

    def _layers(self, hidden: Tensor, present: list[int], counts: list[int]) -> Tensor:
        """The network on rows that lie by domain: so many of each domain that is present."""
        for place in range(len(self.shared.layers)):
            pieces = hidden.split(counts)
            linear = torch.cat(self._linear(place, pieces, present))
            hidden = self.shared.activate(place, linear)
        return hidden

    def _linear(self, place: int, pieces: Sequence[Tensor], present: list[int]) -> list[Tensor]:
        """The linear part of a layer: one product for each domain's rows ``[B_d, I]``."""
        shared: Tensor = self.shared.layers[place].weight[:, 0]  # type: ignore[index]
        if present == [0]:
            return [rows @ shared for rows in pieces]
        # Taken apart once: a gradient for each look at a domain would be as large as all of them.
        factors, shifts = self.factors[place].unbind(), self.shifts[place].unbind()
        return [
            rows @ (shared * (1.0 + factors[each - 1])) + shifts[each - 1]
            if each
            else rows @ shared
            for each, rows in zip(present, pieces, strict=True)
        ]
