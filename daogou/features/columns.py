"""The one container that data travels in, from the store to the model."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from daogou.errors import DataError


@dataclass(frozen=True)
class Columns:
    """Named tensors with one row per example. A batch is a `Columns` with fewer rows."""

    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        lengths = {name: len(tensor) for name, tensor in self.tensors.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"columns differ in length: {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values()), ()))

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def take(self, rows: Tensor) -> "Columns":
        """The given rows, in the given order."""
        return Columns({name: tensor[rows] for name, tensor in self.tensors.items()})
