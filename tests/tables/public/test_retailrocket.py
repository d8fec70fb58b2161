from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daogou.errors import DataError
from daogou.tables.public.retailrocket import import_retailrocket

PROPERTIES = "timestamp,itemid,property,value\n"


def files(folder: Path, events: str, snapshots: str = "") -> Path:
    head = "timestamp,visitorid,event,itemid,transactionid\n"
    (folder / "events.csv").write_text(head + events, encoding="utf-8")
    (folder / "item_properties_part1.csv").write_text(PROPERTIES + snapshots, encoding="utf-8")
    (folder / "item_properties_part2.csv").write_text(
        PROPERTIES + "1431226800000,9,790,n1000.000\n", encoding="utf-8"
    )
    (folder / "category_tree.csv").write_text(
        "categoryid,parentid\n5,1\n6,2\n1,\n", encoding="utf-8"
    )
    return folder


def test_a_product_has_its_first_category_whatever_comes_later(tmp_path: Path) -> None:
    snapshots = (
        "1435460400000,7,categoryid,6\n"
        "1431226800000,7,categoryid,5\n"
        "1431226800000,8,categoryid,1\n"
        "1435460400000,8,categoryid,1\n"
        "1431226800000,8,available,1\n"
    )
    source = files(tmp_path, "1430622000000,3,view,7,\n", snapshots)
    counts = import_retailrocket(source, tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "items.parquet").to_pylist() == [
        {"item_id": 7, "category": 5, "parent_category": 1},
        {"item_id": 8, "category": 1, "parent_category": None},
    ]
    assert counts["items_whose_category_changes"] == 1


def test_milliseconds_are_utc_and_a_transaction_keeps_no_id(tmp_path: Path) -> None:
    events = "1439694000123,1,view,100,\n1439694000000,2,transaction,1000,234\n"
    counts = import_retailrocket(files(tmp_path, events), tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "events.parquet").to_pylist()
    assert [{**row, "time": str(row["time"])} for row in rows] == [
        {"visitor_id": 1, "item_id": 100, "time": "2015-08-16 03:00:00.123000", "kind": "view"},
        {"visitor_id": 2, "item_id": 1000, "time": "2015-08-16 03:00:00", "kind": "transaction"},
    ]
    assert counts == {
        "items": 0,
        "view": 1,
        "addtocart": 0,
        "transaction": 1,
        "items_whose_category_changes": 0,
    }


def test_a_missing_part_of_the_properties_is_named(tmp_path: Path) -> None:
    source = files(tmp_path, "1430622000000,3,view,7,\n")
    (source / "item_properties_part2.csv").unlink()
    with pytest.raises(DataError, match=r"item_properties_part2\.csv.*Kaggle"):
        import_retailrocket(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("events", "snapshots", "message"),
    [
        ("1430622000000,3,views,7,\n", "", "event: .*did you mean 'view'"),
        ("1430622000000,three,view,7,\n", "", "not the expected CSV.*three"),
        ("1430622000000,3,view,7,\n", "1431226800000,7,categoryid,tea\n", "part1.*tea"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, events: str, snapshots: str, message: str
) -> None:
    with pytest.raises(DataError, match=f"(?s){message}"):
        import_retailrocket(files(tmp_path, events, snapshots), tmp_path / "out")
