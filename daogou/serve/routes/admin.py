"""The run that answers, the whole store out and in, and whether all is well."""

import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from daogou.errors import DataError
from daogou.serve.bodies import LineupBody, ReloadBody
from daogou.serve.database import StoreError
from daogou.serve.door import Door
from daogou.serve.meters import CONTENT_TYPE
from daogou.serve.problem import REFUSALS, Json
from daogou.serve.service import Service
from daogou.serve.tables import Document
from daogou.serve.wire import IMPORT_PATH

_LINES = "application/x-ndjson"


def admin(service: Service, door: Door) -> APIRouter:
    """``/v1/models``, ``/v1/admin/*`` and ``/metrics``."""
    routes = APIRouter(tags=["admin"], responses=REFUSALS)
    needs_admin = [Depends(door.needs("admin"))]
    needs_server = [Depends(door.needs("server"))]

    @routes.get("/v1/models", dependencies=needs_server)
    async def models() -> Json:
        """The runs that answer: tasks, catalogue, when the log ends, and whom each answers.

        The first is the main one. Of the one in the shadow there is how far it agrees with that.
        """
        return Json(service.answerers.described())

    @routes.post("/v1/admin/reload", dependencies=needs_admin)
    async def reload(body: ReloadBody) -> Json:
        """Answer from another run, without a pause; one that is not whole changes nothing."""
        run = Path(body.run) if body.run is not None else None
        return Json(await run_in_threadpool(service.answerers.reload, run))

    @routes.post("/v1/admin/rollback", dependencies=needs_admin)
    async def rollback() -> Json:
        """Answer from the run that answered before, which is still in memory."""
        return Json(await run_in_threadpool(service.answerers.roll_back))

    @routes.put("/v1/admin/lineup", dependencies=needs_admin)
    async def lineup(body: LineupBody) -> Json:
        """Have runs answer shares of the users, and one be asked in the shadow.

        Who is not in a share is answered by the main run. Runs that are not named any more are
        let go.
        """
        variants = [(Path(each.run), each.share) for each in body.variants]
        shadow = Path(body.shadow) if body.shadow is not None else None
        return Json(await run_in_threadpool(service.answerers.line_up, variants, shadow))

    @routes.get(
        "/v1/admin/export",
        dependencies=needs_admin,
        response_class=StreamingResponse,
        responses={200: {"content": {_LINES: {}}}},
    )
    def export() -> StreamingResponse:
        """Every row of the store but keys, a line each, as of one moment."""
        return StreamingResponse(_pieces(service.store.export()), media_type=_LINES)

    @routes.post(
        IMPORT_PATH,
        dependencies=needs_admin,
        openapi_extra={"requestBody": {"required": True, "content": {_LINES: {}}}},
    )
    async def restore(request: Request) -> Json:
        """Take in an export: all of it, or nothing if a line is wrong.

        A row that is there already stays as it is.
        """
        with tempfile.TemporaryFile() as file:
            async for chunk in request.stream():
                await run_in_threadpool(file.write, chunk)
            file.seek(0)
            added = await run_in_threadpool(service.store.restore, _lines(file))
        await service.written()
        return Json({"added": added})

    @routes.get(
        "/metrics",
        dependencies=needs_server,
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def metrics() -> Response:
        """Counters for Prometheus."""
        page = await run_in_threadpool(service.meters.page)
        return Response(page, media_type=CONTENT_TYPE)

    return routes


def health(service: Service) -> APIRouter:
    """``/healthz`` and ``/readyz``, which need no key."""
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz")
    async def alive() -> Json:
        """Whether the server runs."""
        return Json({"status": "ok"})

    @routes.get("/readyz", responses={503: {"description": "The store is away"}})
    async def ready() -> Json:
        """Whether the server has all it answers from."""
        try:
            await service.keep(service.store.database.ping)
        except (StoreError, TimeoutError):
            return Json({"status": "degraded", "model": True, "store": False}, 503)
        return Json({"status": "ok", "model": True, "store": True})

    return routes


def _pieces(rows: Iterator[Document]) -> Iterator[str]:
    while some := list(itertools.islice(rows, 1000)):
        yield "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some)


def _lines(file: BinaryIO) -> Iterator[Any]:
    for number, line in enumerate(file, 1):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            raise DataError(
                f"line {number}: not JSON; give a file of `GET /v1/admin/export`"
            ) from None
