"""A guide and a store as one thing to ask, which answers with less while one of them is away."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from daogou.artifact import read_manifest
from daogou.errors import DaogouError
from daogou.guide import Guide
from daogou.guide.guide import new_request_id
from daogou.serve.database import StoreError
from daogou.serve.events import Event, read_events
from daogou.serve.lesser import readable, told_of, with_edits, without_model
from daogou.serve.limits import Limits
from daogou.serve.lineup import Lineup, Loaded, Rival, Who, described
from daogou.serve.meters import Meters
from daogou.serve.offer import Offer
from daogou.serve.shadow import Shadow
from daogou.serve.store import Request, Store
from daogou.serve.tables import Document

T = TypeVar("T")

Question = Callable[[Guide, Document], Document]

log = logging.getLogger("daogou.serve")

AGAIN_S: Final = 30.0  # until runs that could not be followed are tried again

ALL_READ: Final = 10_000  # of everybody's newest, likewise

EVENTS_READ: Final = 200  # of a user's newest, beyond the run's own log


class Service:
    """What the routes ask. Made by `open_service`."""

    def __init__(
        self, run: Path, store: Store, limits: Limits, meters: Meters, *, group: str | None = None
    ) -> None:
        """``group`` names servers that follow each other's changes of runs, through the store."""
        self.store, self.limits, self.meters = store, limits, meters
        self._group, self._followed = group, ""
        self._tried = "", -math.inf  # what was last tried to follow, and when
        # Apart, so that events are taken however slow the model is.
        self._answering = ThreadPoolExecutor(limits.threads, "daogou-answer")
        self._keeping = ThreadPoolExecutor(2 * limits.threads, "daogou-store")
        self._offering = ThreadPoolExecutor(1, "daogou-products")  # one writer of `loaded`
        self._loading = threading.Lock()
        self._counted: tuple[float, Mapping[str, int] | None] = (-np.inf, None)
        self._looked, self._looking = time.monotonic(), Future[None]()
        self._looking.set_result(None)
        self.closed = threading.Event()
        self.shadow = Shadow(meters)
        self.lineup = Lineup(self._load(run))
        self._catch_up()
        self._look()
        meters.count_rows(self.counts)
        meters.watch(lambda: self.lineup)

    def close(self) -> None:
        """Finish what is being answered, then let go of the store."""
        self.closed.set()
        for pool in (self._answering, self._keeping, self._offering):
            pool.shutdown(wait=True, cancel_futures=True)
        self.shadow.close()
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

    # ---- runs -------------------------------------------------------------------------------

    @property
    def loaded(self) -> Loaded:
        """The main run."""
        return self.lineup.main

    def _load(self, run: Path) -> Loaded:
        guide = Guide.load(run)
        guide.warm()
        return Loaded(Offer(guide, guide), run, self.store.now_us())

    def reload(self, run: Path | None) -> Document:
        """Have another run answer, or the main one's folder anew, without a pause.

        A run that cannot be loaded, or cannot answer, changes nothing. Raises ArtifactError for
        the former. The run before is kept, see `roll_back`.
        """
        return self._change_main(
            lambda: self._load(run or self.loaded.run), lambda found, now: now.with_main(found)
        )

    def roll_back(self) -> Document:
        """Have the run answer that did before; it was kept in memory. ConfigError without one."""
        return self._change_main(lambda: None, lambda _, now: now.rolled_back())

    def begin(self, variants: Sequence[tuple[Path, float]], shadow: Path | None) -> None:
        """Answer from the runs that a server is begun with, or that its group answers from by now.

        Raises what `line_up` raises.
        """
        group, self._group = self._group, None  # what one begins with is no news to the others
        if variants or shadow is not None:
            self.line_up(variants, shadow)
        self._group = group
        self.look_about()

    def line_up(self, variants: Sequence[tuple[Path, float]], shadow: Path | None) -> Document:
        """Have runs answer shares of the users, and another in the shadow; see `Lineup`.

        Those that answered shares before and are not named do so no longer. Raises ArtifactError
        and ConfigError; then nothing changes.
        """
        with self._loading, self._counted_reload():
            rivals = [Rival(self._ready(run), share) for run, share in variants]
            aside = None if shadow is None else self._ready(shadow)
            self._swap(lambda now: now.lined_up(rivals, aside))
        return self.described()

    def described(self) -> Document:
        """The runs that answer, the main one first; of the shadow how far it agrees with that."""
        models = list(self.lineup.described())
        for each in models:
            if each["role"] == "shadow":
                each["agreement"] = self.shadow.agreement()
        return {"models": models}

    def _change_main(
        self, find: Callable[[], T], change: Callable[[T, Lineup], Lineup]
    ) -> Document:
        with self._loading, self._counted_reload():
            before, found = self.loaded, find()
            self._swap(lambda now: change(found, now))
        return {"before": described(before), "now": described(self.loaded)}

    def _ready(self, run: Path) -> Loaded:
        """A run, as it is in use already or loaded."""
        now = self.lineup
        digest = read_manifest(run)["files"]["model.safetensors"]
        for each in (*(rival.loaded for rival in now.rivals), now.shadow):
            if each is not None and (each.run, each.digest) == (run, digest):
                return each
        return self._load(run)

    @contextmanager
    def _counted_reload(self) -> Iterator[None]:
        try:
            yield
        except DaogouError:
            self.meters.reloads.labels("refused").inc()
            raise
        self.meters.reloads.labels("done").inc()

    def _swap(self, change: Callable[[Lineup], Lineup]) -> None:
        """Change the lineup, here and wherever the group answers."""
        if self._group is not None:
            wanted = change(self.lineup).named()
            self._followed = self.store.groups.want(self._group, wanted)
        self._take_up(change)

    def _take_up(self, change: Callable[[Lineup], Lineup]) -> None:
        """Change the lineup where nobody else does, with the products as the store has them."""
        self._offering.submit(self._catch_up, change).result()
        self.shadow.begin(self.lineup.pair)

    def look_about(self) -> None:
        """Do what the others of the group were asked, and see what they wrote of products."""
        self._look()
        if self._group is None:
            return
        try:
            with self._loading:
                mark, wanted = self.store.groups.wanted(self._group)
                if wanted is not None and mark != self._followed and self._may_try(mark):
                    self._follow(wanted)
                    self._followed = mark
        except StoreError as error:
            self._degrade("store", error)
        except Exception as error:
            log.error("runs: %s: %s", type(error).__name__, error)

    def _may_try(self, mark: str) -> bool:
        """Whether to follow now: at once, and if that failed again after a while."""
        tried, when = self._tried
        if tried == mark and time.monotonic() - when < AGAIN_S:
            return False
        self._tried = mark, time.monotonic()
        return True

    def _follow(self, wanted: Document) -> None:
        """Answer from the runs that another of the group was asked to answer from."""
        with self._counted_reload():
            held = {each.digest: each for each in self.lineup.holds()}

            def found(named: Document) -> Loaded:
                return held.get(named["digest"]) or self._load(Path(named["run"]))

            main = found(wanted["main"])
            rivals = [Rival(found(each), each["share"]) for each in wanted["variants"]]
            aside = None if wanted["shadow"] is None else found(wanted["shadow"])
            self._take_up(lambda now: now.with_main(main).lined_up(rivals, aside))

    # ---- products ---------------------------------------------------------------------------

    def _catch_up(self, change: Callable[[Lineup], Lineup] = lambda now: now) -> None:
        """Answer, from a changed lineup, with the products as the store has them."""
        self.lineup = change(self.lineup).each(self._caught_up)

    def _look(self) -> None:
        """Catch up aside, unless that is being done: a slow store must not gather looks at it."""
        if self._looking.done() and not self.closed.is_set():
            self._looking = self._offering.submit(self._look_and_listen)

    def _look_and_listen(self) -> None:
        self._catch_up()
        self.lineup = self.lineup.each(self._listened)

    def _caught_up(self, loaded: Loaded) -> Loaded:
        return self._changed(loaded, lambda offer: offer.caught_up(self.store))

    def _listened(self, loaded: Loaded) -> Loaded:
        return self._changed(loaded, lambda offer: offer.listened(self.store))

    def _changed(self, loaded: Loaded, change: Callable[[Offer], Offer]) -> Loaded:
        try:
            return replace(loaded, offer=change(loaded.offer))
        except StoreError as error:
            self._degrade("store", error)
        except Exception as error:
            self._degrade("products", error)
        return loaded

    @property
    def guide(self) -> Guide:
        """The main run's guide."""
        return self.answering().guide

    def answering(self, who: Who | None = None) -> Loaded:
        """The run that answers somebody now, None = nobody in particular; nobody waits for it.

        What other servers wrote of products, and what became of new ones, is looked for once a
        second, aside.
        """
        if time.monotonic() - self._looked > 1.0:
            self._looked = time.monotonic()
            self._look()
        return self.lineup.main if who is None else self.lineup.of(who)

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
            kept = self._done(who, guide)
            edits = None if who.user is None else self.store.edits_of(who.user)
        except StoreError as error:
            self._degrade("store", error)
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

    def _degrade(self, cause: str, error: BaseException) -> None:
        self.meters.degraded.labels(cause).inc()
        log.warning("degraded: %s: %s: %s", cause, type(error).__name__, error)

    # ---- answers ----------------------------------------------------------------------------

    async def ask(self, kind: str, who: Who, question: Question) -> Document:
        """An answer about somebody, from all that is known of them, by the run that answers them.

        ``question`` is given the guide and what to tell it of who asks. Raises what the guide
        raises, TimeoutError if it takes too long.
        """
        return await self._answer(kind, who, question, self.answering(who).guide)

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
        lineup = self.lineup
        loaded = self.answering(who)
        try:
            found = await self._answer(kind, who, question, loaded.guide)
        except DaogouError:
            raise
        except Exception as error:
            if isinstance(error, TimeoutError):
                error = TimeoutError(f"no answer in {self.limits.timeout_s} s")
            self._degrade("model", error)
            found = {**without_model(who, instead(loaded.guide)), **(bare or {})}
        else:
            if lineup.shadow is not None and loaded.digest == lineup.main.digest:
                aside = lineup.shadow.guide
                self.shadow.ask(
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
            self._degrade("store", error)
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
            self._degrade("store", error)
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
