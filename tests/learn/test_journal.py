"""What a kill cuts off costs one record and no other."""

from pathlib import Path

from daogou.artifact import read_records
from daogou.learn.journal import append_record


def test_records_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append_record(path, {"epoch": 1, "什么": float("nan")})
    append_record(path, {"epoch": 2})
    assert read_records(path) == [{"epoch": 1, "什么": None}, {"epoch": 2}]


def test_a_line_cut_anywhere_leaves_those_before_and_after_it_readable(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append_record(path, {"epoch": 1})
    whole = path.read_bytes()
    append_record(path, {"epoch": "二"})
    both = path.read_bytes()
    for cut in range(len(whole) + 1, len(both) - 1):
        path.write_bytes(both[:cut])
        append_record(path, {"epoch": 2})
        assert read_records(path) == [{"epoch": 1}, {"epoch": 2}]
