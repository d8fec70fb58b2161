"""A setting that is searched: its values, and a place among them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from daogou.errors import ConfigError

Params = Mapping[str, Any]  # setting -> value


@dataclass(frozen=True)
class Range:
    """What ``[tune.space]`` may say of a setting: a range of numbers, or choices."""

    low: float | None = None
    high: float | None = None
    step: float | None = None  # between the values that a number may have
    log: bool = False  # drawn evenly by factors instead of differences
    points: int | None = None  # how many values of the range a grid has
    choices: tuple[Any, ...] = ()
    when: Mapping[str, Any] = field(default_factory=dict)  # other setting -> its value, or a list


@dataclass(frozen=True)
class Dimension:
    """A setting that is searched. ``kind`` is int or float for a range, None for choices."""

    key: str
    kind: type | None
    span: Range
    when: Mapping[str, tuple[Any, ...]]  # other dimension -> the values with which this one is

    @property
    def ends(self) -> tuple[Any, ...]:
        """The choices, or both ends of the range."""
        if self.kind is None:
            return self.span.choices
        return tuple(self.kind(end) for end in (self.span.low, self.span.high) if end is not None)

    def document(self) -> dict[str, Any]:
        """What was given of it, as ``[tune.space]`` has it."""
        given = {
            each.name: getattr(self.span, each.name)
            for each in fields(Range)
            if each.name != "when" and getattr(self.span, each.name) != each.default
        }
        if self.kind is not None:
            given |= dict(zip(("low", "high"), self.ends, strict=True))
        return given | ({"when": dict(self.when)} if self.when else {})

    def is_asked(self, params: Params) -> bool:
        """Whether it is a setting at all beside these others."""
        return all(
            name in params and params[name] in allowed for name, allowed in self.when.items()
        )

    def steps(self) -> list[Any]:
        """The values that a grid has; ConfigError for a range without steps."""
        if self.kind is None:
            return list(self.span.choices)
        low, high = self.ends
        points, step = self.span.points, self.span.step
        if points is not None:
            shares = [i / (points - 1) for i in range(points)] if points > 1 else [0.0]
            found = [_between(low, high, share, log=self.span.log) for share in shares]
        elif step is not None:
            found = [low + i * step for i in range(math.floor((high - low) / step + 1e-9) + 1)]
        else:
            raise ConfigError(
                f"tune.space.{self.key}: a grid needs steps; add points = 3 (or step, or choices)"
            )
        return list(dict.fromkeys(round(one) if self.kind is int else one for one in found))


def _between(low: float, high: float, share: float, *, log: bool) -> float:
    """The place at ``share`` of a range, its ends exactly."""
    if share in (0.0, 1.0):
        return high if share else low
    return low * (high / low) ** share if log else low + (high - low) * share
