"""Models that learn of other tasks otherwise: what they are told, and that nothing leaks in."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from daogou import artifact
from daogou.artifact import Artifact
from daogou.artifact.counts import model_of
from daogou.config import read_shop
from daogou.errors import ArtifactError
from daogou.features.numeric import Numeric
from daogou.features.store import open_store
from daogou.features.store.writer import rewrite_store
from daogou.learn.compare import compare
from daogou.learn.controls import halves, said_of, teach_some, tell
from daogou.learn.differences import Asked
from daogou.learn.evaluate import evaluate
from daogou.learn.fit import fit
from daogou.learn.loop import Learner
from daogou.learn.onto import Onto
from daogou.learn.settings import settings_of
from daogou.learn.variant import finetuning_of, pretraining_of, twin_of, varied
from daogou.model import predict
from daogou.schema import Shop
from tests.learn.conftest import QUICK

OFF = tuple(
    f"tasks.{name}.enabled=false"
    for name in ("match", "purchase", "extract", '"profile.age_band"', '"profile.tier"')
)
ASKED = Asked(seeds=1, controls=("aux", "pretrained"), rivals=(), draws=10)


@pytest.fixture(scope="module")
def shop(shop_folder: Path) -> Shop:
    """A shop of three tasks: click, cart given a click, and gender; taught in a single step."""
    return read_shop(shop_folder, [*QUICK, *OFF, "fit.epochs=1", "fit.rows_per_step=2048"])


@pytest.fixture(scope="module")
def compared(
    shop: Shop, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], list[str]]:
    """A comparison with both controls, its folder and the runs it told of."""
    folder = tmp_path_factory.mktemp("controls") / "out"
    told: list[str] = []

    def progress(what: str, done: int, total: int, words: str) -> None:
        if what == "run":
            told.append(f"{done}/{total} {words}")

    return folder, compare(shop, folder, ASKED, progress=progress), told


@pytest.fixture(scope="module")
def base(compared: tuple[Path, dict[str, Any], list[str]]) -> Artifact:
    return artifact.load(compared[0] / "ple+fixed-0")


def test_every_run_is_told_of_and_counted(
    compared: tuple[Path, dict[str, Any], list[str]],
) -> None:
    _, _, told = compared
    # One joint, two times three twins; four halves and two twins; three first and three then.
    assert told[0] == "0/19 ple+fixed-0" and told[-1] == "19/19 done"
    assert len(told) == 20


def test_a_receipt_has_every_control_beside_the_twins(
    compared: tuple[Path, dict[str, Any], list[str]],
) -> None:
    folder, document, _ = compared
    tasks = document["candidates"]["ple+fixed"]["tasks"]
    receipt = json.loads((folder / "receipt.json").read_text("utf-8"))["tasks"]
    for name in ("click", "cart", "cart|click", "profile.gender"):
        controls = ["single_small", "aux", "pretrained"]
        if name == "profile.gender":
            controls.remove("aux")  # it is no stage
        assert list(receipt[name]["against"]) == list(tasks[name]["against"]) == controls
        for control in controls:
            entry = tasks[name]["against"][control]
            value = np.mean(document["contenders"][control]["values"][name])
            np.testing.assert_allclose(entry["single"], value)
            np.testing.assert_allclose(entry["difference"], entry["multi"] - value)


def test_what_controls_say_is_what_evaluate_reports_of_their_runs(
    compared: tuple[Path, dict[str, Any], list[str]],
) -> None:
    folder, document, _ = compared
    for control in ("aux", "pretrained"):
        report = evaluate(artifact.load(folder / f"{control}-cart-0"))["tasks"]
        value = document["contenders"][control]["values"]["cart|click"][0]
        np.testing.assert_allclose(value, report["cart|click"]["auc"])


def test_what_a_control_needs_counts_as_its_cost(
    compared: tuple[Path, dict[str, Any], list[str]],
) -> None:
    folder, document, _ = compared

    def total(key: str, *runs: str) -> float:
        fits = [artifact.read_manifest(folder / f"{run}-0")["fit"] for run in runs]
        return sum(float(fit[key]) for fit in fits)

    predictors = [f"aux-half{half}-{stage}" for half in (0, 1) for stage in ("click", "cart")]
    names = [task.name for task in artifact.load(folder / "ple+fixed-0").model.tasks]
    then = [f"pretrained-{name}" for name in names]
    first = [f"pretrained-first-{name}" for name in names]
    cost = document["cost"]
    aux = [*predictors, "aux-click", "aux-cart"]
    assert cost["parameters"]["aux"] == total("parameters", *aux)
    assert cost["parameters"]["pretrained"] == total("parameters", *then)
    assert cost["seconds"]["aux"] == pytest.approx(total("seconds", *aux))
    assert cost["seconds"]["pretrained"] == pytest.approx(total("seconds", *then, *first))


# ---- what others say as an input --------------------------------------------------------------


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_halves_split_moments_and_are_drawn_anew_for_each_seed(base: Artifact) -> None:
    half, other = halves(base.store, 0), halves(base.store, 1)
    query = np.asarray(base.store["exposures/query"])
    for one in (half, other):
        assert 0.4 < one.mean() < 0.6
        firsts = np.unique(query, return_index=True)[1]
        assert (one == one[firsts][np.unique(query, return_inverse=True)[1]]).all()
    assert 0.4 < (half == other).mean() < 0.6


def test_labels_of_the_other_half_teach_nothing_and_choose_nothing(
    shop: Shop, base: Artifact, tmp_path: Path
) -> None:
    """With those labels turned round the weights are the same bit for bit."""
    before = digests(base.folder)
    is_taught = halves(base.store, 0) == 0
    is_training = np.arange(len(is_taught)) < base.store.ranges["train"][1]
    tables = tmp_path / "tables"
    teach_some(base, tables, is_taught)

    def weights(name: str, turned: Any) -> dict[str, torch.Tensor]:
        labels = np.array(base.store["exposures/labels"])
        labels[turned] = np.where(labels[turned] == 1, 0, 1)
        changed = tmp_path / f"{name}-tables"
        shutil.copytree(tables, changed)
        rewrite_store(
            open_store(tables / "store"), changed / "store", {"exposures/labels": [labels]}
        )
        fit(twin_of(shop, "click"), tmp_path / name, like=changed)
        return load_file(tmp_path / name / "model.safetensors")

    plain = weights("plain", np.zeros(len(is_taught), dtype=bool))
    other = weights("other half", is_training & ~is_taught)
    own = weights("own half", is_training & is_taught)
    assert all(torch.equal(plain[name], other[name]) for name in plain)
    assert not all(torch.equal(plain[name], own[name]) for name in plain)
    assert digests(base.folder) == before  # files that several tables share were not written


def test_a_training_row_is_predicted_by_who_was_not_taught_it(
    compared: tuple[Path, dict[str, Any], list[str]], base: Artifact
) -> None:
    folder = compared[0]
    half = halves(base.store, 0)
    runs = [folder / f"aux-half{number}-cart-0" for number in (0, 1)]
    said = said_of("cart", runs, half)
    for number, run in enumerate(runs):
        giver = artifact.load(run)
        first, last = giver.store.ranges["train"]
        chances = predict.funnel_scores(giver.model, giver.store, "train", history_length=20)
        mine = half[first:last] == number
        weights = np.asarray(giver.store["exposures/weight"][first:last])
        assert (weights[mine] > 0).all() and not weights[~mine].any()
        assert (said[first:last][~mine] == chances.conditional[~mine, 1]).all()  # cart is second
    told = artifact.load(folder / "aux-click-0")
    context = told.transform.context
    assert context.names == (*base.transform.context.names, "@cart")
    column = np.asarray(told.store["exposures/fields"])[:, -1] - context.offsets[-1]
    coder = context.coders[-1]
    assert isinstance(coder, Numeric)
    assert (column == coder.bucket(said)).all() and len(np.unique(column)) > 10
    assert (np.asarray(told.store["exposures/numbers"])[:, -1] == coder.rank(said)).all()
    shared = np.asarray(base.store["exposures/fields"])
    assert (np.asarray(told.store["exposures/fields"])[:, :-1] == shared).all()


def test_a_stage_that_others_know_is_learnt_from_what_they_say(
    shop: Shop, base: Artifact, tmp_path: Path
) -> None:
    """Told the very label of the cart, on all splits, its model ranks it without a fault."""
    labels = np.asarray(base.store["exposures/labels"])[:, 1].astype(np.float64)
    tell(base, tmp_path / "tables", {"oracle": labels})
    longer = varied(shop, training={"epochs": 4, "learning_rate": 0.02, "rows_per_step": 256})
    fit(twin_of(longer, "cart"), tmp_path / "run", like=tmp_path / "tables")
    found = evaluate(artifact.load(tmp_path / "run"))["tasks"]["cart|click"]["auc"]
    assert found > 0.99


# ---- the others first ------------------------------------------------------------------------


def test_the_task_alone_begins_where_the_others_have_led(
    shop: Shop, compared: tuple[Path, dict[str, Any], list[str]]
) -> None:
    first = artifact.load(compared[0] / "pretrained-first-profile.gender-0")
    assert [task.weight for task in first.model.tasks] == [1.0, 1.0, 0.0]
    then = finetuning_of(shop, "profile.gender")
    assert [(task.name, task.weight) for task in then.tasks] == [("profile.gender", 1.0)]
    settings, shape = settings_of(then)
    model = model_of(first.transform, first.store, then, shape)
    Learner(model, settings, onto=Onto(first.folder))
    theirs = dict(first.model.named_parameters())
    assert all(torch.equal(weight, theirs[name]) for name, weight in model.named_parameters())
    assert all(weight.requires_grad for weight in model.parameters())
    end = artifact.load(compared[0] / "pretrained-profile.gender-0").model
    moved = [
        name for name, weight in end.named_parameters() if not torch.equal(weight, theirs[name])
    ]
    assert any(name.startswith("heads.profile") for name in moved)
    assert any(name.startswith("user") for name in moved)


def test_stages_keep_one_another_so_that_their_layers_have_one_shape(shop: Shop) -> None:
    then = finetuning_of(shop, "cart")
    assert [(task.name, task.weight) for task in then.tasks] == [("click", 0.0), ("cart", 1.0)]
    assert settings_of(then)[0].watch == "cart"
    first = pretraining_of(varied(shop, training={"watch": "cart"}), "cart")
    assert settings_of(first)[0].watch == "joint"  # of a task that counts


def test_a_start_of_another_shape_is_refused_by_name(shop: Shop, base: Artifact) -> None:
    wider = varied(shop, model={"width": 40})
    settings, shape = settings_of(wider)
    model = model_of(base.transform, base.store, wider, shape)
    with pytest.raises(ArtifactError, match=r"weights of another shape: \w+"):
        Learner(model, settings, onto=Onto(base.folder))
