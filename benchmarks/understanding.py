"""All that the model understands of a shop beside its bars, and whether learning it together costs.

    python benchmarks/understanding.py SHOPS OUT [--only extract profile match together]
        [--exposures 100000] [--seeds 3] [--threads 1] [--set KEY=VALUE]

The first three parts are the scripts ``understand_*.py``, whose own tables stand in OUT beside
theirs. ``together`` fits a made shop with all four families of tasks and then with each family
alone: paired seeds, one store, the interval of seeds and of users as `daogou compare` has it. The
bar of each task is to be at most 1 % below the model that learns its family alone. A shop that is
in OUT/together/shop already is taken. OUT gets ``understanding.json`` and ``understanding.md``. The
exit status is 1 if a bar is missed.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
import understand_extract
import understand_match
import understand_profile
from receipt import paired
from record import about, show

from daogou import artifact
from daogou.config import read_shop
from daogou.learn.answers import answers_of
from daogou.learn.claim import finished
from daogou.learn.fit import fit
from daogou.learn.judge import Judged, questions
from daogou.learn.variant import varied
from daogou.schema import Shop
from daogou.tables.simulate import simulate

COST: Final = 0.01  # of the score of a family alone, at most
SETTINGS: Final = ("fit.epochs=6", "model.text_width=32")


@dataclass(frozen=True)
class Bar:
    """A number, what it must be above and by how much it is; ``interval`` where there is one."""

    part: str
    what: str
    value: float
    bar: float
    ahead: float
    interval: tuple[float, float] | None
    holds: bool


def extract(given: argparse.Namespace) -> list[Bar]:
    """Above each baseline with the whole interval."""
    out = given.out / "extract"
    understand_extract.main(_arguments(given, out))
    told = (out / "extract.jsonl").read_text("utf-8").splitlines()
    lines = {(line["shop"], line["task"]): line for line in map(json.loads, told)}  # the newest
    return [
        Bar(
            "extract", f"{shop} {task}, beside {line['by']}", line["daogou"]["value"],
            line["single"]["value"], line["difference"]["value"],
            (line["difference"]["low"], line["difference"]["high"]), line["difference"]["low"] > 0,
        )
        for (shop, task), line in lines.items()
    ]  # fmt: skip


def profile(given: argparse.Namespace) -> list[Bar]:
    """Households above the regression and calibrated; made shops at their share of the ceiling."""
    out = given.out / "profile"
    understand_profile.main(_arguments(given, out))
    told = json.loads((out / "profile.json").read_text("utf-8"))
    found = []
    for line in told.get("households", ()):
        gap, low, high = line["difference"]
        error, most = line["calibration"], understand_profile.CALIBRATION
        found += [
            Bar("profile", f"{line['question']}, beside logistic regression", line["auc"][0],
                line["logistic"][0], gap, (low, high), low > 0),
            Bar("profile", f"{line['question']}, calibration error", error, most, most - error,
                None, error <= most),
        ]  # fmt: skip
    least = understand_profile.CEILING
    for line in told.get("made", ()):
        share = line["share_of_ceiling"]
        what = f"{line['shop']} {line['column']}, share of the ceiling"
        found.append(Bar("profile", what, share, least, share - least, None, share >= least))
    return found


def match(given: argparse.Namespace) -> list[Bar]:
    """Ahead of each rival's recall with the whole interval."""
    out = given.out / "match"
    understand_match.main(_arguments(given, out))
    lines = json.loads((out / "understand_match.json").read_text("utf-8"))["lines"]
    found = []
    for line in lines:
        if line["recall_ahead"] is not None:
            gap, low, high = line["recall_ahead"]
            what = f"{line['shop']} {line['asked']}, beside {line['method']}"
            theirs = line["recall"][0]
            found.append(Bar("match", what, theirs + gap, theirs, gap, (low, high), low > 0))
    return found


def together(given: argparse.Namespace) -> list[Bar]:
    """Each task of a made shop learnt with all others, beside its family alone."""
    out = given.out / "together"
    folder = out / "shop"
    if not (folder / "shop.toml").exists():
        simulate(folder, "easy", exposures=given.exposures)
    shop = read_shop(folder, (*SETTINGS, *given.sets, f"fit.threads={given.threads}"))
    families = dict.fromkeys(task.family for task in shop.tasks)
    first: Path | None = None
    pairs: dict[tuple[str, str], list[tuple[Judged, Judged]]] = {}
    for seed in range(given.seeds):
        joint = _judged(varied(shop, seed=seed), out / f"joint-{seed}", first)
        first = first or out / f"joint-{seed}"
        for family in families:
            single = _judged(
                alone(varied(shop, seed=seed), family), out / f"{family}-{seed}", first
            )
            for name, theirs in single.items():
                pairs.setdefault((family, name), []).append((joint[name], theirs))
    found = []
    for (family, name), each in pairs.items():
        gap = paired(each)
        apart = sum(theirs.value for _, theirs in each) / len(each)
        bar, what = apart * (1 - COST), name.replace("|", " given ")
        found.append(
            Bar(
                f"together, {family}", f"{what}, {each[0][0].metric}, beside {apart:.4f} alone",
                apart + gap.value, bar, gap.value, (gap.low, gap.high), apart + gap.value >= bar,
            )
        )  # fmt: skip
    return found


def alone(shop: Shop, family: str) -> Shop:
    """The shop as if it had the tasks of one family alone."""
    others = {task.name: {"enabled": False} for task in shop.tasks if task.family != family}
    return varied(shop, tasks=others)


def _judged(shop: Shop, run: Path, like: Path | None) -> dict[str, Judged]:
    """What a run, made now if there is none, is worth on each question of the test split."""
    if not finished(run, shop):
        fit(shop, run, resume=run.exists(), like=like)
    made = artifact.load(run, verify=False)
    answers = answers_of(
        made.model, made.store, made.transform, "test", history_length=made.history_length
    )
    asked = questions(made.shop, made.store, made.transform, "test")
    return {each.name: each.judge(answers[each.name]) for each in asked}


def _arguments(given: argparse.Namespace, out: Path) -> list[str]:
    out.mkdir(parents=True, exist_ok=True)
    return [str(given.shops), str(out), "--threads", str(given.threads)]


PARTS: Final[dict[str, Callable[[argparse.Namespace], list[Bar]]]] = {
    "extract": extract,
    "profile": profile,
    "match": match,
    "together": together,
}


def cells(bar: Bar) -> list[str]:
    """A bar as the table's words."""
    reach = "" if bar.interval is None else f" [{bar.interval[0]:+.4f}, {bar.interval[1]:+.4f}]"
    return [
        bar.part, bar.what, f"{bar.value:.4f}", f"{bar.bar:.4f}", f"{bar.ahead:+.4f}{reach}",
        "PASS" if bar.holds else "MISS",
    ]  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Run the parts, print and keep the bars; 1 if one is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("shops", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--exposures", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    bars = [bar for name in given.only for bar in PARTS[name](given)]
    heading = ("part", "what", "found", "bar", "ahead", "")
    show(given.out / "understanding.md", {"Bars": (heading, [cells(bar) for bar in bars])}, 170)
    document: dict[str, Any] = about("understanding.py", arguments)
    document["bars"] = [asdict(bar) for bar in bars]
    text = json.dumps(artifact.plain(document), indent=1)
    (given.out / "understanding.json").write_text(text, encoding="utf-8")
    return int(not all(bar.holds for bar in bars))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
