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
from daogou.serve.lesser import popular
from daogou.serve.lineup import Who
from daogou.serve.problem import REFUSALS, Json
from daogou.serve.routes.rows import check_batch
from daogou.serve.service import Service
from daogou.serve.tables import Document


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
        wanted: Document = body.model_dump(
            include={"category", "price_min", "price_max", "where", "exclude"}
        )
        wishes: Document = body.model_dump(include={"k", "context", "diversity", "lang"})
        return Json(
            await service.show(
                "recommend",
                who_of(body),
                lambda guide, asker: guide.recommend(**asker, **wanted, **wishes),
                instead=lambda guide: popular(
                    guide, body.k, Filters(**wanted).kept(guide.catalogue)
                ),
                scenario=body.scenario,
            )
        )

    @routes.post("/rank")
    async def rank(body: RankBody) -> Json:
        """Given products in the order of their scores for a user or a session, each once.

        Those that carry what the user forbids come last.
        """
        check_batch("items", body.items, service)
        asked = list(dict.fromkeys(body.items))

        def question(guide: Guide, asker: Document) -> Document:
            found = guide.score(asker.pop("user"), asked, context=body.context, **asker)
            found["items"].sort(key=lambda line: ("forbidden" in line, -line["score"]))
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
                    asker.pop("user"), body.item, context=body.context, lang=body.lang, **asker
                ),
            )
        )

    @routes.post("/attributes:extract")
    async def extract(body: ExtractBody) -> Json:
        """The attribute values in titles: ``[start, end, attribute, confidence]`` each."""
        check_batch("texts", body.texts, service)
        guide = service.answerers.guide
        return Json({"texts": await service.think(lambda: guide.extract_many(body.texts))})

    return routes


def who_of(body: About) -> Who:
    """Whom a body asks for."""
    if body.user is None and body.session is None:
        raise HTTPException(422, "user: give user, session, or both: whom is the answer for?")
    return Who(body.user, body.session)
