"""One question's rows to the chances of its answers: LightGBM and penalised linear models.

What teaches and what chooses is said by the question; a row that does neither changes nothing.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daogou.features.store import FOLDS
from daogou.learn.flat import Inputs, library
from daogou.metrics import log_loss

Array = NDArray[Any]
Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

# Leaves, rows of the least leaf, and smoothing of categories: the best on validation is kept. No
# one of them is best for every shop: categories want 10 where there are histories, 50 on adult.
_SIZES: Final = ((63, 50, 10.0), (15, 50, 10.0), (31, 50, 50.0), (31, 20, 50.0))
_MANY: Final = 300_000  # teaching rows above which only the first two are tried
_ROUNDS: Final = 1000
_PATIENCE: Final = 50
_UNCHOSEN: Final = 100  # trees where no row can choose how many
_TREES: Final[Mapping[str, Any]] = {
    "objective": "binary",
    "learning_rate": 0.05,
    "max_delta_step": 1.0,  # a leaf of light positives alone would jump past every other
    "verbose": -1,
    "deterministic": True,
    "force_row_wise": True,
}
_STRENGTHS: Final = (0.001, 0.01, 0.1, 1.0)  # inverse penalties of the linear model of exposures
_WEAK: Final = (0.0003, 0.001, 0.003, 0.01)  # and of that of users, who are few
_MOST: Final = 50_000  # teaching rows of each answer above which a linear model reads a sample
_BINS: Final = 16  # of a number, in the linear model of exposures
_PIECE: Final = 16_384  # rows answered at a time


@dataclass(frozen=True)
class Lesson:
    """Who answers 1 and who 0, and which rows may teach and choose.

    ``target [n]`` is 1, 0 or -1 where undefined, ``weight [n]``; ``teaches`` and ``chooses`` are
    rows, of which the undefined ones do neither.
    """

    target: Array
    weight: Array
    teaches: Rows
    chooses: Rows

    def known(self, rows: Rows) -> Rows:
        """Those of the rows that have an answer."""
        found: Rows = rows[self.target[rows] >= 0]
        return found

    def constant(self, n_columns: int) -> float | None:
        """The only chance there is to give, if nothing can be learnt; None if something can."""
        rows = self.known(self.teaches)
        mass, up = self.weight[rows].astype(np.float64), self.target[rows] == 1
        if len(rows) and n_columns and 0 < up.sum() < len(rows):
            return None
        return float(mass[up].sum() / mass.sum()) if mass.sum() else 0.0


# ---- trees ----------------------------------------------------------------------------


def trees(
    inputs: Inputs, lesson: Lesson, asked: Rows, *, seed: int = 0, threads: int = 1
) -> Floats:
    """Chance of a 1 of the rows ``asked``, float64, from boosted trees.

    Trees are added until 50 more no longer lower the loss of the rows that choose; of a few
    settings the best on them is kept. Without rows to choose, 100 small trees. ``seed`` draws
    the rows that place the bins of numbers, and only where more than 200,000 teach.
    Ke et al., "LightGBM", NeurIPS 2017. Raises MissingExtra without LightGBM.
    """
    lightgbm = library("lightgbm")
    constant = lesson.constant(len(inputs.names))
    if constant is not None:
        return np.full(len(asked), constant)
    parts: list[Any] = []
    for rows in (lesson.known(lesson.teaches), lesson.known(lesson.chooses)):
        if len(rows):
            parts.append(_dataset(inputs, lesson, rows, parts[0] if parts else None))
    best: Any = None
    sizes = _SIZES[: 2 if parts[0].num_data() > _MANY else None]
    for leaves, least, smooth in sizes if len(parts) > 1 else _SIZES[1:2]:
        size = {
            "num_leaves": leaves,
            "min_data_in_leaf": least,
            "cat_smooth": smooth,
            "cat_l2": smooth,
        }
        model = lightgbm.train(
            {**_TREES, **size, "num_threads": threads, "seed": seed},
            parts[0],
            num_boost_round=_ROUNDS if len(parts) > 1 else _UNCHOSEN,
            valid_sets=parts[1:],
            callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)] if parts[1:] else [],
        )
        loss = model.best_score["valid_0"]["binary_logloss"] if parts[1:] else 0.0
        if best is None or loss < best[0]:
            best = (loss, model)
    return np.asarray(best[1].predict(inputs.values[asked]), np.float64)


def _dataset(inputs: Inputs, lesson: Lesson, rows: Rows, reference: Any) -> Any:
    return (
        library("lightgbm")
        .Dataset(
            inputs.values[rows],
            label=lesson.target[rows],
            weight=lesson.weight[rows],
            feature_name=[f"f{j}" for j in range(len(inputs.names))],
            categorical_feature=list(inputs.categories),
            reference=reference,
            params={"min_data_in_leaf": min(least for _, least, _ in _SIZES), "verbose": -1},
            free_raw_data=False,
        )
        .construct()
    )


# ---- linear models --------------------------------------------------------------------


def linear(inputs: Inputs, lesson: Lesson, asked: Rows, *, seed: int = 0) -> Floats:
    """Chance of a 1 of the rows ``asked``, float64, from a logistic regression.

    It reads numbers as signed logarithms, standardised by the rows that teach, whether each is
    missing, and each known category and each of 16 bins of a number as a column of its own. The
    penalty is the best of four by the rows that choose; without any, the third. Of more than
    50,000 teaching rows of an answer ``seed`` draws so many, which then weigh for all. Raises
    MissingExtra without scikit-learn.
    """
    models = library("sklearn.linear_model")
    constant = lesson.constant(len(inputs.names))
    if constant is not None:
        return np.full(len(asked), constant)
    rows, factor = _thinned(lesson, np.random.default_rng(seed))
    scale = _fit_scale(inputs, rows)
    learnt, chooses = scale.columns(inputs, rows), lesson.known(lesson.chooses)
    weight = lesson.weight[rows] * factor
    model = models.LogisticRegression(max_iter=300, warm_start=True)
    best: tuple[float, Array, Array] | None = None
    for strength in _STRENGTHS if len(chooses) else _STRENGTHS[2:3]:
        model.set_params(C=strength)
        _fit(model, learnt, lesson.target[rows] == 1, weight)
        loss = np.inf
        if len(chooses):
            loss = log_loss(
                _chances(model, scale, inputs, chooses),
                lesson.target[chooses] == 1,
                lesson.weight[chooses],
            )
        if best is None or loss < best[0]:
            best = (loss, model.coef_.copy(), model.intercept_.copy())
    assert best is not None
    model.coef_, model.intercept_ = best[1], best[2]
    return _chances(model, scale, inputs, asked)


def _chances(model: Any, scale: "_Scale", inputs: Inputs, rows: Rows) -> Floats:
    pieces = [np.zeros(0)]
    for start in range(0, len(rows), _PIECE):
        part = rows[start : start + _PIECE]
        pieces.append(model.predict_proba(scale.columns(inputs, part))[:, 1])
    return np.concatenate(pieces)


def _thinned(lesson: Lesson, rng: np.random.Generator) -> tuple[Rows, Floats]:
    """Rows that teach, at most `_MOST` of each answer, and what to multiply their weights by."""
    rows = lesson.known(lesson.teaches)
    parts, factors = [], []
    for answer in (0, 1):
        given = rows[lesson.target[rows] == answer]
        kept = rng.choice(given, _MOST, replace=False) if len(given) > _MOST else given
        parts.append(kept)
        factors.append(np.full(len(kept), len(given) / max(len(kept), 1)))
    return np.concatenate(parts), np.concatenate(factors)


@dataclass(frozen=True)
class _Scale:
    """How flat inputs become columns of a linear model. Made by `_fit_scale`."""

    numbers: Rows  # [K] columns of the inputs
    mean: Floats  # [K] of their logarithms
    spread: Floats  # [K]
    gaps: Rows  # those of the numbers that may be missing
    bounds: Mapping[int, Floats]  # between the bins of each number, by column
    sizes: Mapping[int, int]  # codes of each category, by column

    def columns(self, inputs: Inputs, rows: Rows) -> Any:
        """A sparse matrix, a row for each of ``rows``."""
        sparse = library("scipy.sparse")
        values = inputs.values[rows]
        logs = (_logs(values[:, self.numbers]) - self.mean) / self.spread
        parts = [sparse.csr_array(np.nan_to_num(logs, nan=0.0))]
        parts.append(sparse.csr_array(np.isnan(values[:, self.gaps]).astype(np.float64)))
        for column, bounds in self.bounds.items():
            number = values[:, column]
            code = np.where(np.isnan(number), 0, 1 + np.searchsorted(bounds, number, "right"))
            parts.append(_one_hot(code, len(bounds) + 2))
        for column, size in self.sizes.items():
            parts.append(_one_hot(values[:, column].astype(np.int64), size))
        return sparse.hstack(parts, format="csr")


def _one_hot(codes: Rows, size: int) -> Any:
    """A column for each code below ``size``; empty rows for 0, which is unknown, and for more."""
    at = np.flatnonzero((codes > 0) & (codes < size))
    cells = np.ones(len(at)), (at, codes[at])
    return library("scipy.sparse").csr_array(cells, shape=(len(codes), size), dtype=np.float64)


def _fit_scale(inputs: Inputs, rows: Rows) -> _Scale:
    numbers = np.setdiff1d(np.arange(len(inputs.names)), inputs.categories)
    values = inputs.values[rows]
    logs = _logs(values[:, numbers])
    there = ~np.isnan(logs)
    n = np.maximum(there.sum(0), 1)
    mean = np.where(there, logs, 0.0).sum(0) / n
    spread = np.sqrt((np.where(there, logs - mean, 0.0) ** 2).sum(0) / n)
    return _Scale(
        numbers,
        mean,
        np.where(spread > 1e-9, spread, 1.0),
        numbers[~there.all(0)],
        {int(j): _bounds(values[:, j]) for j in numbers},
        {j: int(values[:, j].max()) + 1 for j in inputs.categories},
    )


def _bounds(values: Array) -> Floats:
    """Distinct quantiles between the bins of a number; none if it is missing or one everywhere."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.zeros(0)
    found: Floats = np.unique(np.quantile(known, np.arange(1, _BINS) / _BINS))
    inner: Floats = found[found > known.min()]
    return inner


def _logs(values: Array) -> Floats:
    found: Floats = np.sign(values) * np.log1p(np.abs(values.astype(np.float64)))
    return found


def _fit(model: Any, table: Any, answers: Array, weight: Array | None = None) -> None:
    with warnings.catch_warnings():  # the choice is by loss: a model that stopped early may lose
        warnings.simplefilter("ignore", library("sklearn.exceptions").ConvergenceWarning)
        model.fit(table, answers, sample_weight=weight)


def linear_of_users(
    counts: Array, classes: Array, n_classes: int, teaches: Rows, asked: Rows
) -> Floats:
    """Chance of each class, ``[asked, V]``, from a logistic regression on log counts, standardised.

    ``counts [U, F]`` of what each user did by kind, ``classes [U]`` from 0 to V - 1 in the rows
    ``teaches``; no other is read. The strength of the penalty is the best of four by likelihood
    over folds of the teaching rows. A class that none of them has gets no chance, and without
    any all have the same. Raises MissingExtra without scikit-learn.
    """
    models = library("sklearn.linear_model")
    scaler = library("sklearn.preprocessing").StandardScaler()
    answers = classes[teaches]
    if len(np.unique(answers)) < 2:
        only = np.arange(n_classes) == answers[0] if len(answers) else np.ones(n_classes)
        return np.tile(only / only.sum(), (len(asked), 1))
    found = np.zeros((len(asked), n_classes))
    learnt = scaler.fit_transform(np.log1p(counts[teaches]))
    place = np.random.default_rng(0).permutation(len(teaches)) % FOLDS
    losses = []
    for strength in _WEAK:
        nats = 0.0
        for k in range(FOLDS):
            out = place == k
            if not out.any() or len(np.unique(answers[~out])) < 2:
                continue
            inner = models.LogisticRegression(C=strength, max_iter=500)
            _fit(inner, learnt[~out], answers[~out])
            chance = np.zeros((int(out.sum()), n_classes))
            chance[:, inner.classes_] = inner.predict_proba(learnt[out])
            right = chance[np.arange(len(chance)), answers[out]]
            nats -= float(np.log(np.clip(right, 1e-7, 1)).sum())
        losses.append(nats)
    model = models.LogisticRegression(C=_WEAK[int(np.argmin(losses))], max_iter=500)
    _fit(model, learnt, answers)
    found[:, model.classes_] = model.predict_proba(scaler.transform(np.log1p(counts[asked])))
    return found
