import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daogou import artifact
from daogou.errors import ConfigError
from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.learn import silo
from daogou.learn.canary import ask, invented, joined
from daogou.learn.loop import Learner
from daogou.learn.private import (
    Privacy,
    generator,
    optimiser,
    private_step,
    spent,
    uncounted,
    units_of,
)
from daogou.learn.settings import settings_of
from daogou.learn.terms import Terms, travelling
from daogou.learn.variant import varied
from daogou.model.joint import JointModel
from daogou.schema import Shop, Task
from tests import shops as tiny
from tests.learn.parties import QUICK, write_parties
from tests.learn.test_randomised import together
from tests.shops import compile_shop, write_shop

Made = tuple[Shop, Transform, Store]
N = 48
CLICK = Task("click", "funnel", loss="conditional")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The tiny shop with more products, each of which was shown once in training."""
    more = [
        tiny.item(key, f"red {key}", "train", category=f"c{key}") for key in range(100, 100 + N)
    ]
    shown = [tiny.event(10 + at / N, 1, 100 + at, "shown", f"m{at}") for at in range(N)]
    shop = write_shop(
        tmp_path_factory.mktemp("canaries"),
        items=[*tiny.ITEMS, *more],
        events=[*tiny.EVENTS, *shown],
    )
    model = {**QUICK["model"], "dropout": 0.0, "id_dropout": 0.0}
    shop = varied(shop, model=model, training={**QUICK["fit"], "rows_per_step": 24})
    return shop, *compile_shop(shop)


def canaries_of(made: Made, seed: str = "s") -> tuple[Store, Any]:
    _, transform, store = made
    random = generator(seed)
    found = invented(store, transform, [CLICK], N, random)
    return found, torch.randint(2, (N,), generator=random).numpy() == 1


def test_canaries_are_of_products_alone_and_nothing_of_the_shop_s_exposures(made: Made) -> None:
    _, transform, store = made
    canaries, _ = canaries_of(made)
    assert canaries.ranges["train"] == (0, N)
    item = canaries["exposures/item"]
    assert len(set(item.tolist())) == N and item.min() > 0
    assert set(canaries["exposures/query"].tolist()) == {-1}
    labels = canaries["exposures/labels"]
    assert set(labels[:, 0].tolist()) == {0, 1} and set(labels[:, 1].tolist()) == {-1}
    garbled = {
        name: np.zeros_like(each)
        for name, each in store.arrays.items()
        if name.startswith("exposures/") and name != "exposures/time"
    }
    other = (made[0], transform, replace(store, arrays={**store.arrays, **garbled}))
    for name, each in canaries_of(other)[0].arrays.items():
        assert np.array_equal(each, canaries[name]), name


def test_they_stand_at_the_end_of_training_and_nothing_else_moves(made: Made) -> None:
    _, _, store = made
    canaries, teach = canaries_of(made)
    whole = joined(store, canaries, np.flatnonzero(teach))
    first, last = store.ranges["train"]
    assert whole.ranges["train"] == (first, last + teach.sum())
    for name in (each for each in store.arrays if each.startswith("exposures/")):
        for split in ("validation", "test"):
            rows, then = slice(*store.ranges[split]), slice(*whole.ranges[split])
            assert np.array_equal(store[name][rows], whole[name][then])
        assert np.array_equal(whole[name][last : last + teach.sum()], canaries[name][teach])


def test_what_was_learnt_by_heart_proves_an_epsilon_and_what_was_not_learnt_none(
    made: Made,
) -> None:
    shop, transform, store = made
    canaries, teach = canaries_of(made)
    settings, shape = settings_of(shop)
    torch.manual_seed(0)
    learner = Learner(uncounted(transform, store, shop.tasks, shape), settings)
    assert ask(learner.model, canaries, teach, 0.01)["epsilon"] == 0.0
    whole = joined(store, canaries, np.flatnonzero(teach))
    for epoch in range(30):
        learner.epoch(whole, learner.plan(whole, 0, epoch), (0, epoch))
    found = ask(learner.model, canaries, teach, 0.001)
    assert found["auc"] > 0.9 and found["epsilon"] > 0.5
    assert found["canaries"] == N and found["right"] <= found["guesses"] <= N


def test_no_more_is_proved_of_private_steps_than_they_spend(made: Made) -> None:
    shop, transform, store = made
    settings, shape = settings_of(shop)
    privacy = Privacy(unit="example", noise=1.0, share=0.2, delta=1e-3)
    proved, steps = [], 3
    for seed in ("a", "b"):
        canaries, teach = canaries_of(made, seed)
        torch.manual_seed(0)
        learner = Learner(uncounted(transform, store, shop.tasks, shape), settings)
        names = travelling(learner.model, Terms(privacy={"unit": "example"}))
        named = dict(learner.model.named_parameters())
        learner.adam = optimiser((named[name] for name in names), privacy)
        whole = joined(store, canaries, np.flatnonzero(teach))
        units = units_of(whole, "example")
        for step in range(steps):
            private_step(learner, whole, units, privacy, names, generator(seed, "step", step))
        proved.append(ask(learner.model, canaries, teach, 1e-3)["epsilon"])
    # Each may be wrong with a chance of .05, both with one of .0025.
    assert min(proved) <= spent(privacy, len(units), steps)["epsilon"]


def test_without_products_there_is_nothing_to_tell_them_apart(made: Made) -> None:
    _, transform, store = made
    none = replace(store, arrays={**store.arrays, "items/id": np.zeros(1, dtype=np.int32)})
    with pytest.raises(ConfigError, match=r"federate.canaries: needs products and a stage"):
        invented(none, transform, [CLICK], 4, generator("s"))
    with pytest.raises(ConfigError, match=r"federate.canaries: needs products and a stage"):
        invented(store, transform, [], 4, generator("s"))


@pytest.mark.parametrize(
    "privacy", [None, {"steps": 1, "share": 1.0}, {"unit": "label", "epsilon": 1.0}]
)
def test_a_federation_says_what_its_canaries_prove_and_counts_none_of_them(
    tmp_path: Path, privacy: dict[str, Any] | None
) -> None:
    shops = write_parties(tmp_path / "parties")
    together(tmp_path / "run", shops, privacy, canaries=16)
    document = json.loads((tmp_path / "run" / "federate.json").read_text())
    for name in shops:
        found = document["canaries"][name]
        assert found["canaries"] == 16 and found["confidence"] == 0.95
        assert found["epsilon"] >= 0.0 and 0.0 <= found["auc"] <= 1.0
        manifest = json.loads((tmp_path / "run" / "shops" / name / "manifest.json").read_text())
        assert manifest["federated"]["canaries"] == found
        assert document["rows"][name] == 5
        assert document["validation"][name]["click"]["n"] == 1
        if privacy is not None:
            n_units = 5 if privacy.get("unit") == "label" else 2
            assert document["privacy"][name]["units"] == n_units


def test_canaries_are_asked_of_what_left_the_shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shops = write_parties(tmp_path / "parties")
    asked: list[dict[str, torch.Tensor]] = []

    def look(model: JointModel, *rest: Any) -> Any:
        asked.append({name: each.detach().clone() for name, each in model.named_parameters()})
        return ask(model, *rest)

    monkeypatch.setattr(silo, "ask", look)
    together(tmp_path / "run", shops, None, canaries=16, items="home")
    kept = artifact.load(tmp_path / "run" / "shops" / next(iter(shops))).model
    shared = travelling(kept, Terms(items="home"))
    weights = dict(kept.named_parameters())
    assert "item.ids.weight" not in shared and shared
    assert all(asked[0][name].equal(weights[name]) for name, first in shared.items() if not first)
    assert not asked[0]["item.ids.weight"].equal(weights["item.ids.weight"])  # it learnt at home
