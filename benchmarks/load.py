"""A load generator of its own: requests at a fixed rate, each timed from when it was due.

    python benchmarks/load.py PLAN OUT

PLAN is a JSON file: ``{"url", "rate", "seconds", "workers", "requests": [[path, body], ...]}``;
the requests are sent in order, again from the first when all are sent. Request ``i`` is due
``i / rate`` seconds after the start and is timed from then, not from when a worker was free to send
it, so that a server that falls behind shows it. OUT gets a JSON list of
``[path, status, milliseconds, seconds since the start]``; a status of 0 is a request without an
answer. At most ``rate * seconds`` requests are sent.
"""

import http.client
import itertools
import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 30
HEADERS = {"Content-Type": "application/json"}


class Caller:
    """One connection to a server, opened again when it is lost."""

    def __init__(self, url: str) -> None:
        self._place = urlsplit(url).netloc
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; (0, b"") if there was none."""
        return self._ask("POST", path, body)

    def get(self, path: str) -> tuple[int, bytes]:
        """Likewise."""
        return self._ask("GET", path, None)

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self._place, timeout=TIMEOUT_S)
            self._connection.request(method, path, body, HEADERS)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return 0, b""

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def run(plan: dict[str, Any]) -> list[list[Any]]:
    """Send a plan's requests; a line for each."""
    requests = [(path, json.dumps(body).encode()) for path, body in plan["requests"]]
    total = int(plan["rate"] * plan["seconds"])
    places = itertools.count()
    started = time.perf_counter() + 0.1
    lines: list[list[Any]] = []

    def work() -> None:
        caller = Caller(plan["url"])
        while (place := next(places)) < total:
            due = started + place / plan["rate"]
            time.sleep(max(due - time.perf_counter(), 0.0))
            path, body = requests[place % len(requests)]
            status, _ = caller.post(path, body)
            lines.append([path, status, 1000 * (time.perf_counter() - due), due - started])
        caller.close()

    threads = [threading.Thread(target=work) for _ in range(plan["workers"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return lines


def main(arguments: Sequence[str]) -> int:
    """Send what PLAN says and write OUT."""
    plan, out = map(Path, arguments)
    out.write_text(json.dumps(run(json.loads(plan.read_text("utf-8")))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
