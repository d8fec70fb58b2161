import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.tables import Engine, prepare
from daogou.tables.public.otto import import_otto

# As the publisher shows it.
START = 1_661_200_000_000
SESSION = [
    (0, 10, "clicks"),
    (2, 30, "clicks"),
    (2, 40, "carts"),
    (3, 50, "clicks"),
    (2, 80, "orders"),
]


def file(folder: Path, *sessions: list[tuple[int, int, str]], name: str = "train.jsonl") -> Path:
    lines = [
        {
            "session": number,
            "events": [{"aid": a, "ts": START + s * 1000, "type": t} for a, s, t in session],
        }
        for number, session in enumerate(sessions)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_a_session_becomes_a_user_and_its_events_the_log(tmp_path: Path) -> None:
    counts = import_otto(file(tmp_path, SESSION, SESSION[:1]), tmp_path / "out")
    assert counts == {"items": 3, "sessions": 2, "clicks": 4, "carts": 1, "orders": 1}
    rows = pq.read_table(tmp_path / "out" / "events.parquet").to_pylist()
    assert {**rows[2], "time": str(rows[2]["time"])} == {
        "session": 0,
        "aid": 2,
        "time": "2022-08-22 20:27:20",
        "kind": "carts",
    }
    assert pq.read_table(tmp_path / "out" / "items.parquet")["aid"].to_pylist() == [0, 2, 3]


def test_an_order_tells_of_the_click_before_it(tmp_path: Path) -> None:
    late = [(9, day * 86_400, "clicks") for day in range(1, 30)]
    import_otto(file(tmp_path, SESSION, late), tmp_path / "out")
    with Engine() as engine:
        prepare(engine, read_shop(tmp_path / "out"))
        told = engine.rows(
            'SELECT item, label_carts, label_orders FROM exposures WHERE "user" = 0 ORDER BY item'
        )
    assert told == [(0, 0, 0), (2, 1, 1), (3, 0, 0)]


def test_the_truncated_test_of_the_competition_is_never_read(tmp_path: Path) -> None:
    file(tmp_path, SESSION, SESSION, name="test.jsonl")
    assert import_otto(file(tmp_path, SESSION), tmp_path / "out")["sessions"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"session": 1, "events": [{"aid": 1, "ts": 1, "type": "views"}]}\n', "type: no 'views'"),
        ('{"session": 1}\n', "first line should be a JSON object with events"),
        ('{"session": 1, "events": []}\n', "no row is left"),
        ('{"session": 1, "events": []}\nhere\n', "not the expected JSON lines"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "train.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        import_otto(tmp_path, tmp_path / "out")
