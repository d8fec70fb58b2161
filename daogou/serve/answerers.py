"""The runs that answer, with the products as the store has them, changed without a pause."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from daogou.artifact import read_manifest
from daogou.errors import DaogouError
from daogou.guide import Guide
from daogou.serve.database import StoreError
from daogou.serve.lineup import Lineup, Loaded, Rival, Who, described
from daogou.serve.meters import Meters
from daogou.serve.offer import Offer
from daogou.serve.shadow import Shadow
from daogou.serve.store import Store
from daogou.serve.tables import Document

T = TypeVar("T")

log = logging.getLogger("daogou.serve")

AGAIN_S: Final = 30.0  # until runs that could not be followed are tried again


class Answerers:
    """Which runs answer whom, now. One that is not the main one's may be asked aside."""

    def __init__(self, run: Path, store: Store, meters: Meters, group: str | None = None) -> None:
        """``group`` names servers that follow each other's changes of runs, through the store."""
        self.store, self.meters = store, meters
        self._group, self._followed = group, ""
        self._tried = "", -math.inf  # what was last tried to follow, and when
        self.pool = ThreadPoolExecutor(1, "daogou-products")  # one writer of ``lineup``
        self._loading = threading.Lock()
        self._looked, self._looking = time.monotonic(), Future[None]()
        self._looking.set_result(None)
        self.closed = threading.Event()
        self.shadow = Shadow(meters)
        self.lineup = Lineup(self._load(run))
        self.catch_up()
        self._look()
        meters.watch(lambda: self.lineup)

    def close(self) -> None:
        """Look about no more, and ask nothing aside."""
        self.closed.set()
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.shadow.close()

    @property
    def main(self) -> Loaded:
        """The run that answers unless another does."""
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
            lambda: self._load(run or self.main.run), lambda found, now: now.with_main(found)
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
            before, found = self.main, find()
            self._swap(lambda now: change(found, now))
        return {"before": described(before), "now": described(self.main)}

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
        self.pool.submit(self.catch_up, change).result()
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
            self.meters.degrade("store", error)
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

    def catch_up(self, change: Callable[[Lineup], Lineup] = lambda now: now) -> None:
        """Answer, from a changed lineup, with the products as the store has them."""
        self.lineup = change(self.lineup).each(self._caught_up)

    def _look(self) -> None:
        """Catch up aside, unless that is being done: a slow store must not gather looks at it."""
        if self._looking.done() and not self.closed.is_set():
            self._looking = self.pool.submit(self._look_and_listen)

    def _look_and_listen(self) -> None:
        self.catch_up()
        self.lineup = self.lineup.each(self._listened)

    def _caught_up(self, loaded: Loaded) -> Loaded:
        return self._changed(loaded, lambda offer: offer.caught_up(self.store))

    def _listened(self, loaded: Loaded) -> Loaded:
        return self._changed(loaded, lambda offer: offer.listened(self.store))

    def _changed(self, loaded: Loaded, change: Callable[[Offer], Offer]) -> Loaded:
        try:
            return replace(loaded, offer=change(loaded.offer))
        except StoreError as error:
            self.meters.degrade("store", error)
        except Exception as error:
            self.meters.degrade("products", error)
        return loaded

    @property
    def guide(self) -> Guide:
        """The main run's guide."""
        return self.of().guide

    def of(self, who: Who | None = None) -> Loaded:
        """The run that answers somebody now, None = nobody in particular; nobody waits for it.

        What other servers wrote of products, and what became of new ones, is looked for once a
        second, aside.
        """
        if time.monotonic() - self._looked > 1.0:
            self._looked = time.monotonic()
            self._look()
        return self.main if who is None else self.lineup.of(who)
