"""The page that guides shoppers, and what it asks that no other client needs."""

import base64
import hashlib
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.exceptions import HTTPException

from daogou.guide import Guide
from daogou.guide.words import called, column_name
from daogou.report.affinity import mean_affinity
from daogou.report.found import Found, found_in, kept_evaluation
from daogou.report.gates import gate_shares
from daogou.report.run import run_page
from daogou.serve.bodies import Lang, ProductsBody
from daogou.serve.door import Door
from daogou.serve.lineup import Loaded
from daogou.serve.problem import REFUSALS, Json
from daogou.serve.routes.rows import check_batch
from daogou.serve.service import Service

_FOLDER: Final = "page"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SHOPPERS: Final = 12  # whom the page offers to shop as


def page(service: Service, door: Door) -> APIRouter:
    """``/``, ``/page/*`` and what they ask: ``/v1/shop``, ``/v1/products``, ``/v1/models/*``."""
    routes = APIRouter(tags=["page"], responses=REFUSALS)
    needs_public = [Depends(door.needs("public"))]
    needs_server = [Depends(door.needs("server"))]
    served = {each.name: each.read_bytes() for each in _page_files()}
    tags = {name: f'"{hashlib.sha256(data).hexdigest()[:16]}"' for name, data in served.items()}

    def file(name: str, request: Request) -> Response:
        if name not in served:
            raise HTTPException(404, f"the page has no {name!r}")
        headers = {
            "Content-Security-Policy": _POLICY,
            "Cache-Control": "no-cache",  # asked for each time, sent when it has changed
            "ETag": tags[name],
        }
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        return Response(served[name], media_type=_TYPES[Path(name).suffix], headers=headers)

    @routes.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return file("index.html", request)

    @routes.get("/page/{name}", include_in_schema=False)
    async def part(name: str, request: Request) -> Response:
        return file(name, request)

    @routes.get("/v1/shop", dependencies=needs_server)
    async def shop(lang: Lang = "en") -> Json:
        """What the shop has: its stages, its columns by name, and some shoppers.

        ``absent`` says for each family of tasks that was not learnt why. ``title``, ``category``,
        ``price`` and ``colour`` are the columns that a shopper would call so, null without one.
        """
        return Json(described_shop(service.answerers.main.guide, lang))

    @routes.post("/v1/products", dependencies=needs_public)
    async def products(body: ProductsBody) -> Json:
        """What the catalogue says of products, in the order asked; of an unknown one only so."""
        check_batch("items", body.items, service)
        guide = service.answerers.main.guide
        return Json({"products": [product(guide, item) for item in body.items]})

    @routes.get("/v1/models/documents", dependencies=needs_server)
    async def documents(lang: Annotated[Lang, Query()] = "en") -> Json:
        """How the run that answers was learnt and judged: what its folder holds of that."""
        loaded = service.answerers.main
        found = await service.think(lambda: documents_of(loaded))
        fit = loaded.guide.artifact.manifest["fit"]
        return Json(
            {
                "parameters": fit["parameters"],
                "best_epoch": fit["best_epoch"],
                "validation": fit["validation"],
                "evaluation": found.evaluation,
                "epochs": found.epochs,
                "receipt": found.receipt,
                "gates": gate_shares(found, lang),
                "affinity": mean_affinity(found.probes),
            }
        )

    @routes.get(
        "/v1/models/report",
        dependencies=needs_server,
        response_class=Response,
        responses={200: {"content": {"text/html": {}}}},
    )
    async def report(lang: Annotated[Lang, Query()] = "en") -> Response:
        """The whole report on the run that answers, as one page."""
        loaded = service.answerers.main
        html = await service.think(lambda: run_page(documents_of(loaded), lang=lang))
        return Response(
            html,
            media_type=_TYPES[".html"],
            headers={
                "Content-Security-Policy": f"default-src 'none'; style-src {_hashed_style(html)}; "
                "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            },
        )

    return routes


def described_shop(guide: Guide, lang: str) -> dict[str, Any]:
    """A shop as its page needs it."""
    artifact, catalogue = guide.artifact, guide.catalogue
    shop = artifact.shop
    events, users = shop.events, shop.users
    stages = () if events is None else events.funnel or events.labels
    columns = [
        *catalogue.columns,
        *((*users.columns, *users.profile) if users else ()),
        *(events.context if events else ()),
        *artifact.transform.attributes,
    ]
    heads = artifact.model.heads
    families = ("funnel", "match", "profile", "extract")
    why = "its tasks are switched off under [tasks]"
    return {
        "name": shop.name,
        "items": catalogue.n_items,
        "stages": list(stages),
        "absent": {name: shop.absent.get(name, why) for name in families if name not in heads},
        "names": {name: column_name(name, lang) for name in columns},
        "title": catalogue.title,
        **{word: called(word, catalogue.columns) for word in ("category", "price", "colour")},
        "users": list(islice(artifact.store.user_rows, _SHOPPERS)),
    }


def product(guide: Guide, item: str) -> dict[str, Any]:
    """A product as a card shows it; ``columns`` are those of single values."""
    catalogue = guide.catalogue
    row = catalogue.row(item)
    values = {name: catalogue.value(name, row) for name in catalogue.columns} if row else {}
    single = {
        name: value if isinstance(value, str | int | float) else str(value)
        for name, value in values.items()
        if value is not None and not isinstance(value, list | dict)
    }
    price = single.get(called("price", catalogue.columns) or "")
    text = single.get(catalogue.title or "")
    return {
        "item": item,
        "known": row > 0,
        "title": catalogue.name(row) if row else item,
        "text": text if isinstance(text, str) else None,
        "price": price if isinstance(price, int | float) else None,
        **{
            word: single.get(called(word, catalogue.columns) or "")
            for word in ("category", "colour")
        },
        "columns": single,
    }


def documents_of(loaded: Loaded) -> Found:
    """What the folder of a run holds of how it was learnt and judged."""
    manifest = loaded.guide.artifact.manifest
    return found_in(loaded.run, manifest, kept_evaluation(loaded.run))


def _page_files() -> list[Any]:
    folder = files("daogou.serve") / _FOLDER
    return [each for each in folder.iterdir() if Path(each.name).suffix in _TYPES]


def _hashed_style(html: str) -> str:
    """The one style sheet of a report, as a policy names it."""
    style = html.split("<style>", 1)[1].split("</style>", 1)[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
