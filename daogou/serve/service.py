"""A guide and a store as one thing to ask, which answers with less while one of them is away."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from daogou.errors import DaogouError
from daogou.guide import Guide
from daogou.guide.held import new_request_id
from daogou.serve.answerers import Answerers
from daogou.serve.database import StoreError
from daogou.serve.events import Event, read_events
from daogou.serve.lesser import readable, told_of, with_edits, without_model
from daogou.serve.limits import Limits
from daogou.serve.lineup import Who
from daogou.serve.meters import Meters
from daogou.serve.store import Request, Store
from daogou.serve.tables import Document

T = TypeVar("T")

Question = Callable[[Guide, Document], Document]

EVENTS_READ: Final = 200  # of a user's newest, beyond the run's own log

ALL_READ: Final = 10_000  # of everybody's newest, likewise


class Service:
    """What the routes ask."""

    def __init__(
        self, run: Path, store: Store, limits: Limits, meters: Meters, *, group: str | None = None
    ) -> None:
        """``group`` names servers that follow each other's changes of runs, through the store."""
        self.store, self.limits, self.meters = store, limits, meters
        # Apart, so that events are taken however slow the model is.
        self._answering = ThreadPoolExecutor(limits.threads, "daogou-answer")
        self._keeping = ThreadPoolExecutor(2 * limits.threads, "daogou-store")
        self._counted: tuple[float, Mapping[str, int] | None] = (-np.inf, None)
        self.answerers = Answerers(run, store, meters, group)
        meters.count_rows(self.counts)

    def close(self) -> None:
        """Finish what is being answered, then let go of the store."""
        self.answerers.closed.set()
        for pool in (self._answering, self._keeping):
            pool.shutdown(wait=True, cancel_futures=True)
        self.answerers.close()
        self.store.close()

    async def keep(self, job: Callable[[], T]) -> T:
        """The result of a job with the store alone, from a thread; see `think`."""
        return await self._in_time(self._keeping, job)

    async def think(self, job: Callable[[], T]) -> T:
        """The result of a job with the model, from a thread; TimeoutError if it takes too long.

        A job that has begun cannot be ended and keeps its thread; one that waits is dropped.
        """
        return await self._in_time(self._answering, job)

    async def _in_time(self, pool: ThreadPoolExecutor, job: Callable[[], T]) -> T:
        waiting = asyncio.get_running_loop().run_in_executor(pool, job)
        return await asyncio.wait_for(waiting, self.limits.timeout_s)

    async def written(self) -> None:
        """Return once answers have the products that were written, or that takes too long."""
        try:
            await self._in_time(self.answerers.pool, self.answerers.catch_up)
        except TimeoutError as error:
            self.meters.degrade("products", error)

    # ---- events -----------------------------------------------------------------------------

    def take(self, rows: Sequence[object]) -> Document:
        """Keep what is an event; what became of each row, in order."""
        found, wrong = read_events(
            rows, kinds=self.answerers.main.kinds, now_us=self.store.now_us()
        )
        new = dict(zip(found, self.store.add_events(list(found.values())), strict=True))
        told: list[Document] = []
        for place in range(len(rows)):
            if place in wrong:
                told.append({"row": place, "status": "rejected", "reason": wrong[place]})
            else:
                status = "accepted" if new[place] else "duplicate"
                told.append({"row": place, "status": status, "event_id": found[place].event_id})
        counts = dict.fromkeys(("accepted", "duplicate", "rejected"), 0)
        for line in told:
            counts[line["status"]] += 1
        for outcome, count in counts.items():
            self.meters.events.labels(outcome).inc(count)
        return {**counts, "rows": told}

    def _known_of(self, who: Who, guide: Guide) -> tuple[Document, bool]:
        """What to tell the guide of somebody, and whether the store was there to say it.

        What they did after the run's log ended, oldest first, and what they set and forbid.
        """
        try:
            kept = self._done(who, guide)
            edits = None if who.user is None else self.store.edits_of(who.user)
        except StoreError as error:
            self.meters.degrade("store", error)
            return {"user": who.user, "events": [], "edits": None}, False
        said = edits if edits is not None and any(edits.values()) else None
        return {"user": who.user, "events": readable(kept, guide), "edits": said}, True

    def _done(self, who: Who, guide: Guide) -> list[Event]:
        """Somebody's newest events of the kinds that a guide reads; then what they were shown.

        Shown is very much: it must not push out what was done.
        """
        actions, kinds = guide.artifact.transform.actions, guide.scorer.kinds
        return [
            event
            for asked in filter(None, (actions, kinds[len(actions) :]))
            for event in self.store.events_of(
                user=who.user, session=who.session, kinds=asked, last=EVENTS_READ
            )
        ]

    # ---- answers ----------------------------------------------------------------------------

    async def ask(self, kind: str, who: Who, question: Question) -> Document:
        """An answer about somebody, from all that is known of them, by the run that answers them.

        ``question`` is given the guide and what to tell it of who asks. Raises what the guide
        raises, TimeoutError if it takes too long.
        """
        return await self._answer(kind, who, question, self.answerers.of(who).guide)

    async def _answer(self, kind: str, who: Who, question: Question, guide: Guide) -> Document:
        def answer() -> Document:
            started = time.perf_counter()
            found, whole = self._asked(guide, who, question)
            self.meters.answers.labels(kind).observe(time.perf_counter() - started)
            return {**found, "degraded": not whole, **told_of(who)}

        return await self.think(answer)

    async def show(
        self,
        kind: str,
        who: Who,
        question: Question,
        *,
        instead: Callable[[Guide], list[str]],
        scenario: str | None,
        bare: Mapping[str, object] | None = None,
    ) -> Document:
        """Like `ask`, of an answer that shows products: kept as shown, and never missing.

        Where the model fails or is slow, the products ``instead`` are shown, ``degraded``, with
        ``bare`` for what else such an answer has. The run in the shadow is asked the same, aside,
        where the main one answered.
        """
        lineup = self.answerers.lineup
        loaded = self.answerers.of(who)
        try:
            found = await self._answer(kind, who, question, loaded.guide)
        except DaogouError:
            raise
        except Exception as error:
            if isinstance(error, TimeoutError):
                error = TimeoutError(f"no answer in {self.limits.timeout_s} s")
            self.meters.degrade("model", error)
            found = {**without_model(who, instead(loaded.guide)), **(bare or {})}
        else:
            if lineup.shadow is not None and loaded.digest == lineup.main.digest:
                aside = lineup.shadow.guide
                self.answerers.shadow.ask(
                    kind, lineup.pair, found, lambda: self._asked(aside, who, question)[0]
                )
        found = {
            "request_id": new_request_id(), "fallback": None, **found, "variant": loaded.variant,
        }  # fmt: skip
        self.meters.shown.labels(loaded.variant).inc()
        shown = Request(
            found["request_id"], self.store.now_us(), [line["item"] for line in found["items"]],
            who.user, who.session, scenario, loaded.variant,
        )  # fmt: skip
        try:
            await self.keep(lambda: self.store.log_request(shown))
        except (StoreError, TimeoutError) as error:
            self.meters.degrade("store", error)
            found["degraded"] = True
        return found

    def _asked(self, guide: Guide, who: Who, question: Question) -> tuple[Document, bool]:
        """What a guide says from all that is known of somebody, and whether the store told it."""
        asker, whole = self._known_of(who, guide)
        return with_edits(lambda told: question(guide, told), asker), whole

    def news(self, guide: Guide) -> tuple[list[Document], bool]:
        """What anybody did after the run's log ended, and whether the store was there to say it."""
        try:
            actions = guide.artifact.transform.actions
            kept = self.store.recent(guide.scorer.now, kinds=actions, last=ALL_READ)
        except StoreError as error:
            self.meters.degrade("store", error)
            return [], False
        return readable(kept, guide), True

    # ---- state ------------------------------------------------------------------------------

    def counts(self) -> Mapping[str, int] | None:
        """Rows of the store's tables, at most half a minute old; None while it is away."""
        since, found = self._counted
        if time.monotonic() - since > 30:
            try:
                found = self.store.counts()
            except StoreError:
                return None
            self._counted = time.monotonic(), found
        return found
