"""Trackers hear of every epoch, say what is missing before a table is read, and stop nothing."""

import importlib.util
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from daogou.artifact import read_records
from daogou.config import read_shop
from daogou.errors import ConfigError, MissingExtra
from daogou.learn import track
from daogou.learn.fit import fit
from daogou.learn.settings import settings_of
from daogou.learn.track import TRACKS, Followed, check_track, numbers_of, tracker_of
from tests.learn.conftest import QUICK

RECORD: dict[str, Any] = {
    "epoch": 1,
    "train": {"click": 0.5, "profile.<性别>": None},
    "validation": {"click": {"loss": 0.625, "constant": 0.75, "n": 8}},
}
ANSWER: dict[str, Any] = {
    "epochs": 1, "best_epoch": 1, "parameters": 12,
    "validation": {"click": {"loss": 0.5, "constant": 0.75, "n": 8}},
}  # fmt: skip


def followed(run: Path, to: str = "") -> Followed:
    return Followed(run, "shop", to, {"epochs": 1, "balancer": "fixed"})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A folder as an address of MLflow's: it makes its database slowly and a folder at once."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "mlruns").as_uri()


def test_undefined_numbers_are_left_out() -> None:
    assert numbers_of(RECORD) == {
        "epoch": 1.0, "train/click": 0.5, "validation/click/loss": 0.625,
        "validation/click/constant": 0.75, "validation/click/n": 8.0,
    }  # fmt: skip


def test_what_is_missing_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"tensorboardX.*pip install 'daogou\[tensorboard\]'"):
        check_track("tensorboard")
    with pytest.raises(MissingExtra, match=r"mlflow.*pip install 'daogou\[mlflow\]'"):
        check_track("mlflow")
    check_track("none")


def test_it_is_said_before_a_table_is_read(
    monkeypatch: pytest.MonkeyPatch, shop_folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    shop = read_shop(shop_folder, [*QUICK, 'fit.track="mlflow"'])
    with pytest.raises(MissingExtra):
        fit(shop, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_way_is_told_the_nearest(shop_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"fit\.track: no 'mlfow' here .did you mean 'mlflow'"):
        settings_of(read_shop(shop_folder, ['fit.track="mlfow"']))


def test_none_writes_nothing(run: Path) -> None:
    tracker = tracker_of("none", followed(run))
    tracker.epoch(RECORD)
    tracker.end(ANSWER)
    assert list(run.iterdir()) == []


# ---- TensorBoard --------------------------------------------------------------------------


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """What lies in the event files: length, checks and a message, one after the other."""
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    found[value.tag, event.step] = value.simple_value
    return found


def test_tensorboard_has_each_number_at_its_epoch(run: Path, no_network: None) -> None:
    pytest.importorskip("tensorboardX")
    tracker = tracker_of("tensorboard", followed(run))
    tracker.epoch(RECORD)
    tracker.epoch({**RECORD, "epoch": 2, "train": {"click": 0.25}})
    tracker.end({**ANSWER, "epochs": 2})
    found = scalars(run / "tensorboard")
    assert found["train/click", 1] == 0.5 and found["train/click", 2] == 0.25
    assert found["kept/validation/click/loss", 2] == 0.5
    assert not [tag for tag, _ in found if "性别" in tag]


def test_tensorboard_elsewhere_is_a_folder_of_the_run_s_name(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    tracker_of("tensorboard", followed(run, str(tmp_path / "board"))).epoch(RECORD)
    assert scalars(tmp_path / "board" / "run")["train/click", 1] == 0.5
    assert list(run.iterdir()) == []


def test_a_folder_that_cannot_be_is_refused_at_once(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    (tmp_path / "board").write_text("a file")
    with pytest.raises(ConfigError, match=r"fit\.track_to: cannot write to"):
        tracker_of("tensorboard", followed(run, str(tmp_path / "board")))


def test_a_disk_that_fails_later_is_a_warning(run: Path) -> None:
    pytest.importorskip("tensorboardX")
    tracker = tracker_of("tensorboard", followed(run))
    (run / "tensorboard").rmdir()
    (run / "tensorboard").write_text("a file")
    with pytest.warns(RuntimeWarning, match=r"TensorBoard did not take an epoch"):
        tracker.epoch(RECORD)


# ---- MLflow -------------------------------------------------------------------------------


def test_mlflow_has_each_number_at_its_epoch_and_a_fit_that_goes_on_the_same_run(
    run: Path, files: str, no_network: None
) -> None:
    pytest.importorskip("mlflow")
    tracker_of("mlflow", followed(run, files)).epoch(RECORD)
    again: Any = tracker_of("mlflow", followed(run, files))
    again.epoch({**RECORD, "epoch": 2, "train": {"click": 0.25}})
    again.end({**ANSWER, "epochs": 2})
    assert again.id == json.loads((run / "mlflow.json").read_text())["run_id"]
    history = again.client.get_metric_history(again.id, "train/click")
    assert [(each.step, each.value) for each in history] == [(1, 0.5), (2, 0.25)]
    kept = again.client.get_run(again.id)
    assert kept.info.status == "FINISHED" and kept.data.params["balancer"] == "fixed"
    assert kept.data.metrics["kept/validation/click/loss"] == 0.5


def test_names_that_mlflow_refuses_are_mended(run: Path, files: str) -> None:
    pytest.importorskip("mlflow")
    tracker: Any = tracker_of("mlflow", followed(run, files))
    tracker.epoch({"epoch": 1, "train": {"profile.<性别>|x": 1.5}})
    assert tracker.client.get_run(tracker.id).data.metrics["train/profile._性别__x"] == 1.5


def test_an_address_that_cannot_be_is_refused_at_once(run: Path) -> None:
    pytest.importorskip("mlflow")
    with pytest.raises(ConfigError, match=r"fit\.track_to: MLflow cannot write to nowhere:"):
        tracker_of("mlflow", followed(run, "nowhere://x"))


@pytest.mark.slow
def test_mlflow_s_own_database_lies_in_the_run(run: Path, no_network: None) -> None:
    pytest.importorskip("mlflow")
    tracker: Any = tracker_of("mlflow", followed(run))
    tracker.epoch(RECORD)
    assert (run / "mlflow.db").exists()
    assert tracker.client.get_run(tracker.id).data.metrics["train/click"] == 0.5


# ---- a fit --------------------------------------------------------------------------------


def test_a_fit_tells_its_tracker_what_it_tells_its_own_file(
    shop_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboardX")
    shop = read_shop(shop_folder, [*QUICK, 'fit.track="tensorboard"'])
    answer = fit(shop, tmp_path / "run")
    found = scalars(tmp_path / "run" / "tensorboard")
    for record in read_records(tmp_path / "run" / "events.jsonl"):
        for name, value in numbers_of(record).items():
            assert found[name, record["epoch"]] == pytest.approx(value, rel=1e-6)
    assert found["kept/epoch", answer["epochs"]] == answer["best_epoch"]


def test_every_way_has_a_maker() -> None:
    assert tuple(track._TRACKERS) == TRACKS
