"""A simulated shop's planted truth to what a model can at best know: ceilings, never features."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from daogou.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STAGES: Final = ("click", "cart", "purchase")
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_SHARES: Final = _WEIGHTS / _WEIGHTS.sum()


def sigmoid(logits: Floats) -> Floats:
    """Probabilities of log odds; no overflow at either end.

    >>> sigmoid(np.array([0.0, -1000.0, 1000.0])).tolist()
    [0.5, 0.0, 1.0]
    """
    # tanh never overflows, and this form is exact at both ends.
    halves: Floats = np.tanh(0.5 * logits)
    return 0.5 + 0.5 * halves


def over_intent(logits: Sequence[Floats], confounder: float, exam: Floats | None) -> list[Floats]:
    """The chance of each stage with the hidden intent h ~ N(0, 1) integrated out.

    ``logits`` are those of click, cart given click, ... at h = 0, arrays of one shape; ``exam``
    multiplies the click (position-based model) or is None. Entry s of the answer is
    E[p_0 ... p_s], by nine-point Gauss-Hermite, so stages are correlated through h as they are
    in the log.
    """
    totals = [np.zeros_like(logits[0]) for _ in logits]
    for node, share in zip(_NODES, _SHARES, strict=True):
        reached = share if exam is None else share * exam
        for total, eta in zip(totals, logits, strict=True):
            reached = reached * sigmoid(eta + confounder * node)
            total += reached
    return totals


@dataclass(frozen=True)
class Truth:
    """What a simulated shop planted. Made by `read_truth`; only evaluation may look."""

    coefficients: Mapping[str, Any]
    _exposures: pa.Table
    _users: pa.Table
    _items: pa.Table

    @property
    def item_ids(self) -> list[str]:
        """The keys of all items as text, in the order of `match_scores`' columns."""
        return _texts(self._items["item_id"])

    @property
    def user_ids(self) -> list[str]:
        """The keys of all users as text."""
        return _texts(self._users["user_id"])

    def exposures(self, ids: Sequence[object]) -> dict[str, Floats]:
        """The truth of these exposures, arrays ``[len(ids)]`` in their order, by column name.

        ``p_<stage>`` knows the hidden intent, ``k_<stage>`` has it integrated out: the best that
        any model can know. Raises `DataError` on an id that the shop did not write.
        """
        rows = pa.array(_rows(ids, self._exposures["id"], "exposures.parquet"))
        return {
            name: np.asarray(self._exposures[name].take(rows), dtype=np.float64)
            for name in self._exposures.column_names
            if name != "id"
        }

    def match_scores(self, user_ids: Sequence[object]) -> Floats:
        """The oracle's log of expected clicks of each user on each item, ``[U, n_items]``.

        Log of the chance that a slate of the user holds the item (category mix, popularity,
        logging policy) plus the log of the knowable click chance at the first position. Items
        are scored as if all were on sale; drift is at its end.
        """
        users = _rows(user_ids, self._users["user_id"], "users.parquet")
        scores = np.empty((len(users), self._items.num_rows))
        world = _Retrieval(self)
        size = max(1, 4_000_000 // max(1, self._items.num_rows))
        for begin in range(0, len(users), size):
            scores[begin : begin + size] = world.scores(users[begin : begin + size])
        return scores

    def profile_posterior(
        self, column: str, user_ids: Sequence[object]
    ) -> tuple[tuple[str, ...], Floats]:
        """The values of a profile column and each user's posterior over them, ``[U, V]``.

        The ceiling of profiling: given the user's city, exposures and outcomes and all item
        latents. An approximation, see `posterior_of_profiles`; outcomes of one slate are taken as
        independent given the user, which is a little too sure where the confounder is strong.
        """
        profile = self.coefficients["profile"]
        if column not in profile:
            raise DataError(
                f"truth: no profile column {column!r}; planted are: {', '.join(profile)}"
            )
        rows = pa.array(_rows(user_ids, self._users["user_id"], "users.parquet"))
        values = tuple(profile[column])
        found = [self._users[f"posterior_{column}_{value}"].take(rows) for value in values]
        return values, np.stack([np.asarray(each, dtype=np.float64) for each in found], axis=1)


class _Retrieval:
    """The planted arrays that retrieval needs, unpacked once."""

    def __init__(self, truth: Truth) -> None:
        self.known = truth.coefficients
        users, items = truth._users, truth._items
        self.taste = vectors(users["latent"]) + vectors(users["drift"])
        self.user_bias = np.asarray(users["bias_click"], dtype=np.float64)
        self.mix = vectors(users["mix"])
        self.steady = vectors(users["latent"])
        self.latent = vectors(items["latent"])
        self.item_bias = np.asarray(items["bias_click"], dtype=np.float64)
        self.category = np.asarray(items["category"], dtype=np.int64)
        weight = np.exp(np.asarray(items["log_weight"], dtype=np.float64))
        total = np.bincount(self.category, weight, self.mix.shape[1])
        share = weight / total[self.category]
        self.offered = -np.expm1(self.known["candidates"] * np.log1p(-np.minimum(share, 1 - 1e-9)))

    def scores(self, users: Ints) -> Floats:
        known = self.known
        width = self.latent.shape[1]
        scale = 1.0 / np.sqrt(width)
        pull = np.exp(known["policy"] * scale * (self.steady[users] @ self.latent.T))
        shown = self._shown(pull)
        liking = scale * (self.taste[users] @ self.latent.T)
        liking += self.user_bias[users][:, None] + self.item_bias[None, :]
        click = known["stages"]["click"]
        logits = click["intercept"] + click["gain"] * liking
        (chance,) = over_intent([logits], known["confounder"], None)
        with np.errstate(divide="ignore"):  # a category outside the mix is never shown: -inf
            reached = np.log(self.mix[users][:, self.category] * shown)
        return np.asarray(reached + np.log(chance), dtype=np.float64)

    def _shown(self, pull: Floats) -> Floats:
        """The chance that a slate of the item's category shows the item, ``[U, n_items]``.

        Taking the k largest of score + Gumbel noise is a race of exponential clocks: an offered
        item is shown if its clock rings before the time by which k have rung on average.
        """
        shown = np.empty_like(pull)
        places = float(self.known["positions"])
        for category in range(self.mix.shape[1]):
            inside = np.flatnonzero(self.category == category)
            rates, offered = pull[:, inside], self.offered[inside]
            time = np.zeros((len(pull), 1))
            # The expected count is concave in time: Newton from 0 climbs and never overshoots.
            for _ in range(12):
                alive = offered * np.exp(-rates * time)
                lacking = min(places, 0.999 * offered.sum()) - (offered - alive).sum(1)
                time += (lacking / np.maximum((rates * alive).sum(1), 1e-12))[:, None]
            shown[:, inside] = offered * -np.expm1(-rates * time)
        return shown


def vectors(column: pa.ChunkedArray) -> Floats:
    """A column of equal lists as a matrix ``[rows, width]``."""
    flat = np.asarray(pc.list_flatten(column), dtype=np.float64)
    return flat.reshape(len(column), -1)


def _texts(column: pa.ChunkedArray) -> list[str]:
    texts: list[str] = pc.cast(column, pa.string()).to_pylist()
    return texts


def _rows(ids: Sequence[object], keys: pa.ChunkedArray, where: str) -> Ints:
    asked = _asked(ids)
    known = pc.cast(keys, pa.string()).combine_chunks()
    rows = pc.index_in(asked, value_set=known)
    if rows.null_count:
        absent = [str(each) for each in _first(asked.filter(pc.is_null(rows)))]
        raise DataError(
            f"truth/{where}: {rows.null_count} of {len(asked)} ids were never written, first "
            f"{', '.join(absent)}; the truth belongs to another shop or seed: simulate again"
        )
    return np.asarray(rows, dtype=np.int64)


def _asked(ids: Sequence[object]) -> pa.Array:
    if isinstance(ids, pa.Array | pa.ChunkedArray):
        whole = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
        return pc.cast(whole, pa.string())
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
        return pc.cast(pa.array(ids), pa.string())
    return pa.array([str(each) for each in ids], pa.string())


def _first(values: pa.Array, count: int = 3) -> Iterator[object]:
    yield from values[:count].to_pylist()


def read_truth(folder: Path | str) -> Truth:
    """The truth in a folder that `simulate` wrote (``[truth] path``).

    Raises `DataError` where a file is missing or is not a simulation's.
    """
    folder = Path(folder)
    tables = []
    for name in ("exposures", "users", "items"):
        path = folder / f"{name}.parquet"
        if not path.is_file():
            raise DataError(f"{path}: no such file; `daogou simulate DIR` writes it")
        tables.append(pq.read_table(path))
    path = folder / "truth.json"
    try:
        coefficients = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `daogou simulate DIR` writes it") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}); simulate the shop again") from None
    return Truth(coefficients, *tables)
