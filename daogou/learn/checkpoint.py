"""Where training stands, to a file and back."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from daogou.errors import ArtifactError, remedy_for_writing
from daogou.learn.loop import Learner, Midway
from daogou.learn.optimise import weights_of
from daogou.learn.sampling import Standing


@dataclass
class State:
    """Where training stands. Everything that resuming needs, and nothing else."""

    epoch: int = 0  # epochs done
    best_epoch: int = -1
    best_score: float = float("inf")
    score: float = float("inf")  # of the last epoch
    seconds: float = 0.0
    standings: dict[str, Standing] = field(default_factory=dict)  # of families, for stop_and_go
    each: dict[str, float] = field(default_factory=dict)  # the least relative loss of each task
    midway: Midway | None = None  # of the epoch that comes, if it has begun

    @property
    def since_best(self) -> int:
        """Epochs since the best one."""
        return self.epoch - 1 - self.best_epoch


def state_of(learner: Learner) -> dict[str, Tensor]:
    """All tensors that training on needs."""
    tensors = {f"model.{name}": weight for name, weight in learner.model.state_dict().items()}
    for kind, optimiser in (("rows", learner.rows), ("adam", learner.adam)):
        for i, weight in enumerate(weights_of(optimiser)):
            found = optimiser.state.get(weight, {})
            tensors |= {f"{kind}.{i}.{name}": value for name, value in found.items()}
    return tensors | {f"balancer.{name}": value for name, value in learner.balancer.state().items()}


def keep_state(path: Path, learner: Learner, state: State) -> None:
    """Write all that training on needs; the rename makes it count."""
    tensors = state_of(learner)
    if state.midway is not None:
        found = vars(state.midway) | {"step": torch.tensor(state.midway.step)}
        tensors |= {f"midway.{name}": each for name, each in found.items() if each is not None}
    document = asdict(replace(state, midway=None))
    save_tensors(tensors, path, {"state": json.dumps(document)})


def restore_state(path: Path, learner: Learner) -> State:
    """What `keep_state` wrote, with weights and optimisers as they were; as new without a file."""
    if not path.exists():
        return State()
    tensors = load_file(path)
    learner.model.load_state_dict(_under("model.", tensors))
    learner.balancer.restore(_under("balancer.", tensors))
    for kind, optimiser in (("rows", learner.rows), ("adam", learner.adam)):
        for i, weight in enumerate(weights_of(optimiser)):
            found = _under(f"{kind}.{i}.", tensors)
            if found:
                optimiser.state[weight] = {
                    name: value.to(weight.device) for name, value in found.items()
                }
    state = State(**json.loads(metadata_of(path)["state"]))
    state.standings = {
        family: Standing(**standing)  # type: ignore[arg-type]  # as JSON has it
        for family, standing in state.standings.items()
    }
    midway = _under("midway.", tensors)
    if midway:
        state.midway = Midway(int(midway["step"]), midway["total"], midway.get("gram"))
    return state


def metadata_of(path: Path) -> dict[str, str]:
    """The texts that a checkpoint carries beside its tensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        found: dict[str, str] = json.loads(file.read(length))["__metadata__"]
    return found


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name starts so, by the rest of their name."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a checkpoint beside its place and rename it; ArtifactError where the disk is full."""
    partial = path.with_name(path.name + ".partial")
    whole = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(whole, partial, metadata=metadata)
    except (OSError, SafetensorError) as error:  # the latter is how a full disk shows
        partial.unlink(missing_ok=True)
        raise ArtifactError(
            f"{path}: writing the checkpoint failed ({error}); the last whole "
            f"one is kept: {remedy_for_writing(error)} and go on with --resume"
        ) from None
    os.replace(partial, path)
