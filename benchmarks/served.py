"""A server, its load and its database as processes of their own: what `serve.py` measures."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import load

HERE: Final = Path(__file__).parent


@dataclass
class Server:
    """``daogou serve`` in a process of its own."""

    run: Path
    store: str
    port: int = 0
    log: Path = Path(os.devnull)
    url: str = ""
    ready_s: float = 0.0
    process: subprocess.Popen[str] = field(init=False)

    def start(self) -> "Server":
        """Start it and wait until it is ready."""
        started = time.perf_counter()
        command = [
            sys.executable, "-m", "daogou", "serve", str(self.run), "--port", str(self.port),
            "--store", self.store, "--rate", "100000",
        ]  # fmt: skip
        with self.log.open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=HERE.parent
            )
        assert self.process.stdout is not None
        told = self.process.stdout.readline()
        if not told:
            raise RuntimeError(f"the server did not start; see {self.log}")
        self.url = json.loads(told)["url"]
        self.port = int(self.url.rsplit(":", 1)[1])
        asking = load.Caller(self.url)
        while asking.get("/readyz")[0] != 200:
            time.sleep(0.02)
        asking.close()
        self.ready_s = time.perf_counter() - started
        return self

    def kill(self) -> None:
        """SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def processor_s(self) -> float:
        """Processor time that it has taken so far, all threads together."""
        told = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Resident megabytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def serving(run: Path, folder: Path, store: str | None = None) -> Iterator[Server]:
    """A server on an empty store, and no longer."""
    server = Server(run, store or f"sqlite:///{folder / 'store.db'}", log=folder / "server.log")
    try:
        yield server.start()
    finally:
        server.kill()


def loaded(
    server: Server, folder: Path, requests: Sequence[Any], rate: float, seconds: float
) -> list[list[Any]]:
    """What `load.py`, in a process of its own, found."""
    plan, out = folder / "plan.json", folder / "answers.json"
    document = {"url": server.url, "rate": rate, "seconds": seconds, "workers": 16}
    plan.write_text(json.dumps({**document, "requests": list(requests)}), encoding="utf-8")
    subprocess.run([sys.executable, str(HERE / "load.py"), str(plan), str(out)], check=True)
    found: list[list[Any]] = json.loads(out.read_text("utf-8"))
    return found


@dataclass
class Database:
    """``scripts/postgres`` on a folder that outlives it."""

    folder: Path
    url: str = ""
    process: subprocess.Popen[str] = field(init=False)

    def start(self) -> "Database":
        """Start it and wait until it takes connections."""
        port = {"PORT": self.url.rsplit(":", 1)[1].split("/")[0]} if self.url else {}
        self.process = subprocess.Popen(
            [str(HERE.parent / "scripts" / "postgres")], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "FOLDER": str(self.folder), **port},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("PostgreSQL did not start")
        return self

    def stop(self) -> None:
        """End it as its crash would: connections are cut and nothing is finished."""
        self.process.terminate()
        self.process.wait()

    def restart(self) -> None:
        """Away for half a second."""
        self.stop()
        time.sleep(0.5)
        self.start()


@contextmanager
def database_in(folder: Path) -> Iterator[Database]:
    folder.chmod(0o755)  # PostgreSQL runs as its own user where this runs as root
    database = Database(folder / "postgres").start()
    try:
        yield database
    finally:
        database.stop()
