"""A model's parameters to their optimisers: rows of tables one way, dense layers another."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from daogou.model.joint import JointModel


class RowAdagrad(torch.optim.Optimizer):
    """Adagrad with one accumulator per table row, applied to touched rows only.

    Duchi et al., "Adaptive Subgradient Methods", JMLR 2011; one scale per row, as recommender
    tables use it: rare rows take large steps, and the state is one number a row. ``l2`` pulls a
    touched row towards 0, the less the more often it is touched (Zhou et al., "Deep Interest
    Network", KDD 2018, mini-batch aware regularisation): over an epoch every row feels the same
    pull, which is what a Gaussian prior on the row asks for.
    """

    def __init__(
        self,
        tables: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        learning_rate: float = 0.05,
        l2: float = 0.0,
    ) -> None:
        super().__init__(tables, {"lr": learning_rate, "l2": l2})
        for group in self.param_groups:
            for weight in group["params"]:
                zeros = torch.zeros(len(weight), device=weight.device)
                self.state[weight] = {"squares": zeros}
                if group["l2"] > 0:
                    self.state[weight]["touches"] = zeros.clone()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update the rows that the last backward pass touched."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group["lr"], group["l2"])

    def _update(self, weight: Tensor, lr: float, l2: float) -> None:
        assert weight.grad is not None
        rows, values = distinct_rows(weight.grad)
        state = self.state[weight]
        if l2 > 0:
            touches = state["touches"][rows] + 1
            state["touches"][rows] = touches
            values = values + (l2 / touches)[:, None] * weight[rows]
        squares = state["squares"][rows] + values.square().mean(1)
        state["squares"][rows] = squares
        weight.index_add_(0, rows, values * (-lr / (squares.sqrt() + 1e-10))[:, None])


def distinct_rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Rows ``[R]``, each once, and values ``[R, D]`` of a table's sparse gradient.

    One lookup in a `Table` leaves them so; more than one, and they are summed here.
    """
    rows = gradient._indices()[0]
    if not (rows[1:] > rows[:-1]).all():
        gradient = gradient.coalesce()
    return gradient._indices()[0], gradient._values()


def tables_of(model: nn.Module) -> list[Tensor]:
    """The weights of the sparse tables, in the model's order."""
    return [
        module.weight for module in model.modules()
        if isinstance(module, nn.Embedding) and module.sparse
    ]  # fmt: skip


def row_groups(model: JointModel, *, l2: float) -> list[dict[str, Any]]:
    """The tables in two groups: ids and columns with ``l2``, words without.

    A word's gradient is a share of a mean over all tokens, so a pull that suits ids drowned it:
    span F1 of oa-mine's first fold fell from .697 to .662 (docs/log.md).
    """
    words = model.text.table.weight if model.text is not None else None
    others = [weight for weight in tables_of(model) if weight is not words]
    groups = [{"params": others, "l2": l2}, {"params": [] if words is None else [words], "l2": 0.0}]
    return [group for group in groups if group["params"]]


def weights_of(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """All weights of an optimiser, group after group."""
    return [weight for group in optimiser.param_groups for weight in group["params"]]


def dense_of(model: nn.Module) -> list[Tensor]:
    """All other weights, in the model's order."""
    tables = {id(weight) for weight in tables_of(model)}
    return [weight for weight in model.parameters() if id(weight) not in tables]


def dense_groups(model: JointModel, rate: float, tuned_rate: float) -> list[dict[str, Any]]:
    """The dense weights with their learning rates: a tuned encoder's, and all others'."""
    found = None if model.text is None else model.text.subwords
    tuned = {id(weight) for weight in found.tuned.parameters()} if found and found.tuned else set()
    sides = [[w for w in dense_of(model) if (id(w) in tuned) == side] for side in (False, True)]
    groups = zip(sides, (rate, tuned_rate), strict=True)
    return [{"params": weights, "lr": each} for weights, each in groups if weights]


def omega(dense: Iterable[Tensor], *, l1: float, l2: float) -> Tensor | float:
    """``lambda * Omega`` of the dense weights: ``l1 * sum |w| + l2 / 2 * sum w^2``."""
    if l1 == 0 and l2 == 0:
        return 0.0
    return sum(
        (l1 * weight.abs().sum() + l2 / 2 * weight.square().sum() for weight in dense),
        start=torch.zeros(()),
    )
