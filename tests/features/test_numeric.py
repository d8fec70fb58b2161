"""Numbers to buckets and ranks: quantiles of what training saw, missing ones apart."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from daogou.features.numeric import MISSING, Numeric, _levels, fit_numeric

NAN, INF = float("nan"), float("inf")
VALUES = st.lists(st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, 7.0]), max_size=80)
ODD = st.lists(st.floats(width=32), max_size=20)


def column(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


def test_few_distinct_numbers_get_a_bucket_each() -> None:
    rooms = fit_numeric(column(1, 2, 2, 4))
    assert rooms.edges == (1.5, 3.0)
    assert rooms.n_rows == 4  # three and the missing one
    assert rooms.bucket(column(1, 2, 4)).tolist() == [1, 2, 3]
    assert rooms.bucket(column(1.4, 1.6, 2.9, 3.0)).tolist() == [1, 2, 2, 3]


def test_many_distinct_numbers_are_cut_at_quantiles() -> None:
    price = fit_numeric(np.arange(101, dtype=np.float64), buckets=4)
    assert price.edges == (25.0, 50.0, 75.0)
    assert price.bucket(column(0, 24, 25, 60, 100)).tolist() == [1, 1, 2, 3, 4]
    assert price.rank(column(0, 25, 100)).tolist() == [0.0, 0.25, 1.0]


def test_missing_numbers_have_a_bucket_of_their_own_and_the_middle_rank() -> None:
    price = fit_numeric(column(1, 2, NAN))
    assert price.bucket(column(NAN)).tolist() == [MISSING]
    assert price.rank(column(NAN)).tolist() == [0.5]


def test_infinite_numbers_are_not_learnt_from_but_stand_at_the_ends() -> None:
    price = fit_numeric(column(1, 2, INF, -INF))
    assert price == fit_numeric(column(1, 2))
    assert price.bucket(column(-INF, INF)).tolist() == [1, 2]
    assert price.rank(column(-INF, INF)).tolist() == [0.0, 1.0]


def test_numbers_beyond_what_was_seen_stand_at_the_ends() -> None:
    price = fit_numeric(column(10, 20, 30))
    assert price.bucket(column(-5, 1e300)).tolist() == [1, 3]
    assert price.rank(column(-5, 1e300)).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("values", [column(), column(NAN, NAN), column(INF)])
def test_a_column_without_numbers_says_only_missing_or_not(values: NDArray[np.float64]) -> None:
    nothing = fit_numeric(values)
    assert nothing == Numeric((), ())
    assert nothing.bucket(column(NAN, 3)).tolist() == [0, 1]
    assert nothing.rank(column(NAN, 3)).tolist() == [0.5, 0.5]


def test_a_column_of_one_number_ranks_everything_in_the_middle() -> None:
    only = fit_numeric(column(3, 3, 3))
    assert only.rank(column(1, 3, 9)).tolist() == [0.5, 0.5, 0.5]
    assert only.bucket(column(1, 3, 9)).tolist() == [1, 1, 1]


def test_a_column_that_is_mostly_one_number_keeps_that_number_apart() -> None:
    values = np.concatenate([np.zeros(900), np.arange(1, 101, dtype=np.float64)])
    orders = fit_numeric(values, buckets=8)  # 0 takes one, 1 to 100 share the other seven
    assert orders.bucket(column(-1, 0, 0.5, 1, 100)).tolist() == [1, 1, 1, 2, 8]
    sizes = np.bincount(orders.bucket(values))[2:]
    assert sizes.min() >= 14 and sizes.max() <= 15
    assert orders.rank(column(0, 1, 50.5, 100)).tolist() == pytest.approx(
        [0, 1 / 29, 0.5 + 0.5 / 29, 1]
    )
    values = np.concatenate([np.full(900, 50.0), np.arange(100, dtype=np.float64)])
    orders = fit_numeric(values, buckets=40)
    below, alone, above = orders.bucket(column(49, 50, 51)).tolist()
    assert below < alone < above


@given(VALUES, ODD)
def test_a_larger_number_has_no_smaller_bucket_or_rank(
    values: list[float], asked: list[float]
) -> None:
    fitted = fit_numeric(column(*values), buckets=8)
    known = np.sort([value for value in [*values, *asked] if not np.isnan(value)])
    assert (np.diff(fitted.bucket(known)) >= 0).all()
    assert (np.diff(fitted.rank(known)) >= 0).all()


@given(VALUES, ODD, st.integers(1, 40))
def test_buckets_and_ranks_stay_within_their_bounds(
    values: list[float], asked: list[float], buckets: int
) -> None:
    fitted = fit_numeric(column(*values), buckets=buckets)
    rows, ranks = fitted.bucket(column(*asked)), fitted.rank(column(*asked))
    # Each of the buckets - 1 cuts may fall on a value that gets a bucket of its own: two edges.
    assert fitted.n_rows <= max(2 * buckets, buckets + 1)
    assert (str(rows.dtype), str(ranks.dtype)) == ("int32", "float32")
    assert ((rows >= 0) & (rows < fitted.n_rows)).all()
    assert ((ranks >= 0) & (ranks <= 1)).all()
    assert ((rows == MISSING) == np.isnan(column(*asked))).all()


@given(st.lists(st.integers(-1000, 1000), max_size=60))
def test_neither_order_nor_missing_numbers_change_the_fit(values: list[int]) -> None:
    mixed = column(*reversed(values), NAN, NAN)
    assert fit_numeric(mixed, buckets=8) == fit_numeric(column(*values), buckets=8)


@given(st.sets(st.integers(-1000, 1000), min_size=1, max_size=8))
def test_few_whole_numbers_are_told_apart(values: set[int]) -> None:
    fitted = fit_numeric(column(*values), buckets=8)
    assert sorted(fitted.bucket(column(*values)).tolist()) == list(range(1, len(values) + 1))


@given(VALUES)
def test_text_on_disk_gives_equal_quantiles(values: list[float]) -> None:
    fitted = fit_numeric(column(*values), buckets=8)
    assert Numeric.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


@given(values=VALUES.filter(bool), n=st.integers(1, 40))
def test_quantiles_of_counted_numbers_are_numpys_to_the_last_bit(
    values: list[float], n: int
) -> None:
    distinct, counts = np.unique(column(*values), return_counts=True)
    found = _levels(distinct, np.cumsum(counts), n)
    assert found.tolist() == np.quantile(column(*values), np.linspace(0, 1, n + 1)).tolist()
