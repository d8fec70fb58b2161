import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daogou.errors import DataError
from daogou.guide import Guide
from daogou.guide.index import Index
from daogou.guide.near import Near, is_here

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


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 8), st.integers(1, 4))
def test_the_search_is_exact_whatever_the_block(seed: int, n: int, k: int, block: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n, 3, generator=generator)
    queries = torch.randn(5, 3, generator=generator)
    scores, _ = Index(vectors).nearest(queries, k, block=block)
    everything = (queries @ vectors.T).sort(dim=1, descending=True).values
    torch.testing.assert_close(scores, everything[:, :k])


# ---- not every score computed ---------------------------------------------------------------

needs_faiss = pytest.mark.skipif(not is_here(), reason="pip install 'daogou[ann]'")


def made(n: int, n_queries: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors in clusters of about 30, and queries near some of them; the last number is a bias."""
    generator = torch.Generator().manual_seed(n)
    centres = torch.randn(n // 30, 8, generator=generator)

    def near_some(rows: int) -> torch.Tensor:
        place = torch.randint(len(centres), (rows,), generator=generator)
        return centres[place] + 0.3 * torch.randn(rows, 8, generator=generator)

    items = torch.cat([near_some(n), torch.randn(n, 1, generator=generator)], 1)
    return items, torch.cat([3 * near_some(n_queries), torch.ones(n_queries, 1)], 1)


def reading_all(index: Index) -> Index:
    """The same index, every cell of which is read."""
    assert index.cells is not None
    near = dataclasses.replace(index.cells.near, probes=index.cells.near.cells.nlist)
    return dataclasses.replace(index, cells=dataclasses.replace(index.cells, near=near))


@needs_faiss
@pytest.mark.parametrize("share", [1.0, 0.99, 0.5, 0.02])
def test_with_every_cell_read_the_search_is_the_exact_one(share: float) -> None:
    vectors, queries = made(2000, 12)
    generator = torch.Generator().manual_seed(1)
    allowed = torch.rand(2000, generator=generator) < share
    added = torch.zeros(12, 2000)
    # What somebody did adds to some and takes from the very best.
    added[:, ::100] = 5.0
    added.scatter_(1, (queries @ vectors.T).topk(3).indices, -50.0)
    exact, cells = Index(vectors), reading_all(Index(vectors).in_cells(queries, least=1))
    for more in (None, added):
        ours, theirs = (
            each.nearest(queries, 25, allowed=allowed, added=more) for each in (exact, cells)
        )
        assert torch.equal(ours[1], theirs[1])
        torch.testing.assert_close(ours[0], theirs[0])


@needs_faiss
def test_so_many_cells_are_read_that_the_best_of_sample_queries_are_found() -> None:
    vectors, queries = made(6000, 40)
    index = Index(vectors).in_cells(queries, least=1)
    assert index.cells is not None
    near = index.cells.near
    assert near.recall >= 0.95 and near.probes < near.cells.nlist
    everything = torch.ones(len(vectors), dtype=torch.bool)
    wanted = (queries @ vectors.T).topk(500).indices
    found = [
        torch.isin(best, near.rows(query, 500, everything)).double().mean()
        for query, best in zip(queries, wanted, strict=True)
    ]
    assert float(torch.stack(found).mean()) == pytest.approx(near.recall)


@needs_faiss
def test_among_few_every_score_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = made(2000, 4)
    index = Index(vectors).in_cells(queries, least=500)
    monkeypatch.setattr(Near, "rows", None)
    allowed = torch.zeros(2000, dtype=torch.bool)
    allowed[:499] = True
    _, rows = index.nearest(queries, 10, allowed=allowed)
    assert torch.equal(rows, Index(vectors).nearest(queries, 10, allowed=allowed)[1])
    with pytest.raises(TypeError):
        index.nearest(queries, 10)


@needs_faiss
def test_as_many_rows_are_found_as_are_asked_for_whatever_the_cells_hold() -> None:
    vectors, queries = made(2000, 4)
    index = Index(vectors).in_cells(queries, least=1)
    assert index.cells is not None
    near = dataclasses.replace(index.cells.near, probes=1)
    index = dataclasses.replace(index, cells=dataclasses.replace(index.cells, near=near))
    scores, rows = index.nearest(queries, 1900)
    assert rows.shape == (4, 1900) and scores.isfinite().all()
    assert all(len(set(line)) == 1900 for line in rows.tolist())


@needs_faiss
def test_vectors_that_are_added_or_changed_are_found_at_once_and_old_ones_no_more() -> None:
    vectors, queries = made(2000, 4)
    index = Index(vectors).in_cells(queries, least=1000)
    best = index.nearest(queries[:1], 1)[1][0]
    new = torch.tensor([[*(2 * queries[0, :8]).tolist(), 50.0]])
    changed = index.with_vectors(torch.tensor([int(best), 2000]), torch.cat([-new, new]))
    assert changed.cells is not None and changed.cells.near.n == 2000
    _, rows = changed.nearest(queries[:1], 2001)
    assert rows[0, 0] == 2000 and rows[0, -1] == best
    alike = Index(changed.vectors).nearest(queries, 30)[1]
    assert torch.equal(reading_all(changed).nearest(queries, 30)[1], alike)
    # What was best and is worst now takes nobody's place.
    worst = index.with_vectors(index.nearest(queries[:1], 5)[1][0], -new.expand(5, -1))
    alike = Index(worst.vectors).nearest(queries, 30)[1]
    assert torch.equal(reading_all(worst).nearest(queries, 30)[1], alike)


@needs_faiss
def test_cells_are_made_anew_once_many_vectors_are_new() -> None:
    vectors, queries = made(2000, 4)
    index = Index(vectors).in_cells(queries, least=1000)
    more = index.with_vectors(torch.arange(2000, 2999), vectors[:999])
    assert more.cells is not None
    assert (more.cells.near.n, len(more.cells.fresh)) == (2000, 999)
    more = more.with_vectors(torch.tensor([2999]), vectors[:1])
    assert more.cells is not None
    assert (more.cells.near.n, len(more.cells.fresh)) == (3000, 0)


@needs_faiss
def test_a_guide_matches_in_cells_from_the_size_that_its_setting_names(
    guide: Guide, regular: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daogou.guide.guide.CANDIDATES", 20)
    assert guide.index is not None and guide.index.cells is None
    cells = guide.following(approximate_from=30)
    assert cells.index is not None and cells.index.cells is not None
    cells = dataclasses.replace(cells, index=reading_all(cells.index))
    wanted, found = (each.recommend(regular, k=5)["items"] for each in (guide, cells))
    assert [line["item"] for line in found] == [line["item"] for line in wanted]
    with monkeypatch.context() as patched:
        patched.setattr(Near, "rows", None)
        with pytest.raises(TypeError):
            cells.recommend(regular, k=5)
    more = cells.with_items([{"item_id": "new", "title": "red shoes"}])
    assert more.index is not None and more.index.cells is not None
    assert more.index.cells.fresh.tolist() == [guide.catalogue.n_items + 1]


def test_without_the_extra_the_search_is_exact(
    guide: Guide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daogou.guide.made.is_here", lambda: False)
    same = guide.following(approximate_from=1)
    assert same.index is not None and same.index.cells is None
