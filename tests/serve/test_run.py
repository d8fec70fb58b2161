"""The command: it says where it listens, answers, and ends well when it is told to."""

import asyncio
import http.client
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from daogou.errors import ConfigError
from daogou.serve import workers
from daogou.serve.run import bound, serve
from daogou.serve.workers import Runs
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
def served(
    run: Path, folder: Path, *flags: str
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`daogou serve` in a process of its own, and what it printed."""
    command = [sys.executable, "-m", "daogou", "serve", str(run), "--port", "0", *flags]
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


def ask(url: str, path: str) -> str:
    asked = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        asked.request("GET", path)
        answer = asked.getresponse()
        assert answer.status == 200
        return answer.read().decode()
    finally:
        asked.close()


def children(of: int) -> set[int]:
    """The processes that one began, but for what multiprocessing begins for itself."""
    begun = Path(f"/proc/{of}/task/{of}/children").read_text("utf-8").split()
    return {
        int(each) for each in begun if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()
    }


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="it looks into /proc")
def test_workers_share_events_and_counters_and_one_that_dies_is_replaced(
    made_run: Path, tmp_path: Path
) -> None:
    with served(made_run, tmp_path, "--workers", "2") as (process, said):
        assert said["workers"] == 2
        workers = children(process.pid)
        assert len(workers) == 2
        url = said["url"]
        item = post(url, "/v1/recommend", {"session": "v", "k": 1})[1]["items"][0]["item"]
        for n in range(6):
            row = {"kind": "click", "session": "v", "item": item, "event_id": str(n)}
            assert post(url, "/v1/events", {"events": [row]})[0] == 202
            status, found = post(url, "/v1/recommend", {"session": "v", "k": 2})
            assert (status, found["events"]["read"], found["degraded"]) == (200, n + 1, False)
        assert 'daogou_events_total{outcome="accepted"} 6.0' in ask(url, "/metrics").splitlines()
        os.kill(min(workers), signal.SIGKILL)
        deadline = time.monotonic() + 120
        while len(children(process.pid) - {min(workers)}) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert len(children(process.pid) - {min(workers)}) == 2
        assert post(url, "/v1/recommend", {"session": "v", "k": 2})[0] == 200
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0 and "Traceback" not in told
        assert not any(Path(f"/proc/{each}").exists() for each in workers)


@pytest.mark.slow
def test_workers_that_cannot_begin_say_why(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "daogou", "serve", "nowhere", "--workers", "2", "--port", "0"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert "nowhere: no such run" in done.stderr and "Traceback" not in done.stderr


def test_the_body_of_an_answer_does_not_wait_for_its_head_to_be_acknowledged() -> None:
    async def delays() -> bool:
        said = asyncio.get_running_loop().create_future()

        def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            held = writer.get_extra_info("socket")
            said.set_result(not held.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with bound("127.0.0.1", 0) as taken:
            async with await asyncio.start_server(accepted, sock=taken):
                _, writer = await asyncio.open_connection(*taken.getsockname())
                found = await said
                writer.close()
        return bool(found)

    assert not asyncio.run(delays())


class Stuck:
    """A process that never says anything and does not end."""

    def __init__(self) -> None:
        self.exitcode: int | None = None
        self.told: list[str] = []
        self.waited: list[float] = []
        self.sentinel, self._open = os.pipe()

    def terminate(self) -> None:
        self.told.append("terminate")

    def join(self, timeout: float) -> None:
        self.waited.append(timeout)
        time.sleep(min(timeout, 0.2))

    def kill(self) -> None:
        self.told.append("kill")


def test_a_server_ends_when_told_though_its_workers_are_stuck_while_they_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stuck: list[Stuck] = []
    ends = []

    def begin(*_: object) -> tuple[Stuck, object]:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        ends.append(theirs)
        stuck.append(Stuck())
        return stuck[-1], ours

    monkeypatch.setattr(workers, "_begin", begin)
    monkeypatch.setattr(workers, "STOP_S", -4.5)
    telling = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    telling.start()
    started = time.monotonic()
    workers.answer_by(None, 4, None, refuse)  # type: ignore[arg-type]
    assert time.monotonic() - started < 3
    assert [each.told for each in stuck] == [["terminate", "kill"]] * 4
    assert sum(min(each.waited[0], 0.2) for each in stuck) <= 0.8
    assert max(each.waited[0] for each in stuck[3:]) < 0.2, "they are waited for together"
