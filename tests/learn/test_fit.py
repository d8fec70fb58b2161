"""Training end to end on a made shop: what repeats exactly, and what is never looked at."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from daogou import artifact
from daogou.balance import BALANCERS, Balancer, Fixed
from daogou.balance.gradnorm import GradNorm
from daogou.config import read_shop
from daogou.errors import ArtifactError, ConfigError, DataError
from daogou.features.epoch import Epoch
from daogou.features.store import SPLITS, open_store
from daogou.learn import checkpoint, course, loop
from daogou.learn import finish as finish_module
from daogou.learn.compile import compile_tables
from daogou.learn.fit import fit
from daogou.learn.lock import alone
from daogou.learn.settings import Settings, balancer_of, settings_of
from daogou.learn.step import backward
from daogou.learn.track import Untracked
from daogou.learn.validate import TaskLoss, validation_losses
from daogou.model.joint import JointModel
from daogou.tables import Engine
from daogou.tables import read as read_module
from tests.learn.conftest import QUICK
from tests.shops import EVENTS, ITEMS, TOML, USERS, write_shop

Weights = dict[str, Tensor]
TINY = ("fit.epochs=1", "fit.history_length=4", "fit.extra_items=4", "model.width=8")


def fitted(shop: Path, run: Path, *more: str, resume: bool = False) -> Weights:
    """Weights of a quick run."""
    fit(read_shop(shop, [*QUICK, *more]), run, resume=resume)
    return load_file(run / "model.safetensors")


def waive(*checks: str) -> str:
    """The setting that fits in spite of these checks."""
    return f"fit.waive={list(checks)}"


def tiny(shop: Path, run: Path, *more: str) -> dict[str, Any]:
    """Fit the hand-made shop of `tests.shops`."""
    return fit(read_shop(shop, [*TINY, *more]), run)


def events_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]


def check_same(one: Weights, other: Weights) -> None:
    assert one.keys() == other.keys()
    for name, weight in one.items():
        assert torch.equal(weight, other[name]), name


_SOLVED = (
    *(f"heads.profile.{part}" for part in ("taken.", "shown.", "paths", "straight_", "shift_")),
    "heads.match.tally.", "heads.extract.calibrated.", "heads.funnel.calibrated.",
)  # fmt: skip


def taught(weights: Weights) -> Weights:
    """Those that steps of training learn, without what is solved once they have ended."""
    return {name: weight for name, weight in weights.items() if not name.startswith(_SOLVED)}


@pytest.fixture(scope="session")
def run(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fitted(shop_folder, folder)
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="session")
def weights(run: Path) -> Weights:
    return load_file(run / "model.safetensors")


# ---- what repeats -----------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights_bit_for_bit(
    shop_folder: Path, weights: Weights, tmp_path: Path
) -> None:
    check_same(fitted(shop_folder, tmp_path / "again"), weights)


def test_another_seed_gives_other_weights(
    shop_folder: Path, weights: Weights, tmp_path: Path
) -> None:
    other = fitted(shop_folder, tmp_path / "other", "seed=1", "fit.epochs=1")
    assert not torch.equal(other["heads.match.user.weight"], weights["heads.match.user.weight"])


# Blocks in the second epoch's first step until it is killed.
VICTIM = """
import sys, time, torch
from daogou.balance import BALANCERS
from daogou.config import read_shop
from daogou.learn.compile import compile_tables
from daogou.learn.fit import fit
from daogou.learn.lock import alone

def progress(what, done, total, words):
    if what == "steps" and words.startswith("epoch 2"):
        print("in the second epoch", flush=True)
        time.sleep(60)

torch.set_num_threads(1)
fit(read_shop(sys.argv[1], sys.argv[3:]), sys.argv[2], progress=progress)
"""


def test_killed_after_an_epoch_and_resumed_gives_the_weights_of_never_killed(
    shop_folder: Path, weights: Weights, tmp_path: Path
) -> None:
    run = tmp_path / "killed"
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(shop_folder), str(run), *QUICK],
        stdout=subprocess.PIPE,
        text=True,
    )
    with victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "in the second epoch\n"
        victim.kill()
    assert victim.returncode == -9
    assert len(events_of(run)) == 1
    assert not (run / "manifest.json").exists()
    check_same(fitted(shop_folder, run, resume=True), weights)
    assert [record["epoch"] for record in events_of(run)] == [1, 2]
    artifact.load(run)


def test_titles_are_read_before_training_and_not_again_when_it_is_resumed(
    shop_folder: Path, weights: Weights, tmp_path: Path
) -> None:
    asked = ("fit.pretrain_epochs=2", "fit.titles_per_step=8")
    whole = fitted(shop_folder, tmp_path / "whole", *asked)
    assert not torch.equal(whole["text.table.weight"], weights["text.table.weight"])
    heard: list[str] = []

    def stop(what: str, done: int, total: int, words: str) -> None:
        heard.append(what)
        if what == "epoch" and done == 1 and heard.count("epoch") == 1 and "pretrain" in heard:
            raise KeyboardInterrupt

    run, shop = tmp_path / "stopped", read_shop(shop_folder, [*QUICK, *asked])
    with pytest.raises(KeyboardInterrupt):
        fit(shop, run, progress=stop)
    assert heard.count("pretrain") == 2
    heard.clear()
    fit(shop, run, resume=True, progress=stop)
    assert "pretrain" not in heard
    check_same(load_file(run / "model.safetensors"), whole)


def test_killed_while_a_checkpoint_is_written_the_earlier_one_counts(
    shop_folder: Path, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calls = tmp_path / "run", 0

    def half(tensors: Weights, path: Path, metadata: Any = None) -> None:
        nonlocal calls
        calls += 1
        save_file(tensors, path, metadata=metadata)
        if path.name == "last.safetensors.partial" and calls > 2:
            path.write_bytes(path.read_bytes()[:1000])
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        fitted(shop_folder, run)
    monkeypatch.undo()
    assert [record["epoch"] for record in events_of(run)] == [1, 2]
    check_same(fitted(shop_folder, run, resume=True), weights)
    assert [record["epoch"] for record in events_of(run)] == [1, 2]  # told once, as taught last


def test_a_full_disk_keeps_the_last_whole_checkpoint_and_says_so(
    shop_folder: Path, weights: Weights, tmp_path: Path, file_limit: Callable[[int], None]
) -> None:
    run = tmp_path / "run"

    def fill(what: str, done: int, total: int, words: str) -> None:
        if what == "epoch":
            file_limit(10_000)

    with pytest.raises(
        ArtifactError, match=r"safetensors: writing the checkpoint failed .*--resume"
    ):
        fit(read_shop(shop_folder, QUICK), run, progress=fill)
    file_limit(-1)
    assert not list((run / "checkpoint").glob("*.partial"))
    check_same(fitted(shop_folder, run, resume=True), weights)


def test_a_clock_that_goes_back_changes_no_weight(
    shop_folder: Path, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hours at every look, as a machine's may that asks another for the time."""
    told = itertools.count(1.8e9, -7200)
    monkeypatch.setattr(time, "time", lambda: next(told))
    monkeypatch.setattr(time, "time_ns", lambda: int(next(told)) * 10**9)
    run = tmp_path / "back"
    check_same(fitted(shop_folder, run, "fit.checkpoint_minutes=1e-9"), weights)
    assert all(record["seconds"] > 0 for record in events_of(run))


def test_a_disk_that_is_full_when_an_epoch_is_told_costs_that_epoch(
    shop_folder: Path,
    weights: Weights,
    tmp_path: Path,
    file_limit: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append = course.append_record

    def full(path: Path, record: Mapping[str, Any]) -> None:
        if record["epoch"] == 2:
            file_limit(path.stat().st_size + 10)
        append(path, record)

    run = tmp_path / "run"
    monkeypatch.setattr(course, "append_record", full)
    with pytest.raises(OSError, match="File too large"):
        fitted(shop_folder, run)
    file_limit(-1)
    monkeypatch.undo()
    assert (run / "events.jsonl").read_bytes().count(b"\n") == 1
    check_same(fitted(shop_folder, run, resume=True), weights)
    assert [record["epoch"] for record in events_of(run)] == [1, 2]


def test_the_tables_of_a_large_log_lie_on_disk_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = write_shop(tmp_path / "shop")
    whole = compile_tables(shop, tmp_path / "memory")
    opened: list[bool] = []
    begin = Engine.__init__

    def spy(engine: Engine, *, on_disk: bool = False, **named: Any) -> None:
        opened.append(on_disk)
        begin(engine, on_disk=on_disk, **named)

    monkeypatch.setattr(Engine, "__init__", spy)
    monkeypatch.setattr(read_module, "_LARGE", (shop.root / "events.parquet").stat().st_size)
    compile_tables(shop, tmp_path / "not larger")
    monkeypatch.setattr(read_module, "_LARGE", read_module._LARGE - 1)
    found = compile_tables(shop, tmp_path / "disk")
    assert opened == [False, True]
    assert found.prepared == whole.prepared and found.transform == whole.transform
    for name, array in whole.store.arrays.items():
        assert np.array_equal(found.store[name], array, equal_nan=array.dtype.kind == "f"), name


@pytest.fixture(scope="module")
def tiny_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled tables of the hand-made shop, which is beside them."""
    folder = tmp_path_factory.mktemp("tiny")
    compile_tables(write_shop(folder / "shop"), folder / "tables")
    return folder / "tables"


@pytest.mark.parametrize("balancer", [name for name in BALANCERS if BALANCERS[name](2).state()])
def test_a_balancer_remembers_across_a_stop(
    balancer: str, tiny_tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an epoch taught is compared: the kept weights may be of one before the stop."""
    sets = ("fit.epochs=4", "fit.patience=4", "fit.rows_per_step=2", f"fit.balancer={balancer}",
            "fit.gram_every=2", "fit.checkpoint_minutes=1e-9")  # fmt: skip

    def stop(what: str, done: int, total: int, words: str) -> None:
        if what == "epoch" and done == 2:
            raise KeyboardInterrupt

    shop = read_shop(tiny_tables.parent / "shop", [*TINY, *sets])
    fit(shop, tmp_path / "whole", like=tiny_tables)
    with pytest.raises(KeyboardInterrupt):
        fit(shop, tmp_path / "run", progress=stop, like=tiny_tables)
    kill_at_step(3, monkeypatch)  # in the third epoch
    with pytest.raises(KeyboardInterrupt):
        fit(shop, tmp_path / "run", resume=True)
    monkeypatch.undo()
    assert midway_of(tmp_path / "run") == 2
    fit(shop, tmp_path / "run", resume=True)
    check_same(load_file(tmp_path / "run" / "model.safetensors"),
               load_file(tmp_path / "whole" / "model.safetensors"))  # fmt: skip
    check_told(tmp_path / "run", tmp_path / "whole")


def kill_at_step(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training ends with the ``n``-th step from here, which is not taken."""
    steps, taken = 0, loop.Learner.step

    def step(learner: loop.Learner, *given: Any, **named: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == n:
            raise KeyboardInterrupt
        return taken(learner, *given, **named)

    monkeypatch.setattr(loop.Learner, "step", step)


def midway_of(run: Path) -> int | None:
    """At which step of an epoch the checkpoint stands; None between two epochs."""
    step = load_file(run / "checkpoint" / "last.safetensors").get("midway.step")
    return None if step is None else int(step)


def check_told(run: Path, whole: Path) -> None:
    """Both journals tell the same of every epoch, but for the seconds."""
    for told, wanted in zip(events_of(run), events_of(whole), strict=True):
        assert told["seconds"] > 0
        assert told | {"seconds": 0} == wanted | {"seconds": 0}


MIDWAY = ("fit.checkpoint_minutes=1e-9", "fit.balancer=pcgrad", "fit.gram_every=2",
          "fit.rows_per_step=128")  # fmt: skip


@pytest.mark.parametrize("sampling", ["joint", pytest.param("temperature", marks=pytest.mark.slow)])
def test_killed_within_an_epoch_a_fit_goes_on_at_the_checkpoint_step(
    sampling: str, shop_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (*MIDWAY, f"fit.sampling={sampling}")
    whole = fitted(shop_folder, tmp_path / "whole", *asked)
    n_steps = len(plan_of(shop_folder, tmp_path / "whole", *asked))
    run, resume = tmp_path / "run", False
    for epochs, killed in ((0, 6), (1, n_steps + 2)):  # in the first epoch and in the second
        kill_at_step(killed, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            fitted(shop_folder, run, *asked, resume=resume)
        monkeypatch.undo()
        stands = midway_of(run)
        assert stands is not None and 0 < stands < n_steps
        assert (run / "events.jsonl").exists() == bool(epochs)
        resume = True
    check_same(fitted(shop_folder, run, *asked, resume=True), whole)
    check_told(run, tmp_path / "whole")


def plan_of(shop: Path, run: Path, *sets: str) -> Epoch:
    """The first epoch of a finished quick run."""
    found = artifact.load(run)
    settings, _ = settings_of(read_shop(shop, [*QUICK, *sets]))
    return loop.Learner(found.model, settings).plan(found.store, found.shop.seed, 0)


def test_a_checkpoint_within_an_epoch_is_due_by_the_clock_and_not_before_an_observer(
    shop_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock goes on by a minute a step: a checkpoint stands at every third step."""
    stands: list[int | None] = []
    kept = checkpoint.keep_state

    def keep(path: Path, learner: loop.Learner, state: checkpoint.State) -> None:
        stands.append(state.midway and state.midway.step)
        kept(path, learner, state)

    minutes = itertools.count()
    clock = types.SimpleNamespace(perf_counter=lambda: 60.0 * next(minutes))
    monkeypatch.setattr(course, "keep_state", keep)
    monkeypatch.setattr(course, "time", clock)
    fitted(shop_folder, tmp_path / "run", "fit.epochs=1", "fit.checkpoint_minutes=3")
    n_steps = events_of(tmp_path / "run")[0]["steps"]["funnel"]
    assert stands == [*range(3, n_steps + 1, 3), None]
    for name, minutely, observe in (("off", 0.0, None), ("seen", 3.0, lambda *_: None)):
        stands.clear()
        shop = read_shop(
            shop_folder, [*QUICK, "fit.epochs=1", f"fit.checkpoint_minutes={minutely}"]
        )
        fit(shop, tmp_path / name, observe=observe, like=tmp_path / "run")
        assert stands == [None]


# ---- which epoch is kept ----------------------------------------------------------------


def scripted(scores: Iterable[float]) -> tuple[Callable[..., dict[str, TaskLoss]], list[Weights]]:
    """A validation that gives these scores in turn, and the weights that it was shown."""
    shown: list[Weights] = []
    coming = iter(scores)

    def validation(model: JointModel, *_: Any, **__: Any) -> dict[str, TaskLoss]:
        model.eval()
        shown.append({name: weight.clone() for name, weight in model.state_dict().items()})
        score = next(coming, 1.0)
        return {task.name: TaskLoss(score, 1.0, 1) for task in model.tasks}

    return validation, shown


@pytest.mark.parametrize(
    ("scores", "best", "n_epochs"),
    [
        ([0.9, 0.5, 0.8, 0.7, 0.1], 1, 4),  # two epochs without a better one end it
        ([0.9, 0.5, 0.4], 2, 3),
        ([0.5, 0.5, 0.5], 0, 3),  # as good is not better
        ([float("nan")] * 3, 2, 3),  # nothing to judge by: the last
    ],
)
def test_the_saved_weights_are_those_of_the_best_epoch(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scores: list[float],
    best: int,
    n_epochs: int,
) -> None:
    write_shop(tmp_path / "shop")
    validation, shown = scripted(scores[:n_epochs])
    for module in (course, finish_module):
        monkeypatch.setattr(module, "validation_losses", validation)
    sets = (f"fit.epochs={len(scores)}", "fit.patience=2")
    answer = tiny(tmp_path / "shop", tmp_path / "run", *sets)
    saved = load_file(tmp_path / "run" / "model.safetensors")
    check_same(taught(saved), taught(shown[best]))
    last = shown[n_epochs - 1]
    assert best == n_epochs - 1 or any(
        not torch.equal(saved[name], last[name]) for name in taught(saved)
    ), "or this test would show nothing"
    assert (answer["epochs"], answer["best_epoch"]) == (n_epochs, best + 1)
    check_same(
        taught(shown[n_epochs]), taught(shown[best])
    )  # and they are what the answer is about


def test_a_watched_task_picks_the_epoch_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shop(tmp_path / "shop")
    coming = iter([(0.5, 0.9), (0.9, 0.1), (1.0, 1.0)])

    def validation(model: JointModel, *_: Any, **__: Any) -> dict[str, TaskLoss]:
        click, rest = next(coming)
        return {
            task.name: TaskLoss(click if task.name == "click" else rest, 1.0, 1)
            for task in model.tasks
        }

    monkeypatch.setattr(course, "validation_losses", validation)
    answer = tiny(tmp_path / "shop", tmp_path / "run", "fit.epochs=2", "fit.watch=click")
    assert answer["best_epoch"] == 1


def test_a_step_after_validation_trains_with_dropout_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shop(tmp_path / "shop")
    seen: list[str] = []

    def validation(model: JointModel, *given: Any, **named: Any) -> Mapping[str, TaskLoss]:
        found = validation_losses(model, *given, **named)
        seen.append("validated in training" if model.training else "validated")
        return found

    def step(model: JointModel, *given: Any, **named: Any) -> Any:
        modes = {module.training for module in model.modules()}
        seen.append("trained" if modes == {True} else "trained without dropout")
        return backward(model, *given, **named)

    for module in (course, finish_module):
        monkeypatch.setattr(module, "validation_losses", validation)
    monkeypatch.setattr(loop, "backward", step)
    tiny(tmp_path / "shop", tmp_path / "run", "fit.epochs=3", "fit.patience=9")
    assert seen == ["trained", "validated"] * 3 + ["validated"]


def test_a_run_is_saved_in_evaluation_mode(run: Path) -> None:
    assert not artifact.load(run).model.training


# ---- what is never looked at ------------------------------------------------------------


def test_labels_of_the_test_splits_change_no_weight(
    shop_folder: Path, run: Path, weights: Weights, tmp_path: Path
) -> None:
    """Clicks of the last exposures, profiles of the test users and spans of the test titles."""
    store = open_store(run / "store")
    first, last = store.ranges["test"]
    start = int(store["exposures/time"][first])
    shop = tmp_path / "shop"
    shutil.copytree(shop_folder, shop)

    events = pq.read_table(shop / "events.parquet")
    shown = pc.equal(events["event"], "impression")
    early = pc.less(events["ts"].cast(pa.timestamp("us")).cast(pa.int64()), start)
    late_clicks = pc.invert(pc.or_(shown, early))
    assert pc.sum(late_clicks).as_py() > 10
    # The same moments and people; what they did is now nothing that the shop counts.
    kinds = pc.if_else(late_clicks, "looked away", events["event"])
    at = events.column_names.index("event")
    pq.write_table(events.set_column(at, "event", kinds), shop / "events.parquet")

    users = pq.read_table(shop / "users.parquet")
    keys = [key for key, row in store.user_rows.items()
            if store["users/split"][row] == SPLITS.index("test")]  # fmt: skip
    tested = pc.is_in(users["user_id"].cast(pa.string()), pa.array(keys))
    assert pc.sum(tested).as_py() > 5
    at = users.column_names.index("gender")
    changed = pc.if_else(tested, pa.scalar(None, users["gender"].type), users["gender"])
    pq.write_table(users.set_column(at, "gender", changed), shop / "users.parquet")

    items = pq.read_table(shop / "items.parquet")
    rows = store["titles/item"][store["titles/split"] == SPLITS.index("test")]
    titled = pc.is_in(
        items["item_id"].cast(pa.string()), pa.array([store.item_keys[row] for row in rows])
    )
    assert pc.sum(titled).as_py() > 3
    none = pa.array(
        [[] if test else spans
         for test, spans in zip(titled.to_pylist(), items["spans"].to_pylist(), strict=True)],
        items["spans"].type,
    )  # fmt: skip
    at = items.column_names.index("spans")
    pq.write_table(items.set_column(at, "spans", none), shop / "items.parquet")

    check_same(fitted(shop, tmp_path / "run"), weights)
    other = open_store(tmp_path / "run" / "store")
    assert other["exposures/labels"][first:last].max() == 0
    assert other.ranges == store.ranges


def test_the_truth_is_never_opened(shop_folder: Path, weights: Weights, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(shop_folder, shop)
    for path in (shop / "truth").iterdir():
        path.write_bytes(b"not to be read")
    check_same(fitted(shop, tmp_path / "garbled"), weights)
    shutil.rmtree(shop / "truth")
    fitted(shop, tmp_path / "gone", "fit.epochs=1")


# ---- odd shops --------------------------------------------------------------------------


def test_a_profile_that_no_user_has_is_left_untaught(tmp_path: Path) -> None:
    users = [user | {"gender": None} for user in USERS]
    write_shop(tmp_path / "shop", users=users)
    answer = tiny(tmp_path / "shop", tmp_path / "run", waive("profile_column_one_value"))
    assert answer["validation"]["profile.gender"]["n"] == 0
    assert events_of(tmp_path / "run")[0]["train"]["profile.gender"] == 0.0
    assert answer["validation"]["click"]["n"] == 1


def test_a_stage_that_never_happens_is_left_untaught(tmp_path: Path) -> None:
    events = [row for row in EVENTS if row["event"] != "buy"]
    write_shop(tmp_path / "shop", events=events)
    answer = tiny(tmp_path / "shop", tmp_path / "run", "fit.epochs=3", waive("one_class_label"))
    assert np.isfinite(answer["validation"]["click"]["loss"])
    assert all(
        np.isfinite(list(each["train"].values())).all() for each in events_of(tmp_path / "run")
    )


def test_a_log_of_one_class_trains_on(tmp_path: Path) -> None:
    """Nobody clicks: every label is 0, matching has no positive, histories are empty."""
    events = [row for row in EVENTS if row["event"] in ("shown", "leave")]
    write_shop(tmp_path / "shop", events=events)
    answer = tiny(
        tmp_path / "shop", tmp_path / "run", "fit.epochs=2",
        waive("one_class_label", "all_labels_missing"),
    )  # fmt: skip
    assert np.isfinite(answer["validation"]["click"]["loss"])
    for record in events_of(tmp_path / "run"):
        assert record["train"]["match"] == record["train"]["buy"] == 0.0
        assert np.isfinite(record["train"]["click"])


def test_a_shop_without_gold_spans_trains_its_other_tasks(tmp_path: Path) -> None:
    items = [row | {"spans": []} for row in ITEMS]
    write_shop(tmp_path / "shop", items=items)
    answer = tiny(tmp_path / "shop", tmp_path / "run")
    assert np.isfinite(answer["validation"]["click"]["loss"])


def test_events_record_undefined_numbers_as_null(tmp_path: Path) -> None:
    write_shop(tmp_path / "shop", users=[user | {"gender": None} for user in USERS])
    tiny(tmp_path / "shop", tmp_path / "run", waive("profile_column_one_value"))
    (record,) = events_of(tmp_path / "run")
    assert record["validation"]["profile.gender"] == {"loss": None, "constant": None, "n": 0}


def test_products_known_by_id_alone_can_be_learnt(tmp_path: Path) -> None:
    """A log and nothing else: no items table, no users table, no context."""
    toml = """
[events]
path = "events.parquet"
user = "user_id"
item = "item_id"
time = "ts"
kind = "event"
funnel = ["shown", "click", "buy"]
window_h = { click = 4, buy = 24 }
[split]
validation_from = "2024-01-04T08:00:00"
test_from = "2024-01-07T06:00:00"
"""
    write_shop(tmp_path / "shop", items=(), users=(), toml=toml)
    answer = tiny(tmp_path / "shop", tmp_path / "run")
    assert answer["tasks"] == ["click", "buy", "match"]


def flat(folder: Path, toml: str) -> Path:
    # x says what a is, but for one row in ten.
    rows = [{"x": "ab"[(i + (i % 10 == 0)) % 2], "a": i % 2, "b": i // 2 % 2} for i in range(200)]
    write_shop(folder, items=(), users=(), events=rows, toml=toml)
    return folder


def test_a_wide_table_learns_its_labels(tmp_path: Path) -> None:
    toml = '[events]\npath = "events.parquet"\nlabels = ["a", "b"]\ncontext = ["x"]\n'
    answer = tiny(
        flat(tmp_path / "shop", toml), tmp_path / "run", "fit.epochs=40", "fit.rows_per_step=32"
    )
    assert answer["tasks"] == ["a", "b"]
    found = answer["validation"]["a"]
    assert found["loss"] < 0.9 * found["constant"]


def test_a_table_without_any_input_is_refused(tmp_path: Path) -> None:
    toml = '[events]\npath = "events.parquet"\nlabels = ["a", "b"]\n'
    with pytest.raises(ConfigError, match=r"events\.context: names no column.*nothing to predict"):
        tiny(flat(tmp_path / "shop", toml), tmp_path / "run")


def test_a_shop_without_training_exposures_is_refused(tmp_path: Path) -> None:
    """Titles alone would teach extraction, but the other tasks would be left as they began."""
    write_shop(tmp_path / "shop")
    early = "split.validation_from='2023-12-31T00:00:00'"
    with pytest.raises(DataError, match=r"train has no exposure"):
        tiny(tmp_path / "shop", tmp_path / "run", early)


def test_titles_without_gold_to_train_on_are_refused(tmp_path: Path) -> None:
    toml = TOML.split("[users]")[0]
    write_shop(
        tmp_path / "shop", users=(), events=(), toml=toml,
        items=[row | {"part": "test"} for row in ITEMS],
    )  # fmt: skip
    with pytest.raises(DataError, match=r"no annotated training title is left"):
        tiny(tmp_path / "shop", tmp_path / "run")


# ---- settings and folders ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("fit.epochs=0", r"fit\.epochs: 0; give 1 or more"),
        ("fit.epochs=2.5", r"fit\.epochs: a whole number is wanted, found 2\.5"),
        ("fit.epohcs=2", r"fit\.epohcs: no 'epohcs' here \(did you mean 'epochs'\?\)"),
        ("fit.rows_per_step=-1", r"fit\.rows_per_step: -1; give 1 or more"),
        ("fit.gram_every=0", r"fit\.gram_every: 0; give 1 or more"),
        ("fit.extra_items=-1", r"fit\.extra_items: -1; give 0 or more"),
        ("fit.title_passes=-0.5", r"fit\.title_passes: -0\.5; give 0 or more"),
        ("fit.learning_rate=-1.0", r"fit\.learning_rate: -1\.0; give 0 or more"),
        ("fit.learning_rate=nan", r"fit\.learning_rate: nan; give 0 or more"),
        ("fit.row_l2=-1.0", r"fit\.row_l2: -1\.0; give 0 or more"),
        ("fit.threads=-1", r"fit\.threads: -1; give 0 or more"),
        ("fit.balancer=fixd", r"fit\.balancer: no 'fixd' here \(did you mean 'fixed'\?\)"),
        ("fit.balancer_options={alpha = 1}",
         r"fit\.balancer_options\.alpha: no 'alpha' here; known: none"),
        ("fit.watch=clik", r"fit\.watch: no 'clik' here \(did you mean 'click'\?\)"),
        ("model.mixer=mmeo", r"model\.mixer: no 'mmeo' here \(did you mean 'mmoe'\?\)"),
        ("model.size=huge", r"model\.size: no 'huge' here.*known: large, medium, small"),
        ("model.expert_widths=[8, 0]", r"model\.expert_widths: \(8, 0\); give 1 or more each"),
        ("model.dropout=1.0", r"model\.dropout: 1\.0; give a share from 0 up to 1"),
        ("model.id_dropout=-0.1", r"model\.id_dropout: -0\.1; give a share from 0 up to 1"),
        ("model.mixer_options={n_own = 2, n_shard = 1}",
         r"model\.mixer_options\.n_shard: no 'n_shard' here \(did you mean 'n_shared'\?\)"),
        ("model.mixer_options={width = 2}", r"model\.mixer_options\.width: no 'width' here"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(shop_folder: Path, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(read_shop(shop_folder, [setting]))


def test_options_reach_the_balancer(shop_folder: Path) -> None:
    def made(*options: str) -> Balancer:
        sets = ["fit.balancer=gradnorm", *options]
        return balancer_of(settings_of(read_shop(shop_folder, sets))[0], 2)

    given, default = made("fit.balancer_options={alpha = 0.5}"), made()
    assert isinstance(given, GradNorm)
    assert isinstance(default, GradNorm)
    assert (given.alpha, default.alpha) == (0.5, 1.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{alpa = 1}", r"alpa: no 'alpa' here \(did you mean 'alpha'\?\)"),
        ("{n_tasks = 1}", r"n_tasks: no 'n_tasks' here"),
        ("{alpha = 'a'}", r"alpha: a number is wanted, found 'a'"),
        ("{alpha = -1}", r"alpha: -1\.0; give 0 or more"),
    ],
)
def test_a_wrong_option_of_a_balancer_is_named(
    shop_folder: Path, options: str, message: str
) -> None:
    sets = ["fit.balancer=gradnorm", f"fit.balancer_options={options}"]
    with pytest.raises(ConfigError, match=rf"fit\.balancer_options\.{message}"):
        settings_of(read_shop(shop_folder, sets))


def test_every_wrong_setting_is_named_at_once(shop_folder: Path) -> None:
    wrong = ["fit.epochs=0", "fit.watch=x", "model.mixer=x", "fit.balancer=x", "model.size=x"]
    with pytest.raises(ConfigError) as caught:
        settings_of(read_shop(shop_folder, wrong))
    message = str(caught.value)
    assert len(message.splitlines()) == len(wrong)
    assert all(name.partition("=")[0] in message for name in wrong)


def test_settings_that_are_not_given_are_the_defaults(shop_folder: Path) -> None:
    settings, shape = settings_of(read_shop(shop_folder, ["fit.epochs=3", "model.mixer=mmoe"]))
    assert settings == Settings(epochs=3)
    assert shape.mixer == "mmoe"


def test_a_shop_without_a_task_is_refused_with_the_reasons(tmp_path: Path) -> None:
    toml = '[items]\npath = "items.parquet"\nkey = "item_id"\n'
    write_shop(tmp_path / "shop", users=(), events=(), toml=toml)
    with pytest.raises(ConfigError, match=r"no task to learn \(funnel: there is no \[events\]"):
        tiny(tmp_path / "shop", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_overwritten(shop_folder: Path, run: Path) -> None:
    before = (run / "manifest.json").read_bytes()
    with pytest.raises(ArtifactError, match="holds a finished run; give another folder"):
        fitted(shop_folder, run)
    with pytest.raises(ArtifactError, match="was fitted with other settings"):
        fitted(shop_folder, run, "fit.epochs=3", resume=True)
    assert (run / "manifest.json").read_bytes() == before


def test_killed_when_all_was_written_a_run_is_told_of_once_more(
    shop_folder: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    class Told(Untracked):
        def end(self, answer: Any) -> None:
            told.append(answer)

    monkeypatch.setattr("daogou.learn.fit.tracker_of", lambda _, followed: Told(followed))
    folder = shutil.copytree(run, tmp_path / "run")
    for left in ("checkpoint", "chosen"):
        (folder / left).mkdir()
    (folder / "lock").touch()
    answer = fit(read_shop(shop_folder, QUICK), folder, resume=True)
    assert answer == artifact.read_manifest(run)["fit"]
    assert told == [answer]
    assert sorted(os.listdir(folder)) == sorted(os.listdir(run))


def test_a_folder_with_other_things_is_not_taken(shop_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="not empty and not a run; give a new folder"):
        fitted(shop_folder, tmp_path)
    with pytest.raises(ArtifactError, match="is a file; give a new folder"):
        fitted(shop_folder, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A shop, and a run of it that was stopped in its first epoch."""
    write_shop(tmp_path / "shop")

    def stop(what: str, done: int, total: int, words: str) -> None:
        if what == "steps":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(read_shop(tmp_path / "shop", TINY), tmp_path / "run", progress=stop)
    return tmp_path


def test_how_much_memory_tables_may_take_is_no_other_setting(stopped: Path) -> None:
    """Who had too little of it goes on with another limit."""
    asked = read_shop(stopped / "shop", [*TINY, "fit.memory_limit=1GB"])
    assert fit(asked, stopped / "run", resume=True)["epochs"] == 1
    assert fit(read_shop(stopped / "shop", TINY), stopped / "run", resume=True)["epochs"] == 1


def test_an_unfinished_run_is_resumed_only_if_asked(stopped: Path) -> None:
    with pytest.raises(ArtifactError, match="holds an unfinished run; add --resume"):
        tiny(stopped / "shop", stopped / "run")
    assert fit(read_shop(stopped / "shop", TINY), stopped / "run", resume=True)["epochs"] == 1


def test_beside_a_living_process_a_run_is_not_resumed(stopped: Path) -> None:
    shop = read_shop(stopped / "shop", TINY)
    with (
        alone(stopped / "run"),
        pytest.raises(ArtifactError, match=rf"another process works here \(process {os.getpid()} "),
    ):
        fit(shop, stopped / "run", resume=True)
    assert fit(shop, stopped / "run", resume=True)["epochs"] == 1
    assert not [*(stopped / "run").glob("lock*")]


def test_while_a_fit_runs_its_folder_is_nobody_else_s(tmp_path: Path) -> None:
    write_shop(tmp_path / "shop")
    shop, told = read_shop(tmp_path / "shop", TINY), []

    def intrude(what: str, done: int, total: int, words: str) -> None:
        for resume in (False, True):
            with pytest.raises(ArtifactError, match=r"an unfinished run|another process"):
                fit(shop, tmp_path / "run", resume=resume)
        told.append(what)

    assert fit(shop, tmp_path / "run", progress=intrude)["epochs"] == 1
    assert {"prepare", "steps", "epoch"} <= set(told)


def test_resuming_with_other_settings_is_refused(stopped: Path) -> None:
    other = read_shop(stopped / "shop", [*TINY, "fit.learning_rate=0.5"])
    with pytest.raises(ArtifactError, match="was started with other settings or another shop"):
        fit(other, stopped / "run", resume=True)


def test_a_loss_that_is_not_a_number_stops_training_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shop(tmp_path / "shop")

    def broken(*given: Any, **named: Any) -> Any:
        stepped = backward(*given, **named)
        stepped.losses[0] = float("nan")
        return stepped

    monkeypatch.setattr(loop, "backward", broken)
    with pytest.raises(
        DataError, match=r"epoch 1, step 1: the loss of click became nan .*no number of its batch "
        r"stands out; the batch is in .*culprit: .*lower fit\.learning_rate",
    ):  # fmt: skip
        tiny(tmp_path / "shop", tmp_path / "run")


# ---- what is told -----------------------------------------------------------------------


def test_the_answer_and_the_log_tell_of_every_task(run: Path) -> None:
    tasks = ["click", "cart", "purchase", "match", "profile.gender", "profile.age_band",
             "profile.tier", "extract"]  # fmt: skip
    answer = artifact.load(run).manifest["fit"]
    assert answer["tasks"] == list(answer["validation"]) == tasks
    assert answer["epochs"] == 2
    records = events_of(run)
    assert [record["epoch"] for record in records] == [1, 2]
    for record in records:
        assert list(record["train"]) == list(record["validation"]) == tasks
    assert sorted(path.name for path in run.iterdir()) == [
        "events.jsonl", "manifest.json", "model.safetensors", "prepared.json", "started.json",
        "store", "transform.json",
    ]  # fmt: skip


def test_training_lowers_the_losses(shop_folder: Path, tmp_path: Path) -> None:
    started = time.perf_counter()
    fitted(shop_folder, tmp_path / "run", "fit.epochs=4", "fit.patience=4")
    first, *_, last = events_of(tmp_path / "run")
    for name in ("click", "match", "extract"):
        assert last["train"][name] < first["train"][name], name
    assert last["seconds"] < time.perf_counter() - started


@pytest.mark.parametrize("setting", ["fit.l2=0.1", "fit.l1=0.01"])
def test_omega_pulls_dense_weights_towards_zero(
    shop_folder: Path, weights: Weights, tmp_path: Path, setting: str
) -> None:
    pulled = fitted(shop_folder, tmp_path / "run", setting)
    name = "heads.match.user.weight"
    assert pulled[name].abs().sum() < weights[name].abs().sum()


def test_no_title_needs_to_be_seen(tmp_path: Path) -> None:
    write_shop(tmp_path / "shop")
    tiny(tmp_path / "shop", tmp_path / "run", "fit.title_passes=0")
    assert events_of(tmp_path / "run")[0]["train"]["extract"] == 0.0


def test_a_later_gram_is_kept_between_takings(
    shop_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    class Watching(Fixed):
        hears = True
        needs_gram = True

        def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
            assert gram is not None
            seen.append(gram)
            return torch.ones_like(losses)

    monkeypatch.setitem(BALANCERS, "fixed", Watching)
    fitted(shop_folder, tmp_path / "run", "fit.epochs=1", "fit.gram_every=3")
    assert len(seen) == 5, "1,346 exposures, four fifths of them to train on, 256 a step"
    assert seen[0] is seen[1] is seen[2]
    assert seen[3] is not seen[2]
    assert seen[4] is seen[3]


def test_a_balancer_looks_back_at_the_same_loss_where_nothing_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rates of 0, and with what was dropped in the step dropped again."""
    before: list[Tensor] = []
    after: list[Tensor] = []

    class LooksBack(Fixed):
        hears = True
        looks_back = True

        def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
            before.append(losses)
            return super().__call__(losses, gram)

        def after(self, losses: Tensor) -> None:
            after.append(losses)

    monkeypatch.setitem(BALANCERS, "fixed", LooksBack)
    write_shop(tmp_path / "shop")
    still = ("fit.learning_rate=0", "fit.row_learning_rate=0", "fit.weight_decay=0")
    tiny(tmp_path / "shop", tmp_path / "run", "fit.rows_per_step=2", "model.dropout=0.5", *still)
    assert len(before) == len(after) > 1
    for then, now in zip(before, after, strict=True):
        torch.testing.assert_close(now, then, rtol=1e-6, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_a_gpu_learns_what_the_processor_learns(shop_folder: Path, tmp_path: Path) -> None:
    """Random numbers differ between the two, so losses are close and not equal."""
    found = [
        tiny(shop_folder, tmp_path / device, "fit.epochs=2", f"fit.device={device}")
        for device in ("cpu", "cuda")
    ]
    for name, loss in found[0]["validation"].items():
        assert found[1]["validation"][name]["loss"] == pytest.approx(loss["loss"], rel=0.2), name


def test_a_fit_in_bfloat16_is_judged_like_any(shop_folder: Path, tmp_path: Path) -> None:
    found = tiny(shop_folder, tmp_path / "run", "fit.epochs=2", "model.precision=bfloat16")
    assert all(np.isfinite(loss["loss"]) for loss in found["validation"].values())
    with pytest.raises(ConfigError, match=r"model\.precision: .*float16.*bfloat16"):
        tiny(shop_folder, tmp_path / "other", "model.precision=float16")


def test_a_balancer_that_is_not_installed_is_said_before_anything_is_read(
    shop_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    with pytest.raises(ConfigError, match=r"fit\.balancer: \w+ needs TorchJD"):
        tiny(shop_folder, tmp_path / "run", "fit.balancer=upgrad")
    assert not (tmp_path / "run").exists()
