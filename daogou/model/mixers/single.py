"""A network of its own for every task: nothing is shared above the encoders."""

from collections.abc import Sequence

from torch import Tensor, nn

from daogou.model.experts import Experts


class Single(nn.Module):
    """Each task reads the encoders through layers of its own. ``[B, D] -> [T, B, H]``."""

    def __init__(
        self, n_inputs: int, n_tasks: int, *, widths: Sequence[int] = (64, 64), dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.n_outputs = widths[-1]
        self.experts = Experts(n_tasks, n_inputs, widths, dropout=dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.experts(inputs)
        return outputs
