"""What training counts of products for the funnel: by hand, and no row meets its own label."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daogou import artifact
from daogou.features.batch import make_batch
from daogou.features.store import Store
from daogou.learn import rates
from daogou.learn.flat import PRIOR
from daogou.model.meet import LEAST_SPREAD


def store_of(**arrays: Any) -> Store:
    """Ids 1 and 2 and an unknown product, shown to users 1, 2 and nobody; one row of validation."""
    whole: dict[str, Any] = {
        "items/id": np.array([0, 1, 2, 0]),
        "queries/user": np.array([1, 2]),
        "exposures/item": np.array([1, 1, 2, 3, 1, 2]),
        "exposures/query": np.array([0, 1, 1, 0, -1, 1]),
        "exposures/weight": np.array([1, 3, 1, 1, 1, 9], dtype=np.float32),
        "exposures/labels": np.array([[1], [0], [1], [-1], [0], [0]], dtype=np.int8),
    }
    return Store(Path(), {**whole, **arrays}, {"train": (0, 5), "validation": (5, 6)})


def test_counts_and_rates_are_those_of_training_by_hand() -> None:
    # Known labels: 1 of weight 1 and 0s of 3 and 1 for id 1, 1 of weight 1 for id 2: base 2 of 6.
    (found, *_) = rates.counted(store_of(), 3, [0])
    assert found[:, 0].tolist() == pytest.approx([0, math.log(6), math.log(2)])
    base = 1 / 3
    wanted = [base, (1 + PRIOR * base) / (5 + PRIOR), (1 + PRIOR * base) / (1 + PRIOR)]
    assert np.exp(found[:, 1]).tolist() == pytest.approx([rate / base for rate in wanted])


def test_a_product_that_others_never_saw_does_not_tell_a_fold_of_its_own_rate() -> None:
    # Both 1s are of user 1, so to those of that fold all other users have the rate 0.
    labels = np.array([[1], [0], [0], [1], [0], [0]], dtype=np.int8)
    found = rates.counted(store_of(**{"exposures/labels": labels}), 4, [0])
    assert found[:, 3].tolist() == [[0.0, 0.0]] * 6
    assert found[:, 0].tolist() == [[0.0, 0.0]] * 6
    assert abs(found[2, :, 1]).max() < 1


def test_without_a_stage_only_exposures_are_counted() -> None:
    assert rates.counted(store_of(), 3, []).shape == (6, 3, 1)


def test_a_training_row_never_meets_a_label_of_its_own_user() -> None:
    known = rates.counted(store_of(), 3, [0])
    # Folds: user 1's is 1, user 2's is 2, and nobody's row, the fifth, is in 4.
    for fold, rows in ((1, [0, 3]), (2, [1, 2]), (4, [4])):
        labels = store_of()["exposures/labels"].copy()
        labels[rows] = 1 - np.abs(labels[rows])
        changed = rates.counted(store_of(**{"exposures/labels": labels}), 3, [0])
        assert changed[1 + fold].tolist() == known[1 + fold].tolist()
        assert changed[0].tolist() != known[0].tolist()  # all of training


def test_no_label_outside_training_reaches_a_rate() -> None:
    labels = store_of()["exposures/labels"].copy()
    labels[5] = 1
    changed = rates.counted(store_of(**{"exposures/labels": labels}), 3, [0])
    assert changed.tolist() == rates.counted(store_of(), 3, [0]).tolist()


def test_a_run_keeps_what_all_of_training_counted(made_run: Path) -> None:
    run = artifact.load(made_run, verify=False)
    head: Any = run.model.heads["funnel"]
    kept = head.meet.rates
    first, last = run.store.ranges["train"]
    ids = torch.from_numpy(run.store["items/id"][run.store["exposures/item"][first:last]]).long()
    shown = kept(ids, None)
    assert shown.shape[1] == 1 + len(head.columns)
    torch.testing.assert_close(shown.mean(0), torch.zeros(shown.shape[1]), atol=1e-3, rtol=0)
    torch.testing.assert_close(shown.std(0), torch.ones(shown.shape[1]), atol=1e-2, rtol=0)
    assert not len(kept.apart)
    rows = np.arange(first, last)[:: max((last - first) // 200, 1)]
    repeats = make_batch(run.store, rows, history_length=1).exposures["repeats"]
    usual, spread = repeats.mean(0), repeats.std(0).clamp(min=LEAST_SPREAD)
    assert usual.max() > 0.1, "or this test would show nothing"
    torch.testing.assert_close(head.meet.usual, usual, atol=0.1, rtol=0.2)
    torch.testing.assert_close(head.meet.spread, spread, atol=0.1, rtol=0.3)
