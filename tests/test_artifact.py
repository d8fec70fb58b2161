"""A saved run is loaded whole and equal, or refused for a reason that it names."""

import json
import os
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from daogou import artifact
from daogou.artifact import FORMAT, load, read_manifest, save
from daogou.artifact.counts import counts_of, model_of, rates_of
from daogou.errors import ArtifactError
from daogou.features.queries import full_queries
from daogou.features.store import Store
from daogou.features.transform import VERSION, Transform
from daogou.model import predict
from daogou.model.build import Shape
from daogou.model.joint import JointModel
from daogou.model.mixers import MIXERS
from daogou.schema import Shop, Task
from tests.shops import compile_shop, write_shop

SHAPE = Shape(width=8, expert_widths=(8, 8), text_width=8, tower=4, mixer_options={"n_own": 2})
RECORD = {"history_length": 4, "note": "made by hand"}


class Made:
    """A compiled shop with a model, and a folder that it was saved in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "run"
        self.shop: Shop = write_shop(folder / "shop")
        self.transform: Transform
        self.transform, store = compile_shop(self.shop)
        shutil.copytree(store.folder, self.folder / "store")
        self.store: Store = store
        torch.manual_seed(0)
        self.model: JointModel = model_of(self.transform, store, self.shop, SHAPE)
        self.save(self.folder)

    def save(self, folder: Path) -> None:
        save(folder, shop=self.shop, transform=self.transform, model=self.model,
             shape=SHAPE, record=RECORD)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("artifact"))


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    shutil.copytree(made.folder, tmp_path / "copy")
    return tmp_path / "copy"


def rewrite(run: Path, change: Callable[[dict[str, Any]], None], *, signed: bool) -> None:
    """Change a manifest; ``signed`` as one that knows how would, or by hand."""
    path = run / "manifest.json"
    document = json.loads(path.read_text("utf-8"))
    digest = document.pop("digest")
    change(document)
    document["digest"] = artifact._digest(document) if signed else digest
    path.write_text(json.dumps(document), encoding="utf-8")


# ---- there and back ---------------------------------------------------------------------


def test_a_loaded_run_gives_the_same_answers(made: Made) -> None:
    run = load(made.folder)
    for name, weight in made.model.state_dict().items():
        assert torch.equal(run.model.state_dict()[name], weight), name
    for split in ("train", "validation", "test"):
        before = predict.funnel_scores(made.model, made.store, split, history_length=4)
        after = predict.funnel_scores(run.model, run.store, split, history_length=4)
        assert np.array_equal(before.chances, after.chances)
    vectors = [predict.item_vectors(each, made.store) for each in (made.model, run.model)]
    assert torch.equal(*vectors)


def test_a_loaded_run_knows_what_it_was_made_from(made: Made) -> None:
    run = load(made.folder)
    assert run.transform == made.transform
    assert run.shop == made.shop
    assert run.store.ranges == made.store.ranges
    assert run.history_length == 4
    assert run.manifest["note"] == "made by hand"
    assert run.manifest["shape"]["mixer_options"] == {"n_own": 2}
    assert not run.model.training


def test_a_run_can_be_moved(copy: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "名字"
    moved.parent.mkdir()
    copy.rename(moved)
    assert load(moved).folder == moved


def test_nothing_partial_is_left(made: Made) -> None:
    names = sorted(path.name for path in made.folder.iterdir())
    assert names == ["manifest.json", "model.safetensors", "store", "transform.json"]


def test_whoever_may_read_a_run_s_manifest_may_read_its_weights(made: Made) -> None:
    modes = {(made.folder / name).stat().st_mode for name in ("manifest.json", "model.safetensors")}
    assert len(modes) == 1


def test_the_manifest_names_every_file_but_itself(made: Made) -> None:
    files = {str(path.relative_to(made.folder)) for path in made.folder.rglob("*")
             if path.is_file()}  # fmt: skip
    assert set(read_manifest(made.folder)["files"]) == files - {"manifest.json"}


def test_logs_beside_a_run_may_change(copy: Path) -> None:
    (copy / "events.jsonl").write_text("{}\n")
    assert load(copy).folder == copy


def test_positive_shares_are_counted_on_training_clicks(made: Made) -> None:
    # Training clicks: 10, 11 and 12 once each; one more of each, and of the unknown: 1, 2, 2, 2.
    counts = counts_of(made.transform, made.store, made.shop.tasks)
    assert counts.n_items == 4
    torch.testing.assert_close(counts.positive_share, torch.tensor([1, 2, 2, 2]) / 7)


# ---- refused ----------------------------------------------------------------------------


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere: no such run; `daogou fit shop.toml --out"):
        load(tmp_path / "nowhere")


def test_a_shop_that_is_taken_for_a_run_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("seed = 1\n")
    with pytest.raises(ArtifactError, match=r"a shop and no run; `daogou fit \S+ --out RUN`"):
        load(tmp_path)


def test_a_run_without_a_manifest_never_finished(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"no manifest\.json, so this run never finished"):
        load(copy)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_manifest_is_refused(copy: Path, share: float) -> None:
    path = copy / "manifest.json"
    text = path.read_bytes()
    path.write_bytes(text[: int(len(text) * share)])
    with pytest.raises(ArtifactError, match=r"manifest\.json: truncated or not a manifest"):
        load(copy)


@pytest.mark.parametrize("text", ["[]", "{}", "3", '"run"', "\ufeff{}", "\x00"])
def test_what_is_no_manifest_is_refused(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"manifest\.json: truncated or not a manifest"):
        load(copy)


def test_an_altered_manifest_is_refused(copy: Path) -> None:
    rewrite(copy, lambda document: document.update(history_length=9), signed=False)
    with pytest.raises(ArtifactError, match=r"manifest\.json: altered since the run was saved"):
        load(copy)


@pytest.mark.parametrize("version", ["daogou-run-0", "daogou-run-99", None, 1])
def test_another_version_is_refused(copy: Path, version: object) -> None:
    rewrite(copy, lambda document: document.update(format=version), signed=True)
    with pytest.raises(ArtifactError, match=rf"format {version!r}, this Daogou reads '{FORMAT}'"):
        load(copy)


NAMES = ("model.safetensors", "transform.json", "store/store.json", "store/items/id.npy")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_file_is_named(copy: Path, name: str, verify: bool) -> None:
    (copy / name).unlink()
    with pytest.raises(ArtifactError, match=rf"{name}: missing from the run; copy the whole"):
        load(copy, verify=verify)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["flipped", "cut", "longer"])
def test_an_altered_file_is_named(copy: Path, name: str, how: str) -> None:
    path = copy / name
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[-2] ^= 1
    elif how == "cut":
        del data[-1]
    else:
        data += b"\n"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=rf"{name}: altered since the run was saved"):
        load(copy)


def foreign(copy: Path, name: str, data: bytes) -> None:
    """Put other bytes in place of a file, and sign for them."""
    (copy / name).write_bytes(data)
    digest = artifact.sha256(copy / name)
    rewrite(copy, lambda document: document["files"].update({name: digest}), signed=True)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("model.safetensors", b"no tensors", "not a run that this Daogou can read"),
        ("transform.json", b"{", "not a run that this Daogou can read"),
        ("transform.json", b"{}", "transform: version None, this Daogou reads"),
        ("transform.json", b'{"version": %d}' % VERSION, "not a run that this Daogou can read"),
        ("store/store.json", b"{}", r"store\.json: damaged \('arrays'\)"),
        ("store/items/id.npy", b"no array", r"items/id\.npy: cannot be read"),
    ],
)
def test_a_foreign_file_is_refused(copy: Path, name: str, data: bytes, message: str) -> None:
    foreign(copy, name, data)
    with pytest.raises(ArtifactError, match=message):
        load(copy)


@pytest.mark.parametrize("how", ["shape", "missing", "extra"])
def test_weights_that_do_not_fit_the_manifest_are_refused(copy: Path, how: str) -> None:
    weights = load_file(copy / "model.safetensors")
    if how == "shape":
        weights["heads.match.user.weight"] = torch.zeros(3, 3)
    elif how == "missing":
        del weights["heads.match.user.weight"]
    else:
        weights["heads.other"] = torch.zeros(1)
    path = copy.parent / "other.safetensors"
    save_file(weights, path)
    foreign(copy, "model.safetensors", path.read_bytes())
    named = "heads.other" if how == "extra" else r"heads\.match\.user\.weight"
    with pytest.raises(
        ArtifactError, match=rf"model\.safetensors: does not fit its manifest: .*{named}"
    ):
        load(copy)


def test_a_manifest_of_another_shape_does_not_fit_its_weights(copy: Path) -> None:
    rewrite(copy, lambda document: document["shape"].update(width=16), signed=True)
    with pytest.raises(ArtifactError, match="does not fit its manifest: size mismatch"):
        load(copy)


@pytest.mark.parametrize("key", ["files", "shop", "shape", "root"])
def test_a_signed_manifest_that_lacks_something_is_refused(copy: Path, key: str) -> None:
    rewrite(copy, lambda document: document.pop(key), signed=True)
    with pytest.raises(ArtifactError, match="not a run that this Daogou can read"):
        load(copy)


# ---- from strangers, who sign as well as we do ----------------------------------------------


def signed_json(copy: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((copy / name).read_text("utf-8"))
    change(document)
    foreign(copy, name, json.dumps(document).encode())


def signed_weights(copy: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(copy / "model.safetensors")
    change(weights)
    save_file(weights, copy.parent / "other.safetensors")
    foreign(copy, "model.safetensors", (copy.parent / "other.safetensors").read_bytes())


@pytest.mark.parametrize("name", ["model.safetensors", "store/items/id.npy", "manifest.json"])
def test_a_link_out_of_the_run_is_not_followed(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).rename(tmp_path / "outside")
    (copy / name).symlink_to(tmp_path / "outside")
    with pytest.raises(ArtifactError, match=rf"{name}: no file in the run's own folder"):
        load(copy)


def test_a_folder_may_be_a_link_and_a_folder_in_it_may_not(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(copy)
    assert load(tmp_path / "link").folder == tmp_path / "link"
    (copy / "store").rename(tmp_path / "outside")
    (copy / "store").symlink_to(tmp_path / "outside")
    with pytest.raises(ArtifactError, match="no file in the run's own folder"):
        load(copy)


@pytest.mark.parametrize("escape", ["../outside", "{outside}", "store/../../outside"])
def test_a_name_that_leads_out_of_the_run_is_not_read(
    copy: Path, tmp_path: Path, escape: str
) -> None:
    (tmp_path / "outside").write_text("secret")
    name = escape.format(outside=tmp_path / "outside")
    rewrite(copy, lambda document: document["files"].update({name: "0"}), signed=True)
    with pytest.raises(ArtifactError, match="no file in the run's own folder"):
        load(copy)


def test_what_never_ends_is_not_read(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    os.mkfifo(copy / "model.safetensors")
    with pytest.raises(ArtifactError, match="no file in the run's own folder"):
        load(copy)


@pytest.mark.parametrize(
    ("name", "size"),
    [("manifest.json", 10**10), ("transform.json", 10**10), ("store/store.json", 10**9)],
)
def test_a_document_is_not_read_if_it_is_longer_than_any(copy: Path, name: str, size: int) -> None:
    os.truncate(copy / name, size)  # takes no room on the disk
    with pytest.raises(ArtifactError, match=r"are the most that one of a run has|longer than any"):
        load(copy, verify=False)


@pytest.mark.parametrize("name", ["manifest.json", "transform.json", "store/store.json"])
def test_a_document_that_is_nested_too_deeply_is_refused(copy: Path, name: str) -> None:
    deep = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
    if name == "manifest.json":
        (copy / name).write_bytes(deep)
    else:
        foreign(copy, name, deep)
    with pytest.raises(ArtifactError, match=r"not a manifest|Daogou can read|damaged"):
        load(copy)


@pytest.mark.parametrize("length", [2**60, 2**63 - 1, 10**8 + 1, 0])
def test_weights_whose_header_cannot_be_are_refused(copy: Path, length: int) -> None:
    data = (copy / "model.safetensors").read_bytes()
    foreign(copy, "model.safetensors", length.to_bytes(8, "little") + data[8:])
    with pytest.raises(ArtifactError, match="not a run that this Daogou can read"):
        load(copy)


def test_weights_of_another_type_are_refused(copy: Path) -> None:
    def widen(weights: dict[str, torch.Tensor]) -> None:
        weights["heads.match.user.weight"] = weights["heads.match.user.weight"].double()

    signed_weights(copy, widen)
    with pytest.raises(ArtifactError, match=r"user\.weight is torch\.float64, not torch\.float32"):
        load(copy)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(copy: Path, number: float) -> None:
    signed_weights(copy, lambda weights: weights["heads.match.user.weight"].fill_(number))
    with pytest.raises(ArtifactError, match=r"user\.weight holds numbers that are not finite"):
        load(copy)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("width", 2**50, "width is 1125899906842624; 1048576 is the most"),
        ("width", 2**19, "does not fit its manifest: size mismatch"),  # 2 TB, if it were made
        ("expert_widths", [2**40], "expert_widths is 1099511627776"),
        ("mixer_options", {"n_own": 10**9}, "n_own is 1000000000"),
    ],
)
def test_nothing_is_made_as_large_as_a_manifest_says(
    copy: Path, key: str, value: Any, message: str
) -> None:
    rewrite(copy, lambda document: document["shape"].update({key: value}), signed=True)
    with pytest.raises(ArtifactError, match=message):
        load(copy)


def test_a_history_is_not_read_as_far_as_a_manifest_says(copy: Path) -> None:
    rewrite(copy, lambda document: document.update(history_length=10**12), signed=True)
    with pytest.raises(ArtifactError, match="history_length is 1000000000000"):
        load(copy)


@pytest.mark.parametrize(
    ("name", "of", "message"),
    [
        ("../../outside", ["int64", [1]], "is no array of a store"),
        ("items/more", ["object", [1]], "is no array of a store"),
        ("items/more", ["int64", [-1]], "is no array of a store"),
        ("items/more", ["int64", [2**60]], r"items/more\.npy: cannot be read"),
        ("items/id", ["int32", [2**60]], "the store says int32"),
        ("items/id", ["V1000000000", [2]], "is no array of a store"),
    ],
)
def test_an_array_that_cannot_be_is_refused(
    copy: Path, name: str, of: list[Any], message: str
) -> None:
    signed_json(copy, "store/store.json", lambda document: document["arrays"].update({name: of}))
    with pytest.raises(ArtifactError, match=message):
        load(copy)


def test_an_array_that_the_manifest_does_not_name_is_refused(copy: Path) -> None:
    rewrite(copy, lambda document: document["files"].pop("store/items/id.npy"), signed=True)
    with pytest.raises(
        ArtifactError, match=r"store/items/id\.npy: not named by the run's manifest"
    ):
        load(copy)


def test_ids_that_no_table_has_a_row_for_are_refused(copy: Path) -> None:
    ids = np.load(copy / "store" / "items" / "id.npy")
    ids[-1] = 2**31 - 1
    np.save(copy.parent / "id.npy", ids)
    foreign(copy, "store/items/id.npy", (copy.parent / "id.npy").read_bytes())
    with pytest.raises(ArtifactError, match=r"items/id\.npy: ids beyond the \d+ that there are"):
        load(copy)


@pytest.mark.parametrize("mixer", sorted(MIXERS))
def test_every_model_has_shapes_before_it_has_numbers(made: Made, mixer: str) -> None:
    shape = Shape(width=8, expert_widths=(8, 8), text_width=8, tower=4, mixer=mixer)
    with torch.device("meta"):
        wanted = model_of(made.transform, made.store, made.shop, shape).state_dict()
    found = model_of(made.transform, made.store, made.shop, shape).state_dict()
    assert {n: (w.shape, w.dtype) for n, w in wanted.items()} == {
        n: (w.shape, w.dtype) for n, w in found.items()
    }


def test_nothing_reads_files_that_can_run_code() -> None:
    forbidden = re.compile(
        r"^\s*(import|from) (pickle|marshal|shelve|dill|joblib|cloudpickle)\b|"
        r"torch\.load\(|allow_pickle=True|(?<![\w.])(eval|exec)\(|yaml\.(unsafe_)?load\(|"
        r"trust_remote_code=True|torch\.save\(",
        re.MULTILINE,
    )
    assert forbidden.search("x = torch.load(f)") and forbidden.search("import pickle\n")
    package = Path(artifact.__file__).parent
    found = [str(path) for path in package.rglob("*.py")
             if forbidden.search(path.read_text("utf-8"))]  # fmt: skip
    assert not found


# ---- sample answers ---------------------------------------------------------------------


def test_a_run_keeps_answers_of_every_task_with_the_rows_they_are_of(made: Made) -> None:
    samples = read_manifest(made.folder)["samples"]
    # Test exposures are rows 6 and 7; the unknown user and product are asked about too.
    assert samples["rows"] == {
        "exposures": [6, 7], "users": [0, 1, 2, 3], "items": [0, 1, 2, 3, 4],
        "titles": [0, 1, 2, 3],
    }  # fmt: skip
    answers = samples["answers"]
    assert set(answers) == {task.name for task in made.shop.tasks}
    scores = predict.funnel_scores(made.model, made.store, "test", history_length=4)
    assert answers["click"] == pytest.approx(scores.chances[:, 0].tolist(), abs=1e-7)
    queries = full_queries(made.store, np.arange(4))
    (matched,) = predict.match_scores(made.model, made.store, queries, history_length=4)
    ours = np.array(answers["match"]).reshape(4, 5)[:, 1:]
    assert ours == pytest.approx(matched, abs=1e-5)


@pytest.mark.parametrize(
    ("weight", "task"),
    [
        ("heads.funnel.out.weight", "click"),
        ("heads.match.user.weight", "match"),
        ("heads.extract.own.weight", "extract"),
    ],
)
def test_weights_that_were_changed_and_signed_for_are_refused_by_their_answers(
    copy: Path, weight: str, task: str
) -> None:
    weights = load_file(copy / "model.safetensors")
    torch.manual_seed(1)
    weights[weight] = weights[weight] + torch.rand_like(weights[weight])
    path = copy.parent / "other.safetensors"
    save_file(weights, path)
    foreign(copy, "model.safetensors", path.read_bytes())
    with pytest.raises(
        ArtifactError,
        match=rf"copy: does not answer as when it was saved: .* answers of {task}, by",
    ):
        load(copy)
    assert load(copy, verify=False).folder == copy


def test_a_store_that_was_changed_and_signed_for_is_refused_by_its_answers(copy: Path) -> None:
    path = copy / "store" / "items" / "fields.npy"
    fields = np.load(path)
    np.save(path, fields[::-1].copy())
    foreign(copy, "store/items/fields.npy", path.read_bytes())
    with pytest.raises(ArtifactError, match=r"does not answer as .* of \d+ answers of"):
        load(copy)


def test_a_run_whose_tasks_go_by_other_names_is_refused(copy: Path) -> None:
    def rename(document: dict[str, Any]) -> None:
        answers = document["samples"]["answers"]
        answers["look"] = answers.pop("click")

    rewrite(copy, rename, signed=True)
    with pytest.raises(ArtifactError, match="look is missing; click is new"):
        load(copy)


def test_a_run_from_before_samples_is_read(copy: Path) -> None:
    rewrite(copy, lambda document: document.pop("samples"), signed=True)
    assert load(copy).folder == copy


# ---- saving -----------------------------------------------------------------------------


@pytest.mark.parametrize("room", [100, 20_000])
def test_a_full_disk_while_saving_is_told_and_leaves_no_whole_run(
    made: Made, tmp_path: Path, room: int
) -> None:
    """Too little room for the transform, then for the weights."""
    folder = tmp_path / "run"
    shutil.copytree(made.store.folder, folder / "store")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(ArtifactError, match=r"run: saving the run failed \(.*File too large"):
            made.save(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(ArtifactError, match="this run never finished"):
        load(folder)
    made.save(folder)
    load(folder)


def test_a_folder_that_cannot_be_written_is_told(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="saving the run failed"):
        made.save(tmp_path / "nowhere")


def test_a_stage_s_rate_is_weighed_and_of_the_training_rows_where_it_is_defined() -> None:
    # Six training rows of weights 1, 1, 4, 2, 1, 9 and one of validation, which would say 1.
    # click: 1 + 1 of 9, one unknown; buy where clicked: 1 of 2; over all: 1 of 17.
    labels = [[1, 1], [1, 0], [0, 0], [0, -1], [0, 0], [-1, 0], [1, 1]]
    arrays = {
        "exposures/labels": np.array(labels, dtype=np.int8),
        "exposures/weight": np.array([1, 1, 4, 2, 1, 9, 100], dtype=np.float32),
    }
    store = Store(Path(), arrays, {"train": (0, 6)})
    transform: Any = SimpleNamespace(stages=("click", "buy"))
    tasks = [Task("click", "funnel"), Task("buy", "funnel", "click"), Task("match", "match")]
    rates = rates_of(transform, store, tasks)
    assert rates == pytest.approx({"click": 2.5 / 10, "buy": 1.5 / 3})
    (alone,) = rates_of(transform, store, [Task("buy", "funnel")]).values()
    assert alone == pytest.approx(1.5 / 17)
    empty = Store(Path(), arrays, {"train": (0, 0)})
    assert rates_of(transform, empty, tasks) == {"click": 0.5, "buy": 0.5}
