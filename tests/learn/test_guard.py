"""Which stages stop sharing, on what evidence, and that nothing else changes when they do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daogou import artifact
from daogou.artifact import Artifact
from daogou.config import read_shop
from daogou.errors import ArtifactError, ConfigError
from daogou.learn import guard as guard_module
from daogou.learn.fit import fit
from daogou.learn.guard import (
    MOST_MEMORY,
    Evidence,
    Tried,
    _sparsest_first,
    guard,
    placements,
    weigh_up,
)
from daogou.learn.onto import Onto, own_parts
from daogou.metrics import auc
from daogou.model import predict
from tests.learn.conftest import QUICK

SETS = [*QUICK, "model.size=small", "model.mixer=shared_bottom", "tasks.match.enabled=false"]
# For guards of many fits: whether other families stand beside is seen where there are few.
STAGES = [*SETS, "tasks.extract.enabled=false", "users.profile=[]", "fit.epochs=1"]


def said(verdict: str, difference: float) -> Evidence:
    return Evidence(verdict, 0.7, 0.7 + difference, (-1.0, 1.0), {"worse": 1.0}, 10, 20)


def chances(run: Artifact) -> np.ndarray[Any, Any]:
    found = predict.funnel_scores(run.model, run.store, "test", history_length=run.history_length)
    return found.conditional


# ---- evidence -----------------------------------------------------------------------------


def test_the_mean_of_placements_is_the_auc() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 9, 200) / 10  # with ties
    yes, mass = rng.random(200) < 0.2, rng.uniform(0.5, 2.0, 200)
    placed = placements(scores, yes, mass)
    assert np.average(placed, weights=mass[yes]) == pytest.approx(auc(scores, yes, mass))


@pytest.mark.parametrize(
    ("verdict", "difference", "hurts"),
    [
        ("HURTS", -0.01, True),
        ("UNDECIDED", -0.01, True),  # nothing speaks for sharing
        ("UNDECIDED", 0.01, False),
        ("NEUTRAL", -0.001, False),
        ("HELPS", 0.01, False),
    ],
)
def test_sharing_ends_where_it_hurts_or_seems_to(
    verdict: str, difference: float, hurts: bool
) -> None:
    assert said(verdict, difference).hurts == hurts


@pytest.fixture(scope="module")
def joint(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("guard") / "joint"
    fit(read_shop(shop_folder, SETS), run)
    return run


def test_a_run_is_no_better_and_no_worse_than_itself(joint: Path) -> None:
    found = weigh_up(joint, joint, "cart", margin=0.005)
    assert found.difference == 0.0 and found.verdict in ("UNDECIDED", "NEUTRAL")
    assert found.e_values["better"] == pytest.approx(1.0) == found.e_values["worse"]
    assert not found.hurts


def test_a_run_that_says_the_opposite_is_found_out(
    joint: Path, shop_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signs: the joint run's scores are the labels, the other's their opposite, and vice versa."""

    def fake(run: Artifact) -> Any:
        first, last = run.store.ranges["validation"]
        labels = np.asarray(run.store["exposures/labels"])[first:last, 0].astype(np.float64)
        return {"click": labels if run.folder == joint else -labels}

    other = tmp_path / "other"
    fit(read_shop(shop_folder, [*SETS, "seed=1"]), other, like=joint)
    monkeypatch.setattr(guard_module, "_answers", fake)
    helps, hurts = (weigh_up(*pair, "click", margin=0.005)
                    for pair in ((joint, other), (other, joint)))  # fmt: skip
    assert (helps.verdict, hurts.verdict) == ("HELPS", "HURTS")
    assert (helps.difference, hurts.difference) == (1.0, -1.0)
    assert 0 < helps.n_users <= helps.of_users
    assert helps.interval[0] > 0 > hurts.interval[1]


# ---- what is taught on top ----------------------------------------------------------------


@pytest.mark.parametrize("own", ["experts", "rows"])
def test_a_stage_taught_on_top_changes_no_other_answer(
    own: str, joint: Path, shop_folder: Path, tmp_path: Path
) -> None:
    sets = [*SETS, "tasks.cart.weight=0"]
    base, top = tmp_path / "base", tmp_path / "top"
    fit(read_shop(shop_folder, sets), base, like=joint)
    shop = read_shop(shop_folder, [*sets, f"tasks.cart.own={own}", "fit.watch=cart"])
    fit(shop, top, like=joint, onto=Onto(base, "cart"))
    before, after = (artifact.load(run) for run in (base, top))
    changed = (chances(before) != chances(after)).any(0)
    assert changed.tolist() == [False, True, False]
    own_names = own_parts(after.model, 1)
    theirs = dict(before.model.named_parameters())
    for name, weight in after.model.named_parameters():
        old = theirs.get(name.replace("mixer.mixer.", "mixer."))
        if name not in own_names:
            assert old is not None and torch.equal(weight, old), name
        elif old is not None:
            mine = own_names[name]
            assert torch.equal(weight[~mine], old[~mine]), name


# ---- the guard ----------------------------------------------------------------------------


def test_the_sparser_stage_goes_first_and_experts_come_before_rows(
    shop_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cart is hurt: purchase goes, which does not mend it, then cart goes and wants rows."""

    def fake(joint: Path, alone: Path, task: str, *, margin: float) -> Evidence:
        hurt = task == "cart" and "rows" not in joint.name
        return said("HURTS", -0.02) if hurt else said("HELPS", 0.02)

    monkeypatch.setattr(guard_module, "weigh_up", fake)
    run = tmp_path / "run"
    document = guard(read_shop(shop_folder, STAGES), run)
    tasks = document["guard"]["tasks"]
    assert {name: task["own"] for name, task in tasks.items()} == {
        "click": "nothing", "cart": "rows", "purchase": "experts",
    }  # fmt: skip
    steps = tasks["cart"]["steps"]
    assert [step["own"] for step in steps] == ["nothing", "nothing", "experts", "rows"]
    assert [step["apart"] for step in steps] == [
        [], ["purchase"], ["purchase", "cart"], ["purchase", "cart"],
    ]  # fmt: skip
    assert [step["chosen"] for step in steps] == [False, False, False, True]
    assert tasks["cart"]["verdict"] == "HELPS" and tasks["cart"]["met"]
    assert document["guard"]["cost"]["memory"] <= MOST_MEMORY
    made = artifact.load(run)
    assert made.manifest["fit"]["guard"]["tasks"]["cart"]["own"] == "rows"
    assert json.loads((run / "receipt.json").read_text("utf-8"))["tasks"].keys() == tasks.keys()
    assert (run / "events.jsonl").read_bytes() == (
        run / "guard" / "without-2-1" / "events.jsonl"
    ).read_bytes()
    rest = artifact.load(run / "guard" / "without-2-1")
    assert (chances(rest)[:, 0] == chances(made)[:, 0]).all()


def test_a_model_that_is_worse_apart_stays_shared(
    shop_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Click is a little hurt, but what goes loses more than click gains."""

    def fake(joint: Path, alone: Path, task: str, *, margin: float) -> Evidence:
        if joint.name == "shared":
            return said("UNDECIDED", -0.004) if task == "click" else said("HELPS", 0.02)
        return said("HURTS", -0.01) if task == "purchase" else said("NEUTRAL", 0.0)

    monkeypatch.setattr(guard_module, "weigh_up", fake)
    run = tmp_path / "run"
    tasks = guard(read_shop(shop_folder, STAGES), run)["guard"]["tasks"]
    assert {task["own"] for task in tasks.values()} == {"nothing"}
    assert tasks["click"]["difference"] == pytest.approx(-0.004)
    assert [step["own"] for step in tasks["purchase"]["steps"]] == ["nothing", "experts", "rows"]
    shared = artifact.load(run / "guard" / "shared")
    assert (chances(artifact.load(run)) == chances(shared)).all()


def test_a_run_that_was_never_guarded_is_not_told_of_as_one(joint: Path, shop_folder: Path) -> None:
    with pytest.raises(ArtifactError, match="was fitted without --guard; give another folder"):
        guard(read_shop(shop_folder, SETS), joint, resume=True)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"click": 0.0, "cart": 0.0}, {"click": -0.003, "cart": 0.09}),  # no gain pays for a harm
        ({"click": -0.002, "cart": 0.05}, {"click": 0.0, "cart": 0.01}),  # within half the margin
        ({"click": -0.02, "cart": 0.0}, {"click": -0.02, "cart": -0.02}),
        ({"click": float("nan"), "cart": 0.02}, {"click": float("nan"), "cart": 0.01}),
    ],
)
def test_of_two_models_the_one_that_harms_less_is_worth_more(
    first: dict[str, float], second: dict[str, float]
) -> None:
    worth = [
        Tried(Path(), Path(), {}, {name: said("UNDECIDED", gap) for name, gap in gaps.items()})
        .worth(0.005) for gaps in (first, second)
    ]  # fmt: skip
    assert worth[0] > worth[1]


def test_stages_go_from_the_one_that_happens_least(joint: Path) -> None:
    assert _sparsest_first(joint, ["click", "cart", "purchase"]) == ["purchase", "cart", "click"]


def test_where_sharing_helps_the_run_is_the_shared_one_and_a_kill_loses_nothing(
    shop_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "weigh_up", lambda *_, **__: said("HELPS", 0.02))
    shop, run = read_shop(shop_folder, SETS), tmp_path / "run"

    def killed(what: str, done: int, total: int, words: str) -> None:
        if (what, done) == ("guard", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guard(shop, run, progress=killed)
    document = guard(shop, run, resume=True)
    assert {task["own"] for task in document["guard"]["tasks"].values()} == {"nothing"}
    assert document["guard"]["cost"]["memory"] == 1.0
    assert guard(shop, run, resume=True) == artifact.plain(document)  # killed when all was written
    with pytest.raises(ArtifactError, match=r"fitted with --margin 0\.005; give another folder"):
        guard(shop, run, margin=0.01, resume=True)
    shared = artifact.load(run / "guard" / "shared")
    assert (chances(artifact.load(run)) == chances(shared)).all()


@pytest.mark.parametrize(
    ("sets", "margin", "message"),
    [
        (["tasks.cart.enabled=false", "tasks.purchase.enabled=false"], 0.005, "1 stage to guard"),
        ([], 0.0, r"--margin: 0.0; give an AUC between 0 and 1"),
        (["tasks.cart.own=rows"], 0.005, r"tasks\.cart\.own: the guard decides that"),
    ],
)
def test_what_cannot_be_guarded_is_refused_before_anything_is_written(
    sets: list[str], margin: float, message: str, shop_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        guard(read_shop(shop_folder, [*SETS, *sets]), tmp_path / "run", margin=margin)
    assert not (tmp_path / "run").exists()
