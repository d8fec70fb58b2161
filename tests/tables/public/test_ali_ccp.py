from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.tables import Engine, prepare
from daogou.tables.public.ali_ccp import import_ali_ccp
from tests.tables.public.files import features


def files(folder: Path, train: list[str], test: list[str], common: list[str]) -> Path:
    for part, rows in (("train", train), ("test", test)):
        names = (f"sample_skeleton_{part}.csv", f"common_features_{part}.csv")
        for name, lines in zip(names, (rows, common), strict=True):
            (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


USERS = [
    f"c1,5,{features(f9101='99', f101='11', f121='1', f109_14='8:0.5', f122='2')}",
    f"c2,2,{features(f101='12', f124='3')}",
    f"c3,2,{features(f101='11', f122='1')}",
]
SHOWN = [
    f"1,1,1,c1,4,{features(f205='5', f206='60', f508='8:1.25', f301='2')}",
    f"2,0,1,c1,2,{features(f205='5', f206='61')}",
    f"3,1,0,c2,2,{features(f205='6', f207='70')}",
    f"4,0,0,c9,1,{features(f205='6')}",
]


def test_a_feature_is_read_of_its_own_field_with_its_strength(tmp_path: Path) -> None:
    import_ali_ccp(files(tmp_path, SHOWN, SHOWN, USERS), tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "events.parquet").to_pylist()
    told = ("id", "user_id", "item_id", "position", "with_category", "with_category_strength")
    # Field 9101 is not 101, and 109_14 is none of 109 and 14.
    assert [rows[0][name] for name in told] == ["train-1", "11", "5", "2", "8", 1.25]
    assert [rows[1][name] for name in told] == ["train-3", "12", "6", None, None, None]


def test_a_purchase_without_a_click_is_dropped_and_counted(tmp_path: Path) -> None:
    counts = import_ali_ccp(files(tmp_path, SHOWN, SHOWN[2:], USERS), tmp_path / "out")
    assert counts == {
        "impressions": 5,
        "purchases_without_click": 1,
        "items": 2,
        "items_of_several_values": 1,
        "users": 2,
        "users_of_several_values": 0,
        "without_common_features": 2,
        "clicks": 3,
        "purchases": 1,
    }


def test_products_and_users_have_their_fields_and_the_least_of_several(tmp_path: Path) -> None:
    shown = [*SHOWN, SHOWN[0].replace("c1", "c3")]
    import_ali_ccp(files(tmp_path, shown, SHOWN, USERS), tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "items.parquet").to_pylist() == [
        {"item_id": "5", "category": "60", "shop": None, "brand": None},
        {"item_id": "6", "category": None, "shop": "70", "brand": None},
    ]
    users = pq.read_table(tmp_path / "out" / "users.parquet").to_pylist()
    told = [(each["user_id"], each["user_121"], each["user_122"]) for each in users]
    assert told == [("11", "1", "1"), ("12", None, None)]


def test_the_published_test_is_the_test_and_the_validation_takes_whole_users(
    tmp_path: Path,
) -> None:
    common = [f"c{user},1,{features(f101=str(user))}" for user in range(60)]
    train = [f"{row},{row % 2},0,c{row % 60},1,{features(f205='5')}" for row in range(300)]
    import_ali_ccp(files(tmp_path, train, train[:50], common), tmp_path / "out")
    with Engine() as engine:
        sizes = prepare(engine, read_shop(tmp_path / "out")).split.exposures
        apart = engine.value(
            "SELECT count(*) FROM (SELECT request FROM exposures WHERE split <> 'test' "
            "GROUP BY request HAVING count(DISTINCT split) > 1)"
        )
    assert sizes["test"] == 50
    assert 0 < sizes["validation"] < sizes["train"]
    assert apart == 0


def test_the_folders_of_the_archives_are_looked_into(tmp_path: Path) -> None:
    source = files(tmp_path, SHOWN, SHOWN, USERS)
    for part in ("train", "test"):
        (tmp_path / f"sample_{part}").mkdir()
        for path in list(source.glob(f"*_{part}.csv")):
            path.rename(tmp_path / f"sample_{part}" / path.name)
    assert import_ali_ccp(source, tmp_path / "out")["clicks"] == 4


def test_a_label_that_is_no_number_is_refused_with_its_file(tmp_path: Path) -> None:
    source = files(tmp_path, [SHOWN[0].replace("1,1,1", "1,yes,1")], SHOWN, USERS)
    with pytest.raises(DataError, match=r"(?s)sample_skeleton_train\.csv: not the expected.*yes"):
        import_ali_ccp(source, tmp_path / "out")
