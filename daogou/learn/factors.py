"""Who took what to factors: for each product how it goes with the others."""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.features.store import Store
from daogou.model.heads.habits import N_FACTORS, USUAL

Array = NDArray[Any]
_MOST_USERS: Final = 20_000  # evenly spread
_RARE: Final = 20.0  # users more who took each: what hardly anybody takes would lead otherwise
_EXTRA: Final = 16  # directions that are followed beside those that are wanted
_ROUNDS: Final = 12
_NOTHING: Final = 1e-9  # of what a direction holds: rounding


def loadings_before(store: Store, kind: str, until: int, n_ids: int) -> Tensor:
    """`loadings` of what users took, ``kind`` "history", or were "shown", before a moment in us."""
    start = store["shown/start" if kind == "shown" else "users/start"]
    rows = np.flatnonzero(np.diff(start) > 0)
    rows = rows[:: -(-len(rows) // _MOST_USERS) or 1]
    users, items = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for row in rows.tolist():
        at = slice(int(start[row]), int(start[row + 1]))
        early = np.asarray(store[f"{kind}/time"][at]) < until
        ids = store["items/id"][store[f"{kind}/item"][at][early]]
        items.append(ids.astype(np.int64))
        users.append(np.full(len(ids), row))
    return loadings(np.concatenate(users), np.concatenate(items), n_ids)


def loadings(user: Array, item: Array, n_ids: int) -> Tensor:
    """Loadings of products, ``[n_ids, N_FACTORS]``, of who took which: ``[E]`` each.

    A correspondence analysis (Benzecri, "L'Analyse des Donnees", 1973; Greenacre, "Theory and
    Applications of Correspondence Analysis", 1984) of users and the products of theirs, each
    product once: what a user took beyond what is usual, over the root of what is usual, in the
    directions that hold most of it. Unlike there a user's row is as if they had taken `USUAL`
    products more, of what is usual, and what is usual as if `_RARE` users more had taken each, so
    that neither those of few products nor products of few users decide much. No label is read, so
    users whose profile is unknown teach as much as others.

    Nobody's product, row 0 (the unknown one), and directions beyond what there is have loadings
    of 0. Directions are found by subspace iteration (Halko, Martinsson & Tropp, "Finding Structure
    with Randomness", SIAM Review 2011) from a start that is always the same.
    """
    pairs = np.unique(np.stack([user, item], axis=1)[item > 0], axis=0)
    found = torch.zeros(n_ids, N_FACTORS)
    if not len(pairs):
        return found
    _, row = np.unique(pairs[:, 0], return_inverse=True)
    ids, column = np.unique(pairs[:, 1], return_inverse=True)
    n = torch.from_numpy(np.bincount(row)).double()
    times = torch.from_numpy(np.bincount(column)).double()
    usual = (times + _RARE) / (times + _RARE).sum()
    root, share = usual.sqrt(), n / (n + USUAL)
    values = 1 / (n[row] + USUAL) / root[column]
    place = torch.from_numpy(np.stack([row, column]))
    taken, back = (
        torch.sparse_coo_tensor(at, values, size, check_invariants=True).coalesce()
        for at, size in ((place, (len(n), len(ids))), (place.flip(0), (len(ids), len(n))))
    )

    def beyond(x: Tensor) -> Tensor:  # of the products' directions [I, R] those of users [U, R]
        return taken @ x - share[:, None] * (root @ x)

    generator = torch.Generator().manual_seed(0)
    n_directions = min(N_FACTORS + _EXTRA, len(n), len(ids))
    at = torch.randn(len(ids), n_directions, dtype=torch.float64, generator=generator)
    for _ in range(_ROUNDS):
        users = torch.linalg.qr(beyond(at)).Q
        at = torch.linalg.qr(back @ users - root[:, None] * (share @ users)).Q
    _, held, turned = torch.linalg.svd(beyond(at), full_matrices=False)
    kept = (at @ turned.T * (held > _NOTHING))[:, :N_FACTORS]
    loaded = kept / root[:, None] - root @ kept
    found[torch.from_numpy(ids), : loaded.shape[1]] = loaded.float()
    return found
