"""A trained model's chances and the validation split's labels to the curves that reconcile them."""

from collections.abc import Mapping
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray

from daogou.errors import ConfigError, unknown
from daogou.features.store import SPLITS, Store
from daogou.features.tags import MASKED, runs_of
from daogou.learn.curves import (
    Fit,
    Floats,
    fit_curve,
    fit_line,
    fit_sharpness,
    mass_of,
    sigmoid,
    softmax,
)
from daogou.metrics import calibration_error, log_loss
from daogou.model import predict
from daogou.model.calibrated import Calibrated, Curve, logits_of
from daogou.model.heads.extract import ExtractHead
from daogou.model.heads.funnel import FunnelHead
from daogou.model.heads.profile import Listed, ProfileHead
from daogou.model.joint import JointModel
from daogou.model.stages.escm2 import DEBIASED, LEAST_PROPENSITY
from daogou.schema import Task

METHODS: Final = ("none", "platt", "isotonic")

LEAST: Final = 20  # of the rarer label, for anything at all

LEAST_ISOTONIC: Final = 1000  # likewise, for a curve with many knots


def calibrate(
    model: JointModel, store: Store, method: str, *, history_length: int
) -> dict[str, dict[str, Any]]:
    """Calibrate a model by the validation split, and say of each task what was done.

    A stage's chance is mended where it is defined, that is given the stage before, so that chances
    over all exposures still fall along the funnel. Of a stage that is learnt for all exposures
    (escm2) the rows count by 1 / the chance of the stage before, as in its loss: a curve of the
    rows as they came would take back what the loss put right. It gets a line ("platt", see
    `fit_line`) or a rising curve ("isotonic", see `fit_curve`), and something simpler, or nothing,
    where the labels do not bear it (`choose_curve`). A profile column gets one temperature under
    either method, unless it has a straight path, whose weight and the network's calibrate it. The
    spans of titles get one curve together, of the chance that a span that is said is there.
    Amounts have no chance to mend, and matching is weighed elsewhere (`daogou.learn.tally`).

    The answer has for each stage and profile column its ``method`` (``why`` if it is not the one
    asked for), parameters, ``n`` rows, ``positives`` of a stage, and ``nats`` and ``ece`` before
    and after. These are of the rows that chose the curve, as they chose the epoch: the "after" is
    slightly too good, by about one nat in all for a line, and the chances that are mended were
    themselves a little better here than they will be. A report on the test split is neither.

    An earlier calibration is forgotten first; "none" does nothing else. No label of the test split
    is read, though the histories of users who choose run to the log's end. Raises ConfigError for
    an unknown method.
    """
    if method not in METHODS:
        raise ConfigError(f"fit.calibration: {unknown(method, METHODS)}")
    said: dict[str, dict[str, Any]] = {}
    if "funnel" in model.heads:
        funnel = cast(FunnelHead, model.heads["funnel"])
        funnel.calibrated.used.fill_(False)
        said |= _funnel(model, funnel, store, method, history_length)
    if "profile" in model.heads:
        profile = cast(ProfileHead, model.heads["profile"])
        profile.paths[profile.paths[:, 1] == 0, 0] = 1.0
        said |= _profile(model, profile, store, method, history_length)
    if "extract" in model.heads:
        extract = cast(ExtractHead, model.heads["extract"])
        extract.calibrated.used.fill_(False)
        if extract.values is not None:
            extract.values.sharpness.fill_(1.0)
        said |= _extract(model, extract, store, method)
        said |= _values(model, extract, store, method)
    return said


def _funnel(
    model: JointModel, head: FunnelHead, store: Store, method: str, length: int
) -> dict[str, dict[str, Any]]:
    if method == "none":
        return {}
    first, last = store.ranges["validation"]
    labels = np.asarray(store["exposures/labels"][first:last])[:, head.columns]
    weight = np.asarray(store["exposures/weight"][first:last], dtype=np.float64)
    scores = predict.funnel_scores(model, store, "validation", history_length=length)
    said = scores.conditional
    found: dict[str, dict[str, Any]] = {}
    chosen: dict[str, Any] = {}
    for stage, task in enumerate(_tasks(model, "funnel")):
        if task.is_value:
            continue
        rows = head.defined(torch.from_numpy(labels), stage).numpy() & (weight > 0)
        happened, mass = labels[rows, stage] == 1, weight[rows]
        if task.loss in DEBIASED:
            before = scores.chances[rows, head.given[stage]].astype(np.float64)
            mass = mass / before.clip(min=LEAST_PROPENSITY)
        logits = logits_of(torch.from_numpy(said[rows, stage])).numpy()
        curve, told = choose_curve(method, logits, happened, mass)
        chosen[task.name] = rows, happened, mass
        found[task.name] = {**told, "n": len(mass), "positives": int(happened.sum())}
        if curve is not None:
            head.calibrated.set(stage, curve)
    after = head.calibrated(torch.from_numpy(np.ascontiguousarray(said.T))).numpy().T
    for stage, task in enumerate(_tasks(model, "funnel")):
        if task.name in chosen and found[task.name]["n"]:
            rows, happened, mass = chosen[task.name]
            both = [given[rows, stage].astype(np.float64) for given in (said, after)]
            found[task.name]["nats"] = [log_loss(p, happened, mass) for p in both]
            found[task.name]["ece"] = [calibration_error(p, happened, mass) for p in both]
    return found


def choose_curve(
    method: str, logits: Floats, happened: NDArray[np.bool_], weights: Floats
) -> tuple[Curve | None, dict[str, Any]]:
    """The curve for these rows, None for none, and what a record says of it.

    A curve must gain more nats, over all rows, than it has parameters (Akaike's criterion): luck
    alone gains half of that. Luck grows with unequal weights, as few rows then speak for many, so
    a parameter counts ``sum w^2 / sum w`` (Takeuchi's criterion, of a model that is right). Where
    the gain is less, or where there are too few rows, the next simpler one is asked. All arrays
    are ``[n]``.
    """
    rarer = min(int(happened.sum()), int((~happened).sum()))
    mass = mass_of(weights)
    before = _total(Curve((0.0,), (0.0,), 1.0), logits, happened, mass)
    why: list[str] = []
    for name in METHODS[METHODS.index(method) : 0 : -1]:
        needed = LEAST_ISOTONIC if name == "isotonic" else LEAST
        if rarer < needed:
            why.append(f"{name}: {rarer} rows of the rarer label, {needed} are needed")
            continue
        curve = _FITS[name](logits, happened, mass)
        n_parameters = max(2, len(curve.said))
        gain = before - _total(curve, logits, happened, mass)
        if gain <= n_parameters * float(mass @ mass / mass.sum()):
            why.append(f"{name}: gains {gain:.1f} nats with {n_parameters} parameters, as luck can")
            continue
        told: dict[str, Any] = {"method": name, "slope": curve.slope}
        told |= (
            {"knots": len(curve.said)} if len(curve.said) > 1 else {"intercept": curve.mended[0]}
        )
        return curve, told | ({"why": "; ".join(why)} if why else {})
    return None, {"method": "none", "why": "; ".join(why)}


def _total(curve: Curve, logits: Floats, happened: NDArray[np.bool_], mass: Floats) -> float:
    """Nats of the labels under the chances that a curve makes of logits."""
    model = Calibrated(1)
    model.set(0, curve)
    p = model(torch.from_numpy(sigmoid(logits))[None])[0].numpy()
    return float(mass @ -np.log(np.where(happened, p, 1 - p)))


def _profile(
    model: JointModel, head: ProfileHead, store: Store, method: str, length: int
) -> dict[str, dict[str, Any]]:
    users = np.flatnonzero(store["users/split"] == SPLITS.index("validation"))
    if method == "none" or not len(users):
        return {}
    found: dict[str, dict[str, Any]] = {}
    scores = predict.profile_scores(model, store, users, history_length=length)
    for place, task in enumerate(_tasks(model, "profile")):
        if head.paths[place, 1] > 0:
            found[task.name] = {"method": "none", "why": "its two paths are weighed by validation"}
            continue
        kind, chances = head.kinds.get(place), scores[place].astype(np.float64)
        is_list = isinstance(kind, Listed)
        if isinstance(kind, Listed):
            actual = store["users/many"][users, kind.first : kind.first + chances.shape[1]]
            known = (actual >= 0).any(1)
        else:
            actual = store["users/profile"][users, head.columns[place]]
            known = actual >= 0
        chances, actual = chances[known], np.asarray(actual[known], dtype=np.int64)
        sharp, found[task.name] = choose_sharpness(chances, actual, is_list=is_list)
        head.paths[place, 0] = sharp
    return found


def choose_sharpness(
    chances: Floats, actual: NDArray[np.int64], *, is_list: bool = False
) -> tuple[float, dict[str, Any]]:
    """`fit_sharpness` if it gains more than luck would, else 1; and what a record says of it."""
    n = len(actual)
    if n < LEAST or not chances.shape[1]:
        return 1.0, {"method": "none", "why": f"{n} rows with a value; {LEAST} needed", "n": n}
    logits = _logits(chances, is_list)
    sharp = fit_sharpness(logits, actual, is_list=is_list)
    told: dict[str, Any] = {"method": "temperature", "temperature": 1.0 / sharp}
    both = (chances, _chances(sharp * logits, is_list))
    before, after = (_nats(each, actual, is_list) for each in both)
    gain = (before - after) * actual.size
    if gain <= 1:
        told = {"method": "none", "why": f"gains {gain:.1f} nats, as luck can"}
        sharp, both = 1.0, (chances, chances)
    told["n"] = n
    for name, judge in (("nats", _nats), ("ece", _off)):
        told[name] = [judge(each, actual, is_list) for each in both]
    return sharp, told


def _values(
    model: JointModel, head: ExtractHead, store: Store, method: str
) -> dict[str, dict[str, Any]]:
    """One temperature for each attribute that is read as classes, as for a profile column."""
    titles = np.flatnonzero(store["titles/split"] == SPLITS.index("validation"))
    if method == "none" or head.values is None or not len(titles):
        return {}
    found: dict[str, dict[str, Any]] = {}
    task = _tasks(model, "extract")[0].name
    for place, chances in enumerate(predict.title_values(model, store, titles)):
        actual = np.asarray(store["titles/values"][titles, place], dtype=np.int64)
        known = actual >= 0
        sharp, told = choose_sharpness(chances[known].astype(np.float64), actual[known])
        head.values.sharpness[place] = sharp
        found[f"{task}.{head.values.names[place]}"] = told
    return found


def _extract(
    model: JointModel, head: ExtractHead, store: Store, method: str
) -> dict[str, dict[str, Any]]:
    """One curve for the confidence of a span: the chance that it is there, to the token."""
    titles = np.flatnonzero(store["titles/split"] == SPLITS.index("validation"))
    if method == "none" or not len(titles):
        return {}
    chances: list[float] = []
    right: list[bool] = []
    for rows, tags, sure in predict.title_tags(model, store, titles):
        gold = store["titles/tags"][rows][..., : tags.shape[-1]]
        for said, true, chance in zip(tags, gold, sure, strict=True):
            there = set(map(tuple, runs_of(true).tolist()))
            for run in map(tuple, runs_of(said).tolist()):
                attribute, first, after = run
                if true[attribute, 0] != MASKED:
                    chances.append(float(np.prod(chance[attribute, first:after])))
                    right.append(run in there)
    p, happened = np.array(chances), np.array(right, dtype=bool)
    mass = np.ones(len(p))
    curve, told = choose_curve(method, logits_of(torch.from_numpy(p)).numpy(), happened, mass)
    if curve is not None:
        head.calibrated.set(0, curve)
    found = {**told, "n": len(p), "positives": int(happened.sum())}
    if len(p):
        both = (p, head.sure(chances))
        found["nats"] = [log_loss(each, happened) for each in both]
        found["ece"] = [calibration_error(each, happened) for each in both]
    return {_tasks(model, "extract")[0].name: found}


def _nats(chances: Floats, actual: NDArray[np.int64], is_list: bool) -> float:
    """Mean nats of what is so; over the values of a list, of each yes or no."""
    if is_list:
        return log_loss(chances.ravel(), actual.ravel() == 1)
    return float(-np.log(chances[np.arange(len(actual)), actual].clip(1e-7)).mean())


def _off(chances: Floats, actual: NDArray[np.int64], is_list: bool) -> float:
    """Calibration error of the chance of the likeliest class; of a list, of every value's."""
    if is_list:
        return calibration_error(chances.ravel(), actual.ravel() == 1)
    return calibration_error(chances.max(1).clip(0, 1), chances.argmax(1) == actual)


def _logits(chances: Floats, is_list: bool) -> Floats:
    if is_list:
        return np.asarray(logits_of(torch.from_numpy(chances)).numpy())
    return np.asarray(np.log(chances.clip(1e-30)))


def _chances(logits: Floats, is_list: bool) -> Floats:
    return sigmoid(logits) if is_list else softmax(logits)


def _tasks(model: JointModel, family: str) -> list[Task]:
    return [task for task in model.tasks if task.family == family]


_FITS: Final[Mapping[str, Fit]] = {"platt": fit_line, "isotonic": fit_curve}
