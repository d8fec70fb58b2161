"""A shop with amounts, an ordered profile and a list, from its files to what a guide says."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daogou import artifact
from daogou.artifact import Artifact
from daogou.config import read_shop
from daogou.errors import ConfigError
from daogou.guide import Guide
from daogou.learn.evaluate import evaluate
from daogou.learn.fit import fit
from daogou.learn.validate import TaskLoss, joint_score, validation_losses
from daogou.learn.validate import _value as amount_loss
from daogou.tables.simulate import simulate
from tests.learn.conftest import QUICK


def add_worth(folder: Path) -> None:
    """Give each purchase an amount about its product's price, and users a list of interests."""
    rng = np.random.default_rng(0)
    items = pq.read_table(folder / "items.parquet")
    price = dict(zip(items["item_id"].to_pylist(), items["price"].to_pylist(), strict=True))
    events = pq.read_table(folder / "events.parquet")
    pairs = zip(events["item_id"].to_pylist(), events["event"].to_pylist(), strict=True)
    amounts = [
        price[item] * math.exp(0.3 * rng.standard_normal()) if kind == "purchase" else None
        for item, kind in pairs
    ]
    events = events.append_column("amount", pa.array(amounts, pa.float64()))
    pq.write_table(events, folder / "events.parquet")
    users = pq.read_table(folder / "users.parquet")
    likes = [
        None if rng.random() < 0.2 else [word for word in ("art", "sport") if rng.random() < 0.5]
        for _ in range(len(users))
    ]
    users = users.append_column("likes", pa.array(likes, pa.list_(pa.string())))
    pq.write_table(users, folder / "users.parquet")
    toml = (folder / "shop.toml").read_text()
    toml = toml.replace('request = "request"', 'request = "request"\nvalue = "amount"')
    toml = toml.replace('"tier"]', '"tier", "likes"]')
    toml += '\n[tasks."profile.age_band"]\nloss = "ordinal"\n'
    (folder / "shop.toml").write_text(toml)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("worth")
    simulate(folder / "shop", "easy", users=100, items=40, exposures=6000)
    add_worth(folder / "shop")
    fit(read_shop(folder / "shop", QUICK), folder / "run")
    return artifact.load(folder / "run")


@pytest.fixture(scope="module")
def report(run: Artifact) -> Mapping[str, Any]:
    tasks: Mapping[str, Any] = evaluate(run)["tasks"]
    return tasks


def test_a_value_is_judged_where_it_is_defined_and_over_all_exposures(
    run: Artifact, report: Mapping[str, Any]
) -> None:
    first, last = run.store.ranges["test"]
    labels = run.store["exposures/labels"][first:last]
    value = run.store["exposures/value"][first:last]
    bought = labels[:, 2] == 1
    given, over_all = report["value|purchase"], report["value"]
    assert given["n"] == given["positives"] == int((bought & ~np.isnan(value)).sum()) > 1
    assert over_all["n"] == int((labels[:, 2] >= 0).sum())
    assert over_all["mean"] == pytest.approx(value[bought].sum() / over_all["n"])
    assert all(math.isfinite(given[name]) for name in ("gini", "mae", "log_rmse", "spearman"))
    assert math.isfinite(over_all["gini"]) and "auc" not in over_all


def test_an_ordered_column_says_by_how_many_classes_it_errs_and_a_list_a_mean_over_values(
    report: Mapping[str, Any],
) -> None:
    assert 0 <= report["profile.age_band"]["class_distance"] <= 3
    assert "class_distance" not in report["profile.gender"]
    assert 0 <= report["profile.likes"]["auc"] <= 1
    assert 0 <= report["profile.likes"]["macro_f1"] <= 1


def test_a_value_s_constant_is_that_of_its_own_standardised_logarithm(run: Artifact) -> None:
    found = validation_losses(run.model, run.store, "validation", history_length=20)
    assert found["value"].constant == pytest.approx(0.5 * math.log(2 * math.pi * math.e))
    assert 0.3 < found["value"].relative < 3
    assert 0 < found["profile.likes"].constant <= math.log(2)
    assert all(math.isfinite(each.relative) for each in found.values())


def test_the_constant_model_s_loss_is_the_constant_s_whatever_training_s_spread() -> None:
    # Logarithms 1 and 3: mean 2, spread 1. Said to be N(2, 1), in units of a training spread of 4:
    # the density of (log - 2) / 4 is four times that of the logarithm.
    values = np.exp([1.0, 3.0, 9.0])
    at_one_spread = 0.5 * math.log(2 * math.pi) + 0.5
    nats = np.array([at_one_spread - math.log(4)] * 2 + [np.nan])
    found = amount_loss(values, nats, np.ones(3), 4.0)
    assert (found.relative, found.n) == (pytest.approx(1.0), 2)
    # With as many zeros, each ln 2 for being one, and ln 2 more for each that is not.
    with_zeros = np.array([0.0, 0.0, *values[:2]])
    nats = np.array([0.0, 0.0, *nats[:2]]) + math.log(2)
    found = amount_loss(with_zeros, nats, np.ones(4), 4.0)
    assert found.constant == pytest.approx(math.log(2) + at_one_spread / 2)
    assert found.relative == pytest.approx(1.0)


def test_one_value_alone_has_no_spread_and_no_say() -> None:
    found = amount_loss(np.array([5.0]), np.array([1.0]), np.ones(1), 4.0)
    assert (math.isnan(found.relative), found.n) == (True, 1)


def test_a_loss_below_zero_still_says_how_much_better_than_the_constant_it_is() -> None:
    both = {"value": TaskLoss(-1.0, 1.4189, 9), "click": TaskLoss(0.5, 0.5, 9)}
    assert joint_score(both) == pytest.approx((1 - 1 / 1.4189) / 2)


def test_a_guide_says_what_showing_a_product_is_worth_and_ranks_as_without(run: Artifact) -> None:
    guide = Guide.of(run)
    user = next(iter(run.store.user_rows))
    items = guide.recommend(user, k=5)["items"]
    assert run.transform.value is not None
    most = math.exp(run.transform.value.most) * 1.001
    for item in items:
        assert list(item["p"]) == ["click", "cart", "purchase"]
        assert 0 <= item["expected_value"] <= most * item["p"]["purchase"]
    weights = guide.weights
    assert set(weights) == {"click", "cart", "purchase"}
    fused = [sum(weights[stage] * item["p"][stage] for stage in weights) for item in items]
    assert [item["score"] for item in items] == pytest.approx(fused)
    scored = guide.score(user, [items[0]["item"]])["items"][0]
    assert scored["expected_value"] == pytest.approx(items[0]["expected_value"], rel=1e-4)
    explained = guide.explain(user, items[0]["item"])
    assert explained["expected_value"] == pytest.approx(items[0]["expected_value"], rel=1e-4)


def test_a_guide_s_profile_gives_each_value_of_a_list_a_chance_of_its_own(run: Artifact) -> None:
    user = next(iter(run.store.user_rows))
    columns = Guide.of(run).profile(user)["columns"]
    assert set(columns["likes"]) == {"art", "sport"}
    assert all(0 < chance < 1 for chance in columns["likes"].values())
    assert sum(columns["age_band"].values()) == pytest.approx(1.0, abs=1e-5)


def test_a_run_that_learnt_an_amount_alone_says_what_it_lacks(
    tmp_path: Path, run: Artifact
) -> None:
    off = [f"tasks.{name}.enabled=false" for name in ("click", "cart", "purchase")]
    zeros = "tasks.value.loss=zero_inflated"  # of all exposures most are worth nothing
    shop = read_shop(run.shop.root, [*QUICK, *off, zeros, "fit.epochs=1"])
    fit(shop, tmp_path / "run")
    alone = artifact.load(tmp_path / "run")
    assert "value" in evaluate(alone)["tasks"]
    user = next(iter(alone.store.user_rows))
    with pytest.raises(ConfigError, match="learnt what a stage is worth and no chance"):
        Guide.of(alone).recommend(user)


def test_what_a_click_is_worth_counts_those_who_did_not_buy(tmp_path: Path, run: Artifact) -> None:
    sets = ["tasks.value.given=click", "tasks.value.loss=zero_inflated", "fit.epochs=4"]
    fit(read_shop(run.shop.root, [*QUICK, *sets]), tmp_path / "run")
    found = artifact.load(tmp_path / "run")
    first, last = found.store.ranges["test"]
    labels = found.store["exposures/labels"][first:last]
    value = found.store["exposures/value"][first:last]
    clicked = (labels[:, 0] == 1) & (labels[:, 2] >= 0)
    assert (value[clicked & (labels[:, 2] == 0)] == 0).all()
    given = evaluate(found)["tasks"]["value|click"]
    assert given["n"] == clicked.sum() > 2 * given["positives"] > 0
    # Were those who did not buy left out, it would say as much as a purchase is worth.
    said = given["predicted_over_observed"] * given["mean"]
    assert 0 < said < value[labels[:, 2] == 1].mean() / 2
