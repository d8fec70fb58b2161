"""What a table of products lacks, and where the answers come from."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daogou.errors import DataError
from daogou.guide import Guide
from daogou.guide.extract import Reading
from daogou.guide.fill import Filled, proposals


@pytest.fixture
def sure_guide(guide: Guide, monkeypatch: pytest.MonkeyPatch) -> Guide:
    """One epoch taught little: the first word of every title is taken for a colour."""
    found = [Reading([(0, 3, "colour", 0.9), (4, 8, "colour", 0.6)], {})]
    monkeypatch.setattr(
        "daogou.guide.extract.read", lambda _, titles, **__: iter(found * len(titles))
    )
    return guide


def table(path: Path, **columns: list[str | None]) -> Path:
    pq.write_table(pa.table({"item_id": [7, 5, 9], **columns}), path)
    return path


TITLES = ["red boot", "tan coat", "jet ring"]


def test_what_is_missing_is_proposed_and_what_is_there_left_alone(
    sure_guide: Guide, tmp_path: Path
) -> None:
    path = table(tmp_path / "new.parquet", title=TITLES, colour=["mine", None, "  "])
    before = path.read_bytes()
    filled = Filled()
    found = list(proposals(sure_guide, path, filled))
    assert [(each["item"], each["attribute"], each["text"]) for each in found] == [
        ("5", "colour", "tan"), ("9", "colour", "jet"),
    ]  # fmt: skip
    assert all(each["from"] == "span" and each["span"] == [0, 3] for each in found)
    assert all(0 <= each["confidence"] <= 0.9 for each in found)  # the surest of the two
    assert filled.n_items == 3
    assert filled.missing["colour"] == 2
    assert filled.proposed == {"colour": 2}
    assert path.read_bytes() == before


def test_an_attribute_without_a_column_is_missing_everywhere(
    sure_guide: Guide, tmp_path: Path
) -> None:
    filled = Filled()
    found = list(proposals(sure_guide, table(tmp_path / "new.parquet", title=TITLES), filled))
    assert [each["item"] for each in found] == ["7", "5", "9"]
    assert set(filled.missing.values()) == {3}


def test_a_table_may_be_csv(sure_guide: Guide, tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("item_id,title,colour\n1,red boot,\n2,tan coat,tan\n", encoding="utf-8")
    assert [each["item"] for each in proposals(sure_guide, path, Filled())] == ["1"]


def test_a_table_that_cannot_be_read_is_refused(guide: Guide, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.parquet: no such file; give the table"):
        list(proposals(guide, tmp_path / "none.parquet", Filled()))
    (tmp_path / "new.txt").write_text("x")
    with pytest.raises(DataError, match=r"new\.txt: not a table; give a file that ends in"):
        list(proposals(guide, tmp_path / "new.txt", Filled()))
    with pytest.raises(DataError, match=r"items\.text.*no 'title' here"):
        list(proposals(guide, table(tmp_path / "no.parquet", name=TITLES), Filled()))
