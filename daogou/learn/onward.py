"""A run, and what has happened since, to the run of today: what was learnt learns on."""

import copy
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import torch

from daogou import artifact
from daogou.artifact import Artifact
from daogou.artifact.counts import model_of
from daogou.config import make, shop_of
from daogou.errors import ArtifactError, ConfigError
from daogou.features.merge import grow
from daogou.learn import rates
from daogou.learn.carry import measures
from daogou.learn.checkpoint import save_tensors
from daogou.learn.claim import claimed, ended
from daogou.learn.compile import Tables, compile_tables
from daogou.learn.drift import DRIFT, drift
from daogou.learn.fit import fit
from daogou.learn.loop import Progress, quiet
from daogou.learn.onto import Onto
from daogou.learn.settings import settings_of
from daogou.learn.variant import judged_by_validation
from daogou.model.axes import axes_of, carry
from daogou.model.build import Shape
from daogou.schema import Shop, Task
from daogou.tables import Seam

_ALIKE: Final = ("family", "given", "loss", "own", "order")  # of a task, for its weights to fit


def fit_onward(
    source: Path | str,
    shop: Shop,
    run: Path | str,
    *,
    events: tuple[str, ...] = (),
    resume: bool = False,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Go on from the run ``source`` with what its shop's log has since, into the folder ``run``.

    ``shop`` is what `later` makes. Its log is read whole, so that histories are what they would be
    in any fit; what teaches are the exposures from the end of the source's training on, its
    validation and test among them, and those before of which some label was not known there yet.
    Validation and test are the newest share of what came after the source's log. ``events`` are
    the later files, whose events must not be older than that. ``drift.json`` tells what has changed
    since the source (`daogou.learn.drift`).

    Of the transform quantiles and scales stay, and new values get rows after the old ones
    (`daogou.features.merge.grow`). Weights begin as they are in the source, a new row as the row of
    what is unknown; what is counted (popularity, rates) counts the earlier exposures too, for what
    ``fit.onward_half_life_days`` leaves of them. Optimisers begin anew, at ``fit.onward_pace`` of
    the learning rates: a run keeps no state of theirs. Of the epochs, and of the start, validation
    keeps the best. ``fit.onward_replay`` is a share of the earlier days that teach once more.

    Same seed, same weights, also when killed and resumed. Raises ConfigError, by name, where the
    shop is not the source's (another column, task or shape), DataError where nothing came since.
    """
    run, shop = Path(run), judged_by_validation(shop)
    giver = artifact.load(source)
    check_same(giver, shop)
    settings, _ = settings_of(shop)
    folder = run / "onward"
    if resume and (before := ended(run, shop)) is not None:
        return _concluded(run, giver, before)
    with claimed(run, shop, resume):
        _begin(folder, giver)
        seam = seam_of(giver, shop, events=events)
        tables = compile_tables(
            shop,
            folder / "tables",
            progress=progress,
            blend=lambda _, own: grow(giver.transform, own),
            seam=seam,
        )
        _check_held_out(tables.prepared["split"], seam)
        if not (run / DRIFT).exists():
            progress("drift", 0, 1, "what has changed since the run")
            artifact.write_document(run / DRIFT, drift(giver, shop, seam))
        start = folder / "start"
        if not (start / "model.safetensors").exists():
            start.mkdir(exist_ok=True)
            _start(giver, shop, tables, start / "model.safetensors")
    told = {"source": str(source), "digest": giver.digest, "seam": asdict(seam)}
    answer = fit(
        shop,
        run,
        resume=True,  # it is claimed already
        progress=progress,
        like=folder / "tables",
        onto=Onto(
            start,
            pace=settings.onward_pace,
            may_stay=True,
            told={"returning": giver.manifest.get("returning"), "onward": told},
        ),
    )
    return _concluded(run, giver, answer)


def _concluded(run: Path, giver: Artifact, answer: dict[str, Any]) -> dict[str, Any]:
    """What a finished run answers; ArtifactError if it went on from another one, or from none."""
    told = artifact.read_manifest(run).get("onward")
    if told is None:
        raise ArtifactError(f"{run}: holds a finished run; give another folder")
    if told["digest"] != giver.digest:
        raise ArtifactError(
            f"{run}: went on from another run; resume with that, or give another folder"
        )
    shutil.rmtree(run / "onward", ignore_errors=True)
    return {**answer, "onward": told, "drift": artifact.read_document(run / DRIFT)}


def later(giver: Mapping[str, Any], shop: Shop | None, events: tuple[str, ...] = ()) -> Shop:
    """The shop of a run's manifest, or ``shop`` in its place, with all its events.

    Those are the files that either names, and ``events``: files, globs or folders. Where the run
    was told when validation or test begin, those days are over: a shop that says the same is taken
    to say nothing of it.
    """
    theirs = shop_of(giver["shop"], Path(giver["root"]))
    shop = shop or theirs
    if shop.events is None or theirs.events is None:
        raise ConfigError("events: a fit goes on with what happened since; there is no [events]")
    document = copy.deepcopy(dict(shop.document))
    if "://" not in shop.events.path:
        known = (
            str(theirs.root.resolve() / each) for each in (theirs.events.path, *theirs.events.more)
        )
        more = dict.fromkeys([*shop.events.more, *known, *events])
        own = str(shop.root.resolve() / shop.events.path)
        document["events"]["more"] = [each for each in more if each != own]
    elif events:
        raise ConfigError("--events: the shop's events are in a database; put the later ones there")
    split = document.get("split", {})
    for name in ("validation_from", "test_from"):
        if name in split and split[name] == getattr(theirs.split, name):
            del split[name]
    return shop_of(document, shop.root)


def drift_since(run: Artifact, shop: Shop) -> dict[str, Any]:
    """What has changed since a run (`daogou.learn.drift`), of what `later` makes of its shop."""
    check_same(run, shop)
    return drift(run, shop, seam_of(run, shop))


def seam_of(giver: Artifact, shop: Shop, *, events: tuple[str, ...] = ()) -> Seam:
    """Where a run's training and log ended, and what of before counts how much."""
    settings, _ = settings_of(shop)
    prepared = giver.manifest["prepared"]
    end, cuts = prepared["funnel"]["end"], prepared["split"]
    if end is None:
        raise ConfigError("events.time: the run's events have no time to go on from; fit anew")
    return Seam(
        taught_until=cuts["validation_from"] or cuts["test_from"] or end,
        end=end,
        replay=settings.onward_replay,
        half_life_days=settings.onward_half_life_days,
        seed=shop.seed,
        events=events,
    )


def check_same(giver: Artifact, shop: Shop) -> None:
    """Refuse a shop whose tasks, inputs or shapes are not the run's, by name.

    What its columns hold is compared when they are read, see `daogou.features.merge.grow`.
    """
    problems = list(_changed_tasks(giver.shop.tasks, shop.tasks))
    theirs, ours = _inputs(giver.shop), _inputs(shop)
    problems += [f"{name}: the run reads it" for name in theirs if name not in ours]
    problems += [f"{name}: the run does not read it" for name in ours if name not in theirs]
    _, shape = settings_of(shop)
    before = asdict(make("shape", Shape, giver.manifest["shape"]))
    problems += [
        f"model.{name}: is {value!r}, and was {before[name]!r} in the run"
        for name, value in asdict(shape).items()
        if value != before[name]
    ]
    if giver.transform.item_ids.key:
        problems.append("the run is of a federation, whose shops go on together")
    if problems:
        raise ConfigError(
            "\n".join(f"{each}; go on with what the run has, or fit anew" for each in problems)
        )


def _inputs(shop: Shop) -> list[str]:
    """The columns that a model of the shop reads, by the settings that name them."""
    found = [f"items.columns: {name!r}" for name in (shop.items.columns if shop.items else ())]
    found += [f"users.columns: {name!r}" for name in (shop.users.columns if shop.users else ())]
    context = shop.events.context if shop.events else ()
    return found + [f"events.context: {name!r}" for name in context]


def _changed_tasks(before: tuple[Task, ...], now: tuple[Task, ...]) -> Iterator[str]:
    old, new = ({task.name: task for task in tasks} for tasks in (before, now))
    yield from (
        f"tasks.{name}: the run has it, and the shop has not" for name in old if name not in new
    )
    yield from (f"tasks.{name}: the run has no such task" for name in new if name not in old)
    for name in old:
        for field in _ALIKE if name in new else ():
            one, other = getattr(old[name], field), getattr(new[name], field)
            if one != other:
                yield f"tasks.{name}.{field}: is {other!r}, and was {one!r} in the run"


def _check_held_out(cuts: Mapping[str, Any], seam: Seam) -> None:
    """Refuse to judge by exposures that have taught the run."""
    first = cuts["validation_from"] or cuts["test_from"]
    if first and datetime.fromisoformat(first) < datetime.fromisoformat(seam.taught_until):
        raise ConfigError(
            f"split: what is held out would begin at {first}, and the run has learnt until "
            f"{seam.taught_until}; let it begin later"
        )


def _begin(folder: Path, giver: Artifact) -> None:
    """Make or check the folder of what goes on."""
    folder.mkdir(exist_ok=True)
    asked = {"source": giver.digest}
    if artifact.read_document(folder / "asked.json") not in (None, asked):
        raise ArtifactError(
            f"{folder.parent}: was begun from another run; resume with that, or give another folder"
        )
    artifact.write_document(folder / "asked.json", asked)


def _start(giver: Artifact, shop: Shop, tables: Tables, path: Path) -> None:
    """The weights that the fit goes on with: the run's, and a new row is as the unknown one."""
    torch.manual_seed(shop.seed)
    model = model_of(tables.transform, tables.store, shop, settings_of(shop)[1])
    of, axes = axes_of(giver.model, giver.transform), axes_of(model, tables.transform)
    carry(giver.model.state_dict(), of, model, axes)
    rates.find_scale(giver.model, giver.store)
    known = measures(giver, model, tables.transform) if "funnel" in model.heads else {}
    save_tensors({**dict(model.named_parameters()), **known}, path)
