"""Whether a loss mends what clicks select: a cart's chance learnt in seven ways, with its truth.

    python benchmarks/confounded.py OUT [--seeds 3] [--exposures 400000] [--threads 1]

Carts are seen after clicks alone. A made shop (preset ``confounded``) has a hidden intent that
drives both, which no input shows, or has none (``confounder=0``). Everything is trained on the same
rows with the same settings, on click and cart alone and without calibration. Told are the AUC of
the chance of a cart where clicked, that over all exposures, and by how much the mean predicted
chance of a cart, over all exposures, is off the planted one if every exposure were clicked. OUT
keeps the shops and gets ``confounded.json`` and ``confounded.md``; finished lines are kept.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from record import about, keep_line, kept_lines, show
from torch import Tensor

from daogou import artifact
from daogou.artifact import Artifact
from daogou.config import read_shop
from daogou.learn.fit import fit
from daogou.metrics import auc
from daogou.model import predict
from daogou.model.losses import binary
from daogou.model.stages import STAGE_LOSSES, Seen
from daogou.model.stages.escm2 import LEAST_PROPENSITY, Escm2Dr, doubly_robust
from daogou.model.stages.esmm import over_all
from daogou.tables.simulate import simulate
from daogou.tables.truth import read_truth

WORLDS: Final = {"no hidden intent": 0.0, "hidden intent": 1.2}
SETTINGS: Final = (
    "fit.epochs=4", "fit.row_learning_rate=0.1", "fit.row_l2=0.01", "fit.watch=cart",
    "fit.calibration=none", "tasks.purchase.enabled=false", "tasks.match.enabled=false",
)  # fmt: skip
Array = NDArray[Any]


class Unheld(Escm2Dr):
    """Doubly robust with the error's gradient let through to the chance: the fault to be seen."""

    def __call__(self, seen: Seen) -> Tensor:
        robust, _ = doubly_robust(seen)
        foreseen = seen.further[:, 0].sigmoid()
        weights = 1.0 / seen.log_before.detach().exp().clamp(min=LEAST_PROPENSITY)
        wrong = binary(seen.logit, seen.target) - binary(seen.logit, foreseen)
        return robust + seen.per_exposure(weights * wrong.square(), seen.defined) + over_all(seen)


METHODS: Final[dict[str, tuple[str, ...]]] = {
    "where clicked": (),
    "where clicked, click not shared": ("tasks.click.weight=0",),
    "ESMM": ('tasks.cart.loss="esmm"',),
    "ESCM2-IPS": ('tasks.cart.loss="escm2_ips"',),
    "ESCM2-DR": ('tasks.cart.loss="escm2_dr"',),
    "ESCM2-DR, gradient not stopped": ('tasks.cart.loss="escm2_dr"',),
    "not clicked = no cart": ('tasks.cart.loss="marginal"',),
}


@dataclass(frozen=True)
class Line:
    """One method in one world: AUCs, and mean predicted over planted chance, minus 1."""

    world: str
    seed: int
    method: str
    clicked: float
    everywhere: float
    bias: float


@contextmanager
def _unheld(method: str) -> Iterator[None]:
    """The faulty loss in place of the right one, for the method that shows it."""
    kept: Callable[[], Any] = STAGE_LOSSES["escm2_dr"]
    if method.endswith("not stopped"):
        STAGE_LOSSES["escm2_dr"] = Unheld
    try:
        yield
    finally:
        STAGE_LOSSES["escm2_dr"] = kept


def made(folder: Path, seed: int, exposures: int, confounder: float) -> None:
    """A made shop without titles and profiles, which nothing here learns."""
    simulate(folder, "confounded", seed=seed, exposures=exposures, confounder=confounder)
    toml = folder / "shop.toml"
    unread = ("text ", "attributes ", "spans ", "profile ")
    kept = [line for line in toml.read_text("utf-8").splitlines() if not line.startswith(unread)]
    toml.write_text("\n".join(kept) + "\n", encoding="utf-8")


def judged(folder: Path, method: str, threads: int) -> tuple[float, float, float]:
    """AUC where clicked, AUC over all exposures, and the bias, of a test split."""
    sets = [*SETTINGS, *METHODS[method], f"fit.threads={threads}"]
    with tempfile.TemporaryDirectory(prefix="daogou-confounded-") as out, _unheld(method):
        fit(read_shop(folder, sets), Path(out) / "run")
        run = artifact.load(Path(out) / "run", verify=False)
        scores = predict.funnel_scores(
            run.model, run.store, "test", history_length=run.history_length
        )
        truth = planted(folder, run)
        return _told(scores.chances[:, 1], scores.conditional[:, 1], labels_of(run), truth)


def labels_of(run: Artifact) -> Array:
    """Click and cart of the test split, ``[n, 2]``; -1 where missing."""
    at = slice(*run.store.ranges["test"])
    return np.array(run.store["exposures/labels"][at])[:, :2]


def planted(folder: Path, run: Artifact) -> dict[str, Array]:
    """What the shop planted for the exposures of the test split."""
    ids = run.store.exposure_keys("test")["id"].to_pylist()
    return read_truth(folder / "truth").exposures(ids)


def _told(
    chances: Array, given: Array, labels: Array, truth: dict[str, Array]
) -> tuple[float, float, float]:
    known = labels[:, 1] >= 0
    clicked = known & (labels[:, 0] == 1)
    return (
        auc(given[clicked], labels[clicked, 1]),
        auc(chances[known], labels[known, 1]),
        float(given.mean() / truth["p_cart_given"].mean() - 1),
    )


def ceiling(folder: Path) -> tuple[float, float, float]:
    """The same of the planted chances with the intent integrated out: no input knows it."""
    with tempfile.TemporaryDirectory(prefix="daogou-confounded-") as out:
        fit(read_shop(folder, [*SETTINGS, "fit.epochs=1"]), Path(out) / "run")
        run = artifact.load(Path(out) / "run", verify=False)
        truth = planted(folder, run)
        return _told(truth["k_cart"], truth["k_cart_given"], labels_of(run), truth)


def rows_of(lines: Sequence[Line], world: str) -> list[list[str]]:
    """A row per method: means over seeds and their range."""
    rows = []
    for method in dict.fromkeys(line.method for line in lines):
        own = [line for line in lines if (line.world, line.method) == (world, method)]
        if not own:
            continue
        cells = [method]
        for name, form in (("clicked", ".3f"), ("everywhere", ".3f"), ("bias", "+.0%")):
            values = [getattr(line, name) for line in own]
            least, most = format(min(values), form), format(max(values), form)
            cells.append(f"{format(float(np.mean(values)), form)} ({least} to {most})")
        rows.append(cells)
    return rows


def main(arguments: Sequence[str]) -> int:
    """Fit what is not fitted yet, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--exposures", type=int, default=400_000)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    log = given.out / "lines.jsonl"
    lines = kept_lines(log, Line)
    done = {(line.world, line.seed, line.method) for line in lines}
    for seed in range(given.seeds):
        for world, confounder in WORLDS.items():
            folder = given.out / f"{world.replace(' ', '-')}-{seed}"
            if not folder.exists():
                made(folder, seed, given.exposures, confounder)
            for method in ("knowable ceiling", *METHODS):
                if (world, seed, method) in done:
                    continue
                is_ceiling = method not in METHODS
                found = ceiling(folder) if is_ceiling else judged(folder, method, given.threads)
                line = Line(world, seed, method, *found)
                lines.append(line)
                keep_line(log, line)
                print(world, seed, method, *(round(each, 4) for each in found), file=sys.stderr)
    heading = ["loss of a cart", "AUC where clicked", "AUC over all", "mean chance, off by"]
    tables = {world: (heading, rows_of(lines, world)) for world in WORLDS}
    show(given.out / "confounded.md", tables, width=120)
    document = {
        **about("confounded.py", arguments),
        "settings": list(SETTINGS),
        "lines": [asdict(line) for line in lines],
    }
    (given.out / "confounded.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
