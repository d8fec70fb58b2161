"""The fork: identity on the way up, weights on the way down."""

import torch

from daogou.model.encoded import Encoded, weigh, weighed_linear


def test_leaves_are_equal_and_collect_gradients_of_their_own() -> None:
    source = torch.ones(2, 3, requires_grad=True)
    encoded = Encoded(items=source * 2)
    leaves = encoded.leaves()
    assert encoded.items is not None
    assert leaves.items is not None
    assert torch.equal(leaves.items, encoded.items)
    leaves.items.sum().backward()
    assert leaves.items.grad is not None
    assert leaves.items.grad.tolist() == [[1.0] * 3] * 2
    assert source.grad is None, "the backward pass of a head ends at its leaves"


def test_absent_encodings_stay_absent() -> None:
    encoded = Encoded(items=torch.zeros(1, 2))
    assert encoded.leaves().users is None
    assert [name for name, _ in encoded.present()] == ["items"]
    assert Encoded().present() == []


def test_weighing_changes_gradients_and_nothing_else() -> None:
    forked = torch.randn(3, 4, 2, requires_grad=True)
    weighed = weigh(forked, torch.tensor([0.0, 1.0, 2.5]))
    assert torch.equal(weighed, forked)
    weighed.sum().backward()
    assert forked.grad is not None
    assert forked.grad[:, 0, 0].tolist() == [0.0, 1.0, 2.5]


def test_weights_set_after_the_losses_count() -> None:
    forked, weights = torch.ones(2, 1, requires_grad=True), torch.ones(2)
    loss = weigh(forked, weights).sum()
    weights[1] = 7.0
    loss.backward()
    assert forked.grad is not None
    assert forked.grad[:, 0].tolist() == [1.0, 7.0]


def test_a_view_of_all_weights_is_read_at_the_same_late_moment() -> None:
    forked, weights = torch.ones(1, 1, requires_grad=True), torch.ones(3)
    loss = weigh(forked, weights[1:2]).sum()
    weights[0:2] = torch.tensor([5.0, 6.0])
    loss.backward()
    assert forked.grad is not None
    assert forked.grad.item() == 6.0


def test_a_weighed_linear_map_equals_weighing_and_then_mapping() -> None:
    torch.manual_seed(0)
    inputs, weight = torch.randn(5, 3), torch.randn(2, 3)
    weights, pull = torch.tensor([0.0, 3.0]), torch.randn(5, 2)
    gradients = []
    for fused in (True, False):
        x, w = inputs.clone().requires_grad_(), weight.clone().requires_grad_()
        if fused:
            found = weighed_linear(x, w, weights, torch.ones_like(weights))
        else:
            found = torch.einsum("tbd,td->bt", weigh(x.expand(2, 5, 3), weights), w)
        (found * pull).sum().backward()
        assert x.grad is not None and w.grad is not None
        gradients.append((found, x.grad, w.grad))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
