"""A trained run to answers: recommend, match, profile, extract, explain."""

import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou import artifact as artifacts
from daogou.artifact import Artifact
from daogou.errors import ConfigError, DaogouError, unknown
from daogou.guide import dialogue, explain, live, rules, words
from daogou.guide import extract as titles
from daogou.guide import profile as profiles
from daogou.guide.asked import (
    Document,
    LiveEvents,
    check_count,
    check_query,
    checked_weights,
    forbidden,
    id_of,
    told,
)
from daogou.guide.browse import Filters, counted, find, without_its_own
from daogou.guide.catalogue import Catalogue, fit_catalogue
from daogou.guide.crowd import NEVER, Crowd, heat_of
from daogou.guide.edit import Edits, Prototypes, read_edits
from daogou.guide.facets import Facets, fit_facets
from daogou.guide.heard import Heard
from daogou.guide.index import Index, best_of
from daogou.guide.kept import kept_of
from daogou.guide.look import by_relevance, for_somebody
from daogou.guide.made import hints_of, ids_of, indexed, popularity_of, query_of, searched
from daogou.guide.moments import iso
from daogou.guide.newcomers import with_heard
from daogou.guide.ranker import CANDIDATES, Ranker
from daogou.guide.score import Scorer, Shoppers, fit_scorer
from daogou.guide.search import Base, Search
from daogou.guide.values import Vocabulary, fit_vocabularies
from daogou.guide.visit import Visit, read_events
from daogou.schema import GuideSetting
from daogou.schema.check import check_guide

_SURE: Final = 0.8  # of a value that a title names, for it to count as the product's

_FAINT: Final = 0.1  # of the strongest effect; weaker ones are not worth a word


def new_request_id() -> str:
    """A name that no other request has."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class Guide:
    """A loaded run that answers with JSON-ready documents. Made by `Guide.load`; never changes.

    Ids go in as text or whole numbers and come out as text. A user or product that the run does
    not know is answered all the same, from what an average newcomer would get, and marked
    ``"known": false``. A method whose task the run lacks raises ConfigError and says why.

    ``events`` are what a user did since the run was fitted, read together with the history that
    the run has; user None is an anonymous session, which has only them. ``at`` is the moment of the
    answer. An answer then has ``"events"``: how many were read, and why others were not (see
    `visit`).

    ``edits`` are what the user says of themselves: ``{"set": {column: value}, "forbid": {column:
    [values]}}``, see `read_edits`. The user's state is moved by them (`Prototypes`), so that
    chances, matching and profile follow; then products that carry a forbidden value are left out
    or come last, the odds of those that carry a set one are doubled, and no product moves against
    what was said (`lifted`). Without edits nothing changes, and nothing is remembered.

    ``score`` is the weighted mean of the funnel's chances, in [0, 1]. Unless ``weights`` says
    otherwise a stage counts ten times the one before it, since it is rarer and worth more: the
    last stage decides, the earlier ones break its ties. What a stage is worth moves no score: where
    the run has learnt it, ``expected_value`` is that of showing the product, and stands beside.
    ``setting`` is ``[guide]`` of the run's shop.toml; `following` changes it.
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

    @staticmethod
    def load(
        run: Path | str,
        *,
        verify: bool = True,
        weights: Mapping[str, float] | None = None,
        new_id: Callable[[], str] = new_request_id,
    ) -> "Guide":
        """The guide of a finished run; the vectors of its catalogue are made here, once.

        Those of a large catalogue are kept in the run's folder, see `Kept`.
        ``verify=False`` skips hashing the run's files. ``weights`` as in `weighing`. Raises
        ArtifactError for a run that is not whole, ConfigError for unfit weights.
        """
        return Guide.of(artifacts.load(run, verify=verify), weights=weights, new_id=new_id)

    @staticmethod
    def of(
        artifact: Artifact,
        *,
        weights: Mapping[str, float] | None = None,
        new_id: Callable[[], str] = new_request_id,
    ) -> "Guide":
        """The guide of an artifact that is loaded already."""
        kept, setting = kept_of(artifact), artifact.shop.guide
        scorer = fit_scorer(artifact, kept)
        index = None
        if "match" in artifact.model.heads and scorer.vectors is not None:
            index = Index(indexed(artifact, scorer.vectors, ids_of(scorer)))
            index = searched(index, scorer, setting, kept)
        catalogue = fit_catalogue(artifact)
        return Guide(
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

    def weighing(self, weights: Mapping[str, float] | None) -> "Guide":
        """The same guide with another idea of what each stage is worth.

        A stage that is not named counts nothing; None is the default. Raises ConfigError for an
        unknown stage, a negative weight, or nothing but zeros.
        """
        return replace(self, weights=checked_weights(weights, self.scorer.stages))

    def with_items(self, items: Iterable[Mapping[str, object]]) -> "Guide":
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

    def with_heard(self, heard: Mapping[str, Heard], until: int) -> "Guide":
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

    def without_items(self, items: Iterable[object]) -> "Guide":
        """The guide that no longer offers some products; histories may still name them.

        What is asked about by name is still answered. `with_items` offers a product again. Raises
        ConfigError, with the nearest id, for a product that the catalogue lacks.
        """
        rows = {self.catalogue.known_row(id_of(item, "item")) for item in items}
        return replace(
            self, catalogue=replace(self.catalogue, withdrawn=self.catalogue.withdrawn | rows)
        )

    def following(self, **changes: Any) -> "Guide":
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

    def recommend(  # noqa: PLR0913 - one parameter per wish of the contract
        self,
        user: object,
        *,
        k: int = 10,
        category: str | None = None,
        price_min: float | None = None,
        price_max: float | None = None,
        where: Mapping[str, object] | None = None,
        exclude: Iterable[object] = (),
        context: Mapping[str, object] | None = None,
        events: LiveEvents = None,
        at: int | None = None,
        edits: Mapping[str, Any] | None = None,
        diversity: float | None = None,
        lang: str = "en",
    ) -> Document:
        """The ``k`` best products for a user, best first, with reasons (see `explain.reasons`).

        Products that pass the filters (see `Catalogue.keep`) and the rules (see `rules.allowed`)
        are matched, the best 500 are ranked by score, and of those the best are chosen that are
        not too alike (see `rerank.choose`). All are ranked where there are no more than that, or no
        match task. ``context`` is what is known of the moment, by column; the rest is missing.
        ``diversity`` is ``[guide] diversity`` if not given.

        With ``[guide] by_value`` products are ranked by ``worth``: the expected value where the run
        has learnt it, else the chance of a purchase times the price; those without a price come
        last, by their score.

        ``rules`` is there where a rule removed something, and says how many. ``fallback`` is the
        rule that was lifted, or left nothing (``rules.allowed``); "popular" where the user is
        unknown and the model reads no users at all, so that everybody gets the same; otherwise
        null. ``degraded`` is false: a server that answers from less than this says so there.
        """
        self.ranker.needs("funnel", "recommend")
        words.check_language(lang)
        check_count(k)
        setting = self.setting
        if diversity is not None:
            setting = self.following(diversity=diversity).setting
        asks = self.ranker.visit(user, events, at)
        kept = self.catalogue.keep(category, price_max, where, price_min=price_min, exclude=exclude)
        sides, said = self.ranker.sides(asks, edits)
        if said is not None and said.barred.any():
            kept = ~said.barred if kept is None else kept & ~said.barred
        allowed = rules.allowed(self.artifact, self.catalogue, setting, asks.queries, kept)
        shoppers = sides[-1]
        rows = self.ranker.candidates(sides, allowed.rows, max(k, CANDIDATES), said)
        scores, chances = self.ranker.heard(sides, said, rows, context)
        worth = self.ranker.money(rows, chances) if setting.by_value else None
        best, capped = self.ranker.chosen(rows, scores, worth, k, setting)
        removed = [*allowed.removed, *capped]
        why = self._why(asks, shoppers, rows[best], said, lang)
        return {
            **asks.head,
            "request_id": self.new_id(),
            "items": [
                {
                    "item": self.catalogue.keys[rows[place]],
                    "score": float(scores[place]),
                    **predicted,
                    **({} if worth is None else {"worth": _known(worth[place])}),
                    "reasons": reasons,
                }
                for place, predicted, reasons in zip(
                    best.tolist(), self.ranker.predicted(chances[:, best]), why, strict=True
                )
            ],
            **({"rules": removed} if removed else {}),
            "fallback": allowed.fallback
            or ("popular" if not asks.row and shoppers is None else None),
            "degraded": False,
            **asks.told,
            **told(said),
        }

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

    def recommend_many(self, users: Iterable[object], **wishes: Any) -> list[Document]:
        """`recommend` for each user, in order; a user that cannot be is answered ``{"error"}``.

        Wishes that are wrong for everybody raise, as they do there.
        """
        return [_or_error(lambda user: self.recommend(user, **wishes), user) for user in users]

    def search(  # noqa: PLR0913 - one parameter per wish of the contract
        self,
        query: str = "",
        user: object = None,
        *,
        k: int = 10,
        offset: int = 0,
        category: str | None = None,
        brand: str | None = None,
        price_min: float | None = None,
        price_max: float | None = None,
        in_stock: bool = False,
        where: Mapping[str, object] | None = None,
        exclude: Iterable[object] = (),
        context: Mapping[str, object] | None = None,
        events: LiveEvents = None,
        at: int | None = None,
        lang: str = "en",
    ) -> Document:
        """Products whose title, attributes and columns hold the words of a query (see `Search`).

        Without a word all that pass the filters (see `Catalogue.keep`) are found. For a user or a
        session the 500 most relevant are ranked by relevance and score together (see `fused`), and
        without a query by score alone; for nobody in particular equally relevant products are
        ranked by popularity. ``offset`` products are left out before the ``k`` that are given.

        ``facets`` say how many products have each value; those of a column that is filtered are
        counted as if it were not. ``relaxed`` is true where no product holds all words, and
        ``corrected`` has the words that were read as others.
        """
        words.check_language(lang)
        check_count(k)
        check_query(query)
        if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
            raise ConfigError(f"offset: {offset!r}; give a whole number, 0 or more")
        filters = Filters(
            category, brand, price_min, price_max, in_stock, where, [*map(str, exclude)]
        )
        is_somebody = user is not None or events is not None
        asks = self.ranker.visit(user, events if is_somebody else (), at)
        passing, hits = find(self.catalogue, self.texts, query, filters)
        found = by_relevance(self._by_popularity, passing, hits)
        if is_somebody and len(found.rows):
            found = for_somebody(found, self.ranker, asks.queries, passing, context)
        return {
            "query": query,
            **(asks.head if is_somebody else {"user": None, "known": False}),
            "total": len(found.rows),
            "offset": offset,
            "relaxed": hits is not None and hits.relaxed,
            "corrected": dict(hits.corrected) if hits is not None else {},
            "items": found.lines(self.catalogue, offset, offset + k),
            "facets": [
                counted(
                    self.facets,
                    column,
                    find(self.catalogue, self.texts, query, freed)[0] if freed else passing,
                    lang,
                )
                for column, freed in without_its_own(filters, self.catalogue, self.facets)
            ],
            **(asks.told if is_somebody else {}),
        }

    def score(
        self,
        user: object,
        items: Sequence[object],
        *,
        context: Mapping[str, object] | None = None,
        events: LiveEvents = None,
        at: int | None = None,
        edits: Mapping[str, Any] | None = None,
    ) -> Document:
        """Score and chances of given products, in the order given.

        ``at`` is a moment in microseconds since 1970: only what the user did strictly before it
        is read. None is now, after everything in the log. A product that carries a value that
        ``edits`` forbid is marked ``"forbidden": true``.
        """
        self.ranker.needs("funnel", "score")
        asks = self.ranker.visit(user, events, at)
        asked = [id_of(item, "item") for item in items]
        rows = np.array([self.catalogue.row(item) for item in asked], dtype=np.int64)
        sides, said = self.ranker.sides(asks, edits)
        scores, chances = self.ranker.heard(sides, said, rows, context)
        return {
            **asks.head,
            "items": [
                {
                    "item": item,
                    "known": row > 0,
                    "score": score,
                    **predicted,
                    **forbidden(said, row),
                }
                for item, row, score, predicted in zip(
                    asked,
                    rows.tolist(),
                    scores.tolist(),
                    self.ranker.predicted(chances),
                    strict=True,
                )
            ],
            **asks.told,
            **told(said),
        }

    def match(
        self,
        user: object,
        items: Sequence[object],
        *,
        events: LiveEvents = None,
        at: int | None = None,
        edits: Mapping[str, Any] | None = None,
    ) -> Document:
        """How well products fit a user, best first, each once.

        A score is an inner product and what the user's own events add (see `MatchHead`).

        A product that the catalogue lacks has the unknown product's score, ``"known": false``. One
        that carries a value that ``edits`` forbid comes after all others, ``"forbidden": true``.
        """
        self.ranker.needs("match", "match")
        asks = self.ranker.visit(user, events, at)
        asked = list(dict.fromkeys(id_of(item, "item") for item in items))
        rows = [self.catalogue.row(item) for item in asked]
        sides, said = self.ranker.sides(asks, edits)
        scores = self.ranker.matched(sides, torch.tensor(rows, dtype=torch.int64), said)
        lines: list[Document] = [
            {
                "item": item, "score": value, "known": known > 0,
                **forbidden(said, known),
            }
            for item, value, known in zip(asked, scores.tolist(), rows, strict=True)
        ]  # fmt: skip
        lines.sort(key=lambda line: ("forbidden" in line, -line["score"], line["item"]))
        return {**asks.head, "items": lines, **asks.told, **told(said)}

    def profile(
        self,
        user: object,
        *,
        events: LiveEvents = None,
        at: int | None = None,
        edits: Mapping[str, Any] | None = None,
        lang: str = "en",
    ) -> Document:
        """Who a user probably is, what they prefer, and which events say so (see `portrait`)."""
        self.ranker.needs("profile", "profile")
        words.check_language(lang)
        asks = self.ranker.visit(user, events, at)
        said = read_edits(self.scorer, self.catalogue, edits)
        portrait = profiles.portrait(
            self.scorer, self.catalogue, asks.queries, lang,
            edits=said, prototypes=self.prototypes, named=self._named(asks),
        )  # fmt: skip
        return {**asks.head, **portrait, **asks.told, **told(said)}

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
        lines = list(texts)
        readable = [line for line in lines if isinstance(line, str)]
        readings = titles.read(self.artifact, readable, threads=threads)
        answers: list[Document] = []
        for first in range(0, len(lines), titles.LAID):
            with titles.uncollected():
                answers += [
                    titles.told(self.vocabularies, line, next(readings))
                    if isinstance(line, str)
                    else {"error": f"text: a text is wanted, found {line!r}"}
                    for line in lines[first : first + titles.LAID]
                ]
        return answers

    def explain(
        self,
        user: object,
        item: object,
        *,
        context: Mapping[str, object] | None = None,
        events: LiveEvents = None,
        at: int | None = None,
        edits: Mapping[str, Any] | None = None,
        lang: str = "en",
    ) -> Document:
        """What each input did to a score, largest effect first (see `explain.contributions`).

        ``weight`` is by how much the log-odds of the score fall when the input is missing: above
        0 it speaks for the product. ``value`` is null where the input has no words of its own.
        With ``edits`` the score is the one that `recommend` gives; each thing said is an input
        too, ``edit.set.colour`` or ``edit.forbid.colour``, and what is not said weighs what it
        does without them. A product that carries what they forbid is marked ``"forbidden": true``.
        Raises ConfigError, with the nearest id, for a product that the catalogue lacks.
        """
        self.ranker.needs("funnel", "explain")
        words.check_language(lang)
        asks, product = self.ranker.visit(user, events, at), id_of(item, "item")
        row = self.catalogue.known_row(product)
        chances, found = explain.contributions(
            self.scorer, self.catalogue, (asks.user, asks.queries), row, context
        )
        score = self.ranker.fused(chances[:, None])[0]
        lines = [
            _contribution(
                each.feature, each.value, score, self.ranker.fused(each.without[:, None])[0]
            )
            for each in found
        ]
        said = read_edits(self.scorer, self.catalogue, edits)
        if said is not None:
            score, chances = self.ranker.heard_of(asks, said, row, context)
            for verb, (column, value), others in said.each():
                without, _ = self.ranker.heard_of(asks, others, row, context)
                lines.append(_contribution(f"edit.{verb}.{column}", value, score, without))
        lines.sort(key=lambda line: -abs(cast(float, line["weight"])))
        last = self.scorer.stages[-1]
        predicted = self.ranker.predicted(chances[:, None])[0]
        return {
            "user": asks.user,
            "item": product,
            "score": float(score),
            **predicted,
            **forbidden(said, row),
            "contributions": lines,
            "text": words.explanation(
                self.catalogue.name(row), last, predicted["p"][last], _strongest(lines), lang
            ),
            **asks.told,
            **told(said),
        }

    def ask(  # noqa: PLR0913 - one parameter per part of the state and wish
        self,
        user: object = None,
        *,
        answers: Sequence[Mapping[str, Any]] = (),
        query: str = "",
        where: Mapping[str, object] | None = None,
        k: int = 4,
        context: Mapping[str, object] | None = None,
        events: LiveEvents = None,
        at: int | None = None,
        edits: Mapping[str, Any] | None = None,
        lang: str = "en",
    ) -> Document:
        """The question whose answer narrows this shopper's choice most, and products so far.

        A turn of a dialogue: ``state`` of the document, with the ``answer`` of the chip that was
        chosen added to its ``answers``, is what to ask with next; nothing is kept here. Answers are
        ``{"column", "value"}``, with ``"not"`` or ``"any": true`` in place of the value, and of a
        price ``"from"`` and ``"to"``.

        The products that pass ``where``, hold the query's words and fit the answers are matched
        and scored as in `recommend`; the scores, as chances of being the one wanted, weigh what
        each question would tell (see `dialogue.information_gain`). ``left`` is how many products
        there are, each chip says how many it leaves, and none leaves nothing. A query that finds
        nothing and, of answers that contradict each other, the newest are ``relaxed``.

        Of ``edits`` a value that is forbidden is in no chip, and a column of which a value is set
        is not asked about.

        ``question`` is null when at most ``k`` products are left (``done`` is "few") or nothing
        that could be asked tells them apart ("alike").
        """
        self.ranker.needs("funnel", "ask")
        words.check_language(lang)
        check_count(k)
        check_query(query)
        asks = self.ranker.visit(user, () if user is None and events is None else events, at)
        filters = Filters(where=where)
        kept = filters.kept(self.catalogue)
        sides, said = self.ranker.sides(asks, edits)
        if said is not None:
            kept &= ~said.barred
        kept, relaxed = dialogue.holding(self.texts, query, kept)
        found = dialogue.narrow(self.facets, kept, answers)
        relaxed += [{**answer, "text": dialogue.said(answer, lang)} for answer in found.relaxed]
        left = int(np.count_nonzero(found.kept))
        rows = self.ranker.candidates(sides, found.kept, CANDIDATES, said)
        scores, _ = self.ranker.heard(sides, said, rows, context)
        best = np.lexsort((rows, -scores))[:k]
        asked = found.columns | filters.columns(self.catalogue) | (said.columns if said else set())
        worth = dialogue.questions(self.facets, found.kept, rows, scores, asked=asked, lang=lang)
        done = "few" if left <= k else None if worth else "alike"
        why = self._why(asks, sides[-1], rows[best], said, lang)
        said_so_far = {
            "query": "" if relaxed and "query" in relaxed[0] else query,
            "where": dict(where or {}),
            "answers": [dict(answer) for answer in found.applied],
        }
        because = words.because_of_answers(found.said(lang), lang)
        return {
            **asks.head,
            "question": None if done else dialogue.documented(worth[0], left, lang),
            "done": done,
            "left": left,
            "items": [
                {
                    "item": self.catalogue.keys[rows[place]],
                    "title": self.catalogue.name(int(rows[place])),
                    "score": float(scores[place]),
                    "reason": reasons[0] if reasons else because,
                }
                for place, reasons in zip(best.tolist(), why, strict=True)
            ],
            "relaxed": relaxed,
            "state": {"user": asks.user, **said_so_far, "edits": dict(edits or {}), "lang": lang},
            **asks.told,
            **told(said),
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

    def warm(self) -> None:
        """Make what is else made when it is first asked for, but for `audience`'s users."""
        for _ in (self.texts.base.postings, self.facets, self._by_popularity, self.crowd.first_met):
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
    def _by_popularity(self) -> NDArray[np.int64]:
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

    def _why(
        self,
        asks: Visit,
        shoppers: Shoppers | None,
        rows: NDArray[np.int64],
        said: Edits | None,
        lang: str,
    ) -> list[list[dict[str, object]]]:
        """Reasons for each of some products, see `explain.reasons`."""
        return explain.reasons(
            self.scorer, self.catalogue, asks.queries, shoppers, rows.tolist(),
            popularity=self.popularity, edits=said, lang=lang,
        )  # fmt: skip

    def _named(self, asks: Visit) -> dict[tuple[str, int], str]:
        """Values that titles of a user's past surely name and the catalogue leaves open."""
        attributes = self.artifact.transform.attributes
        if "extract" not in self.artifact.model.heads:
            return {}
        rows = [row for row in np.unique(self.scorer.past(asks.queries).item).tolist() if row]
        open_in = {
            row: {
                name
                for name in attributes
                if name in self.catalogue.shared and self.catalogue.value(name, row) is None
            }
            for row in rows
        }
        rows = [row for row in rows if open_in[row]]
        found: dict[tuple[str, int], str] = {}
        for row, answer in zip(
            rows, self.extract_many(self.catalogue.name(row) for row in rows), strict=True
        ):
            for value in sorted(answer["values"], key=lambda value: value["confidence"]):
                if value["attribute"] in open_in[row] and value["confidence"] >= _SURE:
                    found[value["attribute"], row] = value["value"]
        return found


def _known(number: float) -> float | None:
    return None if math.isnan(number) else float(number)


def _or_error(answer: Callable[[object], Document], line: object) -> Document:
    try:
        id_of(line, "user")
    except DaogouError as error:
        return {"error": str(error)}
    return answer(line)


def _contribution(feature: str, value: object, score: Tensor, without: Tensor) -> Document:
    """What an input did to a score, of which ``without`` is what it would be if it were missing."""
    weight = explain.log_odds(score) - explain.log_odds(without)
    return {"feature": feature, "value": value, "weight": float(weight)}


def _strongest(lines: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The two strongest features for and the one strongest against, if not too faint to say."""
    least = max((abs(line["weight"]) for line in lines), default=0.0) * _FAINT
    speaking = [str(line["feature"]) for line in lines if line["weight"] > least]
    opposing = [str(line["feature"]) for line in lines if line["weight"] < -least]
    return speaking[:2], opposing[:1]
