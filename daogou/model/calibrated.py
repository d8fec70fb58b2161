"""Chances to chances that come true as often as they say: each task's curve, as buffers."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

N_KNOTS: Final = 64  # of a curve, at most: what a run keeps has one size
_EDGE: Final = 1e-7  # a chance stays this far from 0 and 1


@dataclass(frozen=True)
class Curve:
    """A rising curve from logits to logits: lines between its knots, ``slope`` beyond them.

    ``said [K]`` and ``mended [K]`` are its knots, from the lowest. One knot is a straight line.
    """

    said: tuple[float, ...]
    mended: tuple[float, ...]
    slope: float


class Calibrated(nn.Module):
    """A `Curve` per task between the chance it says and the one that is answered.

    Curves act on logits, in float64: what is likelier before is likelier after, and nothing is
    certain. A task without a curve keeps its chances to the bit. All are without one until `set`.

    Shapes: ``[T, B]`` -> ``[T, B]``.
    """

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        knots = torch.zeros(n_tasks, N_KNOTS, dtype=torch.float64)
        self.register_buffer("said", knots.clone())
        self.register_buffer("mended", knots.clone())
        self.register_buffer("slope", torch.ones(n_tasks, dtype=torch.float64))
        self.register_buffer("used", torch.zeros(n_tasks, dtype=torch.bool))

    said: Tensor
    mended: Tensor
    slope: Tensor
    used: Tensor

    def set(self, task: int, curve: Curve) -> None:
        """Answer a task by this curve from now on; at most `N_KNOTS` knots, rising."""
        knots = torch.tensor([curve.said, curve.mended], dtype=torch.float64)
        n = knots.shape[1]
        if not 1 <= n <= N_KNOTS or (knots.diff() < 0).any() or curve.slope < 0:
            raise ValueError(f"curve: {n} knots, slope {curve.slope}; 1 to {N_KNOTS} must rise")
        # The last knot fills the rest: past it there is only the slope beyond.
        self.said[task], self.mended[task] = knots[:, torch.arange(N_KNOTS).clamp(max=n - 1)]
        self.slope[task], self.used[task] = curve.slope, True

    def forward(self, chances: Tensor) -> Tensor:
        return self._along(chances, self.said, self.mended, self.slope)

    def before(self, mended: Tensor) -> Tensor:
        """The chances ``[T, B]`` that were said, from those that are answered: the way back.

        Curves that rise strictly lose nothing but the last digits.
        """
        return self._along(mended, self.mended, self.said, 1.0 / self.slope)

    def _along(self, chances: Tensor, xs: Tensor, ys: Tensor, beyond: Tensor) -> Tensor:
        if not self.used.any():
            return chances
        logits = logits_of(chances)
        after = torch.searchsorted(xs, logits.contiguous(), right=True)
        left, right = (after - 1).clamp(min=0), after.clamp(max=N_KNOTS - 1)
        (x0, y0), (x1, y1) = ((xs.gather(1, place), ys.gather(1, place)) for place in (left, right))
        # Both are one knot beyond the ends; there the line of that slope goes on.
        slope = torch.where(x1 > x0, (y1 - y0) / (x1 - x0), beyond[:, None])
        found = (y0 + slope * (logits - x0)).sigmoid().clamp(_EDGE, 1 - _EDGE)
        return torch.where(self.used[:, None], found.to(chances.dtype), chances)


def logits_of(chances: Tensor) -> Tensor:
    """Logits in float64 of chances kept from 0 and 1.

    >>> logits_of(torch.tensor([0.0, 0.5])).tolist()
    [-16.11..., 0.0]
    """
    return chances.double().clamp(_EDGE, 1 - _EDGE).logit()
