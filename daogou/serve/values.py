"""What a client sent to values that any database can hold: ids, times, texts and documents."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

LONGEST_ID: Final = 256  # characters
LARGEST_DOCUMENT: Final = 64_000  # bytes of JSON
_LAST_US: Final = 253_402_300_800_000_000  # the year 10,000
# Epoch numbers below each limit are seconds, milliseconds, microseconds.
_UNITS: Final = ((1e11, 1_000_000), (1e14, 1000), (1e17, 1))


def id_of(value: object) -> str:
    """An id as text; text or a whole number goes in.

    Raises ValueError for anything else, for text that is empty, longer than `LONGEST_ID`, or
    that a database refuses.
    """
    if type(value) is str and len(value) <= LONGEST_ID and value.isalnum() and value.isascii():
        return value  # as most are, and of some there are hundreds in a request
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"an id is wanted, text or a whole number, found {value!r}")
    if isinstance(value, int) and abs(value) >= 1 << 64:
        raise ValueError("an id is wanted; a whole number beyond 64 bits must be sent as text")
    text = storable(str(value))
    if not 0 < len(text) <= LONGEST_ID:
        raise ValueError(f"an id has 1 to {LONGEST_ID} characters, this one has {len(text)}")
    return text


def storable(text: str) -> str:
    """The text itself; ValueError if a database could not hold it."""
    if "\x00" in text:
        raise ValueError("holds a NUL character, which no database takes")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half a character at {error.start}") from None
    return text


def microseconds(value: object) -> int:
    """A time as microseconds since 1970, UTC: ISO 8601, or an epoch number by its size.

    A time without a zone is taken as UTC. Raises ValueError with the reason.

    >>> microseconds("2026-11-28T12:00:00+08:00") == microseconds(1_795_838_400)
    True
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(
                f"{value[:40]!r} is no time; write ISO 8601 or epoch numbers"
            ) from None
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        past = zoned - datetime(1970, 1, 1, tzinfo=UTC)
        found = (past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds
    elif isinstance(value, int | float) and not isinstance(value, bool):
        unit = next((unit for limit, unit in _UNITS if abs(value) < limit), None)
        if unit is None:  # also what is not finite
            raise ValueError(f"{value!r} is no time; write epoch seconds, milli- or microseconds")
        found = value * unit if isinstance(value, int) else round(value * unit)
    else:
        raise ValueError(f"{value!r} is no time; write ISO 8601 or epoch numbers")
    if not 0 <= found < _LAST_US:
        raise ValueError(f"{value!r} is before 1970 or after the year 9999")
    return found


def iso(time_us: int) -> str:
    """A moment in microseconds since 1970 as ISO 8601 in UTC.

    >>> iso(1_500_000)
    '1970-01-01T00:00:01.500000+00:00'
    """
    seconds, rest = divmod(time_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest).isoformat()


def document(value: object) -> dict[str, Any]:
    """A JSON object that any database can hold; ValueError with the place of what it cannot."""
    if not isinstance(value, Mapping):
        raise ValueError(f"an object is wanted, found {value!r}")
    made = {storable(str(key)): _plain(str(key), each, 0) for key, each in value.items()}
    size = len(json.dumps(made, ensure_ascii=False).encode())
    if size > LARGEST_DOCUMENT:
        raise ValueError(f"has {size} bytes; {LARGEST_DOCUMENT} are the most")
    return made


def _plain(where: str, value: object, depth: int) -> Any:
    if depth > 8:
        raise ValueError(f"{where}: nested more than 8 deep")
    if isinstance(value, str):
        try:
            return storable(value)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where}: {value!r} is no number of JSON")
        return value
    if isinstance(value, list):
        return [_plain(f"{where}[{place}]", each, depth + 1) for place, each in enumerate(value)]
    if isinstance(value, Mapping):
        return {
            storable(str(key)): _plain(f"{where}.{key}", each, depth + 1)
            for key, each in value.items()
        }
    raise ValueError(f"{where}: {value!r} is nothing that JSON has")
