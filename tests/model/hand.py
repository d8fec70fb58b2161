"""Batches and layers small enough to work out by hand."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daogou.features.batch import Batch
from daogou.features.columns import Columns
from daogou.features.store import SPLITS

TRAIN, VALIDATION = SPLITS.index("train"), SPLITS.index("validation")


def batch(
    labels: Sequence[Sequence[int]] = (),
    *,
    item: Sequence[int] = (),
    user: Sequence[int] = (),
    weight: Sequence[float] = (),
    users: Columns | None = None,
    item_ids: Sequence[int] = (0,),
    extra: Sequence[int] = (),
) -> Batch:
    """Exposures with these labels; whatever is not given is 0, and 1 for weights."""
    n = len(labels)
    nothing = torch.zeros(n, dtype=torch.int64)
    exposures = Columns(
        {
            "item": torch.tensor(item, dtype=torch.int64) if item else nothing,
            "user": torch.tensor(user, dtype=torch.int64) if user else nothing,
            "labels": torch.tensor(labels, dtype=torch.int8).view(n, -1 if n else 0),
            "weight": torch.tensor(weight) if weight else torch.ones(n),
            "fields": torch.zeros(n, 0, dtype=torch.int64),
            "numbers": torch.zeros(n, 0),
        }
    )
    empty = Columns({})
    return Batch(
        exposures=exposures,
        users=users or empty,
        items=Columns({"id": torch.tensor(item_ids)}),
        texts=empty,
        titles=empty,
        extra=torch.tensor(extra, dtype=torch.int64),
    )


def profiles(row: Sequence[int], classes: Sequence[Sequence[int]], split: Sequence[int]) -> Columns:
    """Users of a batch with the classes of their profile columns, ``[Q, P]``."""
    columns = {"row": row, "profile": classes, "split": split}
    return Columns({name: torch.tensor(values) for name, values in columns.items()})


class Times(nn.Module):
    """Experts that multiply their input: ``[B, D] or [E, B, D] -> [E, B, D]``."""

    def __init__(self, *factors: float) -> None:
        super().__init__()
        self.factors = torch.tensor(factors)
        self.n_experts = len(factors)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.factors[:, None, None]


class Copies(nn.Module):
    """A mixer that gives every task its input unchanged."""

    def __init__(self, n_tasks: int, n_outputs: int) -> None:
        super().__init__()
        self.n_tasks, self.n_outputs = n_tasks, n_outputs

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.expand(self.n_tasks, *inputs.shape)


def set_identity(linear: nn.Linear) -> None:
    """Make a square linear layer the identity."""
    nn.init.eye_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
