"""What a mixer is: one input for all tasks in, one representation per task out."""

from typing import Final, Protocol

from torch import Tensor

# Arguments of a maker that follow from the shop and the other settings; the rest are its options.
GIVEN: Final = ("n_inputs", "n_tasks", "widths", "dropout", "n_domains", "n_own_inputs")


class Mixer(Protocol):
    """Shared layers: ``[B, D] -> [T, B, H]``, with B rows, D inputs, T tasks, H output width.

    Renaming the tasks permutes the output and does nothing else, except in AITM, whose tasks stand
    in the funnel's order, and in HoME's groups; row i depends on row i alone.
    A maker takes ``(n_inputs, n_tasks, *, widths, dropout, ...)``; ``widths`` are those of an
    expert's layers, the last one H.

    A mixer may ask for more. One that knows domains takes ``n_domains`` and is called with
    ``domain [B]``, 0 where it is unknown; one whose tasks have own rows takes ``n_own_inputs``
    and is called with ``own [T, B, n_own_inputs]``.
    """

    n_outputs: int

    def __call__(self, inputs: Tensor, **asides: Tensor) -> Tensor:
        """One representation per task."""
        ...
