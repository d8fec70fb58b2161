"""Balancers that read the Gram, on gradients small enough to work out by hand."""

import pytest
import torch

from daogou.balance.from_gram import IMTLG, MGDA, DualProj, FairGrad, NashMTL, PCGrad, UPGrad
from daogou.balance.from_gram import root_of as root
from tests.laws import gram_of

OPPOSED = gram_of((1.0, 0.0), (-1.0, 1.0))
ONES = torch.ones(2)


def close(found: torch.Tensor, *wanted: float) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-3, atol=1e-3)


def test_upgrad_of_two_opposed_tasks() -> None:
    # g1 = (1, 0), g2 = (-1, 1). Each moved the least that it hurts neither: g1 + w g2 at right
    # angles to g2, w = 1/2; g2 + g1 at right angles to g1. The mean of (1, 1/2) and (1, 1) is
    # (1, 3/4); times two tasks, (2, 3/2).
    close(UPGrad(2)(ONES, OPPOSED), 2.0, 1.5)


def test_dualproj_of_two_opposed_tasks() -> None:
    # The mean (0, 1/2) hurts g1 not at all (product 0) and helps g2: it stays, times two.
    close(DualProj(2)(ONES, OPPOSED), 1.0, 1.0)


def test_mgda_finds_the_shortest_mixture() -> None:
    # a g1 + (1 - a) g2 = (2a - 1, 1 - a); 5a^2 - 6a + 2 is least at a = 3/5. Times two.
    close(MGDA(2)(ONES, OPPOSED), 1.2, 0.8)


def test_pcgrad_takes_off_what_opposes() -> None:
    # g1 - (g1 g2 / g2 g2) g2 = g1 + g2 / 2, and g2 + g1: (1, 1/2) + (1, 1).
    close(PCGrad(2)(ONES, OPPOSED), 2.0, 1.5)


def test_imtl_g_projects_alike_on_all_unit_gradients() -> None:
    # Lengths 1 and 3 at right angles: w g has projections w1 and 3 w2; of sum 2, (3/2, 1/2).
    close(IMTLG(2)(ONES, gram_of((1.0, 0.0), (0.0, 3.0))), 1.5, 0.5)


def test_nash_and_proportional_fairness_undo_lengths() -> None:
    # At right angles G w = 1 / w gives one over the length; lengths here 1 and 2, and a sum of 2.
    gram = gram_of((1.0, 0.0), (0.0, 2.0))
    close(FairGrad(2)(ONES, gram), 4 / 3, 2 / 3)
    close(NashMTL(2)(ONES, gram), 4 / 3, 2 / 3)


def test_tasks_that_all_but_oppose_each_other_do_not_weigh_more_and_more() -> None:
    # (1, 1/100) and (-1, 1/100) are alike but for their direction: G w = 1 / w weighs each 50.
    gram = gram_of((1.0, 0.01), (-1.0, 0.01))
    close(FairGrad(2)(ONES, gram), 1.0, 1.0)
    close(NashMTL(2)(ONES, gram), 1.0, 1.0)


def test_nash_keeps_the_proportions_of_the_last_bargain_of_all_tasks() -> None:
    # Lengths 1, 2 and 4: weights as 4 to 2 to 1. Without the last, 4 to 2; then without the first,
    # 2 to 1 and not what the batch between left.
    lengths = torch.tensor([1.0, 2.0, 4.0])
    balancer = NashMTL(3)
    close(balancer(torch.ones(3), torch.diag(lengths**2)), 12 / 7, 6 / 7, 3 / 7)
    for there, wanted in (((1, 1, 0), (4 / 3, 2 / 3, 1.0)), ((0, 1, 1), (1.0, 4 / 3, 2 / 3))):
        close(balancer(torch.ones(3), torch.diag((lengths * torch.tensor(there)) ** 2)), *wanted)


def test_a_root_has_the_gram() -> None:
    gram = OPPOSED.double()
    torch.testing.assert_close(root(gram) @ root(gram).T, gram)


def test_nash_goes_on_from_what_its_solver_sought_and_not_from_what_was_cut_to_length() -> None:
    generator = torch.Generator().manual_seed(29)  # three tasks in a plane: it matters there
    rows = [torch.randn(3, 2, generator=generator) for _ in range(3)]
    grams = [each @ each.T for each in rows]
    one, other = NashMTL(3), NashMTL(3)
    for gram in grams[:2]:
        one(torch.ones(3), gram)
    other.restore(one.state())
    assert torch.equal(one(torch.ones(3), grams[2]), other(torch.ones(3), grams[2]))


def test_nash_begins_anew_after_weights_that_its_solver_refuses() -> None:
    balancer = NashMTL(2)
    balancer.restore(balancer.state() | {"sought": torch.full((2,), torch.nan)})
    gram = gram_of((1.0, 0.0), (0.0, 2.0))
    with pytest.warns(UserWarning, match=r"the solver of NashMTL failed \(\w+: .*weigh 1"):
        close(balancer(ONES, gram.clone()), 1.0, 1.0)
    close(balancer(ONES, gram.clone()), 4 / 3, 2 / 3)
    assert balancer.failures == 1
