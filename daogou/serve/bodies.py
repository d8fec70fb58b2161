"""What routes are asked with: the bodies of requests, each with an example."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from daogou.serve.events import EventRow, Fields, Id, checked_by
from daogou.serve.values import storable

LONGEST_TEXT = 10_000  # characters of a title


def _text_of(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a text is wanted, found {value!r}")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"has {len(value)} characters; {LONGEST_TEXT} are the most")
    return storable(value)


Text = Annotated[str, checked_by(_text_of)]
Lang = Literal["en", "zh"]


def _like(**example: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"example": example})


class EventsBody(BaseModel):
    """Events, each judged by itself."""

    model_config = _like(
        events=[
            {"event_id": "b7c1", "kind": "click", "user": "17", "item": "3", "request_id": "9f2c"},
            {"kind": "purchase", "session": "v81", "item": "5", "time": 1795858200, "value": 129.0},
        ]
    )
    events: list[Any] = Field(
        json_schema_extra={"items": {"$ref": "#/components/schemas/EventRow"}},
        description="Rows; a wrong one is told and does not stop the others.",
    )


class ItemBody(BaseModel):
    """A product: what the shop writes about it."""

    model_config = _like(fields={"title": "红色 跑步鞋", "price": 399.0}, hidden=False)
    fields: Fields = Field(default_factory=dict)
    hidden: bool = Field(False, description="Never shown, as one that is out of stock.")


class ItemRow(ItemBody):
    """A product with its key."""

    model_config = _like(item="3", fields={"title": "红色 跑步鞋", "price": 399.0}, hidden=False)
    item: Id


class ItemsBody(BaseModel):
    """Products, each judged by itself."""

    model_config = _like(items=[{"item": "3", "fields": {"title": "红色 跑步鞋"}, "hidden": False}])
    items: list[Any] = Field(json_schema_extra={"items": {"$ref": "#/components/schemas/ItemRow"}})


class ItemChange(BaseModel):
    """What changes of a product; a field given null is taken away."""

    model_config = _like(fields={"price": 349.0}, hidden=None)
    fields: Fields = Field(default_factory=dict)
    hidden: bool | None = None


class UserBody(BaseModel):
    """A user: what the shop writes about them."""

    model_config = _like(fields={"city": "杭州"})
    fields: Fields = Field(default_factory=dict)


class UserRow(UserBody):
    """A user with their key."""

    model_config = _like(user="17", fields={"city": "杭州"})
    user: Id


class UsersBody(BaseModel):
    """Users, each judged by itself."""

    model_config = _like(users=[{"user": "17", "fields": {"city": "杭州"}}])
    users: list[Any] = Field(json_schema_extra={"items": {"$ref": "#/components/schemas/UserRow"}})


class About(BaseModel):
    """Whom an answer is for: a user, or an anonymous session, or both on the day of a login."""

    model_config = ConfigDict(extra="forbid")
    user: Id | None = None
    session: Id | None = None


class RecommendBody(About):
    """A wish for products."""

    model_config = _like(
        user="17", k=5, category=None, price_min=50, price_max=500,
        where={"brand": ["云栖", "Northwind"]}, exclude=["3"], context={"device": "phone"},
        diversity=0.2, scenario="home", lang="en",
    )  # fmt: skip
    k: int = Field(10, ge=1, strict=True)
    category: Text | None = None
    price_min: float | None = Field(None, allow_inf_nan=False)
    price_max: float | None = Field(None, allow_inf_nan=False)
    where: Fields | None = Field(None, description="Column to the value, or values, wanted.")
    exclude: list[Id] = Field(default_factory=list, description="Products not to show.")
    context: Fields | None = Field(None, description="What is known of the moment, by column.")
    diversity: float | None = Field(
        None, allow_inf_nan=False, description="How far alike products are kept apart, 0 to 1."
    )
    scenario: Id | None = Field(None, description="Kept with what was shown.")
    lang: Lang = "en"


class RankBody(About):
    """Products to put in order for somebody."""

    model_config = _like(user="17", items=["3", "14", "15"], scenario="search")
    items: list[Id] = Field(min_length=1)
    context: Fields | None = None
    scenario: Id | None = None


class SearchBody(About):
    """A search, for a user or a session if one is named."""

    model_config = _like(query="红色 跑步鞋", k=5, offset=0, lang="zh")
    query: Text = ""
    k: int = Field(10, ge=1, strict=True)
    offset: int = Field(0, ge=0, lt=1 << 31, strict=True)
    category: Text | None = None
    brand: Text | None = None
    price_min: float | None = Field(None, allow_inf_nan=False)
    price_max: float | None = Field(None, allow_inf_nan=False)
    in_stock: bool = False
    where: Fields | None = None
    exclude: list[Id] = Field(default_factory=list)
    context: Fields | None = None
    lang: Lang = "en"


class SimilarBody(BaseModel):
    """A wish for products like one."""

    model_config = _like(k=5, price_max=500)
    k: int = Field(10, ge=1, strict=True)
    category: Text | None = None
    price_min: float | None = Field(None, allow_inf_nan=False)
    price_max: float | None = Field(None, allow_inf_nan=False)
    where: Fields | None = None


class GuideBody(About):
    """The state of a dialogue: as the last answer gave it, with one more among its answers."""

    model_config = _like(user="17", answers=[], query="", k=4, lang="zh")
    answers: list[Fields] = Field(default_factory=list, max_length=100)
    query: Text = ""
    where: Fields | None = None
    edits: Fields = Field(default_factory=dict)
    k: int = Field(4, ge=1, strict=True)
    context: Fields | None = None
    lang: Lang = "en"


class MatchBody(About):
    """Products to match with somebody."""

    model_config = _like(user="17", items=["3", "14", "15"])
    items: list[Id] = Field(min_length=1)


class ExplainBody(About):
    """A product whose score for somebody is to be explained."""

    model_config = _like(user="17", item="3", lang="zh")
    item: Id
    context: Fields | None = None
    lang: Lang = "en"


class ExtractBody(BaseModel):
    """Titles to read."""

    model_config = _like(texts=["云栖 秋季 雾霾蓝 羊毛 宽松毛衣"])
    texts: list[Text] = Field(min_length=1)


class EditBody(BaseModel):
    """What a user sets and forbids, by column; null lets a column go."""

    model_config = _like(set={"gender": "F"}, forbid={"material": ["wool"]})
    set: Fields = Field(default_factory=dict)
    forbid: Fields = Field(default_factory=dict)


class ReloadBody(BaseModel):
    """The run to answer from."""

    model_config = _like(run="runs/2026-11-28")
    run: Text | None = Field(None, description="A folder on the server; the same one if not given.")


class VariantBody(BaseModel):
    """A run and the users that it answers."""

    model_config = _like(run="runs/next", share=0.1)
    run: Text = Field(description="A folder on the server.")
    share: float = Field(gt=0, le=1, description="Of all users.")


class LineupBody(BaseModel):
    """The runs that answer beside the main one."""

    model_config = _like(variants=[{"run": "runs/next", "share": 0.1}], shadow=None)
    variants: list[VariantBody] = Field(default_factory=list, max_length=10)
    shadow: Text | None = Field(None, description="A folder whose answers nobody is shown.")


class ProductsBody(BaseModel):
    """Products to describe."""

    model_config = _like(items=["3", "14", "15"])
    items: list[Id] = Field(min_length=1)


ROWS: tuple[type[BaseModel], ...] = (EventRow, ItemRow, UserRow)  # judged row by row
