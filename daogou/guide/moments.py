"""Times as people write them, and as the store holds them: whole microseconds since 1970, UTC."""

from datetime import UTC, datetime, timedelta
from typing import Final

from daogou.errors import ConfigError

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(time: object) -> int | None:
    """A time as whole microseconds since 1970 (UTC); None stays None. Else raises ConfigError.

    >>> microseconds("1970-01-01T00:00:01Z"), microseconds("1970-01-01"), microseconds(7)
    (1000000, 0, 7)
    """
    if time is None or (isinstance(time, int) and not isinstance(time, bool)):
        return time
    moment = time
    if isinstance(time, str):
        try:
            moment = datetime.fromisoformat(time)
        except ValueError:
            moment = None
    if not isinstance(moment, datetime):
        raise ConfigError(
            f"time: {time!r}; give ISO 8601 or microseconds since 1970, a whole number"
        )
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // _MICROSECOND


def iso(microseconds: int) -> str:
    """ISO 8601 of a moment.

    >>> iso(1_000_000)
    '1970-01-01T00:00:01+00:00'
    """
    return (EPOCH + microseconds * _MICROSECOND).isoformat()
