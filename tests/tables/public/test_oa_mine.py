import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.tables import Engine, prepare
from daogou.tables.public.oa_mine import _spans, import_oa_mine

ROWS: list[Any] = [
    {
        "input": "Acme red Tea, Red box 20 g",
        "category": "Tea",
        "target_scores": {"Flavor": {"Red": 1}, "Brand": {"ACME": 1}, "Net content": {"20 g": 1}},
    },
    {
        "input": "Zed tea",
        "category": "Tea",
        "target_scores": {"Brand": {"Zed": 1, "Zeta": 1}, "Type": {"Zed tea": 1}},
    },
    {"input": "Zed mask", "category": "Mask", "target_scores": {"Brand": {"Zed": 1}}},
]


def titles(folder: Path, rows: list[Any]) -> Path:
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def spans(folder: Path) -> list[list[tuple[int, int, str]]]:
    rows = pq.read_table(folder / "items.parquet").to_pylist()
    return [[(s["start"], s["end"], s["attribute"]) for s in row["spans"]] for row in rows]


def test_a_value_is_its_first_occurrence_in_its_own_case_else_in_any(tmp_path: Path) -> None:
    counts = import_oa_mine(titles(tmp_path, ROWS), tmp_path / "out")
    # "Red" is at 14 in its own case though "red" comes first at 5; "ACME" is only there as "Acme";
    # "Zeta" is not in its title; "Zed" and "Zed tea" overlap, and both stay.
    assert spans(tmp_path / "out") == [
        [(0, 4, "Brand"), (14, 17, "Flavor"), (22, 26, "Net content")],
        [(0, 3, "Brand"), (0, 7, "Type")],
        [(0, 3, "Brand")],
    ]
    assert counts == {
        "titles": 3,
        "categories": 2,
        "attributes": 4,
        "values": 7,
        "spans": 6,
        "values_not_in_title": 1,
    }


@given(st.text(min_size=1), st.tuples(st.integers(0, 99), st.integers(0, 99)))
@example("00:0", (0, 1)).via("the first 0 lies inside a number, the last stands alone")
@example("ç0:Ç", (0, 1)).via("the other case stands alone, the same case does not")
def test_a_piece_of_a_title_is_found_at_its_first_place_or_its_first_as_words_of_its_own(
    title: str, piece: tuple[int, int]
) -> None:
    start, end = (place % (len(title) + 1) for place in piece)
    start, end = min(start, end), max(start, end)
    assume(start < end)
    value = title[start:end]
    (span,) = _spans(title, {"Brand": {value: 1}})
    assert title[span["start"] : span["end"]] == value
    places = [at for at in range(len(title)) if title.startswith(value, at)]
    alone = [at for at in places if stands_alone(title, at, at + len(value))]
    assert span["start"] == min(alone or places)


def stands_alone(title: str, start: int, end: int) -> bool:
    """Whether no letter or digit touches either end."""
    sides = title[max(start - 1, 0) : start] + title[end : end + 1]
    return not re.search(r"\w", sides)


def test_an_empty_value_has_no_span() -> None:
    assert _spans("Red tea", {"Brand": {"": 1}}) == []


def test_a_title_is_annotated_for_the_attributes_of_its_category(tmp_path: Path) -> None:
    import_oa_mine(titles(tmp_path, ROWS), tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
    tea = ["Brand", "Flavor", "Net content", "Type"]
    assert [row["annotated"] for row in rows] == [tea, tea, ["Brand"]]
    shop = read_shop(tmp_path / "out")
    assert shop.attributes == tuple(tea)
    assert shop.items is not None
    assert shop.items.columns == ("category",)
    assert shop.split.folds == 5


def test_a_line_without_its_category_is_refused_by_number(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train.jsonl:2: no category here"):
        import_oa_mine(
            titles(tmp_path, [ROWS[0], {"input": "a", "target_scores": {}}]), tmp_path / "out"
        )


def test_every_value_of_the_real_file_is_found_in_its_title(
    tmp_path: Path, real: Callable[[str], Path]
) -> None:
    counts = import_oa_mine(real("oa_mine"), tmp_path / "out")
    assert counts == {
        "titles": 1452,
        "categories": 10,
        "attributes": 51,
        "values": 7360,
        "spans": 7360,
        "values_not_in_title": 0,
    }
    with Engine() as engine:
        assert sum(prepare(engine, read_shop(tmp_path / "out")).split.titles.values()) == 1452
