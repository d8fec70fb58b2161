"""Shops made of public data to one table: the joint model beside single-task baselines.

    python benchmarks/real.py SHOPS OUT [--only adult gms-ga4] [--threads 1]

SHOPS holds what ``daogou import`` wrote, one folder a data set. OUT keeps the runs, which are taken
up again if they are finished, and gets ``results.json`` and ``results.md``.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from record import about, between, markdown
from rich.console import Console
from rich.table import Table

from daogou import artifact
from daogou.artifact import Artifact
from daogou.config import read_shop
from daogou.errors import DaogouError
from daogou.features.store import SPLITS
from daogou.features.tags import spans_of
from daogou.features.tokens import Span, tokenise
from daogou.learn.fit import fit
from daogou.learn.flat import event_counts, inputs_of_shop
from daogou.learn.learners import linear_of_users, trees
from daogou.learn.listed import fit_lookup, look_up
from daogou.learn.rivals import better, most_taken, popularity, single
from daogou.metrics import (
    Tagging,
    auc,
    auc_interval,
    bootstrap,
    f1_of,
    fit_ranks,
    mean_of,
    paired_difference,
    pool,
    span_f1,
    value_f1,
)
from daogou.model import predict
from daogou.tables.engine import Engine, quoted

DRAWS: Final = 200
TEST: Final = SPLITS.index("test")
FOLDS: Final = 5

SETTINGS: Final[dict[str, tuple[str, ...]]] = {
    "adult": ("fit.buckets=128",),
    "gms-ga4": (
        "fit.epochs=3", "fit.rows_per_step=1024", "fit.row_learning_rate=0.03",
        "fit.row_l2=0.01", "model.dropout=0.2", "model.id_dropout=0.3",
    ),
    "gms-ga4/checkout": (
        "fit.rows_per_step=512", "fit.row_learning_rate=0.03", "fit.row_l2=0.03",
        "model.dropout=0.3", "model.id_dropout=0.3",
    ),
    "completejourney": ("fit.epochs=3", "fit.watch=purchase", "fit.rows_per_step=4096"),
    "profiles": (
        "fit.epochs=2", "fit.rows_per_step=64", "fit.history_length=1500", "model.width=16",
        "fit.row_learning_rate=0.02", "fit.learning_rate=0.0005", "model.id_dropout=0.95",
        "model.event_dropout=0.8", "model.dropout=0.5",
        "tasks.purchase.enabled=false", "tasks.coupon.enabled=false",
        "tasks.match.enabled=false", "tasks.profile.marital_status.enabled=false",
        "tasks.profile.household_size.enabled=false", "tasks.profile.home_ownership.enabled=false",
        *(f'tasks.profile.{name}.loss="ordinal"' for name in ("age", "income", "kids_count")),
    ),
    "zh-ner": (),
    "oa-mine": ("fit.epochs=24", "fit.patience=8", "model.text_width=128"),
}  # fmt: skip

# The questions that are asked of households: column, and the values that count as yes.
ASKED: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "age >= 55": ("age", ("55-64", "65+")),
    "income >= 75K": (
        "income",
        ("75-99K", "100-124K", "125-149K", "150-174K", "175-199K", "200-249K", "250K+"),
    ),
    "has children": ("kids_count", ("1", "2", "3+")),
}


@dataclass(frozen=True)
class Score:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One task's row of the table; ``single`` is the single-task baseline that ``by`` names."""

    shop: str
    task: str
    metric: str
    n: int
    positives: int
    daogou: Score
    single: Score | None
    by: str
    popular: Score | None
    difference: Score | None  # of daogou and single, paired


@dataclass(frozen=True)
class Bench:
    """Where things are, and how many threads a fit may take."""

    shops: Path
    out: Path
    threads: int

    def run(self, shop: Path, name: str, *sets: str) -> Artifact:
        """The finished run of that name, made now if there is none."""
        folder = self.out / name
        if not (folder / "manifest.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            started = time.perf_counter()
            fit(read_shop(shop, (*sets, f"fit.threads={self.threads}")), folder)
            print(f"{name}: fitted in {time.perf_counter() - started:.0f} s", file=sys.stderr)
        return artifact.load(folder)


# ---- ranking and matching -------------------------------------------------------------


def ranking(name: str) -> Callable[[Bench], list[Line]]:
    """The lines of a shop's funnel, and of matching where there is one."""

    def lines(bench: Bench) -> list[Line]:
        run = bench.run(bench.shops / name, name.replace("/", "-"), *SETTINGS[name])
        return [*_funnel_lines(name, run, bench.threads), *_match_lines(name, run)]

    return lines


def _funnel_lines(shop: str, run: Artifact, threads: int) -> list[Line]:
    store = run.store
    head: Any = run.model.heads["funnel"]
    at = slice(*store.ranges["test"])
    scores = predict.funnel_scores(run.model, store, "test", history_length=run.history_length)
    popular = popularity(store, "test")
    learn = partial(
        single, store, inputs_of_shop(run.shop, run.transform, store),
        partial(trees, threads=threads),
    )  # fmt: skip
    labels = np.asarray(store["exposures/labels"])[:, head.columns].astype(np.int64)
    weight = np.asarray(store["exposures/weight"][at], dtype=np.float64)
    query = np.asarray(store["exposures/query"][at])
    users = np.arange(len(query)) if (query < 0).any() else store["queries/user"][query]
    found: list[Line] = []
    tasks = [task for task in run.model.tasks if task.family == "funnel" and not task.is_value]
    grown: list[dict[str, Any]] = []
    for stage, task in enumerate(tasks):
        target = labels[:, stage]
        grown.append(learn(target))
        cases = []
        if task.given is not None:
            before = head.given[stage]
            defined = np.where(labels[:, before] == 1, target, -1)
            given = learn(defined)
            chained = {split: chances * grown[before][split] for split, chances in given.items()}
            grown[stage] = better(store, target, grown[stage], chained)
            cases = [(f"{task.name} given {task.given}", scores.conditional, given, defined)]
        cases.insert(0, (task.name, scores.chances, grown[stage], target))
        for what, ours, theirs, target in cases:
            known = target[at] >= 0
            y, w, who = target[at][known] == 1, weight[known], users[known]
            columns = (
                ours[known, stage].astype(np.float64),
                theirs["test"][known],
                popular[known, head.columns[stage]],
            )
            gap = paired_difference(columns[0], columns[1], y, who, w, n=DRAWS)
            ours_at, alone, liked = (
                Score(auc(p, y, w), *auc_interval(p, y, who, w, n=DRAWS)) for p in columns
            )
            found.append(
                Line(shop, what, "AUC", len(y), int(y.sum()), ours_at, alone, "LightGBM", liked,
                     Score(gap.value, gap.low, gap.high))
            )  # fmt: skip
    return found


def _match_lines(shop: str, run: Artifact) -> list[Line]:
    if "match" not in run.model.heads:
        return []
    queries, relevant = predict.first_queries(run.store, "test")
    wanted = [items - 1 for items in relevant]
    blocks = predict.match_scores(run.model, run.store, queries, history_length=run.history_length)
    ours = fit_ranks(blocks, wanted).recall_at(50)
    one_list = most_taken(run.store)
    popular = fit_ranks(iter([np.tile(one_list, (len(wanted), 1))]), wanted).recall_at(50)
    return [
        Line(shop, "match", "recall@50", len(wanted), sum(map(len, wanted)), _mean(ours), None, "",
             _mean(popular), _mean(ours - popular))
    ]  # fmt: skip


def _mean(values: Any) -> Score:
    rows = np.arange(len(values))
    interval = bootstrap(lambda w: mean_of(values, w), rows, n=DRAWS, seed=0)
    return Score(mean_of(values), *interval)


# ---- profiles -------------------------------------------------------------------------


def profiles(bench: Bench) -> list[Line]:
    """Households' profiles, each answered by the run of the fold whose labels it never saw."""
    found = []
    for asked, (y, ours, linear) in household_answers(bench).items():
        users = np.arange(len(y))
        gap = paired_difference(ours, linear, y, users, n=DRAWS)
        both = [Score(auc(p, y), *auc_interval(p, y, users, n=DRAWS)) for p in (ours, linear)]
        found.append(
            Line("completejourney", asked, "AUC", len(y), int(y.sum()), both[0], both[1],
                 "logistic", Score(0.5, 0.5, 0.5), Score(gap.value, gap.low, gap.high))
        )  # fmt: skip
    return found


def household_answers(bench: Bench) -> dict[str, tuple[Any, Any, Any]]:
    """Of each question what is so, our chance of it and a logistic regression's, all folds."""
    shop = _profile_shop(bench)
    answers: dict[str, list[tuple[Any, Any, Any]]] = {asked: [] for asked in ASKED}
    for fold in range(FOLDS):
        run = bench.run(shop, f"profiles-{fold}", *SETTINGS["profiles"], f"split.fold={fold}")
        for asked, (column, values) in ASKED.items():
            answers[asked].append(_answers(run, column, values))
    whole = {}
    for asked, folds in answers.items():
        y, ours, linear = (np.concatenate(part) for part in zip(*folds, strict=True))
        whole[asked] = y, ours, linear
    return whole


def _answers(run: Artifact, column: str, values: Sequence[str]) -> tuple[Any, Any, Any]:
    """What is so, our chance of it and the linear model's, for the households of the test fold."""
    store = run.store
    place = run.transform.profile.names.index(column)
    is_yes = np.isin(np.array(run.transform.classes(column)), values)
    classes = np.asarray(store["users/profile"][:, place], dtype=np.int64)
    split = np.asarray(store["users/split"])
    known = classes >= 0
    asked, teaches = (np.flatnonzero(known & where) for where in (split == TEST, split < TEST))
    head: Any = run.model.heads["profile"]
    task = head.columns.index(place)
    distribution = predict.profile_scores(
        run.model, store, asked, history_length=run.history_length
    )[task]
    truth = np.where(known, is_yes[classes], False).astype(np.int64)
    columns = ("product_category", "department")
    counts = event_counts(store, run.transform, columns)
    linear = linear_of_users(counts, truth, 2, teaches, asked)[:, 1]
    return truth[asked], distribution[:, is_yes].sum(1).astype(np.float64), linear


def _profile_shop(bench: Bench) -> Path:
    """The labelled households with all they bought, and one exposure of each.

    An exposure is a moment at which a history is read; a profile does not depend on what was
    shown, and its teaching draws moments of its own.
    """
    source, out = bench.shops / "completejourney", bench.out / "profile-shop"
    if (out / "shop.toml").exists():
        return out
    out.mkdir(parents=True, exist_ok=True)
    events, users = (quoted(str(source / f"{name}.parquet")) for name in ("events", "users"))
    with Engine() as engine:
        engine.run(
            "COPY (SELECT * EXCLUDE (place) FROM (SELECT *, row_number() OVER (PARTITION BY "
            "household_id, kind ORDER BY md5(product_id::VARCHAR || request)) AS place "
            f"FROM {events} WHERE household_id IS NULL OR household_id IN (SELECT household_id "
            f"FROM {users} WHERE age IS NOT NULL)) WHERE kind <> 'shown' OR place = 1 "
            f"ORDER BY time) TO {quoted(str(out / 'events.parquet'))}"
        )
    for name in ("items", "users"):
        shutil.copy(source / f"{name}.parquet", out)
    document = (source / "shop.toml").read_text(encoding="utf-8")
    # A title here is the product's type and category: words to count, not to read.
    described = document.replace('text = ["title"]\n', "")
    described = described.replace('columns = ["department"', 'columns = ["title", "department"')
    (out / "shop.toml").write_text(described, encoding="utf-8")
    return out


# ---- titles ---------------------------------------------------------------------------


def zh_ner(bench: Bench) -> list[Line]:
    """Brand and product of the published development titles."""
    run = bench.run(bench.shops / "zh-ner", "zh-ner", *SETTINGS["zh-ner"])
    said, listed, gold, _, annotated = _titles(run)
    both = ("brand", "product")
    asked = [[name for name in both if name in known] for known in annotated]
    ours, theirs = (span_f1(spans, gold, asked) for spans in (said, listed))
    return [_tagged("zh-ner", "brand and product", "span F1", ours, theirs)]


def oa_mine(bench: Bench) -> list[Line]:
    """Every title's values, each answered by the run of the fold that held it out."""
    values: list[list[Tagging]] = [[], []]  # ours, and those of the list
    places: list[list[Tagging]] = [[], []]
    for fold in range(FOLDS):
        run = bench.run(
            bench.shops / "oa-mine", f"oa-mine-{fold}", *SETTINGS["oa-mine"], f"split.fold={fold}"
        )
        *both, gold, texts, annotated = _titles(run)
        for whose, said in enumerate(both):
            values[whose].append(value_f1(said, gold, texts, annotated))
            places[whose].append(span_f1(said, gold, annotated))
    return [
        _tagged("oa-mine", "attribute and value", "value F1", *map(pool, values)),
        _tagged("oa-mine", "attribute and place", "span F1", *map(pool, places)),
    ]


def _titles(run: Artifact) -> tuple[list[list[Span]], list[list[Span]], list[Any], list[str], Any]:
    """Of the test titles: spans we said, spans a list of training values finds, gold, texts."""
    store = run.store
    split = np.asarray(store["titles/split"])
    rows, learnt = np.flatnonzero(split == TEST), np.flatnonzero(split < TEST)
    table = store.titles
    texts = table["text"].to_pylist()
    annotated = table["annotated"].to_pylist()
    gold = [
        [(span["start"], span["end"], span["attribute"]) for span in spans]
        for spans in table["spans"].to_pylist()
    ]
    values = fit_lookup(
        [texts[i] for i in learnt], [gold[i] for i in learnt], [annotated[i] for i in learnt]
    )
    said: list[list[Span]] = []
    for found, tags, sure in predict.title_tags(run.model, store, rows):
        for i, row in enumerate(found):
            spans = spans_of(
                texts[row], tokenise(texts[row]), tags[i], run.transform.attributes, sure[i]
            )
            said.append([(start, end, attribute) for start, end, attribute, *_ in spans])
    return (
        said,
        [look_up(texts[row], values) for row in rows],
        [gold[row] for row in rows],
        [texts[row] for row in rows],
        [annotated[row] for row in rows],
    )


def _tagged(shop: str, task: str, metric: str, ours: Tagging, theirs: Tagging) -> Line:
    titles = np.arange(len(ours.by_text))

    def interval(statistic: Callable[[Any], float]) -> tuple[float, float]:
        return bootstrap(statistic, titles, n=DRAWS, seed=0)

    daogou = Score(ours.f1, *interval(lambda w: f1_of(ours.by_text, w)))
    listed = Score(theirs.f1, *interval(lambda w: f1_of(theirs.by_text, w)))
    gap = interval(lambda w: f1_of(ours.by_text, w) - f1_of(theirs.by_text, w))
    difference = Score(ours.f1 - theirs.f1, *gap)
    return Line(shop, task, metric, len(titles), ours.gold, daogou, listed, "list of values", None,
                difference)  # fmt: skip


# ---- the table ------------------------------------------------------------------------

BENCHES: Final[dict[str, Callable[[Bench], list[Line]]]] = {
    "adult": ranking("adult"),
    "gms-ga4": ranking("gms-ga4"),
    "gms-ga4/checkout": ranking("gms-ga4/checkout"),
    "completejourney": ranking("completejourney"),
    "profiles": profiles,
    "zh-ner": zh_ner,
    "oa-mine": oa_mine,
}

HEADINGS: Final = (
    "shop", "task", "n", "positives", "metric", "Daogou", "single task", "popularity",
    "difference",
)  # fmt: skip


def cells(line: Line) -> list[str]:
    """A line as the table's words."""
    single = f"{_words(line.single)} {line.by}".strip()
    return [
        line.shop, line.task, f"{line.n:,}", f"{line.positives:,}", line.metric,
        _words(line.daogou), single, _words(line.popular), _words(line.difference, "+"),
    ]  # fmt: skip


def _words(score: Score | None, sign: str = "") -> str:
    if score is None:
        return "-"
    if score.low == score.high:
        return f"{score.value:{sign}.4f}"
    return between(score.value, score.low, score.high, sign)


def main(arguments: Sequence[str]) -> int:
    """Fit what is not fitted yet, judge it, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("shops", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(BENCHES), default=list(BENCHES))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    bench = Bench(given.shops, given.out, given.threads)
    lines: list[Line] = []
    for name in given.only:
        try:
            lines += BENCHES[name](bench)
        except DaogouError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
    table = Table(*HEADINGS)
    for line in lines:
        table.add_row(*cells(line))
    Console(width=200).print(table)
    told = about("real.py", arguments)
    document = {
        **told,
        "torch": torch.__version__,
        "settings": SETTINGS,
        "lines": [asdict(line) for line in lines],
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    said = f"`{told['command']}`, commit {told['commit']}, {told['cores']} cores"
    page = f"{said}\n\n{markdown(HEADINGS, [cells(line) for line in lines])}\n"
    (given.out / "results.md").write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
