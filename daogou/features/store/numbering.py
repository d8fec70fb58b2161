"""A user at a moment in a request: the queries, numbered as their exposures come by."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from daogou.features.store import Array
from daogou.features.store.writer import Writer


@dataclass
class Numbering:
    """Numbers the queries, a user at a moment in a request, as their exposures come by in order.

    The history of a query ends at the last event strictly before it: no sample sees itself.
    """

    writer: Writer
    breaks: set[int]  # first exposures of the splits: no query goes on into the next split
    n_rows: int = 0
    n_queries: int = 0
    last: tuple[Array, Array, pa.Array] | None = None

    def __post_init__(self) -> None:
        self.writer.finish()
        self.start = self.writer.read("users/start")
        self.events = self.writer.read("history/time")

    def number(
        self, user: Array, time: Array, request: pa.Array, known: Array | None
    ) -> NDArray[np.int32]:
        """Query of each exposure, int32 ``[n]``, -1 without a user; the new ones are written."""
        if known is None:
            new = self._differs(user, time, request) & (user > 0)
            query = np.where(user > 0, np.cumsum(new) + (self.n_queries - 1), -1)
        else:
            highest = np.maximum.accumulate(np.concatenate([[self.n_queries - 1], known]))
            new, query = highest[1:] > highest[:-1], known
        self.n_rows += len(user)
        self.n_queries += int(new.sum())
        user, time = user[new], time[new]
        self.writer.append("queries/user", user)
        self.writer.append("queries/time", time)
        self.writer.append("queries/end", first_from(self.events, self.start, user, time))
        return query.astype(np.int32)

    def _differs(self, user: Array, time: Array, request: pa.Array) -> NDArray[np.bool_]:
        """Where an exposure is of another query than the one before it."""
        if not len(user):
            return np.zeros(0, dtype=bool)
        if self.last is None:
            self.last = user[:1], time[:1], request[:1]
        before = self.last
        self.last = user[-1:], time[-1:], request[-1:]
        users, times = (np.concatenate(pair) for pair in zip(before[:2], (user, time), strict=True))
        requests = pa.concat_arrays([before[2], request])
        known = requests.is_valid().to_numpy(zero_copy_only=False)
        other = pc.fill_null(pc.not_equal(requests[1:], requests[:-1]), False)
        new: NDArray[np.bool_] = (
            (users[1:] != users[:-1])
            | (times[1:] != times[:-1])
            | (known[1:] != known[:-1])
            | other.to_numpy(zero_copy_only=False)
        )
        new[[at - self.n_rows for at in self.breaks if 0 <= at - self.n_rows < len(new)]] = True
        return new


def first_from(events: Array, start: Array, user: Array, time: Array) -> NDArray[np.int64]:
    """Place of each user's first event that is not before the time; all at once, by halving."""
    low, high = start[user], start[user + 1]
    while (low < high).any():
        middle = (low + high) // 2
        # Where nothing is left to halve, ``middle`` may lie one past the last event.
        earlier = (low < high) & (events[np.minimum(middle, len(events) - 1)] < time)
        low, high = np.where(earlier, middle + 1, low), np.where(earlier, high, middle)
    return low
