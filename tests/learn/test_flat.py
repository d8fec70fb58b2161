"""Flat inputs hold what was known at the moment, and nothing later."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daogou.artifact.counts import MOST_VALUES
from daogou.errors import MissingExtra
from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.features.transform.fields import Fields
from daogou.features.vocab import Vocab
from daogou.learn import flat

HOUR = 3_600_000_000


def store_of(**arrays: Any) -> Store:
    """Two users, three products; user 1 has three events, user 2 one; four exposures to train."""
    whole: dict[str, Any] = {
        "items/id": np.arange(4),
        "users/id": np.arange(3),
        "users/start": np.array([0, 0, 3, 4]),
        "history/item": np.array([1, 2, 1, 1]),
        "history/action": np.array([0, 0, 1, 0]),
        "history/time": np.array([1, 2, 5, 4]) * HOUR,
        "queries/user": np.array([1, 2, 1, 2]),
        "queries/end": np.array([2, 3, 3, 4]),
        "queries/time": np.array([4, 4, 8, 9]) * HOUR,
        "exposures/item": np.array([1, 1, 1, 3, 1]),
        "exposures/query": np.array([0, 1, 2, 3, 3]),
        "exposures/weight": np.ones(5, dtype=np.float32),
        "exposures/labels": np.array([[1], [0], [1], [-1], [1]], dtype=np.int8),
    }
    return Store(
        Path(), {**whole, **arrays}, {"train": (0, 4), "validation": (4, 5), "test": (5, 5)}
    )


def test_history_is_counted_by_hand_and_ends_at_the_query() -> None:
    kinds = np.array([0, 1, 1, 2])  # of the products, by row
    found = flat.history_of(store_of(), ("view", "buy"), {"kind": kinds})
    assert found["user view, count"].tolist() == [2, 0, 2, 1, 1]
    assert found["user buy, count"].tolist() == [0, 0, 1, 0, 0]
    assert found["same item view, count"].tolist() == [1, 0, 1, 0, 1]
    assert found["same item view, age"][[0, 2, 4]].tolist() == [3, 7, 5]
    assert np.isnan(found["same item view, age"][[1, 3]]).all()
    assert found["same kind, count"].tolist() == [2, 0, 3, 0, 1]
    assert found["same kind, age"][[0, 2, 4]].tolist() == [2, 3, 5]
    assert found["same kind buy, count"].tolist() == [0, 0, 1, 0, 0]


def test_what_happens_at_or_after_the_moment_changes_no_input() -> None:
    kinds = {"kind": np.array([0, 1, 1, 2])}
    known = flat.history_of(store_of(), ("view", "buy"), kinds)
    later = store_of(**{"history/item": np.array([1, 2, 3, 1]),
                        "history/time": np.array([1, 2, 7, 4]) * HOUR})  # fmt: skip
    changed = flat.history_of(later, ("view", "buy"), kinds)
    for name, values in known.items():
        assert np.array_equal(values[:2], changed[name][:2], equal_nan=True), name


def test_a_training_row_never_meets_the_labels_of_its_own_user() -> None:
    _, rates = flat.product_rates(store_of())
    for user, rows in ((1, [0, 2]), (2, [1])):
        flipped = np.array([[1], [0], [1], [-1], [1]], dtype=np.int8)
        flipped[rows] = 1 - flipped[rows]
        _, others = flat.product_rates(store_of(**{"exposures/labels": flipped}))
        assert others[rows].tolist() == rates[rows].tolist(), user
        assert others[4] != rates[4]  # a later row reads all of training


def test_no_label_outside_training_reaches_a_rate() -> None:
    labels = np.array([[1], [0], [1], [-1], [0]], dtype=np.int8)
    _, rates = flat.product_rates(store_of())
    _, others = flat.product_rates(store_of(**{"exposures/labels": labels}))
    assert rates.tolist() == others.tolist()


def test_a_product_that_training_never_showed_has_the_base_rate() -> None:
    rates = flat.smoothed(np.array([1, 1, 2]), np.array([1, 0, -1]), np.ones(3), 4)
    assert rates.tolist() == [0.5, 0.5, 0.5, 0.5]
    assert flat.smoothed(np.zeros(0, int), np.zeros(0, int), np.zeros(0), 2).tolist() == [0, 0]


@given(st.data())
def test_counts_before_a_place_equal_those_of_a_loop(data: Any) -> None:
    n = data.draw(st.integers(0, 12))
    whole = st.integers(0, 3)
    groups = np.array(data.draw(st.lists(whole, min_size=n, max_size=n)), dtype=np.int64)
    where = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    asked = np.array(data.draw(st.lists(whole, max_size=5)), dtype=np.int64)
    end = np.array([data.draw(st.integers(0, n)) for _ in asked], dtype=np.int64)
    counts, last = flat.before(groups, asked, end, where)
    for i, group in enumerate(asked):
        places = [at for at in where if groups[at] == group and at < end[i]]
        assert counts[i] == len(places)
        assert last[i] == max(places, default=-1)


def transform_of(n_kinds: int) -> Transform:
    kinds = Vocab(tuple(f"k{i}" for i in range(n_kinds)), (1,) * n_kinds)
    nothing = Vocab((), ())
    none = Fields((), ())
    items = Fields(("kind",), (kinds,))
    return Transform(
        nothing, nothing, items, none, none, none, None, (), (), ("view", "buy"), ("click",)
    )


def test_habits_are_a_user_s_events_of_each_kind_and_by_value() -> None:
    store = store_of(**{"items/fields": np.array([[0], [1], [1], [2]])})
    assert flat.habits_of(store, transform_of(2)).tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [2, 0, 2, 0, 1, 0, 1, 0],  # two views, of kind 1 both; one buy, of kind 1
        [1, 0, 1, 0, 0, 0, 0, 0],
    ]


def test_a_column_of_too_many_values_is_no_habit() -> None:
    store = store_of(**{"items/fields": np.array([[0], [1], [1], [2]])})
    many = flat.habits_of(store, transform_of(MOST_VALUES))
    assert many.tolist() == [[0, 0], [2, 1], [1, 0]]


def test_a_library_that_is_missing_is_named_with_how_to_get_it() -> None:
    with pytest.raises(MissingExtra, match=r"no_such_library: needed .* pip install"):
        flat.library("no_such_library")
