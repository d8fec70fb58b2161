import math

import pytest
import torch
from torch import Tensor

from daogou.model.experts import Experts, GroupedLinear
from daogou.model.mixers import STEM
from tests.model.hand import Times


def first_layer(experts: Experts) -> Tensor:
    layer = experts.layers[0]
    assert isinstance(layer, GroupedLinear)
    return layer.weight


def reached(mixer: STEM, task: int) -> list[bool]:
    """Which experts (own ones, then the shared) the loss of one task teaches."""
    own = torch.randn(3, 5, 4, requires_grad=True)
    mixer(torch.randn(5, 2), own)[task].sum().backward()
    gradients = [first_layer(experts).grad for experts in (mixer.own, mixer.shared)]
    assert own.grad is not None
    assert [bool(each.any()) for each in own.grad] == [each == task for each in range(3)]
    return [bool(part.any()) for each in gradients if each is not None for part in each.unbind(1)]


def test_a_task_mixes_own_shared_and_other_tasks_experts_by_hand() -> None:
    # x = 1; own experts give 2 and 3, the shared one 5. Task a's gate is (1/2, 1/4, 1/4), so it
    # has 1 + 3/4 + 5/4 = 3; task b's is even: 10/3.
    mixer = STEM(1, 2, widths=[1]).eval()
    mixer.own, mixer.shared = Times(2.0, 3.0), Times(5.0)  # type: ignore[assignment]
    assert mixer.gates.linear.bias is not None
    mixer.gates.linear.bias.data[0, 0] = math.log(2)
    torch.testing.assert_close(mixer(torch.ones(1, 1))[:, 0, 0], torch.tensor([3.0, 10 / 3]))


@pytest.mark.parametrize("task", range(3))
def test_a_task_reads_all_experts_and_teaches_its_own_and_the_shared(task: int) -> None:
    torch.manual_seed(0)
    mixer = STEM(2, 3, widths=[4], n_own_inputs=4, dropout=0.0, gate_dropout=0.0)
    assert reached(mixer, task) == [*(each == task for each in range(3)), True]
    before = mixer.eval()(torch.ones(1, 2), torch.ones(3, 1, 4))
    with torch.no_grad():
        first_layer(mixer.own)[:, (task + 1) % 3] *= -1.0
    after = mixer(torch.ones(1, 2), torch.ones(3, 1, 4))
    assert not torch.equal(before[task], after[task])


def test_what_the_encoders_learn_comes_through_the_shared_experts() -> None:
    torch.manual_seed(0)
    mixer = STEM(2, 2, widths=[4], dropout=0.0, gate_dropout=0.0)
    inputs = torch.randn(5, 2, requires_grad=True)
    found = mixer(inputs)
    shared = mixer.shared(inputs) / 3  # gates are uniform over two own experts and the shared one
    wanted = torch.autograd.grad(shared.expand(2, 5, 4).sum(), inputs)[0]
    torch.testing.assert_close(torch.autograd.grad(found.sum(), inputs)[0], wanted)


def test_it_works_without_rows_of_its_own() -> None:
    assert STEM(2, 3, widths=[4], n_shared=2, n_own=2)(torch.randn(5, 2)).shape == (3, 5, 4)
