"""A guide and a store as one thing to ask, which answers with less while one of them is away."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from daogou.errors import ConfigError, DaogouError
from daogou.guide import Guide
from daogou.guide.guide import new_request_id
from daogou.serve.events import Event, read_events
from daogou.serve.meters import Meters
from daogou.serve.offer import Offer
from daogou.serve.store import Document, Request, Store, StoreError
from daogou.serve.values import iso

T = TypeVar("T")
log = logging.getLogger("daogou.serve")
ALL_READ: Final = 10_000  # of everybody's newest, likewise
EVENTS_READ: Final = 200  # of a user's newest, beyond the run's own log


@dataclass(frozen=True)
class Limits:
    """How much a server takes."""

    body_bytes: int = 2_000_000
    import_bytes: int = 4_000_000_000
    batch: int = 1000  # rows of a request
    k: int = 100  # products of an answer
    timeout_s: float = 10.0  # for a body to arrive, and for an answer
    rate_per_s: float = 100.0  # requests of a key, or of an address without one
    burst: float = 500.0
    threads: int = 4  # answers at once


@dataclass(frozen=True)
class Who:
    """Whom an answer is for: a user, a session, or a session that a user has."""

    user: str | None
    session: str | None = None


@dataclass(frozen=True)
class Loaded:
    """A run that answers."""

    offer: Offer
    run: Path
    since_us: int

    @property
    def guide(self) -> Guide:
        """The guide, with the products that the store has."""
        return self.offer.guide

    @property
    def digest(self) -> str:
        """What tells this run's weights from every other's."""
        return str(self.guide.artifact.manifest["files"]["model.safetensors"])

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of event that the shop knows."""
        events = self.guide.artifact.shop.events
        known = () if events is None else (*events.funnel, *events.history_kinds, *events.labels)
        return tuple(dict.fromkeys(known))


class Service:
    """What the routes ask. Made by `open_service`."""

    def __init__(self, run: Path, store: Store, limits: Limits, meters: Meters) -> None:
        self.store, self.limits, self.meters = store, limits, meters
        # Apart, so that events are taken however slow the model is.
        self._answering = ThreadPoolExecutor(limits.threads, "daogou-answer")
        self._keeping = ThreadPoolExecutor(limits.threads, "daogou-store")
        self._offering = ThreadPoolExecutor(1, "daogou-products")  # one writer of `loaded`
        self._loading = threading.Lock()
        self._counted: tuple[float, Mapping[str, int] | None] = (-np.inf, None)
        self._looked = time.monotonic()
        self.loaded = self._load(run)
        self._catch_up()
        meters.count_rows(self.counts)

    def close(self) -> None:
        """Finish what is being answered, then let go of the store."""
        for pool in (self._answering, self._keeping, self._offering):
            pool.shutdown(wait=True, cancel_futures=True)
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

    # ---- the run ----------------------------------------------------------------------------

    def _load(self, run: Path) -> Loaded:
        guide = Guide.load(run)
        guide.warm()
        made = Loaded(Offer(guide, guide), run, self.store.now_us())
        manifest = guide.artifact.manifest
        self.meters.tell_model(run.name, made.digest, manifest, made.since_us / 1e6)
        return made

    def reload(self, run: Path | None) -> Document:
        """Answer from another run, or from the same folder anew, without a pause.

        A run that cannot be loaded, or cannot answer, changes nothing. Raises ArtifactError for
        the former.
        """
        with self._loading:
            before = self.loaded
            try:
                found = self._load(run or before.run)
            except DaogouError:
                self.meters.reloads.labels("refused").inc()
                raise
            self._offering.submit(self._catch_up, found).result()
            self.meters.reloads.labels("done").inc()
        return {"before": described(before), "now": described(self.loaded)}

    # ---- products ---------------------------------------------------------------------------

    def _catch_up(self, loaded: Loaded | None = None) -> None:
        """Answer, from another run if one is given, with the products as the store has them."""
        found = loaded or self.loaded
        try:
            found = replace(found, offer=found.offer.caught_up(self.store))
        except StoreError as error:
            self._degrade("store", error)
        except Exception as error:
            self._degrade("products", error)
        self.loaded = found

    @property
    def guide(self) -> Guide:
        """The guide that answers now; nobody waits for it.

        What other servers wrote of products is looked for once a second, aside.
        """
        if time.monotonic() - self._looked > 1.0:
            self._looked = time.monotonic()
            self._offering.submit(self._catch_up)
        return self.loaded.guide

    async def written(self) -> None:
        """Return once answers have the products that were written, or that takes too long."""
        try:
            await self._in_time(self._offering, self._catch_up)
        except TimeoutError as error:
            self._degrade("products", error)

    # ---- events -----------------------------------------------------------------------------

    def take(self, rows: Sequence[object]) -> Document:
        """Keep what is an event; what became of each row, in order."""
        found, wrong = read_events(rows, kinds=self.loaded.kinds, now_us=self.store.now_us())
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
            kept = self.store.events_of(user=who.user, session=who.session, last=EVENTS_READ)
            edits = None if who.user is None else self.store.edits_of(who.user)
        except StoreError as error:
            self._degrade("store", error)
            return {"user": who.user, "events": [], "edits": None}, False
        said = edits if edits is not None and any(edits.values()) else None
        return {"user": who.user, "events": _readable(kept, guide), "edits": said}, True

    def _degrade(self, cause: str, error: BaseException) -> None:
        self.meters.degraded.labels(cause).inc()
        log.warning("degraded: %s: %s: %s", cause, type(error).__name__, error)

    # ---- answers ----------------------------------------------------------------------------

    async def ask(
        self, kind: str, who: Who, question: Callable[[Guide, Document], Document]
    ) -> Document:
        """An answer about somebody, from all that is known of them.

        ``question`` is given the guide and what to tell it of who asks. Raises what the guide
        raises, TimeoutError if it takes too long.
        """
        guide = self.guide

        def answer() -> Document:
            asker, whole = self._known_of(who, guide)
            started = time.perf_counter()
            found = _with_edits(lambda told: question(guide, told), asker)
            self.meters.answers.labels(kind).observe(time.perf_counter() - started)
            return {**found, "degraded": not whole, **told_of(who)}

        return await self.think(answer)

    async def show(
        self,
        kind: str,
        who: Who,
        question: Callable[[Guide, Document], Document],
        *,
        instead: Callable[[Guide], list[str]],
        scenario: str | None,
    ) -> Document:
        """Like `ask`, of an answer that shows products: kept as shown, and never missing.

        Where the model fails or is slow, the products ``instead`` are shown, ``degraded``.
        """
        loaded = self.loaded
        try:
            found = await self.ask(kind, who, question)
        except DaogouError:
            raise
        except Exception as error:
            if isinstance(error, TimeoutError):
                error = TimeoutError(f"no answer in {self.limits.timeout_s} s")
            self._degrade("model", error)
            found = _without_model(who, instead(loaded.guide))
        found = {"request_id": new_request_id(), **found}
        shown = Request(
            found["request_id"], self.store.now_us(), [line["item"] for line in found["items"]],
            who.user, who.session, scenario, loaded.digest[:12],
        )  # fmt: skip
        try:
            await self.keep(lambda: self.store.log_request(shown))
        except (StoreError, TimeoutError) as error:
            self._degrade("store", error)
            found["degraded"] = True
        return found

    def news(self, guide: Guide) -> tuple[list[Document], bool]:
        """What anybody did after the run's log ended, and whether the store was there to say it."""
        try:
            kept = self.store.recent(guide.scorer.now, last=ALL_READ)
        except StoreError as error:
            self._degrade("store", error)
            return [], False
        return _readable(kept, guide), True

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


def _readable(kept: Sequence[Event], guide: Guide) -> list[Document]:
    """Of events those that the guide reads and that its run has not read already."""
    kinds = guide.artifact.transform.actions
    rows = guide.catalogue.rows
    return [
        {"item": each.item_id, "kind": each.kind, "time": each.time_us}
        for each in kept
        if each.time_us >= guide.scorer.now and each.kind in kinds and each.item_id in rows
    ]


def _with_edits(question: Callable[[Document], Document], asker: Document) -> Document:
    """The answer; without somebody's edits if this run, unlike that they were made by, has no use.

    Then ``edits_ignored`` says why.
    """
    try:
        return question({**asker})
    except ConfigError as error:
        if asker["edits"] is None or not str(error).startswith("edits"):
            raise
        return {**question({**asker, "edits": None}), "edits_ignored": str(error)}


def popular(guide: Guide, k: int, kept: NDArray[np.bool_]) -> list[str]:
    """The ``k`` products that were taken most in training, of those that are kept ``[I + 1]``."""
    order = np.argsort(-guide.popularity[1:], kind="stable") + 1
    order = order[kept[order]]
    return [guide.catalogue.keys[row] for row in order[:k].tolist()]


def _without_model(who: Who, items: Sequence[str]) -> Document:
    lines: list[Document] = [
        {"item": item, "score": None, "p": {}, "reasons": []} for item in items
    ]
    return {
        "user": who.user, "known": False, "items": lines, "fallback": "popular", "degraded": True,
        **told_of(who),
    }  # fmt: skip


def told_of(who: Who) -> Document:
    """What an answer says of the session that asked."""
    return {} if who.session is None else {"session": who.session}


def described(loaded: Loaded) -> Document:
    """A run for people and programs: what it learnt and from when it is."""
    artifact = loaded.guide.artifact
    return {
        "run": str(loaded.run),
        "digest": loaded.digest,
        "shop": artifact.shop.name,
        "tasks": [task.name for task in artifact.shop.tasks],
        "items": loaded.guide.catalogue.n_items,
        "users": len(artifact.store.user_rows),
        "log_ends": iso(max(loaded.guide.scorer.now, 0)),
        "loaded": iso(loaded.since_us),
    }


def event_document(event: Event) -> Document:
    """An event as a client wrote it."""
    return {
        "event_id": event.event_id,
        "kind": event.kind,
        "user": event.user_id,
        "session": event.session_id,
        "item": event.item_id,
        "time": iso(event.time_us),
        "request_id": event.request_id,
        "position": event.position,
        "value": event.value,
        "fields": dict(event.fields),
    }
