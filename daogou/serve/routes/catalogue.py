"""Products and users as the shop describes them."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.exceptions import HTTPException

from daogou.serve.bodies import (
    ItemBody,
    ItemChange,
    ItemRow,
    ItemsBody,
    UserBody,
    UserRow,
    UsersBody,
)
from daogou.serve.door import Door
from daogou.serve.events import Id
from daogou.serve.problem import REFUSALS, Json
from daogou.serve.routes.rows import check_batch, read_rows
from daogou.serve.service import Service
from daogou.serve.spoken import event_document
from daogou.serve.things import Thing
from daogou.serve.values import iso

Item = Annotated[Id, Path(alias="item")]
User = Annotated[Id, Path(alias="user")]
After = Annotated[Id | None, Query(description="The key that the page comes after.")]
Size = Annotated[int, Query(ge=1, le=1000)]


def items(service: Service, door: Door) -> APIRouter:
    """``/v1/items``: what the store says of products, over what the run says of them.

    Once a write is answered, answers follow it.
    """
    server = [Depends(door.needs("server"))]
    routes = APIRouter(prefix="/v1/items", tags=["items"], responses=REFUSALS, dependencies=server)
    store = service.store

    @routes.put("")
    async def put_items(body: ItemsBody) -> Json:
        """Write products, or write them anew; a wrong row is told and does not stop the others."""
        check_batch("items", body.items, service)
        right, wrong = read_rows(ItemRow, body.items)
        things = {row.item: (row.fields, row.hidden) for row in right}
        await service.keep(lambda: store.items.put(things))
        await service.written()
        return Json({"written": len(things), "rejected": wrong})

    @routes.get("")
    async def list_items(after: After = None, limit: Size = 100) -> Json:
        """Products in the order of their keys."""
        found = await service.keep(lambda: store.items.page(after=after or "", limit=limit))
        return Json({"items": [item_document(each) for each in found]})

    @routes.get("/{item}")
    async def get_item(item: Item) -> Json:
        """One product."""
        return Json(item_document(_there(await service.keep(lambda: store.items.get(item)), item)))

    @routes.put("/{item}")
    async def put_item(item: Item, body: ItemBody) -> Json:
        """Write a product, or write it anew."""
        await service.keep(lambda: store.items.put({item: (body.fields, body.hidden)}))
        await service.written()
        return Json({"written": 1})

    @routes.patch("/{item}")
    async def change_item(item: Item, body: ItemChange) -> Json:
        """Change some fields of a product."""
        changed = await service.keep(lambda: store.items.change(item, body.fields, body.hidden))
        await service.written()
        return Json(item_document(_there(changed, item)))

    @routes.delete("/{item}")
    async def remove_item(item: Item) -> Json:
        """Take away what the store says of a product.

        One that the run lacks is in no list from now on; of one that it has what it says counts
        again: hide that one instead.
        """
        if not await service.keep(lambda: store.items.remove(item)):
            raise _absent(item)
        await service.written()
        return Json({"removed": 1})

    return routes


def users(service: Service, door: Door) -> APIRouter:
    """``/v1/users``: what the store says of users, their events, and forgetting them."""
    server = [Depends(door.needs("server"))]
    routes = APIRouter(prefix="/v1/users", tags=["users"], responses=REFUSALS, dependencies=server)
    store = service.store

    @routes.put("")
    async def put_users(body: UsersBody) -> Json:
        """Write users, or write them anew; a wrong row is told and does not stop the others."""
        check_batch("users", body.users, service)
        right, wrong = read_rows(UserRow, body.users)
        things = {row.user: (row.fields, False) for row in right}
        await service.keep(lambda: store.users.put(things))
        return Json({"written": len(things), "rejected": wrong})

    @routes.get("")
    async def list_users(after: After = None, limit: Size = 100) -> Json:
        """Users in the order of their keys."""
        found = await service.keep(lambda: store.users.page(after=after or "", limit=limit))
        return Json({"users": [user_document(each) for each in found]})

    @routes.get("/{user}")
    async def get_user(user: User) -> Json:
        """One user."""
        return Json(user_document(_there(await service.keep(lambda: store.users.get(user)), user)))

    @routes.put("/{user}")
    async def put_user(user: User, body: UserBody) -> Json:
        """Write a user, or write them anew."""
        await service.keep(lambda: store.users.put({user: (body.fields, False)}))
        return Json({"written": 1})

    @routes.patch("/{user}")
    async def change_user(user: User, body: UserBody) -> Json:
        """Change some fields of a user; one given null is taken away."""
        changed = await service.keep(lambda: store.users.change(user, body.fields, None))
        return Json(user_document(_there(changed, user)))

    @routes.delete("/{user}")
    async def forget_user(user: User) -> Json:
        """Forget a user: every row about them, in every table; what was removed, by table.

        ``in_run`` says whether the run that answers was trained on them: it knows them until the
        next one, fitted without them, is loaded.
        """
        removed = await service.keep(lambda: store.forget(user))
        in_run = user in service.answerers.main.guide.artifact.store.user_rows
        return Json({"user": user, "removed": removed, "in_run": in_run})

    @routes.get("/{user}/events")
    async def events_of_user(user: User, last: Size = 100) -> Json:
        """The last events of a user, oldest first."""
        found = await service.keep(lambda: store.events_of(user=user, last=last))
        return Json({"user": user, "events": [event_document(each) for each in found]})

    return routes


def item_document(thing: Thing) -> dict[str, Any]:
    """A product as JSON."""
    return {
        "item": thing.key,
        "fields": dict(thing.fields),
        "hidden": thing.hidden,
        "updated": iso(thing.updated_us),
    }


def user_document(thing: Thing) -> dict[str, Any]:
    """A user as JSON."""
    return {"user": thing.key, "fields": dict(thing.fields), "updated": iso(thing.updated_us)}


def _there(found: Thing | None, key: str) -> Thing:
    if found is None:
        raise _absent(key)
    return found


def _absent(key: str) -> HTTPException:
    return HTTPException(404, f"the store has no {key!r}")
