"""Loaded runs to who answers whom: a main one, those that share its users, one in its shadow."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from daogou.errors import ConfigError
from daogou.guide import Guide
from daogou.serve.offer import Offer
from daogou.serve.tables import Document
from daogou.serve.values import iso

_NAMED: Final = 12  # characters of a digest that name a run


@dataclass(frozen=True)
class Who:
    """Whom an answer is for: a user, a session, or a session that a user has."""

    user: str | None
    session: str | None = None

    @property
    def name(self) -> str:
        """By what they are known; the user's if both are."""
        return self.user or self.session or ""


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
    def variant(self) -> str:
        """What its answers are kept under."""
        return self.digest[:_NAMED]

    def named(self) -> Document:
        """What another server needs to answer from it."""
        return {"run": str(self.run), "digest": self.digest}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of event that the shop knows."""
        events = self.guide.artifact.shop.events
        known = () if events is None else (*events.funnel, *events.history_kinds, *events.labels)
        return tuple(dict.fromkeys(known))


@dataclass(frozen=True)
class Rival:
    """A run that answers a share of the users, and always the same ones."""

    loaded: Loaded
    share: float  # of all users, above 0


@dataclass(frozen=True)
class Lineup:
    """The runs of a server. Never changes; see `lined_up`, `with_main` and `rolled_back`."""

    main: Loaded
    rivals: tuple[Rival, ...] = ()
    shadow: Loaded | None = None  # is asked what main is asked, and shown to nobody
    former: Loaded | None = None  # what main was before

    @property
    def pair(self) -> tuple[str, str] | None:
        """Digests of the main run and of the one in its shadow, if there is one."""
        return None if self.shadow is None else (self.main.digest, self.shadow.digest)

    def of(self, who: Who) -> Loaded:
        """The run that answers somebody: the same one as long as the shares are the same.

        Each rival in turn takes its share of those that the ones before it left, by a hash of its
        own weights' digest and the name. So a larger share of the first keeps whom it had, and
        another rival gets other people.
        """
        left = 1.0
        for rival in self.rivals:
            if place_of(rival.loaded.digest, who.name) * left < rival.share:
                return rival.loaded
            left -= rival.share
        return self.main

    def with_main(self, loaded: Loaded) -> "Lineup":
        """Another run in the main one's place. If it was a rival or the shadow, it is no longer."""
        rivals = tuple(each for each in self.rivals if each.loaded.digest != loaded.digest)
        shadow = self.shadow
        if shadow is not None and shadow.digest == loaded.digest:
            shadow = None
        former = self.former if loaded.digest == self.main.digest else self.main
        return Lineup(loaded, rivals, shadow, former)

    def rolled_back(self) -> "Lineup":
        """What main was before in its place. Raises ConfigError if there was none."""
        if self.former is None:
            raise ConfigError(
                "rollback: no run has answered before this one since the server began"
            )
        return self.with_main(self.former)

    def lined_up(self, rivals: Sequence[Rival], shadow: Loaded | None) -> "Lineup":
        """Other rivals and another shadow.

        Raises ConfigError for shares that are not above 0 or make more than 1, and for a run that
        is named twice: its answers could not be told apart.
        """
        shares = [each.share for each in rivals]
        if any(not share > 0 for share in shares) or math.fsum(shares) > 1:
            raise ConfigError(f"variants: shares {shares}; give each above 0, at most 1 together")
        seen = {self.main.digest: self.main.run}
        for loaded in [*(each.loaded for each in rivals), *([shadow] if shadow else [])]:
            if loaded.digest in seen:
                raise ConfigError(
                    f"{loaded.run}: has the weights of {seen[loaded.digest]}, which answers already"
                )
            seen[loaded.digest] = loaded.run
        return replace(self, rivals=tuple(rivals), shadow=shadow)

    def holds(self) -> Iterator[Loaded]:
        """Every run in memory."""
        held = (self.main, *(each.loaded for each in self.rivals), self.shadow, self.former)
        yield from (each for each in held if each is not None)

    def each(self, change: Callable[[Loaded], Loaded]) -> "Lineup":
        """Every run that is asked, changed."""
        return replace(
            self,
            main=change(self.main),
            rivals=tuple(replace(each, loaded=change(each.loaded)) for each in self.rivals),
            shadow=None if self.shadow is None else change(self.shadow),
        )

    def named(self) -> Document:
        """What another server needs to answer from the same runs."""
        return {
            "main": self.main.named(),
            "variants": [{**each.loaded.named(), "share": each.share} for each in self.rivals],
            "shadow": None if self.shadow is None else self.shadow.named(),
        }

    def described(self) -> Iterator[Document]:
        """Every run for people and programs: its role and share, the main one first."""
        taken = math.fsum(each.share for each in self.rivals)
        yield {**described(self.main), "role": "main", "share": 1.0 - taken}
        for rival in self.rivals:
            yield {**described(rival.loaded), "role": "variant", "share": rival.share}
        for role, loaded in (("shadow", self.shadow), ("former", self.former)):
            if loaded is not None:
                yield {**described(loaded), "role": role, "share": 0.0}


def place_of(digest: str, name: str) -> float:
    """Where a name stands among all, in [0, 1), for a run of this digest.

    >>> place_of("a", "17") == place_of("a", "17"), place_of("a", "17") == place_of("b", "17")
    (True, False)
    """
    found = hashlib.sha256(f"{digest}:{name}".encode("utf-8", "replace")).digest()
    return int.from_bytes(found[:6], "big") / 2**48


def described(loaded: Loaded) -> Document:
    """A run for people and programs: what it learnt and from when it is."""
    artifact = loaded.guide.artifact
    return {
        "run": str(loaded.run),
        "variant": loaded.variant,
        "digest": loaded.digest,
        "shop": artifact.shop.name,
        "tasks": [task.name for task in artifact.shop.tasks],
        "items": loaded.guide.catalogue.n_items,
        "users": len(artifact.store.user_rows),
        "log_ends": iso(max(loaded.guide.scorer.now, 0)),
        "loaded": iso(loaded.since_us),
    }
