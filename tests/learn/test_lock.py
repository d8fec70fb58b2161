"""A lock that a killed process does not keep."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from daogou.learn.lock import Lock


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
