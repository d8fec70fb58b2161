"""Facts about a user and a product to sentences, in English or Chinese."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from daogou.errors import ConfigError, unknown

LANGUAGES: Final = ("en", "zh")

_COLUMNS: Final[Mapping[str, str]] = {
    "category": "类目", "brand": "品牌", "colour": "颜色", "color": "颜色", "material": "材质",
    "style": "款式", "size": "尺码", "price": "价格", "title": "标题", "city": "城市",
    "gender": "性别", "age_band": "年龄段", "tier": "等级", "history": "浏览记录",
    "position": "位置", "device": "设备", "scene": "场景",
}  # fmt: skip
_ENGLISH: Final[Mapping[str, str]] = {
    chinese: name for name, chinese in reversed(list(_COLUMNS.items()))
}
# What a shop's own column may be called that a shopper calls so; letters small.
_SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "price": ("price", "价格", "售价", "单价"),
    "category": ("category", "类目", "品类", "分类"),
    "brand": ("brand", "品牌"),
    "colour": ("colour", "color", "颜色"),
    "stock": ("stock", "库存"),
}
_DEEDS: Final[tuple[tuple[tuple[str, ...], str, str], ...]] = (
    (
        ("purchase", "buy", "order", "pay", "购买", "下单", "支付", "付款", "成交"),
        "bought",
        "买过",
    ),
    (("cart", "basket", "加购", "购物车"), "put in your cart", "加购过"),
    (("fav", "like", "collect", "wish", "收藏"), "liked", "收藏过"),
)
_LIFECYCLE: Final = {"new": "新用户", "active": "活跃", "lapsing": "流失风险"}


def check_language(lang: str) -> None:
    """Raise ConfigError unless sentences can be said in ``lang``."""
    if lang not in LANGUAGES:
        raise ConfigError(f"lang: {unknown(lang, LANGUAGES)}")


def column_name(column: str, lang: str) -> str:
    """What to call a column.

    >>> column_name("age_band", "en"), column_name("brand", "zh"), column_name("品牌", "en")
    ('age band', '品牌', 'brand')
    """
    if lang == "zh":
        return _COLUMNS.get(column, column)
    return _ENGLISH.get(column, column).replace("_", " ")


def called(word: str, columns: Iterable[str]) -> str | None:
    """The column that a shopper calls so: of that name, or the first that holds a spelling of it.

    >>> called("price", ["item", "price_usd", "price"]), called("category", ["商品类目", "品牌"])
    ('price', '商品类目')
    """
    names = list(columns)
    for spelling in _SPELLINGS.get(word, (word,)):
        for name in sorted(names, key=lambda each: each != spelling):
            if spelling in name.lower():
                return name
    return None


def is_price(column: str) -> bool:
    """Whether a column, by its name, holds prices.

    >>> is_price("Price_USD"), is_price("价格"), is_price("brand")
    (True, True, False)
    """
    return called("price", [column]) is not None


def deed(action: str, lang: str) -> str:
    """What a user did to a product, of which an event of kind ``action`` remains.

    >>> deed("purchase", "en"), deed("click", "zh")
    ('bought', '看过')
    """
    for parts, english, chinese in _DEEDS:
        if any(part in action.lower() for part in parts):
            return chinese if lang == "zh" else english
    return "看过" if lang == "zh" else "looked at"


def price_range(band: tuple[float | None, float | None], lang: str) -> str:
    """What to call the prices from a border on (None = from 0) and below another (None = open).

    >>> bands = (69.0, None), (None, 9.9), (20.0, 1.2e6)
    >>> [price_range(band, "en") for band in bands]
    ['from 69', 'under 9.9', '20 to 1200000']
    >>> [price_range(band, "zh") for band in bands]
    ['69 以上', '9.9 以下', '20–1200000']
    """
    least, most = (None if border is None else f"{border:.12g}" for border in band)
    zh = lang == "zh"
    if least is None:
        return f"{most} 以下" if zh else f"under {most}"
    if most is None:
        return f"{least} 以上" if zh else f"from {least}"
    return f"{least}–{most}" if zh else f"{least} to {most}"


def is_purchase(action: str) -> bool:
    """Whether an event, by its name, is a purchase.

    >>> is_purchase("Place Order"), is_purchase("下单"), is_purchase("click")
    (True, True, False)
    """
    return any(part in action.lower() for part in _DEEDS[0][0])


def because_of_history(action: str, name: str, is_same: bool, lang: str) -> str:
    """Why: an event of the user's past."""
    if lang == "zh":
        return f"因为你{deed(action, lang)}{'这件商品' if is_same else f'「{name}」'}"
    return f"because you {deed(action, lang)} {'this before' if is_same else name}"


def because_of_value(column: str, value: str, lang: str) -> str:
    """Why: a value that the product has in common with the user's past."""
    if lang == "zh":
        return f"你常选的{column_name(column, lang)}：{value}"
    return f"you often choose {column_name(column, lang)} {value}"


def because_of_edit(column: str, value: str, lang: str) -> str:
    """Why: a value that the user asked for."""
    if lang == "zh":
        return f"你指定的{column_name(column, lang)}：{value}"
    return f"you asked for {column_name(column, lang)} {value}"


def because_of_answers(answers: Sequence[str], lang: str) -> dict[str, object]:
    """Why, where nothing else tells: what a shopper has answered, or that others score less."""
    if answers:
        said = "；".join(answers) if lang == "zh" else "; ".join(answers)
        return {
            "kind": "answers",
            "text": f"符合你的选择：{said}" if lang == "zh" else f"as you wished: {said}",
            "weight": 1.0,
        }
    text = "目前最可能适合你" if lang == "zh" else "among the likeliest for you so far"
    return {"kind": "score", "text": text, "weight": 0.0}


def because_of_many(share: float, lang: str) -> str:
    """Why: most other products are liked less."""
    percent = f"{100 * share:.0f}"
    if lang == "zh":
        return f"热门：比 {percent}% 的商品更受欢迎"
    return f"popular: liked more than {percent} % of the catalogue"


def explanation(
    name: str, stage: str, chance: float, features: tuple[Sequence[str], Sequence[str]], lang: str
) -> str:
    """One sentence on a score; ``features`` are those that speak for it and those against."""
    speaking, opposing = ([_feature(each, lang) for each in side] for side in features)
    if lang == "zh":
        text = f"「{name}」的 {stage} 概率为 {100 * chance:.1f}%"
        text += f"；有利因素：{'、'.join(speaking)}" if speaking else ""
        text += f"；不利因素：{'、'.join(opposing)}" if opposing else ""
        return text + "。"
    text = f"{name}: the chance of {stage} is {100 * chance:.1f} %"
    text += f"; for it: {', '.join(speaking)}" if speaking else ""
    text += f"; against it: {', '.join(opposing)}" if opposing else ""
    return text + "."


def portrait(
    likeliest: Mapping[str, tuple[str, float]],
    preferred: Mapping[str, str],
    lifecycle: str,
    rhythm: Mapping[str, float] | None,
    lang: str,
) -> str:
    """One sentence on a user: how active, the likeliest value of each column, what they prefer.

    >>> rhythm = {"every_days": 3.0, "silent_days": 1.25}
    >>> portrait({"gender": ("F", 0.81)}, {}, "active", rhythm, "en")
    'An active user, here about every 3 days, last 1.2 days ago; probably gender F (81 %).'
    >>> portrait({}, {"brand": "Acme"}, "new", None, "en")
    'A new user; prefers brand Acme.'
    """
    zh = lang == "zh"
    guesses = [
        f"{column_name(column, lang)}{' ' if not zh else ''}{value}"
        + (f"（{100 * chance:.0f}%）" if zh else f" ({100 * chance:.0f} %)")
        for column, (value, chance) in likeliest.items()
    ]
    likes = [
        f"{column_name(column, lang)}{' ' if not zh else ''}{value}"
        for column, value in preferred.items()
    ]
    if zh:
        parts = [_LIFECYCLE[lifecycle] if lifecycle == "new" else f"{_LIFECYCLE[lifecycle]}用户"]
        if rhythm is not None:
            parts[0] += f"，约每 {rhythm['every_days']:.2g} 天来一次"
            parts[0] += f"，上次在 {rhythm['silent_days']:.2g} 天前"
        parts += [f"可能是{'、'.join(guesses)}"] if guesses else []
        parts += [f"偏好{'、'.join(likes)}"] if likes else []
        return "；".join(parts) + "。"
    parts = [f"{'An' if lifecycle == 'active' else 'A'} {lifecycle} user"]
    if rhythm is not None:
        parts[0] += f", here about every {rhythm['every_days']:.2g} days"
        parts[0] += f", last {rhythm['silent_days']:.2g} days ago"
    parts += [f"probably {', '.join(guesses)}"] if guesses else []
    parts += [f"prefers {', '.join(likes)}"] if likes else []
    return "; ".join(parts) + "."


def _feature(feature: str, lang: str) -> str:
    owner, _, column = feature.partition(".")
    if feature == "item.heard":
        return "大家对它的反应" if lang == "zh" else "what became of it so far"
    if column == "id":
        names = {
            "item": ("商品本身", "the product itself"),
            "user": ("用户本身", "who the user is"),
        }
        return names[owner][0 if lang == "zh" else 1]
    return column_name(column, lang)
