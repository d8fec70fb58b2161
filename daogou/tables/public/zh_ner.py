"""Chinese product titles with brand, product, model and misc spans to a shop of items alone.

Source: ``train.jsonl`` and ``dev.jsonl``, the deduplicated union of two published sets of
annotated e-commerce titles (taobao_naacl19 and multidigraph_acl19); their research licences
are not stated with the files, so do not pass them on.

Only taobao_naacl19 rows are annotated for model and misc; in multidigraph_acl19 rows those two are
unlabelled, not absent, and ``annotated`` says so. ``dev.jsonl`` is the test split; the validation
split is carved from ``train.jsonl`` when the shop is prepared. The gazetteers beside the files
are not read: a gazetteer is built from the training titles alone.
"""

from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from daogou.errors import DataError, unknown
from daogou.tables.engine import Engine
from daogou.tables.public.folder import find_source, json_lines, write_parquet, write_toml

_HOME = "the zh_ner folder (train.jsonl and dev.jsonl: text, spans [[start, end, label]], source)"
ATTRIBUTES: Final = ("brand", "product", "model", "misc")
# What the annotators of each source looked for.
_ANNOTATED: Final = {
    "taobao_naacl19": list(ATTRIBUTES),
    "multidigraph_acl19": ["brand", "product"],
}
SPAN = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("attribute", pa.string())])

_TOML = """\
# Chinese product titles with annotated spans: an extraction shop, items alone.
name = "zh-ner"
seed = 0

[items]
path = "items.parquet"
key = "item_id"
text = ["title"]
attributes = ["brand", "product", "model", "misc"]
spans = "spans"
# Rows of multidigraph_acl19 were never labelled for model and misc: unknown, not absent.
annotated = "annotated"
# The published dev file is the test; the validation titles are carved from train.
split = "split"
"""


def import_zh_ner(path: Path, out: Path) -> dict[str, int]:
    """Write the titles in folder ``path`` as a shop in ``out``; returns titles and spans.

    Raises `DataError` if a file is missing, or naming the line of a span that does not lie in its
    title, of an unknown label or of an unknown source.
    """
    columns: dict[str, list[Any]] = {
        name: [] for name in ("item_id", "title", "spans", "annotated", "source", "split")
    }
    counts = {"train": 0, "test": 0, **dict.fromkeys(ATTRIBUTES, 0)}
    for split, name in (("train", "train.jsonl"), ("test", "dev.jsonl")):
        source = find_source(path / name, (), _HOME)
        for number, row in json_lines(source, ("text", "spans", "source")):
            where = f"{source}:{number}"
            if row["source"] not in _ANNOTATED:
                raise DataError(f"{where}: source: {unknown(row['source'], _ANNOTATED)}")
            spans = [_span(where, row["text"], span) for span in row["spans"]]
            columns["item_id"].append(len(columns["item_id"]))
            columns["title"].append(row["text"])
            columns["spans"].append(spans)
            columns["annotated"].append(_ANNOTATED[row["source"]])
            columns["source"].append(row["source"])
            columns["split"].append(split)
            counts[split] += 1
            for span in spans:
                counts[span["attribute"]] += 1
    out.mkdir(parents=True, exist_ok=True)
    with Engine() as engine:
        engine.add(
            "titles", pa.table({**columns, "spans": pa.array(columns["spans"], pa.list_(SPAN))})
        )
        write_parquet(engine, "FROM titles ORDER BY item_id", out / "items.parquet")
    write_toml(out, _TOML)
    return counts


def _span(where: str, text: str, span: list[Any]) -> dict[str, Any]:
    start, end, attribute = span
    if attribute not in ATTRIBUTES:
        raise DataError(f"{where}: spans: {unknown(attribute, ATTRIBUTES)}")
    if not 0 <= start < end <= len(text):
        raise DataError(
            f"{where}: span {start} to {end} does not lie in a title of {len(text)} characters"
        )
    return {"start": start, "end": end, "attribute": attribute}
