"""What a shopper has answered so far to the question that narrows their choice most."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daogou.errors import ConfigError, unknown
from daogou.guide.facets import Facets, bands, within
from daogou.guide.search import Search
from daogou.guide.words import column_name, is_price, price_range

Array = NDArray[Any]
Answer = Mapping[str, Any]
_MOST_CHIPS: Final = 6
_PRICE_BANDS: Final = 4
_LEAST_GAIN: Final = 0.01  # bits; a question worth less is not worth a person's time


@dataclass(frozen=True)
class Chip:
    """One answer that can be given: its words, how many products it leaves, how likely it is."""

    text: str
    count: int
    share: float
    answer: Answer


@dataclass(frozen=True)
class Question:
    """A question about one column; ``gain`` is in bits (see `information_gain`)."""

    column: str
    gain: float
    chips: tuple[Chip, ...]


@dataclass(frozen=True)
class Narrowed:
    """What answers leave. ``kept [I + 1]`` has at least one product if it had one before."""

    kept: Array
    applied: list[Answer]
    relaxed: list[Answer] = field(default_factory=list)

    @property
    def columns(self) -> set[str]:
        """What has been answered about."""
        return {str(answer["column"]) for answer in self.applied}

    def said(self, lang: str) -> list[str]:
        """The answers in words, but for those that leave a column open."""
        return [said(answer, lang) for answer in self.applied if not answer.get("any")]


def holding(texts: Search, query: str, kept: Array) -> tuple[Array, list[dict[str, Any]]]:
    """Of products those that hold a query's words; all and that it was relaxed, where none does."""
    hits = texts.hits(query, kept)
    if hits is None:
        return kept, []
    if not len(hits.rows):
        return kept, [{"query": query, "text": query}]
    return hits.mask(len(kept)), []


def information_gain(weights: Array, groups: Array) -> float:
    """Bits that an answer is expected to tell about which product is wanted.

    ``weights [N]``, which need not add up to 1, are the chances of each product; ``groups [N]`` is
    the answer that each would bring, -1 where it brings none and nothing is learnt. With one
    answer a of chance P(a) for each product that is the sum of P(a) (H - H_a), where H is the
    entropy of the product and H_a what is left of it (Shannon 1948); without any -1 it is the
    entropy of the answer.

    >>> information_gain(np.ones(4), np.array([0, 0, 1, 2]))
    1.5
    """
    total = weights.sum()
    if total <= 0:
        return 0.0
    p = weights / total
    nats = np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0)
    answered = groups >= 0
    n = int(groups.max(initial=-1)) + 1
    chance = np.bincount(groups[answered], weights=p[answered], minlength=n)
    inside = np.bincount(groups[answered], weights=nats[answered], minlength=n)
    given = chance > 0
    # P H_a = P log P - sum of p log p over the group.
    left = chance[given] * np.log(chance[given]) - inside[given]
    gained = chance[given].sum() * -nats.sum() - left.sum()
    return max(float(gained / np.log(2.0)), 0.0)


def narrow(facets: Facets, kept: Array, answers: Iterable[Answer]) -> Narrowed:
    """Products of bool ``kept [I + 1]`` that fit the answers, oldest first.

    An answer that would leave none of them is relaxed, so of answers that contradict each other
    the newest yields. Raises ConfigError for an answer about a column that is not there, or that
    says nothing.
    """
    found = Narrowed(kept, [])
    for place, answer in enumerate(answers):
        fits = found.kept & _fits(facets, answer, f"answers[{place}]")
        if fits.any() or not found.kept.any():
            found = Narrowed(fits, [*found.applied, answer], found.relaxed)
        else:
            found.relaxed.append(answer)
    return found


def questions(
    facets: Facets,
    kept: Array,
    rows: Array,
    weights: Array,
    *,
    asked: Collection[str],
    lang: str,
) -> list[Question]:
    """Everything worth asking about the products of ``kept [I + 1]``, most telling first.

    ``rows [N]`` are the likely ones among them and ``weights [N]`` their chances; counts are of
    all. Columns in ``asked`` are left out, and so are those that tell nothing apart.
    """
    found = [
        _about_values(facets, column, kept, (rows, weights), lang)
        for column in facets.columns
        if column not in asked
    ]
    if facets.price is not None and facets.price not in asked:
        found.append(_about_price(facets, facets.price, kept, (rows, weights), lang))
    worth = [each for each in found if each.gain >= _LEAST_GAIN and len(each.chips) > 1]
    return sorted(worth, key=lambda each: -each.gain)


def documented(question: Question, n_left: int, lang: str) -> dict[str, Any]:
    """A question as answers carry it; the last chip is that it does not matter."""
    chips = [
        {"text": chip.text, "count": chip.count, "share": chip.share, "answer": dict(chip.answer)}
        for chip in question.chips
    ]
    any_text = "都可以" if lang == "zh" else "no matter"
    any_answer = {"column": question.column, "any": True}
    chips.append({"text": any_text, "count": n_left, "share": None, "answer": any_answer})
    return {
        "column": question.column,
        "text": _wording(question.column, lang),
        "gain": question.gain,
        "chips": chips,
    }


def said(answer: Answer, lang: str) -> str:
    """An answer in words.

    >>> said({"column": "colour", "value": "red"}, "en")
    'colour: red'
    >>> said({"column": "brand", "any": True}, "zh")
    '品牌：都可以'
    """
    zh = lang == "zh"
    colon = "：" if zh else ": "
    name = column_name(str(answer["column"]), lang)
    if answer.get("any"):
        return name + colon + ("都可以" if zh else "no matter")
    if "not" in answer:
        values = _listed(answer["not"])
        return name + colon + (f"不要{'、'.join(values)}" if zh else f"not {', '.join(values)}")
    if "value" in answer:
        return name + colon + ("、" if zh else ", ").join(_listed(answer["value"]))
    return name + colon + price_range((answer.get("from"), answer.get("to")), lang)


def _fits(facets: Facets, answer: Answer, where: str) -> Array:
    """Which products an answer leaves, bool ``[I + 1]``."""
    if not isinstance(answer, Mapping) or "column" not in answer:
        raise ConfigError(f"{where}: an object with 'column' is wanted, found {answer!r}")
    column = answer["column"]
    known = [*facets.columns, *([facets.price] if facets.price else [])]
    if column not in known:
        raise ConfigError(f"{where}.column: {unknown(str(column), known)}")
    if answer.get("any"):
        return np.ones(len(facets.prices), dtype=bool)
    if column == facets.price and ("from" in answer or "to" in answer):
        return within(facets.prices, [_border(answer, name, where) for name in ("from", "to")])
    if column not in facets.columns or not {"value", "not"} & set(answer):
        raise ConfigError(
            f"{where}: {dict(answer)!r} says nothing about {column}; give 'value', 'not', "
            "'any', or of a price 'from' and 'to'"
        )
    facet = facets.columns[column]
    wanted = set(_listed(answer["value" if "value" in answer else "not"]))
    among = np.array([value in wanted for value in facet.values] + [False])
    if "value" in answer:
        return among[facet.codes]
    among[-1] = True  # nothing is said of a product that lacks the column, so it is no answer
    return ~among[facet.codes]


def _border(answer: Answer, name: str, where: str) -> float | None:
    value = answer.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ConfigError(f"{where}.{name}: a number is wanted, found {value!r}")
    return float(value)


def _about_values(
    facets: Facets, column: str, kept: Array, likely: tuple[Array, Array], lang: str
) -> Question:
    """The likeliest values as chips, and all others as one more."""
    facet = facets.columns[column]
    rows, weights = likely
    counts = facet.counts(kept)
    codes = facet.codes[rows]
    held = codes >= 0
    mass = np.bincount(codes[held], weights=weights[held], minlength=len(counts))
    order = np.lexsort((np.arange(len(counts)), -counts, -mass))
    order = order[counts[order] > 0]
    n_shown = _MOST_CHIPS if len(order) <= _MOST_CHIPS else _MOST_CHIPS - 1
    shown = order[:n_shown]
    values = [facet.values[code] for code in shown.tolist()]
    answers: list[Answer] = [{"column": column, "value": value} for value in values]
    texts = list(values)
    sizes = counts[shown].tolist()
    group_of = np.full(len(counts) + 1, len(shown))
    group_of[shown] = np.arange(len(shown))
    group_of[-1] = -1
    if len(order) > len(shown):
        answers.append({"column": column, "not": values})
        texts.append("其他" if lang == "zh" else "something else")
        sizes.append(int(counts[order[n_shown:]].sum()))
    return _question(column, answers, texts, sizes, group_of[codes], weights)


def _about_price(
    facets: Facets, column: str, kept: Array, likely: tuple[Array, Array], lang: str
) -> Question:
    rows, weights = likely
    prices = facets.prices[rows]
    found = bands(prices, weights, _PRICE_BANDS)
    groups = np.full(len(rows), -1)
    for place, band in enumerate(found):
        groups[within(prices, band)] = place
    answers = [{"column": column, "from": least, "to": most} for least, most in found]
    texts = [price_range(band, lang) for band in found]
    sizes = [int(within(facets.prices[kept], band).sum()) for band in found]
    return _question(column, answers, texts, sizes, groups, weights)


def _question(
    column: str,
    answers: Sequence[Answer],
    texts: Sequence[str],
    sizes: Sequence[int],
    groups: Array,
    weights: Array,
) -> Question:
    mass = np.bincount(groups[groups >= 0], weights[groups >= 0], minlength=len(answers))
    total = weights.sum()
    shares = (mass / total).tolist() if total > 0 else [0.0] * len(answers)
    chips = zip(texts, sizes, shares, answers, strict=True)
    return Question(column, information_gain(weights, groups), tuple(Chip(*chip) for chip in chips))


def _wording(column: str, lang: str) -> str:
    asks_price = is_price(column)
    if lang == "zh":
        name = column_name(column, lang)
        return "价格大概在什么范围？" if asks_price else f"想要什么样的{name}？"
    name = column_name(column, lang)
    return f"What {name} would you like?" if not asks_price else "How much may it cost?"


def _listed(value: Any) -> list[str]:
    if isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping):
        return [str(each) for each in value]
    return [str(value)]
