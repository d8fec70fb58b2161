"""One table of categories, and the trainers that compete on it: ours, two peers', a plain loop.

Every contender is the same network: MMoE with 8 experts of 128-64, or PLE with two levels of 3
experts a task and 2 shared ones; two tasks, towers of 32, embeddings of width 16, batches of 2048.
Differences that are each library's own way stay: torch-rechub has BatchNorm in its experts,
DeepCTR-Torch nothing, ours LayerNorm; each trains with its own default optimiser and rate. All
read the same rows in the same order; the peers' loaders shuffle within what they are given.
"""

import contextlib
import io
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from daogou.features.batch import split_batches
from daogou.features.epoch import Epoch
from daogou.features.queries import Queries
from daogou.features.store import Store
from daogou.learn.loop import Learner
from daogou.learn.machine import fast_memory
from daogou.learn.settings import Settings
from daogou.metrics import binary
from daogou.model.embed import Fields
from daogou.model.heads.funnel import FunnelHead, Stage
from daogou.model.joint import JointModel
from daogou.model.meet import Meet
from daogou.model.mixers import MIXERS
from daogou.schema import Task

# The categories of Ali-CCP's public features (Ma et al., "Entire Space Multi-Task Model", SIGIR
# 2018, made the data set); how often a value occurs is drawn from a Zipf law.
ALI_CCP: Final = (
    238635, 467298, 6929, 263942, 106399, 98, 14, 3, 8, 4, 4, 3, 5, 8635, 5853, 105622, 53843,
    31858, 10, 10, 20, 50, 100,
)  # fmt: skip
STEP: Final = 2048
WIDTH: Final = 16
EXPERT: Final = (128, 64)
N_EXPERTS: Final = 8
TOWER: Final = 32
N_OWN, N_SHARED, N_LEVELS = 3, 2, 2  # of PLE: 8 experts a level
Array = NDArray[Any]


# ---- the table --------------------------------------------------------------------------


def scaled(total: int) -> tuple[int, ...]:
    """Vocabularies of the same shape with about ``total`` values in all, at least 2 each."""
    factor = total / sum(ALI_CCP)
    return tuple(max(round(size * factor), 2) for size in ALI_CCP)


def draw(n: int, sizes: Sequence[int], seed: int = 0) -> tuple[Array, Array]:
    """Values ``[n, C]`` and labels ``[n, 2]`` of a planted model.

    Each value has an effect on both logits, correlated 0.6, and columns interact through latent
    vectors of four numbers. About a third and a seventh of the labels are 1; AUCs of 0.82 and 0.81
    are as good as can be. The second label does not wait for the first.
    """
    rng, world = np.random.default_rng(seed), np.random.default_rng(1234)
    values = np.empty((n, len(sizes)), dtype=np.int32)
    logits = np.tile([-1.6, -2.6], (n, 1))
    sides = np.zeros((2, n, 4))
    for column, size in enumerate(sizes):
        share = np.arange(1, size + 1) ** -1.05
        chosen = np.searchsorted(np.cumsum(share) / share.sum(), rng.random(n))
        values[:, column] = np.minimum(chosen, size - 1)
        effect = world.normal(0, 0.25, (size, 2))
        effect[:, 1] = 0.6 * effect[:, 0] + 0.8 * effect[:, 1]
        logits += effect[values[:, column]]
        sides[column % 2] += world.normal(0, 0.3, (size, 4))[values[:, column]]
    met = sides[0] * sides[1]
    logits += 0.7 * np.stack([met[:, :2].sum(1), met[:, 2:].sum(1)], axis=1)
    labels = rng.random((n, 2)) < 1 / (1 + np.exp(-logits))
    return values, labels.astype(np.int8)


# ---- the contenders ---------------------------------------------------------------------


class Contender(Protocol):
    """A model in training. ``kind`` is "mmoe" or "ple"."""

    def train(self, first: int, last: int) -> None:
        """One pass over these rows."""
        ...

    def predict(self, first: int, last: int) -> Array:
        """Chances ``[n, 2]`` of these rows."""
        ...


class Daogou:
    """The product's model, batches and loop on a store that holds the table."""

    def __init__(
        self, kind: str, values: Array, labels: Array, sizes: Sequence[int],
        precision: str = "float32", balancer: str = "fixed",
    ) -> None:  # fmt: skip
        self.store = flat_store(values, labels, sizes)
        self.settings = Settings(balancer=balancer)
        torch.manual_seed(0)
        self.model = flat_model(kind, sum(sizes), len(sizes), bfloat16=precision == "bfloat16")
        self.learner = Learner(self.model, self.settings)
        self.turns = itertools.count()

    def train(self, first: int, last: int) -> None:
        steps = [np.arange(at, min(at + STEP, last)) for at in range(first, last, STEP)]
        nothing = np.zeros(0, dtype=np.int64)
        nobody = Queries(nothing, nothing, nothing)
        n = len(steps)
        plan = Epoch(steps, [nothing] * n, [nothing] * n, [nobody] * n)
        self.learner.epoch(self.store, plan, (0, next(self.turns)))

    def predict(self, first: int, last: int) -> Array:
        self.model.eval()
        head = self.model.heads["funnel"]
        assert isinstance(head, FunnelHead)
        store = Store(self.store.folder, self.store.arrays, {"test": (first, last)})
        batches = split_batches(store, "test", rows_per_step=4096, history_length=1)
        with torch.inference_mode():
            pieces = [head.chances(self.model.encode(batch), batch)[0] for _, batch in batches]
        return torch.cat(pieces, dim=1).T.numpy()


def flat_model(kind: str, n_rows: int, n_columns: int, *, bfloat16: bool) -> JointModel:
    """What `build` makes of a flat shop with these columns and two labels."""
    meet = Meet(
        WIDTH, has_items=False, has_users=False, context=Fields(n_rows, n_columns, 0, WIDTH)
    )
    options: dict[str, Any] = {"n_experts": N_EXPERTS}
    if kind == "ple":
        options = {"n_own": N_OWN, "n_shared": N_SHARED, "n_levels": N_LEVELS}
    mixer = MIXERS[kind](meet.n_outputs, 2, widths=EXPERT, dropout=0.0, gate_dropout=0.0, **options)
    head = FunnelHead(meet, mixer, [Stage(-1, 0), Stage(-1, 1)], tower=TOWER, bfloat16=bfloat16)
    tasks = [Task(name, "funnel", None, 1.0) for name in ("first", "second")]
    return JointModel(tasks, {"funnel": head})


def flat_store(values: Array, labels: Array, sizes: Sequence[int]) -> Store:
    """A store of exposures alone: no users, products, titles or times."""
    n = len(values)
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
    shapes = {
        "items/id": (1,), "items/fields": (1, 0), "items/traits": (1, 0),
        "items/numbers": (1, 0), "items/text": (1,),
        "users/id": (1,), "users/fields": (1, 0), "users/numbers": (1, 0),
        "users/profile": (1, 0), "users/split": (1,), "users/start": (2,),
        "history/item": (0,), "history/action": (0,), "history/time": (0,),
        "texts/tokens": (1, 1, 1),
        "titles/text": (0,), "titles/item": (0,), "titles/split": (0,), "titles/tags": (0, 0, 1),
        "titles/values": (0, 0),
        "queries/user": (0,), "queries/end": (0,), "queries/time": (0,),
        "exposures/item": (n,), "exposures/time": (n,),
    }  # fmt: skip
    arrays: dict[str, Array] = {name: np.zeros(shape, np.int32) for name, shape in shapes.items()}
    for name in ("items/numbers", "users/numbers"):
        arrays[name] = arrays[name].astype(np.float32)
    arrays |= {
        "exposures/query": np.full(n, -1, dtype=np.int32),
        "exposures/weight": np.ones(n, dtype=np.float32),
        "exposures/fields": values + offsets,
        "exposures/numbers": np.zeros((n, 0), dtype=np.float32),
        "exposures/labels": labels,
    }
    return Store(Path(), arrays, {})


class Rechub:
    """torch-rechub's model, loader and trainer, as its README uses them."""

    def __init__(
        self, kind: str, values: Array, labels: Array, sizes: Sequence[int], **_: str
    ) -> None:
        from torch_rechub.basic.features import SparseFeature
        from torch_rechub.models.multi_task import MMOE, PLE
        from torch_rechub.trainers import MTLTrainer
        from torch_rechub.utils.data import DataGenerator

        self.values, self.labels, self.generator = values, labels, DataGenerator
        features = [SparseFeature(f"c{i}", size, embed_dim=WIDTH) for i, size in enumerate(sizes)]
        kinds, experts = ["classification"] * 2, {"dims": list(EXPERT)}
        towers = [{"dims": [TOWER]}] * 2
        torch.manual_seed(0)
        if kind == "mmoe":
            self.model = MMOE(features, kinds, N_EXPERTS, experts, towers)
        else:
            self.model = PLE(features, kinds, N_LEVELS, N_OWN, N_SHARED, experts, towers)
        self.trainer = MTLTrainer(self.model, kinds, n_epoch=1)

    def columns(self, rows: slice) -> dict[str, Array]:
        return {f"c{i}": self.values[rows, i] for i in range(self.values.shape[1])}

    def train(self, first: int, last: int) -> None:
        rows = slice(first, last)
        some = {"x_val": self.columns(rows), "y_val": self.labels[rows],
                "x_test": self.columns(rows), "y_test": self.labels[rows]}  # fmt: skip
        loader, _, _ = self.generator(self.columns(rows), self.labels[rows]).generate_dataloader(
            **some, batch_size=STEP
        )
        self.trainer.train_one_epoch(loader)

    def predict(self, first: int, last: int) -> Array:
        self.model.eval()
        pieces = []
        with torch.no_grad():
            for at in range(first, last, 4096):
                rows = slice(at, min(at + 4096, last))
                given = {k: torch.from_numpy(v.copy()) for k, v in self.columns(rows).items()}
                pieces.append(self.model(given).numpy())
        return np.concatenate(pieces)


class DeepCTR:
    """DeepCTR-Torch's model with its own fit, as its examples use it."""

    def __init__(
        self, kind: str, values: Array, labels: Array, sizes: Sequence[int], **_: str
    ) -> None:
        from deepctr_torch.inputs import SparseFeat
        from deepctr_torch.models import MMOE, PLE

        self.values, self.labels = values, labels
        features = [SparseFeat(f"c{i}", size, WIDTH) for i, size in enumerate(sizes)]
        common: dict[str, Any] = {
            "expert_dnn_hidden_units": EXPERT, "gate_dnn_hidden_units": (),
            "tower_dnn_hidden_units": (TOWER,), "task_types": ["binary"] * 2,
            "task_names": ["first", "second"],
        }  # fmt: skip
        if kind == "mmoe":
            self.model = MMOE(features, num_experts=N_EXPERTS, **common)
        else:
            self.model = PLE(
                features, shared_expert_num=N_SHARED, specific_expert_num=N_OWN,
                num_levels=N_LEVELS, **common,
            )  # fmt: skip
        self.model.compile("adam", loss=["binary_crossentropy"] * 2, metrics=[])

    def columns(self, rows: slice) -> dict[str, Array]:
        return {f"c{i}": self.values[rows, i] for i in range(self.values.shape[1])}

    def train(self, first: int, last: int) -> None:
        rows = slice(first, last)
        self.model.fit(self.columns(rows), self.labels[rows], batch_size=STEP, epochs=1, verbose=0)

    def predict(self, first: int, last: int) -> Array:
        found: Array = self.model.predict(self.columns(slice(first, last)), 4096)
        return found


class Plain:
    """A careful loop in torch alone: one table, sparse gradients, whole batches, fused Adam."""

    def __init__(
        self, kind: str, values: Array, labels: Array, sizes: Sequence[int], **_: str
    ) -> None:
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self.values = torch.from_numpy(values + offsets.astype(np.int64))
        self.labels = torch.from_numpy(labels).float()
        torch.manual_seed(0)
        self.table = nn.Embedding(sum(sizes), WIDTH, sparse=True)
        nn.init.normal_(self.table.weight, std=0.05)
        n_inputs = len(sizes) * WIDTH
        self.net: nn.Module = _PlainMMoE(n_inputs) if kind == "mmoe" else _PlainPLE(n_inputs)
        self.dense = torch.optim.Adam(self.net.parameters(), lr=1e-3, fused=True)
        self.sparse = torch.optim.SparseAdam(list(self.table.parameters()), lr=1e-3)

    def train(self, first: int, last: int) -> None:
        self.net.train()
        for at in range(first, last, STEP):
            rows = slice(at, min(at + STEP, last))
            self.dense.zero_grad()
            self.sparse.zero_grad()
            logits = self.net(self.table(self.values[rows]).flatten(1))
            loss = nn.functional.binary_cross_entropy_with_logits(logits, self.labels[rows])
            loss.backward()
            self.dense.step()
            self.sparse.step()

    def predict(self, first: int, last: int) -> Array:
        self.net.eval()
        with torch.no_grad():
            pieces = [
                self.net(self.table(self.values[at : min(at + 4096, last)]).flatten(1)).sigmoid()
                for at in range(first, last, 4096)
            ]
        return torch.cat(pieces).numpy()


def _mlp(*widths: int) -> nn.Sequential:
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(widths)]
    return nn.Sequential(*itertools.chain.from_iterable(layers))


def _tower() -> nn.Sequential:
    return nn.Sequential(*_mlp(EXPERT[-1], TOWER), nn.Linear(TOWER, 1))


class _PlainMMoE(nn.Module):
    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(_mlp(n_inputs, *EXPERT) for _ in range(N_EXPERTS))
        self.gates = nn.ModuleList(nn.Linear(n_inputs, N_EXPERTS) for _ in range(2))
        self.towers = nn.ModuleList(_tower() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)
        mixed = [(gate(x).softmax(1)[:, None] @ experts)[:, 0] for gate in self.gates]
        return torch.cat([tower(m) for tower, m in zip(self.towers, mixed, strict=True)], dim=1)


class _PlainPLE(nn.Module):
    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for level in range(N_LEVELS):
            n = n_inputs if level == 0 else EXPERT[-1]
            own = nn.ModuleList(
                nn.ModuleList(_mlp(n, *EXPERT) for _ in range(N_OWN)) for _ in range(2)
            )
            shared = nn.ModuleList(_mlp(n, *EXPERT) for _ in range(N_SHARED))
            gates = nn.ModuleList(nn.Linear(n, N_OWN + N_SHARED) for _ in range(2))
            parts: dict[str, nn.Module] = {"own": own, "shared": shared, "gates": gates}
            if level + 1 < N_LEVELS:
                parts["all"] = nn.Linear(n, 2 * N_OWN + N_SHARED)
            self.levels.append(nn.ModuleDict(parts))
        self.towers = nn.ModuleList(_tower() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        branches = [x, x, x]  # two tasks and the shared branch
        for level in self.levels:
            parts: Any = level
            own = [[expert(branches[k]) for expert in parts["own"][k]] for k in range(2)]
            shared = [expert(branches[2]) for expert in parts["shared"]]
            mixed = [_mix(parts["gates"][k](branches[k]), [*own[k], *shared]) for k in range(2)]
            if "all" in parts:
                mixed.append(_mix(parts["all"](branches[2]), [*own[0], *own[1], *shared]))
            branches = mixed
        found = [tower(m) for tower, m in zip(self.towers, branches[:2], strict=True)]
        return torch.cat(found, dim=1)


def _mix(logits: Tensor, experts: Sequence[Tensor]) -> Tensor:
    return (logits.softmax(1)[:, None] @ torch.stack(list(experts), dim=1))[:, 0]


CONTENDERS: Final[Mapping[str, tuple[type, Mapping[str, str]]]] = {
    "daogou": (Daogou, {}),
    "daogou bfloat16": (Daogou, {"precision": "bfloat16"}),
    "torch-rechub": (Rechub, {}),
    "DeepCTR-Torch": (DeepCTR, {}),
    "plain PyTorch": (Plain, {}),
}


# ---- a contender in a process of its own ------------------------------------------------

# Seconds on the wall, or of all cores together, which others on the machine disturb less.
CLOCKS: Final = {"train": time.perf_counter, "train_cpu": time.process_time}


def serve(
    pipe: Connection, name: str, kind: str, folder: str, sizes: Sequence[int], threads: int,
    options: Mapping[str, str],
) -> None:  # fmt: skip
    """Answer ``train``, ``train_cpu``, ``test`` and ``memory`` until the pipe closes."""
    torch.set_num_threads(threads)
    values, labels = (np.load(f"{folder}/{part}.npy") for part in ("values", "labels"))
    maker, own = CONTENDERS[name]
    with _silence(), fast_memory():  # the allocator that pays for ours is there for all
        made: Contender = maker(kind, values, labels, sizes, **own, **options)
        while True:
            try:
                what, first, last = pipe.recv()
            except EOFError:
                return
            if what in CLOCKS:
                started = CLOCKS[what]()
                made.train(first, last)
                pipe.send(CLOCKS[what]() - started)
            elif what == "test":
                pipe.send(judged(labels[first:last], made.predict(first, last)))
            else:
                status = Path("/proc/self/status").read_text("utf-8")
                pipe.send(int(status.split("VmHWM:")[1].split()[0]) / 1e6)


def judged(labels: Array, chances: Array) -> dict[str, list[float]]:
    """AUC and log loss of each task."""
    given = [(chances[:, task].astype(np.float64), labels[:, task]) for task in range(2)]
    return {
        "auc": [binary.auc(*pair) for pair in given],
        "log_loss": [binary.log_loss(*pair) for pair in given],
    }


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The peers print and draw bars."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
