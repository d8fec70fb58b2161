"""What is asked of products and titles: similar, trending, latest, audience, extract."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from daogou.errors import ConfigError
from daogou.guide import extract as titles
from daogou.guide.asked import Document, LiveEvents, check_count, id_of
from daogou.guide.browse import Filters
from daogou.guide.crowd import NEVER, heat_of
from daogou.guide.held import Held
from daogou.guide.index import best_of
from daogou.guide.moments import iso
from daogou.guide.visit import read_events


@dataclass(frozen=True)
class Shelf(Held):
    """The questions to a `Guide` that no user's state answers."""

    def similar(
        self,
        item: object,
        *,
        k: int = 10,
        category: str | None = None,
        price_min: float | None = None,
        price_max: float | None = None,
        where: Mapping[str, object] | None = None,
    ) -> Document:
        """The ``k`` products most like one: by the cosine of their encodings, most alike first.

        Those that pass the filters (see `Catalogue.keep`) are compared, never the product itself.
        What they are encoded from is their text, columns and id, as all tasks taught it, so a
        product that nobody has taken yet has neighbours too. Raises ConfigError, with the nearest
        id, for a product that the catalogue lacks, and where the run encodes no products.
        """
        vectors = self.scorer.vectors
        if vectors is None:
            raise ConfigError("similar: this run encodes no products; it has a flat table alone")
        check_count(k)
        name = id_of(item, "item")
        row = self.catalogue.known_row(name)
        kept = Filters(
            category, price_min=price_min, price_max=price_max, where=where, exclude=[name]
        ).kept(self.catalogue)
        cosines = vectors @ vectors[row] / (self.scorer.lengths * self.scorer.lengths[row])
        passing = torch.from_numpy(kept).nonzero()[:, 0]
        scores, at = best_of(cosines[passing][None], min(k, len(passing)))
        return {
            "item": name,
            "items": [
                {"item": self.catalogue.keys[near], "score": score}
                for near, score in zip(passing[at[0]].tolist(), scores[0].tolist(), strict=True)
            ],
        }

    def trending(
        self,
        *,
        k: int = 10,
        category: str | None = None,
        price_max: float | None = None,
        where: Mapping[str, object] | None = None,
        events: LiveEvents = None,
        at: int | None = None,
    ) -> Document:
        """The products with the most events lately, most first.

        ``score`` counts the events of everybody's history before ``at`` (None: the end of the log,
        or just after the newest of ``events``), one of a week ago half; ``events`` are further
        ones, of anybody. Products without any are left out.
        """
        check_count(k)
        told: Document = {}
        live = None
        if events is not None:
            live, _, at, read = read_events(self.scorer, self.catalogue, events, at)
            told = {"events": read}
        moment = self.scorer.now if at is None else at
        score = np.zeros(len(self.catalogue.keys))
        score[: self.artifact.store.n_items + 1] = self.crowd.heat_at(moment)
        if live is not None:
            score += heat_of(live, moment, len(score))
        kept = Filters(category, price_max=price_max, where=where).kept(self.catalogue)
        rows = np.flatnonzero(kept & (score > 0))
        best = rows[np.lexsort((rows, -score[rows]))][:k]
        return {"items": self._listed(best, score), **told}

    def latest(
        self,
        *,
        k: int = 10,
        category: str | None = None,
        price_max: float | None = None,
        where: Mapping[str, object] | None = None,
    ) -> Document:
        """The newest products, newest first.

        Those added since the run was fitted come first, the last added before the others, then
        those that the log met last for the first time. A product that no event names is not known
        to be new and is left out. ``since`` is when it was first met, null for an added one.
        """
        check_count(k)
        first = self.crowd.first_met
        n = len(first)
        kept = Filters(category, price_max=price_max, where=where).kept(self.catalogue)
        added = np.flatnonzero(kept[n:])[::-1] + n
        met = np.flatnonzero(kept[:n] & (first < NEVER))
        met = met[np.lexsort((met, -first[met]))]
        rows = np.concatenate([added, met])[:k]
        return {
            "items": [
                {
                    "item": self.catalogue.keys[row],
                    "title": self.catalogue.name(row),
                    "since": iso(int(first[row])) if row < n else None,
                }
                for row in rows.tolist()
            ]
        }

    def audience(self, item: object, *, k: int = 10) -> Document:
        """The users of the run whom a product suits most, best first (see `Crowd.suits`).

        ``score`` is the log of by how much a user is likelier to take to it than to the mean
        product, as histories stood at the end of the log. Raises ConfigError, with the nearest id,
        for a product that the catalogue lacks.
        """
        self.ranker.needs("match", "audience")
        check_count(k)
        name = id_of(item, "item")
        row = self.catalogue.known_row(name)
        assert self.index is not None
        scores = self.crowd.suits(row, self.index.vectors[row]).numpy()[1:]
        best = np.lexsort((np.arange(len(scores)), -scores))[:k]
        return {
            "item": name,
            "users": [
                {"user": self.crowd.user_keys[place], "score": float(scores[place])}
                for place in best.tolist()
            ],
        }

    def extract(self, text: str) -> Document:
        """The attribute values in a title: ``[start, end, attribute, confidence]`` each.

        ``values`` has for each of them ``attribute``, ``value`` (the catalogue's word for it, see
        `Vocabulary.normal`), ``confidence`` that this is so, ``from`` ("span"), ``text``, ``span``
        and ``how`` the word was found; and for an attribute that no span names, from "classifier",
        its likeliest value if that is likelier than not. Offsets are code points of the text as
        given, end exclusive. Any text will do; one longer than the model reads at once is read in
        overlapping windows.
        """
        self.ranker.needs("extract", "extract")
        if not isinstance(text, str):
            raise ConfigError(f"text: a text is wanted, found {text!r}")
        (answer,) = self.extract_many([text])
        return answer

    def extract_many(self, texts: Iterable[object], *, threads: int = 1) -> list[Document]:
        """`extract` for each text, in order; what is no text is answered ``{"error"}``.

        Many texts are read by ``threads`` at a time, each of which torch should give one of its own
        (`torch.set_num_threads`).
        """
        self.ranker.needs("extract", "extract")
        return titles.answers(self, list(texts), threads=threads)

    def _listed(
        self, rows: NDArray[np.int64], score: NDArray[np.float64]
    ) -> list[dict[str, object]]:
        return [
            {
                "item": self.catalogue.keys[row],
                "title": self.catalogue.name(row),
                "score": float(score[row]),
            }
            for row in rows.tolist()
        ]
