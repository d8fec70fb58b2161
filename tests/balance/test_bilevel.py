"""Task weights by what a step did for rows that it had not seen, on numbers worked by hand."""

import math

import pytest
import torch
from torch import Tensor

from daogou.balance.bilevel import Bilevel
from tests.laws import gram_of

BOTH = torch.ones(2)


def losses_of(shared: Tensor, *slopes: Tensor) -> Tensor:
    """Losses whose gradients at the shared rows ``[B, D]`` are the slopes ``[B, D]``."""
    return torch.stack([(shared * slope).sum() for slope in slopes])


def test_gradients_of_two_batches_meet_at_a_layer_before_the_mixer_by_hand() -> None:
    balancer = Bilevel(2)
    first = torch.tensor([[1.0, 0.0], [0.0, 2.0]], requires_grad=True)
    taken = balancer.take(
        losses_of(first, torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0, 0], [0, 1.0]])),
        first,
    )
    assert taken.tolist() == [[0, 0], [0, 0]]  # there was no step before
    second = torch.tensor([[3.0, 0.0]], requires_grad=True)
    # x^T dL: [[1, 0], [0, 0]] and [[0, 0], [0, 2]] in the first, [[6, 0], [0, 0]] and
    # [[-3, 3], [0, 0]] in the second.
    taken = balancer.take(
        losses_of(second, torch.tensor([[2.0, 0.0]]), torch.tensor([[-1.0, 1.0]])), second
    )
    assert taken.tolist() == [[6, 0], [-3, 0]]
    # All tasks of the second: [[3, 3], [0, 0]], along which the first task's [[1, 0], [0, 0]] lies
    # by a cosine of the root of a half; the other's not at all.
    found = balancer(BOTH, taken)
    grown = math.exp(0.05 * 0.5**0.5)
    torch.testing.assert_close(found, torch.tensor([2 * grown, 2.0]) / (grown + 1))


def test_a_task_of_noise_loses_weight_to_one_that_can_be_learnt() -> None:
    generator = torch.Generator().manual_seed(0)
    balancer = Bilevel(2)
    for _ in range(200):
        shared = torch.randn(64, 4, generator=generator, requires_grad=True)
        labels = torch.stack(
            [
                torch.sign(shared.detach()[:, 0]),
                torch.sign(torch.randn(64, generator=generator)),
            ]
        )
        # The gradient of a logistic loss at a logit of 0, through a first weight of 1.
        slopes = [torch.zeros(64, 4).index_fill(1, torch.tensor([0]), -0.5) * y[:, None] / 64
                  for y in labels]  # fmt: skip
        found = balancer(BOTH, balancer.take(losses_of(shared, *slopes), shared))
    assert found[0] > 1.5
    assert found.sum() == pytest.approx(2.0)


def test_one_restored_judges_the_step_that_was_taken_before() -> None:
    shared = torch.ones(1, 2, requires_grad=True)
    slopes = torch.tensor([[1.0, 0.0]]), torch.tensor([[-0.5, 0.0]])

    def asked(balancer: Bilevel) -> Tensor:
        return balancer(BOTH, balancer.take(losses_of(shared, *slopes) + 1, shared))

    one, other = Bilevel(2), Bilevel(2)
    assert torch.equal(asked(one), BOTH)  # the first batch of all has no step to judge
    one.end_epoch()
    other.restore(one.state())
    found = asked(one)
    assert found[0] > 1 > found[1]
    assert torch.equal(asked(other), found)


def test_what_a_step_averages_with_grams_of_before_is_judged_by_the_last_alone() -> None:
    balancer = Bilevel(2)
    shared = torch.ones(1, 2, requires_grad=True)
    slopes = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    gram = balancer.take(losses_of(shared, *slopes), shared)
    balancer(BOTH, gram)
    averaged = (gram + balancer.take(losses_of(shared, 2 * slopes[0], slopes[1]), shared)) / 2
    # Together the second batch's are (2, 1): cosines of 2 and 1 over the root of 5.
    grown = torch.tensor([2.0, 1.0]).div(5**0.5).mul(0.05).exp()
    torch.testing.assert_close(balancer(BOTH, averaged), 2 * grown / grown.sum())


def test_a_task_that_is_not_heard_of_changes_no_other_s_weight() -> None:
    found = []
    for far in (0.0, 100.0):
        balancer, heard = Bilevel(3), torch.tensor([1.0, 1.0, 0.0])
        shared = torch.ones(1, 2, requires_grad=True)
        slopes = (torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 1.0]]),
                  torch.tensor([[0.0, far]]))  # fmt: skip
        for _ in range(2):
            taken = balancer.take(losses_of(shared, *slopes), shared)
            weights = balancer(heard, taken * heard[:, None] * heard)
        found.append(weights)
    assert torch.equal(*found) and found[0][0] != found[0][1]


def test_given_one_batch_s_gram_that_batch_judges_itself() -> None:
    # Gradients (3, 0) and (0, 1), together (3, 1): cosines of 3 and 1 over the root of 10.
    found = Bilevel(2, rate=1.0)(BOTH, gram_of((3.0, 0.0), (0.0, 1.0)))
    grown = torch.tensor([3.0, 1.0]).div(10**0.5).exp()
    torch.testing.assert_close(found, 2 * grown / grown.sum())
