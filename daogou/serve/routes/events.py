"""Events in."""

from fastapi import APIRouter, Depends

from daogou.serve.bodies import EventsBody
from daogou.serve.door import Door
from daogou.serve.problem import REFUSALS, Json
from daogou.serve.routes.rows import check_batch
from daogou.serve.service import Service


def events(service: Service, door: Door) -> APIRouter:
    """``POST /v1/events``."""
    routes = APIRouter(prefix="/v1", tags=["events"], responses=REFUSALS)

    @routes.post("/events", status_code=202, dependencies=[Depends(door.needs("public"))])
    async def send_events(body: EventsBody) -> Json:
        """Keep what happened.

        An accepted event is on disk when the answer is sent. Each row is ``accepted``,
        ``duplicate`` (its ``event_id`` is known, nothing was changed) or ``rejected`` with the
        reason.
        """
        check_batch("events", body.events, service)
        return Json(await service.keep(lambda: service.take(body.events)), 202)

    return routes
