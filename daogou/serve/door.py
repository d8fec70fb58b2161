"""Who may come in: a request to the right to ask, or to a refusal."""

from collections.abc import Awaitable, Callable
from math import ceil
from pathlib import Path
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from daogou.serve.auth import Buckets, KeyRing, is_at_home, may
from daogou.serve.service import Service

_BEARER: Final = HTTPBearer(auto_error=False, description="A key of `daogou keys`.")
Check = Callable[..., Awaitable[None]]


class Door:
    """Asks each request for its key, and how often it came.

    ``at_home`` is whether the server listens to this machine alone, whose programs then need no
    key; ``counted`` a file in which several processes count together how often somebody came.
    """

    def __init__(self, service: Service, *, at_home: bool, counted: Path | None = None) -> None:
        self._ring = KeyRing(service.store)
        self._service, self._at_home = service, at_home
        rate = service.limits.rate_per_s, service.limits.burst, service.store.now_us
        if counted is None:
            self._wait_s = Buckets(*rate).wait_s
        else:
            from daogou.serve.shared import SharedBuckets  # locks that not every system has

            self._wait_s = SharedBuckets(*rate, counted).wait_s

    def needs(self, scope: str) -> Check:
        """A dependency of routes that a key of ``scope`` or more opens.

        Answers 401 without a key that is known, 403 if its scope is too narrow, 429 if its holder
        came too often: one whose key others may hold too, or who has none, is told by address.
        """

        async def check(
            request: Request,
            given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
        ) -> None:
            address = request.client.host if request.client else ""
            key = None
            if given is not None:
                text = given.credentials
                key = await self._service.keep(lambda: self._ring.key_of(text))
            held = "admin" if key is None and given is None and self._home(request) else None
            held = key.scope if key is not None else held
            who = address if key is None else key.key_id
            wait_s = self._wait_s(f"{who} {address}" if held == "public" else who)
            if wait_s:
                raise HTTPException(
                    429, "too many requests", headers={"Retry-After": str(ceil(wait_s))}
                )
            if held is None:
                raise HTTPException(
                    401,
                    "no key that is known; send Authorization: Bearer KEY, `daogou keys` makes one",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            if not may(held, scope):
                raise HTTPException(403, f"this key is {held}; {scope} is needed")

        return check

    def _home(self, request: Request) -> bool:
        client = request.client.host if request.client else ""
        return self._at_home and is_at_home(client, dict(request.headers))
