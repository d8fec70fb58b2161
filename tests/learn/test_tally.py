"""What training counts for matching, and how the validation split weighs it."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daogou.artifact import Artifact, load
from daogou.learn import tally
from daogou.model import predict
from daogou.model.heads.match import MatchHead
from daogou.model.heads.tally import COUNTS, Tally


@pytest.fixture
def run(made_run: Path) -> Artifact:
    """Loaded anew, since weighing changes it."""
    return load(made_run, verify=False)


def tally_of(run: Artifact) -> Tally:
    head = run.model.heads["match"]
    assert isinstance(head, MatchHead)
    return head.tally


def weighed(run: Artifact) -> dict[str, Any]:
    return tally.weigh(run.model, run.store, history_length=run.history_length)


def test_counts_are_of_training_alone_and_forget_by_half_lives(run: Artifact) -> None:
    store, transform = run.store, run.transform
    first, last = store.ranges["train"]
    taken = store["exposures/labels"][first:last, 0] == 1
    item = store["items/id"][store["exposures/item"][first:last][taken]]
    time = np.asarray(store["exposures/time"][first:last])
    some = int(item[0])
    age = (time.max() - time[taken][item == some]) / tally.DAY_US
    found = tally.counts_of(store, transform)
    other = int(item[item != some][0])

    def gap(column: int, half: float) -> tuple[float, float]:
        both = [(time.max() - time[taken][item == each]) / tally.DAY_US for each in (some, other)]
        sums = [float((0.5 ** (ages / half)).sum()) + tally.UNTAKEN for ages in both]
        return float(found[some, column] - found[other, column]), math.log(sums[0] / sums[1])

    for column, half in enumerate((1e12, *tally.HALF_LIVES_DAYS)):
        ours, wanted = gap(column, half)
        assert ours == pytest.approx(wanted, abs=1e-4)
    assert len(age) > 1, "or this test would show nothing"
    assert found[:, COUNTS.index("new")].tolist() == [1.0] + [0.0] * (len(found) - 1)


def test_what_comes_after_training_is_not_counted(run: Artifact) -> None:
    store = run.store
    labels = np.array(store["exposures/labels"])
    labels[store.ranges["train"][1] :] = 1
    late = (
        np.asarray(store["history/time"])
        > store["exposures/time"][: store.ranges["train"][1]].max()
    )
    item = np.where(late, 1, store["history/item"])
    assert late.any()
    other = replace(
        store, arrays={**store.arrays, "exposures/labels": labels, "history/item": item}
    )
    torch.testing.assert_close(
        tally.counts_of(other, run.transform), tally.counts_of(store, run.transform)
    )


def test_a_run_keeps_its_counts_and_what_its_weights_gained(made_run: Path, run: Artifact) -> None:
    assert torch.equal(tally_of(run).counts, tally.counts_of(run.store, run.transform))
    told = run.manifest["fit"]["tally"]
    assert told["nats"][1] < told["nats"][0]
    weights = told["weights"]
    assert list(weights) == ["learnt", *COUNTS, "events", "taken_before"]
    assert [len(each) for each in weights["events"]] == [4] * len(run.transform.actions)
    events = [weight for each in weights["events"] for weight in each]
    said = [*list(weights.values())[:-2], *events, weights["taken_before"]]
    assert tally_of(run).weights.tolist() == pytest.approx(said)


def test_weighing_again_gives_the_same_weights(run: Artifact) -> None:
    before = tally_of(run).weights.clone()
    weighed(run)
    torch.testing.assert_close(tally_of(run).weights, before, rtol=0, atol=1e-4)


def test_the_weights_are_the_likeliest_under_their_prior(run: Artifact) -> None:
    """The gradient of what is minimised, taken by small steps of each weight, is 0 there."""
    queries, relevant = tally.asked_moments(run.store, "validation")
    made = tally_of(run)
    centre = torch.zeros_like(made.weights)
    centre[:2] = 1.0

    def loss(weights: torch.Tensor) -> float:
        made.weights.copy_(weights)
        blocks = predict.match_scores(
            run.model, run.store, queries, history_length=run.history_length
        )
        scores = torch.from_numpy(np.concatenate(list(blocks))).double().log_softmax(1)
        nats = -sum(
            float(row[items - 1].sum()) for row, items in zip(scores, relevant, strict=True)
        )
        return nats + float((weights - centre).square().sum()) / 2

    best = made.weights.clone()
    lowest = loss(best)
    for place in range(len(best)):
        for step in (-0.2, 0.2):
            moved = best.clone()
            moved[place] += step
            assert loss(moved) > lowest


def test_of_a_large_catalogue_fewer_moments_weigh_spread_over_all(
    run: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = tally.asked_moments(run.store, "validation")
    assert len(whole) > 2 * tally.LEAST
    monkeypatch.setattr(tally, "MOST_IN_ALL", (run.store.n_items + 1) * (tally.LEAST + 1))
    fewer, taken = tally.asked_moments(run.store, "validation")
    assert tally.LEAST / 2 < len(fewer) <= tally.LEAST + 1 and len(taken) == len(fewer)
    assert np.isin(fewer.time, whole.time).all()
    assert fewer.time.max() > np.median(whole.time)


def test_with_too_few_products_taken_nothing_is_weighed(run: Artifact) -> None:
    labels = np.array(run.store["exposures/labels"])
    labels[run.store.ranges["train"][1] :] = 0
    bare = replace(run, store=replace(
        run.store, arrays={**run.store.arrays, "exposures/labels": labels}
    ))  # fmt: skip
    assert weighed(bare) == {"method": "none", "why": "0 products taken; 20 needed", "n": 0}
    assert tally_of(bare).weights[:2].tolist() == [1.0, 1.0]
    assert not tally_of(bare).weights[2:].any()


def test_the_test_split_does_not_weigh(run: Artifact) -> None:
    labels = np.array(run.store["exposures/labels"])
    first, last = run.store.ranges["test"]
    labels[first:last] = 1 - labels[first:last]
    other = replace(run, store=replace(
        run.store, arrays={**run.store.arrays, "exposures/labels": labels}
    ))  # fmt: skip
    before = tally_of(run).weights.clone()
    weighed(other)
    torch.testing.assert_close(tally_of(other).weights, before, rtol=0, atol=1e-4)
