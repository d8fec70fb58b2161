"""A catalogue's columns as codes: how many products hold each value, and bands of their prices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daogou.guide.catalogue import Catalogue, Facet, as_floats

Array = NDArray[Any]
Band = tuple[float | None, float | None]  # from (inclusive) and to (exclusive); None is open


@dataclass(frozen=True)
class Facets:
    """Every column that products share, and their prices. Made by `fit_facets`."""

    columns: Mapping[str, Facet]
    price: str | None  # the column of prices
    prices: Array  # [I + 1], NaN where missing


def fit_facets(catalogue: Catalogue) -> Facets:
    """The columns whose values products share, and the column of prices if any."""
    price = catalogue.price_column
    prices = np.full(len(catalogue.keys), np.nan)
    if price is not None:
        prices[1:] = as_floats(catalogue.columns[price])
    return Facets(catalogue.coded, price, prices)


def bands(prices: Array, weights: Array, n: int) -> list[Band]:
    """At most ``n`` bands of prices ``[N]`` with about equal shares of ``weights [N]``.

    Borders are quantiles rounded to two digits, so that a person can read them; those that fall
    together, or leave a band with nothing, are left out. Fewer than two bands are none.

    >>> bands(np.array([9.0, 12.0, 19.9, 48.0]), np.ones(4), 2)
    [(None, 20.0), (20.0, None)]
    """
    known = np.isfinite(prices) & (weights > 0)
    prices, weights = prices[known], weights[known]
    if not len(prices):
        return []
    order = np.argsort(prices, kind="stable")
    below = np.cumsum(weights[order]) / weights.sum()
    places = np.searchsorted(below, np.arange(1, n) / n, side="right").clip(max=len(order) - 1)
    borders: list[float] = []
    for price in prices[order][places].tolist():
        border = float(f"{price:.2g}")
        last = borders[-1] if borders else -np.inf
        if border > last and ((prices >= last) & (prices < border)).any():
            borders.append(border)
    if borders and not (prices >= borders[-1]).any():
        borders.pop()
    ends: list[float | None] = [None, *borders, None]
    found = list(pairwise(ends))
    return found if len(found) > 1 else []


def within(prices: Array, band: Sequence[float | None]) -> Array:
    """Which prices lie in a band; a missing one lies in none."""
    least, most = band
    inside = np.isfinite(prices)
    if least is not None:
        inside &= prices >= least
    if most is not None:
        inside &= prices < most
    return inside
