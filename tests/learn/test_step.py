"""One step of the joint model: weights at the fork, one pass below it."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from daogou.artifact.counts import model_of
from daogou.balance import Balancer, Fixed, gram_at
from daogou.features.batch import Batch, make_batch
from daogou.learn.step import backward
from daogou.model.build import Shape
from daogou.model.experts import GroupedLinear
from daogou.model.joint import JointModel
from daogou.model.stages import STAGE_LOSSES
from tests.shops import TOML, USERS, compile_shop, write_shop

SHAPE = Shape(width=8, expert_widths=(8, 8), text_width=8, tower=4)
ENCODERS = ("text", "item", "user")


class Given(Balancer):
    """A balancer that says what it is told and keeps what it saw."""

    def __init__(self, weights: list[float], *, needs_gram: bool = False) -> None:
        super().__init__(len(weights))
        self.weights, self.needs_gram = torch.tensor(weights), needs_gram
        self.seen: list[Tensor | None] = []
        self.losses: list[Tensor] = []

    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        assert not losses.requires_grad
        self.seen.append(gram)
        self.losses.append(losses)
        return self.weights


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[JointModel, Batch]:
    """The small shop's model, without dropout, and a batch that every task learns from."""
    folder: Path = tmp_path_factory.mktemp("step")
    users = [USERS[0], USERS[1] | {"part": "train"}, USERS[2]]  # two genders to tell apart
    shop = write_shop(folder, users=users)
    transform, store = compile_shop(shop)
    torch.manual_seed(0)
    model = model_of(transform, store, shop, SHAPE).eval()
    for name, weight in model.named_parameters():
        if ".gates." in name:
            nn.init.normal_(weight, std=0.5)
    batch = make_batch(
        store, np.arange(5), history_length=4, extra_items=np.array([1, 2, 4]),
        titles=np.array([0, 1]),
    )  # fmt: skip
    assert [task.name for task in model.tasks] == [
        "click", "buy", "match", "profile.gender", "extract",
    ]  # fmt: skip
    return model, batch


N_TASKS = 5


def gradients(model: JointModel, *, below: bool) -> dict[str, Tensor]:
    """Gradients of the encoders, or of everything above them; zero where none came."""
    return {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad.to_dense().clone()
        for name, weight in model.named_parameters()
        if name.startswith(ENCODERS) == below
    }


def step(made: tuple[JointModel, Batch], static: list[float], balancer: Balancer) -> None:
    model, batch = made
    model.zero_grad(set_to_none=True)
    backward(model, batch, torch.tensor(static), balancer)


def direct(made: tuple[JointModel, Batch], weights: list[float]) -> dict[str, Tensor]:
    """Encoder gradients of the plain weighted sum of losses, in one graph."""
    model, batch = made
    model.zero_grad(set_to_none=True)
    encoded = model.encode(batch)
    every = {family: encoded for family in model.heads}
    values = model.losses(every, batch, torch.ones(N_TASKS)).values
    (values * torch.tensor(weights)).sum().backward()
    return gradients(model, below=True)


@pytest.mark.parametrize(
    "weights",
    [[1.0] * 5, [0.5, 2.0, 0.3, 0.1, 3.0], *torch.eye(5).tolist()],
    ids=["even", "uneven", "click", "buy", "match", "profile", "extract"],
)
def test_the_encoders_get_the_gradient_of_the_weighted_sum(
    made: tuple[JointModel, Batch], weights: list[float]
) -> None:
    wanted = direct(made, weights)
    step(made, weights, Fixed(3))
    found = gradients(made[0], below=True)
    assert any((gradient != 0).any() for gradient in wanted.values())
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("loss", ["esmm", "escm2_ips", "escm2_dr"])
@pytest.mark.parametrize("weights", [[1.0, 0.0], [0.0, 1.0], [0.5, 3.0]])
def test_a_stage_that_teaches_earlier_ones_does_so_at_its_own_weight(
    made: tuple[JointModel, Batch], loss: str, weights: list[float]
) -> None:
    plain, batch = made
    model = deepcopy(plain)
    head: Any = model.heads["funnel"]
    head.learnt[1] = STAGE_LOSSES[loss]()
    head.out = GroupedLinear(2, SHAPE.tower, 2)  # escm2_dr says one number more
    every = [*weights, 0.3, 0.1, 0.1]
    wanted = direct((model, batch), every)
    step((model, batch), every, Fixed(3))
    found = gradients(model, below=True)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-7, msg=name)
    own = model.heads.funnel.out.weight.grad[0]  # type: ignore[union-attr]
    step((model, batch), [weights[0], 0.0, 0.3, 0.1, 0.1], Fixed(3))
    without = model.heads.funnel.out.weight.grad[0]  # type: ignore[union-attr]
    assert torch.equal(own, without) == (weights[1] == 0)


def test_every_task_reaches_the_encoders_it_reads(made: tuple[JointModel, Batch]) -> None:
    reached = {"click": 3, "buy": 3, "match": 3, "profile.gender": 3, "extract": 1}
    for place, (name, n_encoders) in enumerate(reached.items()):
        step(made, torch.eye(N_TASKS)[place].tolist(), Fixed(3))
        found = gradients(made[0], below=True)
        touched = {key.split(".")[0] for key, gradient in found.items() if (gradient != 0).any()}
        assert len(touched) == n_encoders, name


@pytest.mark.parametrize("place", range(N_TASKS))
def test_a_task_of_weight_zero_still_trains_its_own_layers(
    made: tuple[JointModel, Batch], place: int
) -> None:
    model, _ = made
    own = {0: "heads.funnel.hidden", 1: "heads.funnel.hidden", 2: "heads.match.bias",
           3: "heads.profile.networks", 4: "heads.extract.out"}[place]  # fmt: skip
    step(made, [1.0] * N_TASKS, Fixed(3))
    whole = gradients(model, below=False)
    weights = [1.0] * N_TASKS
    weights[place] = 0.0
    step(made, weights, Fixed(3))
    found = gradients(model, below=False)
    for name, gradient in whole.items():
        if name.startswith(own):
            assert (gradient != 0).any(), name
            assert torch.equal(found[name], gradient), name


def test_tasks_of_weight_zero_send_nothing_below_the_fork(made: tuple[JointModel, Batch]) -> None:
    model, _ = made
    step(made, [0.0] * N_TASKS, Fixed(3))
    for name, gradient in gradients(model, below=True).items():
        assert (gradient == 0).all(), name
    above = gradients(model, below=False)
    for name, gradient in above.items():
        if name.startswith(("heads.funnel.mixer", "heads.funnel.meet")):
            assert (gradient == 0).all(), name
    assert (above["heads.funnel.out.weight"] != 0).all(2).any()


def test_losses_and_weights_are_told_as_they_were(made: tuple[JointModel, Batch]) -> None:
    model, batch = made
    model.zero_grad(set_to_none=True)
    told = backward(model, batch, torch.tensor([1.0, 1.0, 0.3, 0.1, 0.1]), Given([2.0, 5.0]))
    assert told.weights.tolist() == pytest.approx([2.0, 5.0, 0.3, 0.1, 0.1])
    assert told.gram is None
    assert not told.losses.requires_grad
    encoded = model.encode(batch)
    every = {family: encoded for family in model.heads}
    values = model.losses(every, batch, torch.ones(N_TASKS)).values
    torch.testing.assert_close(told.losses, values.detach())


def test_a_balancer_multiplies_the_static_weights_of_the_funnel_alone(
    made: tuple[JointModel, Batch],
) -> None:
    wanted = direct(made, [0.5 * 3.0, 2.0 * 0.25, 0.3, 0.1, 0.1])
    step(made, [0.5, 2.0, 0.3, 0.1, 0.1], Given([3.0, 0.25]))
    for name, gradient in gradients(made[0], below=True).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-7, msg=name)


def test_taking_a_gram_changes_no_gradient(made: tuple[JointModel, Batch]) -> None:
    step(made, [1.0] * N_TASKS, Given([2.0, 0.5]))
    plain = {below: gradients(made[0], below=below) for below in (True, False)}
    step(made, [1.0] * N_TASKS, Given([2.0, 0.5], needs_gram=True))
    for below, wanted in plain.items():
        for name, gradient in gradients(made[0], below=below).items():
            torch.testing.assert_close(gradient, wanted[name], rtol=1e-5, atol=1e-8, msg=name)


def test_the_gram_is_of_the_unweighted_funnel_at_what_the_mixer_reads(
    made: tuple[JointModel, Batch],
) -> None:
    model, batch = made
    encoded = model.encode(batch)
    funnel = model.heads["funnel"].losses(encoded, batch, torch.ones(2))  # type: ignore[operator]
    wanted = gram_at(funnel.values, funnel.shared)
    balancer = Given([1.0, 1.0], needs_gram=True)
    told = backward(model, batch, torch.tensor([0.5, 7.0, 1.0, 1.0, 1.0]), balancer)
    assert told.gram is not None
    torch.testing.assert_close(told.gram, wanted)
    assert (wanted.diagonal() > 0).all()


def test_a_balancer_hears_nothing_of_a_task_of_weight_zero(
    made: tuple[JointModel, Batch],
) -> None:
    model, batch = made
    balancer = Given([1.0, 1.0], needs_gram=True)
    told = backward(model, batch, torch.tensor([0.0, 7.0, 1.0, 1.0, 1.0]), balancer)
    assert told.gram is not None
    assert told.gram[0, 0] == told.gram[0, 1] == told.gram[1, 0] == 0 < told.gram[1, 1]
    assert balancer.losses[0][0] == 0 < told.losses[0]
    assert balancer.losses[0][1] == told.losses[1] > 0


def test_a_kept_gram_is_used_when_none_is_taken(made: tuple[JointModel, Batch]) -> None:
    model, batch = made
    balancer, kept = Given([1.0, 1.0], needs_gram=True), torch.eye(2)
    told = backward(model, batch, torch.ones(N_TASKS), balancer, kept, take_gram=False)
    assert balancer.seen[0] is kept
    assert told.gram is kept


def test_a_new_gram_is_averaged_with_the_kept_one(made: tuple[JointModel, Batch]) -> None:
    model, batch = made
    balancer, kept = Given([1.0, 1.0], needs_gram=True), 8.0 * torch.eye(2)
    new = backward(model, batch, torch.ones(N_TASKS), balancer).gram
    told = backward(model, batch, torch.ones(N_TASKS), balancer, kept)
    assert new is not None
    assert told.gram is not None
    torch.testing.assert_close(told.gram, new / 2 + 4.0 * torch.eye(2))
    assert balancer.seen[1] is told.gram


def test_a_batch_of_titles_alone_trains_the_text_encoder(tmp_path: Path) -> None:
    toml = "\n".join(TOML.split("[users]")[0].splitlines()[:-1])
    shop = write_shop(tmp_path, users=(), events=(), toml=toml)
    transform, store = compile_shop(shop)
    model = model_of(transform, store, shop, SHAPE)
    assert [task.name for task in model.tasks] == ["extract"]
    batch = make_batch(store, titles=np.array([0, 1]))
    told = backward(model, batch, torch.ones(1), Fixed(3))
    assert told.losses.isfinite().all()
    assert model.text is not None
    assert model.text.table.weight.grad is not None
