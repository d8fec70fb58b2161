"""What a shop's run is worth in another shop, how soon a newcomer is known, learned weights.

    python benchmarks/adapt.py OUT [--shops SHOPS] [--only overlap apart departments cold weights]
                               [--seeds 5] [--sizes 100 300 1000 3000 10000]

``overlap`` and ``apart``: made shops of 1,000 users and 1,000 products, told apart by category,
brand, colour, material, style and price. The source has 100,000 exposures; the target 25,000 of
other products, half of its users the source's; taste overlaps by 0.8, and not at all.
``departments``: of the public completejourney (imported into SHOPS) groceries teach, drugs and meat
learn, each a shop of its own; the same households, other products. ``cold``: clicks of the made
source's test users with 40 events and more, as if the latest 0, 1, 2, 5, 10 or 20 of their events
were all that is known and their id were new (`newcomers.py`); likewise of products, by their
exposures. ``weights``: on a made shop whose stages share .3 of taste and one bottom, weights that
the balancer ``bilevel`` learns against static ones, tuned on validation.

OUT keeps shops and runs, which are taken up again, and gets ``adapt.json`` and ``adapt.md``. The
exit status is 1 if a bar is missed.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from newcomers import EVENTS, WAYS, Told, newcomers
from record import about, between, show

from daogou import artifact
from daogou.config import read_shop
from daogou.learn.compile import compile_tables
from daogou.learn.contenders import Runs, contender, joint_score_of
from daogou.learn.differences import SINGLE, Asked, document_of
from daogou.learn.fit import fit
from daogou.learn.transfer import transfer
from daogou.learn.variant import varied
from daogou.learn.ways import Wanted
from daogou.schema import Shop
from daogou.tables.engine import Engine, quoted
from daogou.tables.simulate import simulate

WORTH: Final = 3.0  # samples from scratch that one of 1,000 is worth, of the first stage
NEAR: Final = 1_000
COLD: Final = 0.6  # of a warm user's way from a coin to their AUC, with `FEW` events
FEW: Final = 5
NOISE: Final = 0.005  # AUC
STATIC: Final = (0.3, 1.0, 3.0)  # weights of the later stage, beside 1 of the first
SIZES: Final = (100, 300, 1_000, 3_000, 10_000)
WORLD: Final[Mapping[str, Any]] = {
    "users": 1_000, "items": 1_000, "policy": 0.3, "theta": 0.2, "content": 0.9,
    "cart_rate": 0.3, "confounder": 0.0,
}  # fmt: skip
MADE: Final = """name = "{name}"
seed = 0

[items]
path = "items.parquet"
key = "item_id"
columns = ["category", "brand", "colour", "material", "style", "price"]

[users]
path = "users.parquet"
key = "user_id"
columns = ["city"]

[events]
path = "events.parquet"
user = "user_id"
item = "item_id"
time = "ts"
kind = "event"
funnel = ["impression", "click", "cart"]
window_h = {{ click = 1, cart = 24 }}
context = ["position", "device"]
request = "request"
id = "id"

[tasks.match]
enabled = false

[fit]
epochs = 12
"""
_SAID: Final = {True: "PASS", False: "MISS", None: ""}
DEPARTMENTS: Final = {"grocery": "GROCERY", "drug": "DRUG GM", "meat": "MEAT"}


@dataclass(frozen=True)
class Bench:
    """Where things are, and how often each fit is repeated."""

    out: Path
    shops: Path
    seeds: int
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Check:
    """A number against its bar; None where it is only told."""

    what: str
    value: float
    bar: str
    holds: bool | None


Part = tuple[dict[str, Any], list[Check], dict[str, tuple[Sequence[str], Sequence[Sequence[str]]]]]


def made_shop(bench: Bench, name: str, exposures: int, **world: Any) -> Shop:
    """A made shop of the benchmark's world, made once."""
    folder = bench.out / "shops" / name
    if not (folder / "whole").exists():
        simulate(folder, "easy", seed=0, exposures=exposures, **WORLD, **world)
        (folder / "shop.toml").write_text(MADE.format(name=name), encoding="utf-8")
        (folder / "whole").touch()
    return read_shop(folder)


def fitted(bench: Bench, name: str, shop: Shop) -> Path:
    """The run of a shop that others begin with."""
    run = bench.out / f"run-{name}"
    if not (run / "manifest.json").exists():
        fit(shop, run, resume=run.exists(), progress=told)
    return run


def moved(bench: Bench, name: str, source: Path, shop: Shop) -> Any:
    """The document of a transfer, made once."""
    run = bench.out / f"to-{name}"
    kept = run / "transfer" / "transfer.json"
    if not (run / "manifest.json").exists():
        transfer(source, shop, run, Wanted(sizes=bench.sizes, seeds=bench.seeds),
                 resume=run.exists(), progress=told)  # fmt: skip
    return artifact.read_document(kept)


def told(what: str, done: int, total: int, words: str) -> None:
    """Progress by run."""
    if what == "run":
        print(done, total, words, file=sys.stderr, flush=True)


# ---- made shops --------------------------------------------------------------------------------


def overlapping(bench: Bench) -> Part:
    """A made target whose taste is mostly the source's."""
    document = made(bench, 0.8)
    return document, [worth(document)], pages("overlap 0.8", document)


def apart(bench: Bench) -> Part:
    """A made target that has no taste in common with the source."""
    document = made(bench, 0.0)
    return document, [falls_back(document)], pages("overlap 0", document)


def made(bench: Bench, overlap: float) -> Any:
    """The transfer from the made source to the domain beside it."""
    source = fitted(bench, "source", made_shop(bench, "source", 100_000))
    name = f"overlap-{overlap}"
    shop = made_shop(bench, name, 25_000, domain=1, overlap=overlap, shared_users=0.5)
    return moved(bench, name, source, shop)


def worth(document: Mapping[str, Any]) -> Check:
    """Of the way that is best on validation there, how many samples one of 1,000 is worth."""
    scores = document["sizes"][str(NEAR)]["validation"]
    way = min((way for way in scores if way != "scratch"), key=lambda way: np.mean(scores[way]))
    entry = document["equivalence"][way]["click"][str(NEAR)]
    holds = entry["factor"] >= WORTH and entry["bound"] != "at_most"
    return Check(f"overlap 0.8, {way}: samples that one of {NEAR} is worth", entry["factor"],
                 f">= {WORTH}", holds)  # fmt: skip


def falls_back(document: Mapping[str, Any]) -> Check:
    """Nothing helps where nothing overlaps, and what is kept was learnt from scratch."""
    whole = document["sizes"][str(document["n"])]["against"]
    said = {each["verdict"] for tasks in whole.values() for each in tasks.values()}
    holds = "HELPS" not in said and document["chosen"] == "scratch"
    return Check(f"overlap 0: keeps {document['chosen']}; {', '.join(sorted(said))}", np.nan,
                 "scratch, without HELPS", holds)  # fmt: skip


def pages(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """A table of each stage: a row a way, a column a size, and the verdict against scratch."""
    sizes = list(document["sizes"])
    found = {}
    for task in document["sizes"][sizes[0]]["values"]["scratch"]:
        rows = []
        for way in document["sizes"][sizes[0]]["values"]:
            cells = [way]
            for n in sizes:
                each = document["sizes"][n]
                entry = each["against"].get(way, {}).get(task)
                value = f"{np.mean(each['values'][way][task]):.4f}"
                worth_of = document["equivalence"].get(way, {}).get(task, {}).get(n)
                cells.append(f"{value} {entry['verdict']} x{worth_of['factor']:.1f}" if entry
                             else value)  # fmt: skip
            rows.append(cells)
        found[f"{name}, {task}"] = (("way", *sizes), rows)
    before = document["source_tasks"]["before"]
    rows = [
        [way, *(f"{after[task] - value:+.4f}" for task, value in before.items())]
        for way, after in document["source_tasks"]["after"].items()
    ]
    found[f"{name}, what the source's AUC changes by"] = (("way", *before), rows)
    return found


# ---- departments -------------------------------------------------------------------------------


def department(bench: Bench, name: str) -> Shop:
    """The products of one department and what became of them, as a shop of its own."""
    source, folder = bench.shops / "completejourney", bench.out / "shops" / name
    if not (folder / "whole").exists():
        folder.mkdir(parents=True, exist_ok=True)
        items, events = (quoted(str(source / f"{each}.parquet")) for each in ("items", "events"))
        where = f"department = {quoted(DEPARTMENTS[name])}"
        keys = f"SELECT product_id FROM {items} WHERE {where}"
        with Engine() as engine:
            for table, sql in (
                ("items", f"SELECT * FROM {items} WHERE {where}"),
                # Every fifth household, so that the largest department is a matter of minutes.
                ("events", f"SELECT * FROM {events} WHERE kind = 'closed' OR (product_id IN "
                           f"({keys}) AND household_id % 5 = 0) ORDER BY time"),
            ):  # fmt: skip
                path = quoted(str(folder / f"{table}.parquet"))
                engine.run(f"COPY ({sql}) TO {path}")
        text = (source / "shop.toml").read_text("utf-8")
        text = text.replace('name = "completejourney"', f'name = "{name}"')
        text = text.replace('"users.parquet"', json.dumps(str(source / "users.parquet")))
        kept = [line for line in text.split("\n") if not line.startswith("profile =")]
        text = "\n".join(kept).replace('"purchase", "coupon"]', '"purchase"]')
        text = text.replace(", coupon = 168", "").replace('"department", ', "")
        text += "\n[tasks.match]\nenabled = false\n\n[fit]\nepochs = 6\n"
        (folder / "shop.toml").write_text(text, encoding="utf-8")
        (folder / "whole").touch()
    return read_shop(folder)


def by_department(bench: Bench) -> Part:
    """From groceries to drugs and to meat."""
    source = fitted(bench, "grocery", department(bench, "grocery"))
    found: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    for name in ("drug", "meat"):
        document = moved(bench, name, source, department(bench, name))
        found[name] = document
        tables |= pages(f"grocery to {name}", document)
    return found, [], tables


# ---- newcomers ---------------------------------------------------------------------------------


def by_events(bench: Bench) -> Part:
    """How far a few events go with the id unknown, by the model and by further heads."""
    run = artifact.load(fitted(bench, "source", made_shop(bench, "source", 100_000)), verify=False)
    found: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    checks: list[Check] = []
    for kind in ("user", "item"):
        told_of = {n: newcomers(run, kind, n) for n in EVENTS}
        rows = [
            [str(n), *(f"{each.values[way]:.4f}" for way in WAYS), f"{each.warm:.4f}",
             f"{100 * share(each):.0f} %",
             *(between(each.against[way].value, each.against[way].low, each.against[way].high, "+")
               for way in ("laplace", "generated"))]
            for n, each in told_of.items()
        ]  # fmt: skip
        heads = ("events", *WAYS, "warm", "model, of the warm gap", "laplace less model",
                 "generated less model")  # fmt: skip
        tables[f"new {kind}s, AUC of click"] = (heads, rows)
        found[kind] = {str(n): {"values": dict(each.values), "warm": each.warm} for n, each in
                       told_of.items()}  # fmt: skip
        if kind == "user":
            reached = share(told_of[FEW])
            checks.append(Check(f"{FEW} events: share of a warm user's gap", reached, f">= {COLD}",
                                bool(reached >= COLD)))  # fmt: skip
        best = max(each for way, each in told_of[FEW].values.items() if way != "model")
        behind = best - told_of[FEW].values["model"]
        checks.append(Check(f"{FEW} events of a new {kind}: best other way less the model", behind,
                            f"<= {NOISE}", bool(behind <= NOISE)))  # fmt: skip
    return found, checks, tables


def share(told_of: Told) -> float:
    """Of the way from a coin to who is warm, what the model goes with the events."""
    return (told_of.values["model"] - 0.5) / (told_of.warm - 0.5)


# ---- weights -----------------------------------------------------------------------------------


def by_weights(bench: Bench) -> Part:
    """Learned weights of two stages against static ones, of which validation takes the best."""
    shop = varied(made_shop(bench, "weights", 25_000, kappa=0.3),
                  model={"mixer": "shared_bottom"},
                  training={"rows_per_step": 512, "gram_every": 2})  # fmt: skip
    folder = bench.out / "weights"
    tables = folder / "tables"
    folder.mkdir(exist_ok=True)
    compile_tables(shop, tables)
    seeds = range(bench.seeds)
    runs = Runs(folder, seeds, told, len(seeds) * (len(STATIC) + 1))

    def learnt(name: str, variant: Shop) -> tuple[str, list[Path]]:
        return name, [runs.judged(name, variant, seed, "joint", like=tables) for seed in seeds]

    static = [
        learnt(f"cart {weight}", varied(shop, tasks={"cart": {"weight": weight}}))
        for weight in STATIC
    ]
    bilevel = learnt("bilevel", varied(shop, training={"balancer": "bilevel"}))
    scores = {name: float(np.mean([joint_score_of(run) for run in made]))
              for name, made in [*static, bilevel]}  # fmt: skip
    tuned = min(static, key=lambda each: scores[each[0]])

    base = artifact.load(tuned[1][0], verify=False)
    both = [contender(SINGLE, "single", tuned[1]), contender("bilevel", "multi", bilevel[1])]
    asked = Asked(seeds=len(seeds), rivals=())
    document = document_of(shop, asked, base, both, told)
    rows = [
        [task, f"{each['single']:.4f}", f"{each['multi']:.4f}",
         between(each["difference"], each["interval"][0], each["interval"][1], "+"),
         each["verdict"]]
        for task, each in document["candidates"]["bilevel"]["tasks"].items()
    ]  # fmt: skip
    heads = ("task", f"tuned static ({tuned[0]})", "bilevel", "difference", "verdict")
    found = {"scores": scores, "tuned": tuned[0], "compared": document}
    return found, [], {"learned and static weights": (heads, rows)}


PARTS: Final[Mapping[str, Callable[[Bench], Part]]] = {
    "overlap": overlapping,
    "apart": apart,
    "departments": by_department,
    "cold": by_events,
    "weights": by_weights,
}


def main(arguments: Sequence[str]) -> int:
    """Run the parts, print their tables and checks; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--shops", type=Path, default=Path("shops"))
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(given.out, given.shops, given.seeds, tuple(given.sizes))
    checks: list[Check] = []
    tables: dict[str, Any] = {}
    document: dict[str, Any] = {**about("adapt.py", arguments), "parts": {}}
    for name in given.only:
        found, of_part, pages_of_part = PARTS[name](bench)
        document["parts"][name] = found
        checks += of_part
        tables |= pages_of_part
    rows = [
        [
            each.what,
            f"{each.value:.3f}",
            each.bar,
            _SAID[each.holds],
        ]
        for each in checks
    ]
    show(
        given.out / "adapt.md", {**tables, "bars": (("what", "value", "bar", ""), rows)}, width=150
    )
    document["checks"] = [asdict(each) for each in checks]
    artifact.write_document(given.out / "adapt.json", document)
    return int(any(each.holds is False for each in checks))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
