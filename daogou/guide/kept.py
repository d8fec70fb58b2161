"""What a guide makes of a large catalogue, kept beside its run so that the next one is there soon.

``RUN/kept/`` may be deleted at any time, and where it cannot be written nothing is kept.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from daogou.artifact import Artifact, read_document, sha256, write_document

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
        file, told = self.folder / f"{name}.safetensors", self.folder / f"{name}.json"
        try:
            found = read_document(told)
            if found is not None and found == {"run": self.run, "sha256": sha256(file)}:
                there = load_file(file)
                if fits(there):
                    return there
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            log.warning("%s: made anew (%s)", file, error)
        arrays = make()
        self._keep(arrays, file, told)
        return arrays

    def _keep(self, arrays: Arrays, file: Path, told: Path) -> None:
        partial = file.with_suffix(".partial")
        try:
            file.parent.mkdir(exist_ok=True)
            save_file({name: each.contiguous() for name, each in arrays.items()}, partial)
            digest = sha256(partial)
            partial.replace(file)
            write_document(told, {"run": self.run, "sha256": digest})
        except (OSError, SafetensorError) as error:
            log.warning("%s: not kept (%s); it is made anew each time", file, error)


NOWHERE: Final = Kept()


def kept_of(artifact: Artifact) -> Kept:
    """Where what is made of a run is kept; nowhere for a small catalogue."""
    if artifact.store.n_items < LEAST:
        return NOWHERE
    return Kept(artifact.folder / FOLDER, artifact.digest)
