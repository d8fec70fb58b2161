"""Five shops that differ: one table, each alone, or together without moving a row.

    python benchmarks/federate.py OUT [--exposures 60000] [--shops 5] [--seeds 1] [--only NAME ...]

Contenders take equal passes over equal rows: `central` is one fit of all tables, `alone` a fit of
each shop, the others are federations: `fedavg`, `failing` (a shop does not answer with a chance of
.2 each time), `poisoned` (the last shop tells ten times the opposite of what it learnt) and three
with `geometric_median` and a bound on lengths: `careful` (nobody lies), `robust` (the lie of
`poisoned`) and `subtle` (the opposite at its honest length). The test split's AUC of a stage is
taken in each shop over the same exposures for all, and averaged over shops; beside a mean over
seeds stands the standard deviation over them. OUT keeps shops, runs and lines, and gets
``federate.md``.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from parted import part
from record import about, keep_line, kept_lines, show

from daogou import artifact
from daogou.config import read_shop
from daogou.errors import DaogouError
from daogou.learn.aggregate import Tensors
from daogou.learn.answers import answers_of
from daogou.learn.carriers import Here
from daogou.learn.federate import federate, lead, read_federation
from daogou.learn.fit import fit
from daogou.learn.judge import questions
from daogou.learn.silo import Reply, Silo
from daogou.tables.simulate import simulate

STAGES: Final = ("click", "cart")
ROUNDS: Final = 6
FIT: Final = {
    "rows_per_step": 512, "history_length": 20, "extra_items": 64, "epochs": ROUNDS, "patience": 9,
}  # fmt: skip
MODEL: Final = {"text_width": 16, "text_layers": 1}
ROBUST: Final = {"rule": "geometric_median", "norm_bound": 2.0}
FEDERATIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "fedavg": {},
    "failing": {},
    "poisoned": {},
    "careful": ROBUST,
    "robust": ROBUST,
    "subtle": ROBUST,
}
LIES: Final = {"poisoned": -10.0, "robust": -10.0, "subtle": -1.0}  # times what was learnt
CONTENDERS: Final = ("central", "alone", *FEDERATIONS)


@dataclass(frozen=True)
class Line:
    """A contender's test AUC of a stage in one shop."""

    seed: int
    contender: str
    shop: str
    stage: str
    auc: float
    positives: int


@dataclass(frozen=True)
class Part:
    """What a shop has of the whole: its users, and when its log ends, before the whole's does.

    A label whose window closes later is known to the whole log alone, and is asked of nobody.
    """

    users: frozenset[str]
    end_us: int


class Meddled(Here):
    """Shops of which some do not answer, or lie."""

    def __init__(self, silos: Mapping[str, Silo], how: str, seed: int) -> None:
        super().__init__(silos)
        self.how, self.seed = how, seed

    def ask(
        self, what: str, number: int, document: Mapping[str, Any], sent: Tensors
    ) -> Mapping[str, Reply | DaogouError]:
        heard = dict(super().ask(what, number, document, sent))
        if what != "train":
            return heard
        if self.how == "failing":
            chances = np.random.default_rng([self.seed, number]).random(len(heard))
            away = {
                name for name, chance in zip(sorted(heard), chances, strict=True) if chance < 0.2
            }
            return {name: reply for name, reply in heard.items() if name not in away}
        if self.how in LIES:
            liar = max(heard)
            reply = heard[liar]
            assert isinstance(reply, Reply)
            lie = {name: LIES[self.how] * each for name, each in reply.tensors.items()}
            heard[liar] = Reply(reply.document, lie)
        return heard


def overrides() -> list[str]:
    """The settings of all fits, as `--set` has them."""
    given = [f"fit.{key}={value}" for key, value in FIT.items()]
    given += [f"model.{key}={value}" for key, value in MODEL.items()]
    return [*given, "tasks.extract.enabled=false"]


def judged(
    run: Path, contender: str, seed: int, parts: Mapping[str, Part] | None = None
) -> list[Line]:
    """The lines of a run: of its own shop, or of all that is asked of each shop."""
    loaded = artifact.load(run, verify=False)
    store, model = loaded.store, loaded.model
    said = answers_of(
        model, store, loaded.transform, "test",
        history_length=loaded.history_length, families=("funnel",),
    )  # fmt: skip
    found = []
    keys = {row: key for key, row in store.user_rows.items()}
    for question in questions(loaded.shop, store, loaded.transform, "test"):
        if question.name not in STAGES:
            continue
        user = np.array([keys.get(row, "") for row in question.user.tolist()])
        for shop, has in parts.items() if parts else [(run.name, None)]:
            asked = question
            if has is not None:
                assert loaded.shop.events is not None
                known = has.end_us - loaded.shop.events.window_us(question.name)
                time = store["exposures/time"][question.rows]
                asked = question.only(np.isin(user, list(has.users)) & (time <= known))
            value = asked.judge(said[question.name])
            found.append(Line(seed, contender, shop, question.name, value.value, value.positives))
    return found


def federated(folder: Path, out: Path, name: str, seed: int) -> list[Line]:
    """A federation's lines; transforms and stores are those of the first that was run."""
    run, agreed = out / name, out / "agreed"
    shops, asked = read_federation(folder, seed=seed)
    asked |= {"fit": FIT, "model": MODEL, "federate": {"rounds": ROUNDS, "patience": 9}}
    asked["federate"] |= FEDERATIONS[name]

    def keep(what: str, done: int, total: int, words: str) -> None:
        if what == "agree" and done == total and not agreed.exists():
            shutil.copytree(run, agreed)
            (agreed / "started.json").unlink()

    if (run / "federate.json").exists():
        pass  # a try that was killed before its lines were written
    elif name == "fedavg":
        federate(shops, run, asked, resume=True, progress=keep)
    elif not agreed.exists():
        raise SystemExit(f"{name}: begins where the shops of fedavg agreed; run that first")
    else:
        if not run.exists():
            shutil.copytree(agreed, run)
        key = (run / "key.txt").read_text()
        silos = {each: Silo(shop, run / "shops" / each, key=key) for each, shop in shops.items()}
        lead(Meddled(silos, name, seed), run, asked)
    return [line for each in shops for line in judged(run / "shops" / each, name, seed)]


def central(whole: Path, out: Path, seed: int, parts: Mapping[str, Part]) -> list[Line]:
    run = out / "central"
    shutil.rmtree(run, ignore_errors=True)
    fit(read_shop(whole, [*overrides(), f"seed={seed}"]), run)
    return judged(run, "central", seed, parts)


def alone(folder: Path, out: Path, seed: int) -> list[Line]:
    lines: list[Line] = []
    for place in sorted(each.parent for each in folder.glob("*/shop.toml")):
        run = out / "alone" / place.name
        shutil.rmtree(run, ignore_errors=True)
        run.parent.mkdir(exist_ok=True)
        fit(read_shop(place, [*overrides(), f"seed={seed}"]), run)
        lines += judged(run, "alone", seed)
    return lines


def made(out: Path, exposures: int, n: int, seed: int) -> tuple[Path, Path, dict[str, Part]]:
    """The whole shop, the folder of its parts, and what each has of it."""
    whole, parts = out / "whole", out / "shops"
    if not parts.exists():
        shutil.rmtree(whole, ignore_errors=True)
        shutil.rmtree(out / "parting", ignore_errors=True)
        simulate(whole, "easy", seed=seed, users=exposures // 40, items=300, exposures=exposures)
        part(whole, out / "parting", n=n, seed=seed)
        for place in (out / "parting").glob("*/shop.toml"):
            _without_titles(place)
        _without_titles(whole / "shop.toml")
        (out / "parting").rename(parts)
    return (
        whole,
        parts,
        {place.parent.name: _part(place.parent) for place in parts.glob("*/shop.toml")},
    )


def _without_titles(toml: Path) -> None:
    """Titles are not what is compared; to learn to read them takes most of the time."""
    toml.write_text(toml.read_text("utf-8") + "\n[tasks.extract]\nenabled = false\n", "utf-8")


def _part(folder: Path) -> Part:
    users = pq.read_table(folder / "users.parquet")["user_id"].to_pylist()
    with duckdb.connect() as db:
        last = f"SELECT epoch_us(max(ts::TIMESTAMP)) FROM '{folder}/events.parquet'"
        return Part(frozenset(map(str, users)), int(db.execute(last).fetchall()[0][0]))


def table(lines: list[Line]) -> tuple[list[str], list[list[str]]]:
    """AUC of each contender, mean of shops and seeds, and less that of central and of fedavg."""
    seeds = sorted({line.seed for line in lines})

    def of(name: str, stage: str) -> NDArray[np.float64]:
        return np.array([_mean(lines, (seed, name, stage)) for seed in seeds])

    rows = []
    for name in CONTENDERS:
        row = [name]
        for stage in STAGES:
            row.append(_spread(of(name, stage), ".4f"))
            row += [
                _spread(of(name, stage) - of(other, stage), "+.4f")
                for other in ("central", "fedavg")
            ]
        rows.append(row)
    heading = ["contender"]
    for stage in STAGES:
        heading += [stage, "to central", "to fedavg"]
    return heading, rows


def _mean(lines: list[Line], of: tuple[int, str, str]) -> float:
    own = [line.auc for line in lines if (line.seed, line.contender, line.stage) == of]
    return float(np.nanmean(own)) if own else float("nan")


def _spread(by_seed: NDArray[np.float64], form: str) -> str:
    known = by_seed[~np.isnan(by_seed)]
    if not len(known):
        return "-"
    return f"{known.mean():{form}}" + (f" ± {known.std(ddof=1):.4f}" if len(known) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--exposures", type=int, default=60_000)
    parser.add_argument("--shops", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=CONTENDERS)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "federate.jsonl"
    lines = kept_lines(path, Line)
    for seed in range(asked.seeds):
        out = asked.out / f"seed{seed}"
        out.mkdir(exist_ok=True)
        whole, folder, parts = made(out, asked.exposures, asked.shops, seed)
        ways: dict[str, Callable[[], list[Line]]] = {
            "central": lambda: central(whole, out, seed, parts),  # noqa: B023 - called at once
            "alone": lambda: alone(folder, out, seed),  # noqa: B023
        }
        for name in asked.only:
            if any((line.seed, line.contender) == (seed, name) for line in lines):
                continue
            found = ways[name]() if name in ways else federated(folder, out, name, seed)
            for line in found:
                keep_line(path, line)
            lines += found
            title = about("federate.py", sys.argv[1:])["command"]
            show(asked.out / "federate.md", {title: table(lines)}, 160)


if __name__ == "__main__":
    main()
