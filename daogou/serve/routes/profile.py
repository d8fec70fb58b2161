"""Who somebody probably is, and what they set and forbid."""

from typing import Any

from fastapi import APIRouter, Depends
from starlette.exceptions import HTTPException

from daogou.errors import unknown
from daogou.guide import Guide
from daogou.serve.bodies import EditBody, Lang
from daogou.serve.door import Door
from daogou.serve.problem import REFUSALS, Json
from daogou.serve.routes.catalogue import User
from daogou.serve.service import Service, Who


def profile(service: Service, door: Door) -> APIRouter:
    """``/v1/users/{user}/profile``."""
    server = [Depends(door.needs("server"))]
    routes = APIRouter(
        prefix="/v1/users/{user}/profile", tags=["profile"], responses=REFUSALS, dependencies=server
    )
    store = service.store

    @routes.get("")
    async def get_profile(user: User, lang: Lang = "en") -> Json:
        """What a user's behaviour says about them, with evidence, and their edits beside it."""
        found = await service.ask(
            "profile",
            Who(user),
            lambda guide, asker: guide.profile(asker.pop("user"), lang=lang, **asker),
        )
        return Json({**found, "edits": await service.keep(lambda: store.edits_of(user))})

    @routes.patch("")
    async def edit_profile(user: User, body: EditBody) -> Json:
        """Set columns to values, forbid values, and let columns go with null."""
        forbid = {
            column: values if isinstance(values, list) or values is None else [values]
            for column, values in body.forbid.items()
        }
        wrong = [
            f"{verb}.{column}: {reason}"
            for verb, edits in (("set", body.set), ("forbid", forbid))
            for column, value in edits.items()
            for reason in _wrong(service.loaded.guide, column, value)
        ]
        if wrong:
            raise HTTPException(422, "; ".join(wrong))
        await service.keep(lambda: store.edit(user, body.set, forbid))
        return Json({"user": user, "edits": await service.keep(lambda: store.edits_of(user))})

    @routes.delete("")
    async def clear_profile(user: User) -> Json:
        """Let go of all that a user set and forbade."""
        return Json({"user": user, "removed": await service.keep(lambda: store.clear_edits(user))})

    return routes


def _wrong(guide: Guide, column: str, value: Any) -> list[str]:
    """What is wrong with an edit of a column: its name, or values that are no single ones."""
    shop = guide.artifact.shop
    profiled = shop.users.profile if shop.users else ()
    known = {*profiled, *guide.catalogue.columns}
    if column not in known:
        return [unknown(column, known)]
    values = value if isinstance(value, list) else [value]
    single = all(each is None or isinstance(each, str | int | float) for each in values)
    return [] if single else ["a value is text, a number, true or false"]
