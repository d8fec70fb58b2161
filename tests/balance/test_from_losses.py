"""Balancers that read losses alone, on numbers worked out by hand."""

import math

import pytest
import torch

from daogou.balance.from_losses import DWA, FAMO, IMTLL, STCH, UW, GeometricMean


def test_the_geometric_mean_weighs_by_one_over_the_loss() -> None:
    # The mean of 1 and 4 is 2; its slopes are 2 / (2 * 1) and 2 / (2 * 4), times two tasks.
    found = GeometricMean(2)(torch.tensor([1.0, 4.0]), None)
    torch.testing.assert_close(found, torch.tensor([2.0, 0.5]))
    with_absent = GeometricMean(3)(torch.tensor([1.0, 0.0, 4.0]), None)
    torch.testing.assert_close(with_absent, torch.tensor([2.0, 1.0, 0.5]))


def test_losses_in_other_units_weigh_so_that_their_steps_are_the_same() -> None:
    """A task measured in hundredths gets a hundred times the weight of before, relatively."""
    before = GeometricMean(2)(torch.tensor([1.0, 4.0]), None)
    after = GeometricMean(2)(torch.tensor([0.01, 4.0]), None)
    torch.testing.assert_close(after[0] / after[1], 100 * before[0] / before[1])


def test_the_largest_loss_counts_most_in_a_smooth_maximum() -> None:
    # Softmax of (0.4, 0.2) / 2 / 0.1 = (2, 1): e / (1 + e) and 1 / (1 + e), times two.
    found = STCH(2, mu=0.1)(torch.tensor([0.4, 0.2]), None)
    share = math.e / (1 + math.e)
    torch.testing.assert_close(found, torch.tensor([2 * share, 2 - 2 * share]))


def test_what_fell_less_from_epoch_to_epoch_counts_more() -> None:
    # Epoch means (1, 1) then (0.5, 1): ratios 0.5 and 1; softmax of (0.25, 0.5), times two.
    balancer = DWA(2)
    for losses in ((2.0, 0.5), (0.0, 1.5)):
        assert balancer(torch.tensor(losses), None).tolist() == [1.0, 1.0]
    balancer.end_epoch()
    assert balancer(torch.tensor([0.5, 1.0]), None).tolist() == [1.0, 1.0]
    balancer.end_epoch()
    first = math.exp(0.25) / (math.exp(0.25) + math.exp(0.5))
    found = balancer(torch.tensor([0.5, 0.9]), None)
    torch.testing.assert_close(found, torch.tensor([2 * first, 2 - 2 * first]))


def test_a_loss_that_has_no_ratio_counts_as_standing_still() -> None:
    # The first halves; the second is seen in no batch; the third's means are on both sides of 0.
    # Ratios 0.5, 1, 1: softmax of (0.25, 0.5, 0.5); the second is absent, the others' mean is 1.
    balancer = DWA(3)
    for losses in ((1.0, 0.0, 0.1), (0.5, 0.0, -0.1)):
        balancer(torch.tensor(losses), None)
        balancer.end_epoch()
    first = math.exp(0.25) / (math.exp(0.25) + math.exp(0.5))
    found = balancer(torch.tensor([0.5, 0.0, 0.1]), None)
    torch.testing.assert_close(found, torch.tensor([2 * first, 1.0, 2 - 2 * first]))


def test_an_epoch_without_a_batch_changes_no_ratio() -> None:
    balancer = DWA(2)
    for losses in ((1.0, 1.0), (0.5, 1.0)):
        balancer(torch.tensor(losses), None)
        balancer.end_epoch()
    before = balancer.state()["means"]
    balancer.end_epoch()
    assert torch.equal(balancer.state()["means"], before)


@pytest.mark.parametrize("maker", [UW, IMTLL])
def test_learnt_weights_settle_at_one_over_the_loss(maker: type[UW] | type[IMTLL]) -> None:
    """d/ds of exp(-s) L + s is 0 where exp(-s) = 1 / L; so 0.5 and 0.1 weigh as 1 to 5."""
    balancer = maker(2, learning_rate=0.05)
    for _ in range(500):
        found = balancer(torch.tensor([0.5, 0.1]), None)
    torch.testing.assert_close(found, torch.tensor([1 / 3, 5 / 3]), rtol=1e-2, atol=0)


def test_a_task_without_a_label_is_not_learnt_from() -> None:
    balancer = UW(2)
    for _ in range(50):
        balancer(torch.tensor([0.5, 0.0]), None)
    assert balancer.learnt[1].item() == 0.0
    assert balancer.learnt[0].item() != 0.0


def test_the_slow_task_of_famo_gains_weight_when_looked_back_at() -> None:
    # Equal losses; the first halved in each step, the second stood still.
    balancer = FAMO(2)
    for _ in range(20):
        found = balancer(torch.tensor([1.0, 1.0]), None)
        balancer.after(torch.tensor([0.5, 1.0]))
    assert found[1] > 1.2
    assert found.sum().item() == pytest.approx(2.0)


def test_famo_learns_nothing_of_a_loss_that_became_negative_or_of_a_batch_without_losses() -> None:
    balancer = FAMO(2)
    balancer(torch.tensor([0.5, 0.5]), None)
    balancer.after(torch.tensor([0.5, -0.1]))
    assert balancer.state()["learnt"].tolist() == [0.0, 0.0]
    balancer(torch.tensor([0.5, 0.3]), None)
    balancer.after(torch.tensor([0.4, 0.3]))
    before = balancer.state()["learnt"]
    assert before[0] < before[1]
    balancer(torch.zeros(2), None)
    balancer.after(torch.zeros(2))
    assert torch.equal(balancer.state()["learnt"], before)
