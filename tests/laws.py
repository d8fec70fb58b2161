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
    """Renaming the tasks renames the weights, and does nothing else, step after step."""
    order = torch.arange(len(losses)).roll(1)
    one, other = make(), make()
    for step in range(3):
        now = losses * (1.0 - 0.1 * step * torch.arange(1, len(losses) + 1) / len(losses))
        weights = one(now, gram.clone())
        renamed = other(now[order], gram[order][:, order])
        torch.testing.assert_close(renamed, weights[order], rtol=1e-3, atol=1e-4)
        one.after(0.9 * now.square())
        other.after(0.9 * now[order].square())
        one.end_epoch()
        other.end_epoch()


def check_goes_on_as_before(make: Callable[[], Balancer], losses: Tensor, gram: Tensor) -> None:
    """A new one that takes up the state answers what the old one would have answered."""
    generator = torch.Generator().manual_seed(0)
    grams = [
        gram * torch.outer(by, by) for by in 0.2 + torch.rand(7, len(losses), generator=generator)
    ]
    one = make()
    for step in range(4):
        torch.manual_seed(step)
        one(losses * 0.9**step, grams[step])
        one.after(losses.square() * 0.9**step)
        one.end_epoch()
    other = make()
    other.restore({name: value.clone() for name, value in one.state().items()})
    for step in range(3):
        found = []
        for each in (one, other):
            torch.manual_seed(step)
            found.append(each(losses.flip(0) * 0.8**step, grams[4 + step].clone()))
            each.after(losses * 0.7**step)
            each.end_epoch()
        assert torch.equal(*found), f"step {step}"


def check_ignores_units(make: Callable[[], Balancer], losses: Tensor, gram: Tensor) -> None:
    """All losses in other units (and so gradients) weigh the same, step after step."""
    one, other = make(), make()
    for step in range(3):
        now = losses * (1.0 - 0.1 * step * torch.arange(1, len(losses) + 1) / len(losses))
        found = []
        for each, unit in ((one, 1.0), (other, 100.0)):
            torch.manual_seed(step)
            found.append(each(now * unit, gram * unit**2))
            each.after(0.9 * now.square() * unit)
            each.end_epoch()
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def check_hurts_no_task(balancer: Balancer, losses: Tensor, gram: Tensor) -> None:
    """A small step against the weighted gradient makes no task's loss larger."""
    gains = gram @ balancer(losses, gram)
    assert gains.min() > -2e-3 * gram.diagonal().mean()


def check_rows_are_apart(layer: Layer, inputs: Tensor, *, rows_of: int) -> None:
    """Row i of the output, along dimension ``rows_of``, depends on row i of the input alone."""
    whole = layer(inputs)
    for i in range(len(inputs)):
        others = torch.full_like(inputs, torch.nan)
        others[i] = inputs[i]
        row = layer(others).select(rows_of, i)
        torch.testing.assert_close(row, whole.select(rows_of, i), rtol=1e-5, atol=1e-6)
