"""The receipt: twins that hear of one task alone, verdicts on planted answers, a run cut short."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from daogou import artifact
from daogou.artifact import Artifact
from daogou.artifact.counts import model_of
from daogou.balance import BALANCERS
from daogou.config import read_shop, shop_of
from daogou.errors import ArtifactError, ConfigError, MissingExtra
from daogou.features.batch import Batch, make_batch
from daogou.features.columns import Columns
from daogou.learn import compare as compare_module
from daogou.learn.compare import compare, receipt_of
from daogou.learn.contenders import folder_of, read_answers
from daogou.learn.course import each_path
from daogou.learn.differences import Asked, Contender, document_of
from daogou.learn.evaluate import evaluate
from daogou.learn.fit import fit
from daogou.learn.judge import questions, truth_of
from daogou.learn.loop import quiet
from daogou.learn.settings import settings_of
from daogou.learn.step import backward
from daogou.learn.variant import finetuning_of, pretraining_of, twin_of, varied
from daogou.schema import Shop
from tests.learn.conftest import QUICK

OFF = tuple(
    f"tasks.{name}.enabled=false"
    for name in ("match", "purchase", "extract", '"profile.gender"', '"profile.age_band"',
                 '"profile.tier"')
)  # fmt: skip


@pytest.fixture(scope="module")
def shop(shop_folder: Path) -> Shop:
    """A shop of two tasks: click, and cart given a click."""
    return read_shop(shop_folder, [*QUICK, *OFF, "fit.epochs=1"])


@pytest.fixture(scope="module")
def base(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A run of it, each task's best epoch kept."""
    folder = tmp_path_factory.mktemp("compare") / "base"
    fit(shop, folder, keep_each=True)
    return artifact.load(folder)


@pytest.fixture(scope="module")
def compared(
    shop: Shop, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], list[str]]:
    """A comparison with one other mixer, its folder and the runs it told of."""
    folder = tmp_path_factory.mktemp("compare") / "out"
    told: list[str] = []

    def progress(what: str, done: int, total: int, words: str) -> None:
        if what == "run":
            told.append(f"{done}/{total} {words}")

    return folder, compare(shop, folder, SMALL, progress=progress), told


SMALL = Asked(seeds=2, mixers=("ple", "shared_bottom"), rivals=("popularity",), draws=20)


# ---- twins --------------------------------------------------------------------------------


def test_a_twin_has_one_task_that_counts(shop: Shop) -> None:
    twin = twin_of(shop, "cart")
    assert [(task.name, task.given, task.weight) for task in twin.tasks] == [
        ("click", None, 0.0), ("cart", "click", 1.0),
    ]  # fmt: skip
    assert [task.name for task in twin_of(shop, "click").tasks] == ["click"]
    assert settings_of(twin)[0].watch == "cart"


def test_a_twin_of_a_profile_written_either_way_is_alone(shop_folder: Path) -> None:
    whole = read_shop(shop_folder, QUICK)
    nested = dict(whole.document) | {
        "tasks": {"profile": {"gender": {"weight": 0.7}, "tier": {"weight": 0.2}}}
    }
    twin = twin_of(shop_of(nested, whole.root), "profile.gender")
    assert [(task.name, task.weight) for task in twin.tasks] == [("profile.gender", 1.0)]


def test_a_twin_is_not_balanced_and_samples_nothing(shop_folder: Path) -> None:
    joint = read_shop(
        shop_folder,
        [*QUICK, *OFF, "fit.balancer=gradnorm", "fit.balancer_options.alpha=2.0",
         "fit.sampling=stop_and_go", "model.mixer=home", "model.mixer_options.groups=[0, 1]"],
    )  # fmt: skip
    assert "gradnorm" in BALANCERS
    settings, shape = settings_of(twin_of(joint, "click"))
    assert (settings.balancer, settings.sampling, shape.mixer) == ("fixed", "joint", "home")
    assert shape.mixer_options is None


def without_no(batch: Batch, stage: int) -> Batch:
    """The batch where the stage did not happen unknown: what it is given to has the same rows."""
    labels = batch.exposures["labels"].clone()
    labels[:, stage] = torch.where(labels[:, stage] == 1, 1, -1)
    exposures = Columns({**batch.exposures.tensors, "labels": labels})
    return Batch(exposures, batch.users, batch.items, batch.texts, batch.titles, batch.extra)


def shared_gradients(shop: Shop, base: Artifact, batch: Batch) -> dict[str, Tensor]:
    """Gradients of all weights that more than one task could reach."""
    _, shape = settings_of(shop)
    torch.manual_seed(0)
    model = model_of(base.transform, base.store, shop, shape).eval()
    static = torch.tensor([task.weight for task in shop.tasks])
    backward(model, batch, static, BALANCERS["fixed"](2))
    own = ("hidden", "out", "wide")
    return {
        name: weight.grad.to_dense()
        for name, weight in model.named_parameters()
        if weight.grad is not None and not name.startswith(tuple(f"heads.funnel.{x}" for x in own))
    }


def test_nothing_of_the_tasks_that_do_not_count_reaches_what_is_shared(
    shop: Shop, base: Artifact
) -> None:
    rows = np.arange(*base.store.ranges["train"])[:200]
    batch = make_batch(base.store, rows, history_length=20)
    for asked, stage, same in (
        (twin_of(shop, "cart"), 0, True),
        (finetuning_of(shop, "cart"), 0, True),
        (pretraining_of(shop, "cart"), 1, True),
        (pretraining_of(shop, "click"), 1, False),
        (shop, 0, False),
    ):
        before = shared_gradients(asked, base, batch)
        after = shared_gradients(asked, base, without_no(batch, stage))
        moved = [name for name in before if not torch.equal(before[name], after[name])]
        assert len(before) > 10 and any(grad.any() for grad in before.values())
        assert (moved == []) is same, moved


def test_narrow_twins_are_together_as_large_as_the_joint_model(
    compared: tuple[Path, dict[str, Any], list[str]],
) -> None:
    _, document, _ = compared
    sizes = document["cost"]["parameters"]
    assert 0.8 < sizes["single_small"] / sizes["ple+fixed"] < 1.25
    assert sizes["single"] > 1.3 * sizes["ple+fixed"]
    widths = document["contenders"]["single_small"]["widths"]
    assert widths["width"] < 32 and len(widths["expert_widths"]) == 2


# ---- the document ---------------------------------------------------------------------------


def test_every_contender_is_trained_once_and_told_of(
    compared: tuple[Path, dict[str, Any], list[str]],
) -> None:
    folder, document, told = compared
    assert told[0] == "0/13 ple+fixed-0" and told[-1] == "13/13 done"
    assert len(told) == 14  # 2 seeds of 2 candidates and of 2 twins of 2 tasks; popularity; done
    assert list(document["contenders"]) == [
        "ple+fixed", "shared_bottom+fixed", "single", "single_small", "popularity",
    ]  # fmt: skip
    assert document["seeds"] == [0, 1] and document["absent"] == {}
    assert not list(folder.rglob("each"))


def test_what_is_compared_is_what_evaluate_reports(
    compared: tuple[Path, dict[str, Any], list[str]],
) -> None:
    folder, document, _ = compared
    report = evaluate(artifact.load(folder / "ple+fixed-1"))["tasks"]
    values = document["contenders"]["ple+fixed"]["values"]
    for name in ("click", "cart", "cart|click"):
        np.testing.assert_allclose(values[name][1], report[name]["auc"])
        entry = document["candidates"]["ple+fixed"]["tasks"][name]
        np.testing.assert_allclose(entry["multi"], np.mean(values[name]))
        np.testing.assert_allclose(entry["ceiling"], report[name]["ceiling_auc"])
    alone = evaluate(artifact.load(folder / "single-cart-1"))["tasks"]
    values = document["contenders"]["single"]["values"]
    np.testing.assert_allclose(values["cart|click"][1], alone["cart|click"]["auc"])


def test_over_all_exposures_each_stage_is_of_its_own_twin(
    compared: tuple[Path, dict[str, Any], list[str]],
) -> None:
    folder, document, _ = compared
    said = [read_answers(folder / f"single-{task}-0", "joint/") for task in ("click", "cart")]
    whole = artifact.load(folder / "ple+fixed-0")
    question = next(
        each
        for each in questions(whole.shop, whole.store, whole.transform, "test")
        if each.name == "cart"
    )
    value = question.judge(said[0]["click"] * said[1]["cart|click"]).value
    np.testing.assert_allclose(document["contenders"]["single"]["values"]["cart"][0], value)


def test_best_per_task_stands_beside_and_never_in_a_verdict(
    compared: tuple[Path, dict[str, Any], list[str]],
) -> None:
    _, document, _ = compared
    for name, entry in document["candidates"]["ple+fixed"]["tasks"].items():
        best = document["contenders"]["ple+fixed"]["best_per_task"][name]
        np.testing.assert_allclose(entry["best_per_task"]["multi"], np.mean(best))
        gap = entry["multi"] - entry["single"]
        np.testing.assert_allclose(entry["difference"], gap)


def test_the_receipt_is_the_part_that_others_read(
    compared: tuple[Path, dict[str, Any], list[str]],
) -> None:
    folder, document, _ = compared
    written = json.loads((folder / "receipt.json").read_text("utf-8"))
    assert written == artifact.plain(receipt_of(document))
    assert {"verdict", "difference", "interval", "smallest_detectable", "single", "multi"} <= set(
        written["tasks"]["cart"]
    )
    assert set(written["cost"]) == {"seconds", "parameters", "ms_per_1000"}
    assert written["candidate"] in document["candidates"]
    assert json.loads((folder / "compare.json").read_text("utf-8")) == artifact.plain(document)


def test_validation_chooses_the_candidate(compared: tuple[Path, dict[str, Any], list[str]]) -> None:
    _, document, _ = compared
    scores = {
        name: np.mean(document["contenders"][name]["validation"]) for name in document["candidates"]
    }
    assert document["chosen"] == min(scores, key=lambda name: scores[name])


# ---- verdicts -------------------------------------------------------------------------------


def planted(
    shop: Shop, base: Artifact, candidate: str, control: str, best: str | None = None
) -> Mapping[str, Any]:
    """The document where a candidate knows the truth, or the control does, or both the same."""
    asked = questions(shop, base.store, base.transform, "train", truth_of(shop))
    noise = np.random.default_rng(0)
    said: dict[str, list[dict[str, Any]]] = {"truth": [], "noise": []}
    for _ in range(3):
        said["truth"].append({each.name: each.ceiling for each in asked})
        said["noise"].append(
            {
                each.name: noise.random(len(each.ceiling))
                for each in asked
                if each.ceiling is not None
            }
        )
    contenders = [
        Contender("ours", "multi", said[candidate], said[best or candidate], validation=[1.0]),
        Contender("single", "single", said[control]),
    ]
    return document_of(shop, Asked(seeds=3, draws=100), base, contenders, quiet)


def test_verdicts_find_what_was_planted(
    shop: Shop, base: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daogou.learn.differences.SPLIT", "train")  # the test is too small
    for candidate, control, wanted in (
        ("truth", "noise", "HELPS"), ("noise", "truth", "HURTS"), ("truth", "truth", "NEUTRAL"),
    ):  # fmt: skip
        found = planted(shop, base, candidate, control)["candidates"]["ours"]
        for name in ("click", "cart"):
            entry = found["tasks"][name]
            assert entry["verdict"] == wanted, (name, entry)
            assert entry["interval"][0] <= entry["difference"] <= entry["interval"][1]
        assert np.sign(found["delta_m"]) == {"HELPS": 1, "HURTS": -1, "NEUTRAL": 0}[wanted]
        closed = found["tasks"]["click"]["gap_closed"]
        assert wanted != "HELPS" or closed == pytest.approx(1.0)


def test_a_best_epoch_that_knows_the_truth_saves_no_verdict(
    shop: Shop, base: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daogou.learn.differences.SPLIT", "train")
    found = planted(shop, base, "noise", "truth", best="truth")["candidates"]["ours"]
    for entry in found["tasks"].values():
        assert entry["best_per_task"]["multi"] == pytest.approx(entry["ceiling"])
        assert entry["best_per_task"]["difference"] == pytest.approx(0.0)
    assert found["tasks"]["click"]["verdict"] == "HURTS"
    assert found["tasks"]["click"]["multi"] < found["tasks"]["click"]["single"]


def test_slices_are_corrected_together_and_hold_their_own_rows(
    shop: Shop, base: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daogou.learn.differences.SPLIT", "train")
    found = planted(shop, base, "truth", "noise")["candidates"]["ours"]
    parts = {each["slice"]: each for each in found["slices"] if each["task"] == "click"}
    assert {"head items", "tail items"} <= set(parts)
    total = found["tasks"]["click"]["n"]
    assert sum(parts[name]["n"] for name in ("head items", "tail items")) <= total
    assert all(each["p_holm"] >= each["p"] or np.isnan(each["p"]) for each in found["slices"])


# ---- running ------------------------------------------------------------------------------


class Killed(Exception):
    """What stops a comparison in a test."""


def without_times(document: Mapping[str, Any]) -> dict[str, Any]:
    kept = json.loads(json.dumps(artifact.plain(document)))
    kept["cost"] = kept["cost"]["parameters"]
    for each in kept["contenders"].values():
        del each["seconds"]
    return dict(kept)


def test_killed_and_resumed_is_as_if_unbroken(
    shop: Shop, compared: tuple[Path, dict[str, Any], list[str]], tmp_path: Path
) -> None:
    asked = Asked(seeds=1, rivals=("popularity",), draws=20)
    whole, folder = tmp_path / "whole", tmp_path / "cut"
    shutil.copytree(compared[0], whole)
    unbroken = compare(shop, whole, asked, resume=True)  # of runs that are there

    def kill(name: str) -> Any:
        seen = set()

        def progress(what: str, done: int, total: int, words: str) -> None:
            if what == "run":
                seen.add(words)
            if name in seen and what in ("steps", "judge"):
                raise Killed

        return progress

    with pytest.raises(Killed):
        compare(shop, folder, asked, progress=kill("single-click-0"))
    with pytest.raises(ArtifactError, match="not empty; add --resume"):
        compare(shop, folder, asked)
    with pytest.raises(Killed):
        compare(shop, folder, asked, resume=True, progress=kill("done"))
    (folder / "single-cart-0" / "scores.safetensors").unlink()  # killed before it was judged
    for left in ("checkpoint", "each"):  # killed when it was
        (folder / "single-click-0" / left).mkdir()
    resumed = compare(shop, folder, asked, resume=True)
    assert not [*folder.glob("*/checkpoint"), *folder.glob("*/each")]
    assert without_times(resumed) == without_times(unbroken)


def test_a_run_of_other_settings_is_refused(
    shop: Shop, compared: tuple[Path, dict[str, Any], list[str]], tmp_path: Path
) -> None:
    folder, _, _ = compared
    copied = tmp_path / "out"
    shutil.copytree(folder, copied)
    other = varied(shop, training={"epochs": 3})
    with pytest.raises(ArtifactError, match="was fitted with other settings or another shop"):
        compare(other, copied, SMALL, resume=True)


def test_what_cannot_be_compared_is_said_before_anything_is_trained(
    shop: Shop, tmp_path: Path
) -> None:
    alone = varied(shop, tasks={"cart": {"enabled": False}})
    with pytest.raises(ConfigError, match="click; it takes two tasks to share anything"):
        compare(alone, tmp_path / "out")
    asked = Asked(
        seeds=0, mixers=("plee",), balancers=("fixd",), controls=("auxx",), rivals=("lightgbn",),
        margin=0.0, cold=0, head=1.0,
    )  # fmt: skip
    with pytest.raises(ConfigError) as refusal:
        compare(shop, tmp_path / "out", asked)
    for part in (
        "seeds: 0",
        "'ple'",
        "'fixed'",
        "'aux'",
        "'lightgbm'",
        "margin: 0.0",
        "cold: 0",
        "head: 1",
    ):
        assert part in str(refusal.value)
    with pytest.raises(ConfigError, match="controls: 'aux' tells a stage of another"):
        compare(alone, tmp_path / "out", Asked(controls=("aux",)))
    assert not (tmp_path / "out").exists()


def test_a_rival_whose_library_is_missing_is_named(
    shop: Shop, compared: tuple[Path, dict[str, Any], list[str]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def missing(*_: Any, **__: Any) -> None:
        raise MissingExtra("lightgbm: pip install 'daogou[baselines]'")

    folder, _, _ = compared
    copied = tmp_path / "out"
    shutil.copytree(folder, copied)
    monkeypatch.setattr(compare_module, "rival_scores", missing)
    asked = Asked(seeds=1, rivals=("lightgbm",), draws=10)
    document = compare(shop, copied, asked, resume=True)
    assert document["absent"] == {"lightgbm": "lightgbm: pip install 'daogou[baselines]'"}
    assert "lightgbm" not in document["contenders"]


def test_a_folder_is_named_so_that_a_file_system_takes_it() -> None:
    assert folder_of(Path("x"), "a+b", 1, "add/cart").name == "a+b-add%2fcart-1"


# ---- each task's own epoch ----------------------------------------------------------------


def test_keeping_each_tasks_best_epoch_changes_nothing_else(
    shop: Shop, base: Artifact, tmp_path: Path
) -> None:
    plain = fit(shop, tmp_path / "plain", like=base.folder)
    assert not each_path(tmp_path / "plain", 0).exists()
    assert plain["validation"] == base.manifest["fit"]["validation"]
    one, other = (load_file(run / "model.safetensors") for run in (tmp_path / "plain", base.folder))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_each_tasks_best_epoch_is_the_one_of_its_least_validation_loss(
    shop: Shop, base: Artifact, tmp_path: Path
) -> None:
    from daogou.learn.relate import losses_of
    from daogou.learn.validate import validation_losses

    longer = varied(shop, training={"epochs": 4, "calibration": "none", "learning_rate": 0.02})
    fit(longer, tmp_path / "run", keep_each=True, like=base.folder)
    loaded = artifact.load(tmp_path / "run")
    names = [task.name for task in loaded.model.tasks]
    curve = losses_of(tmp_path / "run", names)
    for place, name in enumerate(names):
        loaded.model.load_state_dict(load_file(each_path(tmp_path / "run", place)))
        found = validation_losses(
            loaded.model, loaded.store, "validation", history_length=loaded.history_length
        )
        np.testing.assert_allclose(found[name].relative, curve[:, place].min(), rtol=1e-6)


def test_a_killed_fit_goes_on_with_each_tasks_best_epoch(
    shop: Shop, base: Artifact, tmp_path: Path
) -> None:
    longer = varied(shop, training={"epochs": 3})
    fit(longer, tmp_path / "whole", keep_each=True, like=base.folder)

    def kill(what: str, done: int, total: int, words: str) -> None:
        if what == "epoch" and done == 2:
            raise Killed

    with pytest.raises(Killed):
        fit(longer, tmp_path / "cut", keep_each=True, progress=kill, like=base.folder)
    fit(longer, tmp_path / "cut", keep_each=True, resume=True)
    for place in range(2):
        one, other = (load_file(each_path(tmp_path / run, place)) for run in ("whole", "cut"))
        assert all(torch.equal(one[name], other[name]) for name in one)
