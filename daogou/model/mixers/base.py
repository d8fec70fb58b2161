"""What a mixer is: one input for all tasks in, one representation per task out."""

from typing import Protocol

from torch import Tensor


class Mixer(Protocol):
    """Shared layers: ``[B, D] -> [T, B, H]``, with B rows, D inputs, T tasks, H output width.

    Renaming the tasks permutes the output and does nothing else; row i depends on row i alone.
    A maker takes ``(n_inputs, n_tasks, *, widths, dropout, ...)``; ``widths`` are those of an
    expert's layers, the last one H.
    """

    n_outputs: int

    def __call__(self, inputs: Tensor) -> Tensor:
        """One representation per task."""
        ...
