"""Two tasks that share their latent factors or do not: what each way of sharing gains and loses.

    python benchmarks/transfer_map.py OUT [--seeds 3] [--threads 1] [--models single_task ple ...]

A made shop of the preset ``transfer`` (800 users, 400 products, ids alone) has a dense task, click
(25 %), and a sparse one, order (2 %), both asked of every exposure: an order's chance is the one
planted for a cart, which here waits for no click. ``kappa`` is the share of taste that both have
in common, ``sign`` how it acts on orders. Every model reads the same rows in the same order; its
epoch is picked on validation, once for each task and once jointly. OUT keeps the shops and gets
``transfer_map.json`` and ``transfer_map.md``; finished lines of an earlier try are kept.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from record import about, keep_line, kept_lines, show

from daogou.artifact.counts import model_of
from daogou.config import read_shop
from daogou.features.store import Store, open_store
from daogou.features.store.compile import compile_store
from daogou.features.transform import Transform
from daogou.features.transform.fit import fit_transform
from daogou.learn.loop import Learner
from daogou.learn.machine import fast_memory
from daogou.learn.settings import settings_of
from daogou.learn.validate import joint_score, validation_losses
from daogou.metrics import auc
from daogou.model import predict
from daogou.schema import Shop
from daogou.tables import prepare
from daogou.tables.engine import Engine
from daogou.tables.simulate import simulate

TASKS: Final = ("click", "order")
SHARED: Final[dict[str, tuple[float, int]]] = {  # name -> kappa, sign
    "kappa 1": (1.0, 1),
    "kappa 1, opposed": (1.0, -1),
    "kappa 0.5": (0.5, 1),
    "kappa 0.5, opposed": (0.5, -1),
    "kappa 0": (0.0, 1),
    "kappa 0, opposed": (0.0, -1),
}
DRAWN: Final = ("kappa 1", "kappa 1, opposed", "kappa 0.5", "kappa 0")
# Picked by the single-task model's validation loss at kappa 0 (seed 0) and everyone's.
SETTINGS: Final = (
    "fit.epochs=8", "fit.row_learning_rate=0.2", "fit.row_l2=0.003",
    "model.width=16", "model.own_width=16",
)  # fmt: skip
SINGLE: Final = "single_task"
MODELS: Final[dict[str, tuple[str, ...]]] = {
    SINGLE: ('model.mixer="single"',),
    "shared_bottom": ('model.mixer="shared_bottom"',),
    "mmoe": ('model.mixer="mmoe"',),
    "ple": ('model.mixer="ple"',),
    "single": ('model.mixer="single"',),
    "stem": ('model.mixer="stem"',),
    "stem, own_norm": ('model.mixer="stem"', "model.own_norm=true"),
}
Array = NDArray[Any]


@dataclass(frozen=True)
class Line:
    """One model on one made shop: test AUC of each task at its own best epoch and at the joint."""

    shared: str
    seed: int
    model: str
    own: dict[str, float]  # task -> AUC at the epoch that is best for the task
    joint: dict[str, float]  # task -> AUC at the joint epoch; of single tasks, their own
    ceiling: dict[str, float]


def make_shop(folder: Path, kappa: float, sign: int, seed: int, **size: int) -> None:
    """A wide table of exposures with both labels, and the chances that were planted.

    ``size`` are other numbers of users, items and exposures than the preset's.
    """
    made = folder / "made"
    simulate(
        made,
        "transfer",
        seed=seed,
        kappa=kappa,
        sign=sign,
        cart_rate=0.02,
        click_sd=1.4,
        cart_sd=1.5,
        **size,
    )
    events = pq.read_table(made / "events.parquet")
    shown = events.filter(pc.equal(events["event"], "impression")).sort_by("ts")
    truth = pq.read_table(made / "truth" / "exposures.parquet")
    place = pc.index_in(shown["id"], value_set=truth["id"].combine_chunks())
    planted = {
        "click": truth["p_click"].take(place).to_numpy(),
        "order": truth["p_cart_given"].take(place).to_numpy(),
    }
    rng = np.random.default_rng([seed, 7])
    table = shown.select(["id", "user_id", "item_id", "ts"])
    for task, chance in planted.items():
        happened = (rng.random(len(chance)) < chance).astype(np.int8)
        table = table.append_column(task, pa.array(happened))
    pq.write_table(table, folder / "events.parquet")
    pq.write_table(pa.table({"id": table["id"], **planted}), folder / "planted.parquet")
    (folder / "shop.toml").write_text(
        f"""name = "transfer-map"
seed = {seed}

[events]
path = "events.parquet"
id = "id"
user = "user_id"
item = "item_id"
time = "ts"
labels = ["click", "order"]

[tasks.match]
enabled = false
""",
        encoding="utf-8",
    )


def compiled(folder: Path, shop: Shop) -> tuple[Transform, Store]:
    """The shop's transform and arrays, made once."""
    done = folder / "transform.json"
    if done.exists():
        document = json.loads(done.read_text("utf-8"))
        return Transform.from_json(document), open_store(folder / "store")
    with Engine() as engine:
        prepare(engine, shop)
        transform = fit_transform(engine, shop)
        store = compile_store(engine, shop, transform, folder / "store")
    done.write_text(json.dumps(transform.to_json()), encoding="utf-8")
    return transform, store


def trained(folder: Path, sets: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Test AUC of each task at its own best epoch and at the joint one, both of validation."""
    shop = read_shop(folder, [*SETTINGS, *sets])
    settings, shape = settings_of(shop)
    transform, store = compiled(folder, shop)
    torch.manual_seed(shop.seed)
    model = model_of(transform, store, shop, shape)
    learner = Learner(model, settings)
    first, last = store.ranges["test"]
    names = [task.name for task in shop.tasks]
    labels = np.asarray(store["exposures/labels"])[first:last]
    found: list[tuple[dict[str, float], dict[str, float]]] = []
    for epoch in range(settings.epochs):
        learner.set_rates(epoch)
        learner.epoch(store, learner.plan(store, shop.seed, epoch), (shop.seed, epoch))
        losses = validation_losses(
            model, store, "validation", history_length=settings.history_length
        )
        scores = predict.funnel_scores(
            model, store, "test", history_length=settings.history_length
        ).chances
        chosen = {name: losses[name].relative for name in names} | {"joint": joint_score(losses)}
        column = {name: transform.stages.index(name) for name in names}
        found.append(
            (chosen, {n: auc(scores[:, i], labels[:, column[n]]) for i, n in enumerate(names)})
        )
    best = {rule: min(found, key=lambda pair: pair[0][rule])[1] for rule in (*names, "joint")}
    return {name: best[name][name] for name in names}, best["joint"]


def line(folder: Path, shared: str, seed: int, model: str) -> Line:
    """One cell of the map: a multi-task model, or a single-task model for each task."""
    kappa, sign = SHARED[shared]
    if not (folder / "shop.toml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        make_shop(folder, kappa, sign, seed)
    if model == SINGLE:
        own: dict[str, float] = {}
        for task in TASKS:
            others = [f"tasks.{other}.enabled=false" for other in TASKS if other != task]
            own |= trained(folder, [*MODELS[model], *others])[0]
        joint = own
    else:
        own, joint = trained(folder, MODELS[model])
    return Line(shared, seed, model, own, joint, ceilings(folder))


def ceilings(folder: Path) -> dict[str, float]:
    """AUC of the planted chances on the same test labels."""
    _, store = compiled(folder, read_shop(folder))
    ids = store.exposure_keys("test")["id"]
    planted = pq.read_table(folder / "planted.parquet")
    rows = pc.index_in(ids, value_set=planted["id"].combine_chunks())
    first, last = store.ranges["test"]
    labels = np.asarray(store["exposures/labels"])[first:last]
    return {
        task: auc(planted[task].take(rows).to_numpy(), labels[:, place])
        for place, task in enumerate(TASKS)
    }


def folder_of(out: Path, shared: str, seed: int) -> Path:
    """Where a made shop is."""
    return out / f"{shared.replace(' ', '-').replace(',', '')}-{seed}"


def drawn(lines: Sequence[Line]) -> list[str]:
    """The ways of sharing that there are lines of."""
    return [shared for shared in SHARED if any(line.shared == shared for line in lines)]


def summary(lines: Sequence[Line], rule: str) -> list[list[str]]:
    """A row per model: dense / sparse AUC, mean over seeds, for each way of sharing."""
    models = ["ceiling", *dict.fromkeys(line.model for line in lines)]
    rows = []
    for model in models:
        cells = [model]
        for shared in drawn(lines):
            told = [
                each.ceiling if model == "ceiling" else getattr(each, rule)
                for each in lines
                if each.shared == shared and model in ("ceiling", each.model)
            ]
            means = [np.mean([each[task] for each in told]) for task in TASKS] if told else []
            cells.append(" / ".join(f"{mean:.3f}" for mean in means) or "-")
        rows.append(cells)
    return rows


def differences(lines: Sequence[Line], rule: str) -> list[list[str]]:
    """A row per model: sparse AUC minus the single-task model's, paired by seed, mean and range."""
    rows = []
    for model in dict.fromkeys(line.model for line in lines if line.model != SINGLE):
        cells = [model]
        for shared in drawn(lines):
            alone = {
                each.seed: each for each in lines if (each.shared, each.model) == (shared, SINGLE)
            }
            pairs = [
                (each, alone[each.seed])
                for each in lines
                if (each.shared, each.model) == (shared, model) and each.seed in alone
            ]
            gaps = [getattr(each, rule)["order"] - base.own["order"] for each, base in pairs]
            room = [each.ceiling["order"] - base.own["order"] for each, base in pairs]
            if not gaps:
                cells.append("-")
                continue
            share = 100 * np.mean(gaps) / np.mean(room)
            cells.append(
                f"{np.mean(gaps):+.3f} ({min(gaps):+.3f} to {max(gaps):+.3f}), {share:.0f} %"
            )
        rows.append(cells)
    return rows


def main(arguments: Sequence[str]) -> int:
    """Fill the map and print it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--shared", nargs="*", choices=SHARED, default=list(DRAWN))
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    log = given.out / "lines.jsonl"
    given.out.mkdir(parents=True, exist_ok=True)
    lines = {(each.shared, each.seed, each.model): each for each in kept_lines(log, Line)}
    with fast_memory():
        for seed in range(given.seeds):
            for shared in given.shared:
                folder = folder_of(given.out, shared, seed)
                for model in given.models:
                    if (shared, seed, model) in lines:
                        continue
                    made = line(folder, shared, seed, model)
                    lines[shared, seed, model] = made
                    keep_line(log, made)
                    print(made.shared, made.seed, made.model, made.own, file=sys.stderr)
    told = list(lines.values())
    pages = {
        "AUC, click / order, each task at its own best epoch": summary(told, "own"),
        "AUC, click / order, at the joint epoch": summary(told, "joint"),
        "order, minus the single-task model, own epochs (least to most), % of its gap": differences(
            told, "own"
        ),
        "order, minus the single-task model, joint epoch": differences(told, "joint"),
    }
    heading = ["model", *drawn(told)]
    tables = {title: (heading, rows) for title, rows in pages.items()}
    show(given.out / "transfer_map.md", tables, width=150)
    document = {
        **about("transfer_map.py", arguments),
        "settings": list(SETTINGS),
        "models": MODELS,
        "lines": [asdict(each) for each in told],
    }
    (given.out / "transfer_map.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
