"""What the training titles teach: their words, and the values that stand in them."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from daogou.features.gazetteer import Gazetteer, Taught, fit_gazetteer
from daogou.features.subwords import open_subwords
from daogou.features.tags import find_values
from daogou.features.text import TextVocab, fit_text
from daogou.features.tokens import tokenise
from daogou.features.transform.fields import Fields
from daogou.features.vocab import fit_vocab
from daogou.schema import Shop
from daogou.tables.engine import Engine, name_of

MOST_VALUES: Final = 50_000  # of a column that are looked for in titles
MOST_CLASSES: Final = 1024  # of an attribute that is read as classes
_TEACHING: Final = "SELECT item FROM title_split WHERE split = 'train'"
MAX_TOKENS: Final = 64  # a title is cut here unless text_length says otherwise


def text_of(columns: tuple[str, ...], relation: str) -> str:
    """SQL for the text of a row: the text columns with a space between, missing ones empty."""
    parts = [f"coalesce(CAST({relation}.{name_of(name)} AS VARCHAR), '')" for name in columns]
    return " || ' ' || ".join(parts) if parts else "''"


def fit_titles(engine: Engine, shop: Shop, length: int, word_count: int) -> TextVocab | None:
    """Words of the titles that training may see; a length of 0 is what 99 % of them need."""
    if not (shop.items and shop.items.text):
        return None
    key = name_of(shop.items.key)
    sql = (
        f"SELECT DISTINCT {text_of(shop.items.text, 'items')} AS text FROM items "
        f"WHERE {key} IN (SELECT item FROM seen_items) ORDER BY text"
    )
    texts = [row[0] for row in engine.rows(sql)]
    if not length:
        sizes = [len(tokenise(text)) for text in texts] or [1]
        length = min(max(int(np.quantile(sizes, 0.99)), 1), MAX_TOKENS)
    return fit_text(
        texts,
        length=length,
        min_count=word_count,
        gazetteer=_lists_of(engine, shop),
        subwords=open_subwords(shop),
    )


def _lists_of(engine: Engine, shop: Shop) -> Gazetteer | None:
    """The values of training titles' gold spans and of their products' columns."""
    if not shop.of_family("extract"):
        return None
    return fit_gazetteer(
        _gold_titles(engine, shop), _catalogue_values(engine, shop), attributes=shop.attributes
    )


def fit_values(engine: Engine, shop: Shop) -> Fields:
    """A vocabulary for each attribute column of 2 to `MOST_CLASSES` values in training titles."""
    names, coders = [], []
    if shop.items and shop.of_family("extract"):
        types = engine.columns("items")
        for name in shop.attributes:
            if types.get(name) != "VARCHAR":
                continue
            rows = engine.rows(
                f"SELECT {name_of(name)}, count(*) FROM items WHERE {_known(name)} AND "
                f"{name_of(shop.items.key)} IN ({_TEACHING}) GROUP BY 1"
            )
            if 2 <= len(rows) <= MOST_CLASSES:
                names.append(name)
                coders.append(fit_vocab(dict(rows)))
    return Fields(tuple(names), tuple(coders))


def _known(column: str) -> str:
    """SQL for: a text column says something. Blank is missing."""
    return f"trim({name_of(column)}) <> ''"


def _gold_titles(engine: Engine, shop: Shop) -> Iterator[Taught]:
    """Training titles, as they will be encoded, with what was annotated in them."""
    assert shop.items is not None
    if not shop.items.spans:
        yield from _told_titles(engine, shop)
        return
    key, spans = name_of(shop.items.key), name_of(shop.items.spans)
    annotated = name_of(shop.items.annotated) if shop.items.annotated else "NULL"
    rows = engine.rows(
        f"SELECT {text_of(shop.items.text, 'items')}, {spans}, {annotated} FROM items "
        f"WHERE {key} IN ({_TEACHING}) ORDER BY {key}"
    )
    for text, found, looked_for in rows:
        gold = [(span["start"], span["end"], span["attribute"]) for span in found or ()]
        names = (looked_for or ()) if shop.items.annotated else shop.attributes
        yield Taught(text, gold, frozenset(names))


def _told_titles(engine: Engine, shop: Shop) -> Iterator[Taught]:
    """Training titles with the values of their own columns wherever they stand in them."""
    assert shop.items is not None
    names = told_attributes(engine, shop)
    columns = ", ".join(name_of(name) for name in names)
    rows = engine.rows(
        f"SELECT {text_of(shop.items.text, 'items')}, {columns} FROM items WHERE "
        f"{name_of(shop.items.key)} IN ({_TEACHING}) ORDER BY {name_of(shop.items.key)}"
    ) if names else []  # fmt: skip
    for text, *values in rows:
        told = {
            name: value
            for name, value in zip(names, values, strict=True)
            if value and value.strip()
        }
        yield Taught(text, find_values(text, told), frozenset(told))


def told_attributes(engine: Engine, shop: Shop) -> tuple[str, ...]:
    """The attributes that a column of texts says of each product."""
    types = engine.columns("items")
    return tuple(name for name in shop.attributes if types.get(name) == "VARCHAR")


def _catalogue_values(engine: Engine, shop: Shop) -> Iterator[tuple[str, str, str]]:
    """(column, value, title) of training titles' products: of each value two titles, or its one.

    Columns of texts alone, and of each the `MOST_VALUES` values that most products have.
    """
    assert shop.items is not None
    types = engine.columns("items")
    key, text = name_of(shop.items.key), text_of(shop.items.text, "items")
    for name in dict.fromkeys((*shop.attributes, *shop.items.columns)):
        if types.get(name) != "VARCHAR":
            continue
        rows = engine.rows(
            f"SELECT {name_of(name)}, min({text}), max({text}) FROM items WHERE "
            f"{_known(name)} AND {key} IN ({_TEACHING}) "
            f"GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {MOST_VALUES}"
        )
        for value, first, last in rows:
            yield name, value, first
            yield name, value, last
