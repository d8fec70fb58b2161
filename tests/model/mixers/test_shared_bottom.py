import torch

from daogou.model.mixers import SharedBottom
from tests.model.hand import Times


def test_every_task_reads_the_same_numbers() -> None:
    mixer = SharedBottom(3, 4, widths=[5]).eval()
    found = mixer(torch.randn(6, 3))
    assert all(torch.equal(found[0], found[task]) for task in range(4))


def test_there_is_one_network_by_hand() -> None:
    mixer = SharedBottom(1, 3, widths=[1])
    mixer.experts = Times(2.0)  # type: ignore[assignment]
    assert mixer(torch.tensor([[1.5]]))[:, 0, 0].tolist() == [3.0, 3.0, 3.0]


def test_the_gradients_of_the_tasks_add_up_in_it() -> None:
    mixer = SharedBottom(1, 3, widths=[1])
    mixer.experts = Times(2.0)  # type: ignore[assignment]
    inputs = torch.tensor([[1.5]], requires_grad=True)
    mixer(inputs).sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.item() == 6.0
