"""A store's histories to who buys again soon, and to how well that is foretold."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from daogou.features.returning import N_SIGNS, Returning, signs_of
from daogou.features.rhythm import fit_rhythm
from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.learn.curves import fit_line
from daogou.learn.linear import basis_of, fit_linear
from daogou.metrics import auc, auc_interval, log_loss
from daogou.schema import DAY_US

Array = NDArray[Any]
MOST_DAYS: Final = 30.0
LEAST: Final = 20  # users of either outcome, to learn or to choose anything
_CUTS: Final = 4  # moments of training at which is asked
_MOST_USERS: Final = 4096
_PRECISION: Final = 1.0
DRAWS: Final = 200


@dataclass(frozen=True)
class Asked:
    """Users at one moment: their ``signs [n, N_SIGNS]``, and whether they came back."""

    signs: NDArray[np.float64]
    came: NDArray[np.bool_]


def fit_returning(store: Store, transform: Transform, *, history_length: int) -> Returning | None:
    """Who buys again within a month, or within the shorter of validation and test if that is less.

    The kind is the last of the history's. Training is asked at four moments, each a horizon before
    the next, the last a horizon before its end; validation at training's end, and a line through
    the logits there makes the chances come true (`fit_line`). No event after a moment is read but
    for whether there was one. None where either has fewer than `LEAST` of either outcome.
    """
    ends = _ends(store)
    if ends is None or not transform.actions:
        return None
    train, validation, test = ends
    days = min(MOST_DAYS, (validation - train) / DAY_US, (test - validation) / DAY_US)
    within = int(days * DAY_US)
    if within <= 0:
        return None
    taught = [
        ask(store, transform, train - place * within, days, history_length)
        for place in range(1, _CUTS + 1)
    ]
    signs = np.concatenate([each.signs for each in taught])
    came = np.concatenate([each.came for each in taught])
    chooses = ask(store, transform, train, days, history_length)
    for outcome in (came, chooses.came):
        if min(int(outcome.sum()), int((~outcome).sum())) < LEAST:
            return None
    mean, spread = signs.mean(0), np.maximum(signs.std(0), 1e-6)
    basis = basis_of(torch.from_numpy((signs - mean) / spread))
    made = fit_linear(basis, torch.from_numpy(came).long(), 2, _PRECISION)
    weights = np.asarray(made.weight[1] - made.weight[0]) / spread
    shift = float(made.shift[1] - made.shift[0]) - float(mean @ weights)
    line = fit_line(chooses.signs @ weights + shift, chooses.came, np.ones(len(chooses.came)))
    return Returning(
        transform.actions[-1], days, tuple((line.slope * weights).tolist()),
        line.slope * shift + line.mended[0], float(chooses.came.mean()),
    )  # fmt: skip


def judge_returning(
    made: Returning, store: Store, transform: Transform, *, history_length: int, seed: int
) -> dict[str, Any]:
    """Asked at validation's end and answered by the test: AUC, and log loss beside a constant's."""
    ends = _ends(store)
    assert ends is not None
    asked = ask(store, transform, ends[1], made.within_days, history_length)
    said, n = made.chance(asked.signs), len(asked.came)
    constant = np.full(n, made.rate)
    return {
        "kind": made.kind,
        "within_days": made.within_days,
        "auc": auc(said, asked.came),
        "auc_interval": list(auc_interval(said, asked.came, np.arange(n), n=DRAWS, seed=seed)),
        "log_loss": log_loss(said, asked.came) if n else float("nan"),
        "constant_log_loss": log_loss(constant, asked.came) if n else float("nan"),
        "n": n,
        "positives": int(asked.came.sum()),
    }


def ask(store: Store, transform: Transform, at: int, days: float, history_length: int) -> Asked:
    """Users with an event before a moment ``at``; of more than 4,096, so many evenly spread."""
    rhythm = fit_rhythm(store, until=at)
    time, action, start = (
        store["history/time"], store["history/action"], store["users/start"]
    )  # fmt: skip
    last = len(transform.actions) - 1
    end = at + int(days * DAY_US)
    rows = np.flatnonzero(np.diff(start) > 0)
    signs: list[NDArray[np.float64]] = []
    came: list[bool] = []
    for row in rows[:: -(-len(rows) // _MOST_USERS) or 1].tolist():
        first, stop = int(start[row]), int(start[row + 1])
        times = np.asarray(time[first:stop])
        n_before, n_within = np.searchsorted(times, (at, end), side="left")
        if not n_before:
            continue
        read = slice(max(n_before - history_length, 0), n_before)
        kinds = np.asarray(action[first:stop]) == last
        signs.append(signs_of(times[read], kinds[read], at, rhythm))
        came.append(bool(kinds[n_before:n_within].any()))
    return Asked(np.array(signs).reshape(-1, N_SIGNS), np.array(came, dtype=bool))


def _ends(store: Store) -> tuple[int, int, int] | None:
    """When training, validation and the log end; None of a shop without times or histories.

    Where validation teaches as well, it ends with training.
    """
    times, found = store["exposures/time"], []
    for split in ("train", "validation"):
        first, last = store.ranges[split]
        if first < last:
            found.append(int(np.max(times[first:last])) + 1)
        elif split == "validation" and found:
            found.append(found[0])
        else:
            return None
    history = store["history/time"]
    if not len(history):
        return None
    return found[0], found[1], int(np.max(history)) + 1
