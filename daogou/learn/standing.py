"""Where the rounds of a federation stand, in memory and in a folder."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from daogou import artifact
from daogou.errors import ArtifactError
from daogou.learn.aggregate import Adam
from daogou.learn.checkpoint import save_tensors


@dataclass
class Standing:
    """Where the rounds stand. Everything that resuming needs, beside the tensors."""

    round: int = 0  # rounds done
    best_round: int = -1
    best_score: float = math.inf
    steps: int = 0  # of FedAdam

    @property
    def since_best(self) -> int:
        """Rounds since the best one."""
        return self.round - 1 - self.best_round


@dataclass
class Lead:
    """The weights that all share, and what the server remembers."""

    weights: dict[str, Tensor]
    best: dict[str, Tensor]
    adam: Adam
    standing: Standing = field(default_factory=Standing)


def claim_for(out: Path, wanted: Mapping[str, Any], *, resume: bool = False) -> None:
    """Make the folder ours, or say why it cannot be; a finished one is if it is resumed."""
    if (out / "federate.json").exists() and not resume:
        raise ArtifactError(f"{out}: holds a finished federation; give another folder")
    started, text = out / "started.json", json.dumps(wanted, sort_keys=True)
    if not started.exists():
        artifact.write_whole(started, text)
    elif started.read_text("utf-8") != text:
        raise ArtifactError(
            f"{out}: was started with other settings or other shops; resume with the same"
        )


PARTS: Final = ("weights", "best", "first", "second")


def keep(out: Path, led: Lead) -> None:
    """Write what a round left; the rename makes it count."""
    led.standing.steps = led.adam.step
    parts = (led.weights, led.best, led.adam.first, led.adam.second)
    tensors = {
        f"{part}.{name}": each
        for part, named in zip(PARTS, parts, strict=True)
        for name, each in named.items()
    }
    told = {"standing": json.dumps(asdict(led.standing))}
    save_tensors(tensors, out / "last.safetensors", told)
