"""Numbers worked by hand, laws, and blocks for `daogou.metrics.ranking`."""

import itertools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import ndcg_score

from daogou.errors import DataError
from daogou.metrics import ranking
from daogou.metrics.ranking import (
    fit_ranks,
    hit_rate_at,
    mrr_at,
    ndcg_at,
    ndcg_by_group,
    recall_at,
)

Table: TypeAlias = list[tuple[int, ...]]
Column: TypeAlias = NDArray[Any]

SCORES = np.array([[0.9, 0.5, 0.7, 0.1], [0.1, 0.2, 0.3, 0.4], [4.0, 3.0, 2.0, 1.0]])
RELEVANT = [[1, 2], [], [3]]  # at places 2 and 3; nobody; at place 4
MEASURES = {"recall": recall_at, "ndcg": ndcg_at, "hit": hit_rate_at, "mrr": mrr_at}


def test_recall_is_the_share_found() -> None:
    np.testing.assert_array_equal(recall_at(SCORES, RELEVANT, 2), [0.5, np.nan, 0.0])
    np.testing.assert_array_equal(recall_at(SCORES, RELEVANT, 4), [1.0, np.nan, 1.0])


def test_hit_rate_asks_for_one() -> None:
    np.testing.assert_array_equal(hit_rate_at(SCORES, RELEVANT, 1), [0.0, np.nan, 0.0])
    np.testing.assert_array_equal(hit_rate_at(SCORES, RELEVANT, 2), [1.0, np.nan, 0.0])


def test_mrr_is_one_over_the_first_place() -> None:
    np.testing.assert_array_equal(mrr_at(SCORES, RELEVANT, 4), [1 / 2, np.nan, 1 / 4])
    np.testing.assert_array_equal(mrr_at(SCORES, RELEVANT, 3), [1 / 2, np.nan, 0.0])


def test_ndcg_is_the_discounted_gain_over_the_best() -> None:
    # Places 2 and 3 of the best 1 and 2: (0.6309 + 0.5) / (1 + 0.6309).
    best = 1 + 1 / math.log2(3)
    expected = [(1 / math.log2(3) + 1 / 2) / best, np.nan, 1 / math.log2(5)]
    np.testing.assert_allclose(ndcg_at(SCORES, RELEVANT, 4), expected)
    # At 1 the best is 1, and nobody stands first.
    np.testing.assert_array_equal(ndcg_at(SCORES, RELEVANT, 1), [0.0, np.nan, 0.0])


def test_excluded_products_make_room_and_are_not_asked_for() -> None:
    seen = [[0], [1], [0, 3]]
    # Without product 0 the first user's two stand first; the third user has nothing left to find.
    np.testing.assert_array_equal(
        recall_at(SCORES, RELEVANT, 2, exclude=seen), [1.0, np.nan, np.nan]
    )


def test_a_constant_score_gets_what_chance_gets() -> None:
    scores = np.zeros((1, 10))
    assert recall_at(scores, [[0, 1]], 3) == pytest.approx([0.3])
    # Neither of two among three of ten: 8/10 * 7/9 * 6/8.
    assert hit_rate_at(scores, [[0, 1]], 3) == pytest.approx([1 - 8 * 7 * 6 / (10 * 9 * 8)])
    assert mrr_at(scores, [[4]], 3) == pytest.approx([(1 + 1 / 2 + 1 / 3) / 10])


def brute(scores: list[int], relevant: list[int], k: int, barred: list[int]) -> dict[str, float]:
    """Every measure by its textbook form, averaged over all orders of tied products."""
    candidates = [i for i in range(len(scores)) if i not in barred]
    wanted = set(relevant) - set(barred)
    if not wanted:
        return dict.fromkeys(MEASURES, math.nan)
    found = {name: [] for name in MEASURES}
    for order in itertools.permutations(candidates):
        if any(scores[a] < scores[b] for a, b in itertools.pairwise(order)):
            continue
        hits = [place for place, item in enumerate(order[:k], 1) if item in wanted]
        best = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(wanted)) + 1))
        found["recall"].append(len(hits) / len(wanted))
        found["hit"].append(float(bool(hits)))
        found["mrr"].append(1 / hits[0] if hits else 0.0)
        found["ndcg"].append(sum(1 / math.log2(place + 1) for place in hits) / best)
    return {name: np.mean(values) for name, values in found.items()}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=5),
    st.sets(st.integers(0, 4)),
    st.sets(st.integers(0, 4), max_size=2),
    st.integers(1, 7),
    st.sampled_from([0, 32]),
)
def test_every_measure_is_its_mean_over_all_orders_of_ties(
    scores: list[int], relevant: set[int], barred: set[int], k: int, few: int
) -> None:
    n = len(scores)
    relevant, barred = ([i for i in each if i < n] for each in (relevant, barred))
    expected = brute(scores, relevant, k, barred)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "FEW", few)  # both ways of counting
        for name, measure in MEASURES.items():
            value = measure(np.array([scores], dtype=np.float32), [relevant], k, exclude=[barred])
            assert value[0] == pytest.approx(expected[name], nan_ok=True), name


def test_blocks_and_functions_give_what_the_whole_matrix_gives() -> None:
    random = np.random.default_rng(0)
    scores = random.random((600, 30)).astype(np.float32)
    relevant = [random.integers(0, 30, size) for size in random.integers(0, 4, 600)]
    asked = []

    def score(start: int, stop: int) -> Column:
        asked.append((start, stop))
        return scores[start:stop]

    whole = ndcg_at(scores, relevant, 5)
    np.testing.assert_array_equal(ndcg_at(score, relevant, 5), whole)
    np.testing.assert_array_equal(ndcg_at(iter(np.split(scores, 6)), relevant, 5), whole)
    assert asked == [(0, 256), (256, 512), (512, 600)]


def test_one_pass_over_the_catalogue_serves_every_measure() -> None:
    ranks = fit_ranks(SCORES, RELEVANT)
    for name, measure in MEASURES.items():
        at = {"hit": "hit_rate"}.get(name, name) + "_at"
        np.testing.assert_array_equal(getattr(ranks, at)(3), measure(SCORES, RELEVANT, 3))


def test_measures_rise_with_k_and_end_at_one() -> None:
    random = np.random.default_rng(1)
    ranks = fit_ranks(random.integers(0, 5, (50, 12)), [random.integers(0, 12, 3)] * 50)
    for measure in (ranks.recall_at, ranks.hit_rate_at, ranks.mrr_at):
        values = np.array([measure(k) for k in range(1, 13)])
        assert (np.diff(values, axis=0) >= -1e-12).all()
    np.testing.assert_allclose(ranks.recall_at(12), 1.0)
    np.testing.assert_allclose(ranks.hit_rate_at(12), 1.0)


def test_a_relevant_product_named_twice_counts_once() -> None:
    np.testing.assert_array_equal(recall_at(SCORES[:1], [[1, 1, 3]], 3), [0.5])


def test_nobody_asking_is_nobody_answered() -> None:
    assert np.isnan(recall_at(SCORES, [[], [], []], 2)).all()
    assert np.isnan(mrr_at(SCORES, [[], [], []], 2)).all()
    assert recall_at(np.zeros((0, 4)), [], 2).shape == (0,)


def test_ndcg_by_group_worked_by_hand() -> None:
    # a: order 0.9 (gain 0), 0.5 (gain 3), 0.1 (gain 1). At 2: 3 / log2(3) over 3 + 1 / log2(3).
    scores, gains = [0.1, 0.9, 0.5, 0.3, 0.4], [1, 0, 3, 0, 0]
    values = ndcg_by_group(scores, gains, ["a", "a", "a", "b", "b"], 2)
    discount = 1 / math.log2(3)
    np.testing.assert_allclose(values, [3 * discount / (3 + discount), np.nan])


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20
    ),
    st.integers(1, 6),
)
def test_ndcg_by_group_equals_scikit_learn(rows: Table, k: int) -> None:
    scores, gains, groups = (np.array(column) for column in zip(*rows, strict=True))
    values = ndcg_by_group(scores, gains, groups, k)
    for group, value in zip(np.unique(groups), values, strict=True):
        own = groups == group
        if gains[own].sum() == 0:
            assert math.isnan(value)
        elif own.sum() == 1:  # which scikit-learn refuses
            assert value == 1.0
        else:
            assert value == pytest.approx(ndcg_score([gains[own]], [scores[own]], k=k))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recall_at(SCORES, RELEVANT[:2], 2), "scores: more than 2 rows"),
        (lambda: recall_at(SCORES, [*RELEVANT, []], 2), "scores: 3 rows, and relevant has 4"),
        (lambda: recall_at(SCORES, [[4], [], []], 2), "relevant: user 0 has product 4, .* 0 to 3"),
        (lambda: recall_at(SCORES, RELEVANT, 2, exclude=[[], [-1], []]), "exclude: user 1 .* -1"),
        (lambda: recall_at(SCORES, RELEVANT, 2, exclude=[[]]), "exclude: 1 users, .* has 3"),
        (lambda: recall_at(SCORES * np.nan, RELEVANT, 2), "scores: NaN for user 0"),
        (lambda: recall_at([SCORES[0]], RELEVANT, 2), r"scores: a block of shape \[4\]"),
        (lambda: recall_at(SCORES, RELEVANT, 0), "k: 0; at least one place"),
        (lambda: hit_rate_at(SCORES, RELEVANT, 0), "k: 0"),
        (lambda: mrr_at(SCORES, RELEVANT, -1), "k: -1"),
        (lambda: ndcg_by_group([0.1], [-1], ["a"], 2), "found -1"),
    ],
)
def test_wrong_calls_are_refused_with_what_was_found(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        call()
