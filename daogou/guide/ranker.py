"""A user, what they said, and products to scores and chances."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.artifact import Artifact
from daogou.errors import ConfigError
from daogou.guide import explain, rules
from daogou.guide.asked import Document, LiveEvents, id_of
from daogou.guide.catalogue import Catalogue
from daogou.guide.edit import Edits, Prototypes, lifted, read_edits
from daogou.guide.index import Index
from daogou.guide.made import past_of, query_of
from daogou.guide.rerank import choose
from daogou.guide.score import Scorer, Shoppers
from daogou.guide.visit import Visit, visit
from daogou.model.heads.match import MatchHead
from daogou.schema import GuideSetting

CANDIDATES: Final = 500  # products that matching hands to ranking


@dataclass(frozen=True)
class Ranker:
    """The parts of a guide that a score is made of. Made by `Guide`; never changes."""

    artifact: Artifact
    scorer: Scorer
    catalogue: Catalogue
    index: Index | None
    weights: Mapping[str, float]
    prototypes: Prototypes

    def sides(
        self, asks: Visit, edits: Mapping[str, Any] | None
    ) -> tuple[tuple[Shoppers | None, ...], Edits | None]:
        """The user and what they said; of one who said something also without what they like."""
        said = read_edits(self.scorer, self.catalogue, edits)
        return self._moved(asks, said), said

    def _moved(self, asks: Visit, said: Edits | None) -> tuple[Shoppers | None, ...]:
        shoppers = self.scorer.shoppers(asks.queries)
        if said is None:
            return (shoppers,)
        if shoppers is None:
            return None, None
        return tuple(self.prototypes.moved(shoppers, said, likes=each) for each in (False, True))

    def matched(
        self, sides: tuple[Shoppers | None, ...], rows: Tensor, said: Edits | None
    ) -> Tensor:
        """Matching's scores ``[R]`` of given rows."""
        assert self.index is not None
        found = []
        for shoppers in sides:
            assert shoppers is not None
            with torch.inference_mode():
                query, added = self.asks_index(shoppers)
                found.append((self.index.scores(query, rows) + added[:, rows])[0])
        if said is None:
            return found[0]
        return lifted(found[0], found[1], torch.from_numpy(said.liked)[rows])

    def needs(self, family: str, method: str) -> None:
        """Raise ConfigError with the reason where the run learnt no task of a family."""
        if family not in self.artifact.model.heads:
            why = self.artifact.shop.absent.get(family, "its tasks are switched off under [tasks]")
            raise ConfigError(f"{method}: this run learnt no {family} task: {why}")
        if family == "funnel" and not self.scorer.stages:
            raise ConfigError(
                f"{method}: this run learnt what a stage is worth and no chance of one; "
                "enable a stage under [tasks]"
            )

    def visit(self, user: object, events: LiveEvents, at: int | None) -> Visit:
        """Who asks, and what of them is read."""
        name = None if user is None and events is not None else id_of(user, "user")
        return visit(self.scorer, self.catalogue, name, events=events, at=at)

    def candidates(
        self,
        sides: tuple[Shoppers | None, ...],
        kept: NDArray[np.bool_] | None,
        n: int,
        said: Edits | None,
    ) -> NDArray[np.int64]:
        """Rows to rank: all that pass, or the ``n`` that match best."""
        shoppers = sides[-1]
        allowed = np.ones(self.catalogue.n_items + 1, dtype=bool) if kept is None else kept
        allowed[0] = False
        if self.index is None or shoppers is None or np.count_nonzero(allowed) <= n:
            return np.flatnonzero(allowed)
        if said is not None:
            passing = torch.from_numpy(np.flatnonzero(allowed))
            best = self.matched(sides, passing, said).topk(n).indices
            return np.asarray(passing[best.sort().values].numpy(), dtype=np.int64)
        with torch.inference_mode():
            query, added = self.asks_index(shoppers)
            _, rows = self.index.nearest(query, n, allowed=torch.from_numpy(allowed), added=added)
        return np.asarray(rows[0].numpy(), dtype=np.int64)

    def money(self, rows: NDArray[np.int64], chances: Tensor) -> NDArray[np.float64]:
        """What showing each row is expected to bring, NaN unknown."""
        stages = self.scorer.stages
        if len(chances) > len(stages):
            return np.asarray(chances[len(stages)].double().numpy())
        bought = stages.index(rules.bought_of(stages)[-1])
        price = np.concatenate([[np.nan], self.catalogue.prices("guide.by_value", np.nan)])
        return np.asarray(chances[bought].double().numpy() * price[rows])

    def chosen(
        self,
        rows: NDArray[np.int64],
        scores: NDArray[np.float64],
        worth: NDArray[np.float64] | None,
        k: int,
        setting: GuideSetting,
    ) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
        """Places of the products to show, and what a cap on categories removed."""
        unknown_last = np.zeros(len(rows)) if worth is None else np.isnan(worth)
        by = scores if worth is None else np.nan_to_num(worth)
        order = np.lexsort((rows, -scores, -by, unknown_last))
        groups = None
        if setting.per_category:
            column = self.catalogue.named("category", "guide.per_category")
            groups = [self.catalogue.value(column, row) for row in rows[order].tolist()]
        vectors = None
        if setting.diversity and self.scorer.vectors is not None:
            vectors = self.scorer.vectors[torch.from_numpy(rows[order])].double().numpy()
        uncapped, taken = (
            choose(by[order], k, vectors=vectors, diversity=setting.diversity, groups=groups,
                   most=most)
            for most in (0, setting.per_category)
        )  # fmt: skip
        removed = len(set(uncapped) - set(taken))
        told = [{"rule": "per_category", "removed": removed}] if removed else []
        return order[taken], told

    def asks_index(self, shoppers: Shoppers) -> tuple[Tensor, Tensor]:
        """What shoppers ask the index with, and what their own events add, ``[Q, I + 1]``."""
        head = cast(MatchHead, self.artifact.model.heads["match"])
        added = head.tally.of_histories(self.catalogue.n_items + 1, *past_of(shoppers))
        return query_of(self.artifact, shoppers), added

    def scored(
        self,
        shoppers: Shoppers | None,
        rows: NDArray[np.int64],
        context: Mapping[str, object] | None,
    ) -> tuple[NDArray[np.float64], Tensor]:
        """Scores ``[B]`` and chances ``[T, B]`` of rows for one user."""
        encoded = self.scorer.context(context, len(rows))
        user = torch.zeros(len(rows), dtype=torch.int64)
        chances = self.scorer.chances(shoppers, user, torch.from_numpy(rows), encoded)
        return self.fused(chances).numpy(), chances

    def heard(
        self,
        sides: tuple[Shoppers | None, ...],
        said: Edits | None,
        rows: NDArray[np.int64],
        context: Mapping[str, object] | None,
    ) -> tuple[NDArray[np.float64], Tensor]:
        """`scored` of one who may have said something (see `sides`)."""
        scores, chances = self.scored(sides[-1], rows, context)
        if said is not None:
            before, _ = self.scored(sides[0], rows, context)
            scores = _lifted_scores(before, scores, said.liked[rows])
        return scores, chances

    def heard_of(
        self, asks: Visit, said: Edits, row: int, context: Mapping[str, object] | None
    ) -> tuple[Tensor, Tensor]:
        """`heard` of one product: its score, and its chances ``[T]``."""
        scores, chances = self.heard(self._moved(asks, said), said, np.array([row]), context)
        return torch.from_numpy(scores)[0], chances[:, 0]

    def fused(self, chances: Tensor) -> Tensor:
        """Score ``[B]`` of chances ``[T, B]``, of which an amount has no part."""
        worth = torch.tensor([self.weights[stage] for stage in self.scorer.stages]).double()
        return worth @ chances[: len(worth)].double()

    def predicted(self, chances: Tensor) -> list[Document]:
        """``p`` by stage of each product, and the expected value where the run has learnt one.

        ``chances [T, B]`` have it last.
        """
        stages, lines = self.scorer.stages, chances.T.tolist()
        found: list[Document] = [{"p": dict(zip(stages, line, strict=False))} for line in lines]
        if len(chances) > len(stages):
            for each, line in zip(found, lines, strict=True):
                each["expected_value"] = line[-1]
        return found


def _lifted_scores(
    before: NDArray[np.float64], after: NDArray[np.float64], liked: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Scores ``[B]`` in [0, 1] that an edit moves only the way it asks for, see `lifted`."""
    low, high = (explain.log_odds(torch.from_numpy(scores)) for scores in (before, after))
    return np.asarray(lifted(low, high, torch.from_numpy(liked)).sigmoid())
