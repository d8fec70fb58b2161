"""A run that is asked what another answered, aside, to how far the two agree."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from daogou.serve.meters import Meters
from daogou.serve.tables import Document

log = logging.getLogger("daogou.serve")
Pair = tuple[str, str] | None  # digests of the run that is shown and the one in its shadow
_WAITING: Final = 16  # questions; more are left out, so that nothing gathers


@dataclass
class Agreement:
    """How far two runs agreed over ``answers``: sums, of which `means` are told."""

    answers: int = 0
    failed: int = 0
    left_out: int = 0
    overlap: float = 0.0
    same_first: int = 0
    score_difference: float = 0.0

    def means(self) -> Document:
        """For people and programs; null before the first answer."""
        n = self.answers
        return {
            "answers": n, "failed": self.failed, "left_out": self.left_out,
            "overlap": self.overlap / n if n else None,
            "same_first": self.same_first / n if n else None,
            "score_difference": self.score_difference / n if n else None,
        }  # fmt: skip


class Shadow:
    """Asks one question at a time in a thread of its own; answers are compared and thrown away.

    Nobody waits for it and nothing that goes wrong in it reaches an answer. A question that comes
    while many wait is left out.
    """

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._pool = ThreadPoolExecutor(1, "daogou-shadow")
        self._room = threading.BoundedSemaphore(_WAITING)
        self._counted: tuple[Pair, dict[str, Agreement]] = (None, {})

    def begin(self, pair: Pair) -> None:
        """Count anew: it is another run from now on, or beside another one."""
        self._counted = (pair, {})

    def agreement(self) -> Document:
        """Of each kind of answer how far the runs agreed."""
        return {kind: each.means() for kind, each in self._counted[1].items()}

    def ask(self, kind: str, pair: Pair, shown: Document, question: Callable[[], Document]) -> None:
        """Have ``question`` asked later, and its answer compared with what was shown.

        Nothing is asked for a ``pair`` of runs that is no longer, or not yet, the one counted.
        """
        counted, agreed = self._counted
        if pair != counted:
            return
        agreement = agreed.setdefault(kind, Agreement())
        if not self._room.acquire(blocking=False):
            agreement.left_out += 1
            self._meters.shadow.labels(kind, "left_out").inc()
            return
        try:
            self._pool.submit(self._compare, kind, agreement, shown, question)
        except RuntimeError:  # the server ends
            self._room.release()

    def _compare(
        self, kind: str, agreement: Agreement, shown: Document, question: Callable[[], Document]
    ) -> None:
        try:
            overlap, same_first, difference = agree(shown, question())
        except Exception as error:
            agreement.failed += 1
            self._meters.shadow.labels(kind, "failed").inc()
            log.warning("shadow: %s: %s", type(error).__name__, error)
        else:
            agreement.answers += 1
            agreement.overlap += overlap
            agreement.same_first += same_first
            agreement.score_difference += difference
            self._meters.shadow.labels(kind, "compared").inc()
            self._meters.shadow_overlap.labels(kind).observe(overlap)
            self._meters.shadow_difference.labels(kind).observe(difference)
        finally:
            self._room.release()

    def wait(self) -> None:
        """Return once what waits now was asked."""
        self._pool.submit(lambda: None).result()

    def close(self) -> None:
        """Finish the question that is being asked, and ask no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def agree(shown: Document, other: Document) -> tuple[float, bool, float]:
    """How far two lists agree: overlap, whether the first is the same, difference of scores.

    The overlap is the share of the shown products that the other list has too; the difference is
    the mean of absolute ones over those that both have, 0 where there are none.

    >>> one, other = ({"items": [{"item": each, "score": score} for each, score in pairs]}
    ...     for pairs in ([("a", 0.5), ("b", 0.25)], [("b", 0.5), ("c", 0.4)]))
    >>> agree(one, other)
    (0.5, False, 0.25)
    """
    ours, theirs = (
        {line["item"]: line["score"] for line in each["items"]} for each in (shown, other)
    )
    both = [item for item in ours if item in theirs]
    overlap = len(both) / len(ours) if ours else 1.0
    apart = [abs(ours[item] - theirs[item]) for item in both]
    same_first = [*ours][:1] == [*theirs][:1]
    return overlap, same_first, sum(apart) / len(apart) if apart else 0.0
