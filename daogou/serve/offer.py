"""A run's guide and the products that the store has to the guide that answers."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from daogou.errors import ConfigError
from daogou.guide import Guide
from daogou.guide.live import read_products
from daogou.serve.hearing import Hearing
from daogou.serve.store import Store
from daogou.serve.tables import Document
from daogou.serve.things import Thing

log = logging.getLogger("daogou.serve")


@dataclass(frozen=True)
class Offer:
    """The products that are offered, as of one version of the store. Never changes."""

    run: Guide  # as it was fitted
    guide: Guide  # with the products of the store
    version: str = ""
    written: Mapping[str, int] = field(default_factory=dict)  # product -> when the store's row was
    hearing: Hearing = field(default_factory=Hearing)  # of those the run has not seen

    def caught_up(self, store: Store) -> "Offer":
        """The offer as the store has products now; the same one if none was written since.

        A product that the run lacks is added, one that it has reads as the store describes it, and
        a hidden one is not offered. One that the store does not have any more is what the run says
        of it, and is not offered if the run says nothing. Only what was written is read. Raises
        StoreError.
        """
        version = store.items.version()
        if version == self.version:
            return self
        written = store.items.written()
        changed = [key for key, when in written.items() if self.written.get(key) != when]
        things = sorted(store.items.of(changed), key=lambda each: (each.updated_us, each.key))
        in_run = self.run.catalogue.rows
        lost = [key for key in self.written if key not in written]
        things += [Thing(key, {}, hidden=key not in in_run, updated_us=0) for key in lost]
        guide = _told_of(self.guide, [row for row in map(self._row, things) if row is not None])
        guide = _showing(guide, {each.key: not each.hidden for each in things})
        if guide is not self.guide:
            guide.warm()
        hearing = self.hearing.of(changed)
        return replace(self, guide=guide, version=version, written=written, hearing=hearing)

    def listened(self, store: Store) -> "Offer":
        """The offer whose guide knows what became of new products by now. Raises StoreError."""
        hearing = self.hearing.listened(store, self.guide)
        if hearing is self.hearing:
            return self
        guide = self.guide
        if hearing.heard != self.hearing.heard:
            guide = guide.with_heard(hearing.heard, hearing.until_us)
        return replace(self, guide=guide, hearing=hearing)

    def _row(self, thing: Thing) -> Document | None:
        """All that is to be known of a product; None where the guide knows just that already.

        Fields that the catalogue has no column for are left out: they wait for a run that reads
        them.
        """
        of_run, now = self.run.catalogue, self.guide.catalogue
        row, place = of_run.row(thing.key), now.row(thing.key)
        values = {
            name: thing.fields[name] if name in thing.fields else of_run.value(name, row)
            for name in of_run.columns
        }
        if place and all(now.value(name, place) == each for name, each in values.items()):
            return None
        return {**values, _key_of(self.run): thing.key}


def _key_of(guide: Guide) -> str:
    shop = guide.artifact.shop
    return shop.items.key if shop.items else "item"


def _told_of(guide: Guide, rows: Sequence[Document]) -> Guide:
    """The guide with these products, but for fields that its columns cannot hold."""
    if guide.scorer.vectors is None:
        return guide
    try:
        return guide.with_items(rows)
    except ConfigError:
        return guide.with_items([_fitting(guide, row) for row in rows])


def _fitting(guide: Guide, row: Document) -> Document:
    """A row without what its columns cannot hold, the rest as they hold it."""
    name_of_key = _key_of(guide)
    key = {name_of_key: row[name_of_key]}
    found: Document = {}
    for name in row.keys() - key.keys():
        try:
            read = read_products(guide.artifact, guide.catalogue, [{**key, name: row[name]}])
        except ConfigError:
            log.warning("products: column %s cannot hold what was written", name)
        else:
            found[name] = read.columns[name][0].as_py()
    return {**found, **key}


def _showing(guide: Guide, shown: Mapping[str, bool]) -> Guide:
    """The guide that offers some products and others not."""
    places = {guide.catalogue.row(key): each for key, each in shown.items()}
    out = {row for row in guide.catalogue.withdrawn if not places.get(row)}
    out |= {row for row, each in places.items() if row and not each}
    if out == guide.catalogue.withdrawn:
        return guide
    return replace(guide, catalogue=replace(guide.catalogue, withdrawn=frozenset(out)))
