"""What went wrong to an answer of RFC 9457: ``application/problem+json`` with the reasons."""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import PydanticSerializationError, to_json
from starlette.exceptions import HTTPException

from daogou.artifact import plain
from daogou.errors import ArtifactError, ConfigError, DataError
from daogou.serve.database import StoreError
from daogou.serve.events import reasons

log = logging.getLogger("daogou.serve")


class Json(Response):
    """A document as JSON; undefined numbers are null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        try:
            return to_json(content, inf_nan_mode="null", fallback=plain)
        except (PydanticSerializationError, UnicodeEncodeError):
            # Half a character becomes its escape, which is what JSON writes for it.
            text = json.dumps(plain(content), ensure_ascii=False, separators=(",", ":"))
            return text.encode("utf-8", "backslashreplace")


class Problem(Json):
    """A refusal, with every reason."""

    media_type = "application/problem+json"

    def __init__(self, status: int, *lines: str, headers: Mapping[str, str] | None = None) -> None:
        title = HTTPStatus(status).phrase
        super().__init__(
            {
                "type": "about:blank",
                "title": title,
                "status": status,
                "detail": "; ".join(lines) or title,
                "reasons": list(lines),
            },
            status,
            {**(headers or {})},
        )


# What `/openapi.json` says of any refusal.
PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["title", "status", "detail", "reasons"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "reasons": {"type": "array", "items": {"type": "string"}},
    },
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": words,
        "content": {"application/problem+json": {"schema": PROBLEM_SCHEMA}},
    }
    for status, words in (
        (401, "No key, or none that is known"),
        (403, "The key's scope does not reach that far"),
        (413, "The body is too large"),
        (422, "Something in the request is wrong; the reasons say what"),
        (429, "Too many requests; Retry-After says when the next may come"),
        (503, "The store or the model is away; try again"),
    )
}


def answer_problems(app: FastAPI) -> None:
    """Have an app answer whatever is raised with a `Problem`."""

    @app.exception_handler(RequestValidationError)
    async def _(_request: Request, error: RequestValidationError) -> Problem:
        found = error.errors()
        if any(one["type"] == "json_invalid" for one in found):
            return Problem(400, f"body: not JSON ({found[0].get('ctx', {}).get('error', '')})")
        return Problem(422, *reasons(found))

    @app.exception_handler(HTTPException)
    async def _(_request: Request, error: HTTPException) -> Problem:
        return Problem(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(StoreError)
    async def _(_request: Request, error: StoreError) -> Problem:
        log.error("%s", error)
        return Problem(503, "the store is away; try again", headers={"Retry-After": "2"})

    @app.exception_handler(ArtifactError)
    @app.exception_handler(DataError)
    @app.exception_handler(ConfigError)
    async def _(_request: Request, error: Exception) -> Problem:
        return Problem(422, *str(error).split("\n"))

    @app.exception_handler(TimeoutError)
    async def _(_request: Request, _error: TimeoutError) -> Problem:
        return Problem(503, "no answer in time; try again", headers={"Retry-After": "2"})

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> Problem:
        log.error("%s %s", request.method, request.scope.get("path"), exc_info=error)
        return Problem(500, "a fault of this server; its log says more")
