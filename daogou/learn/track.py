"""What each epoch said, sent on to TensorBoard or MLflow; the run's own events.jsonl stays."""

import importlib.util
import json
import logging
import math
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from daogou.errors import ConfigError, MissingExtra

# What each needs: the first is its extra's name too. SQLAlchemy is how MLflow writes a local file.
_MODULES: Final[Mapping[str, Sequence[str]]] = {
    "none": (),
    "tensorboard": ("tensorboardX",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
}
TRACKS: Final = tuple(_MODULES)
_MOST_LETTERS: Final = 500  # of a parameter, which MLflow refuses beyond


@dataclass(frozen=True)
class Followed:
    """The run that is followed: its folder, its shop, where to ("" = into it), its settings."""

    run: Path
    shop: str
    to: str
    settings: Mapping[str, Any]


class Tracker(Protocol):
    """Hears of each epoch's record of events.jsonl, and of what `fit` answers."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        """An epoch is done; of one that is told twice the later counts."""

    def end(self, answer: Mapping[str, Any]) -> None:
        """Training is done."""


def check_track(track: str) -> None:
    """Raises MissingExtra, with what to install, if a library of this way is not there.

    The libraries are found and not imported.
    """
    missing = [name for name in _MODULES[track] if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"fit.track: {track} needs {', '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not installed; pip install 'daogou[{track}]', "
            'or set fit.track = "none": events.jsonl is always written'
        )


def tracker_of(track: str, followed: Followed) -> Tracker:
    """Who hears of this run's epochs, in touch with where it writes.

    Raises MissingExtra, or ConfigError if it cannot write there. What fails later is a warning:
    hours of training are worth more than a curve of them, which events.jsonl holds too.
    """
    check_track(track)
    return _TRACKERS[track](followed)


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a record by the path to them, parted by slashes.

    >>> numbers_of({"epoch": 2, "train": {"click": 0.5, "buy": None}, "gates": {"0": [0.1, 0.9]}})
    {'epoch': 2.0, 'train/click': 0.5, 'gates/0/0': 0.1, 'gates/0/1': 0.9}
    """
    return {path: value for path, value in _walked("", record) if math.isfinite(value)}


def _walked(path: str, value: Any) -> Iterator[tuple[str, float]]:
    inside: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, Mapping):
        inside = iter(value.items())
    elif isinstance(value, list | tuple):
        inside = iter(enumerate(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)
    for name, each in inside:
        yield from _walked(f"{path}/{name}" if path else str(name), each)


class Untracked:
    """Nobody hears."""

    def __init__(self, followed: Followed) -> None:
        pass

    def epoch(self, record: Mapping[str, Any]) -> None:
        pass

    def end(self, answer: Mapping[str, Any]) -> None:
        pass


class TensorBoard:
    """Event files of a run, one an epoch, so that a kill leaves whole ones.

    They lie in ``RUN/tensorboard``, or in a folder of the run's name under ``to``, which
    `tensorboard --logdir` shows beside others.
    """

    def __init__(self, followed: Followed) -> None:
        self.folder = _folder_of(followed)
        self.settings = followed.settings
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"fit.track_to: cannot write to {self.folder} ({error.strerror or error})"
            ) from None

    def epoch(self, record: Mapping[str, Any]) -> None:
        step = int(record["epoch"])
        with _forgiven("TensorBoard"), self._writer(step) as writer:
            for name, value in numbers_of(record).items():
                writer.add_scalar(name, value, step)

    def end(self, answer: Mapping[str, Any]) -> None:
        step = int(answer["epochs"])
        with _forgiven("TensorBoard"), self._writer(step + 1) as writer:
            for name, value in numbers_of(_kept(answer)).items():
                writer.add_scalar(name, value, step)
            text = json.dumps(self.settings, ensure_ascii=False, indent=1, default=str)
            writer.add_text("settings", f"```\n{text}\n```", step)

    @contextmanager
    def _writer(self, step: int) -> Iterator[Any]:
        from tensorboardX import SummaryWriter

        # TensorBoard reads the files of a folder by name; within a second only the suffix differs.
        writer = SummaryWriter(str(self.folder), filename_suffix=f".{step:06d}")
        try:
            yield writer
        finally:
            writer.close()


class MLflow:
    """A run of the shop's experiment, in ``RUN/mlflow.db`` or wherever the address ``to`` says.

    `mlflow ui --backend-store-uri` shows it. A fit that goes on goes on in the same run.
    """

    def __init__(self, followed: Followed) -> None:
        # Nothing is told to anybody: MLflow would count its users.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        to = followed.to or f"sqlite:///{followed.run.resolve() / 'mlflow.db'}"
        note = followed.run / "mlflow.json"
        try:
            with _quiet():
                from mlflow import MlflowClient

                logging.getLogger("mlflow").setLevel(logging.WARNING)
                self.client = MlflowClient(tracking_uri=to)
                self.id = _begun(self.client, followed, note)
        except Exception as error:  # MLflow's own, its database's or its server's
            raise ConfigError(
                f"fit.track_to: MLflow cannot write to {to} ({_in_short(error)})"
            ) from None

    def epoch(self, record: Mapping[str, Any]) -> None:
        self._log(record, int(record["epoch"]))

    def end(self, answer: Mapping[str, Any]) -> None:
        self._log(_kept(answer), int(answer["epochs"]))
        with _forgiven("MLflow"), _quiet():
            self.client.set_terminated(self.id)

    def _log(self, record: Mapping[str, Any], step: int) -> None:
        with _forgiven("MLflow"), _quiet():
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            metrics = [
                Metric(_name(name), value, now, step) for name, value in numbers_of(record).items()
            ]
            for start in range(0, len(metrics), 1000):  # a batch of it holds no more
                self.client.log_batch(self.id, metrics=metrics[start : start + 1000])


def _begun(client: Any, followed: Followed, note: Path) -> str:
    """The id of the run: the one that the run's folder remembers, or a new one."""
    if note.exists():
        return str(json.loads(note.read_text("utf-8"))["run_id"])
    experiment = client.get_experiment_by_name(followed.shop)
    number = experiment.experiment_id if experiment else client.create_experiment(followed.shop)
    begun = client.create_run(number, run_name=followed.run.name)
    for name, value in followed.settings.items():
        client.log_param(begun.info.run_id, _name(name), str(value)[:_MOST_LETTERS])
    note.write_text(json.dumps({"run_id": begun.info.run_id}), encoding="utf-8")
    return str(begun.info.run_id)


def _kept(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What of `fit`'s answer belongs beside the curves: of the epoch that was kept."""
    return {
        "kept": {
            "epoch": answer["best_epoch"],
            "validation": answer["validation"],
            "parameters": answer["parameters"],
        }
    }


def _folder_of(followed: Followed) -> Path:
    return Path(followed.to) / followed.run.name if followed.to else followed.run / "tensorboard"


def _name(name: str) -> str:
    """A name of letters that MLflow allows."""
    return re.sub(r"[^\w.\-/ :]", "_", name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of other people's code about other people's code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _forgiven(whom: str) -> Iterator[None]:
    """Training goes on when a tracker's disk or server does not."""
    try:
        yield
    except Exception as error:
        warnings.warn(
            f"{whom} did not take an epoch ({_in_short(error)}); events.jsonl has it",
            RuntimeWarning,
            stacklevel=3,
        )


def _in_short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


_TRACKERS: Final[Mapping[str, Callable[[Followed], Tracker]]] = {
    "none": Untracked,
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
}
