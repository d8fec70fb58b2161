"""Exposures as rows, split after split, and what taught before them."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from daogou.features.store import FOLDS, HALF_LIVES_DAYS, MASSES, SPLITS, Ranges
from daogou.features.store.numbering import Numbering
from daogou.features.store.writer import Writer, append_fields, named_columns
from daogou.features.transform import Transform
from daogou.schema import DAY_US, Shop
from daogou.tables.credit import delayed
from daogou.tables.engine import Engine, name_of

_EXPOSURE_KEYS: Final = pa.schema(
    [(name, pa.string()) for name in ("id", "user", "item", "request")]
)


def write_exposures(engine: Engine, shop: Shop, transform: Transform, writer: Writer) -> Ranges:
    """The exposures with their labels and moments, and the queries they are of.

    Reads what `write_users` and `write_history` wrote; gives the range of each split.
    """
    timed = bool(shop.events and shop.events.time)
    source, ranges = _placed(engine, timed)
    rows_of = {
        kind: engine.table(f"SELECT {kind} FROM {kind}_rows ORDER BY row")[kind].combine_chunks()
        for kind in ("user", "item")
    }
    own = ["rowid AS place", "user", "item", "epoch_us(time) AS time", "weight", "id"]
    own += ["CAST(user AS VARCHAR) AS user_key", "CAST(item AS VARCHAR) AS item_key"]
    own += ["request"] if timed else ["request", "query"]
    own += [name_of("label_" + stage) for stage in transform.stages]
    shown = engine.columns(source)
    if transform.value:  # another shop's tables may lack what the run learnt
        own.append("value" if "value" in shown else "NULL::DOUBLE AS value")
    awaited = [stage for stage in delayed(shop) if stage in transform.stages]
    own += [name_of(prefix + stage) for prefix in ("delay_", "watched_") for stage in awaited]
    # Another shop's tables may lack a column that the run read; it is missing then.
    there = [name for name in transform.context.names if f"context_{name}" in shown]
    context = transform.context.kept(there).select(source, "context_")
    sql = f"SELECT {', '.join([*own, context] if context else own)} FROM {source}"
    queries = Numbering(writer, {first for first, _ in ranges.values()})
    with exposure_keys(writer) as parquet:
        for batch in _or_empty(engine, sql):
            places = np.arange(queries.n_rows, queries.n_rows + batch.num_rows)
            assert np.array_equal(batch["place"].to_numpy(), places), "read out of order"
            row = {kind: _rows_in(rows_of[kind], batch[kind]) for kind in rows_of}
            time = batch["time"].fill_null(0).to_numpy()
            known = batch["query"].to_numpy() if not timed else None
            writer.append("exposures/item", row["item"])
            writer.append(
                "exposures/query", queries.number(row["user"], time, batch["request"], known)
            )
            writer.append("exposures/time", time)
            writer.append("exposures/weight", batch["weight"].to_numpy().astype(np.float32))
            labels = np.zeros((batch.num_rows, len(transform.stages)), dtype=np.int8)
            for j, stage in enumerate(transform.stages):
                labels[:, j] = batch["label_" + stage].fill_null(-1).to_numpy()
            writer.append("exposures/labels", labels)
            if transform.value:
                values = batch["value"].cast(pa.float32()).fill_null(np.nan).to_numpy()
                writer.append("exposures/value", values)
            for prefix in ("delay_", "watched_") if awaited else ():
                hours = np.full(labels.shape, np.nan, dtype=np.float32)
                for stage in awaited:
                    column = batch[prefix + stage].fill_null(np.nan)
                    hours[:, transform.stages.index(stage)] = column.to_numpy()
                writer.append(f"exposures/{prefix}h", hours)
            columns = named_columns(batch).items()
            named = {name.removeprefix("context_"): each for name, each in columns}
            append_fields(writer, "exposures", transform.context, named, batch.num_rows)
            told = [batch[name] for name in ("id", "user_key", "item_key", "request")]
            parquet.write_batch(pa.record_batch(told, schema=_EXPOSURE_KEYS))
    return ranges


def exposure_keys(writer: Writer) -> pq.ParquetWriter:
    """The file of the shop's own names for the exposures, to be written in their order."""
    path = writer.folder / "keys" / "exposures.parquet"
    # Ids and requests are nearly all different: a dictionary of them costs more than it saves.
    return pq.ParquetWriter(path, _EXPOSURE_KEYS, use_dictionary=["user", "item"])


def write_earlier(engine: Engine, transform: Transform, writer: Writer) -> None:
    """What taught before this log's exposures, if any do: products, folds of users and labels."""
    taught = "(SELECT count(*) FROM exposures WHERE split = 'train')"
    if not engine.value(f"SELECT count(*) * {taught} FROM earlier"):
        return
    labels = ", ".join(f"e.{name_of('label_' + stage)}" for stage in transform.stages)
    end = "(SELECT max(time) FROM exposures WHERE split = 'train')"
    age = f"((epoch_us({end}) - epoch_us(e.time)) / {DAY_US})"
    each = ["e.weight * e.worth", "e.worth"]
    each += [f"pow(0.5, {age} / {half})" for half in HALF_LIVES_DAYS]
    # Of decimals, whose sum is the same in any order.
    masses = ", ".join(
        f"sum(({one})::DECIMAL(30, 9))::DOUBLE AS mass_{place}" for place, one in enumerate(each)
    )
    sql = (
        "SELECT coalesce(i.row, 0)::INTEGER AS item, "
        f"(coalesce(u.row, e.rowid) % {FOLDS})::TINYINT AS fold, {labels}, {masses} "
        "FROM earlier e LEFT JOIN item_rows i ON i.item = e.item "
        "LEFT JOIN user_rows u ON u.user = e.user GROUP BY ALL ORDER BY ALL"
    )
    for batch in engine.batches(sql):
        writer.append("earlier/item", batch["item"].to_numpy())
        writer.append("earlier/fold", batch["fold"].to_numpy())
        known = [batch["label_" + stage].fill_null(-1).to_numpy() for stage in transform.stages]
        writer.append("earlier/labels", np.stack(known, axis=1).astype(np.int8))
        mass = [batch[f"mass_{place}"].to_numpy() for place in range(len(MASSES))]
        writer.append("earlier/mass", np.stack(mass, axis=1).astype(np.float32))


def _placed(engine: Engine, timed: bool) -> tuple[str, Ranges]:
    """A table of the exposures in the order of the store, and the range of each split.

    Reading a table as it lies spares a sort; a split by time leaves the exposures in order.
    """
    found = {
        split: (n, first, last)
        for split, n, first, last in engine.rows(
            "SELECT split, count(*), min(exposure), max(exposure) FROM exposures GROUP BY split"
        )
    }
    ends = np.cumsum([0, *(found.get(split, (0,))[0] for split in SPLITS)]).tolist()
    ranges = {split: (ends[i], ends[i + 1]) for i, split in enumerate(SPLITS)}
    lies = {split: (first, last + 1) for split, (_, first, last) in found.items()}
    if timed and all(lies[split] == ranges.get(split) for split in lies):
        return "exposures", ranges
    order = "CASE e.split WHEN 'train' THEN 0 WHEN 'validation' THEN 1 ELSE 2 END, e.exposure"
    query, join = "", ""
    if not timed:
        # In order of time the exposures of a query stand together; without, they are looked up.
        query = ", coalesce(query, -1) AS query"
        join = (
            "LEFT JOIN (SELECT split, user, request, row_number() OVER (ORDER BY min(place)) - 1 "
            "AS query FROM (SELECT split, user, request, "
            f"row_number() OVER (ORDER BY {order}) AS place FROM exposures e "
            "WHERE split IS NOT NULL AND user IS NOT NULL) GROUP BY ALL) q ON q.split = e.split "
            "AND q.user = e.user AND q.request IS NOT DISTINCT FROM e.request"
        )
    engine.run(
        f"CREATE OR REPLACE TABLE placed AS SELECT e.*{query} FROM exposures e {join} "
        f"WHERE e.split IS NOT NULL ORDER BY {order}"
    )
    return "placed", ranges


def _rows_in(keys: pa.Array, wanted: pa.Array) -> NDArray[np.int32]:
    """Row from 1 of each key, int32; 0 for a missing one."""
    found = pc.fill_null(pc.index_in(wanted, value_set=keys), -1)
    rows: NDArray[np.int32] = pc.add(found, pa.scalar(1, pa.int32())).to_numpy()
    return rows


def _or_empty(engine: Engine, sql: str) -> Iterator[pa.RecordBatch]:
    """The answer's batches; one without rows where there are none, so that arrays get a shape."""
    batch = None
    for batch in engine.batches(sql):
        yield batch
    if batch is None:
        yield pa.RecordBatch.from_pylist([], schema=engine.table(sql).schema)
