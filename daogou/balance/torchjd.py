"""The one door to TorchJD, which has most of the published balancers."""

import importlib
from typing import Any

from daogou.errors import ConfigError


def torchjd(part: str, name: str, **options: Any) -> Any:
    """A thing of TorchJD's ``aggregation`` or ``scalarization``, made with these arguments.

    Says what to install if it or one of its solvers is missing.
    """
    try:
        return getattr(importlib.import_module(f"torchjd.{part}"), name)(**options)
    except ImportError as error:
        raise ConfigError(
            f"fit.balancer: {name} needs TorchJD and its solvers, and something is not installed "
            f"({' '.join(str(error).split())}); pip install 'daogou[balancers]'"
        ) from None
