"""Distinct texts as tokens, and the titles of which something is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from daogou.errors import DataError
from daogou.features.gazetteer import Entry, Gazetteer, spelt
from daogou.features.store import split_code
from daogou.features.store.writer import Writer
from daogou.features.tags import find_values, tags_of
from daogou.features.tokens import Span, tokenise
from daogou.features.transform import Transform
from daogou.features.transform.titles import text_of, told_attributes
from daogou.features.vocab import Vocab
from daogou.schema import Shop
from daogou.tables.engine import Engine, name_of

_SPANS: Final = pa.list_(
    pa.struct({"start": pa.int64(), "end": pa.int64(), "attribute": pa.string()})
)
_LEAST_SHARE: Final = 0.5  # of the titles in which a value stood, those that it was meant in
_UNSEEN: Final = Entry(hits=1)  # a value that no training title has is taken at its word
_TEXTS: Final = 65_536  # texts encoded at a time


def write_texts(engine: Engine, shop: Shop, transform: Transform, writer: Writer) -> None:
    """Distinct texts, each encoded once; titles with gold spans and their tags."""
    empty = "CREATE OR REPLACE TABLE item_text AS SELECT NULL AS item, NULL AS text WHERE false"
    texts: list[str] = []
    length, channels = 1, 1
    if transform.text and shop.items:
        engine.run(
            f"CREATE OR REPLACE TABLE item_text AS SELECT {name_of(shop.items.key)} AS item, "
            f"{text_of(transform.text_columns, 'items')} AS text FROM items"
        )
        texts = [row[0] for row in engine.rows("SELECT DISTINCT text FROM item_text ORDER BY text")]
        length, channels = transform.text.length, transform.text.n_channels
    else:
        engine.run(empty)
    numbered = pa.array(range(1, len(texts) + 1), pa.int32())
    engine.add("text_rows", pa.table({"text": pa.array(texts, pa.string()), "row": numbered}))
    writer.append("texts/tokens", np.zeros((1, length, channels), dtype=np.int32))
    for at in range(0, len(texts), _TEXTS):
        assert transform.text is not None
        writer.append("texts/tokens", transform.text.encode(texts[at : at + _TEXTS]))
    _write_titles(engine, shop, transform, length, writer)


def _write_titles(
    engine: Engine, shop: Shop, transform: Transform, length: int, writer: Writer
) -> None:
    """Titles with gold: that of people, or what the products' columns tell of them."""
    attributes = transform.attributes
    rows = _title_rows(engine, shop, transform)
    classes = np.full((len(rows), len(transform.values.names)), -1, dtype=np.int16)
    for j, (name, coder) in enumerate(transform.values.pairs):
        assert isinstance(coder, Vocab)
        held = pa.array([row.columns.get(name) for row in rows], pa.string())
        classes[:, j] = coder.encode(held).astype(np.int16) - 1
    tags = np.zeros((len(rows), len(attributes), length), dtype=np.int8)
    for i, row in enumerate(rows):
        try:
            tags[i] = tags_of(tokenise(row.text), row.spans, attributes, row.annotated, length)
        except DataError as error:
            raise DataError(f"items.spans: product {row.item}: {error}; correct it") from None
    keys = {
        "text": pa.array([row.text for row in rows], pa.string()),
        "spans": pa.array(
            [
                [{"start": start, "end": end, "attribute": name} for start, end, name in row.spans]
                for row in rows
            ],
            _SPANS,
        ),
        "annotated": pa.array([list(row.annotated) for row in rows], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(keys), writer.folder / "keys" / "titles.parquet")
    writer.append("titles/tags", tags)
    writer.append("titles/values", classes)
    writer.append("titles/text", np.array([row.text_row for row in rows], dtype=np.int32))
    writer.append("titles/item", np.array([row.item_row for row in rows], dtype=np.int32))
    writer.append("titles/split", np.array([split_code(row.split) for row in rows], dtype=np.int8))


@dataclass(frozen=True)
class _Title:
    """A title that something is known of."""

    text_row: int
    item_row: int
    split: str
    text: str
    item: object
    spans: list[Span]
    annotated: Sequence[str]
    columns: Mapping[str, str]  # what the product's own columns say, where they do


def _title_rows(engine: Engine, shop: Shop, transform: Transform) -> list[_Title]:
    if not (shop.items and transform.text and shop.of_family("extract")):
        return []
    items = shop.items
    told = told_attributes(engine, shop)
    spans = f"i.{name_of(items.spans)}" if items.spans else "NULL"
    annotated = f"i.{name_of(items.annotated)}" if items.annotated else "NULL"
    columns = "".join(f", i.{name_of(name)}" for name in told)
    rows = engine.rows(
        f"SELECT tr.row, ir.row, ts.split, it.text, ir.item, {spans}, {annotated}{columns} "
        f"FROM items i JOIN item_rows ir ON ir.item = i.{name_of(items.key)} "
        "JOIN item_text it ON it.item = ir.item JOIN text_rows tr ON tr.text = it.text "
        "JOIN title_split ts ON ts.item = ir.item ORDER BY ir.row"
    )
    titles = []
    for text_row, item_row, split, text, item, gold, names, *values in rows:
        known = {
            name: value for name, value in zip(told, values, strict=True) if value and value.strip()
        }
        if items.spans:
            found = [(span["start"], span["end"], span["attribute"]) for span in gold or ()]
            asked = list(names or ()) if items.annotated else list(transform.attributes)
        else:
            found = _told_spans(text, known, transform.text.gazetteer)
            asked = sorted({name for *_, name in found})
        if items.spans or known:
            titles.append(_Title(text_row, item_row, split, text, item, found, asked, known))
    return titles


def _told_spans(text: str, known: Mapping[str, str], lists: Gazetteer) -> list[Span]:
    """Where a product's values stand in its title, but for those that are mostly something else.

    A value whose word stood in more training titles of products without it than with it is an
    ordinary word or another attribute's: where it stands in a title says little.
    """
    trusted = {
        name: value
        for name, value in known.items()
        if lists.values.get(name, {}).get(spelt(value), _UNSEEN).share >= _LEAST_SHARE
    }
    return find_values(text, trusted)
