"""One batch to the losses of every task: encoders run once, each head reads what it needs."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from daogou.features.batch import Batch
from daogou.features.columns import Columns
from daogou.model.encoded import Encoded, Head, TaskLosses
from daogou.model.item import ItemEncoder
from daogou.model.text import TextEncoder
from daogou.model.user import UserEncoder
from daogou.schema import Task


def marks_of(rows: Tensor, items: Columns) -> Tensor:
    """What items may have in common, ``[I, M]``: catalogue rows ``[I]``, fields and traits."""
    return torch.cat([rows[:, None], items["fields"], items["traits"]], dim=1)


class JointModel(nn.Module):
    """Encoders and heads for the tasks that a shop's tables allow. Made by `build`."""

    def __init__(
        self,
        tasks: Sequence[Task],
        heads: Mapping[str, nn.Module],
        *,
        text: TextEncoder | None = None,
        item: ItemEncoder | None = None,
        user: UserEncoder | None = None,
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.text, self.item, self.user = text, item, user
        self.heads = nn.ModuleDict(heads)
        # Tasks of a family stand together, so that a family's weights are a view of all weights.
        families = [task.family for task in tasks]
        self.places = {
            family: slice(families.index(family), families.index(family) + families.count(family))
            for family in heads
        }

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def encode(self, batch: Batch) -> Encoded:
        """Every unique text, item and user of the batch, encoded once."""
        tokens = pooled = None
        if self.text is not None:
            tokens, pooled = self.text(batch.texts["tokens"])
        if self.item is None:
            return Encoded(tokens)
        items = self.encode_items(batch.items, pooled)
        if self.user is None or not len(batch.users):
            return Encoded(tokens, items, item_ids=batch.items["id"])
        users = batch.users
        action = self.user.forget_events(users["action"])
        events = self.user.read_history(items, users["history"], action, users["age"])
        h = self.user(events, action)
        u = self.user.user(h, users["id"], users["fields"], users["numbers"])
        marks = marks_of(batch.items["row"], batch.items)
        ids = batch.items["id"], users["id"]
        return Encoded(tokens, items, events, h, u, marks, *ids)

    def encode_items(self, items: Columns, pooled: Tensor | None) -> Tensor:
        """Vectors ``[I, D]`` of item rows whose texts ``[X, D_t]`` are already pooled."""
        assert self.item is not None
        text = pooled.index_select(0, items["text"]) if pooled is not None else None
        encoded: Tensor = self.item(items["id"], items["fields"], items["numbers"], text)
        return encoded

    def losses(self, encoded: Mapping[str, Encoded], batch: Batch, weights: Tensor) -> TaskLosses:
        """The loss of every task, ``[T]``; ``encoded[family]`` is what a family's head reads.

        The head of a family that ``encoded`` lacks does not run, and its losses are 0.
        """
        values: list[Tensor] = []
        shared = None
        for family, head in self.heads.items():
            part = weights[self.places[family]]
            if family not in encoded:
                values.append(torch.zeros_like(part))
                continue
            found = cast(Head, head).losses(encoded[family], batch, part)
            values.append(found.values)
            shared = found.shared if found.shared is not None else shared
        return TaskLosses(torch.cat(values), shared)
