"""Drift is found where it is and not where it is not, whole users drawn."""

import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from daogou import artifact
from daogou.config import read_shop
from daogou.learn.aging import line_through
from daogou.learn.drift import FAR, GO_ON, LEVEL, MOVED, NOT_KNOWN, REFIT, SAME, judged
from daogou.learn.fit import fit
from daogou.learn.onward import drift_since, later
from daogou.learn.shares import Shares, moved, shares_of
from daogou.learn.since import Line
from tests.learn.test_transfer import SETS

Rows = NDArray[np.int64]
BINS = tuple("abcde")
USUAL = np.array([0.4, 0.3, 0.15, 0.1, 0.05])


def drawn(random: np.random.Generator, share: NDArray[np.float64]) -> tuple[Rows, Rows]:
    """Bins and users of some rows: each user's rows are of a taste of their own around a share."""
    sizes = 1 + random.poisson(8, size=100)
    tastes = random.dirichlet(4 * share, size=len(sizes))
    place = [random.choice(len(share), size=n, p=p) for n, p in zip(sizes, tastes, strict=True)]
    return np.concatenate(place), np.repeat(np.arange(len(sizes)), sizes)


def test_the_index_of_many_rows_is_what_it_is_by_hand() -> None:
    many = 100_000
    before, now = (
        shares_of(("a", "b"), np.repeat([0, 1], [round(p * many), round((1 - p) * many)]),
                  np.arange(many))
        for p in (0.5, 0.9)
    )  # fmt: skip
    found = moved(before, now)
    assert found.index == pytest.approx(0.4 * math.log(1.8) - 0.4 * math.log(0.2), abs=1e-3)
    # Of two bins the noise is their variance over the share: 1 / n and 1 / m, nearly.
    assert found.noise == pytest.approx((0.25 + 0.09) / many * (1 / 0.7 + 1 / 0.3), rel=1e-3)
    assert found.p < 1e-12
    assert Shares.from_json(now.to_json()).covariance.tolist() == now.covariance.tolist()


def test_the_covariance_of_single_rows_is_the_multinomial_s() -> None:
    place = np.repeat([0, 1, 2], [20, 30, 50])
    found = shares_of(("a", "b", "c"), place, np.arange(100))
    p = np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(found.covariance, (np.diag(p) - np.outer(p, p)) / 99)
    # A hundred users who come twice each say as much as if they had come once.
    twice = shares_of(("a", "b", "c"), np.tile(place, 2), np.tile(np.arange(100), 2))
    np.testing.assert_allclose(twice.covariance, found.covariance)


@pytest.mark.parametrize(("whole_users", "least", "most"), [(True, 0.01, 0.1), (False, 0.3, 1.0)])
def test_without_drift_alarms_are_as_rare_as_they_are_said_to_be(
    whole_users: bool, least: float, most: float
) -> None:
    """Taken for as many witnesses, the rows of few users would cry wolf."""
    random = np.random.default_rng(0)
    p_values, apart = [], []
    for _ in range(250 if whole_users else 60):
        sides = []
        for _ in range(2):
            place, user = drawn(random, USUAL)
            sides.append(shares_of(BINS, place, user if whole_users else np.arange(len(place))))
        found = moved(sides[0], sides[1])
        p_values.append(found.p)
        apart.append(found.index - found.noise)
    assert least < np.mean(np.array(p_values) < LEVEL) < most
    if whole_users:  # the index less its noise is nothing on the whole
        assert abs(np.mean(apart)) < 4 * np.std(apart) / math.sqrt(len(apart))


def test_a_planted_change_is_found() -> None:
    random = np.random.default_rng(1)
    other = USUAL[::-1].copy()
    lines = []
    for share in (USUAL, other):
        before, now = (shares_of(BINS, *drawn(random, each)) for each in (USUAL, share))
        found = moved(before, now)
        lines.append(Line("feature", "x", found.index - found.noise, found.p, {}))
    assert judged(lines) == [SAME, FAR]


def test_a_line_moves_where_it_is_no_luck_and_no_trifle() -> None:
    lines = [
        Line("feature", "sure and far", 0.3, 1e-9, {}),
        Line("feature", "sure", 0.2, 1e-9, {}),
        Line("feature", "a sure trifle", 0.05, 1e-9, {}),
        Line("feature", "luck", 0.3, 0.03, {}),  # one of eight may be so by luck alone
        Line("auc", "lost", 0.03, 1e-9, {}),
        Line("auc", "won", -0.03, 1.0, {}),
        Line("rate", "doubled", math.log(2), 1e-9, {}),
        Line("unknown", "all", 1.0, 1e-9, {}),
        Line("slope", "unknown", math.nan, math.nan, {}),
    ]
    assert judged(lines) == [FAR, MOVED, SAME, SAME, FAR, SAME, MOVED, MOVED, NOT_KNOWN]
    assert judged([]) == []


def test_nothing_to_compare_is_not_known() -> None:
    none = shares_of(("a", "b"), np.zeros(0, dtype=int), np.zeros(0, dtype=int))
    assert math.isnan(moved(none, Shares.from_json(artifact.plain(none.to_json()))).p)
    alone = shares_of(("a", "b"), np.array([0, 1]), np.array([7, 7]))  # one user tells no luck
    assert math.isnan(moved(alone, alone).p)
    same = shares_of(("a", "b"), np.zeros(4, dtype=int), np.arange(4))
    assert moved(same, same).p == 1.0


def test_a_line_through_logits_finds_how_sure_they_are() -> None:
    random = np.random.default_rng(2)
    logits = random.normal(size=4000)
    happened = random.random(4000) < 1 / (1 + np.exp(-(0.5 * logits + 0.3)))
    (slope, intercept), covariance = line_through(logits, happened, np.ones(4000), np.arange(4000))
    se = np.sqrt(np.diag(covariance))
    assert abs(slope - 0.5) < 3 * se[0] < 0.15
    assert abs(intercept - 0.3) < 3 * se[1] < 0.15
    # Each row twice of one user each: as little is known as before.
    twice = np.tile(np.arange(4000), 2)
    _, doubled = line_through(np.tile(logits, 2), np.tile(happened, 2), np.ones(8000), twice)
    np.testing.assert_allclose(doubled, covariance, rtol=1e-6)


# ---- of a run -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the first two thirds of a log, and the rest in two files: as it was, and changed."""
    folder = tmp_path_factory.mktemp("drift") / "shop"
    shutil.copytree(shop_folder, folder)
    events = pq.read_table(folder / "events.parquet")
    time = events["ts"].cast(pa.int64()).to_numpy()
    late = time > np.quantile(time, 0.66)
    rest = events.filter(pa.array(late))
    pq.write_table(events.filter(pa.array(~late)), folder / "early.parquet")
    pq.write_table(rest, folder / "as-it-was.parquet")
    place = rest.column_names.index("device")
    watch = pa.array(["watch"] * len(rest))
    pq.write_table(rest.set_column(place, "device", watch), folder / "changed.parquet")
    fit(
        read_shop(folder, [*SETS, 'events.path="early.parquet"', "split.test=0.25"]),
        folder.parent / "run",
    )
    return folder.parent / "run"


@pytest.mark.parametrize(
    ("file", "device", "verdict"),
    [("as-it-was", SAME, GO_ON), ("changed", FAR, REFIT)],
)
def test_a_run_is_told_what_has_changed(run: Path, file: str, device: str, verdict: str) -> None:
    loaded = artifact.load(run, verify=False)
    events = (str(run.parent / "shop" / f"{file}.parquet"),)
    found = drift_since(loaded, later(loaded.manifest, None, events))
    lines = {(line["kind"], line["name"]): line for line in found["lines"]}
    assert lines["feature", "events.context.device"]["verdict"] == device
    assert found["verdict"] == verdict
    assert {kind for kind, _ in lines} == {"feature", "unknown", "rate", "slope", "auc"}
    click = lines["auc", "click"]
    assert 0.4 < click["now"] < 1.0
    assert click["interval"][0] < click["before"] - click["now"] < click["interval"][1]
    assert lines["rate", "click"]["interval"][0] < 1 < lines["rate", "click"]["interval"][1]
    unknown = lines["feature", "events.context.device"]["unknown"]
    assert unknown[1] == (1.0 if file == "changed" else 0.0)
