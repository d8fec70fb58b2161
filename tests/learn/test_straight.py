"""Straight paths are solved by labels that may teach, weighed by those that may choose."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from daogou import artifact
from daogou.artifact import Artifact
from daogou.features.store import SPLITS, Store
from daogou.learn.finish import finish
from daogou.learn.straight import (
    LEAST,
    MOST_USERS,
    PRECISIONS,
    _Labelled,
    _read,
    _Solver,
    choose_straight,
    teach_straight,
    weigh,
)
from daogou.learn.validate import validation_losses
from daogou.model.heads.habits import Tastes, habits
from daogou.model.heads.profile import Choice, ProfileHead
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
    """Whatever they say, there is one solution for each choice."""
    solutions: dict[tuple[Any, ...], torch.Tensor] = {}
    for store in (loaded.store, changed(loaded.store, "validation")):
        model = fresh(loaded)
        found = choose_straight(model, store, history_length=LENGTH)
        for place, choice in enumerate(found.values()):
            assert choice["precision"] in PRECISIONS and choice["chose"] >= LEAST
            made = buffers(model)[f"straight_{place}"]
            reads = (*choice["many"], "", choice["factors"], choice["shown"])
            key = place, choice["precision"], *reads, choice["shown_factors"]
            assert torch.equal(solutions.setdefault(key, made), made)
    before = buffers(model)
    teach_straight(model, store, found, history_length=LENGTH)
    after = buffers(model)
    assert not torch.equal(before["straight_0"], after["straight_0"])
    assert torch.equal(before["paths"], after["paths"])


def test_those_who_chose_are_held_out_again_where_that_is_asked(loaded: Artifact) -> None:
    model = fresh(loaded)
    found = choose_straight(model, loaded.store, history_length=LENGTH)
    before = {name: each.clone() for name, each in buffers(model).items()}
    told = artifact.plain(found)
    teach_straight(model, loaded.store, told, history_length=LENGTH)
    assert not torch.equal(buffers(model)["straight_0"], before["straight_0"])
    teach_straight(model, loaded.store, told, history_length=LENGTH, held_out=True)
    for name, weight in buffers(model).items():
        assert torch.equal(weight, before[name]), name


def test_a_model_that_nothing_was_chosen_for_is_solved_like_one_that_was(loaded: Artifact) -> None:
    model, other = fresh(loaded), fresh(loaded)
    found = choose_straight(model, loaded.store, history_length=LENGTH)
    for name in head_of(other).state_dict().keys() & dict(head_of(other).named_buffers()).keys():
        if name != "paths":
            head_of(other).get_buffer(name).zero_()
    teach_straight(other, loaded.store, found, history_length=LENGTH, anew=True)
    head_of(model).compare_with(_both(model, loaded.store))
    teach_straight(model, loaded.store, found, history_length=LENGTH)
    for name, weight in buffers(model).items():
        assert torch.equal(weight, buffers(other)[name]), name


def _both(model: JointModel, store: Store) -> torch.Tensor:
    """Habits of the users who teach and of those who choose."""
    teaches, chose = (_read(head_of(model), store, split, LENGTH) for split in MOST_USERS)
    assert teaches is not None
    return teaches.beside(chose).counted


def test_a_column_of_many_values_is_read_where_it_tells_and_only_there() -> None:
    """Of 600 users half have taken mostly the odd of 600 products, and only one column says so."""
    rng = np.random.default_rng(0)
    odd = np.arange(600) % 2
    is_odd = rng.random((600, 20)) < np.where(odd, 0.8, 0.2)[:, None]
    taken = 2 * rng.integers(0, 300, (600, 20)) + is_odd
    marks = torch.from_numpy(np.stack([0 * taken, taken % 3 + 600, taken], 2))
    tastes = Tastes((1, 2), (600, 0), (3, 600), n_actions=1)
    head = ProfileHead(4, [2], [0], tastes=tastes)
    counted = habits(marks, torch.ones(600, 20, dtype=torch.int64), tastes)
    head.compare_with(counted)
    assert tastes.many == [2]
    for labels, wanted in ((odd, (2,)), ((taken % 3 == 1).sum(1) > 6, ())):
        known = _Labelled(np.arange(600), counted, torch.from_numpy(labels).long())
        assert _Solver(head, 0, known).choose()[1] == Choice(many=wanted)


@pytest.mark.parametrize("seed", range(4))
def test_what_gains_no_more_than_luck_is_not_read(seed: int) -> None:
    """Labels drawn by lot: among the choices one is always a little better than none."""
    rng = np.random.default_rng(seed)
    marks = torch.from_numpy(rng.integers(0, 3, (2, 200, 20, 1)))
    tastes = Tastes((0,), (0,), (3,), n_actions=1, n_ids=4)
    head = ProfileHead(4, [2], [0], tastes=tastes, shown=tastes)
    ones = torch.ones(200, 20, dtype=torch.int64)
    for past in head.pasts:
        past.loadings.copy_(torch.from_numpy(rng.normal(size=tuple(past.loadings.shape))))
    counted = [
        past.count(each, each[..., 0] + 1, ones)
        for past, each in zip(head.pasts, marks, strict=True)
    ]
    head.compare_with(torch.cat(counted, dim=1))
    known = _Labelled(
        np.arange(200), torch.cat(counted, dim=1), torch.from_numpy(rng.integers(0, 2, 200))
    )
    assert _Solver(head, 0, known).choose()[1] == Choice()


def test_what_was_shown_is_read_where_it_tells_and_only_there() -> None:
    """Of 600 users half were shown mostly one of three values; all took what there was."""
    rng = np.random.default_rng(0)
    odd = np.arange(600) % 2
    taken = torch.from_numpy(rng.integers(0, 3, (600, 20, 1)))
    shown = torch.from_numpy(
        (rng.random((600, 20, 1)) < 0.4 + 0.2 * odd[:, None, None]).astype(int)
    )
    tastes = Tastes((0,), (0,), (3,), n_actions=1)
    head = ProfileHead(4, [2], [0], tastes=tastes, shown=tastes)
    ones = torch.ones(600, 20, dtype=torch.int64)
    counted = torch.cat([habits(marks, ones, tastes) for marks in (taken, shown)], dim=1)
    head.compare_with(counted)
    lots = (taken[..., 0] == 1).sum(1) > 6
    for labels, wanted in ((torch.from_numpy(odd), True), (lots.long(), False)):
        known = _Labelled(np.arange(600), counted, labels)
        assert _Solver(head, 0, known).choose()[1].shown is wanted


def test_the_losses_told_are_from_before_the_choosing_labels_taught(loaded: Artifact) -> None:
    model = fresh(loaded)
    done = finish(model, loaded.store, "platt", history_length=LENGTH)
    seen = validation_losses(model, loaded.store, "validation", history_length=LENGTH)
    for name in done.straight:
        if done.straight[name]["straight"] > 0:
            assert seen[name].loss < done.losses[name].loss


def test_what_is_shown_in_the_test_s_time_moves_no_path(loaded: Artifact) -> None:
    """Nor does what is taken then, nor by whom."""
    store, model = loaded.store, fresh(loaded)
    ends = [store["exposures/time"][last - 1] for _, last in store.ranges.values()]
    arrays = dict(store.arrays)
    for kind in ("shown", "history"):
        item = np.array(store[f"{kind}/item"])
        late = np.asarray(store[f"{kind}/time"]) > ends[1]
        assert late.any()
        item[late] = 1
        arrays[f"{kind}/item"] = item
    finish(model, replace(store, arrays=arrays), "platt", history_length=LENGTH)
    for name, weight in buffers(loaded.model).items():
        assert torch.equal(weight, buffers(model)[name]), name


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
