"""What every balancer in the table must do."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daogou.balance import BALANCERS
from tests.laws import check_ignores_order, check_is_finite, gram_of

CONFLICT = gram_of((1.0, 0.0), (-1.0, 2.0), (0.5, 0.5))
LOSSES = st.lists(st.floats(0, 50, width=32), min_size=1, max_size=5)


@pytest.mark.parametrize("name", BALANCERS)
@settings(deadline=None)
@given(losses=LOSSES)
def test_gives_one_finite_weight_per_task(name: str, losses: list[float]) -> None:
    generator = torch.Generator().manual_seed(len(losses))
    gradients = torch.randn(len(losses), 3, generator=generator)
    check_is_finite(BALANCERS[name](), torch.tensor(losses), gradients @ gradients.T)


@pytest.mark.parametrize("name", BALANCERS)
@pytest.mark.parametrize("n_tasks", [1, 3])
def test_survives_tasks_without_a_label_in_the_batch(name: str, n_tasks: int) -> None:
    """Such a task has a loss of 0 and a gradient of 0."""
    gram = torch.zeros(n_tasks, n_tasks)
    check_is_finite(BALANCERS[name](), torch.zeros(n_tasks), gram)
    gram[0, 0] = 4.0
    losses = torch.zeros(n_tasks)
    losses[0] = 1.0
    check_is_finite(BALANCERS[name](), losses, gram)


@pytest.mark.parametrize("name", BALANCERS)
def test_ignores_task_order(name: str) -> None:
    check_ignores_order(BALANCERS[name], torch.tensor([0.3, 0.7, 0.1]), CONFLICT)


@pytest.mark.parametrize("name", BALANCERS)
def test_says_whether_it_needs_a_gram(name: str) -> None:
    balancer = BALANCERS[name]()
    assert isinstance(balancer.needs_gram, bool)
    if not balancer.needs_gram:
        assert balancer(torch.ones(2), None).isfinite().all()
