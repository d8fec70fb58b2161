"""Faults from without: a folder that may not be written, and memory that does not suffice."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.learn.conftest import QUICK
from tests.learn.test_fit import check_same, fitted

pytestmark = pytest.mark.slow
LARGE = ("fit.epochs=1", "fit.rows_per_step=3000", "model.width=640")
SETS = [word for each in (*QUICK, *LARGE) for word in ("--set", each)]

# ---- folders --------------------------------------------------------------------------------

# Root may do everything, unless these two rights are taken from it.
PLAIN = [] if os.geteuid() else ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
# Commands in one process, the exit code and last line of each.
COMMANDS = """
import contextlib, io, json, sys
from daogou.cli import main

for words in json.load(sys.stdin):
    sys.argv = ["daogou", *words]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as end:
            print(json.dumps([words[0], end.code]), file=sys.stderr, flush=True)
"""
Ran = tuple[int, str]


def ran(commands: Sequence[Sequence[str]]) -> list[Ran]:
    """The exit code of each command and the line before it, by one who may not do everything."""
    done = subprocess.run(
        [*PLAIN, sys.executable, "-c", COMMANDS],
        input=json.dumps(commands), capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stderr.splitlines()
    ends = [i for i, line in enumerate(lines) if line.startswith('["')]
    assert len(ends) == len(commands), done.stderr
    assert "Traceback" not in done.stderr
    return [(json.loads(lines[i])[1], lines[i - 1]) for i in ends]


@pytest.fixture
def shut() -> Iterator[Callable[[Path, int], None]]:
    """Takes rights to a path away, until the test is over."""
    before: dict[Path, int] = {}

    def shut(path: Path, mode: int) -> None:
        before.setdefault(path, path.stat().st_mode)
        path.chmod(mode)

    yield shut
    for path, mode in reversed(before.items()):
        path.chmod(mode)


@pytest.mark.skipif(bool(PLAIN) and not shutil.which("setpriv"), reason="root may do everything")
def test_who_may_not_write_or_read_is_told_where_and_may_still_ask(
    shop_folder: Path, made_run: Path, tmp_path: Path, shut: Callable[[Path, int], None]
) -> None:
    shop, run, begun = tmp_path / "shop", tmp_path / "run", tmp_path / "begun"
    shutil.copytree(shop_folder, shop)
    shutil.copytree(made_run, run)
    shutil.copytree(made_run, begun, ignore=shutil.ignore_patterns("manifest.json"))
    for each in ("closed", "empty"):
        (tmp_path / each).mkdir()
    for folder in (tmp_path / "closed", tmp_path / "empty", begun, run, *run.rglob("*")):
        shut(folder, 0o555 if folder.is_dir() else 0o444)
    shut(shop / "events.parquet", 0)
    fit = ["fit", str(made_run.parent / "shop"), "--set", "fit.epochs=1", "--out"]
    found = ran(
        [
            [*fit, str(tmp_path / "closed" / "run")],
            [*fit, str(tmp_path / "empty")],
            [*fit, str(begun), "--resume"],
            ["check", str(shop)],
            ["evaluate", str(run)],
            ["recommend", str(run), "--user", "nobody"],
            ["report", str(run), "--out", str(run / "page.html")],
        ]
    )
    assert [code for code, _ in found] == [1, 1, 1, 1, 0, 0, 1]
    said = [line for _, line in found]
    assert said[0] == f"error: {tmp_path}/closed/run: Permission denied"
    for name, line in zip(("empty", "begun"), said[1:3], strict=True):
        assert line.startswith(f"error: {tmp_path / name}: cannot be locked (")
        assert line.endswith("it must be writable, on a disk that has locks")
    assert "events.path: the file cannot be read" in said[3] and "Permission denied" in said[3]
    assert said[6].startswith(f"error: {run}/") and said[6].endswith(": Permission denied")
    assert not [*(tmp_path / "closed").iterdir(), *(tmp_path / "empty").iterdir()]


# ---- memory ---------------------------------------------------------------------------------

# From the moment at which tables are ready a process may have little more than it has.
SHORT = """
import resource, sys
from daogou.cli import main
from daogou.learn import fit

teach, room = fit.teach, int(sys.argv.pop(1))

def short(*given, **named):
    with open("/proc/self/statm") as told:
        size = int(told.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + room * 2**20, resource.RLIM_INFINITY))
    return teach(*given, **named)

fit.teach = short
main()
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is told by Linux")
def test_too_little_memory_for_a_step_is_told_and_more_of_it_goes_on(
    shop_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    told = subprocess.run(
        [sys.executable, "-c", SHORT, "130", "fit", str(shop_folder), "--out", str(run), *SETS],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 1, told.stderr
    assert told.stderr.splitlines()[-1].startswith("error: memory: there is not enough of it; what")
    assert "Traceback" not in told.stderr and not (run / "manifest.json").exists()
    unbroken = fitted(shop_folder, tmp_path / "unbroken", *LARGE)
    check_same(fitted(shop_folder, run, *LARGE, resume=True), unbroken)
