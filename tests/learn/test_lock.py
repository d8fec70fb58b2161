"""A lock that a killed process does not keep."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daogou.errors import ArtifactError
from daogou.learn.lock import Lock, alone, holds_work, unlocked


def test_only_one_has_it_until_it_is_given_back(tmp_path: Path) -> None:
    one, other = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert one.take()
    assert not other.take(wait=False)
    one.give_back()
    one.give_back()  # twice is once
    assert other.take(wait=False)
    other.give_back()


def test_a_killed_process_gives_it_back_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from daogou.learn.lock import Lock\n"
        "Lock(Path(sys.argv[1])).take(); lock = Lock(Path(sys.argv[2])); lock.take()\n"
        "print('held', flush=True); time.sleep(60)"
    )
    paths = [str(tmp_path / name) for name in ("dropped", "held")]
    with subprocess.Popen(
        [sys.executable, "-c", code, *paths], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert not Lock(tmp_path / "held").take(wait=False)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with Lock(tmp_path / "held") as held:
        assert not Lock(tmp_path / "held").take(wait=False)
    assert held.take(wait=False)
    held.give_back()


def test_a_folder_is_one_process_s_which_is_named_to_the_others(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from daogou.learn.lock import alone\n"
        "with alone(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(ArtifactError, match=rf"another process works here \(process "
                          rf"{process.pid} on .*\); wait for it, or give another folder"),
            alone(tmp_path),
        ):  # fmt: skip
            raise AssertionError("two had it")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not holds_work(tmp_path)
    with alone(tmp_path):
        unlocked(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_lock_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(ArtifactError, match=r"cannot be locked \(unable to open"), alone(tmp_path):
        pass
