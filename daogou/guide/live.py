"""Rows about products that training never saw to what the model and the filters read of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.artifact import Artifact
from daogou.errors import ConfigError, unknown
from daogou.features.columns import Columns
from daogou.features.transform.titles import text_of
from daogou.guide.catalogue import Catalogue, spelt
from daogou.guide.index import placed
from daogou.guide.newcomers import with_heard
from daogou.guide.score import Described, Scorer
from daogou.model.joint import marks_of
from daogou.tables.engine import Engine, name_of

Array = NDArray[Any]
_PLACE, _TEXT = "@place", "@text"  # ours, beside columns that a shop names freely


@dataclass(frozen=True)
class Products:
    """Products as the shop describes them now. Made by `read_products`.

    ``rows [n]`` are those of the catalogue; from its end on they are new. ``columns`` hold every
    column of the catalogue, ``[n]`` each.
    """

    keys: tuple[str, ...]
    rows: Array
    columns: Mapping[str, pa.Array]


def read_products(
    artifact: Artifact, catalogue: Catalogue, given: Iterable[Mapping[str, object]]
) -> Products:
    """Rows ``{key, column: value, ...}`` as products; of one that comes twice the last counts.

    The key stands under its name in the shop's table, or under ``item``. What a row does not say
    stays as it is for a product of the catalogue, and is missing for a new one. Raises ConfigError,
    with the place of the row, for a row without a key, an unknown column, or a value that the
    column cannot hold.
    """
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ConfigError(f"items: a list of products is wanted, found {given!r}")
    key_name = artifact.shop.items.key if artifact.shop.items else "item"
    said: dict[str, dict[str, object]] = {}
    for place, row in enumerate(given):
        where = f"items[{place}]"
        if not isinstance(row, Mapping):
            raise ConfigError(f"{where}: an object with {key_name!r} is wanted, found {row!r}")
        values = dict(row)
        key = values.pop(key_name if key_name in values else "item", None)
        if isinstance(key, bool) or not isinstance(key, str | int) or key == "":
            raise ConfigError(f"{where}.{key_name}: an id is wanted, found {key!r}")
        for name in values:
            if name not in catalogue.columns:
                raise ConfigError(f"{where}.{name}: {unknown(str(name), catalogue.columns)}")
        said[str(key)] = said.get(str(key), {}) | values
    keys = tuple(said)
    new = iter(range(len(catalogue.keys), len(catalogue.keys) + len(keys)))
    rows = np.array([catalogue.row(key) or next(new) for key in keys], dtype=np.int64)
    columns = {
        name: _column(
            name,
            [
                values[name] if name in values
                else catalogue.value(name, catalogue.row(key))
                for key, values in said.items()
            ],
            catalogue.columns[name].type,
        )
        for name in catalogue.columns
    }  # fmt: skip
    return Products(keys, rows, columns)


def describe(artifact: Artifact, products: Products) -> list[Described]:
    """How the model reads products: by the very statement that compiled the store."""
    transform = artifact.transform
    n = len(products.keys)
    text = f"{text_of(transform.text_columns, 't')} AS {name_of(_TEXT)}"
    parts = [transform.items.select("t"), transform.traits.select("t"), text]
    select = ", ".join(filter(None, parts))
    with Engine(threads=1) as engine:
        engine.add("t", pa.table({_PLACE: pa.array(range(n)), **products.columns}))
        read = engine.table(f"SELECT {select} FROM t ORDER BY t.{name_of(_PLACE)}")
    names = (*transform.items.names, *transform.traits.names)
    columns = {name: read.column(place) for place, name in enumerate(names)}
    fields, numbers = transform.items.encode(columns, n)
    traits, _ = transform.traits.encode(columns, n)
    ids = transform.item_ids.encode(pa.array(products.keys))
    tokens = np.zeros((n, 1, 1), dtype=np.int32)
    if transform.text is not None:
        tokens = transform.text.encode(read.column(read.num_columns - 1).to_pylist())
    return [
        Described(int(ids[i]), fields[i : i + 1], numbers[i : i + 1], traits[i : i + 1], tokens[i])
        for i in range(n)
    ]


@torch.inference_mode()
def with_products(scorer: Scorer, products: Products) -> tuple[Scorer, Tensor]:
    """The scorer that also knows these products, and their vectors ``[n, D]``.

    A product of the catalogue keeps its own row of the id table and the place that histories know
    it by. Raises ConfigError in a shop whose model reads no products.
    """
    model, items = scorer.artifact.model, scorer.items
    if model.item is None or items.items is None:
        raise ConfigError("items: this run reads no products, so it cannot be told of new ones")
    assert items.marks is not None and items.item_ids is not None
    read = describe(scorer.artifact, products)
    pooled = None
    if model.text is not None:
        pooled = model.text(torch.from_numpy(np.stack([each.tokens for each in read])).long())[1]
    columns = Columns(
        {
            "id": torch.tensor([each.id for each in read]),
            "fields": torch.from_numpy(np.concatenate([each.fields for each in read])).long(),
            "numbers": torch.from_numpy(np.concatenate([each.numbers for each in read])),
            "traits": torch.from_numpy(np.concatenate([each.traits for each in read])).long(),
            "text": torch.arange(len(read)),
        }
    )
    vectors = model.encode_items(columns, pooled)
    rows = torch.from_numpy(products.rows)
    known = replace(
        items,
        items=placed(items.items, rows, vectors),
        marks=placed(items.marks, rows, marks_of(rows, columns)),
        item_ids=placed(items.item_ids, rows, columns["id"]),
    )
    live = {**scorer.live, **dict(zip(products.rows.tolist(), read, strict=True))}
    told = replace(scorer, items=known, live=live)
    newcomers = scorer.newcomers
    if newcomers is not None:  # what is expected of a product is said of it as it is now
        edited = set(products.rows.tolist())
        expected = {row: each for row, each in newcomers.expected.items() if row not in edited}
        told = replace(told, newcomers=replace(newcomers, expected=expected))
        told = with_heard(told, newcomers.heard, newcomers.until)
    return told, vectors


def _column(name: str, values: Sequence[object], kind: pa.DataType) -> pa.Array:
    """Values as the catalogue's own type of column."""
    if pa.types.is_string(kind):
        values = [None if value is None else spelt(value) for value in values]
    try:
        try:
            return pa.array(values, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return pc.cast(pa.array(values), kind)  # a time or a number as text
    except (
        pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError,
    ) as error:  # fmt: skip
        raise ConfigError(
            f"items.{name}: the column holds {kind}, found {values!r} ({error})"
        ) from None
