"""A service to an app: routes, who may ask them, and what surrounds them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi

from daogou.serve.bodies import ROWS
from daogou.serve.door import Door
from daogou.serve.problem import answer_problems
from daogou.serve.routes.admin import admin, health
from daogou.serve.routes.answers import answers
from daogou.serve.routes.browse import browse
from daogou.serve.routes.catalogue import items, users
from daogou.serve.routes.events import events
from daogou.serve.routes.page import page
from daogou.serve.routes.profile import profile
from daogou.serve.service import Service
from daogou.serve.wire import Bounded, Watched

_TAGS: Final = (
    ("events", "What happened, in; durable when it is accepted."),
    ("answers", "Products for somebody, users for a product, and reasons."),
    ("profile", "Who somebody probably is, and what they set and forbid."),
    ("items", "Products as the shop describes them."),
    ("users", "Users as the shop describes them, their events, and forgetting."),
    ("admin", "The run that answers, the store as a whole, and counters."),
    ("page", "The page that guides shoppers, and what it asks about the shop."),
    ("health", "Whether all is well."),
)


def make_app(
    service: Service,
    *,
    at_home: bool,
    origins: Sequence[str] = (),
    counted: Path | None = None,
) -> FastAPI:
    """The app that answers from a service, which it closes when it ends.

    ``at_home`` and ``counted`` as `Door` has them. Pages of ``origins`` may call it; of others
    none.
    """

    @asynccontextmanager
    async def living(_app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="Daogou 导购",
        version="1",
        summary="One jointly trained model that recommends, matches, profiles and reads titles.",
        openapi_tags=[{"name": name, "description": words} for name, words in _TAGS],
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        lifespan=living,
    )
    door = Door(service, at_home=at_home, counted=counted)
    for routes in (events, answers, browse, profile, items, users, admin, page):
        app.include_router(routes(service, door))
    app.include_router(health(service))
    answer_problems(app)
    app.add_middleware(Bounded, limits=service.limits)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(Watched, meters=service.meters)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


def _described(app: FastAPI) -> dict[str, Any]:
    """The API's description, with the rows that are judged one by one."""
    if not app.openapi_schema:
        made = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes,
            tags=app.openapi_tags,
        )  # fmt: skip
        for row in ROWS:
            made["components"]["schemas"][row.__name__] = row.model_json_schema()
        app.openapi_schema = made
    return app.openapi_schema
