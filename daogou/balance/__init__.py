"""Task balancing. Add a method: one file, one line here, one row in docs/methods.md, one test."""

from collections.abc import Callable
from typing import Final

from daogou.balance.base import Balancer, gram_at
from daogou.balance.fixed import Fixed

BALANCERS: Final[dict[str, Callable[..., Balancer]]] = {
    "fixed": Fixed,
}

__all__ = ["BALANCERS", "Balancer", "Fixed", "gram_at"]
