from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.tables import Engine, prepare
from daogou.tables.public.kuairand import import_kuairand
from tests.tables.public.files import kuairand

LOG = (
    "user_id,video_id,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,tab\n"
)
EARLY, LATE = "log_standard_4_08_to_4_21_pure.csv", "log_standard_4_22_to_5_08_pure.csv"
RANDOM = "log_random_4_22_to_5_08_pure.csv"


def files(folder: Path, **logs: str) -> Path:
    kuairand(folder)
    for name, text in logs.items():
        (folder / {"early": EARLY, "late": LATE, "random": RANDOM}[name]).write_text(
            LOG + text, encoding="utf-8"
        )
    return folder


def test_a_row_becomes_a_showing_and_what_came_of_it_at_one_moment(tmp_path: Path) -> None:
    rows = "7,9,1649400000123,1,1,0,0,0,0,1,18500,4\n7,8,1649400001000,0,0,0,0,0,1,0,900,4\n"
    counts = import_kuairand(files(tmp_path, early=rows), tmp_path / "out")
    found = pq.read_table(tmp_path / "out" / "events" / "early_0.parquet").to_pylist()
    assert [(row["video_id"], row["kind"], row["watched_s"]) for row in found] == [
        (9, "shown", None),
        (9, "click", None),
        (9, "long_view", 18.5),
        (9, "like", None),
        (8, "shown", None),
        (8, "hate", None),
    ]
    assert {str(row["time"]) for row in found if row["video_id"] == 9} == {
        "2022-04-08 06:40:00.123000"
    }
    assert (counts["shown"], counts["hate"], counts["like"] > 0) == (602, 1, True)


def test_a_click_and_the_seconds_of_a_long_view_are_labels_of_their_row(tmp_path: Path) -> None:
    rows = "".join(
        f"7,9,{1_649_400_000_000 + day * 86_400_000},{click},0,0,0,0,0,{long},{18_500 * day},4\n"
        for day, click, long in ((0, 0, 0), (1, 1, 0), (2, 1, 1), (3, 0, 0))
    )
    import_kuairand(files(tmp_path, early=rows), tmp_path / "out")
    with Engine() as engine:
        prepare(engine, read_shop(tmp_path / "out"))
        told = engine.rows(
            "SELECT label_click, label_long_view, value FROM exposures "
            "WHERE time < TIMESTAMP '2022-04-12' ORDER BY exposure"
        )
    # 0 where no long view came: what an earlier stage is worth counts those who went no further.
    assert told == [(0, 0, 0.0), (1, 0, 0.0), (1, 1, 37.0), (0, 0, 0.0)]


def test_chance_is_tested_after_the_first_weeks_and_looks_back_on_the_later_ones(
    tmp_path: Path,
) -> None:
    late = "7,9,1650700000000,1,0,0,0,0,0,0,8000,4\n"
    by_chance = "7,3,1650800000000,0,0,0,0,0,0,0,0,4\n7,4,1650600000000,1,0,0,0,0,0,0,8000,4\n"
    import_kuairand(files(tmp_path, late=late, random=by_chance), tmp_path / "out")
    with Engine() as engine:
        counts = prepare(engine, read_shop(tmp_path / "out" / "random"))
        tested = engine.rows("SELECT item FROM exposures WHERE split = 'test' ORDER BY item")
        seen = engine.rows(
            "SELECT item FROM history WHERE \"user\" = 7 AND time >= TIMESTAMP '2022-04-22' "
            "ORDER BY item"
        )
        in_train = engine.value("SELECT max(time) FROM exposures WHERE split <> 'test'")
    assert tested == [(3,), (4,)]
    assert seen == [(4,), (9,)]
    assert str(in_train) < "2022-04-22"
    assert sum(counts.split.exposures.values()) == 602


def test_nothing_of_users_without_a_date_is_an_input_but_the_encrypted(tmp_path: Path) -> None:
    import_kuairand(files(tmp_path), tmp_path / "out")
    users = read_shop(tmp_path / "out").users
    assert users is not None
    assert users.columns == tuple(f"onehot_feat{n}" for n in range(18))
    assert "user_active_degree" in users.profile
    assert not [name for name in users.columns + users.profile if name.endswith("_num")]
    videos = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
    assert videos[1] == {
        "video_id": 2,
        "author_id": "2",
        "video_type": "NORMAL",
        "upload_day": 19053,
        "upload_type": "Web",
        "duration_s": 17.2,
        "music_type": "4",
        "tag": "1,2",
    }


def test_logs_in_parts_are_read_as_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    source = files(tmp_path / "data")
    for path in list(source.iterdir()):
        path.rename(source / path.name.replace("_pure", "_27k"))
    whole = source / EARLY.replace("pure", "27k")
    row = "7,9,1650700000000,1,0,0,0,0,0,0,8000,4\n"
    for part in (1, 2):
        name = whole.name.replace(".csv", f"_part{part}.csv")
        (source / name).write_text(LOG + row * part, encoding="utf-8")
    whole.unlink()
    counts = import_kuairand(tmp_path, tmp_path / "out")
    assert counts["shown"] == 603
    assert len(list((tmp_path / "out" / "events").glob("early_*.parquet"))) == 2


def test_a_missing_file_of_a_version_is_named(tmp_path: Path) -> None:
    source = files(tmp_path)
    (source / RANDOM).unlink()
    with pytest.raises(DataError, match=f"{RANDOM}.*github.com/chongminggao/KuaiRand"):
        import_kuairand(source, tmp_path / "out")
