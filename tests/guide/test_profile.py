from typing import cast

import numpy as np
import pytest
import torch

from daogou.features.batch import Queries
from daogou.guide import Guide, profile
from daogou.guide.explain import DAY_US
from daogou.guide.score import Past
from daogou.model import predict
from daogou.model.heads.profile import ProfileHead

LONG_LOG = 365 * DAY_US


def make_past(ages_days: list[float]) -> Past:
    now = 1000 * DAY_US
    time = np.array([now - round(age * DAY_US) for age in ages_days], dtype=np.int64)
    rows = np.ones(len(time), dtype=np.int64)
    return Past(rows, rows, time, now)


@pytest.mark.parametrize(
    ("ages_days", "log_us", "expected"),
    [
        ([], LONG_LOG, "new"),
        ([1, 2], LONG_LOG, "new"),
        ([1, 2, 300], LONG_LOG, "active"),
        ([30, 40, 50], LONG_LOG, "active"),
        ([31, 40, 50], LONG_LOG, "lapsing"),
        ([4, 5, 6], 9 * DAY_US, "lapsing"),  # a third of nine days is three
        ([3, 5, 6], 9 * DAY_US, "active"),
    ],
)
def test_the_lifecycle_follows_count_and_silence(
    ages_days: list[float], log_us: int, expected: str
) -> None:
    assert profile.lifecycle(make_past(ages_days), log_us) == expected


def test_the_distributions_are_those_of_the_offline_model(guide: Guide, regular: str) -> None:
    artifact = guide.artifact
    row = np.array([artifact.store.user_rows[regular]])
    expected = predict.profile_scores(
        artifact.model, artifact.store, row, history_length=artifact.history_length
    )
    columns = guide.profile(regular)["columns"]
    assert list(columns) == ["gender", "age_band", "tier"]
    for (column, chances), offline in zip(columns.items(), expected, strict=True):
        inner = [chances[value] for value in artifact.transform.classes(column)]
        np.testing.assert_allclose(inner, offline[0], atol=1e-5)
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
        assert list(chances.values()) == sorted(chances.values(), reverse=True)


@torch.inference_mode()
def test_evidence_is_what_the_answer_would_be_without_the_product(guide: Guide) -> None:
    """A user whose newest event is with a product of its own: without it, it is yesterday."""
    store, scorer = guide.artifact.store, guide.scorer
    for user in store.user_rows:
        row = store.user_rows[user]
        past = scorer.past(scorer.queries([row]))
        if len(past.item) == 3 and (past.item == past.item[0]).sum() == 1:
            break
    newest = guide.catalogue.keys[int(past.item[0])]
    lines = {line["item"]: line for line in guide.profile(user)["evidence"]}
    line = lines[newest]
    queries = scorer.queries([row])
    # Ages count from the same now, so only the end of the history moves.
    without = Queries(queries.user, queries.end - 1, queries.time)
    head = cast(ProfileHead, guide.artifact.model.heads["profile"])
    names = [guide.artifact.transform.profile.names[column] for column in head.columns]
    place = names.index(line["column"])
    at = guide.artifact.transform.classes(line["column"]).index(line["value"])
    chances = []
    for each in (queries, without):
        shoppers = scorer.shoppers(each)
        assert shoppers is not None
        distributions = head.distributions(shoppers.encoded, shoppers.columns)
        chances.append(float(distributions[place][0, at]))
    assert line["weight"] == pytest.approx(chances[0] - chances[1], abs=1e-6)


def test_evidence_is_the_strongest_first_and_each_product_once(guide: Guide, regular: str) -> None:
    lines = guide.profile(regular)["evidence"]
    weights = [abs(line["weight"]) for line in lines]
    assert weights == sorted(weights, reverse=True)
    assert len({line["item"] for line in lines}) == len(lines) == 5
    assert all(line["time"].endswith("+00:00") for line in lines)


def test_a_stranger_is_new_and_nothing_speaks_for_it(guide: Guide) -> None:
    answer = guide.profile("stranger")
    assert (answer["known"], answer["lifecycle"]) == (False, "new")
    assert answer["evidence"] == [] and answer["preferences"] == {}
    assert sum(answer["columns"]["gender"].values()) == pytest.approx(1)


def test_at_most_five_values_of_a_column_are_given(guide: Guide, regular: str) -> None:
    answer = guide.profile(regular)
    assert {"category", "brand"} <= set(answer["preferences"])
    for shares in answer["preferences"].values():
        assert 1 <= len(shares) <= 5
        assert sum(shares.values()) <= 1 + 1e-9
    assert answer["text"].startswith("An active user; probably gender ")
    assert guide.profile(regular, lang="zh")["text"].startswith("活跃用户；可能是性别")
