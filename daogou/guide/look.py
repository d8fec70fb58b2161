"""Products that pass filters to a list, by a query's words and by what somebody likes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daogou.features.queries import Queries
from daogou.guide.catalogue import Catalogue
from daogou.guide.ranker import CANDIDATES, Ranker
from daogou.guide.search import Hits, fused


@dataclass(frozen=True)
class Found:
    """Rows of products ``[R]``, best first, and of the first so many their scores.

    ``relevance [R]`` is None where no word was asked for, ``scores`` where nobody asked.
    """

    rows: NDArray[np.int64]
    relevance: NDArray[np.float64] | None
    scores: NDArray[np.float64] | None = None

    def lines(self, catalogue: Catalogue, start: int, end: int) -> list[dict[str, Any]]:
        """What an answer says of the products from one place to another."""
        relevance, scores = self.relevance, self.scores
        return [
            {
                "item": catalogue.keys[self.rows[place]],
                "title": catalogue.name(int(self.rows[place])),
                "relevance": float(relevance[place]) if relevance is not None else None,
                "score": float(scores[place])
                if scores is not None and place < len(scores)
                else None,
            }
            for place in range(start, min(end, len(self.rows)))
        ]


def by_relevance(
    popular: NDArray[np.int64], passing: NDArray[np.bool_], hits: Hits | None
) -> Found:
    """The passing products by relevance, and of equals the most ``popular`` first."""
    rows = popular[passing[popular]]
    if hits is None:
        return Found(rows, None)
    by_row = np.zeros(len(passing))
    by_row[hits.rows] = hits.relevance
    rows = rows[np.argsort(-by_row[rows], kind="stable")]
    return Found(rows, by_row[rows])


def for_somebody(
    found: Found,
    ranker: Ranker,
    queries: Queries,
    passing: NDArray[np.bool_],
    context: Mapping[str, object] | None,
) -> Found:
    """The same with the first of them ranked for somebody, see `Guide.search`."""
    ranker.needs("funnel", "search for a user")
    shoppers, rows, relevance = ranker.scorer.shoppers(queries), found.rows, found.relevance
    if relevance is None:
        first = ranker.candidates((shoppers,), passing, CANDIDATES, None)
        rest = passing.copy()
        rest[first] = False
        rows = np.concatenate([first, rows[rest[rows]]])
    n = min(len(rows), CANDIDATES)
    scores, _ = ranker.scored(shoppers, rows[:n], context)
    worth = scores if relevance is None else fused(relevance[:n], scores)
    order = np.lexsort((np.arange(n), -worth))
    if relevance is not None:
        relevance = np.concatenate([relevance[:n][order], relevance[n:]])
    return Found(np.concatenate([rows[:n][order], rows[n:]]), relevance, scores[order])
