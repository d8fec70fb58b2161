"""How a stage is learnt. Add a loss: one file, one line here and in `schema.LOSSES`, one test."""

from collections.abc import Callable
from typing import Final

from daogou.features.transform import LogScale
from daogou.model.stages.base import Seen, StageLoss
from daogou.model.stages.conditional import Conditional
from daogou.model.stages.dfm import Dfm
from daogou.model.stages.escm2 import Escm2Dr, Escm2Ips
from daogou.model.stages.esmm import Esmm
from daogou.model.stages.value import LogNormal, ValueLoss, ZeroInflated

STAGE_LOSSES: Final[dict[str, Callable[[], StageLoss]]] = {
    "conditional": Conditional,
    "marginal": Conditional,  # the same, of a stage that is given no other
    "esmm": Esmm,
    "escm2_ips": Escm2Ips,
    "escm2_dr": Escm2Dr,
    "dfm": Dfm,
}
VALUE_LOSSES: Final[dict[str, Callable[[LogScale], ValueLoss]]] = {
    "lognormal": LogNormal,
    "zero_inflated": ZeroInflated,
}

__all__ = ["STAGE_LOSSES", "VALUE_LOSSES", "Conditional", "Seen", "StageLoss", "ValueLoss"]
