"""A score to what each input, and each thing that was said, did to it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from torch import Tensor

from daogou.guide import explain, words
from daogou.guide.asked import Document, forbidden, told
from daogou.guide.edit import read_edits
from daogou.guide.held import Held
from daogou.guide.visit import Visit

_FAINT: Final = 0.1  # of the strongest effect; weaker ones are not worth a word


def effects(
    held: Held,
    asks: Visit,
    product: str,
    *,
    context: Mapping[str, object] | None,
    edits: Mapping[str, Any] | None,
    lang: str,
) -> Document:
    """Of one product for one who asks, see `Guide.explain`."""
    row = held.catalogue.known_row(product)
    chances, found = explain.contributions(
        held.scorer, held.catalogue, (asks.user, asks.queries), row, context
    )
    score = held.ranker.fused(chances[:, None])[0]
    lines = [
        _contribution(each.feature, each.value, score, held.ranker.fused(each.without[:, None])[0])
        for each in found
    ]
    said = read_edits(held.scorer, held.catalogue, edits)
    if said is not None:
        score, chances = held.ranker.heard_of(asks, said, row, context)
        for verb, (column, value), others in said.each():
            without, _ = held.ranker.heard_of(asks, others, row, context)
            lines.append(_contribution(f"edit.{verb}.{column}", value, score, without))
    lines.sort(key=lambda line: -abs(cast(float, line["weight"])))
    last = held.scorer.stages[-1]
    predicted = held.ranker.predicted(chances[:, None])[0]
    return {
        "user": asks.user,
        "item": product,
        "score": float(score),
        **predicted,
        **forbidden(said, row),
        "contributions": lines,
        "text": words.explanation(
            held.catalogue.name(row), last, predicted["p"][last], _strongest(lines), lang
        ),
        **asks.told,
        **told(said),
    }


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
