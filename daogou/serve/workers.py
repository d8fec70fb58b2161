"""Processes that answer at one socket and share a database: started, watched, ended together."""

import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

import torch
import uvicorn

from daogou.errors import DaogouError, DataError
from daogou.serve.app import make_app
from daogou.serve.limits import Limits
from daogou.serve.lineup import described
from daogou.serve.meters import Meters
from daogou.serve.service import Service
from daogou.serve.store import Store
from daogou.serve.tables import Document

log = logging.getLogger("daogou.serve")
STOP_S: Final = 20  # what is being answered may take so long when the server is told to stop
_LOOK_S: Final = 1.0  # between looks at whether a worker ended, and at what others wrote
_COUNTED: Final = "PROMETHEUS_MULTIPROC_DIR"  # what its library reads when it is imported


@dataclass(frozen=True)
class Runs:
    """The runs to answer from: a main one, shares of users of others, one in the shadow.

    See `Lineup`.
    """

    main: Path
    variants: Sequence[tuple[Path, float]] = ()
    shadow: Path | None = None


@dataclass(frozen=True)
class Plan:
    """What each process of a server is made from."""

    runs: Runs
    store: str
    at_home: bool
    origins: Sequence[str]
    limits: Limits
    group: str | None = None  # whose processes follow each other's changes of runs

    def runs_by_now(self, store: Store) -> Runs:
        """What the group answers from; the runs of the command if it was asked for no others."""
        _, wanted = ("", None) if self.group is None else store.groups.wanted(self.group)
        if wanted is None:
            return self.runs
        variants = [(Path(each["run"]), each["share"]) for each in wanted["variants"]]
        shadow = None if wanted["shadow"] is None else Path(wanted["shadow"]["run"])
        return Runs(Path(wanted["main"]["run"]), variants, shadow)

    def answer(self, taken: socket.socket, listening: Callable[[Document], None]) -> None:
        """Load the runs, say which they are, and answer at a socket until told to stop."""
        torch.set_num_threads(1)
        opened = Store.open(self.store)
        try:
            meters = Meters(os.environ.get(_COUNTED) if self.group else None)
            runs = self.runs_by_now(opened)
            service = Service(runs.main, opened, self.limits, meters, group=self.group)
            service.answerers.begin(runs.variants, runs.shadow)
            if self.group:
                threading.Thread(target=_look_about, args=(service,), daemon=True).start()
            counted = Path(os.environ[_COUNTED]) / "came" if self.group else None
            app = make_app(service, at_home=self.at_home, origins=self.origins, counted=counted)
            config = uvicorn.Config(
                app, log_config=None, access_log=False, server_header=False,
                timeout_graceful_shutdown=STOP_S, limit_concurrency=1000,
            )  # fmt: skip
            gc.collect()
            gc.freeze()  # what stays is not looked through again and again while answers are made
            listening(described(service.answerers.main))
            uvicorn.Server(config).run(sockets=[taken])
        finally:
            opened.close()


def answer_by(
    plan: Plan, n: int, taken: socket.socket, listening: Callable[[Document], None]
) -> None:
    """Answer by ``n`` processes until SIGTERM or SIGINT; one that ends is begun anew.

    Raises what a process raises that cannot begin.
    """
    with _stopping() as stopped, tempfile.TemporaryDirectory(prefix="daogou-") as counted:
        os.environ[_COUNTED] = counted
        workers: list[BaseProcess] = []
        try:
            begun = [_begin(plan, taken) for _ in range(n)]
            workers = [worker for worker, _ in begun]
            while not stopped.is_set() and not all(told.poll() for _, told in begun):
                wait([told for _, told in begun if not told.poll()], timeout=_LOOK_S)
            if not stopped.is_set():
                said = [_said(worker, told) for worker, told in begun]
                listening(said[0])
            while not stopped.is_set():
                wait([worker.sentinel for worker in workers], timeout=_LOOK_S)
                for place, worker in enumerate(workers):
                    if worker.exitcode is not None and not stopped.is_set():
                        log.warning("a worker ended (%s); another begins", worker.exitcode)
                        workers[place], told = _begin(plan, taken)
                        told.close()
                        time.sleep(_LOOK_S)  # one that cannot begin is no reason to spin
        finally:
            for worker in workers:
                worker.terminate()
            until = time.monotonic() + STOP_S + 5  # for all of them together
            for worker in workers:
                worker.join(max(until - time.monotonic(), 0.0))
                worker.kill()
            del os.environ[_COUNTED]


def _begin(plan: Plan, taken: socket.socket) -> tuple[BaseProcess, Connection]:
    """A process that answers, and where it says what it answers from, or why it cannot."""
    context = multiprocessing.get_context("spawn")  # threads of this process do not fork well
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(plan, taken, theirs), daemon=True)
    worker.start()
    theirs.close()
    return worker, ours


def _said(worker: BaseProcess, told: Connection) -> Document:
    try:
        found = told.recv()
    except EOFError:
        worker.join(STOP_S)
        raise DataError(
            f"serve: a worker ended before it could answer (status {worker.exitcode}); "
            "see what it said above, and that there is memory for so many"
        ) from None
    finally:
        told.close()
    if isinstance(found, BaseException):
        raise found
    return dict(found)


def _work(plan: Plan, taken: socket.socket, told: Connection) -> None:
    """What a process does."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def listening(document: Document) -> None:
        # Nobody listens to a worker that was begun in the place of another.
        with suppress(OSError):
            told.send(document)
        told.close()

    try:
        plan.answer(taken, listening)
    except (DaogouError, OSError) as error:
        log.error("%s", error)
        with suppress(OSError):
            told.send(error)
        sys.exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _look_about(service: Service) -> None:
    """See what the other processes wrote, asked or not, until the service ends."""
    while not service.answerers.closed.wait(_LOOK_S):
        service.answerers.look_about()


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Set once this process is told to stop."""
    stopped = threading.Event()
    before = {
        each: signal.signal(each, lambda *_: stopped.set())
        for each in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stopped
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
