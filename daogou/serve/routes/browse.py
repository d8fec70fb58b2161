"""Lists for anybody, search, the guided dialogue, and the users whom a product suits."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.exceptions import HTTPException

from daogou.guide.browse import Filters
from daogou.serve.bodies import GuideBody, SearchBody, SimilarBody, Text
from daogou.serve.door import Door
from daogou.serve.lesser import popular
from daogou.serve.lineup import Who
from daogou.serve.problem import REFUSALS, Json
from daogou.serve.routes.catalogue import Item
from daogou.serve.service import Service

Count = Annotated[int, Query(ge=1, le=100)]
Category = Annotated[Text | None, Query(description="Only this category.")]
_STATE = {"user", "query", "where", "answers", "edits", "lang"}  # what a dialogue sends back
Price = Annotated[float | None, Query(allow_inf_nan=False, description="At most this price.")]


def browse(service: Service, door: Door) -> APIRouter:
    """``/v1/trending``, ``latest``, ``search``, ``guide``; an item's ``similar``, ``audience``."""
    public = [Depends(door.needs("public"))]
    routes = APIRouter(prefix="/v1", tags=["answers"], responses=REFUSALS)

    @routes.get("/trending", dependencies=public)
    async def trending(k: Count = 10, category: Category = None, price_max: Price = None) -> Json:
        """The products with the most events lately, those that were sent here among them."""
        guide = service.answerers.guide
        news, whole = await service.keep(lambda: service.news(guide))
        found = await service.think(
            lambda: guide.trending(k=k, category=category, price_max=price_max, events=news)
        )
        return Json({"items": found["items"], "degraded": not whole})

    @routes.get("/latest", dependencies=public)
    async def latest(k: Count = 10, category: Category = None, price_max: Price = None) -> Json:
        """The newest products."""
        guide = service.answerers.guide
        return Json(
            await service.think(lambda: guide.latest(k=k, category=category, price_max=price_max))
        )

    @routes.post("/search", dependencies=public)
    async def search(body: SearchBody) -> Json:
        """Products whose words, attributes and columns fit a query, with counts to filter by.

        For a user or a session they are ranked by what they like, too.
        """
        if body.k > service.limits.k:
            raise HTTPException(422, f"k: {body.k}; {service.limits.k} are the most")
        wishes = body.model_dump(exclude={"user", "session"})
        if body.user is None and body.session is None:
            guide = service.answerers.guide
            return Json(await service.think(lambda: guide.search(**wishes)))
        return Json(
            await service.ask(
                "search",
                Who(body.user, body.session),
                lambda guide, asker: guide.search(
                    user=asker["user"], events=asker["events"], **wishes
                ),
            )
        )

    @routes.post("/guide", dependencies=public)
    async def guide(body: GuideBody) -> Json:
        """A turn of the guided dialogue: what narrows the choice most, and products so far.

        Send the answer's ``state`` back with the chosen chip's ``answer`` added to its ``answers``.
        The products are kept under ``request_id``, as those of recommend are. ``degraded`` with a
        ``fallback`` says that the model was away: popular products, and no question.
        """
        if body.k > service.limits.k:
            raise HTTPException(422, f"k: {body.k}; {service.limits.k} are the most")
        wishes = body.model_dump(exclude={"user", "session", "edits"})
        return Json(
            await service.show(
                "guide",
                Who(body.user, body.session),
                lambda found, asker: found.ask(**(asker | _said(body)), **wishes),
                instead=lambda guide: popular(
                    guide, body.k, Filters(where=body.where).kept(guide.catalogue)
                ),
                scenario="guide",
                bare={
                    "question": None, "done": None, "left": None, "relaxed": [],
                    "state": body.model_dump(include=_STATE),
                },
            )
        )  # fmt: skip

    @routes.post("/items/{item}/similar", dependencies=public)
    async def similar(item: Item, body: SimilarBody) -> Json:
        """The products most like one, most alike first."""
        if body.k > service.limits.k:
            raise HTTPException(422, f"k: {body.k}; {service.limits.k} are the most")
        wishes = body.model_dump()
        guide = service.answerers.guide
        return Json(await service.think(lambda: guide.similar(item, **wishes)))

    @routes.post("/items/{item}/audience", dependencies=[Depends(door.needs("server"))])
    async def audience(item: Item, k: Count = 10) -> Json:
        """The users whom a product suits best."""
        found = service.answerers.guide
        return Json(await service.think(lambda: found.audience(item, k=k)))

    return routes


def _said(body: GuideBody) -> dict[str, object]:
    """What a state brings of edits, in place of those that are kept."""
    return {"edits": body.edits} if body.edits else {}
