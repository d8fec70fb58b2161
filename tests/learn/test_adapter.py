"""Changes of low rank: nothing at first, all that learns, and gone into the weights at the end."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from daogou import artifact
from daogou.artifact import Artifact
from daogou.learn.adapter import LowRank, adapt, freeze, settle
from daogou.learn.loop import Learner
from daogou.learn.onto import ADAPTERS, HEADS, SCALE, SPREAD, USUAL, Onto
from daogou.learn.rates import find_scale
from daogou.learn.settings import Settings
from daogou.model.joint import JointModel

SETTINGS = Settings(rows_per_step=256, history_length=20, extra_items=32)


@pytest.fixture
def made(made_run: Path) -> Artifact:
    return artifact.load(made_run, verify=False)


def taught(made: Artifact, onto: Onto) -> tuple[Learner, dict[str, torch.Tensor]]:
    """A learner after two steps, and the weights before them."""
    learner = Learner(made.model, SETTINGS, onto=onto)
    plan = learner.plan(made.store, 0, 0)
    before = {name: each.detach().clone() for name, each in made.model.named_parameters()}
    for step in range(2):
        learner.step(learner.batch(made.store, plan, step))
    return learner, before


def moved(model: JointModel, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, each in model.named_parameters() if not torch.equal(each, before[name])}


def test_a_change_is_a_product_of_two_by_hand() -> None:
    change = LowRank(torch.zeros(2, 3), rank=1)
    weight = torch.ones(2, 3)
    assert torch.equal(change(weight), weight)
    with torch.no_grad():
        change.a.copy_(torch.tensor([[1.0, 0.0, 2.0]]))
        change.b.copy_(torch.tensor([[1.0], [-1.0]]))
    assert change(weight).tolist() == [[2, 1, 3], [0, 1, -1]]
    assert LowRank(torch.zeros(2, 3), rank=8).a.shape == (2, 3)  # no rank above the weight's own


def test_frozen_encoders_do_not_move_and_heads_do(made: Artifact, made_run: Path) -> None:
    learner, before = taught(made, Onto(made_run, learns=HEADS))
    went = moved(learner.model, before)
    assert went
    assert all(name.startswith("heads.") for name in went)


def test_of_adapted_encoders_ids_norms_and_changes_move(made: Artifact, made_run: Path) -> None:
    learner, before = taught(made, Onto(made_run, learns=ADAPTERS))
    went = {name for name in moved(learner.model, before) if not name.startswith("heads.")}
    kinds = ("parametrizations.weight.0", "norm", "last.", "read.4.", "ids.weight")
    assert went
    assert not [name for name in went if not any(kind in name for kind in kinds)]
    assert {"item.ids.weight", "item.norm.weight"} <= went
    assert any(name.endswith("weight.0.b") for name in went)


def test_settled_it_answers_alike_and_is_an_ordinary_model(made: Artifact) -> None:
    names = set(made.model.state_dict())
    adapt(made.model)
    layer = made.model.item.mix  # type: ignore[union-attr]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.parametrizations.weight[0].b.normal_()  # type: ignore[union-attr, index, operator]
    inputs = torch.randn(4, layer.in_features)
    answer = layer(inputs)
    settle(made.model)
    torch.testing.assert_close(layer(inputs), answer)
    assert set(made.model.state_dict()) == names


def test_frozen_is_all_of_every_encoder(made: Artifact) -> None:
    freeze(made.model)
    learns = [name for name, each in made.model.named_parameters() if each.requires_grad]
    assert learns
    assert all(name.startswith("heads.") for name in learns)


def test_a_pull_leads_dense_weights_back_to_where_they_began(
    made: Artifact, made_run: Path
) -> None:
    learner, before = taught(made, Onto(made_run, pull=100.0))
    far = {name: (each - before[name]).abs().sum()
           for name, each in learner.model.named_parameters()}  # fmt: skip
    learner._draw_back()  # 0.002 times 100: a fifth of the way
    for weight, start in learner.starts:
        name = next(n for n, each in learner.model.named_parameters() if each is weight)
        now = (weight - start).abs().sum()
        torch.testing.assert_close(now, 0.8 * far[name])
    rows = {id(each) for group in learner.rows.param_groups for each in group["params"]}
    assert not rows & {id(weight) for weight, _ in learner.starts}


def test_counts_are_measured_as_where_the_weights_learnt(
    made: Artifact, made_run: Path, tmp_path: Path
) -> None:
    """A repeat that is 1 there is 1 here, whatever is usual here; what is NaN keeps the own."""
    meet = made.model.heads["funnel"].meet  # type: ignore[union-attr]
    rates = meet.rates  # type: ignore[union-attr]
    counts = torch.tensor([[1.0] * rates.n_outputs, [3.0] * rates.n_outputs])  # type: ignore[union-attr, operator, list-item]
    own = torch.stack([torch.full((len(counts[0]),), 2.0), torch.full((len(counts[0]),), 0.5)])
    rates.known = (counts - own[0]) / own[1]  # type: ignore[union-attr]
    rates.scale = own  # type: ignore[union-attr]
    usual = torch.full_like(meet.usual, 7.0)  # type: ignore[union-attr, arg-type]
    usual[0] = torch.nan
    first = meet.usual[0].clone()  # type: ignore[union-attr, index, operator]
    scale = torch.tensor([[1.0], [2.0]]).expand_as(own).clone()
    scale[:, -1] = torch.nan
    told = {USUAL: usual, SPREAD: torch.full_like(usual, 2.0), SCALE: scale}
    weights = load_file(made_run / "model.safetensors")
    save_file(weights | told, tmp_path / "model.safetensors")
    Learner(made.model, SETTINGS, onto=Onto(tmp_path))
    assert meet.usual[0] == first  # type: ignore[union-attr, index]
    assert (meet.usual[1:] == 7).all()  # type: ignore[union-attr, index]
    assert (meet.spread == 2).all()  # type: ignore[union-attr]
    # Counts 1 and 3 by a mean of 1 and a spread of 2 are 0 and 1; the last stays as it was.
    assert rates.known[:, 0].tolist() == [0, 1]  # type: ignore[union-attr, index]
    assert rates.known[:, -1].tolist() == [-2, 2]  # type: ignore[union-attr, index]


def test_a_run_that_was_measured_as_another_is_known_to_be(made: Artifact) -> None:
    rates = made.model.heads["funnel"].meet.rates  # type: ignore[union-attr]
    find_scale(made.model, made.store)
    own = rates.scale.clone()  # type: ignore[union-attr, operator]
    assert own[1].min() > 0
    theirs = torch.stack([own[0] - 0.5, 3 * own[1]])
    rates.measure_by(theirs)  # type: ignore[union-attr, operator]
    rates.scale = torch.zeros_like(own)  # type: ignore[union-attr]
    before = {name: each.clone() for name, each in made.model.state_dict().items()}
    find_scale(made.model, made.store)
    torch.testing.assert_close(rates.scale, theirs, rtol=1e-4, atol=1e-4)  # type: ignore[union-attr]
    assert all(torch.equal(each, before[name]) for name, each in made.model.state_dict().items())
