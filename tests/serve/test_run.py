"""The command: it says where it listens, answers, and ends well when it is told to."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from daogou.errors import ConfigError
from daogou.serve.run import Runs, serve
from tests.serve.conftest import ROOT


def refuse(_: Any) -> None:
    raise AssertionError("it listens")


def test_where_others_can_come_in_a_server_without_a_key_does_not_start(
    made_run: Path, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path / 's.db'}"
    with pytest.raises(ConfigError, match=r"has no key; make one first: daogou keys --store 'sql"):
        serve(Runs(made_run), store=store, host="0.0.0.0", port=0, listening=refuse)


@contextmanager
def served(run: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`daogou serve` in a process of its own, and what it printed."""
    command = [sys.executable, "-m", "daogou", "serve", str(run), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, json.loads(line)
        finally:
            process.kill()


def post(url: str, path: str, body: Any) -> tuple[int, Any]:
    asked = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        asked.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = asked.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        asked.close()


@pytest.mark.slow
def test_a_served_run_answers_keeps_events_and_ends_when_told(
    made_run: Path, tmp_path: Path
) -> None:
    row = {"kind": "click", "user": "17", "item": "3", "event_id": "a"}
    with served(made_run, tmp_path) as (process, said):
        assert {"url", "store", "run", "digest", "tasks"} <= set(said)
        assert post(said["url"], "/v1/events", {"events": [row]})[0] == 202
        status, found = post(said["url"], "/v1/recommend", {"user": "17", "k": 2})
        assert (status, len(found["items"])) == (200, 2)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGTERM)
        assert "POST /v1/recommend 200" in told and "Traceback" not in told
    with served(made_run, tmp_path) as (process, said):
        status, told_rows = post(said["url"], "/v1/events", {"events": [row]})
        assert told_rows["duplicate"] == 1
        process.kill()
