"""What is asked of a guide, checked, and what an answer says of it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from daogou.errors import ConfigError, unknown
from daogou.guide.edit import Edits

Document = dict[str, Any]

LiveEvents = Iterable[Mapping[str, Any]] | None

STAGE_WORTH: Final = 10.0  # a stage counts so many times the one before it


def checked_weights(weights: Mapping[str, float] | None, stages: Sequence[str]) -> dict[str, float]:
    """What each stage is worth, adding up to 1."""
    if weights is None:
        weights = {stage: STAGE_WORTH**place for place, stage in enumerate(stages)}
    for name, weight in weights.items():
        if name not in stages:
            raise ConfigError(f"weights.{name}: {unknown(name, stages)}")
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not is_number or not 0 <= weight < math.inf:
            raise ConfigError(f"weights.{name}: {weight!r}; give a number, 0 or more")
    total = sum(weights.values())
    if stages and total <= 0:
        raise ConfigError(f"weights: all are 0; give one of {', '.join(stages)} more than that")
    return {stage: weights.get(stage, 0.0) / total for stage in stages}


def check_count(k: int) -> None:
    """Raise ConfigError unless k is a number of products."""
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise ConfigError(f"k: {k!r}; give a whole number, 1 or more")


def check_query(query: object) -> None:
    """Raise ConfigError unless a query is a text."""
    if not isinstance(query, str):
        raise ConfigError(f"query: a text is wanted, found {query!r}")


def id_of(value: object, what: str) -> str:
    """An id as text, the way the store spells it."""
    if type(value) is str and value:  # as hundreds of products in a question are
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | np.integer) or value == "":
        raise ConfigError(f"{what}: an id is wanted, text or a whole number, found {value!r}")
    return str(value)


def told(said: Edits | None) -> Document:
    """What an answer says of the edits that it was made with."""
    return {} if said is None else {"edits": said.document}


def forbidden(said: Edits | None, row: int) -> Document:
    """What an answer says of a product that edits forbid."""
    return {"forbidden": True} if said is not None and said.barred[row] else {}
