"""What stays with a shop that learns with others: terms, tables, a secret, what it has given."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from daogou import artifact
from daogou.errors import ConfigError, DaogouError
from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.learn.canary import Coins, invented, joined
from daogou.learn.compile import Tables, compile_tables
from daogou.learn.private import (
    Privacy,
    generator,
    privacy_of,
    spent,
    units_of,
)
from daogou.learn.randomised import lines_of, randomised
from daogou.learn.settings import settings_of
from daogou.learn.terms import Terms, terms_of
from daogou.learn.variant import varied
from daogou.schema import Shop
from daogou.tables.engine import Engine


class Home:
    """A shop's folder, and what the terms make of its tables; nothing of it is in memory."""

    def __init__(self, given: Shop, folder: Path) -> None:
        self.given, self.folder = given, folder

    def spent(self) -> dict[str, Any] | None:
        """What the shop has given away so far; None without privacy."""
        privacy = self.privacy
        if privacy is None:
            return None
        given = artifact.read_document(self.ledger) or {}
        return spent(privacy, self.n_units(privacy), sum(given.values()))

    def n_units(self, privacy: Privacy) -> int:
        """How many the promise is about; canaries are not."""
        _, store, _ = self.compiled()
        return len(units_of(store, privacy.unit, self.held(store)))

    @property
    def privacy(self) -> Privacy | None:
        """What is promised of what leaves the shop; None where nothing is."""
        terms = self.terms
        return None if terms.privacy is None else privacy_of(terms.privacy)

    @property
    def label_epsilon(self) -> float:
        """By which the shop's labels are told by chance; 0 where they are not."""
        privacy = self.privacy
        return 0.0 if privacy is None else privacy.epsilon  # it is of labels alone

    def cut(self, engine: Engine) -> None:
        """Leave no history where it would tell of what is to be private."""
        if self.privacy is not None and not self.privacy.reads_past:
            engine.run("DELETE FROM history")

    def without_labels(self, transform: Transform) -> Transform:
        """The transform without what `_cut` leaves nobody to read, nor what labels fitted.

        A run that knows no kind of event is told of none afterwards, which it never learnt to read.
        """
        privacy = self.privacy
        if privacy is None or privacy.reads_past:
            return transform
        return replace(transform, actions=(), value=None if privacy.of_labels else transform.value)

    def taught(self) -> Store:
        """What teaches and judges: the shop's store, with labels as they are told if those are.

        That they are is written down first, so that none are told again by other terms.
        """
        transform, store, _ = self.compiled()
        if not self.label_epsilon:
            return store
        if not self.ledger.exists():
            write_plain(self.ledger, {"labels": 1}, synced=True)
        return self.told_by_chance(store, transform, "labels")

    def told_by_chance(self, store: Store, transform: Transform, which: str) -> Store:
        """The store with labels told by chance, the same at each call for ``which``."""
        epsilon = self.label_epsilon
        random = generator(self.secret, which, epsilon)
        return randomised(store, transform, self.shop.tasks, epsilon, random)

    def canaries(self) -> tuple[Store, Coins]:
        """The invented exposures, with labels as they are, and which of them teach.

        Where labels are what is private all do, since it is what came of them that is asked.
        """
        transform, store, _ = self.compiled()
        n, random = self.terms.canaries, generator(self.secret, "canaries")
        canaries = invented(store, transform, self.shop.tasks, n, random)
        teach = torch.randint(2, (n,), generator=random).numpy() == 1
        return canaries, teach | (self.label_epsilon > 0)

    def teaching(self) -> Store:
        """What teaches, with those of the invented exposures that do at the end of training."""
        store = self.taught()
        if not self.terms.canaries:
            return store
        canaries, teach = self.canaries()
        if self.label_epsilon:
            transform = self.compiled().transform
            canaries = self.told_by_chance(canaries, transform, "labels of canaries")
        return joined(store, canaries, np.flatnonzero(teach))

    def held(self, store: Store) -> NDArray[np.bool_]:
        """Which user rows teach nothing, ``[U + 1]``; drawn by the shop's secret."""
        random = generator(self.secret, "audit")
        held = torch.rand(store.n_users + 1, generator=random) < self.terms.audit
        held[0] = False
        return held.numpy()

    @property
    def ledger(self) -> Path:
        """Where it is written how many private steps were given, and on what each stood."""
        return self.folder / "privacy.json"

    @property
    def secret(self) -> str:
        """What nobody but the shop knows; drawn when it is first asked for."""
        path = self.folder / "secret.txt"
        if not path.exists():
            artifact.write_whole(path, secrets.token_hex(32), secret=True, synced=True)
        return path.read_text("utf-8")

    @property
    def terms(self) -> Terms:
        """What was agreed on when the shop told."""
        return terms_of(self.document["terms"])

    @property
    def shop(self) -> Shop:
        """The shop with the settings that all take."""
        return self.shop_of(self.document)

    @property
    def document(self) -> Mapping[str, Any]:
        """What the shop was told when it was asked to tell."""
        found: Mapping[str, Any] | None = artifact.read_document(self.folder / "terms.json")
        if found is None:
            raise DaogouError(f"{self.folder}: was asked before it was told the terms")
        return found

    def shop_of(self, document: Mapping[str, Any]) -> Shop:
        """The shop with the settings that a document has for all."""
        terms = terms_of(document["terms"])
        training = {**document.get("fit", {}), "epochs": terms.rounds * terms.passes}
        shop = varied(
            self.given,
            seed=document.get("seed"),
            model=document.get("model"),
            training=training,
        )
        settings, _ = settings_of(shop)
        if settings.pretrain_epochs:
            raise ConfigError(
                f"{shop.name}: fit.pretrain_epochs: every shop would begin with another reading "
                "of titles; leave it out"
            )
        if terms.privacy is not None and privacy_of(terms.privacy).of_labels:
            lines_of(shop.tasks)  # says what cannot be learnt by them
        return shop

    @property
    def fitted_here(self) -> Mapping[str, Any]:
        """What the shop's own tables fitted, and the rows behind it."""
        mine: Mapping[str, Any] = artifact.read_document(self.folder / "mine.json")
        return mine

    @property
    def n_rows(self) -> int:
        """The rows behind what the shop learns."""
        return int(self.fitted_here["rows"])

    def compiled(self) -> Tables:
        """The tables as all read them."""
        return compile_tables(self.shop, self.folder)


def write_plain(path: Path, document: Mapping[str, Any], *, synced: bool = False) -> None:
    """Write a document that the shop alone reads again; it is there whole or not at all."""
    artifact.write_whole(path, json.dumps(document, ensure_ascii=False), synced=synced)
