"""A run in memory: the parts that answers are made of, and what changes them."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from daogou import artifact as artifacts
from daogou.artifact import Artifact
from daogou.errors import ConfigError, unknown
from daogou.guide import live
from daogou.guide.asked import checked_weights, id_of
from daogou.guide.catalogue import Catalogue, fit_catalogue
from daogou.guide.crowd import Crowd
from daogou.guide.edit import Prototypes
from daogou.guide.facets import Facets, fit_facets
from daogou.guide.heard import Heard
from daogou.guide.index import Index
from daogou.guide.kept import kept_of
from daogou.guide.made import hints_of, ids_of, indexed, popularity_of, query_of, searched
from daogou.guide.newcomers import with_heard
from daogou.guide.ranker import Ranker
from daogou.guide.score import Scorer, fit_scorer
from daogou.guide.search import Base, Search
from daogou.guide.values import Vocabulary, fit_vocabularies
from daogou.schema import GuideSetting
from daogou.schema.check import check_guide


def new_request_id() -> str:
    """A name that no other request has."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class Held:
    """What a `Guide` is made of. Never changes: what would change it gives another one.

    What is costly and not always asked for is made when first asked for, once (see `warm`).
    """

    artifact: Artifact
    scorer: Scorer
    catalogue: Catalogue
    index: Index | None  # of every row of the catalogue, where the run can match
    popularity: NDArray[np.float64]  # [I + 1]: the share of the catalogue that a row beats
    texts: Search
    crowd: Crowd
    weights: Mapping[str, float]  # stage -> what reaching it is worth; they add up to 1
    setting: GuideSetting
    new_id: Callable[[], str]

    @classmethod
    def load(
        cls,
        run: Path | str,
        *,
        verify: bool = True,
        weights: Mapping[str, float] | None = None,
        new_id: Callable[[], str] = new_request_id,
    ) -> Self:
        """The guide of a finished run; the vectors of its catalogue are made here, once.

        Those of a large catalogue are kept in the run's folder, see `Kept`.
        ``verify=False`` skips hashing the run's files. ``weights`` as in `weighing`. Raises
        ArtifactError for a run that is not whole, ConfigError for unfit weights.
        """
        return cls.of(artifacts.load(run, verify=verify), weights=weights, new_id=new_id)

    @classmethod
    def of(
        cls,
        artifact: Artifact,
        *,
        weights: Mapping[str, float] | None = None,
        new_id: Callable[[], str] = new_request_id,
    ) -> Self:
        """The guide of an artifact that is loaded already."""
        kept, setting = kept_of(artifact), artifact.shop.guide
        scorer = fit_scorer(artifact, kept)
        index = None
        if "match" in artifact.model.heads and scorer.vectors is not None:
            index = Index(indexed(artifact, scorer.vectors, ids_of(scorer)))
            index = searched(index, scorer, setting, kept)
        catalogue = fit_catalogue(artifact)
        return cls(
            artifact,
            scorer,
            catalogue,
            index,
            popularity_of(artifact),
            Search(Base(catalogue, kept)),
            Crowd(scorer, index, partial(query_of, artifact), partial(hints_of, artifact)),
            checked_weights(setting.weights if weights is None else weights, scorer.stages),
            setting,
            new_id,
        )

    def weighing(self, weights: Mapping[str, float] | None) -> Self:
        """The same guide with another idea of what each stage is worth.

        A stage that is not named counts nothing; None is the default. Raises ConfigError for an
        unknown stage, a negative weight, or nothing but zeros.
        """
        return replace(self, weights=checked_weights(weights, self.scorer.stages))

    def with_items(self, items: Iterable[Mapping[str, object]]) -> Self:
        """The guide of a catalogue to which products were added or in which they were edited.

        ``items`` are ``{key, column: value, ...}`` (see `live.read_products`). A product that
        training never saw is read by its title and columns, as one whose id is unknown, and is
        recommended, matched and found from now on; nothing is fitted or rebuilt. A known product
        keeps what training learnt of it. This guide does not change.
        """
        products = live.read_products(self.artifact, self.catalogue, items)
        if not products.keys:
            return self
        scorer, vectors = live.with_products(self.scorer, products)
        rows = torch.from_numpy(products.rows)
        index = self.index
        if index is not None:
            added = indexed(self.artifact, vectors, ids_of(scorer, rows))
            index = index.with_vectors(rows, added)
        catalogue = self.catalogue.with_products(products.keys, products.rows, products.columns)
        n_new = len(catalogue.keys) - len(self.catalogue.keys)
        return replace(
            self,
            scorer=scorer,
            index=index,
            catalogue=catalogue,
            popularity=np.concatenate([self.popularity, np.zeros(n_new)]),
            texts=self.texts.with_products(catalogue, products.rows.tolist()),
        )

    def with_heard(self, heard: Mapping[str, Heard], until: int) -> Self:
        """The guide that knows what became of new products before a moment, in microseconds.

        ``heard`` is by id, as `heard.count` makes it of events; what the guide was told before no
        longer counts. The chances of products that training did not see follow it (see
        `newcomers.with_heard`), those of others stay. With ``[guide] count_new = false`` nothing
        changes. No earlier moment can be asked about afterwards.
        """
        if not self.setting.count_new:
            heard = {}
        rows = {self.catalogue.row(item): each for item, each in heard.items()}
        rows.pop(0, None)  # what the catalogue lacks
        scorer = with_heard(self.scorer, rows, until)
        if scorer is self.scorer:
            return self
        other = replace(self, scorer=scorer)
        # What was made of the catalogue once (see `warm`) is still so.
        for before, after in ((self, other), (self.scorer, scorer)):
            made = dict(vars(before))  # a copy, since somebody may be answered from it
            made.pop("ranker", None)  # which holds what is told here
            vars(after).update({k: v for k, v in made.items() if k not in vars(after)})
        return other

    def without_items(self, items: Iterable[object]) -> Self:
        """The guide that no longer offers some products; histories may still name them.

        What is asked about by name is still answered. `with_items` offers a product again. Raises
        ConfigError, with the nearest id, for a product that the catalogue lacks.
        """
        rows = {self.catalogue.known_row(id_of(item, "item")) for item in items}
        return replace(
            self, catalogue=replace(self.catalogue, withdrawn=self.catalogue.withdrawn | rows)
        )

    def following(self, **changes: Any) -> Self:
        """The same guide with some of ``[guide]`` changed, as in `GuideSetting`.

        Raises ConfigError for an unknown key and for values that ``[guide]`` may not have.
        """
        known = [field.name for field in fields(GuideSetting)]
        problems = [
            f"guide.{name}: {unknown(name, known)}" for name in changes if name not in known
        ]
        if problems:
            raise ConfigError("\n".join(problems))
        setting, shop = replace(self.setting, **changes), self.artifact.shop
        problems = check_guide(setting, shop.items, shop.events)
        if problems:
            raise ConfigError("\n".join(problems))
        other = replace(self, setting=setting)
        if not setting.count_new:
            other = other.with_heard({}, 0)
        if "approximate_from" in changes and self.index is not None:
            other = replace(other, index=searched(Index(self.index.vectors), self.scorer, setting))
        return other.weighing(setting.weights) if "weights" in changes else other

    def warm(self) -> None:
        """Make what is else made when it is first asked for, but for `audience`'s users."""
        for _ in (self.texts.base.postings, self.facets, self.by_popularity, self.crowd.first_met):
            pass
        self.crowd.heat_at(self.scorer.now)
        if "extract" in self.artifact.model.heads:
            len(self.vocabularies)

    @cached_property
    def ranker(self) -> Ranker:
        """What of the guide ranks."""
        parts = self.scorer, self.catalogue, self.index
        return Ranker(self.artifact, *parts, self.weights, self.prototypes)

    @cached_property
    def facets(self) -> Facets:
        """The catalogue's columns, coded."""
        return fit_facets(self.catalogue)

    @cached_property
    def by_popularity(self) -> NDArray[np.int64]:
        """Every row, the most popular first."""
        return np.lexsort((np.arange(len(self.popularity)), -self.popularity))

    @cached_property
    def vocabularies(self) -> Mapping[str, Vocabulary]:
        """The words that the catalogue has for each attribute's values."""
        return fit_vocabularies(self.artifact)

    @cached_property
    def prototypes(self) -> Prototypes:
        """Where attribute values lie among users' states, for edits."""
        return Prototypes(self.scorer, self.catalogue.n_items)
