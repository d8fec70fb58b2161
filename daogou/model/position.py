"""The place in a list to what it adds to each stage's logit, kept apart from what is liked."""

import torch
from torch import Tensor, nn

from daogou.model.embed import Table


class Position(nn.Module):
    """A number per place and stage; outside training a place that is not said is the first.

    A click is an examination and a liking: what the place explains must not be credited to the
    product. Unlike Zhao et al., "Recommending What Video to Watch Next" (RecSys 2019), whose
    shallow tower this follows, it reads the place alone and every stage has one. A share
    ``dropout`` of places is hidden in training, so that the rest of the model can do without.

    Where the better liked stands higher, what the rest of the model has not learnt of liking is
    credited to the place: only slates in random order tell the two apart, and the more of them
    there are, the closer the curve is to the truth.

    ``column`` is the place's column among the exposures' fields, ``start`` the row of its missing
    value there, ``n_places`` how many values it has with that one, and ``first`` the value that
    answers are for. Shapes: fields ``[B, C]`` -> ``[T, B]``.
    """

    def __init__(
        self,
        n_tasks: int,
        *,
        column: int,
        start: int,
        n_places: int,
        first: int,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.column, self.start, self.first, self.dropout = column, start, first, dropout
        self.n_tasks = n_tasks
        # Rows of a table for their rate: at that of dense layers a short training left two thirds
        # of a planted curve unlearnt. A row for each stage, since a row has one rate: that of a
        # click's gradients would leave what is rarer unlearnt.
        self.bias = Table(n_places * n_tasks, 1, std=0.0)

    @property
    def curves(self) -> Tensor:
        """What each place adds to each stage's logit, ``[n_places, T]``."""
        return self.bias.weight.view(-1, self.n_tasks)

    def forward(self, fields: Tensor) -> Tensor:
        place = fields[:, self.column] - self.start
        if self.training:
            hidden = torch.rand(place.shape, device=place.device) < self.dropout
            place = torch.where(hidden, 0, place)
        else:
            place = torch.where(place == 0, self.first, place)
        tasks = torch.arange(self.n_tasks, device=place.device)
        found: Tensor = self.bias(place * self.n_tasks + tasks[:, None])
        return found[..., 0]
