import torch

from daogou.balance import gram_at


def test_a_gram_matches_a_hand_worked_example() -> None:
    # z = (1, 2). f1 = z1^2 has gradient (2, 0), f2 = z1 z2 has (2, 1), f3 = 3 has none.
    # Products: 4, 4, 0; 4, 5, 0; 0, 0, 0.
    z = torch.tensor([[1.0, 2.0]], requires_grad=True)
    losses = torch.stack([z[0, 0] ** 2, z[0, 0] * z[0, 1], 0 * z.sum() + 3])
    assert gram_at(losses, z).tolist() == [[4, 4, 0], [4, 5, 0], [0, 0, 0]]


def test_rows_of_a_batch_add_up() -> None:
    # Gradients over the batch are long vectors: (1, 1) and (2, -1) have products 2, 1, 5.
    z = torch.zeros(2, 1, requires_grad=True)
    losses = torch.stack([z[0, 0] + z[1, 0], 2 * z[0, 0] - z[1, 0]])
    assert gram_at(losses, z).tolist() == [[2, 1], [1, 5]]


def test_taking_a_gram_leaves_no_gradient_and_the_graph_as_it_was() -> None:
    weight = torch.tensor([2.0], requires_grad=True)
    z = weight * torch.ones(3)
    losses = torch.stack([z.sum(), z.square().sum()])
    gram_at(losses, z)
    assert weight.grad is None
    losses.sum().backward()
    assert weight.grad is not None
    assert weight.grad.item() == 3 + 12
