"""Shared layers. Add a mixer: one file, one line here, one row in docs/methods.md, one test."""

from collections.abc import Callable
from typing import Final

from daogou.model.mixers.base import Mixer
from daogou.model.mixers.mmoe import MMoE
from daogou.model.mixers.ple import PLE
from daogou.model.mixers.shared_bottom import SharedBottom
from daogou.model.mixers.single import Single

MIXERS: Final[dict[str, Callable[..., Mixer]]] = {
    "single": Single,
    "shared_bottom": SharedBottom,
    "mmoe": MMoE,
    "ple": PLE,
}

__all__ = ["MIXERS", "PLE", "MMoE", "Mixer", "SharedBottom", "Single"]
