"""Task balancing. Add a method: one file, one line here, one row in docs/methods.md, one test."""

from collections.abc import Callable
from typing import Final

from daogou.balance.base import Balancer, gram_at
from daogou.balance.fixed import Fixed
from daogou.balance.geometric_mean import GeometricMean
from daogou.balance.upgrad import UPGrad

BALANCERS: Final[dict[str, Callable[..., Balancer]]] = {
    "fixed": Fixed,
    "geometric_mean": GeometricMean,
    "upgrad": UPGrad,
}

__all__ = ["BALANCERS", "Balancer", "Fixed", "GeometricMean", "UPGrad", "gram_at"]
