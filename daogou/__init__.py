"""Daogou: one jointly trained multi-task model for a shop.

Public names are imported when first asked for, so that ``import daogou`` loads no torch.
"""

import importlib
import typing

_HOMES: typing.Final = {
    "Guide": "daogou.guide",
    "evaluate": "daogou.learn.evaluate",
    "fit": "daogou.learn.fit",
    "import_shop": "daogou.tables.public",
    "load": "daogou.artifact",
    "read_shop": "daogou.config",
    "simulate": "daogou.tables.simulate",
    "ArtifactError": "daogou.errors",
    "ConfigError": "daogou.errors",
    "DaogouError": "daogou.errors",
    "DataError": "daogou.errors",
    "MissingExtra": "daogou.errors",
}

__all__ = [
    "ArtifactError",
    "ConfigError",
    "DaogouError",
    "DataError",
    "Guide",
    "MissingExtra",
    "evaluate",
    "fit",
    "import_shop",
    "load",
    "read_shop",
    "simulate",
]


def __getattr__(name: str) -> typing.Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'daogou' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
