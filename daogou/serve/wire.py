"""What surrounds every request: its time, its size, and the headers of its answer."""

import asyncio
import logging
import time
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daogou.serve.limits import Limits
from daogou.serve.meters import Meters
from daogou.serve.problem import Problem

log = logging.getLogger("daogou.access")
IMPORT_PATH: Final = "/v1/admin/import"
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class Watched:
    """Counts and logs each request by its route, and sets what browsers should keep to.

    A log line has no id, no query and no header: neither people nor keys are in it.
    """

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self.app, self.meters = app, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            passed_s = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if route != "none" else "any"
            self.meters.requests.labels(method, route, str(status)).observe(passed_s)
            log.info("%s %s %d %.1f ms", method, route, status, passed_s * 1e3)


class Bounded:
    """Refuses a body that is too large, or that does not arrive in time."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_import = scope["path"] == IMPORT_PATH
        most = self.limits.import_bytes if is_import else self.limits.body_bytes
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if not told.isdigit() or int(told) > most:
            await Problem(413, f"body: {most} bytes are the most")(scope, receive, send)
            return
        taken, whole = 0, False

        async def receiving() -> Message:
            nonlocal taken, whole
            if whole:  # now it is a wait for the client to go
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self.limits.timeout_s)
            except TimeoutError:
                raise HTTPException(408, "body: it did not arrive in time") from None
            taken += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if taken > most:
                raise HTTPException(413, f"body: {most} bytes are the most")
            return message

        await self.app(scope, receiving, send)
