import gzip
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.tables import Engine, prepare
from daogou.tables.public.taobao_user_behavior import import_taobao_user_behavior

START = 1_511_539_200  # midnight of 25 November 2017 in China
END = START + 9 * 86_400


def log(folder: Path, *rows: tuple[int, int, int, str, int]) -> Path:
    lines = (",".join(map(str, row)) for row in rows)
    (folder / "UserBehavior.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_rows_outside_the_nine_days_of_china_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [(1, 7, 3, "pv", seconds) for seconds in (START - 1, START, END - 1, END, -5)]
    counts = import_taobao_user_behavior(log(tmp_path, *rows), tmp_path / "out")
    assert counts == {
        "items": 1,
        "users": 1,
        "pv": 2,
        "fav": 0,
        "cart": 0,
        "buy": 0,
        "outside_the_nine_days": 3,
        "items_of_several_categories": 0,
    }
    times = pq.read_table(tmp_path / "out" / "events.parquet")["time"].to_pylist()
    assert [str(time) for time in times] == ["2017-11-24 16:00:00", "2017-12-03 15:59:59"]


def test_a_product_of_several_categories_has_the_least_and_is_counted(tmp_path: Path) -> None:
    rows = [(1, 7, 3, "pv", START), (1, 7, 2, "pv", START), (1, 8, 5, "pv", START)]
    counts = import_taobao_user_behavior(log(tmp_path, *rows), tmp_path / "out")
    assert counts["items_of_several_categories"] == 1
    assert pq.read_table(tmp_path / "out" / "items.parquet").to_pylist() == [
        {"item_id": 7, "category": 2},
        {"item_id": 8, "category": 5},
    ]


def test_a_purchase_tells_the_view_before_it_and_a_favourite_is_history_alone(
    tmp_path: Path,
) -> None:
    days = [START + day * 86_400 for day in (0, 1, 6, 7)]  # the last two: validation and test
    rows = [(1, 7, 3, "pv", second) for second in days]
    rows += [(1, 7, 3, "fav", START + 60), (1, 7, 3, "buy", START + 120)]
    import_taobao_user_behavior(log(tmp_path, *rows), tmp_path / "out")
    with Engine() as engine:
        prepare(engine, read_shop(tmp_path / "out"))
        told = engine.rows("SELECT split, label_cart, label_buy FROM exposures ORDER BY exposure")
        actions = engine.rows("SELECT action FROM history ORDER BY time")
    # The log ends with the last view, so that nothing is known of it.
    assert told == [
        ("train", 1, 1),
        ("train", 0, 0),
        ("validation", 0, 0),
        ("test", None, None),
    ]
    assert [action for (action,) in actions] == ["pv", "fav", "buy", "pv", "pv", "pv"]


def test_the_file_may_be_gzipped(tmp_path: Path) -> None:
    text = f"1,7,3,pv,{START}\n".encode()
    (tmp_path / "UserBehavior.csv.gz").write_bytes(gzip.compress(text))
    assert import_taobao_user_behavior(tmp_path, tmp_path / "out")["pv"] == 1


def test_another_behaviour_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    source = log(tmp_path, (1, 7, 3, "buys", START))
    with pytest.raises(DataError, match=r"UserBehavior.csv: behaviour: .*did you mean 'buy'"):
        import_taobao_user_behavior(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"1,7,3,pv,{START}\n1,seven,3,pv,{START}\n", "(?s)not the expected log.*seven"),
        (f"1,7,pv,{START}\n", "first line should be 5 fields"),
        ("1,7,3,pv,-5\n", "no row is left"),
        ("", "first line should be 5 fields"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "UserBehavior.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        import_taobao_user_behavior(tmp_path, tmp_path / "out")
