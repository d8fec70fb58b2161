"""What rivals say of a shop: of every task they cover, and nothing that test answers teach."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daogou.config import read_shop
from daogou.errors import ConfigError, DataError, MissingExtra
from daogou.features.store import SPLITS, Store
from daogou.features.store.compile import compile_store
from daogou.features.transform import Transform
from daogou.features.transform.fit import fit_transform
from daogou.learn.rivals import RIVALS, rival_scores
from daogou.metrics import auc
from daogou.model import predict
from daogou.schema import Shop
from daogou.tables import Engine, prepare
from tests.shops import write_shop

pytest.importorskip("lightgbm")
pytest.importorskip("sklearn")
Made = tuple[Shop, Store, Transform]


def compiled(shop: Shop, folder: Path) -> Made:
    with Engine() as engine:
        prepare(engine, shop)
        transform = fit_transform(engine, shop)
        return shop, compile_store(engine, shop, transform, folder), transform


@pytest.fixture(scope="module")
def made(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return compiled(read_shop(shop_folder), tmp_path_factory.mktemp("rivals") / "store")


@pytest.fixture(scope="module")
def said(made: Made) -> Mapping[str, Mapping[str, Any]]:
    return {name: rival_scores(name, *made, "test", 0) for name in RIVALS}


def with_arrays(made: Made, **arrays: Any) -> Made:
    shop, store, transform = made
    named = {name.replace("_", "/", 1): array for name, array in arrays.items()}
    return shop, replace(store, arrays={**store.arrays, **named}), transform


def test_every_task_that_a_rival_covers_is_answered_in_its_form(made: Made, said: Any) -> None:
    shop, store, transform = made
    first, last = store.ranges["test"]
    users = np.flatnonzero(store["users/split"] == SPLITS.index("test"))
    for name, rival in RIVALS.items():
        stages = {task.name for task in shop.of_family("funnel")}
        stages |= {f"{task.name}|{task.given}" for task in shop.of_family("funnel") if task.given}
        for stage in stages:
            chances = said[name][stage]
            assert chances.shape == (last - first,)
            assert ((chances >= 0) & (chances <= 1)).all()
        for task in shop.of_family("profile"):
            n_classes = len(transform.classes(task.name.removeprefix("profile.")))
            assert said[name][task.name].shape == (len(users), n_classes)
            assert np.allclose(said[name][task.name].sum(1), 1)
        others = {task.name for task in shop.tasks if task.family in rival.answers}
        assert set(said[name]) == others | stages


def test_popular_products_are_one_list_for_all_and_can_be_read_again(made: Made, said: Any) -> None:
    _, store, _ = made
    blocks = said["popularity"]["match"]
    _, relevant = predict.first_queries(store, "test")
    for _ in range(2):
        whole = np.concatenate(list(blocks))
        assert whole.shape == (len(relevant), store.n_items)
        assert (whole == whole[0]).all()


def test_what_is_learnt_ranks_better_than_chance(made: Made, said: Any) -> None:
    _, store, transform = made
    at = slice(*store.ranges["test"])
    click = np.asarray(store["exposures/labels"])[at, transform.stages.index("click")]
    known = click >= 0
    for name in RIVALS:
        assert auc(said[name]["click"][known], click[known] == 1) > 0.52, name


def test_no_answer_of_the_test_reaches_what_is_said_of_it(made: Made, said: Any) -> None:
    _, store, _ = made
    labels = np.array(store["exposures/labels"])
    first, last = store.ranges["test"]
    labels[first:last] = 1 - np.abs(labels[first:last])
    profile = np.array(store["users/profile"])
    asked = np.asarray(store["users/split"]) == SPLITS.index("test")
    profile[asked] = 0
    turned = with_arrays(made, exposures_labels=labels, users_profile=profile)
    for name in ("popularity", "logistic"):
        again = rival_scores(name, *turned, "test", 0)
        for task, scores in said[name].items():
            if task not in ("match", "extract"):
                assert np.array_equal(again[task], scores), (name, task)


def test_validation_is_not_taught_by_validation(made: Made) -> None:
    _, store, _ = made
    profile = np.array(store["users/profile"])
    found = [rival_scores("logistic", *made, "validation", 0)]
    profile[np.asarray(store["users/split"]) >= SPLITS.index("validation")] = 0
    turned = with_arrays(made, users_profile=profile)
    found.append(rival_scores("logistic", *turned, "validation", 0))
    names = [name for name in found[0] if name.startswith("profile.")]
    assert names
    for name in names:
        assert np.array_equal(found[0][name], found[1][name])


def test_popularity_is_worked_by_hand_on_a_tiny_shop(tmp_path: Path) -> None:
    shop, store, transform = compiled(write_shop(tmp_path / "shop"), tmp_path / "store")
    found = rival_scores("popularity", shop, store, transform, "validation", 0)
    # Product 10 was shown twice in training and clicked once; 3 of 5 exposures were clicked.
    assert found["click"].tolist() == pytest.approx([(1 + 20 * 3 / 5) / 22])
    # Of clicks whose end is known, 10's was followed by buying and 11's was not.
    assert found["buy|click"].tolist() == pytest.approx([(1 + 20 / 2) / 21])
    # Taken in training: 10, 11 and 12 once, and 13 never.
    assert found["match"][0].tolist() == [[1, 1, 1, 0]]
    assert found["profile.gender"].tolist() == [[1.0]]  # of the one user who teaches
    # "red" and "blue" are the colours known before, and the validation title is green.
    assert found["extract"] == [[]]
    trees = rival_scores("lightgbm", shop, store, transform, "test", 0)
    assert {len(trees[name]) for name in ("click", "buy", "buy|click")} == {2}


def test_a_list_of_values_is_answered_value_by_value(tmp_path: Path) -> None:
    toml_rows = [
        {"user_id": 1, "city": "Oslo", "gender": ["a", "b"], "part": "train"},
        {"user_id": 2, "city": "Rome", "gender": ["b"], "part": "train"},
        {"user_id": 3, "city": "Lima", "gender": ["a"], "part": "test"},
    ]
    shop, store, transform = compiled(
        write_shop(tmp_path / "shop", users=toml_rows), tmp_path / "store"
    )
    words = transform.classes("gender")
    for name in RIVALS:
        found = rival_scores(name, shop, store, transform, "test", 0)["profile.gender"]
        assert found.shape == (1, 2)
        assert found[0, words.index("b")] == 1.0  # both who teach have it
    popular = rival_scores("popularity", shop, store, transform, "test", 0)
    assert popular["profile.gender"][0, words.index("a")] == 0.5


def test_an_unknown_rival_and_an_unknown_split_are_named(made: Made) -> None:
    with pytest.raises(ConfigError, match="did you mean 'lightgbm'"):
        rival_scores("lightgmb", *made, "test", 0)
    with pytest.raises(DataError, match=r"no 'train' here.*rivals learn"):
        rival_scores("popularity", *made, "train", 0)


@pytest.mark.parametrize(("name", "library"), [("lightgbm", "lightgbm"), ("logistic", "sklearn")])
def test_a_missing_library_matters_only_to_who_needs_it(
    made: Made, monkeypatch: pytest.MonkeyPatch, name: str, library: str
) -> None:
    for each in [each for each in sys.modules if each.split(".")[0] == library]:
        monkeypatch.setitem(sys.modules, each, None)
    monkeypatch.setitem(sys.modules, library, None)
    assert rival_scores("popularity", *made, "test", 0)
    with pytest.raises(MissingExtra, match=rf"{library}.*pip install 'daogou\[baselines\]'"):
        rival_scores(name, *made, "test", 0)
