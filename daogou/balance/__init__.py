"""Task balancing. Add a method: a class, one line here, one row in docs/methods.md, one test."""

from collections.abc import Callable
from typing import Final

from daogou.balance.base import Balancer, gram_at
from daogou.balance.bilevel import Bilevel
from daogou.balance.db_mtl import DBMTL
from daogou.balance.fixed import Fixed
from daogou.balance.from_gram import (
    IMTLG,
    MGDA,
    AlignedMTL,
    CAGrad,
    ConFIG,
    DualProj,
    FairGrad,
    GradVac,
    NashMTL,
    PCGrad,
    UPGrad,
)
from daogou.balance.from_losses import DWA, FAMO, IMTLL, STCH, UW, GeometricMean, Random
from daogou.balance.gradnorm import GradNorm
from daogou.balance.metabalance import MetaBalance

BALANCERS: Final[dict[str, Callable[..., Balancer]]] = {
    "fixed": Fixed,
    "upgrad": UPGrad,
    "dualproj": DualProj,
    "mgda": MGDA,
    "pcgrad": PCGrad,
    "gradvac": GradVac,
    "cagrad": CAGrad,
    "imtl_g": IMTLG,
    "aligned_mtl": AlignedMTL,
    "fairgrad": FairGrad,
    "nash_mtl": NashMTL,
    "config": ConFIG,
    "gradnorm": GradNorm,
    "db_mtl": DBMTL,
    "metabalance": MetaBalance,
    "bilevel": Bilevel,
    "geometric_mean": GeometricMean,
    "imtl_l": IMTLL,
    "uw": UW,
    "stch": STCH,
    "dwa": DWA,
    "famo": FAMO,
    "random": Random,
}

__all__ = ["BALANCERS", "Balancer", "Fixed", "gram_at"]
