"""Factors say what goes with what, of who took what, and read no label."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from daogou import artifact
from daogou.learn.factors import loadings, loadings_before
from daogou.model.heads.habits import N_FACTORS, USUAL


def test_two_kinds_of_users_are_one_factor_by_hand() -> None:
    # Two users, a product each: shares of 1/2, rows of (1/2, -1/2) and (-1/2, 1/2) over the root of
    # a half, all along (1, -1) / root 2, which over that root again is (1, -1). That all products
    # have as many users more changes no share.
    found = loadings(np.array([7, 9]), np.array([1, 2]), 4)
    assert found.shape == (4, N_FACTORS)
    assert found[1:3, 0].abs().tolist() == pytest.approx([1.0, 1.0])
    assert found[1, 0].item() == pytest.approx(-found[2, 0].item())
    assert (found[[0, 3]] == 0).all()  # the unknown product, and one that nobody took
    torch.testing.assert_close(found[:, 1:], torch.zeros(4, N_FACTORS - 1), atol=1e-6, rtol=0)


def test_groups_of_users_who_take_the_same_are_told_apart() -> None:
    """Sixty users take ten each of their group's twenty products: two factors, three groups."""
    rng = np.random.default_rng(0)
    group = np.arange(60) % 3
    item = np.concatenate([1 + 20 * g + rng.permutation(20)[:10] for g in group])
    user = np.repeat(np.arange(60), 10)
    found = loadings(user, item, 61)
    mine = torch.stack([found[item[user == each]].sum(0) / (10 + USUAL) for each in range(60)])
    apart = torch.cdist(mine[:, :2], mine[:, :2])
    same = torch.from_numpy(group[:, None] == group)
    assert apart[same].max() < apart[~same].min() / 2
    # Once or often, in whatever order: who took what is all that counts.
    again = rng.permutation(np.repeat(np.arange(600), 2))
    torch.testing.assert_close(loadings(user[again], item[again], 61), found)


def test_directions_beyond_what_there_is_have_no_loadings() -> None:
    # Users of two kinds differ in one direction, users of one kind in none.
    for kinds, n_directions in ((np.arange(40) % 2, 1), (np.zeros(40, dtype=np.int64), 0)):
        item = (1 + 3 * kinds[:, None] + np.arange(3)).ravel()
        found = loadings(np.repeat(np.arange(40), 3), item, 7)
        assert int((found != 0).any(0).sum()) == n_directions


@pytest.mark.parametrize(
    ("user", "item"), [([], []), ([1], [0]), ([1], [2]), ([1, 2], [1, 1]), ([1, 1, 1], [1, 2, 3])]
)
def test_little_or_nothing_to_go_by_is_finite(user: list[int], item: list[int]) -> None:
    found = loadings(np.array(user, dtype=np.int64), np.array(item, dtype=np.int64), 4)
    assert found.shape == (4, N_FACTORS) and found.isfinite().all()


@pytest.mark.parametrize("kind", ["history", "shown"])
def test_what_comes_at_or_after_the_moment_changes_nothing(made_run: Path, kind: str) -> None:
    store = artifact.load(made_run, verify=False).store
    time, n_ids = np.asarray(store[f"{kind}/time"]), int(store["items/id"].max()) + 1
    until = int(np.median(time))
    item = np.array(store[f"{kind}/item"])
    item[time >= until] = 1
    changed = replace(store, arrays={**store.arrays, f"{kind}/item": item})
    found = loadings_before(store, kind, until, n_ids)
    assert torch.equal(found, loadings_before(changed, kind, until, n_ids))
    assert not torch.equal(found, loadings_before(changed, kind, until + 1, n_ids))
