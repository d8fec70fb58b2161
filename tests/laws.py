"""Laws that hold for whole families of methods. Each family's test says which ones apply."""

from collections.abc import Callable

import torch
from torch import Tensor

from daogou.balance import Balancer

Layer = Callable[[Tensor], Tensor]


def gram_of(*gradients: tuple[float, ...]) -> Tensor:
    """Gram matrix of the given gradients, one per task."""
    rows = torch.tensor(gradients)
    return rows @ rows.T


def check_is_finite(balancer: Balancer, losses: Tensor, gram: Tensor) -> None:
    """One finite weight per task, and the inputs are left alone."""
    given = losses.clone(), gram.clone()
    weights = balancer(losses, gram)
    assert weights.shape == losses.shape
    assert weights.isfinite().all()
    assert torch.equal(losses, given[0])
    assert torch.equal(gram, given[1])


def check_ignores_order(make: Callable[[], Balancer], losses: Tensor, gram: Tensor) -> None:
    """Renaming the tasks renames the weights, and does nothing else."""
    order = torch.arange(len(losses)).roll(1)
    weights = make()(losses, gram)
    renamed = make()(losses[order], gram[order][:, order])
    torch.testing.assert_close(renamed, weights[order])


def check_rows_are_apart(layer: Layer, inputs: Tensor, *, rows_of: int) -> None:
    """Row i of the output, along dimension ``rows_of``, depends on row i of the input alone."""
    whole = layer(inputs)
    for i in range(len(inputs)):
        others = torch.full_like(inputs, torch.nan)
        others[i] = inputs[i]
        row = layer(others).select(rows_of, i)
        torch.testing.assert_close(row, whole.select(rows_of, i), rtol=1e-5, atol=1e-6)
