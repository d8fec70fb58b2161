"""What labels that are told by chance cost, and how to learn from them.

    python benchmarks/labels.py OUT [--exposures 40000] [--seeds 1] [--epsilons 4 2 1]

One made shop whose histories are left out, as they are of labels (`unit = "label"`). Every
exposure's outcome is told by randomised response; the ways to learn from that are `unbiased` (a
loss whose mean over the coins is that of the true labels, what the product does), `forward` (the
likelihood of what was told) and `plain` (told labels taken for true ones). The epoch is chosen as
a shop would, by validation exposures whose labels are told too. AUC is against true labels: those
of validation choose the way, which no shop could, and the test's judge it. OUT gets ``labels.md``.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from record import about, keep_line, kept_lines, show
from torch import Tensor

from daogou.artifact.counts import model_of
from daogou.config import read_shop
from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.learn import rates, tally
from daogou.learn.compile import Tables, compile_tables
from daogou.learn.loop import Learner
from daogou.learn.private import generator
from daogou.learn.randomised import hear, randomised
from daogou.learn.settings import settings_of
from daogou.learn.validate import joint_score, validation_losses
from daogou.metrics import auc
from daogou.model import predict
from daogou.model.heads.funnel import FunnelHead
from daogou.model.joint import JointModel
from daogou.model.stages import Conditional, Seen
from daogou.model.stages.randomised import Randomised
from daogou.schema import Shop
from daogou.tables.engine import Engine
from daogou.tables.simulate import simulate

STAGES: Final = ("click", "cart", "purchase")
EPOCHS: Final = 4
FIT: Final = (
    "fit.rows_per_step=512", "fit.extra_items=64", f"fit.epochs={EPOCHS}",
    "model.text_width=16", "model.text_layers=1", "tasks.extract.enabled=false",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One training: AUC of a stage over all exposures, against true labels."""

    seed: int
    epsilon: float
    way: str
    stage: str
    validation: float
    test: float


class Forward(Conditional):
    """The likelihood of what was told, given how likely the stage before is said to be."""

    def __init__(self, coins: Randomised) -> None:
        self.coins = coins

    def __call__(self, seen: Seen) -> Tensor:
        coins, before = self.coins, self.coins.kept * seen.log_before.exp()
        yes = coins.stray + before * seen.logit.sigmoid()
        no = coins.stray_before - coins.stray + before * (-seen.logit).sigmoid()
        nats = (yes + no).log() - yes.where(seen.target == 1, no).log()
        return seen.per_exposure(nats, seen.defined)


def forget(model: JointModel, way: str) -> None:
    """Have a model that hears labels as the product does hear them in another way."""
    head = cast(FunnelHead, model.heads["funnel"])
    for place, loss in enumerate(head.learnt):
        assert isinstance(loss, Randomised)
        if way == "plain":
            head.learnt[place] = Conditional()
        elif way == "forward":
            head.learnt[place] = Forward(loss)


def learnt(shop: Shop, tables: Tables, epsilon: float, way: str) -> dict[str, tuple[float, float]]:
    """Validation's and the test's AUC of each stage, of the epoch that validation liked best."""
    settings, shape = settings_of(shop)
    transform, own, _ = tables
    store = own
    if epsilon:
        store = randomised(own, transform, shop.tasks, epsilon, generator("labels", shop.seed))
    torch.manual_seed(shop.seed)
    model = model_of(transform, store, shop, shape)
    tally.count(model, transform, store)
    rates.count(model, store)
    if epsilon:
        hear(model, transform, store, epsilon)
        forget(model, way)
    learner = Learner(model, settings)
    best, found = np.inf, {}
    for epoch in range(EPOCHS):
        learner.set_rates(epoch)
        learner.epoch(store, learner.plan(store, shop.seed, epoch), (shop.seed, epoch))
        losses = validation_losses(model, store, "validation", history_length=1)
        score = joint_score({task: losses[task] for task in (*STAGES, "match")})
        if score < best or best == np.inf:
            best, found = score, judged(model, transform, own)
    return found


def judged(model: JointModel, transform: Transform, store: Store) -> dict[str, tuple[float, float]]:
    found = {}
    for place, stage in enumerate(STAGES):
        both = []
        for split in ("validation", "test"):
            said = predict.funnel_scores(model, store, split, history_length=1).chances[:, place]
            column = transform.stages.index(stage)
            label = np.asarray(store["exposures/labels"][slice(*store.ranges[split]), column])
            both.append(auc(said[label >= 0], label[label >= 0] == 1))
        found[stage] = (both[0], both[1])
    return found


def compiled(out: Path, exposures: int, seed: int) -> tuple[Shop, Tables]:
    """The made shop without histories, and its tables."""
    folder = out / f"shop{seed}"
    if not folder.exists():
        simulate(
            folder, "easy", seed=seed, users=exposures // 40, items=300, exposures=exposures,
        )  # fmt: skip
    shop = read_shop(folder, [*FIT, f"seed={seed}"])

    def without_past(engine: Engine) -> None:
        engine.run("DELETE FROM history")

    def no_actions(_: Engine, fitted: Transform) -> Transform:
        return replace(fitted, actions=())

    return shop, compile_tables(shop, out / f"tables{seed}", cut=without_past, blend=no_actions)


def table(lines: list[Line]) -> tuple[list[str], list[list[str]]]:
    """A row for each epsilon and way, means over seeds."""
    rows = []
    for epsilon, way in dict.fromkeys((line.epsilon, line.way) for line in lines):
        own = [line for line in lines if (line.epsilon, line.way) == (epsilon, way)]
        row = [f"{epsilon:g}" if epsilon else "-", way]
        for stage in STAGES:
            found = [(line.validation, line.test) for line in own if line.stage == stage]
            row += [f"{mean:.4f}" for mean in np.mean(found, axis=0)]
        rows.append(row)
    heads = [f"{stage}, {what}" for stage in STAGES for what in ("validation", "test")]
    return ["epsilon", "way", *heads], rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--exposures", type=int, default=40_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epsilons", type=float, nargs="*", default=[4.0, 2.0, 1.0])
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "labels.jsonl"
    lines = kept_lines(path, Line)
    contenders = [(0.0, "true labels")]
    contenders += [(e, way) for e in asked.epsilons for way in ("forward", "unbiased", "plain")]
    for seed in range(asked.seeds):
        shop, tables = compiled(asked.out, asked.exposures, seed)
        for epsilon, way in contenders:
            if any((one.seed, one.epsilon, one.way) == (seed, epsilon, way) for one in lines):
                continue
            for stage, (validation, test) in learnt(shop, tables, epsilon, way).items():
                lines.append(Line(seed, epsilon, way, stage, validation, test))
                keep_line(path, lines[-1])
            title = about("labels.py", [str(asked.out)])["command"]
            show(asked.out / "labels.md", {title: table(lines)}, 110)


if __name__ == "__main__":
    main()
