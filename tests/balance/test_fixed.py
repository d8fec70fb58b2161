import torch

from daogou.balance import Fixed


def test_every_task_counts_as_much_as_its_static_weight_says() -> None:
    assert Fixed(3)(torch.tensor([0.1, 9.0, 0.0]), None).tolist() == [1.0, 1.0, 1.0]
