"""A run to how well the columns it must not know could be told from what it makes of users."""

from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.artifact import Artifact
from daogou.errors import ConfigError
from daogou.features.queries import full_queries
from daogou.learn.linear import basis_of, fit_linear, nats_of
from daogou.metrics import bootstrap, macro_auc
from daogou.model import predict
from daogou.schema import Shop, Users
from daogou.tables.engine import Engine, name_of
from daogou.tables.read import read_tables

Array = NDArray[Any]
FOLDS: Final = 5
PRECISIONS: Final = (1.0, 10.0, 100.0, 1000.0)
MOST_USERS: Final = 8192
DRAWS: Final = 200
_LEAST: Final = 20  # users of the rarest value that is asked about


def probe_sensitive(run: Artifact, *, data: Shop | None = None) -> dict[str, Any]:
    """``{"sensitive": {column: {"auc", "auc_interval", "n", "values", "allowed"}}}``.

    A logistic regression reads the standardised behaviour states ``h`` of the users whose value is
    known, at the log's end, and answers out of fold over five folds; its prior is chosen within
    the folds that teach. The AUC is the mean over the values of each against the others, as of a
    profile; values of fewer than 20 users are not asked about. It is what one who has the states
    could find out, whether or not the model is ever asked; a richer reader could find out more.

    The columns are read from the shop's users table (of ``data``, if given) for this alone. Raises
    ConfigError for a shop that lists none, or whose model reads no histories.
    """
    users = (data or run.shop).users
    if users is None or not users.sensitive:
        raise ConfigError("users.sensitive: lists no column; name those that must not be told")
    if run.model.user is None:
        raise ConfigError("--sensitive: this run reads no histories, so it makes nothing of users")
    values = _read(data or run.shop, users)
    found: dict[str, Any] = {}
    for column in users.sensitive:
        rows, classes = _known(run, values, column)
        found[column] = {
            **_told(_states(run, rows), classes, run.shop.seed),
            "allowed": column in users.allowed,
        }
    return {"sensitive": found}


def _read(shop: Shop, users: Users) -> dict[str, list[Any]]:
    """The keys as text and the sensitive columns of the users' table."""
    only = replace(users, columns=(), categories=(), profile=users.sensitive, split=None)
    names = ", ".join(f"CAST({name_of(name)} AS VARCHAR)" for name in users.sensitive)
    with Engine() as engine:
        read_tables(engine, Shop(shop.root, users=only))
        table = engine.table(f"SELECT CAST({name_of(users.key)} AS VARCHAR), {names} FROM users")
    columns = [column.to_pylist() for column in table.columns]
    return dict(zip(("", *users.sensitive), columns, strict=True))


def _known(run: Artifact, values: dict[str, list[Any]], column: str) -> tuple[Array, Array]:
    """Rows of users who did something and whose value others share, and their classes."""
    store = run.store
    start = store["users/start"]
    pairs = [
        (store.user_rows[key], value)
        for key, value in zip(values[""], values[column], strict=True)
        if value is not None and key in store.user_rows
    ]
    pairs = sorted(pair for pair in pairs if start[pair[0] + 1] > start[pair[0]])
    pairs = pairs[:: -(-len(pairs) // MOST_USERS) or 1]
    words, classes, counts = np.unique(
        [value for _, value in pairs], return_inverse=True, return_counts=True
    )
    kept = counts[classes] >= _LEAST if len(words) else np.zeros(0, dtype=bool)
    _, classes = np.unique(classes[kept], return_inverse=True)
    return np.array([row for row, _ in pairs], dtype=np.int64)[kept], classes


@torch.inference_mode()
def _states(run: Artifact, rows: Array) -> Tensor:
    queries = full_queries(run.store, rows)
    pieces = [torch.zeros(0, 1)] if not len(rows) else []
    pieces += [
        encoded.h
        for _, encoded in predict.encoded_queries(
            run.model, run.store, queries, history_length=run.history_length
        )
        if encoded.h is not None
    ]
    return torch.cat(pieces).double().clone()


def _told(states: Tensor, classes: Array, seed: int) -> dict[str, Any]:
    n_classes = int(classes.max(initial=-1)) + 1
    nothing = {"auc": float("nan"), "auc_interval": [float("nan")] * 2}
    if n_classes < 2:
        return {**nothing, "n": len(classes), "values": n_classes}
    place = np.random.default_rng(seed).permutation(len(classes)) % FOLDS
    target = torch.from_numpy(classes)
    chances = np.zeros((len(classes), n_classes))
    for fold in range(FOLDS):
        out = place == fold
        chances[out] = _answers(states[~out], target[~out], states[out], n_classes)
    users = np.arange(len(classes))
    interval = bootstrap(
        lambda weights: macro_auc(chances, classes, weights), users, n=DRAWS, seed=seed
    )
    return {
        "auc": macro_auc(chances, classes),
        "auc_interval": list(interval),
        "n": len(classes),
        "values": n_classes,
    }


def _answers(states: Tensor, target: Tensor, asked: Tensor, n_classes: int) -> Array:
    """Chances of the ``asked``; one in five of those who teach chooses the prior first."""
    x = (states - states.mean(0)) / states.std(0).clamp(min=1e-6)
    y = (asked - states.mean(0)) / states.std(0).clamp(min=1e-6)
    chooses = torch.arange(len(x)) % FOLDS == 0
    basis, ones = basis_of(x[~chooses]), torch.ones(int(chooses.sum()), dtype=torch.float64)

    def loss(precision: float) -> float:
        made = fit_linear(basis, target[~chooses], n_classes, precision)
        return float(nats_of(made.logits(x[chooses]), target[chooses], ones, "categorical"))

    precision = min(PRECISIONS, key=loss)
    made = fit_linear(basis_of(x), target, n_classes, precision)
    return np.asarray(made.logits(y).softmax(1))
