"""Ray with two processes on this machine: the same runs, answers and searches as one process."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from daogou.artifact import read_document
from daogou.config import read_shop
from daogou.errors import ArtifactError, ConfigError, DataError
from daogou.guide import Guide
from daogou.learn.compile import compile_by, compile_tables
from daogou.learn.fit import fit
from daogou.learn.loop import quiet
from daogou.learn.settings import settings_of
from daogou.learn.variant import varied
from daogou.scale.cluster import cluster
from daogou.scale.score import Recommending, answers_by
from daogou.scale.search import tune_by
from daogou.scale.share import shared
from daogou.scale.tables import Sharing
from daogou.scale.train import fit_by
from daogou.schema import Shop
from daogou.tables.simulate import simulate
from tests.scale.test_tables import differing

pytest.importorskip("ray", reason="pip install 'daogou[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own

QUICK = ("fit.epochs=4", "fit.patience=4", "fit.rows_per_step=256", "fit.history_length=10")


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[Any]:
    """One cluster for all tests, since each takes seconds to start."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with cluster("local", 2) as module:
        yield module


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("scale") / "shop"
    simulate(folder, "easy", seed=3, users=200, items=150, exposures=4_000)
    return read_shop(folder, QUICK)


@pytest.fixture(scope="module")
def one(shop: Shop) -> Path:
    """The run of one process."""
    run = shop.root.parent / "one"
    fit(shop, run)
    return run


@pytest.fixture(scope="module")
def two(shop: Shop) -> Path:
    """The run of two."""
    run = shop.root.parent / "two"
    fit_by(shop, run, workers=2)
    return run


def weights(run: Path) -> dict[str, Any]:
    return load_file(run / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    mine, others = weights(one), weights(other)
    return set(mine) == set(others) and all(mine[name].equal(others[name]) for name in mine)


def losses(run: Path) -> dict[str, float]:
    told = read_document(run / "manifest.json")["fit"]["validation"]
    return {name: each["loss"] / each["constant"] for name, each in told.items() if each["n"] > 50}


def test_two_workers_compile_the_tables_of_one_process(shop: Shop, one: Path, two: Path) -> None:
    assert (two / "store" / "store.json").exists() and not (two / "parts").exists()
    left = [name for name in differing(one, two) if name.startswith(("store/", "transform"))]
    assert not left


def test_one_worker_trains_what_one_process_trains(shop: Shop, one: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    answer = fit_by(shop, tmp_path / "run", workers=1, progress=lambda what, *_: heard.append(what))
    assert same(one, tmp_path / "run")
    assert answer["validation"] == read_document(one / "manifest.json")["fit"]["validation"]
    assert {"prepare", "epoch"} <= set(heard)


def test_two_workers_leave_a_run_as_one_process_does(one: Path, two: Path) -> None:
    files = [sorted(each.name for each in run.iterdir()) for run in (one, two)]
    assert files[0] == files[1]
    assert not same(one, two)  # what is dropped is drawn by each for itself
    for name, loss in losses(one).items():
        assert losses(two)[name] == pytest.approx(loss, abs=0.1), name


@pytest.mark.parametrize("minutes", [10.0, 1e-9])
def test_a_worker_that_is_killed_changes_nothing(
    minutes: float, shop: Shop, two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    killed: list[int] = []

    def kill() -> None:
        """The first worker that is seen in the midst of the second epoch, or of a later one."""
        journal, last = run / "events.jsonl", run / "checkpoint" / "last.safetensors"
        while not (journal.exists() and journal.stat().st_size):
            time.sleep(0.01)
        while minutes < 1 and b"midway.step" not in last.read_bytes():
            time.sleep(0.001)
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            if b"RayTrainWorker" in process.read_bytes() and not killed:
                killed.append(int(process.parent.name))
                os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    fit_by(varied(shop, training={"checkpoint_minutes": minutes}), run, workers=2)
    assert killed
    assert not capsys.readouterr().out  # which is the answer's alone
    assert same(two, run)
    epochs = [json.loads(line)["epoch"] for line in (run / "events.jsonl").open()]
    assert epochs == [1, 2, 3, 4]


def test_who_dies_while_all_are_begun_is_begun_again_but_not_for_ever(
    ray: Any, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray takes it for an error of its own, of which it tries none again."""
    from ray.train import ControllerError

    begun = 0

    class Trainer:
        def fit(self) -> None:
            nonlocal begun
            begun += 1
            raise ControllerError(ray.exceptions.RayActorError())

    monkeypatch.setattr("daogou.scale.train._trainer", lambda *_: Trainer())
    with pytest.raises(DataError, match="processes died again and again"):
        fit_by(shop, tmp_path / "run", workers=2, failures=2)
    assert begun == 3


def test_a_process_that_dies_in_the_tables_does_its_part_anew(shop: Shop, tmp_path: Path) -> None:
    compile_tables(shop, tmp_path / "one")
    folder = tmp_path / "two"
    folder.mkdir()
    killed: list[int] = []

    def kill() -> None:
        """A process, in the midst of a part."""
        while not list(folder.glob("parts/part-*.partial")):
            time.sleep(0.001)
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            if b"ray::MapWorker" in process.read_bytes() and not killed:
                killed.append(int(process.parent.name))
                os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    sharing = Sharing(folder / "parts", settings_of(shop)[0], workers=2)
    compile_by(sharing, shop, folder, validation_teaches=False, progress=quiet)
    assert killed
    assert not differing(tmp_path / "one", folder)


def _dies(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_that_die_at_whatever_they_do_are_told_of() -> None:
    with pytest.raises(DataError, match="processes died again and again"):
        list(shared(lambda: _dies, [1, 2], workers=2))


def test_what_is_wrong_is_said_before_anything_starts(shop: Shop, two: Path) -> None:
    with pytest.raises(ArtifactError, match="holds a finished run"):
        fit_by(shop, two, workers=2)
    with pytest.raises(ConfigError, match="--workers: 0; give 1 or more"):
        fit_by(shop, two, workers=0)
    with pytest.raises(ConfigError, match=r"--address: no 'atuo' here \(did you mean 'auto'\?\)"):
        fit_by(shop, two, workers=2, address="atuo")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_is_told_to_stop_leaves_no_process(
    shop: Shop, two: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """The signal goes to the whole group, as a terminal's does."""
    words = ["fit", str(shop.root), "--out", str(tmp_path / "run"), "--workers", "2"]
    words += [word for each in QUICK for word in ("--set", each)]
    mark = f"{tmp_path}"
    with subprocess.Popen(
        [sys.executable, "-m", "daogou", *words], stdout=subprocess.DEVNULL, text=True,
        stderr=subprocess.PIPE, env={**os.environ, "DAOGOU_TEST": mark}, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch 1/"):
                os.killpg(process.pid, number)
        assert process.wait() == code
    assert line.startswith("stopped; ") and line.endswith(" --resume\n")
    deadline = time.monotonic() + 20
    while left := marked(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
    fit_by(shop, tmp_path / "run", workers=2, resume=True)
    assert same(two, tmp_path / "run")


def marked(mark: str) -> list[str]:
    """The commands of the processes that have the environment of one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"DAOGOU_TEST={mark}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it has ended
    return found


def test_a_shop_that_is_named_from_here_is_found_by_processes_elsewhere(
    shop: Shop, one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop.root.parent)
    fit_by(read_shop(Path("shop"), QUICK), tmp_path / "run", workers=1, failures=0)
    assert same(one, tmp_path / "run")


def test_answers_say_what_one_process_would_of_a_wrong_run_or_wish(
    one: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="no such run"):
        list(answers_by(tmp_path / "run", [["1"]], Recommending({}), workers=2))
    with pytest.raises(ConfigError) as wanted:
        Guide.load(one).recommend_many(["1"], k=0)
    with pytest.raises(ConfigError, match=str(wanted.value)):
        list(answers_by(one, [["1"]], Recommending({"k": 0}), workers=2))


def test_a_worker_says_what_one_process_would(shop: Shop, tmp_path: Path) -> None:
    wild = read_shop(shop.root, [*QUICK, "fit.learning_rate=1e30", "fit.clip=1e30"])
    with pytest.raises(DataError, match=r"the loss of .* became .*lower fit.learning_rate"):
        fit_by(wild, tmp_path / "run", workers=2, failures=0)


def test_answers_by_several_are_those_of_one_in_order(shop: Shop, one: Path) -> None:
    users = [str(user) for user in range(1, 41)] + ["nobody"]
    blocks = [users[start : start + 6] for start in range(0, len(users), 6)]
    found = [
        answer
        for block in answers_by(one, blocks, Recommending({"k": 3}), workers=2)
        for answer in block
    ]
    wanted = list(Guide.load(one).recommend_many(users, k=3))
    assert [each["user"] for each in found] == users
    for mine, other in zip(found, wanted, strict=True):
        assert [item["item"] for item in mine["items"]] == [item["item"] for item in other["items"]]


def test_a_search_by_two_ends_with_all_its_trials(shop: Shop, tmp_path: Path) -> None:
    quick = read_shop(
        shop.root, [*QUICK, "fit.epochs=1", "tune.space.fit.learning_rate={low=0.001, high=0.01}"]
    )
    document = tune_by(quick, tmp_path / "search", workers=2, sampler="random", trials=4)
    assert [each["state"] for each in document["trials"]] == ["finished"] * 4
    assert (tmp_path / "search" / "best" / "manifest.json").exists()
    assert not (tmp_path / "search" / "progress").exists()


def test_the_command_starts_a_cluster_of_its_own(shop: Shop, one: Path, tmp_path: Path) -> None:
    users = tmp_path / "users.txt"
    users.write_text("1\n\n2\n")
    found = [
        subprocess.run(
            [sys.executable, "-m", "daogou", "recommend", one, "--users", users, *flags],
            capture_output=True, text=True, check=True,
        ).stdout
        for flags in ([], ["--workers", "2"])
    ]  # fmt: skip
    answers = [[json.loads(line) for line in each.splitlines()] for each in found]
    assert answers[0][1] == {"error": "line 2: empty"} and len(answers[0]) == 3
    for one_answer, other in zip(*answers, strict=True):
        assert one_answer | {"request_id": ""} == other | {"request_id": ""}
