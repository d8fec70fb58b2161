import pytest
import torch

from daogou.balance import UPGrad
from tests.laws import gram_of


def test_without_conflict_it_is_the_plain_sum() -> None:
    gram = gram_of((1.0, 0.0), (0.0, 3.0), (1.0, 1.0))
    torch.testing.assert_close(UPGrad()(torch.ones(3), gram), torch.ones(3))


def test_two_opposed_tasks_match_a_hand_worked_example() -> None:
    # g1 = (1, 0), g2 = (-1, 1). Each moved the least that it hurts neither: g1 + w g2 at right
    # angles to g2, w = 1/2; g2 + g1 at right angles to g1. The mean of (1, 1/2) and (1, 1) is
    # (1, 3/4); times two tasks, (2, 3/2).
    gram = gram_of((1.0, 0.0), (-1.0, 1.0))
    torch.testing.assert_close(
        UPGrad()(torch.ones(2), gram), torch.tensor([2.0, 1.5]), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e6])
def test_the_step_hurts_no_task_whatever_the_size_of_the_gradients(size: float) -> None:
    torch.manual_seed(0)
    for _ in range(20):
        gradients = torch.randn(4, 6)
        gram = gradients @ gradients.T * size
        assert (gram @ UPGrad()(torch.ones(4), gram)).min() > -1e-3 * size
