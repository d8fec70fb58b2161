"""Told to stop: when a process ends, by what number, and what it says."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from daogou.learn.stop import stoppable, unbroken
from daogou.tables.simulate import simulate

NUMBERS = {signal.SIGINT: 130, signal.SIGTERM: 143}
each_signal = pytest.mark.parametrize("number", NUMBERS, ids=lambda each: each.name)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Whatever a test does, signals are heard as before."""
    before = [(each, signal.getsignal(each)) for each in NUMBERS]
    yield
    assert [(each, signal.getsignal(each)) for each in NUMBERS] == before


# ---- a block ------------------------------------------------------------------------------


@each_signal
def test_a_block_that_is_told_to_stop_says_so_and_ends_by_the_signals_number(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    reached = []
    with pytest.raises(SystemExit) as end, stoppable("stopped 停"):
        try:
            signal.raise_signal(number)
            reached.append("further")
        finally:
            reached.append("the end")
    assert end.value.code == NUMBERS[number]
    assert reached == ["the end"]
    assert capfd.readouterr().err == "stopped 停\n"


def test_what_nobody_stopped_is_as_without(capfd: pytest.CaptureFixture[str]) -> None:
    with stoppable("stopped"):
        pass
    with pytest.raises(ZeroDivisionError), stoppable("stopped"):
        raise ZeroDivisionError
    with pytest.raises(SystemExit) as end, stoppable("stopped"):
        sys.exit(1)
    assert end.value.code == 1
    assert capfd.readouterr().err == ""


def test_an_error_made_of_being_stopped_is_being_stopped() -> None:
    with pytest.raises(SystemExit) as end, stoppable("stopped"):
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            raise RuntimeError("query interrupted") from None
    assert end.value.code == 143


def test_what_is_done_all_the_same_has_ended_well() -> None:
    with pytest.raises(SystemExit) as end, stoppable("stopped"):
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:  # swallowed
            sys.exit(0)
    assert end.value.code == 0


def test_who_swallows_it_is_told_again() -> None:
    swallowed = []
    with pytest.raises(SystemExit) as end, stoppable("stopped"):
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as error:
            swallowed.append(error)
        for _ in range(300):
            time.sleep(0.1)
    assert end.value.code == 143
    assert len(swallowed) == 1


def test_who_cleans_up_is_not_told_again() -> None:
    done = []
    with pytest.raises(SystemExit), stoppable("stopped"):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            try:
                [][0]
            except IndexError:
                time.sleep(1.2)
            done.append("cleaned up")
    assert done == ["cleaned up"]


DEAF = """
import os, signal, sys, time
from daogou.learn import stop
stop._AGAIN = 0.01
with stop.stoppable("stopped"):
    print("ready", flush=True)
    while True:
        try:
            time.sleep(1)
        except BaseException:
            pass
"""


def test_what_does_not_end_is_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DEAF], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
        assert process.stderr.read() == "stopped\n"


# ---- what is not to be broken ---------------------------------------------------------------


@each_signal
def test_what_is_unbroken_is_done_before_the_end(number: signal.Signals) -> None:
    done = []
    with pytest.raises(SystemExit) as end, stoppable("stopped"):
        with unbroken():
            signal.raise_signal(number)
            time.sleep(0.7)  # told again meanwhile
            done.append("written")
        done.append("further")
    assert end.value.code == NUMBERS[number]
    assert done == ["written"]


def test_without_a_command_line_ctrl_c_waits_too() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    done = []
    try:
        with pytest.raises(KeyboardInterrupt), unbroken():
            signal.raise_signal(signal.SIGINT)
            done.append("written")
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["written"]


def test_in_another_thread_nothing_is_waited_for() -> None:
    done = []

    def work() -> None:
        with unbroken():
            done.append("written")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["written"]


# ---- commands -------------------------------------------------------------------------------

SETS = ("fit.epochs=3", "fit.patience=3", "fit.rows_per_step=128", "fit.history_length=5",
        "fit.extra_items=8", "fit.threads=1", "model.width=8")  # fmt: skip


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shops; the first is ``a``."""
    folder = tmp_path_factory.mktemp("stopped") / "shops"
    for seed, name in enumerate("ab"):
        simulate(folder / name, "easy", seed=seed, users=80, items=60, exposures=2_000)
    return folder


def words_of(command: str, shops: Path, out: Path) -> list[str]:
    """A command that is told to be short, in whose midst a line of progress begins so."""
    sets = [word for each in SETS for word in ("--set", each)]
    more = {"tune": ["--trials", "2", "--sampler", "random"],
            "compare": ["--seeds", "1", "--rivals", "logistic"],
            "federate": ["--set", "federate.rounds=3"]}  # fmt: skip
    shop = shops if command == "federate" else shops / "a"
    return [command, str(shop), "--out", str(out), *sets, *more.get(command, ())]


def ran(words: list[str], number: signal.Signals | None = None, at: str = "") -> tuple[int, str]:
    """The exit code of a command and what it says, told to stop at a line of progress."""
    with subprocess.Popen(
        [sys.executable, "-m", "daogou", *words], stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if number is not None and line.startswith(at):
                began = time.monotonic()
                process.send_signal(number)
                said += process.stderr.read()
                assert process.wait() == NUMBERS[number], said
                assert time.monotonic() - began < 9
        return process.wait(), said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "number", "at"),
    [
        ("fit", signal.SIGTERM, "prepare "),
        ("fit", signal.SIGINT, "epoch 1/"),
        ("tune", signal.SIGTERM, "trial 1/"),
        ("compare", signal.SIGINT, "run "),
        ("federate", signal.SIGTERM, "round 1/"),
    ],
)
def test_a_command_that_is_told_to_stop_ends_soon_and_goes_on_later(
    shops: Path, tmp_path: Path, command: str, number: signal.Signals, at: str
) -> None:
    words = words_of(command, shops, tmp_path / "out")
    _, said = ran(words, number, at)
    assert said.splitlines()[-1] == (
        "stopped; all that was whole is kept, and this goes on: "
        f"{shlex.join(['daogou', *words])} --resume"
    )
    assert "Traceback" not in said
    code, said = ran([*words, "--resume"])
    assert code == 0, said


@pytest.mark.slow
def test_a_checkpoint_that_is_being_written_is_finished(shops: Path, tmp_path: Path) -> None:
    """The signal comes while the first epoch's best weights are half on disk."""
    code = (
        "import os, signal, sys\nfrom daogou.learn import checkpoint\nfrom daogou.cli import main\n"
        "write = checkpoint.save_file\n"
        "def told(*given, **named):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    write(*given, **named)\n"
        "checkpoint.save_file = told\nmain()\n"
    )
    words = words_of("fit", shops, tmp_path / "out")
    told = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert told.returncode == 143, told.stderr
    checkpoint = tmp_path / "out" / "checkpoint"
    assert sorted(each.name for each in checkpoint.iterdir()) == [
        "best.safetensors", "last.safetensors",
    ]  # fmt: skip
    load_file(checkpoint / "last.safetensors")
    assert len((tmp_path / "out" / "events.jsonl").read_text().splitlines()) == 1
