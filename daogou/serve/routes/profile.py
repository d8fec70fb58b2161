"""Who somebody probably is, and what they set and forbid."""

from fastapi import APIRouter, Depends

from daogou.guide.edit import read_edits
from daogou.serve.bodies import EditBody, Lang
from daogou.serve.door import Door
from daogou.serve.lineup import Who
from daogou.serve.problem import REFUSALS, Json
from daogou.serve.routes.catalogue import User
from daogou.serve.service import Service


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
        """Set columns to values, forbid values, and let columns go with null.

        Recommendations, matches and the profile follow at once. What the run has no use for, or
        what contradicts what was said before, is refused.
        """
        forbid = {
            column: values if isinstance(values, list) or values is None else [values]
            for column, values in body.forbid.items()
        }
        before = await service.keep(lambda: store.edits_of(user))
        after = {
            verb: {
                column: values
                for column, values in {**before[verb], **changed}.items()
                if values is not None
            }
            for verb, changed in (("set", body.set), ("forbid", forbid))
        }
        guide = service.answerers.guide
        await service.think(lambda: read_edits(guide.scorer, guide.catalogue, after))
        await service.keep(lambda: store.edit(user, body.set, forbid))
        return Json({"user": user, "edits": await service.keep(lambda: store.edits_of(user))})

    @routes.delete("")
    async def clear_profile(user: User) -> Json:
        """Let go of all that a user set and forbade."""
        return Json({"user": user, "removed": await service.keep(lambda: store.clear_edits(user))})

    return routes
