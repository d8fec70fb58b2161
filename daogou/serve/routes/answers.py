"""Answers: recommend, rank, match, explain, and the attributes of titles."""

from fastapi import APIRouter, Depends
from starlette.exceptions import HTTPException

from daogou.guide import Guide
from daogou.guide.browse import Filters
from daogou.serve.bodies import (
    About,
    ExplainBody,
    ExtractBody,
    MatchBody,
    RankBody,
    RecommendBody,
)
from daogou.serve.door import Door
from daogou.serve.problem import REFUSALS, Json
from daogou.serve.routes.rows import check_batch
from daogou.serve.service import Service, Who, popular
from daogou.serve.store import Document

MOST_LEFT_OUT = 1000  # products that are asked for beyond k, in place of those not to be shown


def answers(service: Service, door: Door) -> APIRouter:
    """``POST /v1/recommend``, ``rank``, ``match``, ``explain``, ``attributes:extract``."""
    public = [Depends(door.needs("public"))]
    routes = APIRouter(prefix="/v1", tags=["answers"], responses=REFUSALS, dependencies=public)
    server = [Depends(door.needs("server"))]

    @routes.post("/recommend")
    async def recommend(body: RecommendBody) -> Json:
        """The best products for a user or a session, with reasons.

        What they did since the run was fitted counts. The answer is kept under its
        ``request_id``; send it with the events that follow. ``degraded`` says that the model or
        the store was away: then the products are popular ones, or the newest events are missing.
        """
        most = service.limits.k
        if body.k > most:
            raise HTTPException(422, f"k: {body.k}; {most} are the most")
        out = {*body.exclude, *await service.hidden()}
        wishes: Document = {
            "category": body.category, "price_max": body.price_max, "where": body.where,
        }  # fmt: skip

        def question(guide: Guide, asker: Document) -> Document:
            found = guide.recommend(
                **asker, **wishes, k=body.k + min(len(out), MOST_LEFT_OUT), context=body.context,
                lang=body.lang,
            )  # fmt: skip
            found["items"] = [line for line in found["items"] if line["item"] not in out][: body.k]
            return found

        def instead(guide: Guide) -> list[str]:
            wanted = Filters(body.category, price_max=body.price_max, where=body.where, exclude=out)
            return popular(guide, body.k, wanted.kept(guide.catalogue))

        return Json(
            await service.show(
                "recommend", who_of(body), question, instead=instead, scenario=body.scenario
            )
        )

    @routes.post("/rank")
    async def rank(body: RankBody) -> Json:
        """Given products in the order of their scores for a user or a session, each once."""
        check_batch("items", body.items, service)
        asked = list(dict.fromkeys(body.items))

        def question(guide: Guide, asker: Document) -> Document:
            found = guide.score(asker["user"], asked, context=body.context, events=asker["events"])
            found["items"].sort(key=lambda line: -line["score"])
            return found

        return Json(
            await service.show(
                "rank", who_of(body), question, instead=lambda _: asked, scenario=body.scenario
            )
        )

    @routes.post("/match")
    async def match(body: MatchBody) -> Json:
        """How well given products fit a user or a session, best first."""
        check_batch("items", body.items, service)
        return Json(
            await service.ask(
                "match",
                who_of(body),
                lambda guide, asker: guide.match(asker.pop("user"), body.items, **asker),
            )
        )

    @routes.post("/explain", dependencies=server)
    async def explain(body: ExplainBody) -> Json:
        """What each input did to the score of a product."""
        return Json(
            await service.ask(
                "explain",
                who_of(body),
                lambda guide, asker: guide.explain(
                    asker["user"],
                    body.item,
                    context=body.context,
                    events=asker["events"],
                    lang=body.lang,
                ),
            )
        )

    @routes.post("/attributes:extract")
    async def extract(body: ExtractBody) -> Json:
        """The attribute values in titles: ``[start, end, attribute, confidence]`` each."""
        check_batch("texts", body.texts, service)
        guide = service.loaded.guide
        return Json({"texts": await service.think(lambda: guide.extract_many(body.texts))})

    return routes


def who_of(body: About) -> Who:
    """Whom a body asks for."""
    if body.user is None and body.session is None:
        raise HTTPException(422, "user: give user, session, or both: whom is the answer for?")
    return Who(body.user, body.session)
