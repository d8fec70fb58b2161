from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daogou.errors import DataError
from daogou.tables.draw.shoppers import PROFILE, Prior
from daogou.tables.posterior import Evidence, posterior_of_profiles
from daogou.tables.simulate import simulate
from daogou.tables.truth import STAGES, Truth, over_intent, read_truth, sigmoid


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "shop"
    simulate(folder, "easy", seed=5, users=600, items=320, exposures=120_000)
    return folder


@pytest.fixture(scope="module")
def truth(shop: Path) -> Truth:
    return read_truth(shop / "truth")


def test_intent_with_coefficient_nothing_changes_nothing() -> None:
    # Two stages at even odds: 1/2, then 1/2 * 1/2.
    click, cart = over_intent([np.zeros(1), np.zeros(1)], 0.0, None)
    assert click == pytest.approx(0.5)
    assert cart == pytest.approx(0.25)


def test_intent_that_decides_alone_makes_stages_come_together() -> None:
    # E[s(ch)] = 1/2 by symmetry. E[s(ch)^2] -> 1/2 as c grows, 1/4 at c = 0: the stages correlate.
    click, cart = over_intent([np.zeros(1), np.zeros(1)], 2.0, None)
    assert click == pytest.approx(0.5)
    h = np.linspace(-9, 9, 200_001)
    density = np.exp(-(h**2) / 2)
    assert cart == pytest.approx((sigmoid(2 * h) ** 2 @ density) / density.sum(), abs=2e-3)
    assert cart > 0.33


def test_examination_multiplies_every_stage() -> None:
    logits = [np.array([0.3]), np.array([-1.0])]
    whole = over_intent(logits, 0.7, None)
    half = over_intent(logits, 0.7, np.array([0.5]))
    assert np.allclose(half, np.multiply(whole, 0.5))


def test_exposures_come_in_the_order_asked_whatever_their_type(shop: Path, truth: Truth) -> None:
    table = pq.read_table(shop / "truth" / "exposures.parquet")
    whole = dict(zip(table["id"].to_pylist(), table["k_purchase"].to_pylist(), strict=True))
    asked = ["17", "3", "17", "999"]
    found = truth.exposures(asked)
    assert found["k_purchase"].tolist() == [whole[each] for each in asked]
    assert {f"{kind}_{stage}" for kind in "pk" for stage in STAGES} <= set(found)
    for same in ([17, 3, 17, 999], np.array([17, 3, 17, 999]), pa.array(asked)):
        assert truth.exposures(same)["p_click"].tolist() == found["p_click"].tolist()
    assert truth.exposures([])["p_click"].shape == (0,)


def test_ids_never_written_are_named(truth: Truth) -> None:
    with pytest.raises(DataError, match=r"exposures.parquet: 2 of 3 ids were never written, first"
                       r" 120000000, x; the truth belongs to another shop"):  # fmt: skip
        truth.exposures(["1", "120000000", "x"])
    with pytest.raises(DataError, match=r"users.parquet: 1 of 1 ids were never written, first 7"):
        truth.match_scores([7])
    with pytest.raises(DataError, match=r"no profile column 'height'; planted are: gender, age"):
        truth.profile_posterior("height", truth.user_ids)


def test_match_scores_are_the_logs_expected_clicks(tmp_path: Path) -> None:
    """A user's clicks are expected in proportion to exp(score): checked by eighths of it."""
    # A retrieval score knows neither positions nor what is not yet on sale.
    shop = tmp_path / "shop"
    simulate(
        shop, "easy", seed=5, users=600, items=320, exposures=120_000, theta=0.0, cold_items=0.0
    )
    truth = read_truth(shop / "truth")
    events = pq.read_table(shop / "events.parquet", columns=["user_id", "item_id", "event"])
    kind = np.array(events["event"].to_pylist())
    users, items = events["user_id"].to_numpy() - 100_001, events["item_id"].to_numpy() - 500_001
    assert truth.user_ids[0] == "100001" and truth.item_ids[-1] == "500320"
    scores = truth.match_scores(truth.user_ids)
    assert scores.shape == (600, 320)
    here = kind == "impression"
    slates = np.bincount(users[here], minlength=600) / 10
    expected = slates[:, None] * np.exp(scores)
    clicks = np.zeros((600, 320))
    here = kind == "click"
    np.add.at(clicks, (users[here], items[here]), 1)
    assert expected.sum() == pytest.approx(clicks.sum(), rel=0.05)
    for part in np.array_split(np.argsort(expected.ravel()), 8)[3:]:
        assert clicks.ravel()[part].sum() == pytest.approx(expected.ravel()[part].sum(), rel=0.12)


def test_match_scores_of_some_users_are_rows_of_the_whole(truth: Truth) -> None:
    ids = [truth.user_ids[k] for k in (5, 2)]
    assert np.allclose(truth.match_scores(ids), truth.match_scores(truth.user_ids)[[5, 2]])
    assert truth.match_scores([int(each) for each in ids]).shape == (2, 320)


@pytest.mark.parametrize("column", PROFILE)
def test_the_profile_posterior_is_calibrated_and_tells_much(
    shop: Path, truth: Truth, column: str
) -> None:
    table = pq.read_table(shop / "users.parquet")
    values, posterior = truth.profile_posterior(column, table["user_id"])
    assert values == PROFILE[column]
    assert np.allclose(posterior.sum(1), 1)
    actual = np.array([values.index(each) for each in table[column].to_pylist()])
    right = posterior.argmax(1) == actual
    claimed = posterior.max(1)
    error = np.sqrt((claimed * (1 - claimed)).sum()) / len(right)
    # The logging policy's evidence is taken to second order, which claims a little too much.
    assert abs(right.mean() - claimed.mean()) < 4 * error + 0.015
    assert right.mean() > 0.75
    for k in range(len(values)):  # average belief in a value = share of that value
        share = (actual == k).mean()
        assert abs(posterior[:, k].mean() - share) < 4 * np.sqrt(share / len(actual))


def test_without_profile_strength_only_the_city_tells(tmp_path: Path) -> None:
    small = {"users": 300, "items": 160, "exposures": 20_000, "price_effect": 0.0}
    simulate(tmp_path / "s", "easy", profile_strength=0.0, **small)
    truth = read_truth(tmp_path / "s" / "truth")
    values, posterior = truth.profile_posterior("gender", truth.user_ids)
    assert values == ("F", "M")
    assert np.allclose(posterior[:, 0], 0.55, atol=1e-3)


def test_with_gaussian_evidence_alone_the_posterior_is_exact() -> None:
    # Profiles at -1 and +1 with variance 1; one observation 0.5 of unit variance.
    # N(0.5; +-1, 2): log odds = (1.5^2 - 0.5^2) / (2 * 2) = 0.5.
    prior = Prior(np.array([[-1.0], [1.0]]), np.ones(1), np.log(np.full((1, 2), 0.5)))
    posterior = posterior_of_profiles(prior, [], np.ones((1, 1, 1)), np.array([[0.5]]))
    assert np.log(posterior[0, 1] / posterior[0, 0]) == pytest.approx(0.5)


def test_outcomes_move_the_posterior_as_the_integral_says() -> None:
    # Ten yes and two no at logit = latent, against the integral over the latent by a fine grid.
    prior = Prior(np.array([[-0.8], [0.8]]), np.array([0.5]), np.log(np.array([[0.3, 0.7]])))
    outcome = np.array([True] * 10 + [False] * 2)
    evidence = Evidence(np.zeros(12, dtype=int), np.ones((12, 1)), (0,), np.zeros(12), outcome)
    found = posterior_of_profiles(prior, [evidence], np.zeros((1, 1, 1)), np.zeros((1, 1)))
    grid = np.linspace(-8, 8, 40_001)
    likelihood = sigmoid(grid) ** 10 * sigmoid(-grid) ** 2
    parts = [
        share * (likelihood * np.exp(-((grid - mean) ** 2) / (2 * 0.5))).sum()
        for mean, share in ((-0.8, 0.3), (0.8, 0.7))
    ]
    assert found[0] == pytest.approx(np.array(parts) / sum(parts), abs=0.01)


def test_the_mode_is_reached_where_all_outcomes_agree() -> None:
    prior = Prior(np.array([[-3.0], [3.0]]), np.array([4.0]), np.log(np.full((1, 2), 0.5)))
    outcome = np.ones(500, dtype=bool)
    evidence = Evidence(np.zeros(500, dtype=int), np.ones((500, 1)), (0,), np.zeros(500), outcome)
    found = posterior_of_profiles(prior, [evidence], np.zeros((1, 1, 1)), np.zeros((1, 1)))
    assert np.isfinite(found).all()
    assert found[0, 1] > 0.95


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"exposures.parquet: no such file; `daogou simulate DIR`"):
        read_truth(tmp_path)
    simulate(tmp_path / "s", users=20, items=60, exposures=200)
    folder = tmp_path / "s" / "truth"
    (folder / "truth.json").write_text("{")
    with pytest.raises(DataError, match=r"truth.json: not valid JSON"):
        read_truth(folder)
    (folder / "truth.json").unlink()
    with pytest.raises(DataError, match=r"truth.json: no such file"):
        read_truth(folder)
