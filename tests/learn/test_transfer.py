"""What a run of one shop is worth in another: the ways, the choice, and that the run is a run."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daogou import artifact
from daogou.artifact import Artifact
from daogou.config import read_shop
from daogou.errors import ArtifactError, ConfigError
from daogou.features.merge import DOMAIN
from daogou.guide import Guide
from daogou.learn import ways as module
from daogou.learn.fit import fit
from daogou.learn.judge import questions
from daogou.learn.loop import quiet
from daogou.learn.straight import choose_straight
from daogou.learn.transfer import transfer
from daogou.learn.ways import JOINT, SCRATCH, WAYS, Wanted, helps
from daogou.learn.worth import equivalence
from daogou.schema import Shop
from daogou.tables.simulate import simulate
from tests.learn.conftest import QUICK

SETS = (
    *QUICK, "fit.epochs=1", "tasks.extract.enabled=false", "tasks.purchase.enabled=false",
    "users.profile=[]", "model.width=8", "model.text_width=8",
)  # fmt: skip
SIZE = {"users": 60, "items": 40, "exposures": 3000}


@pytest.fixture(scope="module")
def source(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("source") / "run"
    fit(read_shop(shop_folder, SETS), run)
    return run


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The domain beside the made shop: half of its users, other products, another shape."""
    folder = tmp_path_factory.mktemp("further") / "shop"
    simulate(folder, "easy", domain=1, overlap=0.8, shared_users=0.5, **SIZE)
    return read_shop(folder, [*SETS, "model.width=16", "model.tower=8"])


@pytest.fixture(scope="module")
def frozen(
    source: Path, shop: Shop, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    run = tmp_path_factory.mktemp("frozen") / "run"
    wanted = Wanted("frozen", sizes=(500,), seeds=1, draws=10)
    return run, transfer(source, shop, run, wanted)


# ---- how many samples one is worth ------------------------------------------------------------


def test_a_sample_is_worth_as_many_as_scratch_needs_to_get_as_far() -> None:
    sizes, curve = [100, 1000, 10000], [0.6, 0.7, 0.7]
    assert equivalence(sizes, curve, 100, 0.6) == {"factor": 1.0, "bound": None}
    # Half of the way in AUC is half of the way in the logarithm of the samples.
    assert equivalence(sizes, curve, 100, 0.65)["factor"] == pytest.approx(10**0.5)
    assert equivalence(sizes, curve, 1000, 0.7)["factor"] == pytest.approx(1.0)
    assert equivalence(sizes, curve, 1000, 0.71) == {"factor": 10.0, "bound": "at_least"}
    assert equivalence(sizes, curve, 1000, 0.5) == {"factor": 0.1, "bound": "at_most"}
    # What scratch loses again with more samples it had reached all the same.
    assert equivalence(sizes, [0.6, 0.8, 0.7], 100, 0.75)["factor"] < 10
    assert np.isnan(equivalence(sizes, [0.6, float("nan"), 0.7], 100, 0.7)["factor"])


def test_a_way_helps_that_helps_some_task_and_hurts_none() -> None:
    def said(*words: str) -> dict[str, dict[str, str]]:
        return {str(place): {"verdict": word} for place, word in enumerate(words)}

    assert helps(said("HELPS", "UNDECIDED", "NEUTRAL"))
    assert not helps(said("UNDECIDED", "NEUTRAL"))
    assert not helps(said("HELPS", "HURTS"))
    assert not helps({})


# ---- the run ----------------------------------------------------------------------------------


def test_what_comes_of_it_is_an_ordinary_run_of_the_source_s_shape(
    source: Path, frozen: tuple[Path, dict[str, Any]]
) -> None:
    run, answer = frozen
    loaded = artifact.load(run)  # with its hashes and sample answers
    assert loaded.manifest["fit"]["transfer"]["chosen"] == "frozen" == answer["transfer"]["chosen"]
    assert loaded.manifest["shape"] == artifact.read_manifest(source)["shape"]
    products = answered(loaded)
    assert products <= set(loaded.store.item_keys)


def answered(run: Artifact) -> set[str]:
    """The products that a run recommends to its first user."""
    found = Guide.of(run).recommend(next(iter(run.store.user_rows)), k=3)
    assert len(found["items"]) == 3
    return {each["item"] for each in found["items"]}


def test_frozen_encoders_are_the_source_s(
    source: Path, frozen: tuple[Path, dict[str, Any]]
) -> None:
    giver, made = artifact.load(source), artifact.load(frozen[0])
    for name, weight in giver.model.named_parameters():
        if name.startswith(("text.blocks", "user.read", "item.norm")):
            assert torch.equal(made.model.get_parameter(name), weight), name
    assert giver.model.user is not None
    assert made.model.user is not None
    words = set(giver.transform.user_ids.words) & set(made.transform.user_ids.words)
    assert words
    for word in words:
        rows = (each.transform.user_ids.words.index(word) + 1 for each in (giver, made))
        one, other = (
            each.model.user.ids.weight[row]  # type: ignore[union-attr]
            for each, row in zip((giver, made), rows, strict=True)
        )
        assert torch.equal(one, other)


def test_the_report_tells_each_size_the_choice_and_the_source(
    frozen: tuple[Path, dict[str, Any]],
) -> None:
    run, answer = frozen
    told = json.loads((run / "transfer" / "transfer.json").read_text("utf-8"))
    assert told == artifact.plain(answer["transfer"])
    assert list(told["sizes"]) == ["500", str(told["n"])]
    for found in told["sizes"].values():
        assert set(found["values"]) == {"scratch", "frozen"}
        assert set(found["against"]) == {"frozen"}
        assert found["against"]["frozen"]["click"]["difference"] == pytest.approx(
            found["values"]["frozen"]["click"][0] - found["values"]["scratch"]["click"][0]
        )
    assert set(told["equivalence"]) == {"frozen"}
    assert set(told["source_tasks"]["after"]) == {"frozen"}
    before, after = told["source_tasks"]["before"], told["source_tasks"]["after"]["frozen"]
    assert set(before) == set(after) == {"click", "cart"}
    assert before != after  # its heads went on learning
    n_known, n_users = told["shared"]["users"]
    assert 0 < n_known < n_users
    assert told["shared"]["items"][0] == 0


def test_fewer_exposures_are_the_latest_ones(frozen: tuple[Path, dict[str, Any]]) -> None:
    some, whole = (module._opened(frozen[0] / "transfer" / name)[1]
                   for name in ("own-500", "tables"))  # fmt: skip
    assert some.ranges["train"] == (0, 500)
    last = whole.ranges["train"][1]
    for name in ("time", "labels", "item"):
        assert np.array_equal(
            some[f"exposures/{name}"][:500], whole[f"exposures/{name}"][last - 500 : last]
        )
    assert np.array_equal(some["exposures/labels"][500:], whole["exposures/labels"][last:])
    assert len(some["history/time"]) < len(whole["history/time"])
    assert some["history/time"].min() >= some["exposures/time"].min()


def test_one_that_is_done_is_not_done_again_and_one_that_was_killed_goes_on(
    source: Path, shop: Shop, frozen: tuple[Path, dict[str, Any]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run, answer = frozen
    wanted = Wanted("frozen", sizes=(500,), seeds=1, draws=10)
    with pytest.raises(ArtifactError, match="holds a finished run"):
        transfer(source, shop, run, wanted)
    with pytest.raises(ArtifactError, match="in another way than --how full"):
        transfer(source, shop, run, Wanted("full", sizes=(500,), seeds=1, draws=10), resume=True)
    with pytest.raises(ArtifactError, match="begun from another run"):
        transfer(source, shop, run, Wanted("frozen", same=("items",)), resume=True)
    told = artifact.plain(transfer(source, shop, run, wanted, resume=True))
    assert told["transfer"] == artifact.read_document(run / "transfer" / "transfer.json")
    assert told.keys() == answer.keys() and told["run"] == answer["run"]
    again = tmp_path / "again"
    shutil.copytree(run, again)
    (again / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="add --resume"):
        transfer(source, shop, again, wanted)
    monkeypatch.setattr("daogou.learn.contenders.fit", None)  # nothing is left to fit
    found = transfer(source, shop, again, wanted, resume=True)
    for one in (found, answer):
        one["plain"] = artifact.plain(one["transfer"]["sizes"])  # where NaN equals itself
    assert found["plain"] == answer["plain"]
    (again / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="begun from another run"):
        transfer(source, shop, again, Wanted("frozen", same=("items",)), resume=True)


def test_validation_s_users_have_not_taught_the_profiles_that_they_judge(
    made_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished run's straight paths are solved by them too: those are solved without first."""
    run, wanted = artifact.load(made_run, verify=False), Wanted("frozen", seeds=1, draws=2)
    monkeypatch.setattr(module.Trial, "run", lambda *_: made_run)
    trial = module.Trial.__new__(module.Trial)
    trial.shop, trial.wanted, trial.seeds = run.shop, wanted, range(1)
    found = trial._validated("frozen", 1)
    choose_straight(run.model, run.store, history_length=run.history_length)
    head = run.model.heads["profile"]
    kept = artifact.load(made_run, verify=False).model.heads["profile"]
    head.get_buffer("paths").copy_(kept.get_buffer("paths"))
    said = module._said(run, run.store, run.transform, "validation", {"profile"})
    for asked in questions(run.shop, run.store, run.transform, "validation"):
        if asked.name.startswith("profile."):
            assert found[asked.name][0].values[0] == asked.judge(said[asked.name]).value


@pytest.mark.slow
def test_auto_tries_all_ways_and_keeps_one_by_validation_alone(
    source: Path, shop: Shop, tmp_path: Path
) -> None:
    found = transfer(source, shop, tmp_path / "run", Wanted(sizes=(), seeds=2, draws=20))
    told = found["transfer"]
    assert set(told["choice"]) == set(WAYS)
    helping = [way for way in WAYS[1:] if helps(told["choice"][way]["tasks"])]
    scores = {way: told["choice"][way]["score"] for way in helping}
    assert told["chosen"] == min(scores, key=lambda way: scores[way], default=SCRATCH)
    whole = told["sizes"][str(told["n"])]
    assert set(whole["values"]) == set(WAYS)
    assert all(len(values["click"]) == 2 for values in whole["values"].values())
    artifact.load(tmp_path / "run")


@pytest.mark.slow
def test_joint_learns_both_shops_and_answers_for_its_own_when_no_domain_is_said(
    source: Path, shop: Shop, tmp_path: Path
) -> None:
    told = transfer(source, shop, tmp_path / "run", Wanted(JOINT, sizes=(), seeds=1, draws=5))
    made = artifact.load(tmp_path / "run")
    assert made.manifest["shape"]["mixer"] == "pepnet"
    assert made.transform.domain == DOMAIN
    column = made.transform.context.names.index(DOMAIN)
    unknown = made.transform.context.offsets[column]
    assert (made.store["exposures/fields"][:, column] == unknown).all()
    assert set(told["transfer"]["source_tasks"]["after"]) == {JOINT}
    assert answered(made) <= set(made.store.item_keys)  # none of the source's
    beside = module.open_store(tmp_path / "run" / "transfer" / f"joint-{told['transfer']['n']}"
                               / "source")  # fmt: skip
    assert (beside["exposures/fields"][:, column] == unknown + 1).all()
    assert (beside["items/id"] > 0).any()


@pytest.mark.slow
def test_users_whose_ids_mean_something_else_are_all_new(
    source: Path, shop: Shop, tmp_path: Path
) -> None:
    wanted = Wanted("frozen", sizes=(), seeds=1, same=("items",), draws=5)
    told = transfer(source, shop, tmp_path / "run", wanted)["transfer"]
    assert told["shared"]["users"][0] == 0
    giver, made = artifact.load(source), artifact.load(tmp_path / "run")
    assert giver.model.user is not None
    assert made.model.user is not None
    stranger = giver.model.user.ids.weight[0]
    assert torch.equal(made.model.user.ids.weight, stranger.expand_as(made.model.user.ids.weight))


def test_an_id_that_means_something_else_is_nobody_s_whatever_it_is(
    source: Path, shop: Shop, tmp_path: Path
) -> None:
    """Also of whoever is called as it, with a sign before; and where the source is judged again."""
    trial = module.Trial(artifact.load(source), shop, tmp_path, Wanted(same=()), quiet)
    words = artifact.load(source).transform.user_ids.words
    ours = {("id", sign + word) for word in words for sign in ("", "@")}
    assert not ours & set(trial.axes["user.ids.weight"].labels[0])


# ---- messages ---------------------------------------------------------------------------------


def test_what_cannot_be_asked_is_named(source: Path, shop: Shop, tmp_path: Path) -> None:
    wrong = Wanted("ful", sizes=(0,), seeds=0, margin=2.0, same=("user",))
    with pytest.raises(ConfigError) as told:
        transfer(source, shop, tmp_path / "run", wrong)
    for words in ("did you mean 'full'", "--sizes: 0", "--seeds: 0", "--margin: 2.0",
                  "--same: no 'user' here (did you mean 'users'?)"):  # fmt: skip
        assert words in str(told.value)
    assert not (tmp_path / "run").exists()


def test_shops_without_a_common_stage_are_refused(source: Path, shop: Shop, tmp_path: Path) -> None:
    made = artifact.load(source, verify=False)
    other = read_shop(shop.root, [*SETS, "tasks.click.enabled=false", "tasks.cart.enabled=false",
                                  "tasks.purchase.enabled=true"])  # fmt: skip
    assert {task.name for task in other.tasks} & {task.name for task in made.shop.tasks} == {
        "match"
    }
    with pytest.raises(ConfigError, match="no stage of its funnel is a task of"):
        transfer(source, other, tmp_path / "run")


def test_a_source_that_was_altered_is_refused(source: Path, shop: Shop, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "source")
    path = tmp_path / "source" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ArtifactError, match="altered since the run was saved"):
        transfer(tmp_path / "source", shop, tmp_path / "run")
    assert not (tmp_path / "run").exists()
