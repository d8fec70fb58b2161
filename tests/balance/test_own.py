"""The balancers that are our own, on numbers worked out by hand."""

import pytest
import torch

from daogou.balance.db_mtl import DBMTL
from daogou.balance.gradnorm import GradNorm
from daogou.balance.lengths import Lengths
from daogou.balance.metabalance import MetaBalance
from tests.laws import gram_of

LENGTHS = gram_of((3.0, 0.0), (0.0, 1.0))  # 3 and 1, at right angles


def test_running_lengths_skip_absent_tasks() -> None:
    # 3, then 1 with a decay of a half: (3/4 + 1/2) / (1/4 + 1/2) = 5/3; the other one was absent.
    lengths = Lengths(2, 0.5)
    both = torch.tensor([True, True])
    lengths.update(torch.tensor([3.0, 4.0]), both)
    torch.testing.assert_close(lengths.means(), torch.tensor([3.0, 4.0]))
    lengths.update(torch.tensor([1.0, 0.0]), torch.tensor([True, False]))
    torch.testing.assert_close(lengths.means(), torch.tensor([5 / 3, 4.0]))


def test_db_mtl_stretches_gradients_of_log_losses_to_the_longest() -> None:
    # Losses 1 and 0.5: log gradients are 3 and 2 long; weights (3/3)/1 = 1 and (3/2)/0.5 = 3;
    # brought to a sum of two: 0.5 and 1.5. The weighted gradients are both 1.5 long.
    found = DBMTL(2)(torch.tensor([1.0, 0.5]), LENGTHS)
    torch.testing.assert_close(found, torch.tensor([0.5, 1.5]))
    torch.testing.assert_close(found * torch.tensor([3.0, 1.0]), torch.tensor([1.5, 1.5]))


def test_db_mtl_weighs_by_the_losses_of_the_batch_under_a_kept_gram() -> None:
    # Running lengths of log gradients stay 3 and 2; losses are now 0.5 each: 1 / 0.5 and
    # 1.5 / 0.5, that is 2 to 3, brought to a sum of two.
    balancer = DBMTL(2)
    balancer(torch.tensor([1.0, 0.5]), LENGTHS)
    found = balancer(torch.tensor([0.5, 0.5]), LENGTHS)
    torch.testing.assert_close(found, torch.tensor([0.8, 1.2]))


def test_db_mtl_has_no_say_of_a_task_whose_loss_turns_positive_under_a_kept_gram() -> None:
    balancer = DBMTL(2)
    balancer(torch.tensor([1.0, -0.5]), LENGTHS)
    assert balancer(torch.tensor([1.0, 0.5]), LENGTHS).tolist() == [1.0, 1.0]
    assert balancer(torch.tensor([1.0, 0.5]), LENGTHS.clone()).tolist() != [1.0, 1.0]


@pytest.mark.parametrize(("target", "wanted"), [(1, [0.5 / 3 + 0.5, 1.0]), (0, [1.0, 2.0])])
def test_metabalance_brings_the_others_half_way_to_the_target(
    target: int, wanted: list[float]
) -> None:
    # relax a half: 1/2 * |target| / |other| + 1/2.
    found = MetaBalance(2, target=target, relax=0.5)(torch.ones(2), LENGTHS)
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_metabalance_waits_for_its_target() -> None:
    gram = gram_of((3.0,), (0.0,))
    assert MetaBalance(2)(torch.ones(2), gram).tolist() == [1.0, 1.0]


def test_gradnorm_brings_weighted_gradients_to_one_length_where_all_learn_alike() -> None:
    balancer = GradNorm(2)
    for _ in range(400):
        found = balancer(torch.tensor([0.6, 0.3]), LENGTHS.clone())
    torch.testing.assert_close(found, torch.tensor([0.5, 1.5]), rtol=0.1, atol=0)


def test_gradnorm_gives_the_slow_task_the_longer_gradient() -> None:
    # The first fell to a quarter, the second not at all: rates 0.4 and 1.6 of their mean. With
    # alpha 1 lengths go to 0.4 and 1.6 of the mean: 3 w1 to w2 as 1 to 4, so w2 = 12 w1.
    balancer = GradNorm(2, alpha=1.0)
    balancer(torch.tensor([1.0, 1.0]), LENGTHS)
    for _ in range(600):
        found = balancer(torch.tensor([0.25, 1.0]), LENGTHS.clone())
    assert found[1] / found[0] == pytest.approx(12.0, rel=0.25)


def test_gradnorm_brings_only_the_tasks_of_the_batch_back_to_the_sum_that_they_had() -> None:
    balancer = GradNorm(3)
    lengths = torch.diag(torch.tensor([9.0, 1.0, 4.0]))
    for _ in range(5):
        balancer(torch.tensor([0.6, 0.3, 0.5]), lengths.clone())
    before = balancer.state()["learnt"]
    balancer(torch.tensor([0.6, 0.3, 0.0]), torch.diag(torch.tensor([9.0, 1.0, 0.0])))
    after = balancer.state()["learnt"]
    assert after[2] == before[2]
    assert not torch.equal(after[:2], before[:2])
    torch.testing.assert_close(after[:2].sum(), before[:2].sum())
