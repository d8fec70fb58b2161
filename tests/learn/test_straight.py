"""Straight paths are solved by labels that may teach, weighed by those that may choose."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from daogou import artifact
from daogou.artifact import Artifact
from daogou.features.store import SPLITS, Store
from daogou.learn.finish import finish
from daogou.learn.straight import LEAST, PRECISIONS, choose_straight, teach_straight, weigh
from daogou.learn.validate import validation_losses
from daogou.model.heads.profile import ProfileHead
from daogou.model.joint import JointModel

LENGTH = 50


@pytest.fixture(scope="module")
def loaded(made_run: Path) -> Artifact:
    return artifact.load(made_run, verify=False)


def fresh(loaded: Artifact) -> JointModel:
    return deepcopy(loaded.model)


def head_of(model: JointModel) -> ProfileHead:
    return cast(ProfileHead, model.heads["profile"])


def buffers(model: JointModel) -> dict[str, torch.Tensor]:
    return {name: each.clone() for name, each in head_of(model).named_buffers()}


def changed(store: Store, split: str) -> Store:
    """The same store with the profiles of one split's users turned round."""
    profile = np.array(store["users/profile"])
    rows = np.flatnonzero(store["users/split"] == SPLITS.index(split))
    profile[rows] = np.maximum(profile[rows].max(0) - profile[rows], -1)
    return replace(store, arrays={**store.arrays, "users/profile": profile})


def test_finishing_what_is_finished_changes_no_bit(loaded: Artifact) -> None:
    model = fresh(loaded)
    done = finish(model, loaded.store, "platt", history_length=LENGTH)
    for name, weight in loaded.model.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name
    assert artifact.plain(done.straight) == loaded.manifest["fit"]["straight"]
    assert set(done.straight) == {"profile.gender", "profile.age_band", "profile.tier"}


def test_no_label_of_the_test_split_moves_a_path(loaded: Artifact) -> None:
    model = fresh(loaded)
    finish(model, changed(loaded.store, "test"), "platt", history_length=LENGTH)
    for name, weight in buffers(loaded.model).items():
        assert torch.equal(weight, buffers(model)[name]), name
    finish(model, changed(loaded.store, "validation"), "platt", history_length=LENGTH)
    assert not torch.equal(buffers(model)["straight_0"], buffers(loaded.model)["straight_0"])


def test_labels_that_choose_do_not_teach_until_the_choice_is_made(loaded: Artifact) -> None:
    """Whatever the choosing labels say, there is one solution for each precision."""
    solutions: dict[tuple[int, float], torch.Tensor] = {}
    for store in (loaded.store, changed(loaded.store, "validation")):
        model = fresh(loaded)
        found = choose_straight(model, store, history_length=LENGTH)
        for place, choice in enumerate(found.values()):
            assert choice["precision"] in PRECISIONS and choice["chose"] >= LEAST
            made = buffers(model)[f"straight_{place}"]
            known = solutions.setdefault((place, choice["precision"]), made)
            assert torch.equal(known, made)
    before = buffers(model)
    teach_straight(model, store, found, history_length=LENGTH)
    after = buffers(model)
    assert not torch.equal(before["straight_0"], after["straight_0"])
    assert torch.equal(before["paths"], after["paths"])


def test_the_losses_told_are_from_before_the_choosing_labels_taught(loaded: Artifact) -> None:
    model = fresh(loaded)
    done = finish(model, loaded.store, "platt", history_length=LENGTH)
    seen = validation_losses(model, loaded.store, "validation", history_length=LENGTH)
    for name in done.straight:
        if done.straight[name]["straight"] > 0:
            assert seen[name].loss < done.losses[name].loss


def test_too_few_users_choose_nothing(loaded: Artifact) -> None:
    split = np.array(loaded.store["users/split"])
    few = np.flatnonzero(split == SPLITS.index("validation"))[LEAST - 1 :]
    split[few] = 9
    store = replace(loaded.store, arrays={**loaded.store.arrays, "users/split": split})
    for choice in choose_straight(fresh(loaded), store, history_length=LENGTH).values():
        assert (choice["precision"], choice["network"], choice["straight"]) == (300.0, 0.5, 0.5)
        assert choice["chose"] == LEAST - 1


def test_a_column_that_teaches_one_class_has_no_path(loaded: Artifact) -> None:
    profile = np.array(loaded.store["users/profile"])
    profile[:, 0] = np.minimum(profile[:, 0], 0)
    store = replace(loaded.store, arrays={**loaded.store.arrays, "users/profile": profile})
    model = fresh(loaded)
    found = choose_straight(model, store, history_length=LENGTH)
    assert set(found) == {"profile.age_band", "profile.tier"}
    assert head_of(model).paths[0].tolist() == [1.0, 0.0]


def test_what_would_count_less_than_nothing_counts_nothing() -> None:
    """The second answer is the first's error: it would be taken away from it."""
    made = torch.Generator().manual_seed(0)
    true, error = (torch.randn(2000, generator=made, dtype=torch.float64) for _ in range(2))
    nothing = torch.zeros_like(true)
    labels = (torch.rand(2000, generator=made, dtype=torch.float64) < true.sigmoid()).long()
    first, second = (torch.stack([nothing, each], 1) for each in (true + error, error))
    network, straight = weigh(first, second, labels, "categorical")
    assert straight == 0.0
    assert network == pytest.approx(0.5, abs=0.1)  # half of its spread is error
    assert weigh(second, first, labels, "categorical") == pytest.approx((0.0, network))
