"""One network for all tasks."""

from collections.abc import Sequence

from torch import Tensor, nn

from daogou.model.experts import Experts


class SharedBottom(nn.Module):
    """Every task reads the same representation (Caruana, "Multitask Learning", 1997).

    Shapes: ``[B, D] -> [T, B, H]``, the same ``[B, H]`` for every task.
    """

    def __init__(
        self, n_inputs: int, n_tasks: int, *, widths: Sequence[int] = (64, 64), dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.n_outputs = widths[-1]
        self.n_tasks = n_tasks
        self.experts = Experts(1, n_inputs, widths, dropout=dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.experts(inputs)
        return outputs.expand(self.n_tasks, *outputs.shape[1:])
