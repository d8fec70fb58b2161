"""A server under load: how fast it answers, and what it loses when it is killed.

    python benchmarks/serve.py RUN OUT [--only latency swap same kills postgres memory]

RUN is a finished run (``daogou simulate`` and ``daogou fit``); its catalogue's size is the one that
latencies are told for. The server is ``daogou serve`` in a process of its own, the load comes from
another (`load.py`), both on loopback.

* **latency**: recommend (reasons and all) at `RATE` requests a second, timed from when each was
  due, and rank of `RANKED` products; some of the users are ones that the run does not know.
* **swap**: `/v1/admin/reload` again and again under that load; requests that failed.
* **same**: scores of random requests over HTTP beside the same guide in this process.
* **kills**: `EVENTS` events a second, each batch sent until it is acknowledged; kill -9 at a random
  moment, `KILLS` times. Then: events acknowledged and not there, events there twice, and how long
  until the server was ready again.
* **postgres**: the same on PostgreSQL (``scripts/postgres``); the database is stopped and started
  instead of the server.
* **memory**: recommend, search, events and the guided dialogue for ``--minutes``; resident memory
  of the last quarter over that of the second.

Prints PASS or MISS for each bar and ends with status 1 if one is missed; OUT gets ``serve.json``.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import load
import numpy as np
from record import about
from served import Server, database_in, loaded, serving

from daogou.guide import Guide

RATE: Final = 50.0
RANKED: Final = 500
EVENTS: Final = 200  # a second
BATCH: Final = 10
KILLS: Final = 20
READY_S: Final = 5.0
CLOSE: Final = 1e-5
SAME: Final = 1000


@dataclass(frozen=True)
class Bar:
    """Something that was measured, and what it may be at most; None if there is no bar."""

    name: str
    value: float
    most: float | None
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the bar is met, or there is none."""
        return self.most is None or self.value <= self.most

    def __str__(self) -> str:
        said = (
            ""
            if self.most is None
            else f" (at most {self.most:g}): {'PASS' if self.met else 'MISS'}"
        )
        return f"{self.name}: {self.value:.4g} {self.unit}{said}"


@dataclass(frozen=True)
class Bench:
    """What every part is given."""

    run: Path
    guide: Guide
    seconds: float
    minutes: float
    kills: int

    def people(self, n: int, seed: int) -> list[str]:
        """Users, one in ten of them unknown to the run."""
        draw = random.Random(seed)
        known = list(self.guide.artifact.store.user_rows)
        return [draw.choice(known) if draw.random() < 0.9 else f"new-{i}" for i in range(n)]

    def products(self, n: int, seed: int) -> list[str]:
        """Products of the catalogue."""
        keys = self.guide.catalogue.keys[1:]
        return random.Random(seed).sample(keys, min(n, len(keys)))


def _quantiles(lines: Sequence[Sequence[Any]]) -> tuple[float, float, int]:
    """Median and 99 % of milliseconds, and how many were not answered with 200."""
    times = np.array([line[2] for line in lines])
    failed = sum(line[1] != 200 for line in lines)
    return float(np.median(times)), float(np.quantile(times, 0.99)), failed


def _measured(
    server: Server, folder: Path, requests: Sequence[Any], rate: float, seconds: float
) -> tuple[float, float, int, float]:
    """`_quantiles` of a load, and milliseconds of the server's processor time for each request."""
    before = server.processor_s()
    lines = loaded(server, folder, requests, rate, seconds)
    return *_quantiles(lines), 1000 * (server.processor_s() - before) / max(len(lines), 1)


def latency(bench: Bench, folder: Path) -> list[Bar]:
    """Recommend at a fixed rate; rank of many products, one after the other."""
    n = bench.guide.catalogue.n_items
    most = (15.0, 50.0) if n <= 100_000 else (None, 100.0)
    wishes = [["/v1/recommend", {"user": user, "k": 10}] for user in bench.people(500, 0)]
    ranks = [
        ["/v1/rank", {"user": user, "items": bench.products(RANKED, seed)}]
        for seed, user in enumerate(bench.people(50, 1))
    ]
    with serving(bench.run, folder) as server:
        loaded(server, folder, wishes[:100], 10, 5)  # first answers warm caches
        half, tail, failed, each = _measured(server, folder, wishes, RATE, bench.seconds)
        ranked, ranked_tail, ranked_failed, each_rank = _measured(server, folder, ranks, 5, 20)
    return [
        Bar(f"recommend, {n:,} products, {RATE:g}/s, median", half, most[0], "ms"),
        Bar(f"recommend, {n:,} products, {RATE:g}/s, 99 %", tail, most[1], "ms"),
        Bar("recommend, processor time of the server", each, None, "ms"),
        Bar("recommend, failed", failed, 0),
        Bar(f"rank of {min(RANKED, n)}, median", ranked, 8.0, "ms"),
        Bar(f"rank of {min(RANKED, n)}, 99 %", ranked_tail, None, "ms"),
        Bar("rank, processor time of the server", each_rank, None, "ms"),
        Bar("rank, failed", ranked_failed, 0),
    ]


def swap(bench: Bench, folder: Path) -> list[Bar]:
    """Reload while requests come."""
    wishes = [["/v1/recommend", {"user": user, "k": 10}] for user in bench.people(500, 2)]
    with serving(bench.run, folder) as server:
        done, stop = Counter[int](), threading.Event()

        def reload() -> None:
            caller = load.Caller(server.url)
            while not stop.is_set():
                done[caller.post("/v1/admin/reload", b"{}")[0]] += 1

        thread = threading.Thread(target=reload)
        thread.start()
        lines = loaded(server, folder, wishes, RATE / 2, bench.seconds)
        stop.set()
        thread.join()
    _, tail, failed = _quantiles(lines)
    return [
        Bar("swap: reloads refused", sum(done.values()) - done[200], 0, f"of {sum(done.values())}"),
        Bar("swap: requests failed", failed, 0, f"of {len(lines)}"),
        Bar("swap: 99 %", tail, None, "ms"),
    ]


def same(bench: Bench, folder: Path) -> list[Bar]:
    """Scores over HTTP less those of a guide in this process, at random requests."""
    worst = 0.0
    with serving(bench.run, folder) as server:
        caller = load.Caller(server.url)
        for seed, user in enumerate(bench.people(SAME, 3)):
            items = bench.products(5, seed)
            body = json.dumps({"user": user, "items": items}).encode()
            status, told = caller.post("/v1/rank", body)
            assert status == 200, told
            here = {line["item"]: line for line in bench.guide.score(user, items)["items"]}
            for line in json.loads(told)["items"]:
                ours = here[line["item"]]["p"]
                worst = max(worst, *(abs(line["p"][name] - ours[name]) for name in ours))
    return [Bar(f"largest difference of a chance, {SAME} requests", worst, CLOSE)]


@dataclass
class Sender:
    """Sends events at a rate; a batch is sent again until it is acknowledged."""

    server: Server
    users: Sequence[str]
    items: Sequence[str]
    kept: list[str] = field(default_factory=list)
    told: Counter[int] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> None:
        """Until it is told to stop."""
        began, sent = time.perf_counter(), 0
        caller = load.Caller(self.server.url)
        while not self.stop.is_set():
            time.sleep(max(began + sent / EVENTS - time.perf_counter(), 0.0))
            rows = [
                {"event_id": f"e{sent + i}", "kind": "click", "user": random.choice(self.users),
                 "item": random.choice(self.items)}
                for i in range(BATCH)
            ]  # fmt: skip
            body = json.dumps({"events": rows}).encode()
            while not self.stop.is_set():
                status, answer = caller.post("/v1/events", body)
                self.told[status] += 1
                if status == 202:
                    told = json.loads(answer)["rows"]
                    self.kept += [each["event_id"] for each in told if each["status"] != "rejected"]
                    break
                time.sleep(0.05)
            sent += BATCH


def _lost_and_doubled(server: Server, sent: Sequence[str]) -> tuple[int, int]:
    """Of acknowledged events those that an export lacks, and those that it has twice."""
    told = load.Caller(server.url).get("/v1/admin/export")[1].splitlines()
    rows = [json.loads(line) for line in told]
    there = Counter(row["row"]["event_id"] for row in rows if row["table"] == "events")
    return sum(each not in there for each in sent), sum(n > 1 for n in there.values())


def kills(bench: Bench, folder: Path) -> list[Bar]:
    """kill -9 of the server at random moments while events come."""
    with serving(bench.run, folder) as server:
        ready: list[float] = []

        def fell() -> None:
            server.kill()
            server.start()  # at the same port
            ready.append(server.ready_s)

        bars = _survived(bench, server, fell)
    return [
        *bars,
        Bar("ready again, median", statistics.median(ready), None, "s"),
        Bar("ready again, most", max(ready), READY_S, "s"),
    ]


def postgres(bench: Bench, folder: Path) -> list[Bar]:
    """The database is killed and started again at random moments while events come."""
    with database_in(folder) as database, serving(bench.run, folder, database.url) as server:
        return _survived(bench, server, database.restart)


def _survived(bench: Bench, server: Server, fell: Callable[[], None]) -> list[Bar]:
    """Events that were lost and doubled, and how they were answered, while something fell."""
    draw = random.Random(0)
    sender = Sender(server, bench.people(200, 4), bench.products(200, 4))
    thread = threading.Thread(target=sender)
    thread.start()
    try:
        for _ in range(bench.kills):
            time.sleep(draw.uniform(0.5, 3.0))
            fell()
        time.sleep(1.0)
    finally:
        sender.stop.set()
        thread.join()
    lost, doubled = _lost_and_doubled(server, sender.kept)
    odd = sum(n for status, n in sender.told.items() if status not in (0, 202, 503))
    return [
        Bar(f"events lost, {bench.kills} falls", lost, 0, f"of {len(sender.kept)}"),
        Bar("events doubled", doubled, 0),
        Bar("answers but 202 and 503", odd, 0, f"of {dict(sender.told)}"),
    ]


def memory(bench: Bench, folder: Path) -> list[Bar]:
    """Mixed load; resident memory at the end less that halfway."""
    people, items = bench.people(2000, 5), bench.products(500, 5)
    words = [bench.guide.catalogue.name(bench.guide.catalogue.row(item)) for item in items]
    mixed: list[Any] = []
    for place, user in enumerate(people):
        item = items[place % len(items)]
        mixed += [
            ["/v1/recommend", {"user": user, "k": 10}],
            ["/v1/events", {"events": [{"kind": "click", "user": user, "item": item}]}],
            ["/v1/search", {"query": words[place % len(items)][:20], "user": user}],
            ["/v1/guide", {"user": user}],
            ["/v1/rank", {"user": user, "items": items[:50]}],
        ]
    seen: list[float] = []
    with serving(bench.run, folder) as server:
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(1.0):
                seen.append(server.memory())

        loaded(server, folder, mixed, 20, 30)
        thread = threading.Thread(target=watch)
        thread.start()
        lines = loaded(server, folder, mixed, 20, 60 * bench.minutes)
        stop.set()
        thread.join()
    quarter = len(seen) // 4
    first, last = statistics.median(seen[quarter : 2 * quarter]), statistics.median(seen[-quarter:])
    failed = sum(line[1] not in (200, 202) for line in lines)
    return [
        Bar(
            f"memory after {bench.minutes:g} min, second quarter to last",
            last / first,
            1.02,
            f"({last:.0f} MB)",
        ),
        Bar("mixed load: failed", failed, 0, f"of {len(lines)}"),
    ]


PARTS: Final[dict[str, Callable[[Bench, Path], list[Bar]]]] = {
    "latency": latency,
    "swap": swap,
    "same": same,
    "kills": kills,
    "postgres": postgres,
    "memory": memory,
}


def main(arguments: Sequence[str]) -> int:
    """Measure what is asked for, print it against its bars and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--kills", type=int, default=KILLS)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        given.run.resolve(), Guide.load(given.run), given.seconds, given.minutes, given.kills
    )
    bars: list[Bar] = []
    for name in given.only:
        print(f"{name}: load average {os.getloadavg()[0]:.1f}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="daogou-serve-") as folder:
            for bar in PARTS[name](bench, Path(folder)):
                bars.append(bar)
                print(bar, flush=True)
    document = {
        **about("serve.py", arguments),
        "bars": [{**asdict(bar), "met": bar.met} for bar in bars],
    }
    (given.out / "serve.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return 0 if all(bar.met for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
