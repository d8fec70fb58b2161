"""Answers do not depend on the batch they were computed in, nor on what was computed before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daogou.features.batch import make_batch
from daogou.features.queries import full_queries
from daogou.features.store import SPLITS
from daogou.model import predict
from tests.model.conftest import Compiled
from tests.shops import EVENTS, compile_shop, event, write_shop

LENGTH = 20


def test_evaluation_is_deterministic_even_after_training(compiled: Compiled) -> None:
    """Scoring switches dropout off by itself: a model left in training gives the same twice."""
    model, store = compiled.model, compiled.store
    found = []
    for _ in range(2):
        model.train()
        scores = predict.funnel_scores(model, store, "validation", history_length=LENGTH)
        model.train()
        vectors = predict.item_vectors(model, store)
        model.train()
        profiles = predict.profile_scores(model, store, np.arange(1, 9), history_length=LENGTH)
        model.train()
        tags = [sure for _, _, sure in predict.title_tags(model, store, np.arange(9))]
        found.append([scores.chances, vectors.numpy(), *profiles, *tags])
    for first, second in zip(*found, strict=True):
        assert np.array_equal(first, second)


@pytest.mark.parametrize("size", [1, 7])
def test_chances_do_not_depend_on_the_batch_size(compiled: Compiled, size: int) -> None:
    model, store = compiled.model, compiled.store
    whole = predict.funnel_scores(model, store, "test", history_length=LENGTH)
    pieces = predict.funnel_scores(model, store, "test", history_length=LENGTH, rows_per_step=size)
    first, last = store.ranges["test"]
    assert whole.chances.shape == (last - first, 3)
    np.testing.assert_allclose(pieces.chances, whole.chances, rtol=0, atol=1e-5)
    np.testing.assert_allclose(pieces.conditional, whole.conditional, rtol=0, atol=1e-5)


def test_chances_fall_along_the_funnel(compiled: Compiled) -> None:
    found = predict.funnel_scores(
        compiled.model, compiled.store, "test", history_length=LENGTH
    ).chances
    assert (np.diff(found, axis=1) <= 0).all()


def test_a_split_without_exposures_has_no_scores(tmp_path: Path, compiled: Compiled) -> None:
    _, store = compile_shop(write_shop(tmp_path))
    empty = type(store)(store.folder, store.arrays, {**store.ranges, "test": (8, 8)})
    found = predict.funnel_scores(compiled.model, empty, "test", history_length=LENGTH)
    assert found.chances.shape == (0, 3)


def test_item_vectors_do_not_depend_on_the_batch_size(compiled: Compiled) -> None:
    whole = predict.item_vectors(compiled.model, compiled.store)
    pieces = predict.item_vectors(compiled.model, compiled.store, rows_per_step=7)
    assert len(whole) == compiled.store.n_items + 1
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-5)


def test_users_do_not_depend_on_who_is_encoded_beside_them(compiled: Compiled) -> None:
    model, store = compiled.model, compiled.store
    queries = full_queries(store, np.arange(1, 20))
    found = []
    for size in (512, 3):
        pieces = predict.encoded_queries(model, store, queries, history_length=LENGTH, size=size)
        found.append(
            torch.cat([encoded.users for _, encoded in pieces if encoded.users is not None])
        )
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-5)


def test_titles_do_not_depend_on_the_batch_size(compiled: Compiled) -> None:
    model, store = compiled.model, compiled.store
    rows = np.flatnonzero(store["titles/split"] == SPLITS.index("train"))
    whole = list(predict.title_tags(model, store, rows))
    pieces = list(predict.title_tags(model, store, rows, size=1))
    assert len(whole) == 1
    _, tags, sure = whole[0]
    lengths = set()
    for i, (row, own_tags, own_sure) in enumerate(pieces):
        assert row.tolist() == [rows[i]]
        # A title alone ends with its last token; in company it is padded to the longest.
        length = own_tags.shape[-1]
        lengths.add(length)
        assert np.array_equal(own_tags[0], tags[i, :, :length])
        np.testing.assert_allclose(own_sure[0], sure[i, :, :length], rtol=0, atol=1e-5)
    assert len(lengths) > 1, "or this test would show nothing"


def test_nats_of_titles_are_the_loss_of_their_tags_at_each_sharpness(compiled: Compiled) -> None:
    model, store = compiled.model, compiled.store
    rows = np.flatnonzero(store["titles/split"] == SPLITS.index("train"))
    nats, n = predict.title_nats(model, store, rows, (1.0, 0.5, 0.0))
    assert n == (store["titles/tags"][rows] >= 0).sum()
    # In pieces the padding differs, and padding has no tag.
    again, _ = predict.title_nats(model, store, rows, (1.0, 0.5, 0.0), size=3)
    np.testing.assert_allclose(again, nats, rtol=1e-5)
    head: Any = model.heads["extract"]
    batch = make_batch(store, titles=rows)
    assert model.text is not None
    with torch.inference_mode():
        states, _ = model.text(batch.texts["tokens"])
        text = batch.titles["text"]
        logits = head(states[text], batch.texts["tokens"][text])
        loss = head.loss(logits, batch.titles["tags"])
        softer = head.loss(logits, batch.titles["tags"], sharpness=0.5)
    assert nats[:2] == pytest.approx([float(loss) * n, float(softer) * n], rel=1e-5)
    # With no score left every legal sequence is as likely, however long.
    assert nats[2] > 0 and nats[2] != pytest.approx(nats[0])


def test_match_scores_are_the_inner_products_of_the_whole_catalogue(compiled: Compiled) -> None:
    model, store = compiled.model, compiled.store
    queries = full_queries(store, np.arange(1, 6))
    (block,) = predict.match_scores(model, store, queries, history_length=LENGTH)
    assert block.shape == (5, store.n_items)
    assert np.isfinite(block).all()
    (alone,) = predict.match_scores(
        model, store, full_queries(store, np.array([3])), history_length=LENGTH
    )
    np.testing.assert_allclose(alone[0], block[2], rtol=0, atol=1e-4)


def test_profiles_of_nobody_are_empty(compiled: Compiled) -> None:
    found = predict.profile_scores(
        compiled.model, compiled.store, np.zeros(0, dtype=np.int64), history_length=LENGTH
    )
    assert [len(each) for each in found] == [0, 0, 0]


def test_first_queries_by_hand(tmp_path: Path) -> None:
    # Train: user 1 first looks at hour 0 and clicks products 10 and 12 (rows 1 and 3) in all;
    # user 2 first looks at hour 30 and clicks 11 (row 2).
    _, store = compile_shop(write_shop(tmp_path))
    queries, relevant = predict.first_queries(store, "train")
    assert queries.user.tolist() == [1, 2]
    assert [rows.tolist() for rows in relevant] == [[1, 3], [2]]
    hours = (queries.time - store["exposures/time"][0]) // 3_600_000_000
    assert hours.tolist() == [0, 30]
    # At their first moment neither has done anything: the history ends where it starts.
    assert queries.end.tolist() == store["users/start"][queries.user].tolist()


def test_users_who_took_to_nothing_are_left_out(tmp_path: Path) -> None:
    # Test: user 1 clicks product 13 (row 4); user 3 sees it and does nothing.
    _, store = compile_shop(write_shop(tmp_path))
    queries, relevant = predict.first_queries(store, "test")
    assert queries.user.tolist() == [1]
    assert [rows.tolist() for rows in relevant] == [[4]]


def test_the_first_moment_counts_even_if_the_click_came_at_a_later_one(tmp_path: Path) -> None:
    # User 1 sees 12 at hour 190 without a click, and clicks 13 shown at hour 200, twice: once here.
    more = [
        event(190, 1, 12, "shown", "q"),
        event(205, 1, 13, "shown", "p"),
        event(206, 1, 13, "click", "p"),
    ]
    _, store = compile_shop(write_shop(tmp_path, events=[*EVENTS, *more]))
    queries, relevant = predict.first_queries(store, "test")
    hours = (queries.time - store["exposures/time"][0]) // 3_600_000_000
    assert hours.tolist() == [190]
    assert [rows.tolist() for rows in relevant] == [[4]]


def test_a_split_without_positives_has_no_query(tmp_path: Path) -> None:
    events = [row for row in EVENTS if not (row["event"] == "click" and row["request"] == "r6")]
    _, store = compile_shop(write_shop(tmp_path, events=events))
    queries, relevant = predict.first_queries(store, "test")
    assert len(queries.user) == 0
    assert relevant == []
