"""Products as rows, and the catalogue as the shop wrote it."""

from typing import Final

import numpy as np
import pyarrow.parquet as pq

from daogou.features.store.writer import KEY, Writer, append_fields, named_columns
from daogou.features.transform import Transform
from daogou.schema import Shop
from daogou.tables.engine import Engine, name_of

_TEXT: Final = "@text"


def write_items(engine: Engine, shop: Shop, transform: Transform, writer: Writer) -> None:
    """The products and what the catalogue says of each; the texts are there (`write_texts`)."""
    join, select, shown = "", "", ""
    names: dict[str, None] = {}
    if shop.items:
        key = name_of(shop.items.key)
        join = f"LEFT JOIN items t ON t.{key} = r.item LEFT JOIN item_text x ON x.item = r.item "
        join += "LEFT JOIN text_rows tr ON tr.text = x.text"
        present = engine.columns("items")
        read = transform.items, transform.traits.kept(present)
        select = ", ".join(fields.select("t") for fields in read if fields.names)
        told = (shop.items.text, shop.items.columns, shop.items.attributes, shop.items.shown)
        names = dict.fromkeys(name for part in told for name in part)
        shown = ", ".join(f"t.{name_of(name)}" for name in names if name in present)
    text_row = "coalesce(tr.row, 0)" if shop.items else "0::INTEGER"
    sql = (
        f"SELECT CAST(r.item AS VARCHAR) AS {name_of(KEY)}, {text_row} AS {name_of(_TEXT)}"
        f"{', ' + select if select else ''} FROM item_rows r {join} ORDER BY r.row"
    )
    writer.append("items/id", np.zeros(1, dtype=np.int32))
    writer.append("items/text", np.zeros(1, dtype=np.int32))
    append_fields(writer, "items", transform.items, {}, 1)
    writer.append("items/traits", transform.traits.encode({}, 1)[0])
    for batch in engine.batches(sql):
        writer.append("items/id", transform.item_ids.encode(batch[KEY]))
        writer.append("items/text", batch[_TEXT].to_numpy())
        named = named_columns(batch)
        append_fields(writer, "items", transform.items, named, batch.num_rows)
        writer.append("items/traits", transform.traits.encode(named, batch.num_rows)[0])
    key_name = name_of(KEY if "item" in names else "item")
    catalogue = engine.table(
        f"SELECT CAST(r.item AS VARCHAR) AS {key_name}{', ' + shown if shown else ''} "
        f"FROM item_rows r {join} ORDER BY r.row"
    )
    pq.write_table(catalogue, writer.folder / "keys" / "items.parquet")
