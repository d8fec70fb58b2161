"""Raw parquet to a compiled store: rows a second and memory, beside a careful pandas pipeline.

    python benchmarks/transform.py OUT [--exposures 1000000 10000000 50000000] [--threads 2]

**What is read.** One shop of the `easy` preset with the first number of exposures is made by
`simulate`; a larger one is that shop's log many times over: copy c has users of its own (the same
users under other keys), requests and exposure ids of its own, and its times are moved by c times
1.234567 s. Products are shared. The log is written day by day, in order of time, so that making it
needs no more memory than a day of it. Every copy of a user does what the user did: that eases
compression of the file on disk, and neither sorts nor joins.

**What is timed.** `prepare` (read, credit, split), `check`, `fit_transform`, `compile_store`: what
`fit` does before the first step. The pandas pipeline is written for this one shop: it knows its
columns and trusts them. It credits labels, censors them, splits, gives rows and codes, fits
quantiles, points into histories and reads titles, and its arrays are compared with the store's,
number by number. It is spared what takes no time at this size (gold spans, word pairs and affixes,
users' profiles) and every check. Imports are outside both clocks.

**Memory** is the peak of the process: all resident pages (``rss``), and those that are its own
and no file's (``anon``, sampled every 20 ms): pages of a mapped file can be dropped at any time.

OUT keeps the made shops and gets ``transform.json``. Needs pandas and scikit-learn
(``pip install -e '.[peers]'``) and Linux. The exit status is 1 if a bar is missed.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from memory import peak_gb
from record import about
from rich.console import Console
from rich.table import Table

from daogou.config import read_shop
from daogou.features.numeric import fit_numeric
from daogou.features.store.compile import compile_store
from daogou.features.transform.fit import fit_transform
from daogou.schema import HOUR_US
from daogou.tables import Engine, prepare
from daogou.tables.check import check
from daogou.tables.simulate import simulate

FASTER: Final = 5.0  # times pandas, at the least size
MEMORY_GB: Final = 4.0  # at the largest size
GROWTH: Final = 1.25  # times the peak, from the second largest size to the largest
PAIRS: Final = 3
STAGES: Final = ("click", "cart", "purchase")
_WINDOWS_US: Final = np.array([1, 24, 72]) * HOUR_US
_APART_US: Final = 1_234_567
_KEYS_APART: Final = 10**8
_TOKEN: Final = r"(?u)\d+(?:\.\d{1,2}(?!\d))?|[^\W\d_]+|\S"


# ---- the made shops ---------------------------------------------------------------------


def make_shop(folder: Path, exposures: int) -> None:
    """The `easy` shop of that many exposures."""
    if not (folder / "shop.toml").exists():
        simulate(folder, "easy", seed=0, exposures=exposures)


def copy_shop(source: Path, folder: Path, copies: int) -> None:
    """A shop of ``copies`` times the log of ``source``, in order of time; see the module."""
    if (folder / "shop.toml").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "items.parquet", folder)
    users, events = (pq.read_table(source / f"{name}.parquet") for name in ("users", "events"))
    each = [_moved(users, {"user_id": copy * len(users)}) for copy in range(copies)]
    pq.write_table(pa.concat_tables(each), folder / "users.parquet")
    time_us = events["ts"].cast(pa.int64()).to_numpy()
    day = (time_us - time_us[0]) // (24 * HOUR_US)
    ends = np.searchsorted(day, np.arange(day[-1] + 2))
    with pq.ParquetWriter(folder / "events.parquet", events.schema) as writer:
        for first, last in itertools.pairwise(ends):
            piece = events.slice(first, last - first)
            several = pa.concat_tables(
                [
                    _moved(
                        piece,
                        {
                            "id": copy * _KEYS_APART,
                            "request": copy * _KEYS_APART,
                            "user_id": copy * len(users),
                            "ts": copy * _APART_US,
                        },
                    )
                    for copy in range(copies)
                ]
            )
            writer.write_table(several.take(pc.sort_indices(several["ts"])))
    shop = (source / "shop.toml").read_text("utf-8").split("[truth]")[0]
    (folder / "shop.toml").write_text(shop, "utf-8")  # last: the shop is whole


def _moved(table: pa.Table, by: Mapping[str, int]) -> pa.Table:
    """The table with a number added to some columns, whatever their type."""
    for name, step in by.items():
        place = table.schema.get_field_index(name)
        kept = table.schema.field(place)
        values = pc.add(table[name].cast(pa.int64()), step).cast(kept.type)
        table = table.set_column(place, kept, values)
    return table


# ---- one measurement, in a process of its own -------------------------------------------


class Clock:
    """Seconds of each stage, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


def compile_ours(shop_folder: Path, store: Path, threads: int, clock: Clock) -> None:
    """The product's path, as `fit` goes it."""
    shop = read_shop(shop_folder)
    with Engine(threads=threads) as engine:
        with clock("prepare"):
            counts = prepare(engine, shop)
        with clock("check"):
            check(engine, shop, counts)
        with clock("fit transform"):
            transform = fit_transform(engine, shop)
        with clock("compile"):
            compile_store(engine, shop, transform, store)


def measured(work: Callable[[Path, Path, int, Clock], None], given: Sequence[Any]) -> str:
    """Run the work in this process; its seconds and peak memory as JSON."""
    pa.array([1.0]).to_numpy()  # pyarrow imports pandas here if it is installed: not in the clock
    clock = Clock()
    with peak_gb() as peak:
        work(Path(given[0]), Path(given[1]), int(given[2]), clock)
    return json.dumps(
        {
            "seconds": sum(clock.seconds.values()),
            "stages": clock.seconds,
            "rss_gb": peak["rss"],
            "anon_gb": peak["anon"],
        }
    )


def run(what: str, shop: Path, store: Path, threads: int) -> dict[str, Any]:
    """One measurement of "ours" or "pandas" in a fresh process; the store is left in place."""
    shutil.rmtree(store, ignore_errors=True)
    counts = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)
    )
    answer = subprocess.run(
        [sys.executable, __file__, "--measure", what, str(shop), str(store), str(threads)],
        env={**os.environ, **counts},
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise RuntimeError(f"{what} on {shop} ended with {answer.returncode}:\n{answer.stderr}")
    found: dict[str, Any] = json.loads(answer.stdout.strip().splitlines()[-1])
    return found


# ---- the pandas pipeline ----------------------------------------------------------------


def compile_pandas(shop: Path, store: Path, threads: int, clock: Clock) -> None:
    """The same arrays by pandas, numpy and scikit-learn, for this one shop."""
    import pandas as pd
    from sklearn.feature_extraction.text import CountVectorizer

    pa.set_cpu_count(threads)
    with clock("prepare"):
        items = pd.read_parquet(shop / "items.parquet").sort_values("item_id", ignore_index=True)
        users = pd.read_parquet(shop / "users.parquet").sort_values("user_id", ignore_index=True)
        columns = ["id", "user_id", "item_id", "ts", "event", "request", "position", "device"]
        events = pd.read_parquet(shop / "events.parquet", columns=columns)
        events["ts"] = events["ts"].astype("int64")
        shown = events[events["event"] == "impression"]
        shown = shown.sort_values(["ts", "user_id", "request"], kind="stable", ignore_index=True)
        acted = events[events["event"].isin(STAGES)][["user_id", "item_id", "request", "ts"]]
        stage = events.loc[acted.index, "event"].map({name: k for k, name in enumerate(STAGES)})
        acted = acted.assign(stage=stage.astype("int8"))
        end = int(events["ts"].max())
        deepest = _credited(pd, shown, acted)
        split, labels = _split(shown["ts"].to_numpy(), deepest, end)
        request = pd.Series(split).groupby(shown["request"])
        kept = (request.transform("min") == request.transform("max")) | shown["request"].isna()
        if not kept.all():
            shown, split, labels = shown[kept].reset_index(drop=True), split[kept], labels[kept]
    time_us = shown["ts"].to_numpy()
    train = split == 0
    with clock("fit transform"):
        until = acted["ts"] <= time_us[train].max()
        seen = pd.concat([shown.loc[train, "item_id"], acted.loc[until, "item_id"]])
        item_words = _by_count(pd, seen)
        user_words = _by_count(pd, shown.loc[train, "user_id"])
        known = items[items["item_id"].isin(seen.unique())]
        here = users[users["user_id"].isin(shown.loc[train, "user_id"].unique())]
        words = {name: _by_count(pd, known[name]) for name in ("category", "brand")}
        words["city"] = _by_count(pd, here["city"])
        words["device"] = _by_count(pd, shown.loc[train, "device"])
        position = shown["position"].to_numpy(dtype=np.float64)
        price = items["price"].to_numpy(dtype=np.float64)
        by_position = fit_numeric(position[train])
        by_price = fit_numeric(price[known.index])
        counter = CountVectorizer(token_pattern=_TOKEN, min_df=2)
        counter.fit(known["title"].drop_duplicates())
    with clock("compile"):
        item_keys, user_keys = pd.Index(items["item_id"]), pd.Index(users["user_id"])
        history = pd.DataFrame(
            {
                "user": user_keys.get_indexer(acted["user_id"]) + 1,
                "time": acted["ts"],
                "item": item_keys.get_indexer(acted["item_id"]) + 1,
                "action": acted["stage"],
            }
        )
        # The store breaks ties by the action's name, and "cart" is before "click".
        history["name"] = np.argsort(np.argsort(STAGES))[history["action"]]
        history = history.sort_values(["user", "time", "item", "name"], ignore_index=True)
        counts = np.bincount(history["user"], minlength=len(users) + 1)[1:]
        start = np.concatenate([[0, 0], np.cumsum(counts)])
        user_row = user_keys.get_indexer(shown["user_id"]) + 1
        query = shown.groupby(["user_id", "ts", "request"], sort=False).ngroup().to_numpy()
        first = np.flatnonzero(np.diff(query, prepend=-1))
        ends = _ends(pd, history, start, user_row[first], time_us[first])
        titles = _titles(counter, items["title"])
        category, brand = (_codes(words[name], items[name]) for name in ("category", "brand"))
        columns_before = (len(words["category"]) + 1, len(words["brand"]) + 1)
        fields = [
            category,
            brand + columns_before[0],
            by_price.bucket(price) + sum(columns_before),
        ]
        device = _codes(words["device"], shown["device"]) + by_position.n_rows
        arrays = {
            "items/id": _after_unknown(_codes(item_words, items["item_id"].astype(str))),
            "items/fields": np.stack(fields, axis=1),
            "items/numbers": by_price.rank(price)[:, None],
            "users/id": _after_unknown(_codes(user_words, users["user_id"].astype(str))),
            "users/fields": _codes(words["city"], users["city"])[:, None],
            "users/start": start,
            "history/item": history["item"].to_numpy(dtype=np.int32),
            "history/action": history["action"].to_numpy(dtype=np.int8),
            "history/time": history["time"].to_numpy(),
            "queries/user": user_row[first].astype(np.int32),
            "queries/time": time_us[first],
            "queries/end": ends,
            "exposures/item": (item_keys.get_indexer(shown["item_id"]) + 1).astype(np.int32),
            "exposures/query": query.astype(np.int32),
            "exposures/time": time_us,
            "exposures/weight": np.ones(len(shown), dtype=np.float32),
            "exposures/labels": labels,
            "exposures/fields": np.stack([by_position.bucket(position), device], axis=1),
            "exposures/numbers": by_position.rank(position)[:, None],
            "texts/words": titles,
        }
        for name, values in arrays.items():
            path = store / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values)
        keys = shown[["id", "user_id", "item_id", "request"]]
        keys.astype({"user_id": str, "item_id": str}).to_parquet(store / "keys.parquet")


def _credited(pd: Any, shown: Any, acted: Any) -> Any:
    """The deepest stage that each exposure is credited with, -1 for none."""
    keys = ["user_id", "item_id", "request"]
    right = shown[[*keys, "ts"]].assign(exposure=np.arange(len(shown)), shown=shown["ts"])
    found = pd.merge_asof(acted.sort_values("ts", kind="stable"), right, on="ts", by=keys)
    found = found[found["exposure"].notna()]
    in_time = found["ts"] - found["shown"] < _WINDOWS_US[found["stage"].to_numpy(dtype=np.int64)]
    stages = found[in_time].groupby("exposure")["stage"].max()
    deepest = np.full(len(shown), -1, dtype=np.int8)
    deepest[stages.index.to_numpy(dtype=np.int64)] = stages
    return deepest


def _split(time_us: Any, deepest: Any, end: int) -> tuple[Any, Any]:
    """Split of each exposure, a tenth each to validation and test, and its labels."""
    n = len(time_us)

    def cut(stop: int) -> int:
        wanted = stop - 0.1 * n
        at = time_us[int(wanted)]
        near = [at, *time_us[np.searchsorted(time_us, at, side="right") :][:1]]
        apart = [(abs(np.searchsorted(time_us, moment) - wanted), moment) for moment in near]
        return int(min(apart)[1])

    test = cut(n)
    validation = cut(int(np.searchsorted(time_us, test)))
    split = (time_us >= validation).astype(np.int8) + (time_us >= test)
    labels = (deepest[:, None] >= np.arange(len(STAGES))).astype(np.int8)
    closes = time_us[:, None] + _WINDOWS_US
    labels[closes > np.array([validation, test, end])[split][:, None]] = -1
    return split, labels


def _by_count(pd: Any, values: Any) -> Any:
    """The words, most frequent first, then by spelling."""
    counts = values.value_counts().rename_axis("word").reset_index(name="n")
    counts["word"] = counts["word"].astype(str)
    return pd.Index(counts.sort_values(["n", "word"], ascending=[False, True])["word"])


def _codes(words: Any, values: Any) -> Any:
    return (words.get_indexer(values) + 1).astype(np.int32)


def _after_unknown(rows: Any) -> Any:
    return np.concatenate([np.zeros(1, dtype=np.int32), rows])


def _ends(pd: Any, history: Any, start: Any, user: Any, time_us: Any) -> Any:
    """Where the history of each query ends: at the last event strictly before it."""
    right = history[["user", "time"]].assign(position=np.arange(1, len(history) + 1))
    left = pd.DataFrame({"user": user, "time": time_us, "query": np.arange(len(user))})
    found = pd.merge_asof(
        left.sort_values("time", kind="stable"),
        right.sort_values("time", kind="stable"),
        on="time", by="user", allow_exact_matches=False,
    ).sort_values("query")["position"].to_numpy()  # fmt: skip
    return np.where(np.isnan(found), start[user], found).astype(np.int64)


def _titles(counter: Any, titles: Any, length: int = 32) -> Any:
    """Rows of the words of each title: 0 no word, 1 an unknown one."""
    read, vocabulary = counter.build_analyzer(), counter.vocabulary_
    rows = np.zeros((len(titles) + 1, length), dtype=np.int32)
    for row, title in enumerate(titles, start=1):
        line = [vocabulary.get(word, -1) + 2 for word in read(title)][:length]
        rows[row, : len(line)] = line
    return rows


def same_arrays(ours: Path, theirs: Path) -> list[str]:
    """Names of the arrays that both hold; raises if a number differs."""
    found = []
    for path in sorted(theirs.rglob("*.npy")):
        name = str(path.relative_to(theirs).with_suffix(""))
        if not (ours / f"{name}.npy").exists():
            continue
        one, other = np.load(ours / f"{name}.npy", mmap_mode="r"), np.load(path, mmap_mode="r")
        if name in ("items/fields", "items/numbers", "users/fields"):
            one = one[1:]  # the store's row of the unknown one
        if one.shape != other.shape or not np.array_equal(one, other):
            raise RuntimeError(f"{name}: the two pipelines differ; they do not do the same work")
        found.append(name)
    return found


# ---- the whole --------------------------------------------------------------------------

WORKS: Final[Mapping[str, Callable[[Path, Path, int, Clock], None]]] = {
    "ours": compile_ours,
    "pandas": compile_pandas,
}


def main(arguments: Sequence[str]) -> int:
    """Make the shops, measure, print; 1 if a bar is missed."""
    if arguments[:1] == ["--measure"]:
        print(measured(WORKS[arguments[1]], arguments[2:]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--exposures", type=int, nargs="+", default=[10**6, 10**7, 5 * 10**7])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    given = parser.parse_args(arguments)
    sizes = sorted(given.exposures)
    odd = [size for size in sizes if size % sizes[0]]
    if odd:
        parser.error(f"--exposures: {odd[0]} is not a multiple of {sizes[0]}")
    given.out.mkdir(parents=True, exist_ok=True)
    shops = [given.out / f"shop-{size}" for size in sizes]
    make_shop(shops[0], sizes[0])
    for shop, size in zip(shops[1:], sizes[1:], strict=True):
        copy_shop(shops[0], shop, size // sizes[0])
    stores = {what: given.out / f"store-{what}" for what in WORKS}
    runs = []  # (what, exposures, measurement)
    for _ in range(given.pairs):
        for what in WORKS:
            runs.append((what, sizes[0], run(what, shops[0], stores[what], given.threads)))
    compared = same_arrays(stores["ours"], stores["pandas"])
    for shop, size in zip(shops[1:], sizes[1:], strict=True):
        runs.append(("ours", size, run("ours", shop, stores["ours"], given.threads)))
    for store in stores.values():
        shutil.rmtree(store, ignore_errors=True)
    bars = judged(runs, sizes)
    _show(runs, bars)
    print(f"{len(compared)} arrays of the two are equal: {', '.join(compared)}")
    document = {
        **about("transform.py", arguments),
        "threads": given.threads,
        "runs": [{"what": what, "exposures": n, **found} for what, n, found in runs],
        "equal": compared,
        "bars": bars,
    }
    (given.out / "transform.json").write_text(json.dumps(document, indent=1), "utf-8")
    return int(any(bar["holds"] is False for bar in bars))


Runs = Sequence[tuple[str, int, Mapping[str, Any]]]


def judged(runs: Runs, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Each bar with what was measured; the ratio is the median over neighbouring pairs."""
    least = {
        what: [found["seconds"] for name, n, found in runs if (name, n) == (what, sizes[0])]
        for what in WORKS
    }
    ratio = statistics.median(
        slow / fast for fast, slow in zip(least["ours"], least["pandas"], strict=True)
    )
    bars = [_bar(f"times as fast as pandas at {sizes[0]:,}", ratio, FASTER, ratio >= FASTER)]
    peaks = {n: found for what, n, found in runs if what == "ours"}
    for kind in ("rss_gb", "anon_gb"):
        largest = peaks[sizes[-1]][kind]
        bars.append(_bar(f"{kind} at {sizes[-1]:,}", largest, MEMORY_GB, largest <= MEMORY_GB))
        if len(sizes) > 2:
            growth = largest / peaks[sizes[-2]][kind]
            what = f"{kind}, {sizes[-1]:,} over {sizes[-2]:,}"
            bars.append(_bar(what, growth, GROWTH, growth <= GROWTH))
    return bars


def _bar(what: str, value: float, bar: float, holds: bool) -> dict[str, Any]:
    return {"what": what, "value": value, "bar": bar, "holds": holds}


def _show(runs: Runs, bars: Sequence[Mapping[str, Any]]) -> None:
    stages = ("prepare", "check", "fit transform", "compile")
    table = Table("", "exposures", "rows/s", "s", *stages, "rss GB", "anon GB")
    for what, n, found in runs:
        seconds = [f"{found['stages'].get(stage, 0.0):.2f}" for stage in stages]
        memory = [f"{found[kind]:.2f}" for kind in ("rss_gb", "anon_gb")]
        total = found["seconds"]
        table.add_row(what, f"{n:,}", f"{n / total:,.0f}", f"{total:.2f}", *seconds, *memory)
    console = Console(width=120)
    console.print(table)
    table = Table("what", "value", "bar", "")
    for bar in bars:
        verdict = "PASS" if bar["holds"] else "MISS"
        table.add_row(bar["what"], f"{bar['value']:.2f}", f"{bar['bar']:.2f}", verdict)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
