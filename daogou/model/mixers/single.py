"""A network of its own for every task: nothing is shared above the encoders."""

from torch import Tensor, nn

from daogou.model.experts import Experts


class Single(nn.Module):
    """Each task reads the encoders through layers of its own. ``[B, D] -> [T, B, H]``."""

    def __init__(
        self, n_inputs: int, n_tasks: int, *, width: int = 64, depth: int = 2, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.n_outputs = width
        self.experts = Experts(n_tasks, n_inputs, [width] * depth, dropout=dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.experts(inputs)
        return outputs
