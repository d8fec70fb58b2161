"""A shop to a receipt: whether learning its tasks together helps each, by how much, how surely."""

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from daogou import artifact
from daogou.artifact import Artifact
from daogou.artifact.counts import counts_of
from daogou.errors import ArtifactError, ConfigError, MissingExtra, unknown
from daogou.features.batch import Batch, make_batch
from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.learn.answers import answers_from
from daogou.learn.claim import opened_folder, started_as
from daogou.learn.contenders import (
    ANSWERS,
    Runs,
    folder_of,
    multi,
    read_answers,
    twins,
    write_answers,
)
from daogou.learn.controls import AUX, CONTROLS
from daogou.learn.differences import SINGLE, SPLIT, Asked, Contender, document_of
from daogou.learn.loop import Progress, quiet
from daogou.learn.rivals import RIVALS, rival_scores
from daogou.learn.settings import settings_of
from daogou.learn.variant import judged_by_validation, twin_of, varied
from daogou.model.build import Counts, Shape, build
from daogou.model.heads.funnel import FunnelHead
from daogou.model.joint import JointModel
from daogou.schema import Shop

SMALL: Final = "single_small"  # twins that together are as large
_LEAST_WIDTH: Final = 2  # a norm of one number is 0
_TIMED_ROWS: Final = 1000
_ROUNDS: Final = 9


def compare(
    shop: Shop,
    folder: Path | str,
    asked: Asked | None = None,
    *,
    resume: bool = False,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Train every contender with paired seeds and return the receipt; all of it is in ``folder``.

    A pair has the same order of data, one compiled store and at most as many epochs. Twins learn
    one task each: ``single`` is as wide as the joint model, ``single_small`` so narrow that all
    twins together have as many parameters. Every choice, of epochs, calibration and of the
    candidate that the receipt is about, is made by the validation split; no number of the test
    split is read by anything but the receipt.

    More single-task models are trained if they are ``asked`` for, see `daogou.learn.controls`.

    A twin of a stage keeps the stages that it is learnt after, at weight 0: they say where the
    stage is defined, train their own layers and reach nothing that is shared but the length to
    which gradients are clipped. Over all exposures the twins' chances are multiplied, each stage's
    by the twin that learnt it.

    Raises ConfigError for what cannot be compared, and ArtifactError if the folder holds something
    else or, without ``resume``, anything.
    """
    asked = asked or Asked()
    shop, folder = judged_by_validation(shop), Path(folder)
    candidates = _candidates(shop, asked)
    _check(shop, asked, candidates)
    with opened_folder(folder, resume=resume):
        seeds = range(shop.seed, shop.seed + asked.seeds)
        named = asked.rivals if asked.rivals is not None else tuple(RIVALS)
        own = next(iter(candidates))  # its first run compiles the tables
        a_seed = len(candidates) + 2 * len(shop.tasks)
        a_seed += sum(CONTROLS[name].runs(shop) for name in asked.controls)
        runs = Runs(folder, seeds, progress, len(seeds) * a_seed + len(named))
        first = runs.judged(own, candidates[own], seeds[0], like=None)
        base = artifact.load(first, verify=False)
        contenders = [*multi(runs, candidates, base)]
        contenders.append(twins(runs, SINGLE, shop, base, {}))
        contenders.append(twins(runs, SMALL, shop, base, _narrow(shop, base)))
        contenders += [CONTROLS[name].contender(runs, shop, base) for name in asked.controls]
        found, absent = _rivals(runs, shop, named, base)
        runs.end()
        document = document_of(shop, asked, base, [*contenders, *found], progress)
        document["absent"] = absent
        document["cost"] = _cost(folder, shop, document, seeds[0])
        artifact.write_document(folder / "compare.json", document)
        artifact.write_document(folder / "receipt.json", receipt_of(document))
        return document


def receipt_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `compare`'s document that other programs read."""
    kept = (
        "verdict", "difference", "interval", "smallest_detectable", "single", "multi", "metric",
        "n", "positives", "more_positives",
    )  # fmt: skip
    beside = ("verdict", "difference", "interval", "smallest_detectable", "single")
    chosen = document["candidates"][document["chosen"]]
    twins = [who for who, each in document["contenders"].items() if each["kind"] == "single"]
    return {
        "shop": document["shop"],
        "candidate": document["chosen"],
        "seeds": document["seeds"],
        "margin": document["margin"],
        "tasks": {
            name: {key: entry[key] for key in kept}
            | {
                "against": {
                    who: {key: entry["against"][who][key] for key in beside}
                    for who in twins
                    if who in entry["against"]
                }
            }
            for name, entry in chosen["tasks"].items()
        },
        "delta_m": chosen["delta_m"],
        "cost": document["cost"],
    }


# ---- who takes part -----------------------------------------------------------------------


def _candidates(shop: Shop, asked: Asked) -> dict[str, Shop]:
    """Multi-task shops by name, the shop's own first."""
    mixer = shop.model.get("mixer", Shape().mixer)
    balancer = shop.fit.get("balancer", "fixed")
    found = {f"{mixer}+{balancer}": shop}
    for m in asked.mixers or (mixer,):
        for b in asked.balancers or (balancer,):
            model = {"mixer": m} if m == mixer else {"mixer": m, "mixer_options": None}
            learnt = {"balancer": b} if b == balancer else {"balancer": b, "balancer_options": None}
            found.setdefault(f"{m}+{b}", varied(shop, model=model, training=learnt))
    return found


def _check(shop: Shop, asked: Asked, candidates: Mapping[str, Shop]) -> None:
    problems = []
    if len(shop.tasks) < 2:
        names = ", ".join(task.name for task in shop.tasks) or "no task"
        problems.append(f"{shop.name}: {names}; it takes two tasks to share anything")
    if asked.seeds < 1:
        problems.append(f"seeds: {asked.seeds}; give 1 or more, 5 tell luck from effect")
    if not 0 < asked.margin < 1:
        problems.append(f"margin: {asked.margin}; give a difference above 0 that would matter")
    if asked.cold < 1:
        problems.append(
            f"cold: {asked.cold}; give the events below which a user is cold, 1 or more"
        )
    if not 0 < asked.head < 1:
        problems.append(f"head: {asked.head}; give a share of the exposures between 0 and 1")
    problems += [
        f"controls: {unknown(name, CONTROLS)}" for name in asked.controls if name not in CONTROLS
    ]
    if AUX in asked.controls and len(shop.of_family("funnel")) < 2:
        problems.append(f"controls: {AUX!r} tells a stage of another, and there are not two")
    problems += [
        f"rivals: {unknown(name, RIVALS)}" for name in asked.rivals or () if name not in RIVALS
    ]
    for candidate in candidates.values():
        try:
            settings_of(candidate)
        except ConfigError as error:
            problems += str(error).split("\n")
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))


def _narrow(shop: Shop, base: Artifact) -> dict[str, Any]:
    """Widths with which the twins together have about as many parameters as the joint model."""
    counts = counts_of(base.transform, base.store, shop.tasks)
    _, shape = settings_of(shop)
    wanted = size_of(shop, base.transform, counts, shape)
    twins = [twin_of(shop, task.name) for task in shop.tasks]
    full = shape.widths()[0]

    def total(width: int) -> int:
        narrow = _scaled(shape, width)
        return sum(
            size_of(twin, base.transform, counts, replace(settings_of(twin)[1], **narrow))
            for twin in twins
        )

    low, high = min(_LEAST_WIDTH, full), full
    while low < high:  # the widest that is not above the joint model
        middle = (low + high + 1) // 2
        low, high = (middle, high) if total(middle) <= wanted else (low, middle - 1)
    around = [width for width in (low, low + 1) if width <= full]
    best = min(around, key=lambda width: abs(total(width) - wanted))
    return _scaled(shape, best)


def _scaled(shape: Shape, width: int) -> dict[str, Any]:
    """All widths of a shape in the proportion that makes the encodings so wide."""
    full, experts, field = shape.widths()

    def scaled(size: int) -> int:
        return max(round(size * width / full), _LEAST_WIDTH)

    return {
        "width": width,
        "expert_widths": tuple(map(scaled, experts)),
        "field_width": scaled(field),
        "text_width": scaled(shape.text_width),
        "tower": scaled(shape.tower),
        "own_width": scaled(shape.own_width),
    }


def size_of(shop: Shop, transform: Transform, counts: Counts, shape: Shape) -> int:
    """Parameters of a shop's model; none of them is made."""
    with torch.device("meta"):
        model = build(transform, shop.tasks, counts, shape)
    return sum(weight.numel() for weight in model.parameters())


# ---- rivals -------------------------------------------------------------------------------


def _rivals(
    runs: Runs, shop: Shop, names: Sequence[str], base: Artifact
) -> tuple[list[Contender], dict[str, str]]:
    """Each rival's answers, made once: they do not depend on the order of data."""
    found, absent = [], {}
    for name in names:
        run = runs.of(name, shop.seed)
        runs.step(run)
        try:
            seconds = _rival(run, name, shop, base)
        except MissingExtra as error:
            absent[name] = str(error)
            continue
        answers = read_answers(run, "joint/")
        found.append(Contender(name, "rival", [answers], seconds=[seconds]))
    return found, absent


def _rival(run: Path, name: str, shop: Shop, base: Artifact) -> float:
    """Write a rival's answers unless they are there; returns the seconds that it took."""
    record, started_from = run / "rival.json", started_as(varied(shop, seed=shop.seed))
    if (run / ANSWERS).exists() and record.exists():
        kept = json.loads(record.read_text("utf-8"))
        if kept["started"] != started_from:
            raise ArtifactError(
                f"{run}: was made with other settings or another shop; resume with the "
                "same, or give another folder"
            )
        return float(kept["seconds"])
    settings, _ = settings_of(shop)
    started = time.perf_counter()
    said = rival_scores(
        name, shop, base.store, base.transform, SPLIT, shop.seed, threads=settings.threads or 1
    )
    answers = answers_from(said, shop, base.store, SPLIT)
    seconds = time.perf_counter() - started
    run.mkdir(exist_ok=True)
    write_answers(run, {f"joint/{key}": each for key, each in answers.items()})
    text = json.dumps({"started": started_from, "seconds": round(seconds, 1)})
    artifact.write_whole(record, text)
    return round(seconds, 1)


# ---- what it costs --------------------------------------------------------------------------


def _cost(folder: Path, shop: Shop, document: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Seconds of training, parameters, and milliseconds to score 1000 exposures.

    The candidate and all twins are timed in turn, in one process, on one batch that is made
    already; the twins' time is the sum over the stages of the funnel.
    """
    found: dict[str, Any] = {
        "seconds": {
            name: statistics.fmean(each["seconds"])
            for name, each in document["contenders"].items()
            if each["seconds"]
        },
        "parameters": {
            name: each["parameters"] for name, each in document["contenders"].items()
        },
        "ms_per_1000": {},
    }  # fmt: skip
    stages = [task.name for task in shop.of_family("funnel")]
    if not stages:
        return found
    runs = {document["chosen"]: [folder_of(folder, document["chosen"], seed)]}
    for name in (SINGLE, SMALL):
        runs[name] = [folder_of(folder, name, seed, stage) for stage in stages]
    loaded = {
        name: [artifact.load(run, verify=False) for run in some] for name, some in runs.items()
    }
    store: Store = loaded[document["chosen"]][0].store
    rows = np.arange(*store.ranges[SPLIT])[:_TIMED_ROWS]
    if not len(rows):
        return found
    length = loaded[document["chosen"]][0].history_length
    batch = make_batch(store, rows, history_length=length)
    times: dict[str, list[float]] = {name: [] for name in loaded}
    for _ in range(_ROUNDS):
        for name, some in loaded.items():
            started = time.perf_counter()
            for each in some:
                _score(each.model, batch)
            times[name].append((time.perf_counter() - started) * 1e6 / len(rows))
    found["ms_per_1000"] = {name: statistics.median(some) for name, some in times.items()}
    return found


@torch.inference_mode()
def _score(model: JointModel, batch: Batch) -> None:
    head = model.heads["funnel"]
    assert isinstance(head, FunnelHead)
    head.chances(model.encode(batch), batch)
