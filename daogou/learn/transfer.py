"""A run and another shop to a run of that shop, and whether what the first learnt helps there."""

from pathlib import Path
from typing import Any

from daogou import artifact
from daogou.artifact import Artifact
from daogou.errors import ConfigError, unknown
from daogou.learn.adopt import adopt
from daogou.learn.claim import claimed, ended
from daogou.learn.loop import Progress, quiet
from daogou.learn.settings import settings_of
from daogou.learn.variant import judged_by_validation, varied
from daogou.learn.ways import AUTO, SAME, WAYS, Trial, Wanted
from daogou.learn.worth import equivalences
from daogou.schema import Shop


def transfer(
    source: Path | str,
    shop: Shop,
    run: Path | str,
    wanted: Wanted | None = None,
    *,
    resume: bool = False,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Fit a shop from what a run of another has learnt, into the folder ``run``.

    Ids, categories and words are matched by value (`daogou.features.merge`), layers by what they
    read (`daogou.model.axes`); what the source does not know is described by text and columns until
    it has learnt its own. The ways: ``scratch`` learns from the shop alone; of the source's weights
    ``frozen`` teaches mixer and heads, ``adapter`` also ids, norms and changes of low rank in the
    encoders, ``full`` all, drawn back to where they began; ``joint`` goes on teaching the source's
    exposures beside the shop's, told apart by a domain.

    With ``auto`` the validation split decides: the way of the least joint score among those that
    help some task and hurt none, by seeds and users together, corrected for their number; scratch
    where there is none. The test split is read by the report alone: for each size of training the
    ways against scratch, as `daogou.learn.differences` has it; how many samples of the shop a way
    is worth; and what the source's own tasks lose if its weights were replaced.

    All models have the source's shape. ``run`` is an ordinary run; the others and the report are in
    ``run/transfer``. Raises ConfigError for what cannot be asked, ArtifactError for a folder that
    holds something else.
    """
    wanted, run = wanted or Wanted(), Path(run)
    giver = artifact.load(source)
    # What the source leaves open is left open here too: its weights fit no other shape.
    open_here = dict.fromkeys(shop.document.get("model", {}))
    shop = varied(shop, model={**open_here, **giver.shop.document.get("model", {})})
    shop = judged_by_validation(shop)
    _check(shop, giver, wanted)
    trial = Trial(giver, shop, run / "transfer", wanted, progress)
    if resume and (done := ended(run, shop)) is not None:
        return {**done, "transfer": trial.told()}
    with claimed(run, shop, resume):
        trial.begin()
        whole = trial.n_training
        sizes = [n for n in sorted({*wanted.sizes}) if n < whole] + [whole]
        trial.count(len(sizes))
        found = {n: trial.compared(n) for n in sizes}
        chosen, why = trial.chosen(whole)
        document = {
            "shop": shop.name,
            "source": {"run": str(source), "shop": giver.shop.name},
            "how": wanted.how,
            "chosen": chosen,
            "choice": why,
            "seeds": list(trial.seeds),
            "margin": wanted.margin,
            "shared": {kind: list(pair) for kind, pair in trial.shared.items()},
            "n": whole,
            "sizes": {str(n): each for n, each in found.items()},
            "equivalence": equivalences(found, wanted.ways),
            "source_tasks": trial.retained(whole),
        }
        artifact.write_document(trial.folder / "transfer.json", document)
        told = {
            "transfer": {name: document[name] for name in ("source", "how", "chosen", "choice")}
        }
        answer = adopt(run, trial.run(chosen, whole, trial.seeds[0]), told)
        return {**answer, "transfer": document}


def _check(shop: Shop, giver: Artifact, wanted: Wanted) -> None:
    problems = []
    if wanted.how not in (*WAYS, AUTO):
        problems.append(f"--how: {unknown(wanted.how, (*WAYS, AUTO))}")
    if wanted.seeds < 1:
        problems.append(f"--seeds: {wanted.seeds}; give 1 or more, 5 tell luck from effect")
    if any(n < 1 for n in wanted.sizes):
        problems.append(f"--sizes: {min(wanted.sizes)}; give numbers of exposures, 1 or more")
    if not 0 < wanted.margin < 1:
        problems.append(f"--margin: {wanted.margin}; give a difference above 0 that would matter")
    problems += [f"--same: {unknown(name, SAME)}" for name in wanted.same if name not in SAME]
    theirs = {task.name for task in giver.shop.tasks}
    if not theirs & {task.name for task in shop.tasks if task.family == "funnel"}:
        problems.append(
            f"{shop.name}: no stage of its funnel is a task of {giver.shop.name} "
            f"({', '.join(sorted(theirs))}); give the stages the names that they have there"
        )
    if problems:
        raise ConfigError("\n".join(problems))
    settings_of(shop)
