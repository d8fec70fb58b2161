import math

import pytest
import torch

from daogou.errors import ConfigError
from daogou.model.mixers import HoME
from daogou.model.mixers.home import FeatureGates
from tests.model.hand import Times


def home(groups: tuple[int, ...] = ()) -> HoME:
    torch.manual_seed(0)
    mixer = HoME(3, 3, widths=[4], dropout=0.0, groups=groups, gate_dropout=0.0)
    for gates in (mixer.meta_gates, mixer.gates):
        torch.nn.init.normal_(gates.linear.weight)
    return mixer


def test_two_levels_by_hand() -> None:
    # x = 1, gates even, tasks 0 | 1. Meta experts (global, of group 0, of group 1) give 1, 2, 3:
    # the global output is (1 + 2 + 3) / 3 = 2, of group 0 (1 + 2) / 2 = 1.5, of group 1 2.
    # Task experts times 1, 1, 1, and own ones times 4 and 6, of what their unit or group gave:
    # 2, 1.5, 2, 6, 12. Task a: (2 + 1.5 + 6) / 3, and half of its own past the gate: 3. Task b:
    # (2 + 2 + 12) / 3 and 6.
    mixer = HoME(1, 2, widths=[1]).eval()
    mixer.meta, mixer.experts = Times(1.0, 2.0, 3.0), Times(1.0, 1.0, 1.0, 4.0, 6.0)  # type: ignore[assignment]
    torch.nn.init.zeros_(mixer.self_gate.weight)
    found = mixer(torch.ones(1, 1))[:, 0, 0]
    torch.testing.assert_close(found, torch.tensor([9.5 / 3 + 3, 16 / 3 + 6]))


def taught(mixer: HoME, task: int) -> dict[str, list[bool]]:
    """Which experts of each level the loss of one task teaches."""
    mixer.zero_grad()
    mixer(torch.randn(20, 3))[task].sum().backward()
    parts = {"meta": mixer.meta.layers[0].weight, "task": mixer.experts.layers[0].weight}
    return {
        name: [bool(part.any()) for part in weight.grad.unbind(1)]  # type: ignore[union-attr, operator]
        for name, weight in parts.items()
    }


def test_a_task_is_taught_by_its_branch_alone() -> None:
    """Tasks 0 | 1, 2: experts are global, of group 0, of group 1, then of each task.

    The global meta output reads every group's experts, so through it all of them learn.
    """
    mixer = home()
    assert taught(mixer, 0) == {"meta": [True] * 3, "task": [True, True, False, True, False, False]}
    assert taught(mixer, 2) == {"meta": [True] * 3, "task": [True, False, True, False, False, True]}


def test_groups_can_be_named() -> None:
    mixer = home((0, 0, 1))
    assert mixer.asks.tolist() == [1, 1, 2]
    assert taught(mixer, 1)["task"] == [True, True, False, False, True, False]


@pytest.mark.parametrize("groups", [(0, 1), (0, 2, 2), (1, 1, 1)])
def test_groups_that_do_not_fit_the_tasks_are_refused(groups: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="give each of the 3 tasks a number, from 0 up"):
        home(groups)


def test_feature_gates_start_as_the_input_itself() -> None:
    inputs = torch.randn(5, 3)
    views = home().meta_views(inputs)
    torch.testing.assert_close(views, inputs.expand_as(views))


def test_a_feature_gate_gives_each_expert_its_own_view_by_hand() -> None:
    # Rank 1, x = (1, 2). Expert 0: A = (1, 0), so x A = 1, and B = (ln 3, 0): gates 2 * 3/4 and 1.
    # Expert 1: A = 0: the input itself.
    gates = FeatureGates(2, 2, 1)
    torch.nn.init.zeros_(gates.narrow.weight)
    gates.narrow.weight.data[0, 0, 0] = 1.0
    gates.wide.weight.data[0, :, 0] = math.log(3)
    found = gates(torch.tensor([[1.0, 2.0]]))[:, 0]
    torch.testing.assert_close(found, torch.tensor([[1.5, 2.0], [1.0, 2.0]]))


def test_own_experts_learn_even_when_the_gate_ignores_them() -> None:
    mixer = home()
    assert mixer.gates.linear.bias is not None
    with torch.no_grad():
        mixer.gates.linear.bias[1, 4] = -1e4  # task 1 turns away from its own expert
    assert taught(mixer, 1)["task"][4]
