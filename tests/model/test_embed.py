"""Tables whose gradients are sparse, and numbers as waves, by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daogou.model.embed import N_WAVES, Fields, Table, forget, spread, summed

IDS = st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=1, max_size=8)


def test_a_table_has_gradients_for_touched_rows_alone_and_each_once() -> None:
    rows = Table(10, 4, std=1.0)
    rows(torch.tensor([3, 7, 3])).sum().backward()
    assert rows.weight.grad is not None
    assert rows.weight.grad.is_sparse
    assert sorted(rows.weight.grad._indices()[0].tolist()) == [3, 7]
    assert rows.weight.grad.to_dense()[3].tolist() == [2.0] * 4


def test_a_row_gets_its_line_as_often_as_it_stands_there() -> None:
    # Row 4 stands once in the first line and twice in the second: 10 + 2 * 100.
    rows, total = summed(torch.tensor([[4, 1], [4, 4]]), torch.tensor([[10.0], [100.0]]))
    assert rows.tolist() == [1, 4]
    assert total[:, 0].tolist() == [10.0, 210.0]


def test_no_ids_are_no_rows() -> None:
    rows, total = summed(torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, 2))
    assert len(rows) == 0 and total.shape == (0, 2)


@given(IDS)
def test_a_table_of_bags_equals_a_sum_of_lookups(ids: list[list[int]]) -> None:
    """Forward and backward, with row 0 as padding: as torch's own dense table gives them."""
    bags = torch.tensor(ids)
    made = Table(7, 2, std=1.0, padding=0)
    plain = torch.nn.Embedding(7, 2, padding_idx=0)
    plain.weight.data.copy_(made.weight.data)
    found, wanted = made.sums(bags), plain(bags).sum(1)
    torch.testing.assert_close(found, wanted)
    pull = torch.arange(float(found.numel())).view(found.shape)
    (found * pull).sum().backward()
    (wanted * pull).sum().backward()
    assert made.weight.grad is not None and plain.weight.grad is not None
    torch.testing.assert_close(made.weight.grad.to_dense(), plain.weight.grad)


def test_padding_starts_at_zero_and_learns_nothing() -> None:
    rows = Table(3, 2, std=1.0, padding=1)
    assert rows.weight[1].tolist() == [0.0, 0.0]
    rows(torch.tensor([1, 2])).sum().backward()
    assert rows.weight.grad is not None
    assert rows.weight.grad.to_dense().tolist() == [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]


def test_two_lookups_of_one_table_add_up() -> None:
    rows = Table(3, 1, std=1.0)
    (rows(torch.tensor([2])).sum() + 3 * rows(torch.tensor([2, 0])).sum()).backward()
    assert rows.weight.grad is not None
    assert rows.weight.grad.to_dense()[:, 0].tolist() == [3.0, 0.0, 4.0]


def test_new_rows_are_as_long_whatever_their_width() -> None:
    assert spread(16) == 0.0625 and spread(16) ** 2 * 16 == spread(64) ** 2 * 64


def test_fields_without_columns_are_empty() -> None:
    fields = Fields(0, 0, 0, 8)
    assert fields.n_outputs == 0
    assert fields(torch.zeros(3, 0, dtype=torch.int64), torch.zeros(3, 0)).shape == (3, 0)


@pytest.mark.parametrize(("n_columns", "n_numbers"), [(1, 0), (3, 0), (3, 2), (2, 2)])
def test_fields_give_what_they_promise(n_columns: int, n_numbers: int) -> None:
    fields = Fields(20, n_columns, n_numbers, 8)
    rows = torch.randint(0, 20, (5, n_columns))
    assert fields(rows, torch.rand(5, n_numbers)).shape == (5, fields.n_outputs)


def test_categories_lie_side_by_side_in_order() -> None:
    fields = Fields(4, 2, 0, 2)
    assert fields.table is not None
    fields.table.weight.data.copy_(torch.tensor([[1.0, 2], [3, 4], [5, 6], [7, 8]]))
    assert fields(torch.tensor([[3, 0]]), torch.zeros(1, 0)).tolist() == [[7.0, 8, 1, 2]]


def test_a_number_is_its_rank_its_square_and_waves() -> None:
    # Rank 1/4, from -1 to 1: -1/2, its square 1/4. Angles pi/4, pi/2, pi, 2 pi:
    # sines 0.7071, 1, 0, 0 and cosines 0.7071, 0, -1, 1.
    fields = Fields(1, 1, 1, 1)
    assert fields.table is not None
    fields.table.weight.data.zero_()
    found = fields(torch.zeros(1, 1, dtype=torch.int64), torch.tensor([[0.25]]))[0, 1:]
    half = math.sqrt(0.5)
    wanted = torch.tensor([-0.5, 0.25, half, 1, 0, 0, half, 0, -1, 1])
    assert N_WAVES == 4
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_ids_are_forgotten_in_training_alone() -> None:
    ids = torch.arange(1, 6)
    assert torch.equal(forget(ids, 0.9, training=False), ids)
    assert torch.equal(forget(ids, 0.0, training=True), ids)
    assert forget(ids, 1.0, training=True).tolist() == [0] * 5


def test_as_many_ids_are_forgotten_as_asked() -> None:
    torch.manual_seed(0)
    found = forget(torch.ones(20_000, dtype=torch.int64), 0.1, training=True)
    assert (found == 0).float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_a_table_that_ids_cannot_count_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2147483648 rows: a table has at most 2\^31 - 1"):
        Table(2**31, 1, std=1.0)
