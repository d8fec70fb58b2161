import pytest
import torch

from daogou.errors import ConfigError
from daogou.model.mixers import HoME


def home(groups: tuple[int, ...] = ()) -> HoME:
    torch.manual_seed(0)
    mixer = HoME(3, 3, widths=[4], dropout=0.0, groups=groups, gate_dropout=0.0)
    for gates in (mixer.meta_gates, mixer.gates):
        torch.nn.init.normal_(gates.linear.weight)
    return mixer


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


def test_own_experts_learn_even_when_the_gate_ignores_them() -> None:
    mixer = home()
    with torch.no_grad():
        mixer.gates.linear.bias[1, 4] = -1e4  # task 1 turns away from its own expert
    assert taught(mixer, 1)["task"][4]
