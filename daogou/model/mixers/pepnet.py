"""Networks of each task, gated by who asks and where: a prior on the input and on every layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from daogou.model.experts import Experts, GroupedLinear


class PEPNet(nn.Module):
    """Gates ``2 sigmoid(W2 relu(W1 prior))`` on the input by domain, on hidden layers by person.

    Chang et al., "PEPNet: Parameter and Embedding Personalized Network for Infusing with
    Personalized Prior Information", KDD 2023, equations 3 to 8. EPNet's prior is a vector per
    domain beside the input; PPNet's is the gated input, which holds user and item. Unlike the
    paper, where PPNet reads rows of user and item of its own, both read the input with its
    gradient stopped. Gates start at 1, so at the start this is `Single`.

    Shapes: ``[B, D]`` and domains ``[B]`` -> ``[T, B, H]``.
    """

    def __init__(
        self,
        n_inputs: int,
        n_tasks: int,
        *,
        widths: Sequence[int] = (64, 64),
        dropout: float = 0.1,
        gate_width: int = 16,
        n_domains: int = 1,
    ) -> None:
        super().__init__()
        self.n_outputs = widths[-1]
        self.networks = Experts(n_tasks, n_inputs, widths, dropout=dropout)
        self.domains = nn.Parameter(torch.zeros(n_domains, gate_width))
        self.enter = nn.Linear(gate_width + n_inputs, gate_width)
        self.enter_out = nn.Linear(gate_width, n_inputs)
        self.person = nn.ModuleList(nn.Linear(n_inputs, gate_width) for _ in widths)
        self.person_out = nn.ModuleList(
            GroupedLinear(n_tasks, gate_width, width) for width in widths
        )
        nn.init.normal_(self.domains, std=0.1)
        for last in (self.enter_out, *self.person_out):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, inputs: Tensor, domain: Tensor | None = None) -> Tensor:
        if domain is None:
            where = self.domains[:1].expand(len(inputs), -1)
        else:
            where = self.domains.index_select(0, domain)
        prior = functional.relu(self.enter(torch.cat([where, inputs.detach()], dim=1)))
        hidden: Tensor = inputs * (2 * self.enter_out(prior).sigmoid())
        prior = hidden.detach()
        for place, (narrow, wide) in enumerate(zip(self.person, self.person_out, strict=True)):
            gate = 2 * wide(functional.relu(narrow(prior))).sigmoid()  # [T, B, O]
            hidden = self.networks.layer(place, hidden) * gate
        return hidden
