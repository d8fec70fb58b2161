"""The rivals of the matching benchmark, on tables small enough to work out by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daogou.artifact import Artifact, load

sparse = pytest.importorskip("scipy.sparse")
bench = pytest.importorskip("understand_match")

# Three users took (0, 1), (0, 1) and (2,).
TAKEN = sparse.csr_matrix(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=np.float32))
ONE = sparse.csr_matrix(np.array([[1, 0, 0]], dtype=np.float32))


@pytest.fixture(scope="module")
def run(made_run: Path) -> Artifact:
    return load(made_run, verify=False)


def scored(scorer: Any) -> list[float]:
    found: list[float] = scorer(ONE, np.array([0]))[0].tolist()
    return found


def test_cosines_of_who_took_both() -> None:
    # 0 and 1 were taken by the same two, cosine 1; shrunk by 2: 2 / (2 + 2). Nobody took 0 and 2.
    none: Any = None
    assert scored(bench.cosine(none, TAKEN, shrink=0.0, itself=True)) == pytest.approx([1, 1, 0])
    assert scored(bench.cosine(none, TAKEN, shrink=2.0, itself=False)) == pytest.approx([0, 0.5, 0])


def test_ease_is_its_closed_form() -> None:
    # G + I = [[3, 2], [2, 3]] of products 0 and 1; its inverse [[3, -2], [-2, 3]] / 5: 2 / 3.
    none: Any = None
    assert scored(bench.ease(none, TAKEN, l2=1.0)) == pytest.approx([0.0, 2 / 3, 0.0])


def test_histories_and_lessons_hold_what_came_before(run: Artifact) -> None:
    asked = bench.asked_of(run, "test", "first moment")
    assert len(asked.queries) == len(asked.wanted) == asked.past["stages"].shape[0]
    store = run.store
    for place in range(0, len(asked.queries), 7):
        queries = asked.queries
        start = int(store["users/start"][queries.user[place]])
        items = set(store["history/item"][start : int(queries.end[place])].tolist()) - {0}
        assert set((asked.past["stages"][place].indices + 1).tolist()) == items
    lessons = bench.trained(run, "stages")
    until = store["exposures/time"][store.ranges["train"][1] - 1]
    early = np.asarray(store["history/time"]) <= until
    user = int(asked.queries.user[0])
    mine = store.history_slice(user)
    wanted = set(store["history/item"][mine][early[mine]].tolist())
    assert set((lessons[user].indices + 1).tolist()) == wanted


def test_a_session_is_asked_once_at_the_first_list_it_took_from(run: Artifact) -> None:
    store = run.store
    queries, taken = bench.sessions(store, "test")
    first, last = store.ranges["test"]
    names = store.exposure_keys("test")["request"].to_pylist()
    clicked = np.flatnonzero(store["exposures/labels"][first:last, 0] == 1)
    assert len(taken) == len({names[place] for place in clicked})
    assert sum(map(len, taken)) == len(
        {(names[p], store["exposures/item"][first + p]) for p in clicked}
    )
    place = int(clicked[0])
    assert queries.time[0] == store["exposures/time"][first + place]
    other = replace(
        store, arrays={**store.arrays, "exposures/labels": store["exposures/labels"] * 0}
    )
    assert len(bench.sessions(other, "test")[0]) == 0


def test_a_rival_without_a_word_is_popularity(run: Artifact) -> None:
    asked = bench.asked_of(run, "validation", "first moment")

    def silent(past: Any, users: Any) -> Any:
        return np.zeros(past.shape)

    popular = bench.popular(run, None)
    ours, theirs = (
        bench.ranked(run, scorer, "stages", False, asked).recall_at(5)
        for scorer in (silent, popular)
    )
    np.testing.assert_array_equal(ours, theirs)
