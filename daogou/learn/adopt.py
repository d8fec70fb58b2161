"""A run made under another's folder to that one: its weights and tables, and what is told of it."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from daogou import artifact
from daogou.features.store.writer import link_store
from daogou.learn.settings import settings_of

_KEPT: Final = ("history_length", "settings", "prepared", "returning")


def adopt(
    run: Path, made: Path, told: Mapping[str, Any], *, base: Path | None = None
) -> dict[str, Any]:
    """Write the finished run ``made`` as ``run``, and return what `fit` would, with ``told``.

    Epochs and seconds are those of ``base``, where the tasks were taught, if it is not ``made``.
    """
    base = base or made
    for name in ("events.jsonl", "prepared.json"):
        artifact.write_whole(run / name, (base / name).read_text("utf-8"))
    shutil.rmtree(run / "store", ignore_errors=True)
    link_store(made / "store", run / "store")
    loaded = artifact.load(made, verify=False)
    taught = artifact.read_manifest(base)["fit"]
    epochs = {name: taught[name] for name in ("epochs", "best_epoch", "seconds")}
    answer = {**loaded.manifest["fit"], **epochs, "run": str(run), **told}
    artifact.save(
        run,
        shop=loaded.shop,
        transform=loaded.transform,
        model=loaded.model,
        shape=settings_of(loaded.shop)[1],
        record={name: loaded.manifest.get(name) for name in _KEPT} | {"fit": answer},
    )
    return answer
