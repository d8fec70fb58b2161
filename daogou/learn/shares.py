"""Rows to how they fall into bins, and how far that is from how others fell."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daogou.features.queries import user_rows
from daogou.features.store import Store
from daogou.features.text import PADDING, UNKNOWN
from daogou.features.transform import Transform
from daogou.features.transform.fields import Fields
from daogou.features.vocab import Vocab

Array = NDArray[Any]

Floats = NDArray[np.float64]

Rows = NDArray[np.int64]

MOST_BINS: Final = 20  # of a feature, and one for what is unknown

MOST_ROWS: Final = 200_000  # exposures that are counted, evenly spread


_OTHER, _UNKNOWN = "other", "unknown"


@dataclass(frozen=True)
class Shares:
    """How some rows fall into ``bins``: shares ``[K]`` and their covariance ``[K, K]`` by luck."""

    bins: tuple[str, ...]
    share: Floats
    covariance: Floats
    n: int

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Shares":
        """The shares of a document made of them."""
        share, covariance = (  # an undefined number was written as null
            np.asarray(document[key], dtype=np.float64) for key in ("share", "covariance")
        )
        return Shares(tuple(document["bins"]), share, covariance, int(document["n"]))

    def to_json(self) -> dict[str, Any]:
        """A document from which `from_json` makes equal shares."""
        return {
            "bins": list(self.bins),
            "share": self.share.tolist(),
            "covariance": self.covariance.tolist(),
            "n": self.n,
        }


def shares_of(
    bins: Sequence[str], place: Rows, groups: Rows, weight: Floats | None = None
) -> Shares:
    """How rows at ``place [n]`` of the bins fall, drawn by whole ``groups [n]``, with ``weight``.

    The covariance is that of a ratio of sums over independent groups, by linearisation.

    >>> found = shares_of(("no", "yes"), np.array([0, 1, 0, 0]), np.array([0, 1, 2, 3]))
    >>> found.share.tolist(), round(float(found.covariance[1, 1]), 4)  # 1/4 * 3/4 / 3
    ([0.75, 0.25], 0.0625)
    """
    mass = np.ones(len(place)) if weight is None else weight
    if not len(place) or not mass.sum():
        nothing = np.full(len(bins), np.nan)
        return Shares(tuple(bins), nothing, np.outer(nothing, nothing), 0)
    codes = np.unique(groups, return_inverse=True)[1]
    n_groups, n_bins = int(codes.max()) + 1, len(bins)
    flat = np.bincount(codes * n_bins + place, mass, n_groups * n_bins)
    counts = flat.reshape(n_groups, n_bins) / mass.sum()
    share = counts.sum(0)
    apart = counts - counts.sum(1, keepdims=True) * share
    luck = n_groups / (n_groups - 1) if n_groups > 1 else math.nan
    return Shares(tuple(bins), share, luck * apart.T @ apart, len(place))


@dataclass(frozen=True)
class Moved:
    """How far shares are from earlier ones: ``index``, what of it is noise, and a p value."""

    index: float
    noise: float
    p: float


def moved(before: Shares, now: Shares) -> Moved:
    """The population stability index of two independent draws, ``sum (q - p) ln (q / p)``.

    Each bin counts half a row more, so that the index is finite. Without a change it is luck
    alone: to first order a quadratic form in the shares' differences, whose mean is ``noise`` and
    whose law is nearly that of a scaled chi square (Rao & Scott, "The Analysis of Categorical Data
    from Complex Sample Surveys", 1981, with Satterthwaite's degrees of freedom), the cube root of
    which is nearly normal (Wilson & Hilferty, 1931). Rows of one user are so taken for what they
    are, not for as many witnesses.
    """
    if not before.n or not now.n:
        return Moved(math.nan, math.nan, math.nan)
    p, q = ((each.share * each.n + 0.5) / (each.n + 0.5 * len(each.bins)) for each in (before, now))
    index = float(((q - p) * np.log(q / p)).sum())
    middle = (before.share + now.share) / 2
    there = middle > 0
    apart = (now.share - before.share)[there]
    both = (before.covariance + now.covariance)[np.ix_(there, there)]
    scaled = both / np.sqrt(np.outer(middle[there], middle[there]))
    noise, square = float(np.trace(scaled)), float((scaled**2).sum())
    if not noise > 0:
        return Moved(index, noise, math.nan if math.isnan(noise) else float(not apart.any()))
    found, freedom = float((apart**2 / middle[there]).sum()), noise**2 / square
    ninth = 2 / (9 * freedom)
    normal = ((found / noise) ** (1 / 3) - (1 - ninth)) / math.sqrt(ninth)
    return Moved(index, noise, chance_above(normal))


def chance_above(normal: float) -> float:
    """The chance that a standard normal number is larger."""
    return math.erfc(normal / math.sqrt(2)) / 2


def summary(
    store: Store,
    transform: Transform,
    rows: Rows,
    bins: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, Shares]:
    """How exposures, ``rows``, fall into the values of each column.

    The bins are those given, or the most frequent values, the rest, and what is unknown.
    """
    rows = some_rows(rows)
    user, item = user_rows(store, rows), np.asarray(store["exposures/item"])[rows]
    groups = groups_at(user, rows)
    found = {}
    for kind, fields, at in (
        ("items", transform.items, ("items/fields", item)),
        ("users", transform.users, ("users/fields", user)),
        ("events.context", transform.context, ("exposures/fields", rows)),
    ):
        values = np.asarray(store[at[0]][at[1]])
        for place, (name, offset) in enumerate(zip(fields.names, fields.offsets, strict=True)):
            labels, of_row = _labels(fields, place), values[:, place] - offset
            key = f"feature {kind}.{name}"
            chosen = bins[key] if bins is not None else _frequent(labels, of_row)
            numbers = {label: number for number, label in enumerate(chosen)}
            lut = np.array([numbers.get(label, numbers[_OTHER]) for label in labels])
            found[key] = shares_of(chosen, lut[of_row], groups)
    return found


def _labels(fields: Fields, place: int) -> list[str]:
    """What each row of a column's coder is called, wherever it stands."""
    coder = fields.coders[place]
    if isinstance(coder, Vocab):
        return [_UNKNOWN, *(f"={word}" for word in coder.words)]
    n = coder.n_rows - 1  # neighbouring buckets together, so that there are few
    return [_UNKNOWN, *(f"#{bucket * min(n, MOST_BINS) // n}" for bucket in range(n))]


def _frequent(labels: Sequence[str], rows: Rows) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for label, n in zip(labels, np.bincount(rows, minlength=len(labels)).tolist(), strict=True):
        counts[label] = counts.get(label, 0) + n
    del counts[_UNKNOWN]
    most = sorted(counts, key=lambda label: (-counts[label], label))[:MOST_BINS]
    return (_UNKNOWN, *most, _OTHER)


def unknown(store: Store, transform: Transform, rows: Rows) -> dict[str, Shares]:
    """How many of the exposures, ``rows``, are of ids and words that no row is of."""
    rows = some_rows(rows)
    user, item = user_rows(store, rows), np.asarray(store["exposures/item"])[rows]
    groups, names = groups_at(user, rows), ("known", _UNKNOWN)
    found = {}
    for kind, row in (("users", user), ("items", item)):
        named = row > 0
        if named.any():
            ids = np.asarray(store[f"{kind}/id"])[row[named]]
            found[f"unknown {kind}"] = shares_of(names, (ids == 0).astype(int), groups[named])
    if transform.text is not None:
        words = np.asarray(store["texts/tokens"])[..., 0][np.asarray(store["items/text"])[item]]
        missing = (words == UNKNOWN).sum(1)
        mass = np.concatenate([(words != PADDING).sum(1) - missing, missing]).astype(float)
        place = np.repeat([0, 1], len(rows))
        found["unknown words"] = shares_of(names, place, np.tile(groups, 2), mass)
    return found


def some_rows(rows: Rows) -> Rows:
    """Rows, evenly thinned to as many as are enough."""
    return rows[:: -(-len(rows) // MOST_ROWS) or 1]


def groups_at(user: Rows, rows: Rows) -> Rows:
    """Whose each exposure is; nobody's is a group by itself."""
    return np.where(user > 0, user, -1 - rows)
