"""Which engine should rank: torch as it is, torch compiled, or ONNX Runtime?

    python benchmarks/engine.py RUN OUT [--candidates 500] [--rounds 9] [--only eager traced ...]

What is timed is the costliest part of an answer: the funnel's layers over the candidates of one
user, up to the stages' logits. All engines answer the same question by turns, ``CALLS`` times a
round, with one thread; milliseconds are of processor time. Beside them how long an engine takes to
be ready, and by how much its logits differ from those of torch as it is. An engine that is not
installed (``pip install onnx onnxruntime``), or for which there is no compiler, is left out and
said. OUT gets ``engine.json``.
"""

import argparse
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import torch
from record import about, show
from torch import Tensor, nn

from daogou.features.batch import Batch
from daogou.features.columns import Columns
from daogou.guide import Guide
from daogou.model.encoded import Encoded
from daogou.model.group import Grid
from daogou.model.heads.funnel import FunnelHead

CALLS: Final = 20  # of a round
WARM: Final = 20
Ask = Callable[[], Tensor]


class Ranked(nn.Module):
    """A funnel's logits ``[T, B]`` of one user's candidates, from tensors alone."""

    def __init__(self, head: FunnelHead) -> None:
        super().__init__()
        self.head = head

    def forward(
        self,
        items: Tensor,
        ids: Tensor,
        user: Tensor,
        events: Tensor,
        action: Tensor,
        repeats: Tensor,
        fields: Tensor,
        numbers: Tensor,
    ) -> Tensor:
        n, nothing = items.shape[0], Columns({})
        exposures = Columns(
            {
                "item": torch.arange(n), "user": torch.zeros(n, dtype=torch.int64),
                "fields": fields, "numbers": numbers, "repeats": repeats,
            }
        )  # fmt: skip
        batch = Batch(
            exposures, Columns({"action": action}), nothing, nothing, nothing, torch.zeros(0)
        )
        encoded = Encoded(items=items, events=events, users=user, item_ids=ids)
        logits: Tensor = self.head.towers(encoded, batch).logits
        return logits


def one_user(user: Tensor) -> Grid:
    """What `grid_of` finds where all exposures are one user's, without a look at the values."""
    place = torch.arange(user.shape[0])
    return Grid(user[:1], place, place, user.shape[0])


def question(guide: Guide, n: int) -> list[Tensor]:
    """The tensors that `Ranked` reads for the user with the longest past and ``n`` candidates."""
    scorer, store = guide.scorer, guide.artifact.store
    assert scorer.vectors is not None and scorer.items.item_ids is not None
    row = int(np.diff(store["users/start"]).argmax())
    queries = scorer.queries([row])
    shoppers = scorer.shoppers(queries)
    assert shoppers is not None and scorer.items.marks is not None
    rows = torch.from_numpy(np.random.default_rng(0).integers(1, store.n_items + 1, n))
    fields, numbers = scorer.context(None, n)
    repeats = scorer.repeats(queries, torch.zeros(n, dtype=torch.int64), scorer.items.marks[rows])
    encoded = shoppers.encoded
    assert encoded.users is not None and encoded.events is not None
    found = [
        scorer.vectors[rows], scorer.items.item_ids[rows], encoded.users, encoded.events,
        shoppers.columns["action"], repeats, torch.from_numpy(fields.astype(np.int64)),
        torch.from_numpy(numbers.astype(np.float32)),
    ]  # fmt: skip
    return [each.clone() for each in found]  # of inference, which traces cannot read


def eager(model: Ranked, asked: list[Tensor]) -> Ask:
    """Torch as it is."""
    return partial(model, *asked)


def traced(model: Ranked, asked: list[Tensor]) -> Ask:
    """One recorded graph."""
    with torch.no_grad():
        graph = torch.jit.freeze(torch.jit.trace(model, asked, check_trace=False))
    return partial(graph, *asked)


def compiled(model: Ranked, asked: list[Tensor]) -> Ask:
    """Fused kernels for any number of candidates; wants a C++ compiler."""
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # as where it is compiled first
    return partial(torch.compile(model, dynamic=True), *asked)


def onnx(model: Ranked, asked: list[Tensor]) -> Ask:
    """ONNX Runtime on an exported graph."""
    onnxruntime = importlib.import_module("onnxruntime")
    names = ["items", "ids", "user", "events", "action", "repeats", "fields", "numbers"]
    axes = {name: {0: "n"} for name in ("items", "ids", "repeats", "fields", "numbers")}
    axes |= {name: {1: "length"} for name in ("events", "action")}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "ranked.onnx")
        with torch.no_grad():
            torch.onnx.export(
                model, tuple(asked), path, dynamo=False, opset_version=17, input_names=names,
                dynamic_axes=axes,
            )  # fmt: skip
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    wanted = {each.name for each in session.get_inputs()}
    feed = {name: each.numpy() for name, each in zip(names, asked, strict=True) if name in wanted}
    return lambda: torch.from_numpy(session.run(None, feed)[0])


ENGINES: Final[dict[str, Callable[[Ranked, list[Tensor]], Ask]]] = {
    "eager": eager, "traced": traced, "compiled": compiled, "onnx": onnx,
}  # fmt: skip


def milliseconds(ask: Ask) -> float:
    """Of processor time for one of some calls."""
    start = time.process_time()
    for _ in range(CALLS):
        ask()
    return 1000 * (time.process_time() - start) / CALLS


@torch.inference_mode()
def measure(guide: Guide, n: int, rounds: int, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each engine that can be had."""
    head = guide.artifact.model.heads["funnel"]
    assert isinstance(head, FunnelHead)
    model, asked = Ranked(head).eval(), question(guide, n)
    usual, ready = model(*asked), {}
    asks: dict[str, Ask] = {}
    for name in names:
        start = time.perf_counter()  # compilers are processes of their own
        try:
            ask = ENGINES[name](model, asked)
            answer = ask()
        except Exception as error:
            print(f"{name}: left out: {type(error).__name__}: {error}"[:300], file=sys.stderr)
            continue
        ready[name] = time.perf_counter() - start, float((answer - usual).abs().max())
        for _ in range(WARM):
            ask()
        asks[name] = ask
    times: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(rounds):
        for name, ask in asks.items():
            times[name].append(milliseconds(ask))
    return [
        {
            "engine": name, "ms": statistics.median(took), "least_ms": min(took),
            "over_eager": statistics.median(
                ours / theirs for ours, theirs in zip(took, times["eager"], strict=True)
            ),
            "ready_s": ready[name][0], "difference": ready[name][1],
        }
        for name, took in times.items()
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every engine and show a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # tracers tell of each branch that they take for granted
    given.out.mkdir(parents=True, exist_ok=True)
    names = ["eager", *(name for name in given.only if name != "eager")]
    guide = Guide.load(given.run)
    with mock.patch("daogou.model.meet.grid_of", one_user):
        rows = measure(guide, given.candidates, given.rounds, names)
    document = {**about("engine.py", list(arguments or sys.argv[1:])), "rows": rows}
    (given.out / "engine.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    heading = ["engine", "ms", "least", "over eager", "ready in s", "largest difference"]
    cells = [
        [
            row["engine"], f"{row['ms']:.2f}", f"{row['least_ms']:.2f}",
            f"{row['over_eager']:.2f}", f"{row['ready_s']:.1f}", f"{row['difference']:.1e}",
        ]
        for row in rows
    ]  # fmt: skip
    show(given.out / "engine.md", {"Engines": (heading, cells)}, width=90)


if __name__ == "__main__":
    main()
