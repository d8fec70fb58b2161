"""Attribute values to product titles in Chinese and English, with the span of every value."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple


class Value(NamedTuple):
    """One value of an attribute: its spellings in each language, the usual one first."""

    en: tuple[str, ...]
    zh: tuple[str, ...]


def _values(lines: str) -> tuple[Value, ...]:
    """One value a line: ``usual|other = 常用|别称``."""
    found = []
    for line in lines.strip().splitlines():
        english, chinese = line.split("=")
        found.append(
            Value(
                tuple(word.strip() for word in english.split("|")),
                tuple(word.strip() for word in chinese.split("|")),
            )
        )
    return tuple(found)


# Several words are ambiguous on purpose: 苹果 is a brand and begins a colour, Orange, Rose and
# Slate are brands and colours, Linen House holds a material, and fillers hold both.
VALUES: Final[Mapping[str, tuple[Value, ...]]] = {
    "brand": _values("""
        Norvik = 诺维克
        Pomme = 苹果
        Orange = 橙子
        Rose = 玫瑰
        Slate = 石板
        Linen House = 麻屋
        Cloudrest = 云栖
        Harbour & Co = 港屿
        Tamber = 檀柏
        Meadowlark = 百灵
        Kestrel = 红隼
        Fjordwear = 峡湾
        Juniper Lane = 杜松里
        Marigold = 金盏
        Silk Road = 丝路
        Aldora = 爱朵
        Bexley = 贝斯利
        Qingshan = 青山
        Moyu = 墨语
        Velora = 唯洛
    """),
    "colour": _values("""
        black|jet black = 黑色|纯黑
        white|ivory = 白色|象牙白
        grey|slate = 灰色|石板灰
        navy|navy blue = 藏青|藏青色
        blue|haze blue = 蓝色|雾霾蓝
        green|apple green = 绿色|苹果绿
        red|crimson = 红色|正红
        pink|rose = 粉色|玫瑰粉
        orange|tangerine = 橙色|橘色
        yellow|mustard = 黄色|姜黄
        brown|coffee = 棕色|咖啡色
        beige|oat = 米色|燕麦色
    """),
    "material": _values("""
        cotton|pure cotton = 棉|纯棉
        wool|merino = 羊毛|美利奴
        silk|mulberry silk = 真丝|桑蚕丝
        linen|flax = 亚麻|麻
        cashmere = 羊绒|山羊绒
        denim|jean cloth = 牛仔|丹宁
        leather|cowhide = 真皮|牛皮
        polyester|poly = 涤纶|聚酯
        corduroy|cord = 灯芯绒|条绒
        canvas|duck canvas = 帆布
    """),
    "style": _values("""
        slim fit|slim = 修身|显瘦
        loose|oversized = 宽松|廓形
        vintage|retro = 复古|怀旧
        casual|everyday = 休闲|日常
        business|formal = 商务|正装
        sporty|athletic = 运动|运动风
        minimalist|plain = 简约|极简
        street|urban = 街头|潮流
        preppy|college = 学院|学院风
        bohemian|boho = 波西米亚|民族风
    """),
    "size": _values("""
        S|small = S码|小码
        M|medium = M码|中码
        L|large = L码|大码
        XL|extra large = XL码|加大码
        XXL|2XL = XXL码|2XL
        one size = 均码
    """),
}
ATTRIBUTES: Final = tuple(VALUES)
CATEGORIES: Final = _values("""
    sweater|jumper = 毛衣|针织衫
    shirt|blouse = 衬衫|衬衣
    trousers|pants = 长裤|裤子
    dress|frock = 连衣裙|裙子
    coat|overcoat = 大衣|外套
    shoes|sneakers = 鞋|板鞋
    bag|tote = 包|手提包
    scarf|shawl = 围巾|披肩
""")
LANGUAGES: Final = ("zh", "en", "both")

OMITTED: Final[Mapping[str, float]] = {
    "brand": 0.05,
    "colour": 0.10,
    "material": 0.15,
    "style": 0.20,
    "size": 0.35,
}
_ORDERS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "zh": (
        ("brand", "filler", "style", "colour", "material", "noun", "size"),
        ("brand", "material", "noun", "filler", "style", "colour", "size"),
        ("filler", "colour", "style", "material", "noun", "brand", "size"),
        ("style", "noun", "brand", "colour", "filler", "size", "material"),
    ),
    "en": (
        ("brand", "style", "material", "noun", "colour", "size", "filler"),
        ("filler", "brand", "colour", "material", "noun", "style", "size"),
        ("colour", "material", "style", "noun", "filler", "brand", "size"),
        ("brand", "noun", "filler", "style", "colour", "material", "size"),
    ),
}
_FILLERS: Final[Mapping[str, tuple[str, ...]]] = {
    "zh": ("2024秋季", "新款", "百搭", "玫瑰礼盒", "丝滑手感", "橙标", "高级感", "ins风", "显白"),
    "en": ("2024 autumn", "new", "bestseller", "rose gift box", "silk touch", "orange label"),
}
_NOISE: Final = ("【包邮】", "🔥", "HOT ", "(现货)", "★", "限时 ")
_LIGHTER: Final[Mapping[str, tuple[str, ...]]] = {
    "zh": ("浅", "深", "轻", "新"),
    "en": ("dusty ", "deep ", "light ", "neo "),
}
_SYLLABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "zh": tuple("岚沐禾屿芷清澜棠木野舟川"),
    "en": ("Va", "lo", "Ren", "ka", "mi", "Tor", "ze", "bel", "una", "dri"),
}


@dataclass(frozen=True)
class Title:
    """A title and where its values stand: (start, end, attribute), code points, end exclusive."""

    text: str
    spans: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class Wording:
    """How messy titles are: shares of titles, or of attributes where ``unseen`` says so."""

    language: str = "both"  # zh, en, or both: half of the titles each
    omission: float = 1.0  # multiplies OMITTED
    unseen: float = 0.05  # share of values spelt as no list spells them
    typo: float = 0.03
    noise: float = 0.15


def spelling(attribute: str, value: int, language: str) -> str:
    """The usual spelling of a value in a shop's tables: Chinese in a Chinese shop.

    >>> spelling("colour", 3, "both"), spelling("colour", 3, "zh")
    ('navy', '藏青')
    """
    found = VALUES[attribute][value]
    return found.zh[0] if language == "zh" else found.en[0]


def write_title(
    category: int, values: Mapping[str, int], wording: Wording, draw: random.Random
) -> Title:
    """A title of one product, in the wording's language or a drawn one.

    ``values`` gives the row in `VALUES` of each attribute; each may be left out of the title.

    >>> plain = Wording("en", omission=0, unseen=0, typo=0, noise=0)
    >>> title = write_title(0, {"material": 3, "style": 2}, plain, random.Random(5))
    >>> title.text, title.spans
    ('LINEN VINTAGE SWEATER', ((0, 5, 'material'), (6, 13, 'style')))
    """
    language = draw.choice(LANGUAGES[:2]) if wording.language == "both" else wording.language
    pieces: list[tuple[str, str | None]] = []
    if draw.random() < wording.noise:
        pieces.append((draw.choice(_NOISE), None))
    for slot in draw.choice(_ORDERS[language]):
        if slot == "filler":
            if draw.random() < 0.7:
                pieces.append((draw.choice(_FILLERS[language]), None))
        elif slot == "noun":
            pieces.append((draw.choice(_spellings(CATEGORIES[category], language)), None))
        elif slot in values and draw.random() >= OMITTED[slot] * wording.omission:
            pieces.append((_spell(slot, values[slot], language, wording.unseen, draw), slot))
    if draw.random() < wording.typo:
        pieces = _with_typo(pieces, draw)
    if language == "en":
        case = draw.choice(_CASES)
        # The case is set before the spans are measured: it must not be able to move them.
        pieces = [(case(text), slot) for text, slot in pieces]
    return _join(pieces, _separator(language, draw))


def _title_case(text: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))


_CASES: Final[tuple[Callable[[str], str], ...]] = (_title_case, _title_case, str, str.upper)


def _spellings(value: Value, language: str) -> tuple[str, ...]:
    return value.zh if language == "zh" else value.en


def _spell(attribute: str, value: int, language: str, unseen: float, draw: random.Random) -> str:
    found = VALUES[attribute][value]
    if draw.random() < unseen and attribute != "size":
        if attribute == "brand":
            return "".join(draw.sample(_SYLLABLES[language], 2)) + ("坊" * (language == "zh"))
        return draw.choice(_LIGHTER[language]) + _spellings(found, language)[0]
    if attribute == "brand" and draw.random() < 0.3:
        return draw.choice(found.en + found.zh)  # brands keep their script in foreign titles
    words = _spellings(found, language)
    return words[0] if draw.random() < 0.6 else draw.choice(words)


def _with_typo(
    pieces: list[tuple[str, str | None]], draw: random.Random
) -> list[tuple[str, str | None]]:
    """Two neighbouring characters of one piece change places."""
    at = draw.randrange(len(pieces))
    text, slot = pieces[at]
    if len(text) < 4:
        return pieces
    i = draw.randrange(1, len(text) - 2)
    swapped = text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    # A space moved to an end would leave a span that begins or ends with it.
    return [
        *pieces[:at],
        (swapped if swapped == swapped.strip() else text, slot),
        *pieces[at + 1 :],
    ]


def _separator(language: str, draw: random.Random) -> str:
    if language == "en":
        return draw.choice((" ", " ", " ", ", "))
    return draw.choice(("", "", "", " "))


def _join(pieces: Sequence[tuple[str, str | None]], separator: str) -> Title:
    text = ""
    spans: list[tuple[int, int, str]] = []
    for piece, slot in pieces:
        if text and not text.endswith(" "):
            # Two Latin words without a space between them would read as one.
            latin = text[-1].isascii() and piece[0].isascii()
            text += separator or (" " if latin else "")
        if slot is not None:
            spans.append((len(text), len(text) + len(piece), slot))
        text += piece
    return Title(text, tuple(spans))
