"""What is asked for somebody: recommend, search, score, match, profile, explain, ask."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from daogou.errors import ConfigError, DaogouError
from daogou.features.queries import Queries
from daogou.guide import explain, rules, words
from daogou.guide import extract as titles
from daogou.guide import profile as profiles
from daogou.guide.asked import (
    Document,
    LiveEvents,
    check_count,
    check_query,
    forbidden,
    id_of,
    told,
)
from daogou.guide.browse import Filters, counted, find, without_its_own
from daogou.guide.edit import read_edits
from daogou.guide.effects import effects
from daogou.guide.look import by_relevance, for_somebody
from daogou.guide.ranker import CANDIDATES
from daogou.guide.shelf import Shelf
from daogou.guide.turn import turn


@dataclass(frozen=True)
class Guide(Shelf):
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
        other = self if diversity is None else self.following(diversity=diversity)
        setting = other.setting
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
        why = explain.reasons(
            self.scorer, self.catalogue, asks.queries, shoppers, rows[best].tolist(),
            popularity=self.popularity, edits=said, lang=lang,
        )  # fmt: skip
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
        found = by_relevance(self.by_popularity, passing, hits)
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
            edits=said, prototypes=self.prototypes, named=self._named(asks.queries),
        )  # fmt: skip
        return {**asks.head, **portrait, **asks.told, **told(said)}

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
        return effects(self, asks, product, context=context, edits=edits, lang=lang)

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
        return turn(
            self, asks, answers=answers, query=query, where=where, k=k, context=context,
            edits=edits, lang=lang,
        )  # fmt: skip

    def _named(self, queries: Queries) -> dict[tuple[str, int], str]:
        """Values that titles of a user's past surely name and the catalogue leaves open."""
        if "extract" not in self.artifact.model.heads:
            return {}
        rows = [row for row in np.unique(self.scorer.past(queries).item).tolist() if row]
        return titles.named(self, rows)


def _known(number: float) -> float | None:
    return None if math.isnan(number) else float(number)


def _or_error(answer: Callable[[object], Document], line: object) -> Document:
    try:
        id_of(line, "user")
    except DaogouError as error:
        return {"error": str(error)}
    return answer(line)
