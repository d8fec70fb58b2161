"""Ids and context to rows that belong to one task each: what a task keeps to itself."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from daogou.features.batch import Batch
from daogou.model.embed import Table, forget, spread
from daogou.model.encoded import Encoded
from daogou.model.meet import without


class OwnRows(nn.Module):
    """Rows of each task for the user, the product, their product, and each context column.

    The encoders' rows are shared, and a user who clicks what they never buy is two things at
    once (Su et al., "STEM", AAAI 2024). Every row has its own scale in `RowAdagrad`, so a sparse
    task's rows are not slowed down by a dense one's. Ids are forgotten at the encoders' rate.

    ``sizes`` are the rows of user ids and of product ids, 0 where the shop has none, then of the
    context. With ``norm`` every row has mean 0 and variance 1, as what encoders give: a task then
    leans on its own rows sooner, loses less where tasks have nothing in common and gains less where
    they have much (`benchmarks/transfer_map.py`). ``apart`` is the column of the context that this
    does not read, as in `Meet`; -1 is none. Shapes: -> ``[T, B, n_outputs]``.
    """

    def __init__(
        self,
        n_tasks: int,
        sizes: tuple[int, int, int],
        n_columns: int,
        width: int,
        *,
        id_dropout: float = 0.1,
        apart: int = -1,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.n_tasks, self.id_dropout, self.apart, self.norm = n_tasks, id_dropout, apart, norm
        self.n_users, self.n_items, _ = sizes
        n_ids = (self.n_users > 0) + (self.n_items > 0)
        self.n_outputs = width * ((3 if n_ids == 2 else n_ids) + n_columns - (apart >= 0))
        self.rows = Table(n_tasks * sum(sizes), width, std=spread(width))

    def forward(self, encoded: Encoded, batch: Batch) -> Tensor:
        exposures = batch.exposures
        read: list[Tensor] = []
        if self.n_users:
            assert encoded.user_ids is not None
            ids = encoded.user_ids[exposures["user"]]
            read.append(forget(ids, self.id_dropout, self.training)[:, None])
        if self.n_items:
            assert encoded.item_ids is not None
            ids = forget(encoded.item_ids[exposures["item"]], self.id_dropout, self.training)
            read.append(ids[:, None] + self.n_users)
        fields = without(exposures["fields"], self.apart)
        read.append(fields + (self.n_users + self.n_items))
        tasks = torch.arange(self.n_tasks, device=fields.device)
        rows = torch.cat(read, dim=1) * self.n_tasks + tasks[:, None, None]  # [T, B, K]
        found: Tensor = self.rows(rows)
        if self.norm:
            found = functional.layer_norm(found, found.shape[-1:])
        parts = [found.flatten(2)]
        if self.n_users and self.n_items:
            parts.insert(0, found[:, :, 0] * found[:, :, 1])
        return torch.cat(parts, dim=2)
