"""kill -9 of a fit at fixed moments: resumed, it leaves the files of one that nobody killed."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from kills import differing, fresh, left_alone, traces, words_of

from daogou.tables.simulate import simulate

pytestmark = pytest.mark.slow

# Dies of itself before the n-th time that it does something to a file whose path ends so.
VICTIM = """
import os, signal, sys
from daogou.cli import main

done, name, times = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))

def hear(what, given):
    global times
    if what == done and str(given[what == "os.rename"]).endswith(name):
        times -= 1
        if not times:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hear)
main()
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sequence[str], dict[str, str]]:
    """The words of a fit that nobody killed, and what it left."""
    folder = tmp_path_factory.mktemp("kills")
    simulate(folder / "shops" / "a", "easy", users=80, items=60, exposures=2_000)
    words = words_of("fit", folder / "shops")
    unbroken = fresh(folder / "unbroken", "fit")
    ended = left_alone(words, unbroken)
    assert ended.code == 0, ended.said
    return words, traces(unbroken)


@pytest.mark.parametrize(
    ("done", "name", "times"),
    [
        ("os.rename", "store", 1),  # the tables are compiled, and not in their place
        ("os.rename", "last.safetensors", 14),  # in the second epoch
        ("shutil.rmtree", "checkpoint", 1),  # all is written
    ],
)
def test_killed_and_resumed_a_fit_leaves_what_it_would_have_left(
    whole: tuple[Sequence[str], dict[str, str]], tmp_path: Path, done: str, name: str, times: int
) -> None:
    words, wanted = whole
    folder = fresh(tmp_path / "killed", "fit")
    # python -m daogou ... with the victim's code in place of the module
    victim = [sys.executable, "-c", VICTIM, done, name, str(times), *words[3:]]
    told = subprocess.run(victim, cwd=folder, capture_output=True, text=True, check=False)
    assert told.returncode == -9, told.stderr
    ended = left_alone([*words, "--resume"], folder)
    assert ended.code == 0, ended.said
    assert not differing(traces(folder), wanted)
