"""OA-Mine's human-annotated Amazon titles to a shop of items alone, spans found in the titles.

Source: ``train.jsonl`` of ExtractGPT's processed oa-mine (github wbsg-uni-mannheim/ExtractGPT,
data/processed_datasets; repository and OA-Mine data Apache-2.0): 1,452 titles of 10 categories,
7,360 values of 51 attributes, every value a piece of its title.

A value's span is its first occurrence, in the same case if there is one, otherwise in any case; a
value that is not in the title gives no span and is counted. A title counts as annotated for every
attribute that its category has in the file: an attribute without a value there is absent.
"""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from daogou.tables.engine import Engine
from daogou.tables.public.folder import (
    find_source,
    json_lines,
    toml_list,
    write_parquet,
    write_toml,
)

_HOME = (
    "github wbsg-uni-mannheim/ExtractGPT, data/processed_datasets/oa-mine "
    "(lines of input, category, target_scores)"
)
_SPAN = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("attribute", pa.string())])

_TOML = """\
# Amazon titles with annotated values: an extraction shop, items alone.
name = "oa-mine"
seed = 0

[items]
path = "items.parquet"
key = "item_id"
text = ["title"]
columns = ["category"]
attributes = {attributes}
spans = "spans"
# A title was labelled for the attributes of its category only.
annotated = "annotated"

[split]
# 1,452 titles are few: five runs with fold = 0 to 4 test every title once.
folds = 5
"""


def import_oa_mine(path: Path, out: Path) -> dict[str, int]:
    """Write the titles at ``path`` as a shop in ``out``; returns titles, values and spans.

    Raises `DataError` if the file is missing, or naming a line that is not as expected.
    """
    source = find_source(path, ("train.jsonl",), _HOME)
    rows = [row for _, row in json_lines(source, ("input", "category", "target_scores"))]
    of_category: dict[str, set[str]] = {}
    for row in rows:
        of_category.setdefault(row["category"], set()).update(row["target_scores"])
    found = [_spans(row["input"], row["target_scores"]) for row in rows]
    table = pa.table(
        {
            "item_id": pa.array(range(len(rows)), pa.int64()),
            "title": [row["input"] for row in rows],
            "category": [row["category"] for row in rows],
            "spans": pa.array(found, pa.list_(_SPAN)),
            "annotated": [sorted(of_category[row["category"]]) for row in rows],
        }
    )
    out.mkdir(parents=True, exist_ok=True)
    with Engine() as engine:
        engine.add("titles", table)
        write_parquet(engine, "FROM titles ORDER BY item_id", out / "items.parquet")
    attributes = sorted(set().union(*of_category.values()))
    write_toml(out, _TOML.format(attributes=toml_list(attributes)))
    n_values = sum(len(values) for row in rows for values in row["target_scores"].values())
    n_spans = sum(len(spans) for spans in found)
    return {
        "titles": len(rows),
        "categories": len(of_category),
        "attributes": len(attributes),
        "values": n_values,
        "spans": n_spans,
        "values_not_in_title": n_values - n_spans,
    }


def _spans(title: str, scores: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    """The first occurrence of each value, by start; one that stands as words of its own if any.

    The "10" of "105 cm, 10 pairs" is the second: the first only lies inside another number.

    >>> _spans("Red tea, RED box", {"Colour": {"RED": 1}, "Drink": {"Tea": 1}, "Size": {"L": 1}})
    [{'start': 4, 'end': 7, 'attribute': 'Drink'}, {'start': 9, 'end': 12, 'attribute': 'Colour'}]
    >>> _spans("105 cm, 10 pairs", {"Count": {"10": 1}})
    [{'start': 8, 'end': 10, 'attribute': 'Count'}]
    """
    spans = []
    for attribute, values in scores.items():
        for value in values:
            inside = re.escape(value)
            apart = rf"(?<!\w){inside}(?!\w)"
            tries = ((apart, 0), (inside, 0), (apart, re.IGNORECASE), (inside, re.IGNORECASE))
            match = next(filter(None, (re.search(how, title, flag) for how, flag in tries)), None)
            if match and value:
                spans.append({"start": match.start(), "end": match.end(), "attribute": attribute})
    return sorted(spans, key=lambda span: (span["start"], span["end"], span["attribute"]))
