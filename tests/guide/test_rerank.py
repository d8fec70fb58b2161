"""What of ranked products is shown: laws of diversity and of caps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daogou.guide.rerank import choose

SEEDS = st.integers(0, 2**31)


def drawn(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return -np.sort(-rng.normal(size=n)), rng.normal(size=(n, 3))


def test_the_second_is_the_one_whose_score_less_its_likeness_is_largest() -> None:
    # Relevance is 1, 0.8 and 0; cosines with the first are 0.6 and 0. With a diversity of 0.5:
    # 0.4 - 0.3 = 0.1 against 0 - 0 = 0. With 0.6: 0.32 - 0.36 = -0.04 against 0.
    relevance = np.array([5.0, 4.8, 4.0])
    vectors = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 2.0]])
    assert choose(relevance, 2, vectors=vectors, diversity=0.5) == [0, 1]
    assert choose(relevance, 2, vectors=vectors, diversity=0.6) == [0, 2]


@given(SEEDS, st.integers(0, 12), st.integers(1, 15))
def test_a_diversity_of_0_changes_nothing(seed: int, n: int, k: int) -> None:
    relevance, vectors = drawn(seed, n)
    assert choose(relevance, k, vectors=vectors) == list(range(min(k, n)))


@given(SEEDS, st.floats(0, 1), st.integers(1, 12))
def test_each_is_shown_once_and_the_best_first_whatever_the_diversity(
    seed: int, diversity: float, n: int
) -> None:
    relevance, vectors = drawn(seed, n)
    found = choose(relevance, n, vectors=vectors, diversity=diversity)
    assert sorted(found) == list(range(n))
    assert found[0] == 0


@pytest.mark.parametrize("diversity", [0.0, 0.3, 1.0])
def test_equals_stay_in_their_order(diversity: float) -> None:
    assert choose(np.ones(4), 4, vectors=np.ones((4, 2)), diversity=diversity) == [0, 1, 2, 3]


@given(SEEDS, st.integers(1, 12), st.integers(1, 12))
def test_the_first_few_are_those_of_a_longer_answer(seed: int, n: int, k: int) -> None:
    relevance, vectors = drawn(seed, n)
    whole = choose(relevance, n, vectors=vectors, diversity=0.5)
    assert choose(relevance, k, vectors=vectors, diversity=0.5) == whole[:k]


def test_shown_products_are_less_alike_the_more_diversity_is_asked_for() -> None:
    relevance, vectors = drawn(3, 40)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def likeness(diversity: float) -> float:
        some = units[choose(relevance, 5, vectors=vectors, diversity=diversity)]
        return float((some @ some.T)[np.triu_indices(5, 1)].max())

    assert likeness(1.0) < likeness(0.5) < likeness(0.0)


def test_a_cap_passes_over_what_is_one_too_many_and_never_what_has_no_group() -> None:
    groups = ["bag", "bag", None, "bag", None, "hat"]
    relevance = np.arange(6.0)[::-1]
    assert choose(relevance, 5, groups=groups, most=1) == [0, 2, 4, 5]
    assert choose(relevance, 3, groups=groups, most=2) == [0, 1, 2]
    assert choose(relevance, 6, groups=groups) == [0, 1, 2, 3, 4, 5]


def test_nothing_to_choose_from_is_an_empty_answer() -> None:
    assert choose(np.zeros(0), 3, vectors=np.zeros((0, 2)), diversity=0.5, groups=[], most=1) == []
