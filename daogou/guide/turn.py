"""A turn of the dialogue: one who asks and what they answered so far to the next question."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from daogou.guide import dialogue, explain, words
from daogou.guide.asked import Document, told
from daogou.guide.browse import Filters
from daogou.guide.held import Held
from daogou.guide.ranker import CANDIDATES
from daogou.guide.visit import Visit


def turn(  # noqa: PLR0913 - one parameter per part of the state and wish
    held: Held,
    asks: Visit,
    *,
    answers: Sequence[Mapping[str, Any]],
    query: str,
    where: Mapping[str, object] | None,
    k: int,
    context: Mapping[str, object] | None,
    edits: Mapping[str, Any] | None,
    lang: str,
) -> Document:
    """The question that narrows their choice most, and products so far, see `Guide.ask`."""
    filters = Filters(where=where)
    kept = filters.kept(held.catalogue)
    sides, said = held.ranker.sides(asks, edits)
    if said is not None:
        kept &= ~said.barred
    kept, relaxed = dialogue.holding(held.texts, query, kept)
    found = dialogue.narrow(held.facets, kept, answers)
    relaxed += [{**answer, "text": dialogue.said(answer, lang)} for answer in found.relaxed]
    left = int(np.count_nonzero(found.kept))
    rows = held.ranker.candidates(sides, found.kept, CANDIDATES, said)
    scores, _ = held.ranker.heard(sides, said, rows, context)
    best = np.lexsort((rows, -scores))[:k]
    asked = found.columns | filters.columns(held.catalogue) | (said.columns if said else set())
    worth = dialogue.questions(held.facets, found.kept, rows, scores, asked=asked, lang=lang)
    done = "few" if left <= k else None if worth else "alike"
    why = explain.reasons(
        held.scorer, held.catalogue, asks.queries, sides[-1], rows[best].tolist(),
        popularity=held.popularity, edits=said, lang=lang,
    )  # fmt: skip
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
                "item": held.catalogue.keys[rows[place]],
                "title": held.catalogue.name(int(rows[place])),
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
