"""A user or an anonymous session, what they did since the run was fitted, and a moment: a visit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from daogou.errors import ConfigError, unknown
from daogou.features.queries import Events, Queries
from daogou.guide.catalogue import Catalogue
from daogou.guide.moments import microseconds
from daogou.guide.score import Scorer

_KEYS: Final = ("item", "kind", "time")


@dataclass(frozen=True)
class Visit:
    """Who asks, and what of them may be read. Made by `visit`."""

    user: str | None  # None is an anonymous session
    row: int  # 0 is nobody that the run knows
    queries: Queries  # one
    told: dict[str, Any]  # {"events": {"read", "ignored"}} where live events were given

    @property
    def head(self) -> dict[str, Any]:
        """How every answer about somebody begins."""
        return {"user": self.user, "known": self.row > 0}


def visit(
    scorer: Scorer,
    catalogue: Catalogue,
    user: str | None,
    *,
    events: Iterable[Mapping[str, Any]] | None = None,
    at: int | None = None,
) -> Visit:
    """One user at a moment, with events that the run's store has not.

    ``events`` are ``{"item", "kind", "time"}``: an id of the catalogue, a kind that histories hold
    or, if profiles count what was shown, that of an exposure, and when, as microseconds since
    1970, a datetime or ISO 8601 text (without a zone: UTC);
    without a time an event is the newest. ``at`` is now, in microseconds: nothing at or after it is
    read. None is the end of the log, or just after the newest event if that is later.

    An event that cannot be read is ignored, and told as ``{"event": its place, "reason"}``.
    Raises ConfigError if ``at`` is no whole number or a moment before new products were counted,
    or ``events`` are no list.
    """
    if at is not None and (not isinstance(at, int) or isinstance(at, bool)):
        raise ConfigError(f"at: {at!r}; give microseconds since 1970, a whole number")
    newcomers = scorer.newcomers
    if at is not None and newcomers is not None and at < newcomers.until:
        raise ConfigError(
            f"at: {at} is before {newcomers.until}, until when new products were counted; "
            "ask a guide that was not told of them"
        )
    row = scorer.artifact.store.user_rows.get(user, 0) if user is not None else 0
    if events is None:
        return Visit(user, row, scorer.queries([row], at), {})
    live, shown, at, told = read_events(scorer, catalogue, events, at)
    return Visit(user, row, scorer.queries([row], at, live, shown), {"events": told})


def read_events(
    scorer: Scorer, catalogue: Catalogue, given: Iterable[Mapping[str, Any]], at: int | None
) -> tuple[Events, Events, int, dict[str, Any]]:
    """Events as rows, what was shown likewise, until when is read, and what became of each."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ConfigError(f"events: a list of {{item, kind, time}} is wanted, found {given!r}")
    kinds = scorer.kinds
    found: list[tuple[int, int, int | None]] = []
    ignored: list[dict[str, Any]] = []
    for place, event in enumerate(given):
        try:
            found.append(_read(event, catalogue, kinds, at))
        except ConfigError as error:
            ignored.append({"event": place, "reason": str(error)})
    if at is None:
        at = max([scorer.now, *(time + 1 for _, _, time in found if time is not None)])
    columns = [(item, kind, at - 1 if time is None else time) for item, kind, time in found]
    read = np.array(columns, dtype=np.int64).reshape(-1, 3)
    is_live = read[:, 1] < len(scorer.artifact.transform.actions)
    is_shown = np.array([kinds[kind] == scorer.exposure for kind in read[:, 1]], dtype=bool)
    live, shown = (Events(*read[which].T) for which in (is_live, is_shown))
    return live, shown, at, {"read": len(found), "ignored": ignored}


def _read(
    event: Mapping[str, Any], catalogue: Catalogue, kinds: tuple[str, ...], at: int | None
) -> tuple[int, int, int | None]:
    """Catalogue row, place of the kind and time of one event; ConfigError says what is wrong."""
    if not isinstance(event, Mapping):
        raise ConfigError(f"an object with {', '.join(_KEYS)} is wanted, found {event!r}")
    kind = event.get("kind")
    if kind not in kinds:
        raise ConfigError(f"kind: {unknown(str(kind), kinds)}")
    row = catalogue.row(event.get("item"))
    if not row:
        raise ConfigError(f"item: no {str(event.get('item'))!r} in the catalogue")
    time = microseconds(event.get("time"))
    if at is not None and time is not None and time >= at:
        raise ConfigError(f"time: {event.get('time')!r} is not before the moment of the answer")
    return row, kinds.index(kind), time
