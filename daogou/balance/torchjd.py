"""The one door to TorchJD, which has most of the published balancers."""

import importlib
from typing import Any

from daogou.errors import ConfigError


def torchjd(part: str) -> Any:
    """TorchJD's ``aggregation`` or ``scalarization``; says what to install if it is missing."""
    try:
        return importlib.import_module(f"torchjd.{part}")
    except ImportError as error:
        raise ConfigError(
            f"fit.balancer: needs TorchJD, which is not installed ({error}); "
            "pip install 'daogou[balancers]'"
        ) from None
