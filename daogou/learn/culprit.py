"""A step that came to no finite number, to the batch on disk and the input that stands out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from daogou import artifact
from daogou.errors import DataError
from daogou.features.batch import Batch
from daogou.features.numeric import Numeric
from daogou.features.queries import Rows
from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.features.transform.fields import Fields
from daogou.model.joint import JointModel

_PARTS: Final = ("exposures", "users", "items", "texts", "titles")
_APART: Final = 1e4  # times what is usual in its batch, and a number stands out


class NotFiniteError(DataError):
    """A loss or a gradient that is no finite number, before it has changed a weight.

    ``losses [T]`` of the step, its ``batch``, and once they are known its ``epoch`` and ``step``
    and the store's ``rows`` of its exposures.
    """

    def __init__(self, losses: Tensor, batch: Batch, what: str) -> None:
        super().__init__(
            f"the {what} became {losses.tolist() if what == 'loss' else 'infinite'}; lower "
            "fit.learning_rate and fit.row_learning_rate, or look for extreme values with "
            "`daogou check`"
        )
        self.losses, self.batch, self.what = losses, batch, what
        self.epoch = self.step = 0
        self.rows: Rows | None = None


@dataclass(frozen=True)
class Suspect:
    """The most extreme number of a column in a batch, and how many times what is usual it is."""

    table: str
    column: str
    place: int  # in its part of the batch
    value: float
    times: float  # infinite if the number is not finite itself

    def document(self) -> dict[str, Any]:
        """As JSON has it: a number that is not finite is its name."""
        finite = abs(self.value) < float("inf")
        value = self.value if finite else str(self.value)
        return {"table": self.table, "column": self.column, "row": self.place, "value": value}


def suspects(batch: Batch, transform: Transform) -> list[Suspect]:
    """Of each column of numbers its most extreme one, those that stand out most first."""
    found = [
        _most_extreme(table, column, numbers)
        for table, column, numbers in _columns(batch, transform)
        if len(numbers)
    ]
    return sorted(found, key=lambda each: -each.times)


def keep(
    error: NotFiniteError, folder: Path, model: JointModel, transform: Transform, store: Store
) -> DataError:
    """Write the batch into ``folder``; the error that names task, column and row.

    ``batch.safetensors`` has the batch's tensors, ``culprit.json`` what they are of: losses by
    task, the shop's names of the exposures, and the most extreme number of each column.
    """
    blamed = suspects(error.batch, transform)
    finite = error.losses.isfinite().tolist()
    tasks = [task.name for task, sound in zip(model.tasks, finite, strict=True) if not sound]
    broken = [name for name, each in model.state_dict().items() if not _sound(each)]
    keys = _keys(store, error.rows)
    losses = zip(model.tasks, error.losses.tolist(), strict=True)
    folder.mkdir(exist_ok=True)
    save_file(_tensors(error.batch), folder / "batch.safetensors")
    artifact.write_document(
        folder / "culprit.json",
        {
            "epoch": error.epoch + 1,
            "step": error.step + 1,
            "what": error.what,
            "losses": {task.name: str(loss) for task, loss in losses},
            "tasks": tasks,
            "weights": broken,
            "suspects": [each.document() for each in blamed],
            "rows": [] if error.rows is None else error.rows.tolist(),
            "exposures": keys,
        },
    )
    of = f"the loss of {', '.join(tasks)}" if tasks else "a gradient"
    return DataError(
        f"epoch {error.epoch + 1}, step {error.step + 1}: {of} became nan or infinite"
        f"{_named(blamed, keys)}; the batch is in {folder}: mend the table, or lower "
        "fit.learning_rate and fit.row_learning_rate, and fit into another folder"
    )


def _tensors(batch: Batch) -> dict[str, Tensor]:
    named = {
        f"{part}.{name}": tensor
        for part in _PARTS
        for name, tensor in getattr(batch, part).tensors.items()
    }
    whole = {**named, "extra": batch.extra}
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in whole.items()}


def _named(blamed: list[Suspect], keys: list[dict[str, Any]]) -> str:
    """What stands out, in words."""
    if not blamed or blamed[0].times < _APART:
        return "; no number of its batch stands out"
    worst = blamed[0]
    known = worst.table == "events" and worst.place < len(keys)
    whose = f" of exposure {keys[worst.place]['id']!r}" if known else ""
    return f"; look at {worst.table}.{worst.column}{whose}, which is {worst.value:g}"


def _columns(batch: Batch, transform: Transform) -> Iterator[tuple[str, str, Tensor]]:
    """Table, name and numbers ``[rows]`` of each column that a batch has as numbers."""
    named = (("exposures", "events", transform.context), ("users", "users", transform.users),
             ("items", "items", transform.items))  # fmt: skip
    for part, table, fields in named:
        for name, tensor in getattr(batch, part).tensors.items():
            if not tensor.is_floating_point() or name == "repeats":
                continue
            if tensor.ndim == 1:
                yield table, name, tensor
            elif tensor.ndim == 2:
                names = _numbers(fields) if name == "numbers" else transform.stages
                for j, column in enumerate(names[: tensor.shape[1]]):
                    yield table, column if name == "numbers" else f"{name}.{column}", tensor[:, j]


def _numbers(fields: Fields) -> tuple[str, ...]:
    pairs = fields.pairs
    return tuple(name for name, coder in pairs if isinstance(coder, Numeric))


def _most_extreme(table: str, column: str, numbers: Tensor) -> Suspect:
    """Missing numbers (NaN) of columns that may miss are no suspects."""
    sizes = numbers.detach().cpu().double().abs().nan_to_num(nan=0.0, posinf=float("inf"))
    place = int(sizes.argmax())
    usual = max(float(sizes.median()), 1.0)
    return Suspect(table, column, place, float(numbers[place]), float(sizes[place]) / usual)


def _sound(weight: Tensor) -> bool:
    return not weight.is_floating_point() or bool(torch.isfinite(weight).all())


def _keys(store: Store, rows: Rows | None) -> list[dict[str, Any]]:
    """The shop's own names of training exposures."""
    if rows is None or not len(rows):
        return []
    found: list[dict[str, Any]] = store.exposure_keys_of(rows).to_pylist()
    return found
