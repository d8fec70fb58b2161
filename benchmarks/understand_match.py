"""Matching beside popularity, item-item cosine, ALS, BPR and EASE, over the whole catalogue.

    python benchmarks/understand_match.py SHOPS OUT [--only gms-ga4 completejourney] [--threads 1]

SHOPS holds what ``daogou import`` wrote. Everybody learns from the training split of one run's
store, is told the same histories (what a user did strictly before they are asked, of whatever
split), and ranks all products. What a user is worth asking about:

* **first moment**: each user of the split at their first moment there, and all that they then took.
* **session**: each session of the split at the first list it took from, and what it took from then
  on. The sessions of gms-ga4 are mostly of users whom nobody has seen before.

Of each rival's settings the best recall@20 on validation is kept and judged once on test. Users
without a history get popularity from all of them, which also breaks their ties. Products that
training never saw are asked about apart, among themselves, beside cosines of TF-IDF.

OUT keeps the runs and gets ``understand_match.json`` and ``understand_match.md``. Needs
``pip install 'daogou[baselines,peers]'``.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from real import SETTINGS, Bench
from record import about, between, show
from scipy import sparse

from daogou.artifact import Artifact
from daogou.errors import DaogouError
from daogou.features.queries import Queries
from daogou.features.store import Store
from daogou.learn.rivals import most_taken
from daogou.metrics import bootstrap, fit_ranks, mean_of
from daogou.metrics.ranking import Ranks
from daogou.model import predict
from daogou.schema import DAY_US

Array = NDArray[Any]
Floats = NDArray[np.float64]
Scorer = Callable[[Any, Array], Array]  # histories [q, I] and user rows [q] -> scores [q, I]

K: Final = 20
DRAWS: Final = 200
MOST_CHOOSERS: Final = 500  # users of validation who choose
# How "had before" counts an event: by a half-life in days.
AGES: Final = {", counted": np.inf, ", half-life 30": 30.0, ", half-life 120": 120.0}
MOST_PRODUCTS: Final = 5000  # that EASE and cosines know, the most taken: they square their number
FACTORS: Final = 64
SHOPS: Final[Mapping[str, tuple[str, ...]]] = {
    "gms-ga4": ("session", "first moment"),
    "completejourney": ("first moment",),
}
# Of completejourney matching alone is trained, for one pass.
ALONE: Final = ("purchase", "coupon", *(f"profile.{name}" for name in (
    "age", "income", "kids_count", "marital_status", "household_size", "home_ownership",
)))  # fmt: skip
RUNS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "gms-ga4": ("gms-ga4", SETTINGS["gms-ga4"]),
    "completejourney": (
        "completejourney-match",
        ("fit.epochs=1", "fit.history_length=200",
         *(f"tasks.{name}.enabled=false" for name in ALONE)),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """Users at moments, the columns of the products that they then took, and their histories."""

    queries: Queries
    wanted: list[Array]
    past: Mapping[str, Any]  # by kinds of event: [q, I], 1 where there was one


@dataclass(frozen=True)
class Line:
    """One method on one question of the test split; differences are of ours and it, paired."""

    shop: str
    asked: str
    method: str
    setting: str
    n: int
    wanted: int
    recall: tuple[float, float, float]
    ndcg: tuple[float, float, float]
    recall_ahead: tuple[float, float, float] | None
    ndcg_ahead: tuple[float, float, float] | None


# ---- what is asked --------------------------------------------------------------------


def asked_of(run: Artifact, split: str, by: str) -> Asked:
    """A split's questions; `by` as the module says."""
    store = run.store
    ask = sessions if by == "session" else predict.first_queries
    queries, relevant = ask(store, split)
    start = np.asarray(store["users/start"])[queries.user]
    length = queries.end - start
    who = np.repeat(np.arange(len(queries)), length)
    at = np.repeat(start - (np.cumsum(length) - length), length) + np.arange(length.sum())
    days = (queries.time[who] - store["history/time"][at]) / DAY_US
    past = {}
    for kinds, actions in kinds_of(run).items():
        kept = actions[store["history/action"][at]]
        seen = who[kept], store["history/item"][at][kept]
        past[kinds] = _ones(*seen, len(queries), store.n_items)
        for words, half_life in AGES.items():
            mass = 0.5 ** (days[kept] / half_life)
            past[kinds + words] = _sums(mass, *seen, len(queries), store.n_items)
    return Asked(queries, [items - 1 for items in relevant], past)


def some_of(asked: Asked) -> Asked:
    """Every so many of the questions, so that at most `MOST_CHOOSERS` are left."""
    rows = np.arange(0, len(asked.queries), -(-len(asked.queries) // MOST_CHOOSERS))
    past = {kinds: each[rows] for kinds, each in asked.past.items()}
    return Asked(asked.queries[rows], [asked.wanted[row] for row in rows], past)


def sessions(store: Store, split: str) -> tuple[Queries, list[Array]]:
    """Each session that took something, at the first list it took from, and what it then took."""
    first, last = store.ranges[split]
    names = store.exposure_keys(split)["request"].to_pylist()
    taken = np.flatnonzero(store["exposures/labels"][first:last, 0] == 1)
    begun: dict[str, int] = {}
    took: dict[str, list[int]] = {}
    for place in taken.tolist():  # the store is sorted by time
        query, item = (int(store[f"exposures/{name}"][first + place]) for name in ("query", "item"))
        if item and query >= 0 and names[place] is not None:
            begun.setdefault(names[place], query)
            took.setdefault(names[place], []).append(item)
    rows = np.array(list(begun.values()), dtype=np.int64)
    user, end, time = (store[f"queries/{name}"][rows] for name in ("user", "end", "time"))
    return Queries(user, end, time), [np.unique(items) for items in took.values()]


def kinds_of(run: Artifact) -> dict[str, Array]:
    """Which actions count: those that are a stage (a listing is none), or all, if they differ."""
    names = run.transform.actions
    stages = np.array([name in run.transform.stages for name in names], dtype=bool)
    return {"stages": stages} | ({} if stages.all() else {"all": np.ones(len(names), dtype=bool)})


def trained(run: Artifact, kinds: str) -> Any:
    """Users by products, 1 where training saw an event of these kinds, ``[U + 1, I]``."""
    store = run.store
    until = int(store["exposures/time"][slice(*store.ranges["train"])].max())
    kept = np.asarray(store["history/time"]) <= until
    kept &= kinds_of(run)[kinds][store["history/action"]]
    users = np.repeat(np.arange(store.n_users + 1), np.diff(store["users/start"]))
    return _ones(users[kept], store["history/item"][kept], store.n_users + 1, store.n_items)


def _ones(rows: Array, items: Array, n_rows: int, n_items: int) -> Any:
    found = _sums(np.ones(len(rows)), rows, items, n_rows, n_items)
    found.data[:] = 1.0
    return found


def _sums(mass: Array, rows: Array, items: Array, n_rows: int, n_items: int) -> Any:
    shape = n_rows, n_items + 1
    return sparse.csr_matrix((mass.astype(np.float32), (rows, items)), shape=shape)[:, 1:]


# ---- the rivals -----------------------------------------------------------------------


def popular(run: Artifact, taken: Any, half_life_days: float = 0.0) -> Scorer:
    """How often training took a product; with a half-life, how often of late."""
    store = run.store
    liked: Array = most_taken(store)
    if half_life_days:
        at = slice(*store.ranges["train"])
        time = np.asarray(store["exposures/time"][at])
        age = (time.max() - time) / DAY_US
        mass = (store["exposures/labels"][at, 0] == 1) * 0.5 ** (age / half_life_days)
        liked = np.bincount(store["exposures/item"][at], mass, store.n_items + 1)[1:]
    return lambda past, users: np.broadcast_to(liked, past.shape)


def again(run: Artifact, taken: Any) -> Scorer:
    """What they had before: the more often and, with a half-life, the later the better."""
    return lambda past, users: past.toarray()


def cosine(run: Artifact, taken: Any, shrink: float, itself: bool) -> Scorer:
    """Sums of cosines with what was taken (Sarwar et al., WWW 2001), shrunk where few took it."""
    known, together = _together(taken)
    root = np.sqrt(np.diag(together))
    near = together / (root[:, None] * root + shrink)
    if not itself:
        np.fill_diagonal(near, 0.0)
    return _linear(known, near)


def ease(run: Artifact, taken: Any, l2: float) -> Scorer:
    """Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, in closed form."""
    known, together = _together(taken)
    inverse = np.linalg.inv(together + l2 * np.eye(len(known)))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return _linear(known, weights)


def als(run: Artifact, taken: Any, alpha: float, regularization: float) -> Scorer:
    """Hu et al., ICDM 2008, as `implicit` has it; users are solved anew for their histories."""
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=FACTORS, alpha=alpha, regularization=regularization, random_state=0, num_threads=1
    )
    model.fit(taken, show_progress=False)

    def scores(past: Any, users: Array) -> Array:
        found: Array = model.recalculate_user(np.arange(past.shape[0]), past)
        return np.asarray(found @ model.item_factors.T)

    return scores


def bpr(run: Artifact, taken: Any, folded: bool) -> Scorer:
    """Rendle et al., UAI 2009, as `implicit` has it; `folded` means a history's mean product."""
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(factors=FACTORS, random_state=0, num_threads=1)
    model.fit(taken, show_progress=False)
    known = np.asarray(taken.sum(1)).ravel() > 0

    def scores(past: Any, users: Array) -> Array:
        many = np.maximum(np.asarray(past.sum(1)), 1.0)
        vectors = np.asarray(past @ model.item_factors / many)
        # The products' biases, but popularity alone where there is no history.
        vectors[:, -1] = np.asarray(past.sum(1)).ravel() > 0
        if not folded:
            vectors[known[users]] = model.user_factors[users[known[users]]]
        return np.asarray(vectors @ model.item_factors.T)

    return scores


def _together(taken: Any) -> tuple[Array, Floats]:
    """The most taken products, and how many users took each two of them."""
    many = np.asarray(taken.sum(0)).ravel()
    known = np.sort(np.argsort(-many, kind="stable")[:MOST_PRODUCTS])
    known = known[many[known] > 0]
    part = taken[:, known]
    return known, np.asarray((part.T @ part).todense(), dtype=np.float64)


def _linear(known: Array, weights: Floats) -> Scorer:
    def scores(past: Any, users: Array) -> Array:
        found = np.zeros(past.shape)
        found[:, known] = past[:, known] @ weights
        return found

    return scores


RIVALS: Final[Mapping[str, tuple[Callable[..., Scorer], Mapping[str, Sequence[Any]]]]] = {
    "popularity": (popular, {}),
    "had before": (again, {}),
    "popularity of late": (popular, {"half_life_days": (3.0, 14.0, 30.0)}),
    "item-item cosine": (cosine, {"shrink": (0.0, 20.0), "itself": (True, False)}),
    "ALS": (als, {"alpha": (1.0, 10.0), "regularization": (0.1, 10.0)}),
    "BPR": (bpr, {"folded": (True, False)}),
    "EASE": (ease, {"l2": (50.0, 500.0, 2000.0)}),
}


def settings_of(run: Artifact, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Which events teach a rival, and each combination of its settings."""
    maker, grid = RIVALS[name]
    kinds_told = ["stages"] if maker is popular else [*kinds_of(run)]
    if maker is again:
        kinds_told = [kinds + words for kinds in kinds_told for words in AGES]
    for kinds in kinds_told:
        for values in product(*grid.values()):
            yield kinds, dict(zip(grid, values, strict=True))


def ranked(run: Artifact, scorer: Scorer, kinds: str, hidden: bool, asked: Asked) -> Ranks:
    """Where a rival puts what was taken; ``hidden`` leaves out what a user had before."""
    liked = most_taken(run.store)
    past = asked.past[kinds]
    before = asked.past.get("all", past) if hidden else None

    def scores(start: int, stop: int) -> Array:
        part = past[start:stop]
        found = scorer(part, asked.queries.user[start:stop])
        # In rows, which a copy of one list for everybody would not be: they are read one by one.
        found = np.array(found, dtype=np.float64, order="C")
        # Popularity decides between equals, and alone where a history says nothing.
        found += liked / max(float(liked.max()), 1.0) * 1e-6
        if before is not None:
            found[before[start:stop].nonzero()] = -np.inf
        return found

    return fit_ranks(scores, asked.wanted)


def chosen(run: Artifact, name: str, by: str) -> tuple[str, Ranks]:
    """A rival at its best setting on validation, and its places on test."""
    choice = some_of(asked_of(run, "validation", by))
    best: tuple[float, str, Scorer, str, bool] | None = None
    taken = {kinds: trained(run, kinds) for kinds in kinds_of(run)}
    for kinds, setting in settings_of(run, name):
        scorer = RIVALS[name][0](run, taken[kinds.split(",")[0]], **setting)
        for hidden in (False, True):
            worth = mean_of(ranked(run, scorer, kinds, hidden, choice).recall_at(K))
            words = ", ".join([kinds, *(f"{key} {value:g}" for key, value in setting.items())])
            words += ", had before left out" if hidden else ""
            print(f"  {name}: {words}: {worth:.4f} on validation", file=sys.stderr)
            if best is None or worth > best[0]:
                best = worth, words, scorer, kinds, hidden
    assert best is not None
    _, words, scorer, kinds, hidden = best
    return words, ranked(run, scorer, kinds, hidden, asked_of(run, "test", by))


# ---- lines ----------------------------------------------------------------------------


def lines_of(shop: str, run: Artifact, by: str) -> list[Line]:
    """Ours and every rival on one question."""
    asked = asked_of(run, "test", by)
    ours = fit_ranks(scores_of(run, asked.queries), asked.wanted)
    line = partial(_line, shop, by, asked, ours)
    found = [line("Daogou", "", ours)]
    for name in RIVALS:
        found.append(line(name, *chosen(run, name, by)))
    return found


def scores_of(run: Artifact, queries: Queries) -> Iterator[Array]:
    """Our scores of the catalogue."""
    return predict.match_scores(run.model, run.store, queries, history_length=run.history_length)


def cold_lines(shop: str, run: Artifact, by: str) -> list[Line]:
    """Products unseen in training among themselves, beside TF-IDF of all that is said of them."""
    new = np.asarray(run.store["items/id"])[1:] == 0
    column = np.cumsum(new) - 1
    asked = asked_of(run, "test", by)
    wanted = [column[items[new[items]]] for items in asked.wanted]
    kept = np.flatnonzero([len(items) > 0 for items in wanted])
    if not len(kept):
        return []
    past = {kinds: each[kept] for kinds, each in asked.past.items()}
    only = Asked(asked.queries[kept], [wanted[place] for place in kept], past)
    ours = fit_ranks((block[:, new] for block in scores_of(run, only.queries)), only.wanted)
    line = partial(_line, shop, f"{by}, new products", only, ours)
    words = content(run)

    def scores(start: int, stop: int) -> Array:
        return np.asarray(
            (past.get("all", past["stages"])[start:stop] @ words @ words[new].T).todense()
        )

    return [line("Daogou", "", ours), line("TF-IDF", "", fit_ranks(scores, only.wanted))]


def content(run: Artifact) -> Any:
    """TF-IDF of the words of each product's texts and columns, ``[I, W]``."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    table = run.store.catalogue
    items = run.shop.items
    assert items is not None
    names = [name for name in (*items.text, *items.columns) if name in table.column_names]
    columns = [table[name].to_pylist() for name in names]
    texts = [" ".join(str(part) for part in parts if part is not None)
             for parts in zip(*columns, strict=True)]  # fmt: skip
    return TfidfVectorizer(token_pattern=r"(?u)\b\w+\b").fit_transform(texts)


def _line(
    shop: str, by: str, asked: Asked, ours: Ranks, method: str, setting: str, theirs: Ranks
) -> Line:
    users = np.unique(asked.queries.user, return_inverse=True)[1]

    def score(values: Floats) -> tuple[float, float, float]:
        low, high = bootstrap(lambda w: mean_of(values, w), users, n=DRAWS, seed=0)
        return mean_of(values), low, high

    both = [(each.recall_at(K), each.ndcg_at(K)) for each in (ours, theirs)]
    ahead = [score(one - other) for one, other in zip(*both, strict=True)]
    recall, ndcg = map(score, both[1])
    apart = (None, None) if theirs is ours else (ahead[0], ahead[1])
    n_wanted = sum(map(len, asked.wanted))
    return Line(shop, by, method, setting, len(asked.wanted), n_wanted, recall, ndcg, *apart)


HEADING: Final = ("shop", "asked", "n", "wanted", "method", "recall@20", "ahead", "NDCG@20",
                  "ahead", "chosen on validation")  # fmt: skip


def cells(line: Line) -> list[str]:
    """A line as the table's words."""
    return [
        line.shop, line.asked, f"{line.n:,}", f"{line.wanted:,}", line.method,
        _words(line.recall), _words(line.recall_ahead, "+"), _words(line.ndcg),
        _words(line.ndcg_ahead, "+"), line.setting,
    ]  # fmt: skip


def _words(score: tuple[float, float, float] | None, sign: str = "") -> str:
    return "-" if score is None else between(*score, sign)


def main(arguments: Sequence[str]) -> int:
    """Fit what is not fitted yet, judge it, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("shops", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(SHOPS), default=list(SHOPS))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    bench = Bench(given.shops, given.out, given.threads)
    lines: list[Line] = []
    for shop in given.only:
        try:
            name, settings = RUNS[shop]
            run = bench.run(given.shops / shop, name, *settings)
        except DaogouError as error:
            print(f"{shop}: {error}", file=sys.stderr)
            return 1
        for by in SHOPS[shop]:
            lines += lines_of(shop, run, by)
            lines += cold_lines(shop, run, by)
    document = {
        **about("understand_match.py", arguments),
        "lines": [asdict(each) for each in lines],
    }
    (given.out / "understand_match.json").write_text(json.dumps(document, indent=1))
    table = {"Matching over the whole catalogue": (HEADING, [cells(line) for line in lines])}
    show(given.out / "understand_match.md", table, width=240)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
