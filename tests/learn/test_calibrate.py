"""Chances that are off to chances that come true as often as they say."""

import shutil
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import nn

from daogou import artifact
from daogou.artifact import Artifact
from daogou.config import read_shop
from daogou.errors import ConfigError
from daogou.features.store import SPLITS, Store, open_store
from daogou.features.tags import BEGIN, INSIDE, MASKED, OUTSIDE
from daogou.guide.score import fit_scorer
from daogou.learn.calibrate import LEAST, LEAST_ISOTONIC, calibrate, choose_curve
from daogou.learn.curves import fit_curve, fit_line, fit_sharpness, rising
from daogou.learn.settings import settings_of
from daogou.metrics import auc, calibration_error, log_loss
from daogou.model import predict
from daogou.model.calibrated import N_KNOTS, Calibrated, Curve, logits_of
from daogou.model.heads.extract import ExtractHead
from daogou.model.heads.funnel import FunnelHead, Towers
from daogou.model.heads.profile import ProfileHead
from daogou.model.joint import JointModel
from daogou.model.stages.escm2 import LEAST_PROPENSITY
from daogou.schema import Task

Floats = NDArray[np.float64]


def sigmoid(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logits)))


def drawn(n: int, seed: int) -> tuple[Floats, NDArray[np.bool_]]:
    """True logits around -1 and what came of them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 1, n)
    return logits, rng.random(n) < sigmoid(logits)


def answers(curve: Curve, logits: Floats) -> Floats:
    made = Calibrated(1)
    made.set(0, curve)
    return np.asarray(made(torch.from_numpy(sigmoid(logits))[None])[0].numpy())


# ---- one curve --------------------------------------------------------------------------


@pytest.mark.parametrize("fit", [fit_line, fit_curve])
def test_logits_times_three_plus_one_are_mended(fit: Any) -> None:
    true, happened = drawn(20_000, seed=0)
    curve = fit(3 * true + 1, happened, np.ones(20_000))
    fresh, later = drawn(20_000, seed=1)
    said, answered = sigmoid(3 * fresh + 1), answers(curve, 3 * fresh + 1)
    assert calibration_error(said, later) > 0.13
    assert calibration_error(answered, later) < 0.012
    assert log_loss(answered, later) == pytest.approx(log_loss(sigmoid(fresh), later), abs=0.001)
    assert auc(answered, later) == pytest.approx(auc(said, later), abs=1e-9)


def test_a_line_undoes_what_was_done_to_the_logit() -> None:
    # said = 3 true + 1, so true = said / 3 - 1/3.
    true, happened = drawn(50_000, seed=2)
    line = fit_line(3 * true + 1, happened, np.ones(50_000))
    assert line.slope == pytest.approx(1 / 3, abs=0.01)
    assert line.mended[0] == pytest.approx(-1 / 3, abs=0.03)


@pytest.mark.parametrize("fit", [fit_line, fit_curve])
def test_weights_are_respected(fit: Any) -> None:
    """Of the negatives one in five was kept: weighed by five they foretell what they stand for."""
    true, happened = drawn(40_000, seed=3)
    kept = happened | (np.random.default_rng(0).random(40_000) < 0.2)
    weight = np.where(happened, 1.0, 5.0)[kept]
    curve = fit(true[kept], happened[kept], weight)
    assert answers(curve, true).mean() == pytest.approx(happened.mean(), rel=0.03)
    blind = fit(true[kept], happened[kept], np.ones(kept.sum()))
    assert answers(blind, true).mean() > 1.5 * happened.mean()


def test_labels_that_contradict_the_order_do_not_turn_it_round() -> None:
    true, happened = drawn(2000, seed=4)
    line = fit_line(-true, happened, np.ones(2000))
    assert line.slope > 0
    # All but flat: everybody gets the base rate.
    assert answers(line, -true).mean() == pytest.approx(happened.mean(), abs=0.01)


def test_labels_that_are_told_apart_exactly_leave_a_finite_line() -> None:
    line = fit_line([-1.0] * 50 + [1.0] * 50, [0] * 50 + [1] * 50, np.ones(100))
    assert 1 < line.slope < 10


def test_a_curve_follows_what_no_line_can_and_rises_strictly() -> None:
    rng = np.random.default_rng(5)
    said = rng.normal(-1, 1.5, 60_000)
    true = np.where(said < 0, said, 3 * said)  # the bend
    happened = rng.random(60_000) < sigmoid(true)
    ones = np.ones(60_000)
    curve, line = fit_curve(said, happened, ones), fit_line(said, happened, ones)
    assert 10 < len(curve.said) <= N_KNOTS
    assert (np.diff(curve.said) > 0).all()
    assert (np.diff(curve.mended) > 0).all()
    best = log_loss(sigmoid(true), happened)
    assert log_loss(answers(curve, said), happened) - best < 0.001
    assert log_loss(answers(line, said), happened) - best > 0.003


def test_no_rate_is_certain_however_few_the_positives_of_a_bin() -> None:
    logits = np.linspace(-8, 8, 4000)
    curve = fit_curve(logits, logits > 0, np.ones(4000))
    p = answers(curve, logits)
    assert 0 < p.min() < p.max() < 1
    assert abs(np.array(curve.mended)).max() < 12


def test_a_model_that_says_one_chance_gets_the_base_rate() -> None:
    for fit in (fit_line, fit_curve):
        curve = fit(np.zeros(4000), np.arange(4000) < 1000, np.ones(4000))
        assert answers(curve, np.zeros(1))[0] == pytest.approx(0.25, abs=0.002)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 5)), min_size=1, max_size=30))
def test_pooling_neighbours_is_isotonic_regression(rows: list[tuple[float, float]]) -> None:
    values, weights = np.array(rows).T
    found, starts = rising(values, weights)
    whole = np.repeat(found, np.diff([*starts, len(values)]))
    np.testing.assert_allclose(whole, isotonic_regression(values, weights=weights).x, atol=1e-9)
    assert (np.diff(found) > 0).all()


def test_a_temperature_is_found_by_hand() -> None:
    # Chances 0.9 and 0.1 said of what is so in 75 of 100: ln 3 = s ln 9, so s = 1 / 2.
    said = np.log([[0.9, 0.1]] * 10_000)
    assert fit_sharpness(said, [0] * 7500 + [1] * 2500) == pytest.approx(0.5, abs=0.002)
    yes = np.array([[1]] * 7500 + [[0]] * 2500)
    assert fit_sharpness(np.full((10_000, 1), np.log(9.0)), yes, is_list=True) == pytest.approx(
        0.5, abs=0.002
    )


# ---- which curve ------------------------------------------------------------------------


def test_few_of_the_rarer_label_get_something_simpler_and_a_reason() -> None:
    true, happened = drawn(LEAST_ISOTONIC, seed=6)
    said = 3 * true + 1
    curve, told = choose_curve("isotonic", said, happened, np.ones(len(said)))
    assert curve is not None
    assert told["method"] == "platt"
    n = happened.sum()
    assert told["why"] == f"isotonic: {n} rows of the rarer label, {LEAST_ISOTONIC} are needed"
    few = np.arange(len(said)) < LEAST - 1
    curve, told = choose_curve("platt", said, few, np.ones(len(said)))
    assert curve is None
    assert told == {"method": "none", "why": "platt: 19 rows of the rarer label, 20 are needed"}


def test_chances_that_are_right_are_left_alone() -> None:
    true, happened = drawn(20_000, seed=7)
    curve, told = choose_curve("isotonic", true, happened, np.ones(20_000))
    assert curve is None
    assert told["method"] == "none"
    assert "as luck can; platt: gains" in told["why"]


def test_luck_finds_a_line_as_seldom_when_few_rows_speak_for_many() -> None:
    """Half a chi-square of two degrees is above 2 in 13.5 % of draws; a heavy row is no hundred."""
    heavy = np.where(np.arange(2000) % 100 == 0, 99.0, 1.0)
    found = [choose_curve("platt", *drawn(2000, seed=100 + i), heavy)[0] for i in range(100)]
    assert sum(curve is not None for curve in found) < 30


def test_an_unknown_method_is_named_with_the_nearest(made_shop: Path) -> None:
    with pytest.raises(ConfigError, match=r"fit.calibration: no 'plat' here \(did you mean 'plat"):
        settings_of(read_shop(made_shop, ["fit.calibration=plat"]))
    with pytest.raises(ConfigError, match=r"fit.calibration: no 'isotone' here"):
        calibrate(cast(JointModel, None), cast(Store, None), "isotone", history_length=1)


# ---- a model ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(made_run: Path) -> Artifact:
    return artifact.load(made_run)


@pytest.fixture
def broken(loaded: Artifact) -> Iterator[JointModel]:
    """A model that was right and now says its logits times three plus six."""
    model = deepcopy(loaded.model)
    calibrate(model, loaded.store, "none", history_length=loaded.history_length)
    head = cast(FunnelHead, model.heads["funnel"])
    assert head.out.bias is not None
    with torch.no_grad():
        for weight in (head.out.weight, head.out.bias, head.wide):
            weight.mul_(3)
        head.out.bias.add_(6)  # a stage begins at its rate, which three would nearly restore
        profile = cast(ProfileHead, model.heads["profile"])
        profile.paths.copy_(torch.tensor([1.0, 0.0]))  # as where no straight path is solved
        for network in profile.networks:
            cast(nn.Linear, cast(nn.Sequential, network)[-1]).weight.mul_(20)
    yield model.eval()


def test_a_broken_model_is_mended_and_the_record_says_so(
    broken: JointModel, loaded: Artifact
) -> None:
    store, length = loaded.store, loaded.history_length

    def judged(split: str) -> tuple[float, float, float]:
        first, last = store.ranges[split]
        scores = predict.funnel_scores(broken, store, split, history_length=length)
        p, y = scores.conditional[:, 0], np.asarray(store["exposures/labels"][first:last, 0]) == 1
        assert (np.diff(scores.chances, axis=1) <= 0).all()  # later stages are no likelier
        return log_loss(p, y), calibration_error(p, y), auc(p, y)

    before, held_out = judged("validation"), judged("test")
    said = calibrate(broken, store, "platt", history_length=length)
    after, fresh = judged("validation"), judged("test")
    click = said["click"]
    assert click["method"] == "platt"
    assert click["slope"] > 0
    assert click["n"] == store.ranges["validation"][1] - store.ranges["validation"][0]
    assert click["nats"] == pytest.approx([before[0], after[0]])
    assert click["ece"] == pytest.approx([before[1], after[1]])
    assert after[0] < before[0] - 0.1
    assert fresh[0] < held_out[0] - 0.1
    assert fresh[1] < 0.1 < 0.4 < held_out[1]  # 500 rows: luck alone makes 0.06
    assert fresh[2] == pytest.approx(held_out[2], abs=1e-6)
    assert {"cart", "purchase", "profile.gender"} < said.keys()
    assert "match" not in said


def test_a_stage_learnt_for_all_exposures_is_mended_for_all_exposures(
    broken: JointModel, loaded: Artifact
) -> None:
    """Rows count by 1 / the chance of a click, or the curve would undo what escm2 put right."""
    store, length = loaded.store, loaded.history_length
    said = predict.funnel_scores(broken, store, "validation", history_length=length)
    first, last = store.ranges["validation"]
    labels = np.asarray(store["exposures/labels"])[first:last]
    rows = (labels[:, 0] == 1) & (labels[:, 1] >= 0)
    logits = logits_of(torch.from_numpy(said.conditional[rows, 1])).numpy()
    weights = 1 / said.chances[rows, 0].astype(np.float64).clip(min=LEAST_PROPENSITY)
    wanted = fit_line(logits, labels[rows, 1] == 1, weights)
    broken.tasks = tuple(
        replace(task, loss="escm2_dr") if task.name == "cart" else task for task in broken.tasks
    )
    cart = calibrate(broken, store, "platt", history_length=length)["cart"]
    assert (cart["slope"], cart["intercept"]) == pytest.approx((wanted.slope, wanted.mended[0]))
    assert fit_line(logits, labels[rows, 1] == 1, np.ones(rows.sum())) != wanted


def test_a_profile_column_gets_a_temperature(broken: JointModel, loaded: Artifact) -> None:
    store, length = loaded.store, loaded.history_length
    users = np.flatnonzero(store["users/split"] == SPLITS.index("validation"))
    assert len(users) >= LEAST
    before = predict.profile_scores(broken, store, users, history_length=length)
    said = calibrate(broken, store, "isotonic", history_length=length)
    after = predict.profile_scores(broken, store, users, history_length=length)
    hot = [name for name, one in said.items() if one["method"] == "temperature"]
    assert hot
    for place, task in enumerate(task for task in broken.tasks if task.family == "profile"):
        assert (before[place].argmax(1) == after[place].argmax(1)).all()
        one = said[task.name]
        if task.name in hot:
            assert one["temperature"] != 1
            assert one["nats"][1] < one["nats"][0]
        else:
            assert np.array_equal(before[place], after[place])


def test_training_sees_no_curve(broken: JointModel, loaded: Artifact) -> None:
    head = cast(FunnelHead, broken.heads["funnel"])
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    said = Towers(logits, torch.zeros(3, 5, 0), torch.zeros(5, 1))
    head.calibrated.set(0, Curve((0.0,), (-3.0,), 1.0))
    assert torch.equal(head.train().said(said)[1], logits.sigmoid())
    assert not torch.equal(head.eval().said(said)[1][0], logits[0].sigmoid())


def test_none_forgets_an_earlier_calibration(broken: JointModel, loaded: Artifact) -> None:
    store, length = loaded.store, loaded.history_length
    before = predict.funnel_scores(broken, store, "test", history_length=length).chances
    first = calibrate(broken, store, "platt", history_length=length)
    assert calibrate(broken, store, "platt", history_length=length) == first
    assert calibrate(broken, store, "none", history_length=length) == {}
    after = predict.funnel_scores(broken, store, "test", history_length=length).chances
    assert np.array_equal(before, after)


def test_a_saved_run_keeps_its_curves_and_serves_what_was_scored(
    broken: JointModel, loaded: Artifact, tmp_path: Path
) -> None:
    store, length = loaded.store, loaded.history_length
    calibrate(broken, store, "platt", history_length=length)
    run = tmp_path / "run"
    shutil.copytree(store.folder, run / "store")
    shape = settings_of(loaded.shop)[1]
    artifact.save(run, shop=loaded.shop, transform=loaded.transform, model=broken, shape=shape,
                  record={"history_length": length})  # fmt: skip
    again = artifact.load(run)
    wanted = predict.funnel_scores(broken, store, "test", history_length=length).chances
    found = predict.funnel_scores(again.model, again.store, "test", history_length=length)
    assert np.array_equal(wanted, found.chances)
    head = cast(FunnelHead, again.model.heads["funnel"])
    assert head.calibrated.used[0]
    served = fit_scorer(again).exposure_chances(np.arange(*store.ranges["test"]))
    np.testing.assert_allclose(served.T.numpy(), wanted, atol=1e-5)


def test_the_test_split_is_never_read(broken: JointModel, loaded: Artifact, tmp_path: Path) -> None:
    length = loaded.history_length
    wanted = calibrate(broken, loaded.store, "isotonic", history_length=length)
    curves = {name: value.clone() for name, value in broken.state_dict().items()}
    shutil.copytree(loaded.store.folder, tmp_path / "store")
    poison(tmp_path / "store" / "exposures/labels.npy", slice(*loaded.store.ranges["test"]))
    tests = np.flatnonzero(loaded.store["users/split"] == SPLITS.index("test"))
    poison(tmp_path / "store" / "users/profile.npy", tests)
    store = open_store(tmp_path / "store")
    assert not np.array_equal(store["exposures/labels"], loaded.store["exposures/labels"])
    assert calibrate(broken, store, "isotonic", history_length=length) == wanted
    for name, value in broken.state_dict().items():
        assert torch.equal(value, curves[name]), name


def poison(file: Path, rows: Any) -> None:
    """Say the opposite: of a label its contrary, of a class another."""
    values = np.load(file)
    values[rows] = np.where(values[rows] >= 0, 1 - values[rows].clip(0, 1), values[rows])
    np.save(file, values)


def test_a_fit_records_what_it_did(loaded: Artifact) -> None:
    said = loaded.manifest["fit"]["calibration"]
    assert loaded.manifest["settings"]["calibration"] == "platt"
    assert said["click"]["method"] in ("platt", "none")
    assert len(said["click"]["nats"]) == len(said["click"]["ece"]) == 2


def test_a_span_is_as_likely_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each title one span of two tokens is said and is there to the token, or one too long."""
    n = 2000
    logits, right = drawn(n, seed=0)
    split = np.where(np.arange(n) % 2, SPLITS.index("validation"), SPLITS.index("test"))
    said = np.tile(np.array([[BEGIN, INSIDE, OUTSIDE], [OUTSIDE] * 3], dtype=np.int8), (n, 1, 1))
    gold = np.concatenate([said, np.full((n, 2, 1), MASKED, dtype=np.int8)], axis=2)
    gold[~right, 0, 2] = INSIDE
    sure = np.ones((n, 2, 3))
    sure[:, 0, 0] = sure[:, 0, 1] = np.sqrt(sigmoid(3 * logits + 1))  # what it says is off
    said[:, 1, 0], gold[:, 1] = BEGIN, MASKED  # another attribute, that nobody annotated

    def title_tags(*asked: Any) -> Iterator[Any]:
        yield asked[2], said[asked[2]], sure[asked[2]]

    monkeypatch.setattr(predict, "title_tags", title_tags)
    head = ExtractHead(4, ["kind", "brand"], first_match=1)
    model: Any = SimpleNamespace(heads={"extract": head}, tasks=[Task("extract", "extract")])
    store: Any = {"titles/split": split, "titles/tags": gold}
    told = calibrate(model, store, "platt", history_length=1)["extract"]
    assert told["method"] == "platt"
    assert (told["n"], told["positives"]) == (n // 2, int(right[1::2].sum()))
    assert told["slope"] == pytest.approx(1 / 3, abs=0.05)
    assert told["nats"][1] < told["nats"][0] and told["ece"][1] < 0.05 < told["ece"][0]
    mended = np.array(head.sure(np.prod(sure[::2, 0], axis=1).tolist()))
    assert calibration_error(mended, right[::2]) < 0.06
    assert calibrate(model, store, "none", history_length=1) == {}
    assert head.sure([0.3]) == [0.3]  # an earlier curve is forgotten
