"""Gates at work on a split to how much of each expert they take: polarised gates, dead experts."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from daogou.model.experts import Gates

# Neighbouring rows are one list of candidates: a prime stride takes no place of a list for all.
STRIDE: Final = 17
DEAD: Final = 0.01  # of an even share


@dataclass(frozen=True)
class GateUse:
    """What the gates of one module took of their experts.

    ``usage [T, E]`` is the mean weight of each expert, rows summing to 1. ``entropy [T]`` is the
    mean over rows of a gate's entropy, over that of an even mixture: 1 is even, 0 is one expert
    per row; NaN for a gate that may use one expert alone. ``dead`` are experts whose share is
    below `DEAD` of an even one for every gate that may use them (MMoE and HoME both speak of
    them: an expert without weight has no gradient either).
    """

    usage: Tensor
    entropy: Tensor
    dead: tuple[int, ...]

    def document(self) -> dict[str, Any]:
        """The same as JSON has it, shares to four places."""
        return {
            "usage": [[round(share, 4) for share in row] for row in self.usage.tolist()],
            "entropy": [round(each, 4) for each in self.entropy.tolist()],
            "dead": list(self.dead),
        }


@contextmanager
def watching(model: nn.Module, *, stride: int = STRIDE) -> Iterator[dict[str, GateUse]]:
    """The use of every `Gates` of a model by its name, of what it reads outside training.

    The mapping is filled when the context ends, and has no entry for gates that read nothing.
    One row in ``stride`` of each batch counts. Answers, weights and randomness stay the same.
    """
    gates = {name: module for name, module in model.named_modules() if isinstance(module, Gates)}
    tallies: dict[str, _Tally] = {}
    handles = [
        # The hook sits on the layer below the softmax, which mixers may ask for by themselves.
        module.linear.register_forward_hook(partial(_count, tallies, name, module, stride))
        for name, module in gates.items()
    ]
    found: dict[str, GateUse] = {}
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
    for name, tally in tallies.items():
        found[name] = tally.use(~gates[name].closed[:, 0])


@dataclass(frozen=True)
class _Tally:
    """Sums over rows of weights ``[T, E]`` and of entropies in nats ``[T]``."""

    weights: Tensor
    nats: Tensor
    n_rows: int

    @classmethod
    def of(cls, weights: Tensor) -> "_Tally":
        nats = torch.special.entr(weights).sum((1, 2))
        return cls(weights.sum(1), nats, weights.shape[1])

    def __add__(self, other: "_Tally") -> "_Tally":
        return _Tally(
            self.weights + other.weights, self.nats + other.nats, self.n_rows + other.n_rows
        )

    def use(self, allowed: Tensor) -> GateUse:
        allowed = allowed.cpu()
        n_allowed = allowed.sum(1).double()
        usage = self.weights.double().cpu() / self.n_rows
        most = n_allowed.log()
        entropy = torch.where(
            n_allowed > 1, self.nats.double().cpu() / self.n_rows / most, math.nan
        )
        starved = usage < DEAD / n_allowed[:, None]
        dead = allowed.any(0) & starved.all(0)  # what is closed has no weight
        return GateUse(usage, entropy, tuple(dead.nonzero()[:, 0].tolist()))


def _count(
    tallies: dict[str, _Tally],
    name: str,
    gates: Gates,
    stride: int,
    layer: nn.Module,
    given: tuple[Any, ...],
    logits: Tensor,
) -> None:
    if gates.training or not logits.shape[1]:
        return
    some = logits[:, ::stride].detach().masked_fill(gates.closed, -torch.inf).float().softmax(-1)
    tally = _Tally.of(some)
    tallies[name] = tallies[name] + tally if name in tallies else tally
