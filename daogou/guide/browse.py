"""Filters and a query to the products that pass, in order, and to the counts beside them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daogou.guide.catalogue import Catalogue
from daogou.guide.facets import Facets, bands, within
from daogou.guide.search import Hits, Search
from daogou.guide.words import column_name

Array = NDArray[Any]
_MOST_VALUES: Final = 20
_PRICE_BANDS: Final = 5


@dataclass(frozen=True)
class Filters:
    """What a shopper wants to see; see `Catalogue.keep`."""

    category: str | None = None
    brand: str | None = None
    price_min: float | None = None
    price_max: float | None = None
    in_stock: bool = False
    where: Mapping[str, object] | None = None
    exclude: Iterable[object] = ()

    def kept(self, catalogue: Catalogue) -> Array:
        """Which rows pass, bool ``[I + 1]``; never the unknown one."""
        kept = catalogue.keep(
            self.category, self.price_max, self.where, brand=self.brand,
            price_min=self.price_min, in_stock=self.in_stock, exclude=self.exclude,
        )  # fmt: skip
        if kept is None:
            kept = np.ones(len(catalogue.keys), dtype=bool)
            kept[0] = False
        return kept

    def columns(self, catalogue: Catalogue) -> set[str]:
        """The columns about which something is wanted."""
        found = {word for word in ("category", "brand") if getattr(self, word) is not None}
        if self.price_min is not None or self.price_max is not None:
            found.add("price")
        return {catalogue.named(word) for word in found} | set(self.where or {})

    def without(self, catalogue: Catalogue, column: str) -> "Filters":
        """The same but for what is wanted of one column."""
        changed: dict[str, Any] = {}
        for word, names in (
            ("category", ("category",)),
            ("brand", ("brand",)),
            ("price", ("price_min", "price_max")),
        ):
            given = [name for name in names if getattr(self, name) is not None]
            if given and catalogue.named(word) == column:
                changed |= dict.fromkeys(given)
        where = {name: value for name, value in (self.where or {}).items() if name != column}
        return replace(self, where=where, **changed)


@dataclass(frozen=True)
class Found:
    """Products ``[N]`` that pass and hold the query's words, best first for anybody."""

    rows: Array
    relevance: Array | None  # [N]; None without a query
    hits: Hits | None


def find(
    catalogue: Catalogue, search: Search, popularity: Array, query: str, filters: Filters
) -> Found:
    """What a query and filters leave, by relevance and then by popularity."""
    kept = filters.kept(catalogue)
    hits = search.hits(query, kept)
    rows = np.flatnonzero(kept) if hits is None else hits.rows
    relevance = np.zeros(len(rows)) if hits is None else hits.relevance
    order = np.lexsort((rows, -popularity[rows], -relevance))
    return Found(rows[order], None if hits is None else relevance[order], hits)


def counts(
    catalogue: Catalogue, facets: Facets, rows_of: Mapping[str, Array], lang: str
) -> list[dict[str, Any]]:
    """How many of the products found have each value, most first, at most twenty of a column.

    ``rows_of`` are the rows to count for each column, so that a column that is filtered can still
    show what else there is.
    """
    lines: list[dict[str, Any]] = []
    for column, facet in facets.columns.items():
        n = facet.counts(rows_of[column])
        order = np.lexsort((np.arange(len(n)), -n))
        values = [
            {"value": facet.values[code], "count": int(n[code])}
            for code in order[:_MOST_VALUES].tolist()
            if n[code]
        ]
        lines.append({"column": column, "name": column_name(column, lang), "values": values})
    if facets.price is not None:
        prices = facets.prices[rows_of[facets.price]]
        values = [
            {"from": least, "to": most, "count": int(within(prices, (least, most)).sum())}
            for least, most in bands(prices, np.ones(len(prices)), _PRICE_BANDS)
        ]
        name = column_name(facets.price, lang)
        lines.append({"column": facets.price, "name": name, "values": values})
    return lines
