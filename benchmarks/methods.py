"""Every mixer with the plain sum, and PLE with other balancers, on public shops.

    python benchmarks/methods.py SHOPS OUT [--only adult] [--seeds 3] [--threads 1]

SHOPS holds what ``daogou import`` wrote. Each shop has at most some 300,000 exposures: of
completejourney a fifth of the households are taken. Only the funnel's tasks are trained, on one
trunk, in one order of rows, with one budget and the settings of ``real.py``; nothing is tuned per
method. The epoch is picked on validation (``fit.watch``), the numbers are of the test split. OUT
gets ``methods.json`` and ``methods.md``; finished lines of an earlier try are kept.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from real import SETTINGS
from record import about, keep_line, kept_lines, show

from daogou import artifact
from daogou.config import read_shop
from daogou.learn.evaluate import evaluate
from daogou.learn.fit import fit
from daogou.model.mixers import MIXERS
from daogou.tables.engine import Engine, quoted

SHOPS: Final = ("adult", "gms-ga4", "completejourney")
BALANCERS: Final = ("uw", "pcgrad", "upgrad", "famo", "stch", "random")
METHODS: Final[dict[str, tuple[str, ...]]] = {
    **{f"{mixer}, sum": (f'model.mixer="{mixer}"',) for mixer in MIXERS},
    **{f"ple, {name}": ('model.mixer="ple"', f'fit.balancer="{name}"') for name in BALANCERS},
}
DOMAINS: Final = {"gms-ga4": "country"}  # what a mixer that knows domains is told
HOUSEHOLDS: Final = 5  # one of so many households of completejourney
# A fifth of the rows in steps as large as for all of them ends before much is learnt.
STEPS: Final = {"completejourney": ("fit.rows_per_step=512",)}


@dataclass(frozen=True)
class Line:
    """One method on one shop with one seed: the test AUC of each task."""

    shop: str
    method: str
    seed: int
    auc: dict[str, float]
    seconds: float
    parameters: int


def prepared(shops: Path, name: str, out: Path, households: int = HOUSEHOLDS) -> Path:
    """The shop's folder; of completejourney one of every so many households is taken."""
    if name != "completejourney":
        return shops / name
    folder = out / "completejourney"
    if (folder / "shop.toml").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("items.parquet", "users.parquet"):
        shutil.copy(shops / name / file, folder)
    source, target = (quoted(str(each / "events.parquet")) for each in (shops / name, folder))
    with Engine() as engine:
        # The closing event names no household and marks the end of the log.
        engine.run(
            f"COPY (SELECT * FROM {source} WHERE household_id IS NULL OR "
            f"household_id % {households} = 0 ORDER BY time) TO {target}"
        )
    shutil.copy(shops / name / "shop.toml", folder)
    return folder


def measured(folder: Path, name: str, method: str, seed: int, threads: int) -> Line:
    """Fit and judge one method, in a folder that is thrown away."""
    shop = read_shop(folder)
    others = [
        f'tasks."{task.name}".enabled=false' for task in shop.tasks if task.family != "funnel"
    ]
    domain = [f'events.domain="{DOMAINS[name]}"'] if name in DOMAINS else []
    sets = [*SETTINGS[name], *STEPS.get(name, ()), *METHODS[method], *others, *domain]
    with tempfile.TemporaryDirectory(prefix="daogou-methods-") as run:
        told = [f"fit.threads={threads}", f"seed={seed}"]
        answer = fit(read_shop(folder, [*sets, *told]), Path(run) / "run")
        report = evaluate(artifact.load(Path(run) / "run", verify=False))
    aucs = {task: entry["auc"] for task, entry in report["tasks"].items() if "auc" in entry}
    return Line(name, method, seed, aucs, answer["seconds"], answer["parameters"])


def rows_of(lines: Sequence[Line], shop: str) -> list[list[str]]:
    """A heading, then a row per method: mean AUC and its range over seeds for each task."""
    here = [line for line in lines if line.shop == shop]
    tasks = list(here[0].auc)
    rows = [["method", *tasks, "time", "weights"]]
    base = np.mean([line.seconds for line in here if line.method == "shared_bottom, sum"] or [1.0])
    for method in dict.fromkeys(line.method for line in here):
        own = [line for line in here if line.method == method]
        cells = [method]
        for task in tasks:
            values = [line.auc[task] for line in own]
            cells.append(f"{np.mean(values):.4f} ({min(values):.4f} - {max(values):.4f})")
        seconds = float(np.mean([line.seconds for line in own]))
        rows.append([*cells, f"{seconds / base:.1f}", f"{own[0].parameters:,}"])
    return rows


def main(arguments: Sequence[str]) -> int:
    """Fit what is not fitted yet, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("shops", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=SHOPS, default=list(SHOPS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    log = given.out / "lines.jsonl"
    lines = kept_lines(log, Line)
    done = {(line.shop, line.method, line.seed) for line in lines}
    for name in given.only:
        folder = prepared(given.shops, name, given.out)
        for seed in range(given.seeds):
            for method in METHODS:
                if (name, method, seed) in done:
                    continue
                line = measured(folder, name, method, seed, given.threads)
                lines.append(line)
                keep_line(log, line)
                print(name, method, seed, line.auc, f"{line.seconds:.0f} s", file=sys.stderr)
    tables = {}
    for name in dict.fromkeys(line.shop for line in lines):
        heading, *rows = rows_of(lines, name)
        tables[name] = heading, rows
    show(given.out / "methods.md", tables, width=200)
    document = {
        **about("methods.py", arguments),
        "settings": {name: [*SETTINGS[name], *STEPS.get(name, ())] for name in SHOPS},
        "lines": [asdict(line) for line in lines],
    }
    (given.out / "methods.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
