"""The same MMoE and PLE trained by us, by two peers and by a plain loop, in turn on one machine.

    python benchmarks/train.py OUT [--threads 2] [--rounds 6] [--parts models tables balancers]

Prints, per model and contender: samples a second (median of the rounds), the ratio to ours within
each round, peak memory, and AUC and log loss of both tasks on rows that nobody trained on, so that
nobody wins by learning less. Then the machine's own limit: how long the matrix products of a step
take alone, in float32 and bfloat16, and the share of our step that they are. Then how a step's time
grows with the rows of the tables, and what each balancer adds to the plain sum.

Each contender is a process that waits while another one trains. Round 0 is for warming up: its rows
are learnt and its time is not counted. OUT gets ``train.json``. Needs the extra ``peers``. The exit
status is 1 if a bar is missed.
"""

import argparse
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from contenders import (
    ALI_CCP,
    CONTENDERS,
    EXPERT,
    N_EXPERTS,
    N_LEVELS,
    STEP,
    TOWER,
    WIDTH,
    draw,
    scaled,
    serve,
)
from record import commit
from rich.console import Console
from rich.table import Table

from daogou.balance import BALANCERS
from daogou.learn.machine import fast_memory

FASTER, LIMIT, GROWTH, GRAM, LOSSES = 5.0, 0.7, 1.2, 1.15, 1.05  # the bars
MODELS: Final = ("mmoe", "ple")
PEERS: Final = ("torch-rechub", "DeepCTR-Torch")
TABLES: Final = (10**4, 10**5, 10**6, 10**7)
N_TEST: Final = 100_000
_STEPS: Final = 40  # of a round
_CURVE_STEPS: Final = 25


# ---- processes that take turns ----------------------------------------------------------


class Racer:
    """A contender in its own process."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe

    def ask(self, what: str, first: int = 0, last: int = 0) -> Any:
        """Seconds of training (``train``, ``train_cpu``), metrics of a test, peak memory in GB."""
        self.pipe.send((what, first, last))
        return self.pipe.recv()


@contextmanager
def racing(
    names: Sequence[tuple[str, str, Mapping[str, str]]], data: Mapping[str, tuple[Path, Any]],
    threads: int,
) -> Iterator[list[Racer]]:  # fmt: skip
    """Racers for ``(contender, key of data, options)``; ``data`` gives a folder and sizes."""
    context = get_context("spawn")
    pipes, processes = [], []
    for name, key, options in names:
        ours, theirs = context.Pipe()
        folder, (kind, sizes) = data[key]
        given = (theirs, name, kind, str(folder), sizes, threads, options)
        process = context.Process(target=serve, args=given)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        yield [Racer(pipe) for pipe in pipes]
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join()


def table(out: Path, n: int, sizes: Sequence[int], name: str) -> Path:
    """A folder with the drawn values and labels."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    values, labels = draw(n, sizes)
    np.save(folder / "values.npy", values)
    np.save(folder / "labels.npy", labels)
    return folder


# ---- what is measured -------------------------------------------------------------------


def models(out: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Every contender on both models."""
    n = (rounds + 1) * _STEPS * STEP
    folder = table(out, n + N_TEST, ALI_CCP, "ali")
    found: dict[str, Any] = {}
    for kind in MODELS:
        data = {"": (folder, (kind, ALI_CCP))}
        entry: dict[str, Any] = {}
        with racing([(name, "", {}) for name in CONTENDERS], data, threads) as racers:
            seconds: list[list[float]] = []
            for turn in range(rounds + 1):
                seconds.append(_turn(racers, turn, _STEPS))
                print(f"{kind} round {turn}: {[round(each, 2) for each in seconds[-1]]}")
            for k, (name, racer) in enumerate(zip(CONTENDERS, racers, strict=True)):
                timed = [row[k] for row in seconds[1:]]
                entry[name] = {
                    "samples_a_second": statistics.median(_STEPS * STEP / each for each in timed),
                    "seconds": timed,
                    **racer.ask("test", n, n + N_TEST),
                    "memory_gb": racer.ask("memory"),
                }
            for name in CONTENDERS:
                for ours in ("daogou", "daogou bfloat16"):
                    pairs = zip(entry[name]["seconds"], entry[ours]["seconds"], strict=True)
                    ratio = statistics.median(theirs / mine for theirs, mine in pairs)
                    entry[name][f"{ours}_is_faster"] = ratio
        for precision, dtype in (("daogou", torch.float32), ("daogou bfloat16", torch.bfloat16)):
            alone, flops = products(kind, dtype, threads)
            step = STEP / entry[precision]["samples_a_second"]
            entry[precision] |= {
                "products_gflops": flops / alone / 1e9,
                "share_of_limit": alone / step,
            }
        found[kind] = entry
    return found


def products(kind: str, dtype: torch.dtype, threads: int) -> tuple[float, float]:
    """Seconds of one step's matrix products alone (forward and both backwards), and their flops.

    Inputs lie as the products like them best, and nothing else happens in between.
    """
    torch.set_num_threads(threads)
    with fast_memory():
        return _products(kind, dtype)


def _products(kind: str, dtype: torch.dtype) -> tuple[float, float]:
    wide = len(ALI_CCP) * WIDTH
    shapes = [(1, STEP, wide, N_EXPERTS * EXPERT[0])]
    shapes.append((N_EXPERTS, STEP, EXPERT[0], EXPERT[1]))
    if kind == "ple":
        for _ in range(N_LEVELS - 1):
            shapes.append((N_EXPERTS, STEP, EXPERT[1], EXPERT[0]))
            shapes.append((N_EXPERTS, STEP, EXPERT[0], EXPERT[1]))
    shapes.append((2, STEP, EXPERT[1], TOWER))
    seconds = flops = 0.0
    for e, b, i, o in shapes:
        x, w, g = (torch.randn(e, *shape, dtype=dtype) for shape in ((b, i), (i, o), (b, o)))
        if e == 1:
            x, w, g = x[0], w[0], g[0]
        for left, right in ((x, w), (g, w.mT), (x.mT, g)):
            out = left @ right
            seconds += _best(functools.partial(torch.matmul, left, right, out=out))
            flops += 2.0 * e * b * i * o
    return seconds, flops


def _best(work: Callable[[], Any], times: int = 15) -> float:
    for _ in range(3):
        work()
    found = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def tables(out: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Our step's time against the rows of the tables, and the peers' at the largest."""
    n = (rounds + 1) * _CURVE_STEPS * STEP
    data = {}
    for size in TABLES:
        sizes = scaled(size)
        data[str(size)] = (table(out, n, sizes, f"rows{size}"), ("mmoe", sizes))
    largest = str(TABLES[-1])
    racers_of: list[tuple[str, str, dict[str, Any]]] = [("daogou", key, {}) for key in data]
    found: dict[str, Any] = {"rows": {}, "peers": {}}
    with racing(racers_of, data, threads) as racers:
        seconds = _rounds(racers, rounds, _CURVE_STEPS)
    for k, size in enumerate(TABLES):
        against = [row[k] / row[1] for row in seconds]
        found["rows"][str(size)] = {
            "ms_a_step": 1e3 * statistics.median(row[k] for row in seconds) / _CURVE_STEPS,
            "over_1e5": statistics.median(against),
        }
    steps = 3
    with racing([(name, largest, {}) for name in ("daogou", *PEERS)], data, threads) as racers:
        slow = _rounds(racers, 2, steps)
    for k, name in enumerate(("daogou", *PEERS)):
        found["peers"][name] = {
            "ms_a_step": 1e3 * statistics.median(row[k] for row in slow) / steps,
            "daogou_is_faster": statistics.median(row[k] / row[0] for row in slow),
        }
    return found


def balancers(out: Path, threads: int, rounds: int) -> dict[str, Any]:
    """What each balancer's step takes over the plain sum's, with a million table rows.

    In processor seconds, against the plain sum on the same rows right before or right after.
    """
    sizes = scaled(10**6)
    n = (rounds + 1) * _STEPS * STEP
    data = {"": (table(out, n, sizes, "balancers"), ("mmoe", sizes))}
    names = [name for name in BALANCERS if name != "fixed"]
    every = [("daogou", "", {"balancer": name}) for name in ("fixed", *names)]
    over: dict[str, list[float]] = {name: [] for name in names}
    with racing(every, data, threads) as racers:
        for turn in range(rounds + 1):
            at = turn * _STEPS * STEP
            rows = ("train_cpu", at, at + _STEPS * STEP)
            for k, name in enumerate(names):
                pair = (racers[0], racers[1 + k])
                seconds = {racer: racer.ask(*rows) for racer in pair[:: 1 - 2 * ((turn + k) % 2)]}
                over[name].append(seconds[pair[1]] / seconds[pair[0]])
            print(f"round {turn}: {[round(each[-1], 3) for each in over.values()]}")
    return {
        name: {
            "needs_gram": BALANCERS[name](2).needs_gram,
            "over_fixed": statistics.median(over[name][1:]),
            "least": min(over[name][1:]),
            "most": max(over[name][1:]),
        }
        for name in names
    }


def _turn(racers: Sequence[Racer], turn: int, steps: int) -> list[float]:
    """Seconds of each racer for the same rows; who is first moves on with every round."""
    at, n = turn * steps * STEP, len(racers)
    seconds = [0.0] * n
    for place in ((turn + k) % n for k in range(n)):
        seconds[place] = racers[place].ask("train", at, at + steps * STEP)
    return seconds


def _rounds(racers: Sequence[Racer], rounds: int, steps: int) -> list[list[float]]:
    """Seconds of each racer in each round after the first."""
    found = []
    for turn in range(rounds + 1):
        found.append(_turn(racers, turn, steps))
        print(f"round {turn}: {[round(each, 2) for each in found[-1]]}")
    return found[1:]


# ---- what is said -----------------------------------------------------------------------


def bars(found: Mapping[str, Any]) -> list[tuple[str, float, float, bool]]:
    """What, value, bar and whether it holds."""
    said: list[tuple[str, float, float, bool]] = []
    for kind, entry in found.get("models", {}).items():
        loss = min(sum(entry[peer]["log_loss"]) for peer in PEERS)
        for ours in ("daogou", "daogou bfloat16"):
            value = min(entry[peer][f"{ours}_is_faster"] for peer in PEERS)
            learnt = sum(entry[ours]["log_loss"]) <= loss
            said.append((f"{kind}: {ours} over the faster peer", value, FASTER,
                         value >= FASTER and learnt))  # fmt: skip
        share = entry["daogou"]["share_of_limit"]
        said.append((f"{kind}: share of the float32 limit", share, LIMIT, share >= LIMIT))
    if "tables" in found:
        value = found["tables"]["rows"][str(10**7)]["over_1e5"]
        said.append(("10^7 table rows over 10^5", value, GROWTH, value <= GROWTH))
    for name, entry in found.get("balancers", {}).items():
        bar = GRAM if entry["needs_gram"] else LOSSES
        if name != "fixed":
            said.append((f"{name} over fixed", entry["over_fixed"], bar,
                         entry["over_fixed"] <= bar))  # fmt: skip
    return said


def show(found: Mapping[str, Any]) -> None:
    """Tables in the terminal."""
    console = Console(width=140)
    for kind, entry in found.get("models", {}).items():
        shown = Table("contender", "samples/s", "times slower than ours", "and than bfloat16",
                      "peak GB", "AUC", "log loss", title=kind)  # fmt: skip
        for name, one in entry.items():
            shown.add_row(
                name, f"{one['samples_a_second']:,.0f}", f"{one['daogou_is_faster']:.2f}",
                f"{one['daogou bfloat16_is_faster']:.2f}", f"{one['memory_gb']:.2f}",
                " ".join(f"{x:.4f}" for x in one["auc"]),
                " ".join(f"{x:.4f}" for x in one["log_loss"]),
            )  # fmt: skip
        console.print(shown)
        for ours in ("daogou", "daogou bfloat16"):
            one = entry[ours]
            console.print(f"{ours}: the step's products alone run at {one['products_gflops']:,.0f}"
                          f" GFLOP/s and are {one['share_of_limit']:.0%} of its time")  # fmt: skip
    for size, one in found.get("tables", {}).get("rows", {}).items():
        console.print(f"{int(size):>10,} rows: {one['ms_a_step']:.1f} ms a step, "
                      f"{one['over_1e5']:.2f} of that at 10^5")  # fmt: skip
    for name, one in found.get("tables", {}).get("peers", {}).items():
        console.print(f"10^7 rows, {name}: {one['ms_a_step']:,.0f} ms a step, "
                      f"{one['daogou_is_faster']:.1f} times ours")  # fmt: skip
    for name, one in found.get("balancers", {}).items():
        console.print(f"balancer {name}: {one['over_fixed']:.3f} of the plain sum's step")
    verdicts = Table("what", "value", "bar", "")
    for what, value, bar, holds in bars(found):
        verdicts.add_row(what, f"{value:.2f}", f"{bar:.2f}", "PASS" if holds else "MISS")
    console.print(verdicts)


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    parts: dict[str, Callable[[Path, int, int], dict[str, Any]]] = {
        "models": models, "tables": tables, "balancers": balancers,
    }  # fmt: skip
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {
        part: parts[part](given.out, given.threads, given.rounds) for part in given.parts
    }
    document = {"commit": commit(), "threads": given.threads, "torch": torch.__version__, **found}
    (given.out / "train.json").write_text(json.dumps(document, indent=1))
    show(found)
    return 0 if all(holds for *_, holds in bars(found)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
