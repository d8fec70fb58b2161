"""A behaviour state to a distribution over the values of each profile column."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from daogou.features.batch import Batch
from daogou.features.store import SPLITS
from daogou.model.encoded import Encoded, TaskLosses, weigh
from daogou.model.losses import categorical


class ProfileHead(nn.Module):
    """One small network per column, reading behaviour only: no id and no profile input.

    A column of which training knows no value has no class, no loss and an empty answer.

    Shapes: states ``[Q, D]`` -> per column logits ``[Q, V_p]``. ``columns[p]`` is the column of
    task p among the users' profile labels.
    """

    def __init__(
        self,
        width: int,
        n_classes: Sequence[int],
        columns: Sequence[int],
        *,
        hidden: int = 32,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.columns = list(columns)
        self.n_classes = list(n_classes)
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, hidden),
                nn.SiLU(),
                nn.Dropout(dropout),
                nn.Linear(hidden, max(n, 1)),
            )
            for n in n_classes
        )

    def logits(self, states: Tensor) -> list[Tensor]:
        """Logits ``[Q, V_p]`` of each column; ``states [P, Q, D]``, one copy per column."""
        made = zip(self.networks, states, self.n_classes, strict=True)
        return [network(state)[:, :n] for network, state, n in made]

    def losses(self, encoded: Encoded, batch: Batch, weights: Tensor) -> TaskLosses:
        """Cross-entropy of each column over the users whose labels may teach, ``[P]``.

        A user who stands several times in a batch, at several moments, counts once in all.
        """
        assert encoded.h is not None
        users = batch.users
        teaches = users["split"] == SPLITS.index("train")
        taught = torch.where(teaches, users["row"], -1)
        _, same, counts = taught.unique(return_inverse=True, return_counts=True)
        share = 1.0 / counts[same]
        states = weigh(encoded.h.expand(len(self.columns), -1, -1), weights)
        found = [
            categorical(logits, torch.where(teaches, users["profile"][:, column], -1), share)
            for column, logits in zip(self.columns, self.logits(states), strict=True)
        ]
        return TaskLosses(torch.stack(found))

    def distributions(self, encoded: Encoded) -> list[Tensor]:
        """Probability of each value, ``[Q, V_p]`` per column."""
        assert encoded.h is not None
        states = encoded.h.expand(len(self.columns), -1, -1)
        return [logits.softmax(-1) for logits in self.logits(states)]
