"""The store's events to what became of products that a run has not seen."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from daogou.guide import Guide
from daogou.guide.heard import Heard, Row, count
from daogou.serve.events import AHEAD_US
from daogou.serve.store import Store

EVERY_US: Final = 60_000_000  # between two looks; a label waits for hours
LATE_US: Final = 60_000_000  # by how much later than its arrival an event may be committed
LAST: Final = 2_000  # events of a product, the newest, that are read
PRODUCTS: Final = 1_000  # that are looked at, and
EVENTS: Final = 50_000  # that are read of them, before others wait for the next look
ARRIVED: Final = 200_000  # events by which it is found of which products something arrived


@dataclass(frozen=True)
class Hearing:
    """What became of new products, as of one look at the store. Never changes.

    A product's counts are of its last events that the store has, and of nothing else: whoever looks
    at the same store at the same moment counts the same.
    """

    heard: Mapping[str, Heard] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()  # products to look at, the longest waiting first
    until_us: int = 0  # the moment of the look
    read_us: int = 0  # which products events are about that arrived before this is known
    next_us: int = 0  # when to look again
    running_us: int = 0  # when to look again at products whose windows run

    def of(self, products: Iterable[str]) -> "Hearing":
        """Look at these products, whatever was heard of them before they were known."""
        if not self.until_us:  # the first look finds all of which there is anything
            return self
        return replace(self, waiting=tuple(dict.fromkeys((*self.waiting, *products))), next_us=0)

    def listened(self, store: Store, guide: Guide) -> "Hearing":
        """What is known by now; the same one if it is not yet time. Raises StoreError.

        Products are looked at of which something arrived, or whose windows still ran. What is read
        at a time is bounded, whatever came and however many products there are.
        """
        events, now = guide.artifact.shop.events, store.now_us()
        if now < self.until_us - LATE_US:  # a clock that went back dates what arrives as earlier
            anew = replace(self, until_us=0, read_us=0, next_us=0, running_us=0)
            return anew.listened(store, guide)
        if now < self.next_us or not _may_count(guide) or events is None:
            return self
        # No event is dated much later than it arrives.
        since = max(self.read_us, guide.scorer.shown_until - AHEAD_US)
        arrived = store.arrived(since, kinds=events.funnel, most=ARRIVED)
        is_all = len(arrived) < ARRIVED
        is_round = now >= self.running_us
        still = (name for name, each in self.heard.items() if each.is_open and is_round)
        named = dict.fromkeys((*self.waiting, *(name for name, _ in arrived), *still))
        waiting = [name for name in named if _is_new(guide, name)]
        rows: list[Row] = []
        done = 0
        while done < min(len(waiting), PRODUCTS) and len(rows) < EVENTS:
            rows += store.events_about(
                waiting[done], guide.scorer.shown_until, kinds=events.funnel, last=LAST
            )
            done += 1
        looked = set(waiting[:done])
        kept = {
            name: each
            for name, each in self.heard.items()
            if name not in looked and _is_new(guide, name)
        }
        is_done = is_all and done == len(waiting)
        early = (row[1] for row in rows if row[3] >= now)  # by a clock that is ahead
        return Hearing(
            {**kept, **count(guide.artifact.shop, rows, now)},
            tuple(dict.fromkeys((*waiting[done:], *early))),
            now,
            now - LATE_US if is_all else max(arrived[-1][1], since + 1),
            now + EVERY_US if is_done else 0,
            now + EVERY_US if is_round else self.running_us,
        )


def _may_count(guide: Guide) -> bool:
    events = guide.artifact.shop.events
    return guide.setting.count_new and bool(events and events.funnel) and bool(guide.scorer.stages)


def _is_new(guide: Guide, name: str) -> bool:
    ids = guide.scorer.items.item_ids
    row = guide.catalogue.row(name)
    return row > 0 and ids is not None and int(ids[row]) == 0
