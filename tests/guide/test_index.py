import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daogou.errors import DataError
from daogou.guide.index import Index

# (1, 0), (0, 1), (2, 1): with the query (1, 2) they score 1, 2 and 4.
INDEX = Index(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]]))
QUERY = torch.tensor([[1.0, 2.0]])


def test_the_best_rows_come_first_with_their_scores() -> None:
    scores, rows = INDEX.nearest(QUERY, 2)
    assert rows.tolist() == [[2, 1]]
    assert scores.tolist() == [[4.0, 2.0]]


def test_only_allowed_rows_are_found_and_fewer_than_k_if_there_are_fewer() -> None:
    _, rows = INDEX.nearest(QUERY, 5, allowed=torch.tensor([True, True, False]))
    assert rows.tolist() == [[1, 0]]


def test_nothing_allowed_is_an_empty_answer() -> None:
    scores, rows = INDEX.nearest(QUERY, 5, allowed=torch.zeros(3, dtype=torch.bool))
    assert scores.shape == rows.shape == (1, 0)


def test_no_query_is_an_empty_answer() -> None:
    _, rows = INDEX.nearest(torch.zeros(0, 2), 2)
    assert rows.shape == (0, 2)


def test_equal_scores_stand_in_the_order_of_their_rows() -> None:
    _, rows = Index(torch.ones(5, 2)).nearest(QUERY, 5)
    assert rows.tolist() == [[0, 1, 2, 3, 4]]


def test_scores_of_chosen_rows_are_inner_products_in_the_order_asked() -> None:
    assert INDEX.scores(QUERY, torch.tensor([2, 0, 2])).tolist() == [[4.0, 1.0, 4.0]]


def test_a_query_of_another_width_is_refused() -> None:
    with pytest.raises(DataError, match=r"queries \[1, 3\] do not fit vectors \[3, 2\]; ask with"):
        INDEX.nearest(torch.ones(1, 3), 1)


def test_what_is_added_counts_like_the_inner_product() -> None:
    queries = torch.cat([QUERY, QUERY])
    added = torch.tensor([[0.0, 2.5, 0.0], [0.0, 0.0, -9.0]])
    scores, rows = INDEX.nearest(queries, 2, added=added, block=1)
    assert rows.tolist() == [[1, 2], [1, 0]]
    assert scores.tolist() == [[4.5, 4.0], [2.0, 1.0]]


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 8), st.integers(1, 4))
def test_the_search_is_exact_whatever_the_block(seed: int, n: int, k: int, block: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n, 3, generator=generator)
    queries = torch.randn(5, 3, generator=generator)
    scores, _ = Index(vectors).nearest(queries, k, block=block)
    everything = (queries @ vectors.T).sort(dim=1, descending=True).values
    torch.testing.assert_close(scores, everything[:, :k])
