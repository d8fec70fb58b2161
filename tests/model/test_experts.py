"""Experts and gates with numbers worked by hand."""

import math

import pytest
import torch

from daogou.model.experts import Experts, Gates, GroupedLinear
from tests.laws import check_rows_are_apart


def all_open(n_tasks: int, n_experts: int) -> torch.Tensor:
    return torch.ones(n_tasks, n_experts, dtype=torch.bool)


def test_a_grouped_layer_is_that_many_layers() -> None:
    grouped = GroupedLinear(3, 4, 2)
    assert grouped.bias is not None
    torch.nn.init.normal_(grouped.bias)
    shared, own = torch.randn(5, 4), torch.randn(3, 5, 4)
    for expert in range(3):
        weight, bias = grouped.weight[:, expert], grouped.bias[expert]
        torch.testing.assert_close(grouped(own)[expert], own[expert] @ weight + bias)
        torch.testing.assert_close(grouped(shared)[expert], shared @ weight + bias)


def test_a_grouped_layer_without_bias_is_linear() -> None:
    grouped = GroupedLinear(2, 3, 4, bias=False)
    for inputs in (torch.zeros(5, 3), torch.zeros(2, 5, 3)):
        assert torch.equal(grouped(inputs), torch.zeros(2, 5, 4))


def test_an_expert_is_linear_then_norm_then_silu() -> None:
    # x = 3: 3 * (-1, 1) has mean 0 and deviation 3, normed (-1, 1).
    # silu(-1) = -1 / (1 + e) = -0.26894, silu(1) = 1 / (1 + 1/e) = 0.73106.
    experts = Experts(2, 1, [2])
    weights = torch.tensor([[[-1.0, 1.0]], [[1.0, -1.0]]])
    experts.layers[0].load_state_dict({"weight": weights.transpose(0, 1)})
    found = experts(torch.tensor([[3.0]]))
    wanted = torch.tensor([[[-0.26894, 0.73106]], [[0.73106, -0.26894]]])
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)


def test_an_expert_alone_gives_what_it_gives_among_others() -> None:
    """Experts lie side by side in memory, and none may read its neighbour."""
    experts, alone = Experts(3, 4, [5, 2]), Experts(1, 4, [5, 2])
    inputs = torch.randn(6, 4)
    for place in range(3):
        for layer, of_all in zip(alone.layers, experts.layers, strict=True):
            layer.weight.data.copy_(of_all.weight.data[:, place : place + 1])
        torch.testing.assert_close(alone(inputs)[0], experts(inputs)[place])


def test_experts_read_inputs_of_their_own_if_given() -> None:
    experts = Experts(2, 3, [4, 6])
    one = torch.randn(5, 3)
    both = torch.stack([one, torch.zeros(5, 3)])
    torch.testing.assert_close(experts(both)[0], experts(one)[0])
    assert experts(both).shape == (2, 5, 6)


def test_rows_of_experts_are_apart() -> None:
    check_rows_are_apart(Experts(3, 4, [8, 8]).eval(), torch.randn(6, 4), rows_of=1)


def test_gates_start_uniform_over_what_a_task_may_use() -> None:
    allowed = torch.tensor([[True, True, False], [False, True, False]])
    gates = Gates(4, allowed).eval()
    weights = gates.weights(torch.randn(5, 4))
    assert weights[0, 0].tolist() == [0.5, 0.5, 0.0]
    assert weights[1, 4].tolist() == [0.0, 1.0, 0.0]


def test_a_gate_is_the_softmax_of_a_linear_layer() -> None:
    # logits (x ln 3, 0) at x = 1: weights 3/4 and 1/4; experts 8 and 4 mix to 7.
    gates = Gates(1, all_open(1, 2)).eval()
    gates.linear.weight.data.copy_(torch.tensor([[[math.log(3), 0.0]]]))
    experts = torch.tensor([[[8.0]], [[4.0]]])
    found = gates(torch.tensor([[1.0]]), experts)
    torch.testing.assert_close(found, torch.tensor([[[7.0]]]))


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.999])
def test_weights_that_survive_dropout_sum_to_one(dropout: float) -> None:
    torch.manual_seed(0)
    allowed = torch.tensor([[True, True, True, False], [True, False, False, False]])
    weights = Gates(3, allowed, dropout=dropout).train().weights(torch.randn(500, 3))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 500))
    assert (weights[0, :, 3] == 0).all(), "dropout opened a closed expert"
    assert (weights[1, :, 0] == 1).all(), "the only expert a task has was dropped"


def test_experts_are_dropped_as_often_as_asked_and_in_training_alone() -> None:
    torch.manual_seed(0)
    gates = Gates(3, all_open(1, 4), dropout=0.25)
    dropped = (gates.train().weights(torch.randn(20_000, 3)) == 0).float().mean().item()
    assert dropped == pytest.approx(0.25, abs=0.01)  # less 0.25 ** 4, when all would go
    assert (gates.eval().weights(torch.randn(100, 3)) == 0.25).all()


def test_rows_of_gates_are_apart() -> None:
    gates = Gates(4, all_open(2, 3)).eval()
    torch.nn.init.normal_(gates.linear.weight)
    check_rows_are_apart(gates.weights, torch.randn(6, 4), rows_of=1)


@pytest.mark.parametrize("widths", [[5], [5, 3]])
def test_experts_that_share_an_input_learn_as_if_each_had_its_copy(widths: list[int]) -> None:
    """Their rows lie another way in memory: values and gradients must not."""
    torch.manual_seed(0)
    experts = Experts(3, 4, widths)
    shared = torch.randn(6, 4, requires_grad=True)
    pull = torch.randn(3, 6, widths[-1])
    found = []
    for inputs in (shared, shared.expand(3, 6, 4)):
        outputs = experts(inputs)
        weights = [layer.weight for layer in experts.layers]
        slopes = torch.autograd.grad((outputs * pull).sum(), [shared, *weights])
        found.append((outputs, *slopes))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
