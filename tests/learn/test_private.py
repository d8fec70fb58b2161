from typing import Any

import numpy as np
import pytest
import torch

from daogou.errors import ConfigError
from daogou.features.batch import make_batch
from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.learn.loop import Learner
from daogou.learn.private import (
    Privacy,
    add_clipped,
    generator,
    optimiser,
    privacy_of,
    private_step,
    spent,
    steps_left,
    uncounted,
    units_of,
)
from daogou.learn.settings import settings_of
from daogou.learn.step import backward
from daogou.learn.terms import Terms, travelling
from daogou.learn.variant import varied
from daogou.metrics import epsilon
from daogou.model.dropout import Dropout
from daogou.model.experts import Gates
from daogou.schema import Shop
from tests.learn.parties import QUICK
from tests.shops import compile_shop, write_shop

Made = tuple[Shop, Transform, Store]
TERMS = Terms(privacy={})
EVERYBODY = Privacy(noise=0.0, clip=1e9, share=1.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("private")
    model = {**QUICK["model"], "dropout": 0.0, "id_dropout": 0.0, "event_dropout": 0.0}
    shop = varied(write_shop(folder), model=model, training=QUICK["fit"])
    return shop, *compile_shop(shop)


def learner_of(made: Made, privacy: Privacy) -> Learner:
    shop, transform, store = made
    settings, shape = settings_of(shop)
    torch.manual_seed(0)
    learner = Learner(uncounted(transform, store, shop.tasks, shape), settings)
    for module in learner.model.modules():  # nothing is dropped, so that a gradient is one number
        if isinstance(module, Dropout):
            module.gone = 0
        elif isinstance(module, Gates):
            module.dropout = 0.0
    assert learner.model.text is not None
    learner.model.text.channel_dropout = 0.0
    named = dict(learner.model.named_parameters())
    learner.adam = optimiser((named[n] for n in travelling(learner.model, TERMS)), privacy)
    return learner


def lone_gradient(learner: Learner, store: Store, rows: Any) -> dict[str, torch.Tensor]:
    """What autograd says of these exposures alone, of the weights that travel."""
    learner.model.zero_grad(set_to_none=True)
    learner.model.train()
    batch = make_batch(store, rows, history_length=learner.settings.history_length)
    backward(learner.model, batch, learner.static, learner.balancer)
    named = dict(learner.model.named_parameters())
    found = {}
    for name in travelling(learner.model, TERMS):
        gradient = named[name].grad
        whole = torch.zeros_like(named[name]) if gradient is None else gradient
        found[name] = (whole.to_dense() if whole.is_sparse else whole).clone()
    learner.model.zero_grad(set_to_none=True)
    return found


def length(gradient: dict[str, torch.Tensor]) -> float:
    return float(torch.cat([each.flatten() for each in gradient.values()]).double().norm())


def test_units_are_users_with_all_their_rows_or_single_rows(made: Made) -> None:
    store = made[2]  # user 1 has rows 0, 1 and 4, user 2 rows 2 and 3
    users = units_of(store, "user")
    assert users.rows.tolist() == [0, 1, 4, 2, 3]
    assert users.start.tolist() == [0, 3, 5]
    assert users.user.tolist() == [1, 2]
    examples = units_of(store, "example")
    assert len(examples) == 5
    assert examples.user.tolist() == [1, 1, 2, 2, 1]


def test_a_unit_s_length_is_that_of_its_own_gradient(made: Made) -> None:
    _, _, store = made
    learner = learner_of(made, EVERYBODY)
    names = travelling(learner.model, TERMS)
    named = dict(learner.model.named_parameters())
    weights = {name: named[name] for name in names}
    for row in range(5):
        alone = lone_gradient(learner, store, np.array([row]))
        total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        backward(
            learner.model,
            make_batch(store, np.array([row]), history_length=learner.settings.history_length),
            learner.static,
            learner.balancer,
        )
        found = add_clipped(total, weights, names, clip=0.01)
        learner.model.zero_grad(set_to_none=True)
        assert found == pytest.approx(length(alone), rel=1e-5)
        assert length(total) == pytest.approx(min(found, 0.01), rel=1e-5)
        for name, each in total.items():
            assert torch.allclose(each, alone[name] * min(1.0, 0.01 / found), atol=1e-7)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_gradient_that_is_no_number_is_not_added_uncut(wrong: float) -> None:
    weights = {"w": torch.nn.Parameter(torch.zeros(2))}
    weights["w"].grad = torch.tensor([wrong, 1e6])
    total = {"w": torch.ones(2)}
    add_clipped(total, weights, {"w": 0}, clip=0.01)
    assert total["w"].tolist() == [1.0, 1.0]


def test_without_noise_and_clip_everybody_s_step_is_the_sum_of_their_gradients(made: Made) -> None:
    _, _, store = made
    learner = learner_of(made, EVERYBODY)
    units = units_of(store, "example")
    privacy = Privacy(unit="example", noise=0.0, clip=1e9, share=1.0)
    learner.settings = learner.settings.__class__(**{**vars(learner.settings), "extra_items": 0})
    wanted: dict[str, torch.Tensor] = {}
    for row in range(5):
        for name, each in lone_gradient(learner, store, np.array([row])).items():
            wanted[name] = wanted.get(name, torch.zeros_like(each)) + each / 5
    kept: dict[str, torch.Tensor] = {}
    named = dict(learner.model.named_parameters())
    names = travelling(learner.model, TERMS)

    def keep(*_: Any) -> None:
        kept.update({name: named[name].grad.clone() for name in names})  # type: ignore[union-attr]

    learner.adam.register_step_pre_hook(keep)
    assert private_step(learner, store, units, privacy, names, generator("s", 0)) == 5
    for name in names:
        assert torch.allclose(kept[name], wanted[name], atol=1e-6), name


def test_noise_is_as_large_as_it_says_and_covers_every_row_that_travels(made: Made) -> None:
    _, _, store = made
    privacy = Privacy(noise=2.0, clip=0.5, share=0.0)  # nobody is drawn: noise alone
    learner = learner_of(made, privacy)
    names = travelling(learner.model, TERMS)
    named = dict(learner.model.named_parameters())
    kept: list[torch.Tensor] = []

    def keep(*_: Any) -> None:
        kept.extend(named[name].grad.flatten() for name in names)  # type: ignore[union-attr]

    learner.adam.register_step_pre_hook(keep)
    units = units_of(store, "user")
    assert private_step(learner, store, units, privacy, names, generator("s")) == 0
    whole = torch.cat([each.flatten() for each in kept])
    assert float(whole.std()) == pytest.approx(1.0, rel=0.05)  # 2.0 times 0.5
    assert bool((whole != 0).all())


def test_a_user_s_row_moves_by_their_own_gradient_and_the_unknown_user_s_not(made: Made) -> None:
    _, _, store = made
    learner = learner_of(made, EVERYBODY)
    assert learner.model.user is not None
    names = travelling(learner.model, TERMS)
    assert "user.ids.weight" not in names
    before = learner.model.user.ids.weight.detach().clone()
    private_step(learner, store, units_of(store, "user"), EVERYBODY, names, generator("s"))
    moved = (learner.model.user.ids.weight != before).any(1).tolist()
    assert moved == [False, True, True]
    other = learner_of(made, EVERYBODY)
    assert other.model.user is not None
    examples = Privacy(unit="example", noise=0.0, clip=1e9, share=1.0)
    private_step(other, store, units_of(store, "example"), examples, names, generator("s"))
    assert torch.equal(other.model.user.ids.weight.detach(), before)


def test_units_come_by_chance_and_a_secret_draws_them(made: Made) -> None:
    _, _, store = made
    privacy = Privacy(unit="example", share=0.4)
    learner = learner_of(made, privacy)
    names = travelling(learner.model, TERMS)
    units = units_of(store, "example")
    drawn = [
        private_step(learner, store, units, privacy, names, generator("secret", step))
        for step in range(30)
    ]
    assert 0 in drawn or 1 in drawn
    assert np.mean(drawn) == pytest.approx(2.0, abs=0.6)
    one, other = (torch.rand(4, generator=generator(word, 3)) for word in ("secret", "guess"))
    assert not torch.equal(one, other)
    assert torch.equal(one, torch.rand(4, generator=generator("secret", 3)))


def test_a_model_without_counts_is_told_nothing_of_labels(made: Made) -> None:
    model = learner_of(made, EVERYBODY).model
    buffers = dict(model.named_buffers())
    assert float(buffers["heads.match.tally.counts"].abs().sum()) == 0.0
    assert len(set(buffers["heads.match.positive_share"].tolist())) == 1
    assert not [n for n, each in buffers.items() if "meet.rates" in n and bool(each.any())]


def test_a_budget_pays_for_so_many_steps() -> None:
    privacy = Privacy(noise=1.0, share=0.1, steps=50, delta=1e-3, budget=1.5)
    left = steps_left(privacy, 1000, 0)
    assert 0 < left < 50
    assert epsilon(1.0, 0.1, left, 1e-3) <= 1.5 < epsilon(1.0, 0.1, left + 1, 1e-3)
    assert steps_left(privacy, 1000, left) == 0
    assert steps_left(Privacy(steps=50), 1000, 10**6) == 50
    said = spent(privacy, 1000, left)
    assert said["epsilon"] == epsilon(1.0, 0.1, left, 1e-3)
    assert spent(Privacy(), 400, 1)["delta"] == 1 / 400


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"unit": "item"}, r"unit: no 'item' here"),
        ({"noise": -1.0}, r"noise: -1.0; give 0 or more"),
        ({"clip": 0.0}, r"clip: 0; give more than that"),
        ({"share": 2.0}, r"share: 2.0; give 1 or less"),
        ({"epsilon": 2.0}, r"epsilon: 2.0; is the promise of labels alone"),
        ({"unit": "label"}, r"epsilon: 0; give more than that"),
        (
            {"unit": "label", "epsilon": 1.0, "clip": 2.0},
            r'clip: says nothing where unit is "label"',
        ),
    ],
)
def test_a_wrong_setting_is_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"federate.privacy.{message}"):
        privacy_of(table)
