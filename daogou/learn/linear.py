"""A few labelled rows to the likeliest linear model of them under a Gaussian prior, exactly."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from daogou.model.heads.profile import even_steps, multilabel, ordered
from daogou.model.losses import categorical

_STEPS: Final = 200  # of L-BFGS; a few dozen are enough
_DUST: Final = 1e-9  # singular values below this share of the first are rounding


@dataclass(frozen=True)
class Linear:
    """``logits = x weight^T + shift``; of an ordered column one score, and what `ordered` reads.

    ``weight [O, F]``; ``shift [O]``, or of an ordered column ``[V - 1]``. In double precision.
    """

    weight: Tensor
    shift: Tensor
    kind: str

    def logits(self, x: Tensor) -> Tensor:
        """``[n, V]`` of ``x [n, F]``; of an ordered column logarithms of chances, by rank."""
        return _logits(x.double() @ self.weight.T, self.shift, self.kind)


@dataclass(frozen=True)
class Basis:
    """Rows in the directions that they differ in, which loses nothing.

    Under a prior that is the same in all directions the likeliest weights lie in the span of the
    rows, so of thousands of columns and hundreds of rows no more than hundreds are solved for.
    ``rows [n, R]``, ``back [F, R]``, ``sizes [R]`` (singular values): a solution ``w [O, R]`` is
    ``w back^T`` in columns.
    """

    rows: Tensor
    back: Tensor
    sizes: Tensor


def basis_of(x: Tensor) -> Basis:
    """The basis of ``x [n, F]``, by the smaller of its two Grams."""
    x = x.double()
    is_wide = x.shape[1] > x.shape[0]
    squares, vectors = torch.linalg.eigh(x @ x.T if is_wide else x.T @ x)
    kept = squares > _DUST * squares[-1:].clamp(min=1e-30)
    sizes, vectors = squares[kept].sqrt(), vectors[:, kept]
    if is_wide:
        return Basis(vectors * sizes, x.T @ (vectors / sizes), sizes)
    return Basis(x @ vectors, vectors, sizes)


def fit_linear(
    basis: Basis, target: Tensor, n_classes: int, precision: float, *, kind: str = "categorical"
) -> Linear:
    """The least of the labels' nats, summed, plus half of ``precision`` times the squared weights.

    ``kind`` is a profile's loss. ``target [n]`` are classes, of an "ordinal" column ranks; of a
    "multilabel" one 0 or 1 for each value, ``[n, V]``. Shifts have no prior: nobody's habits say
    the base rates. The sum is convex and its least is one; L-BFGS finds it, on weights scaled by
    the curvature that they have at chances of a half.

    >>> x = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    >>> weak = fit_linear(basis_of(x), torch.tensor([1, 0, 0, 0]), 2, 1e-6)
    >>> [round(p, 2) for p in weak.logits(x).softmax(1)[:, 1].tolist()]
    [0.5, 0.5, 0.0, 0.0]
    """
    z = basis.rows
    n_outputs = 1 if kind == "ordinal" else n_classes
    weight = torch.zeros(n_outputs, z.shape[1], dtype=torch.float64, requires_grad=True)
    shift = _start(target, n_classes, kind).requires_grad_()
    scale = (precision + basis.sizes.square() / 4).rsqrt()
    ones = torch.ones(len(z), dtype=torch.float64)
    solver = torch.optim.LBFGS(
        [weight, shift], max_iter=_STEPS, tolerance_grad=1e-8, tolerance_change=1e-13,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> Tensor:
        solver.zero_grad()
        scaled = weight * scale
        logits = _logits(z @ scaled.T, shift, kind)
        total = nats_of(logits, target, ones, kind) + precision / 2 * scaled.square().sum() / len(z)
        total.backward()
        return total

    solver.step(loss)
    return Linear((weight.detach() * scale) @ basis.back.T, shift.detach(), kind)


def nats_of(logits: Tensor, target: Tensor, weights: Tensor, kind: str) -> Tensor:
    """Mean over rows of the nats of labels ``[n]``; of lists ``[n, V]``, of all values together."""
    if kind == "multilabel":
        return multilabel(logits, target, weights) * target.shape[1]
    return categorical(logits, target, weights)


def _logits(scores: Tensor, shift: Tensor, kind: str) -> Tensor:
    return ordered(scores[:, 0], shift) if kind == "ordinal" else scores + shift


def _start(target: Tensor, n_classes: int, kind: str) -> Tensor:
    """The shifts of the best constant answer, a little towards even."""
    if kind == "multilabel":
        return ((target.double().sum(0) + 0.5) / (len(target) + 1.0)).logit()
    if kind == "ordinal":
        return even_steps(n_classes).double()
    counts = torch.bincount(target, minlength=n_classes).double() + 0.5
    return (counts / counts.sum()).log()
