import uuid
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.tables import Engine, prepare
from daogou.tables.public.rees46 import import_rees46

HEADER = (
    "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
)
SESSION = str(uuid.UUID(int=7))


def row(
    time: str, kind: str, product: int, brand: str = "acme", price: str = "9.50", user: int = 1
) -> str:
    return f"2019-10-01 {time} UTC,{kind},{product},21,a.b,{brand},{price},{user},{SESSION}\n"


def log(folder: Path, text: str) -> Path:
    (folder / "2019-Oct.head.csv").write_text(HEADER + text, encoding="utf-8")
    return folder


def test_a_cut_last_line_is_dropped_and_counted(tmp_path: Path) -> None:
    whole = row("00:00:00", "view", 5)
    for cut in (row("00:01:00", "view", 5)[:60], row("00:01:00", "view", 5)[:-9]):
        counts = import_rees46(log(tmp_path, whole + cut), tmp_path / "out")
        assert (counts["view"], counts["cut_lines"]) == (1, 1)


def test_a_whole_last_line_needs_no_line_end(tmp_path: Path) -> None:
    text = (row("00:00:00", "view", 5) + row("00:01:00", "cart", 5)).rstrip("\n")
    counts = import_rees46(log(tmp_path, text), tmp_path / "out")
    assert counts == {
        "items": 1,
        "users": 1,
        "view": 1,
        "cart": 1,
        "purchase": 0,
        "other_kinds": 0,
        "cut_lines": 0,
    }


def test_a_product_has_its_last_known_brand_and_price(tmp_path: Path) -> None:
    text = (
        row("00:00:00", "view", 5, price="9.50")
        + row("00:01:00", "view", 5, brand="", price="8.00")
        + row("00:02:00", "view", 4, brand="", price="1.00")
    )
    import_rees46(log(tmp_path, text), tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "items.parquet").to_pylist() == [
        {"product_id": 4, "category_id": "21", "category_code": "a.b", "brand": None, "price": 1.0},
        {
            "product_id": 5,
            "category_id": "21",
            "category_code": "a.b",
            "brand": "acme",
            "price": 8.0,
        },
    ]


def test_a_log_of_days_has_windows_of_a_day(tmp_path: Path) -> None:
    late = row("00:00:00", "view", 5).replace("2019-10-01", "2019-10-03")
    import_rees46(log(tmp_path, row("00:00:00", "view", 5) + late), tmp_path / "out")
    shop = read_shop(tmp_path / "out")
    assert shop.events is not None
    assert shop.events.window_of("purchase") == 24
    assert shop.split.test == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (row("00:00:00", "view", 5, price="nine"), "not the expected CSV"),
        ("2019-10-01", "none of its 1 rows is whole"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        import_rees46(log(tmp_path, text), tmp_path / "out")


def test_the_real_head_is_read_but_for_its_cut_line(
    tmp_path: Path, real: Callable[[str], Path]
) -> None:
    counts = import_rees46(real("rees46_head"), tmp_path / "out")
    # Its README counts the cut line's view and user as well: 17,056 and 4,505.
    assert counts == {
        "items": 6493,
        "users": 4504,
        "view": 17055,
        "cart": 165,
        "purchase": 214,
        "other_kinds": 0,
        "cut_lines": 1,
    }
    with Engine() as engine:
        prepare(engine, read_shop(tmp_path / "out"))
        known = dict(engine.rows("SELECT split, sum(label_purchase) FROM exposures GROUP BY split"))
    assert min(known.values()) > 20
