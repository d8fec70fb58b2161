"""Shared layers. Add a mixer: one file, one line here, one row in docs/methods.md, one test."""

from collections.abc import Callable
from typing import Final

from daogou.model.mixers.adatt import AdaTT
from daogou.model.mixers.aitm import AITM
from daogou.model.mixers.base import Mixer
from daogou.model.mixers.cross_stitch import CrossStitch
from daogou.model.mixers.home import HoME
from daogou.model.mixers.mmoe import MMoE
from daogou.model.mixers.pepnet import PEPNet
from daogou.model.mixers.ple import PLE
from daogou.model.mixers.shared_bottom import SharedBottom
from daogou.model.mixers.single import Single
from daogou.model.mixers.star import STAR
from daogou.model.mixers.stem import STEM

MIXERS: Final[dict[str, Callable[..., Mixer]]] = {
    "single": Single,
    "shared_bottom": SharedBottom,
    "mmoe": MMoE,
    "ple": PLE,
    "cross_stitch": CrossStitch,
    "aitm": AITM,
    "adatt": AdaTT,
    "stem": STEM,
    "home": HoME,
    "pepnet": PEPNet,
    "star": STAR,
}

__all__ = [
    "AITM", "MIXERS", "PLE", "STAR", "STEM", "AdaTT", "CrossStitch", "HoME", "MMoE", "Mixer",
    "PEPNet", "SharedBottom", "Single",
]  # fmt: skip
