"""A mixer some of whose tasks go their own way: experts, or rows as well, that no other reads."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from daogou.model.experts import Experts
from daogou.model.mixers.base import Mixer


class Unshared(nn.Module):
    """``mixer`` for all tasks but those in ``places``, which have an expert each.

    A task in ``deep``, a subset of ``places``, teaches nothing that is shared: its expert reads the
    encoders' output with its gradient stopped, and rows of its own beside. It keeps what the other
    tasks' encoders know and loses what they would have to give up for it. The remaining tasks'
    representations are as if the mixer stood alone.

    Shapes: ``[B, D]`` and own rows ``[A, B, n_own_inputs]`` of the A tasks in ``deep`` ->
    ``[T, B, H]``.
    """

    def __init__(
        self,
        mixer: Mixer,
        n_inputs: int,
        places: Sequence[int],
        deep: Sequence[int] = (),
        *,
        widths: Sequence[int] = (64, 64),
        dropout: float = 0.1,
        n_own_inputs: int = 0,
    ) -> None:
        super().__init__()
        self.n_outputs = mixer.n_outputs
        self.mixer = cast(nn.Module, mixer)
        light = [place for place in places if place not in deep]
        self.register_buffer("places", torch.tensor([*light, *deep]), persistent=False)
        self.light = Experts(len(light), n_inputs, widths, dropout=dropout) if light else None
        n_deep = n_inputs + n_own_inputs
        self.deep = Experts(len(deep), n_deep, widths, dropout=dropout) if deep else None

    places: Tensor

    def own_parts(self, place: int) -> dict[str, Tensor]:
        """What of each weight only the task at ``place`` reads, as masks; nothing for others."""
        of = self.places == place
        n_light = self.light.n_experts if self.light is not None else 0
        found: dict[str, Tensor] = {}
        for name, experts, mine in (
            ("light", self.light, of[:n_light]), ("deep", self.deep, of[n_light:])
        ):  # fmt: skip
            if experts is not None and mine.any():
                names = [key for key, _ in experts.named_parameters()]
                found |= {f"{name}.{key}": mine[None, :, None] for key in names}
        return found

    def forward(self, inputs: Tensor, own: Tensor | None = None, **asides: Tensor) -> Tensor:
        mixed: Tensor = self.mixer(inputs, **asides)
        parts: list[Tensor] = []
        if self.light is not None:
            parts.append(self.light(inputs))
        if self.deep is not None:
            assert own is not None
            view = inputs.detach().expand(len(own), *inputs.shape)
            parts.append(self.deep(torch.cat([view, own.to(view.dtype)], dim=2)))
        return mixed.index_copy(0, self.places, torch.cat(parts).to(mixed.dtype))
