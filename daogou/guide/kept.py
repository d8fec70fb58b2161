"""What a guide makes of a large catalogue, kept beside its run so that the next one is there soon.

``RUN/kept/`` may be deleted at any time, and where it cannot be written nothing is kept.
"""

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from daogou.artifact import Artifact, sha256_of

LEAST: Final = 10_000  # products; of fewer everything is made sooner than a disk is asked
FOLDER: Final = "kept"
Arrays = Mapping[str, Tensor]
log = logging.getLogger("daogou.guide")


@dataclass(frozen=True)
class Kept:
    """Arrays that were made of one run. Made by `kept_of`; safe between processes.

    What is there is taken if it is of this run, unaltered, and as this release makes it of some
    products; else it is made anew.
    """

    folder: Path | None = None  # None: nothing is kept
    run: str = ""  # the digest of the run that all is made of

    def arrays(
        self, name: str, make: Callable[[], Arrays], fits: Callable[[Arrays], bool]
    ) -> Arrays:
        """The arrays kept under a name, or what ``make`` makes, which is then kept.

        ``fits`` says whether arrays of another day are those that would be made today.
        """
        if self.folder is None:
            return make()
        file = self.folder / f"{name}.safetensors"
        try:
            if file.exists():
                there = self._read(file)
                if there is not None and fits(there):
                    return there
        # Arrays of another release, or of another one of faiss, may fail to fit in any way.
        except Exception as error:
            log.warning("%s: made anew (%s: %s)", file, type(error).__name__, error)
        arrays = make()
        self._keep(arrays, file)
        return arrays

    def _read(self, file: Path) -> Arrays | None:
        """What a file keeps; None if it is of another run or was altered."""
        with safe_open(file, framework="pt") as held:
            told = held.metadata() or {}
            if told.get("run") != self.run:
                return None
            found = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
        return found if told.get("sha256") == sha256_of(found) else None

    def _keep(self, arrays: Arrays, file: Path) -> None:
        # A name of its own: several processes that begin at once make the same.
        partial = file.with_name(f"{file.stem}.{uuid.uuid4().hex}.partial")
        whole = {name: each.contiguous() for name, each in arrays.items()}
        try:
            file.parent.mkdir(exist_ok=True)
            try:
                save_file(whole, partial, {"run": self.run, "sha256": sha256_of(whole)})
                partial.replace(file)
            finally:
                partial.unlink(missing_ok=True)
        except (OSError, SafetensorError) as error:
            log.warning("%s: not kept (%s); it is made anew each time", file, error)


NOWHERE: Final = Kept()


def kept_of(artifact: Artifact) -> Kept:
    """Where what is made of a run is kept; nowhere for a small catalogue."""
    if artifact.store.n_items < LEAST:
        return NOWHERE
    return Kept(artifact.folder / FOLDER, artifact.digest)
