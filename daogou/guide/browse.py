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


def find(
    catalogue: Catalogue, search: Search, query: str, filters: Filters
) -> tuple[Array, Hits | None]:
    """Which products pass the filters and hold the query's words, bool ``[I + 1]``."""
    kept = filters.kept(catalogue)
    hits = search.hits(query, kept)
    return (kept, None) if hits is None else (hits.mask(len(kept)), hits)


def without_its_own(
    filters: Filters, catalogue: Catalogue, facets: Facets
) -> list[tuple[str, Filters | None]]:
    """Each column of facets, and of one that is filtered what is left of the filters without it.

    So that it can still show what else there is.
    """
    price = [facets.price] if facets.price is not None else []
    filtered = filters.columns(catalogue)
    return [
        (column, filters.without(catalogue, column) if column in filtered else None)
        for column in [*facets.columns, *price]
    ]


def counted(facets: Facets, column: str, mask: Array, lang: str) -> dict[str, Any]:
    """How many products of bool ``mask [I + 1]`` have each value, most first, at most twenty."""
    if column == facets.price:
        prices = facets.prices[mask]
        found = bands(prices, np.ones(len(prices)), _PRICE_BANDS)
        values: list[dict[str, Any]] = [
            {"from": least, "to": most, "count": int(within(prices, (least, most)).sum())}
            for least, most in found
        ]
    else:
        facet = facets.columns[column]
        n = facet.counts(mask)
        order = np.lexsort((np.arange(len(n)), -n))[:_MOST_VALUES]
        values = [
            {"value": facet.values[code], "count": int(n[code])}
            for code in order.tolist()
            if n[code]
        ]
    return {"column": column, "name": column_name(column, lang), "values": values}
