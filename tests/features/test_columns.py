"""The container that data travels in: equal lengths, and some of the rows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daogou.errors import DataError
from daogou.features.columns import Columns


def pair() -> Columns:
    return Columns({"row": torch.arange(4), "wide": torch.arange(8).reshape(4, 2)})


def test_columns_have_one_row_per_example() -> None:
    columns = pair()
    assert len(columns) == 4
    assert "row" in columns and "nothing" not in columns
    assert columns["wide"].shape == (4, 2)
    assert len(Columns({})) == 0


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(DataError, match=r"columns differ in length: \{'a': 2, 'b': 3\}"):
        Columns({"a": torch.zeros(2), "b": torch.zeros(3, 7)})


def test_rows_are_taken_in_the_order_asked_for() -> None:
    some = pair().take(torch.tensor([3, 0, 3]))
    assert some["row"].tolist() == [3, 0, 3]
    assert some["wide"].tolist() == [[6, 7], [0, 1], [6, 7]]
    assert len(pair().take(torch.tensor([], dtype=torch.int64))) == 0


@given(st.permutations(range(4)), st.permutations(range(4)))
def test_taking_twice_is_taking_once(first: list[int], second: list[int]) -> None:
    one, two = torch.tensor(first), torch.tensor(second)
    twice, once = pair().take(one).take(two), pair().take(one[two])
    assert all(torch.equal(twice[name], once[name]) for name in once.tensors)
