"""From how many products on is a search that reads some of them faster, and what does it miss?

    python benchmarks/index.py OUT [--sizes 30000 100000 300000 1000000] [--rounds 9] [--run RUN]

Made vectors of 64 numbers in clusters of some hundred, with a bias as matching has one, and made
queries that lie near some of them. Both searches answer the same query by turns, ``--rounds`` times
``QUERIES`` of them: a ratio is of a round, and the median of rounds with the least and the largest
is shown. Once all products are allowed, once nine in ten, once one in ten by chance (fewer than the
setting of ``daogou`` are searched exactly, which is switched off here). Recall is the share of the
exact best 500 and best 10 that are found. With ``--run`` the vectors are those of a run's products
and the queries those of its users, of whom other ones place the cells. OUT gets ``index.json``.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from record import about, show
from torch import Tensor

from daogou.guide import Guide
from daogou.guide.index import Index
from daogou.model.heads.match import MatchHead

WIDTH: Final = 64
QUERIES: Final = 20  # of a round
SIZES: Final = (30_000, 100_000, 300_000, 1_000_000)
SHARES: Final = (1.0, 0.9, 0.1)
DEPTHS: Final = (500, 10)


def made(n: int, n_queries: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Vectors ``[n, D + 1]`` and queries ``[Q, D + 1]``; their product is like matching's."""
    centres = torch.randn(max(n // 300, 10), WIDTH, generator=generator)
    place = torch.randint(len(centres), (n,), generator=generator)
    items = centres[place] + 1.0 * torch.randn(n, WIDTH, generator=generator)
    bias = torch.randn(n, 1, generator=generator)
    place = torch.randint(len(centres), (n_queries,), generator=generator)
    users = centres[place] + 1.0 * torch.randn(n_queries, WIDTH, generator=generator)
    items, users = (torch.nn.functional.normalize(each, dim=1) for each in (items, users))
    return torch.cat([items, bias], 1), torch.cat([users / 0.1, torch.ones(n_queries, 1)], 1)


def seconds(search: Callable[[Tensor], Any], queries: Tensor) -> float:
    """How long some queries took, one after the other."""
    start = time.perf_counter()
    for query in queries:
        search(query[None])
    return time.perf_counter() - start


def recall(wanted: Tensor, found: Tensor) -> float:
    """The mean share of the wanted rows ``[Q, K]`` that were found."""
    pairs = zip(wanted, found, strict=True)
    return float(
        torch.stack([torch.isin(one, other).double().mean() for one, other in pairs]).mean()
    )


def of_run(run: Path, n_queries: int) -> tuple[Tensor, Tensor]:
    """What a run's index holds, and what its users ask it with at the end of the log."""
    guide = Guide.load(run)
    assert guide.index is not None, "this run cannot match"
    n_users, scorer = guide.artifact.store.n_users, guide.scorer
    users = np.random.default_rng(0).permutation(n_users)[:n_queries] + 1
    with torch.inference_mode():
        shoppers = scorer.shoppers(scorer.queries(users.tolist()))
        assert shoppers is not None and shoppers.encoded.users is not None
        head = cast(MatchHead, guide.artifact.model.heads["match"])
        return guide.index.vectors, head.query(shoppers.encoded.users)


def measure(vectors: Tensor, queries: Tensor, rounds: int) -> list[dict[str, Any]]:
    """A row for each share of allowed products; the first 64 queries place the cells."""
    n = len(vectors)
    generator = torch.Generator().manual_seed(n)
    exact = Index(vectors)
    start = time.perf_counter()
    near = exact.in_cells(queries[:64], least=1)
    built = time.perf_counter() - start
    assert near.cells is not None, "pip install 'daogou[ann]'"
    asked = queries[64:].split(QUERIES)[:rounds]
    rows = []
    for share in SHARES:
        allowed = torch.rand(n, generator=generator) < share
        allowed[0] = False
        searches = [partial(each.nearest, k=DEPTHS[0], allowed=allowed) for each in (exact, near)]
        ratios = []
        for part in asked:
            slow, fast = (seconds(search, part) for search in searches)
            ratios.append(slow / fast)
        ours, theirs = (
            torch.cat([search(query[None])[1] for query in queries[64:]]) for search in searches
        )
        rows.append(
            {
                "products": n, "allowed": share, "probes": near.cells.near.probes,
                "cells": near.cells.near.cells.nlist, "ratio": statistics.median(ratios),
                "least": min(ratios), "most": max(ratios),
                "build_over_search": built / slow * QUERIES,
                **{f"recall@{k}": recall(ours[:, :k], theirs[:, :k]) for k in DEPTHS},
            }
        )  # fmt: skip
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every size and show a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--run", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    n_queries = 64 + QUERIES * given.rounds
    if given.run is not None:
        rows = measure(*of_run(given.run, n_queries), given.rounds)
        sizes = ["--run", str(given.run), "--rounds", str(given.rounds)]
    else:
        rows = [
            row for n in given.sizes
            for row in measure(*made(n, n_queries, torch.Generator().manual_seed(n)), given.rounds)
        ]  # fmt: skip
        sizes = ["--sizes", *map(str, given.sizes), "--rounds", str(given.rounds)]
    document = {**about("index.py", ["OUT", *sizes]), "rows": rows}
    (given.out / "index.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    heading = ["products", "allowed", "read", "exact / approximate", "recall@500", "recall@10"]
    cells = [
        [
            f"{row['products']:,}", f"{row['allowed']:.0%}", f"{row['probes'] / row['cells']:.1%}",
            f"{row['ratio']:.1f} ({row['least']:.1f} to {row['most']:.1f})",
            f"{row['recall@500']:.4f}", f"{row['recall@10']:.4f}",
        ]
        for row in rows
    ]  # fmt: skip
    show(given.out / "index.md", {"Search": (heading, cells)}, width=100)


if __name__ == "__main__":
    main()
