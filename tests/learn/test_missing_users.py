"""A wide table some of whose rows name no user: they are of the unknown user, who is nobody."""

import math
from pathlib import Path

import numpy as np
import pytest

from daogou import artifact
from daogou.artifact import Artifact
from daogou.config import read_shop
from daogou.features.batch import make_batch
from daogou.features.queries import teaching_queries
from daogou.features.store import NO_SPLIT
from daogou.guide import Guide
from daogou.learn.evaluate import evaluate
from daogou.learn.fit import fit
from daogou.model.predict import first_queries, funnel_scores

TOML = """\
name = "wide"

[items]
path = "items.csv"
key = "item_id"
columns = ["price"]

[users]
path = "users.csv"
key = "user_id"
columns = ["city"]
profile = ["gender"]

[events]
path = "shown.csv"
user = "user_id"
item = "item_id"
time = "ts"
labels = ["click", "buy"]
context = ["device"]

[tasks.buy]
given = "click"

[model]
width = 8
expert_widths = [8, 8]

[fit]
epochs = 2
rows_per_step = 64
history_length = 4
extra_items = 4
"""
N, N_USERS, N_ITEMS = 400, 20, 10


def write(folder: Path, *, timed: bool = True) -> None:
    """400 rows over 40 days, a fifth of them without a user; the rest of 20 users."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    toml = TOML if timed else TOML.replace('time = "ts"\n', "")
    (folder / "shop.toml").write_text(toml, encoding="utf-8")
    items = [f"{item},{10 + item}" for item in range(N_ITEMS)]
    (folder / "items.csv").write_text("\n".join(["item_id,price", *items]), encoding="utf-8")
    users = [f"u{user},{'Oslo' if user % 2 else 'Rome'},{'FM'[user % 3 % 2]}" for user in range(20)]
    (folder / "users.csv").write_text("\n".join(["user_id,city,gender", *users]), encoding="utf-8")
    lines = ["user_id,item_id,ts,click,buy,device"]
    for row in range(N):
        user = "" if row % 5 == 0 else f"u{rng.integers(N_USERS)}"
        click = int(rng.random() < 0.4)
        time = f"2024-01-{1 + row * 30 // N:02d}T{row % 24:02d}:00:00"
        buy = click * int(rng.random() < 0.5)
        lines.append(f"{user},{rng.integers(N_ITEMS)},{time},{click},{buy},phone")
    (folder / "shown.csv").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(scope="module", params=[True, False], ids=["timed", "untimed"])
def run(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Artifact:
    folder = tmp_path_factory.mktemp("wide")
    write(folder / "shop", timed=request.param)
    fit(read_shop(folder / "shop"), folder / "run")
    return artifact.load(folder / "run")


def nobody(run: Artifact, split: str = "train") -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The rows of a split that name no user."""
    first, last = run.store.ranges[split]
    return first + np.flatnonzero(run.store["exposures/query"][first:last] < 0)


def test_a_row_without_a_user_is_the_unknown_user_s_whose_past_is_empty(run: Artifact) -> None:
    known = int(np.flatnonzero(run.store["exposures/query"] >= 0)[0])
    rows = np.array([nobody(run)[0], known, nobody(run)[1]])
    batch = make_batch(run.store, rows, history_length=4)
    assert batch.exposures["user"].tolist() == [0, 1, 0]  # one row for all of them
    users = batch.users
    assert users["row"].tolist()[0] == 0 < users["row"].tolist()[1]
    assert users["id"][0] == 0 and users["fields"][0].tolist() == [0]
    assert not users["action"][0].any() and not users["history"][0].any()
    assert users["split"][0] == NO_SPLIT and users["profile"][0].tolist() == [-1]


def test_rows_without_a_user_are_learnt_answered_and_judged(run: Artifact) -> None:
    scores = funnel_scores(run.model, run.store, "test", history_length=4)
    first, last = run.store.ranges["test"]
    assert len(nobody(run, "test")) > 3
    assert scores.chances.shape == (last - first, 2) and np.isfinite(scores.chances).all()
    tasks = evaluate(run)["tasks"]
    assert tasks["click"]["n"] == last - first
    assert math.isfinite(tasks["click"]["log_loss"])


def test_what_is_served_for_such_rows_is_what_was_measured(run: Artifact) -> None:
    first, last = run.store.ranges["test"]
    measured = funnel_scores(run.model, run.store, "test", history_length=4).chances.T
    served = Guide.of(run).scorer.exposure_chances(np.arange(first, last)).numpy()
    np.testing.assert_allclose(served, measured, atol=1e-5)
    alone = Guide.of(run).scorer.exposure_chances(nobody(run, "test")).numpy()
    np.testing.assert_allclose(alone, measured[:, nobody(run, "test") - first], atol=1e-5)


def test_the_unknown_user_teaches_no_profile_and_is_asked_for_no_match(run: Artifact) -> None:
    assert 0 not in teaching_queries(run.store).user
    assert (run.store["users/profile"][0] == -1).all()
    queries, _ = first_queries(run.store, "train")
    assert len(queries) and 0 not in queries.user
