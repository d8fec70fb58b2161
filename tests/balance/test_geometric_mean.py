import torch

from daogou.balance import GeometricMean


def test_weights_match_a_hand_worked_example() -> None:
    # The mean of 1 and 4 is 2; its slopes are 2 / (2 * 1) and 2 / (2 * 4), times two tasks.
    found = GeometricMean()(torch.tensor([1.0, 4.0]), None)
    torch.testing.assert_close(found, torch.tensor([2.0, 0.5]))


def test_equal_losses_are_the_plain_sum() -> None:
    torch.testing.assert_close(GeometricMean()(torch.full((3,), 0.2), None), torch.ones(3))


def test_a_task_without_a_label_has_no_say() -> None:
    found = GeometricMean()(torch.tensor([1.0, 0.0, 4.0]), None)
    torch.testing.assert_close(found, torch.tensor([2.0, 1.0, 0.5]))


def test_losses_in_other_units_weigh_so_that_their_steps_are_the_same() -> None:
    """A task measured in hundredths gets a hundred times the weight of before, relatively."""
    before = GeometricMean()(torch.tensor([1.0, 4.0]), None)
    after = GeometricMean()(torch.tensor([0.01, 4.0]), None)
    torch.testing.assert_close(after[0] / after[1], 100 * before[0] / before[1])
