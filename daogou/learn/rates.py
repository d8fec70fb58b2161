"""A store to what is counted for the funnel to read: rates of products, and what is usual."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray

from daogou.features.batch import folds_of, make_batch
from daogou.features.store import MASSES, Store, pieces
from daogou.learn.flat import all_but_each, by_fold
from daogou.model.heads.funnel import FunnelHead
from daogou.model.joint import JointModel
from daogou.model.rates import Rates

Array = NDArray[Any]
Floats = NDArray[np.float64]
_Told = tuple[Array, Array, Array, Array]
_LEAST: Final = 1e-9  # a rate has a logarithm
_SOME: Final = 4096  # training exposures whose repeats are looked at


def count(model: JointModel, store: Store, beside: Store | None = None) -> None:
    """Fill what the funnel counts from the training split; nothing where it has none.

    Rates of products are standardised as the training exposures have them, and so are the repeats
    of a past, by some of them. ``beside`` is a store of the same transform, whose exposures count
    for the rates too.
    """
    first, last = store.ranges["train"]
    if "funnel" not in model.heads or first == last:
        return
    head = cast(FunnelHead, model.heads["funnel"])
    if head.meet.n_repeats:
        some = np.unique(np.linspace(first, last - 1, _SOME).astype(np.int64))
        head.meet.fill(make_batch(store, some, history_length=1).exposures["repeats"])
    if head.meet.rates is not None:
        others = [] if beside is None else [beside]
        _count_rates(head.meet.rates, head, store, *others)


@torch.no_grad()
def find_scale(model: JointModel, store: Store) -> None:
    """Find by what mean and spread a finished run standardised rates; all else stays as it is.

    A run keeps what came of it alone. It is its training's own scale, unless the run began with the
    weights of another, and was measured as that one.
    """
    kept = {name: each.clone() for name, each in model.state_dict().items()}
    count(model, store)
    rates = cast(FunnelHead, model.heads["funnel"]).meet.rates
    if rates is not None:
        then = kept["heads.funnel.meet.rates.known"].double()
        now, (mean, spread) = rates.known.double(), rates.scale.double()
        apart = now - now.mean(0)
        share = (apart * (then - then.mean(0))).sum(0) / apart.square().sum(0)
        theirs = spread / share
        shift = mean + spread * now.mean(0) - theirs * then.mean(0)
        known = share.isfinite() & (share > 0)
        rates.scale = torch.where(
            known, torch.stack([shift, theirs]), torch.stack([mean, spread])
        ).float()  # fmt: skip
    model.load_state_dict(kept)


def _count_rates(rates: Rates, head: FunnelHead, store: Store, *others: Store) -> None:
    tables = counted(store, len(rates.known), head.columns, *others)
    shown = sum(np.bincount(_ids(store, at), minlength=tables.shape[1]) for at in _pieces(store))
    mean = np.average(tables[0], axis=0, weights=shown)
    spread = np.sqrt(np.average((tables[0] - mean) ** 2, axis=0, weights=shown))
    spread = np.where(spread > _LEAST, spread, 1.0)
    known, *apart = torch.from_numpy((tables - mean) / spread).float()
    rates.fill(known, torch.stack(apart), torch.from_numpy(np.stack([mean, spread])).float())


def counted(store: Store, n_ids: int, stages: Sequence[int], *others: Store) -> Floats:
    """What training says of id rows, ``[1 + FOLDS, n_ids, 1 + S]``: all, then all but each fold.

    The logarithms of one plus the mass of exposures, scaled to a full log, and of the rate of each
    stage over all exposures where it is known, smoothed, in units of the rate of all products: that
    of all but a fold would tell the fold how many positives are its own. The unknown product is
    many products, of which nothing is said: it has no mass and the rate of all. ``others`` are
    stores of the same ids, whose exposures count too; so do those that taught before the store's.
    """
    told = [piece for each in (store, *others) for piece in _told(each, stages)]
    if "earlier/item" in store.arrays:
        told.append(partial(_told_before, store, stages))
    # One id more, which nobody saw: what the unknown one is told.
    sums = sum(by_fold(*piece(), n_ids + 1) for piece in told)
    mass, rates = all_but_each(cast(Floats, sums))
    logs = np.log(rates + _LEAST)
    tables = np.concatenate([np.log1p(mass)[..., None], logs - logs[:, n_ids:]], axis=2)
    tables[:, 0] = tables[:, n_ids]
    return tables[:, :n_ids]


def _told(store: Store, stages: Sequence[int]) -> list[Callable[[], _Told]]:
    """Of the training exposures of a store, in pieces that are read when they are asked for."""
    return [partial(_told_at, store, stages, at) for at in _pieces(store)]


def _told_at(store: Store, stages: Sequence[int], at: slice) -> _Told:
    """Id rows, labels ``[n, S]``, weights and folds of these exposures."""
    weight = np.asarray(store["exposures/weight"][at], dtype=np.float64)
    labels = store["exposures/labels"][at][:, stages]
    return _ids(store, at), labels, weight, folds_of(store, np.arange(at.start, at.stop))


def _ids(store: Store, at: slice) -> Array:
    return np.asarray(store["items/id"])[store["exposures/item"][at]]


def _pieces(store: Store) -> list[slice]:
    return pieces(*store.ranges["train"])


def _told_before(store: Store, stages: Sequence[int]) -> _Told:
    """The same of what taught before, alike exposures as one of their weight."""
    ids = np.asarray(store["items/id"])[store["earlier/item"]]
    weight = np.asarray(store["earlier/mass"], dtype=np.float64)[:, MASSES.index("weight")]
    return ids, store["earlier/labels"][:, stages], weight, np.asarray(store["earlier/fold"])
