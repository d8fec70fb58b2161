"""What every mixer in the table must do."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from daogou.model.mixers import MIXERS
from tests.laws import check_rows_are_apart

N_INPUTS, WIDTH = 6, 8
Weights = Mapping[str, Tensor]


def make(name: str, n_tasks: int, *, dropout: float = 0.0) -> nn.Module:
    """A mixer with gates that are no longer uniform; HoME with all tasks in one group."""
    torch.manual_seed(0)
    options = {"groups": (0,) * n_tasks} if name == "home" else {}
    mixer = MIXERS[name](N_INPUTS, n_tasks, widths=[5, WIDTH], dropout=dropout, **options)
    assert isinstance(mixer, nn.Module)
    for weight in mixer.parameters():
        nn.init.normal_(weight, std=0.5)
    return mixer


def blocks(tensor: Tensor, order: list[int], dim: int = 0) -> Tensor:
    """A tensor whose blocks along a dimension, one per task, come in another order."""
    pieces = tensor.chunk(len(order), dim)
    return torch.cat([pieces[task] for task in order], dim)


def rename_single(weights: Weights, order: list[int]) -> Weights:
    return {
        name: blocks(weight, order, dim=1) if ".layers." in name else weight
        for name, weight in weights.items()
    }


def rename_nothing(weights: Weights, order: list[int]) -> Weights:
    return weights


def rename_mmoe(weights: Weights, order: list[int]) -> Weights:
    return {
        name: blocks(weight, order, dim=weight.dim() - 2) if name.startswith("gates.") else weight
        for name, weight in weights.items()
    }


def rename_ple(weights: Weights, order: list[int]) -> Weights:
    """Own experts and gates move with their task, and every gate's entries with the experts."""
    n_shared = 2
    n_own = weights["experts.0.layers.0.weight"].shape[1] - n_shared
    renamed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name.startswith("gates."):  # [I, T, E] and [T, E]: tasks, then a shared branch if any
            n_tasks = len(order)
            moved = [*order, *range(n_tasks, weight.shape[-2])]
            weight = weight.index_select(weight.dim() - 2, torch.tensor(moved))
            own = blocks(weight[..., :n_own], order, dim=weight.dim() - 1)
            renamed[name] = torch.cat([own, weight[..., n_own:]], dim=-1)
        elif ".layers." in name:
            own = blocks(weight[:, :n_own], order, dim=1)
            renamed[name] = torch.cat([own, weight[:, n_own:]], dim=1)
        else:
            renamed[name] = weight
    return renamed


def rename_cross_stitch(weights: Weights, order: list[int]) -> Weights:
    return {
        name: weight[:, order][:, :, order] if name == "stitch" else weight[:, order]
        for name, weight in weights.items()
    }


def rename_adatt(weights: Weights, order: list[int]) -> Weights:
    """As in PLE; every gate sees every expert, and a task's share of its own moves with it."""
    n_tasks = len(order)
    moved = [*order, *range(n_tasks, weights["experts.0.layers.0.weight"].shape[1])]
    renamed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name.startswith("gates."):
            tasks = weight.index_select(weight.dim() - 2, torch.tensor(order))
            renamed[name] = tasks[..., moved]
        elif ".layers." in name:
            renamed[name] = weight[:, moved]
        else:
            renamed[name] = weight[order]
    return renamed


def rename_stem(weights: Weights, order: list[int]) -> Weights:
    moved = [*order, len(order)]  # own experts, then the shared one
    return {
        name: weight[..., order, :][..., moved]
        if name.startswith("gates.")
        else weight[:, order]
        if name.startswith("own.")
        else weight
        for name, weight in weights.items()
    }


def rename_home(weights: Weights, order: list[int]) -> Weights:
    """Of one group: the global and the group's expert stand before the tasks' own."""
    moved = [0, 1, *(2 + task for task in order)]
    renamed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name.startswith("gates."):
            renamed[name] = weight[..., order, :][..., moved]
        elif name.startswith(("views.", "experts.")):
            renamed[name] = weight[:, moved]
        elif name.startswith("self_gate."):
            renamed[name] = weight[..., order, :]
        else:
            renamed[name] = weight
    return renamed


def rename_pepnet(weights: Weights, order: list[int]) -> Weights:
    return {
        name: weight[..., order, :] if name.startswith(("networks.", "person_out.")) else weight
        for name, weight in weights.items()
    }


# How each mixer's weights are named anew when its tasks are: a new mixer adds a line.
RENAMED: Mapping[str, Callable[[Weights, list[int]], Weights]] = {
    "single": rename_single,
    "shared_bottom": rename_nothing,
    "mmoe": rename_mmoe,
    "ple": rename_ple,
    "cross_stitch": rename_cross_stitch,
    "adatt": rename_adatt,
    "stem": rename_stem,
    "home": rename_home,
    "pepnet": rename_pepnet,
    "star": rename_nothing,
}
# Mixers whose tasks stand in the funnel's order: renaming them means another model.
ORDERED = {"aitm"}


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("n_tasks", [1, 2, 5])
@pytest.mark.parametrize("n_rows", [0, 1, 7])
def test_gives_one_representation_per_task_and_row(name: str, n_tasks: int, n_rows: int) -> None:
    mixer = make(name, n_tasks)
    assert mixer.n_outputs == WIDTH
    assert mixer(torch.randn(n_rows, N_INPUTS)).shape == (n_tasks, n_rows, WIDTH)


@pytest.mark.parametrize("name", MIXERS)
def test_row_i_depends_on_row_i_alone(name: str) -> None:
    check_rows_are_apart(make(name, 3).eval(), torch.randn(5, N_INPUTS), rows_of=1)


def test_every_mixer_ignores_the_order_of_tasks_or_says_that_it_does_not() -> None:
    assert set(MIXERS) == set(RENAMED) | ORDERED
    assert not set(RENAMED) & ORDERED


@pytest.mark.parametrize("name", RENAMED)
def test_renaming_the_tasks_permutes_the_output(name: str) -> None:
    mixer, renamed = make(name, 3).eval(), make(name, 3).eval()
    order = [2, 0, 1]
    renamed.load_state_dict(dict(RENAMED[name](mixer.state_dict(), order)))
    inputs = torch.randn(5, N_INPUTS)
    torch.testing.assert_close(renamed(inputs), mixer(inputs)[order])


@pytest.mark.parametrize("name", sorted(ORDERED))
def test_a_task_does_not_depend_on_those_after_it(name: str) -> None:
    mixer, inputs = make(name, 3).eval(), torch.randn(5, N_INPUTS)
    before = mixer(inputs)
    names = [f"{part}.1." for part in ("info", "attend")]
    with torch.no_grad():
        for weight_name, weight in mixer.named_parameters():
            if any(weight_name.startswith(each) for each in names):
                weight.add_(1.0)
            elif weight_name.startswith("networks."):
                weight[:, 2] += 1.0
    after = mixer(inputs)
    assert torch.equal(after[:2], before[:2])
    assert not torch.allclose(after[2], before[2])


@pytest.mark.parametrize("name", MIXERS)
def test_the_gradient_reaches_every_weight_of_every_expert(name: str) -> None:
    mixer = make(name, 3).eval()
    outputs = mixer(torch.randn(50, N_INPUTS))
    (outputs * torch.randn(outputs.shape)).sum().backward()
    for weight_name, weight in mixer.named_parameters():
        assert weight.grad is not None, weight_name
        by_expert = weight.grad.view(1, -1)
        if weight.dim() == 3:  # [I, E, O]
            by_expert = weight.grad.transpose(0, 1).flatten(1)
        assert (by_expert.abs().amax(1) > 0).all(), weight_name


@pytest.mark.parametrize("name", MIXERS)
def test_is_finite_with_dropout_and_odd_inputs(name: str) -> None:
    mixer = make(name, 3, dropout=0.9).train()
    inputs = torch.cat([torch.randn(200, N_INPUTS), torch.zeros(1, N_INPUTS)])
    inputs[0] = 1e4
    outputs = mixer(inputs)
    assert outputs.isfinite().all()
    outputs.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in mixer.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("name", MIXERS)
def test_answers_are_the_same_twice_outside_training(name: str) -> None:
    mixer = make(name, 2, dropout=0.5).eval()
    inputs = torch.randn(5, N_INPUTS)
    assert torch.equal(mixer(inputs), mixer(inputs))
