"""The examples do what their first lines say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from daogou.config import read_shop
from daogou.learn.fit import fit
from daogou.tables.simulate import simulate

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.slow


def ran(folder: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """An example's run, with `daogou` on the path as an installed one is."""
    command = folder / "bin" / "daogou"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m daogou "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *words],
        capture_output=True, text=True, cwd=folder, check=False,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(each.name for each in EXAMPLES.glob("*.ipynb")))
def test_a_notebook_runs_and_is_kept_without_what_it_printed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    assert not [each for each in notebook.cells if each.get("outputs")]
    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert [each for each in notebook.cells if each.get("outputs")]


def test_a_visit_is_shown_told_and_answered(tmp_path: Path) -> None:
    simulate(tmp_path / "shop", "easy", users=60, items=40, exposures=2000)
    fit(read_shop(tmp_path / "shop", ["fit.epochs=1"]), tmp_path / "run")
    server = subprocess.Popen(
        [sys.executable, "-m", "daogou", "serve", "run", "--port", "0"],
        stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        visit = ran(tmp_path, "client.py", url, "100001")
    finally:
        server.terminate()
        server.communicate(timeout=30)
    shown, kept, then = visit.stdout.splitlines()
    assert len(shown.split()) == len(then.split()) == 6
    assert kept == "kept: True"


def test_without_a_server_a_shop_shows_what_sells(tmp_path: Path) -> None:
    visit = ran(tmp_path, "client.py", "http://127.0.0.1:9", "100001")
    assert visit.stdout == "shown: 1 2 3\n"
    assert "without Daogou" in visit.stderr


def test_a_night_goes_on_from_yesterday(tmp_path: Path) -> None:
    simulate(tmp_path / "shop", "easy", users=100, items=50, exposures=6000)
    events = tmp_path / "shop" / "events.parquet"
    duckdb.sql(f"""
        create table log as select *, percent_rank() over (order by ts) > .8 as late
            from '{events}';
        copy (select * exclude late from log where late) to '{tmp_path / "new.parquet"}';
        copy (select * exclude late from log where not late) to '{events}';
        drop table log
    """)
    fit(read_shop(tmp_path / "shop", ["fit.epochs=1"]), tmp_path / "monday")
    night = ran(tmp_path, "nightly.py", "monday", "new.parquet", "tuesday")
    assert night.returncode == 0, night.stderr
    assert json.loads(night.stdout)["run"] == "tuesday"
    assert (tmp_path / "tuesday" / "manifest.json").exists()
    again = ran(tmp_path, "nightly.py", "monday", "nowhere.parquet", "wednesday")
    assert again.returncode == 1
    assert "the run of before goes on" in again.stderr
