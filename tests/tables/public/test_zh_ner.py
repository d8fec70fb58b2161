import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.tables import Engine, prepare
from daogou.tables.public.zh_ner import import_zh_ner

TAOBAO: dict[str, Any] = {
    "text": "羚跑背包15.6寸",
    "spans": [[0, 2, "brand"], [2, 4, "product"], [4, 9, "misc"]],
    "source": "taobao_naacl19",
}
GRAPH: dict[str, Any] = {
    "text": "红茶😀礼盒",
    "spans": [[3, 5, "product"]],
    "source": "multidigraph_acl19",
}


def titles(folder: Path, train: list[Any], dev: list[Any]) -> Path:
    for name, rows in (("train", train), ("dev", dev)):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def test_spans_are_code_points_and_dev_is_the_test(tmp_path: Path) -> None:
    counts = import_zh_ner(titles(tmp_path, [TAOBAO], [GRAPH]), tmp_path / "out")
    assert counts == {"train": 1, "test": 1, "brand": 1, "product": 2, "model": 0, "misc": 1}
    rows = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
    assert [row["item_id"] for row in rows] == [0, 1]
    assert [row["split"] for row in rows] == ["train", "test"]
    pieces = [[row["title"][s["start"] : s["end"]] for s in row["spans"]] for row in rows]
    assert pieces == [["羚跑", "背包", "15.6寸"], ["礼盒"]]
    assert [s["attribute"] for s in rows[0]["spans"]] == ["brand", "product", "misc"]


def test_what_a_source_never_labelled_is_not_annotated(tmp_path: Path) -> None:
    import_zh_ner(titles(tmp_path, [TAOBAO], [GRAPH]), tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
    assert rows[0]["annotated"] == ["brand", "product", "model", "misc"]
    assert rows[1]["annotated"] == ["brand", "product"]
    assert read_shop(tmp_path / "out").attributes == ("brand", "product", "model", "misc")


def test_a_title_without_spans_keeps_an_empty_list(tmp_path: Path) -> None:
    import_zh_ner(titles(tmp_path, [{**GRAPH, "spans": []}], []), tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()[0]["spans"] == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**GRAPH, "spans": [[3, 6, "product"]]}, r"2: span 3 to 6 does not lie .* 5 characters"),
        ({**GRAPH, "spans": [[3, 3, "product"]]}, r"2: span 3 to 3 does not lie"),
        ({**GRAPH, "spans": [[0, 1, "brnd"]]}, r"2: spans: no 'brnd' .*mean 'brand'"),
        ({**GRAPH, "source": "taobao"}, r"2: source: no 'taobao' here"),
        ({"text": "红茶"}, r"2: no spans, source here"),
        (7, r"2: no text, spans, source here"),
    ],
)
def test_a_wrong_line_is_refused_by_number(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        import_zh_ner(titles(tmp_path, [TAOBAO, row], []), tmp_path / "out")


def test_a_line_that_is_not_json_is_refused_by_number(tmp_path: Path) -> None:
    titles(tmp_path, [TAOBAO], [])
    (tmp_path / "train.jsonl").write_text("{\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"train.jsonl:1: not JSON"):
        import_zh_ner(tmp_path, tmp_path / "out")


def test_the_real_files_have_the_counts_that_their_readme_states(
    tmp_path: Path, real: Callable[[str], Path]
) -> None:
    counts = import_zh_ner(real("zh_ner"), tmp_path / "out")
    assert counts == {
        "train": 3632 + 3637,
        "test": 874 + 485,
        "brand": 3229 + 624,
        "product": 21824 + 4303,
        "model": 1019 + 238,
        "misc": 2630 + 667,
    }
    with Engine() as engine:
        titles = prepare(engine, read_shop(tmp_path / "out")).split.titles
    assert titles["test"] == 1359
    assert titles["train"] + titles["validation"] == 7269
    assert 500 < titles["validation"] < 1000
