import pytest
import torch

from daogou.model.experts import Experts, Gates
from daogou.model.mixers import PLE
from tests.model.hand import Times


def gates_of(mixer: PLE) -> list[Gates]:
    return [gates for gates in mixer.gates if isinstance(gates, Gates)]


def experts_of(mixer: PLE) -> list[Experts]:
    return [experts for experts in mixer.experts if isinstance(experts, Experts)]


def by_hand(n_levels: int) -> PLE:
    """Own experts that double (task a) and treble (task b), a shared one that gives five times."""
    mixer = PLE(1, 2, widths=[1], n_shared=1, n_own=1, n_levels=n_levels).eval()
    for level in range(n_levels):
        mixer.experts[level] = Times(2.0, 3.0, 5.0)
    return mixer


def test_one_level_is_the_papers_cgc_by_hand() -> None:
    # Uniform gates, x = 1. Task a mixes its own 2 and the shared 5: 3.5; task b 3 and 5: 4.
    found = by_hand(1)(torch.ones(1, 1))[:, 0, 0]
    torch.testing.assert_close(found, torch.tensor([3.5, 4.0]))


def test_two_levels_match_equations_1_to_5_by_hand() -> None:
    # Level 1 as above: a 3.5, b 4; the shared branch mixes all of 2, 3 and 5: 10/3.
    # Level 2: a (2 * 3.5 + 5 * 10/3) / 2 = 71/6; b (3 * 4 + 5 * 10/3) / 2 = 43/3.
    # Were the shared gate blind to own experts, its branch would be 5 and a (7 + 25) / 2 = 16.
    found = by_hand(2)(torch.ones(1, 1))[:, 0, 0]
    torch.testing.assert_close(found, torch.tensor([71 / 6, 43 / 3]))


def test_the_shared_gate_of_the_first_level_sees_all_experts() -> None:
    mixer = PLE(3, 2, widths=[4], n_shared=3, n_own=2, n_levels=2).eval()
    first, last = gates_of(mixer)
    shared = first.weights(torch.randn(1, 3))[2, 0]
    torch.testing.assert_close(shared, torch.full((7,), 1 / 7))
    assert len(last.closed) == 2, "a last level has nobody to share with"


@pytest.mark.parametrize(("n_shared", "n_own"), [(1, 1), (3, 2), (2, 4)])
def test_there_are_as_many_experts_as_asked(n_shared: int, n_own: int) -> None:
    mixer = PLE(3, 2, widths=[4], n_shared=n_shared, n_own=n_own, n_levels=2)
    for experts in mixer.experts:
        assert experts.n_experts == n_shared + 2 * n_own
    assert mixer.owner.tolist() == [0] * n_own + [1] * n_own + [2] * n_shared


def test_a_task_mixes_its_own_experts_and_the_shared_ones_alone() -> None:
    mixer = PLE(3, 2, widths=[4], n_shared=3, n_own=2).eval()
    first, second = gates_of(mixer)[0].weights(torch.randn(1, 3))[:, 0].tolist()
    assert first == pytest.approx([0.2, 0.2, 0, 0, 0.2, 0.2, 0.2])
    assert second == pytest.approx([0, 0, 0.2, 0.2, 0.2, 0.2, 0.2])


def test_another_tasks_experts_change_nothing_at_one_level() -> None:
    mixer = PLE(3, 2, widths=[4], n_own=2).eval()
    inputs = torch.randn(5, 3)
    before = mixer(inputs)
    for layer in experts_of(mixer)[0].layers:
        moved = layer.weight.data[:, 2:4]  # the second task's two
        moved += torch.randn(moved.shape)
    after = mixer(inputs)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])
