"""A row that a client sent to an event, or to the reason why it is none."""

import hashlib
import json
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from daogou.errors import unknown
from daogou.serve.values import document, id_of, microseconds

AHEAD_US: Final = 10 * 60 * 1_000_000  # how far a client's clock may be ahead of ours


@dataclass(frozen=True)
class Event:
    """Something that happened; its fields are the columns of the table ``events``."""

    event_id: str
    kind: str
    item_id: str
    time_us: int  # microseconds since 1970, UTC
    received_us: int
    user_id: str | None = None
    session_id: str | None = None
    request_id: str | None = None  # of the answer that showed the product
    position: int | None = None  # in that answer, from 0
    value: float | None = None  # an amount, of the kind that has one
    fields: Mapping[str, Any] = field(default_factory=dict)


def checked_by(check: Callable[[object], Any]) -> BeforeValidator:
    """A check of ours as one of pydantic's; null stays null."""
    return BeforeValidator(lambda value: None if value is None else check(value))


Id = Annotated[str, checked_by(id_of)]
TimeUs = Annotated[int, checked_by(microseconds)]
Fields = Annotated[dict[str, Any], checked_by(document)]


class EventRow(BaseModel):
    """An event as a client writes it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "event_id": "b7c1", "kind": "click", "user": "17", "item": "3",
                "time": "2026-11-28T09:30:00Z", "request_id": "9f2c", "position": 0,
            }
        },
    )  # fmt: skip

    kind: str = Field(description="A kind of the shop's funnel or of its histories.")
    item: Id
    user: Id | None = None
    session: Id | None = Field(None, description="An anonymous visit; merged when a user is known.")
    time: TimeUs | None = Field(
        None,
        description="ISO 8601 or epoch seconds, milliseconds or microseconds; now if not given.",
        json_schema_extra={"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
    )
    event_id: Id | None = Field(None, description="The same id twice is one event.")
    request_id: Id | None = Field(None, description="Of the answer that showed the product.")
    position: int | None = Field(None, ge=0, lt=1 << 31, strict=True)
    value: float | None = Field(None, ge=0, allow_inf_nan=False)
    fields: Fields = Field(default_factory=dict)


def read_event(row: object, *, kinds: Collection[str], now_us: int) -> Event:
    """The event that a row tells of.

    Without ``event_id`` an event with a time is named after what it says, so that a row that is
    sent twice is one event; one without a time gets a new name. Raises ValueError with every
    reason why the row is no event.
    """
    if not isinstance(row, Mapping):
        raise ValueError(f"an object is wanted, found {str(row)[:80]!r}")
    try:
        read = EventRow.model_validate(row)
    except ValidationError as error:
        raise ValueError("; ".join(reasons(error.errors(), list(EventRow.model_fields)))) from None
    if read.kind not in kinds:
        raise ValueError(f"kind: {unknown(read.kind, kinds)}")
    if read.user is None and read.session is None:
        raise ValueError("user: give user, session, or both: whose event is it?")
    if read.time is not None and read.time > now_us + AHEAD_US:
        raise ValueError(f"time: {row['time']!r} is more than 10 minutes ahead of this clock")
    said = read.model_dump(exclude={"event_id"})
    return Event(
        event_id=read.event_id or _name(said),
        kind=read.kind,
        item_id=read.item,
        time_us=now_us if read.time is None else read.time,
        received_us=now_us,
        user_id=read.user,
        session_id=read.session,
        request_id=read.request_id,
        position=read.position,
        value=read.value,
        fields=read.fields,
    )


def read_events(
    rows: Sequence[object], *, kinds: Collection[str], now_us: int
) -> tuple[dict[int, Event], dict[int, str]]:
    """Events and reasons by the row's place; each place is in one of the two."""
    found: dict[int, Event] = {}
    wrong: dict[int, str] = {}
    for place, row in enumerate(rows):
        try:
            found[place] = read_event(row, kinds=kinds, now_us=now_us)
        except ValueError as error:
            wrong[place] = str(error)
    return found, wrong


def reasons(errors: Iterable[Mapping[str, Any]], known: Collection[str] = ()) -> list[str]:
    """What pydantic's ``errors()`` found, a sentence each: where, and what is wrong there."""
    lines = []
    for one in errors:
        where = ".".join(str(part) for part in one["loc"])
        if one["type"] == "extra_forbidden" and known:
            lines.append(f"{where}: {unknown(str(one['loc'][-1]), known)}")
        elif one["type"] == "missing":
            lines.append(f"{where}: missing, and there is no default")
        elif one["type"] == "value_error":  # a check of ours
            lines.append(f"{where}: {one['msg'].removeprefix('Value error, ')}")
        else:
            lines.append(f"{where}: {one['msg'][:1].lower()}{one['msg'][1:]}")
    return list(dict.fromkeys(lines))


def _name(said: Mapping[str, Any]) -> str:
    if said["time"] is None:
        return uuid.uuid4().hex
    text = json.dumps(said, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
