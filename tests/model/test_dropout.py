"""Dropout that draws bytes: shares, scale and silence outside training."""

import pytest
import torch

from daogou.model.dropout import Dropout


@pytest.mark.parametrize(("share", "gone"), [(0.1, 26 / 256), (0.5, 0.5), (0.999, 255 / 256)])
def test_as_many_activations_go_as_a_byte_can_say(share: float, gone: float) -> None:
    torch.manual_seed(0)
    found = Dropout(share).train()(torch.ones(1000, 1001))
    assert (found == 0).float().mean().item() == pytest.approx(gone, abs=0.001)
    assert found.mean().item() == pytest.approx(1.0, abs=0.03)  # the rest makes up for them
    assert found.unique().tolist() == pytest.approx([0.0, 1 / (1 - gone)])


def test_neighbours_go_independently() -> None:
    """Eight activations share one draw of 64 bits: no pair of its bytes may know the other."""
    torch.manual_seed(0)
    gone = (Dropout(0.5).train()(torch.ones(200_000, 8)) == 0).double()
    standard = (gone - gone.mean(0)) / gone.std(0)
    correlation = standard.T @ standard / len(gone)
    assert (correlation - torch.eye(8)).abs().max() < 0.01


def test_the_gradient_passes_where_the_activation_did() -> None:
    inputs = torch.ones(50, requires_grad=True)
    found = Dropout(0.5).train()(inputs)
    found.sum().backward()
    assert inputs.grad is not None and torch.equal(inputs.grad, found.detach())


def test_nothing_goes_outside_training_or_at_a_share_of_zero() -> None:
    inputs = torch.randn(7)
    assert torch.equal(Dropout(0.9).eval()(inputs), inputs)
    assert torch.equal(Dropout(0.0).train()(inputs), inputs)


def test_the_seed_decides_what_goes() -> None:
    layer, inputs = Dropout(0.3).train(), torch.ones(3, 5)
    torch.manual_seed(4)
    first = layer(inputs)
    torch.manual_seed(4)
    assert torch.equal(layer(inputs), first)
    assert not torch.equal(layer(torch.ones(64)), layer(torch.ones(64)))


def test_an_empty_batch_is_an_ordinary_batch() -> None:
    assert Dropout(0.5).train()(torch.zeros(0, 3)).shape == (0, 3)
