"""KuaiRand's short videos to two shops: as the app recommended them, and as chance did.

Source: KuaiRand-Pure (0.2 GB), -1K (4.3 GB) or -27K (46 GB), CC BY-SA 4.0; files, fields and facts
from https://github.com/chongminggao/KuaiRand (the authors give it on request). CSV files with
headers, in the folder or its ``data``: ``log_standard_4_08_to_4_21_pure.csv`` and
``log_standard_4_22_to_5_08_pure.csv``, ``log_random_4_22_to_5_08_pure.csv``,
``user_features_pure.csv`` and ``video_features_basic_pure.csv``, with ``1k`` or ``27k`` for
``pure``; those of 27k may come in parts (``_part1``).

* Every row is a video that was shown. Labels are ``is_click`` (in one of the two layouts that is
  more than 7 seconds of play) and ``long_view`` (18 seconds, or all of a shorter video) given it;
  a row tells both at its own moment. ``value`` is the seconds watched of a long view.
* Likes, follows, comments, forwards and hates are no stages, since none leads to another. They
  enter the history.
* **out/** has the standard log, split by time. **out/random/** trains on its first two weeks and
  tests on what was shown at random in the weeks after, when the standard log is history: what a
  model knows of videos that no recommender chose.
* ``tab``, the place in the app, is the domain.

**What is known of users has no date**, and may be from after what they saw. So how active they are,
how many follow them and for how long they are registered is what profiling predicts, and no input;
the 18 encrypted features are inputs.

Left out: ``video_features_statistic`` (averages of the month, so of the future), ``visible_status``
(of now), the numbers of which users have ranges, how long they looked at the profile or comments
(after the showing), sizes and music ids.
"""

from pathlib import Path
from typing import Final

from daogou.errors import DataError
from daogou.tables.engine import Engine, quoted
from daogou.tables.public.folder import (
    Report,
    about_lines,
    csv_rows,
    engine_in,
    find_source,
    folder_of,
    reading,
    say_nothing,
    stream_parquet,
    toml_list,
    write_parquet,
    write_toml,
)

_HOME = "the authors of KuaiRand (https://github.com/chongminggao/KuaiRand), unpacked"
_EARLY, _LATE = "log_standard_4_08_to_4_21", "log_standard_4_22_to_5_08"
_RANDOM = "log_random_4_22_to_5_08"
_FEEDBACK: Final = {
    "click": "is_click",
    "long_view": "long_view",
    "like": "is_like",
    "follow": "is_follow",
    "comment": "is_comment",
    "forward": "is_forward",
    "hate": "is_hate",
}
_LOG: Final = {
    "user_id": "BIGINT",
    "video_id": "BIGINT",
    "time_ms": "BIGINT",
    **dict.fromkeys(_FEEDBACK.values(), "BIGINT"),
    "play_time_ms": "DOUBLE",
    "tab": "VARCHAR",
}
_PROFILE: Final = (
    "user_active_degree",
    "is_live_streamer",
    "is_video_author",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
)
_ENCRYPTED: Final = tuple(f"onehot_feat{n}" for n in range(18))
_VIDEO: Final = {
    "video_id": "BIGINT",
    "author_id": "VARCHAR",
    "video_type": "VARCHAR",
    "upload_dt": "VARCHAR",
    "upload_type": "VARCHAR",
    "video_duration": "DOUBLE",
    "music_type": "VARCHAR",
    "tag": "VARCHAR",
}
_ROWS_PER_LINE: Final = 2  # a showing and what came of it: for the bar alone

_TOML = """\
{comment}
name = "{name}"
seed = 0

[items]
path = "{up}items.parquet"
key = "video_id"
columns = [
  "author_id", "video_type", "upload_day", "upload_type", "duration_s", "music_type", "tag",
]

[users]
path = "{up}users.parquet"
key = "user_id"
columns = {encrypted}
# Of no date, so perhaps of later: predicted, and no input.
profile = {profile}

[events]
path = "{up}events/*.parquet"
{more}user = "user_id"
item = "video_id"
time = "time"
kind = "kind"
funnel = ["shown", "click", "long_view"]
history = {history}
# A row of the log tells all of it at its own moment.
window_h = {{ click = 0.01, long_view = 0.01 }}
context = ["tab"]
domain = "tab"
value = "watched_s"
"""
_RANDOM_MORE = """\
more = ["events_*.parquet"]
# The standard log of two weeks teaches, what chance showed afterwards is the test. The standard log
# of that time is history.
split = "split"
"""


def import_kuairand(path: Path, out: Path, report: Report = say_nothing) -> dict[str, int]:
    """Write the videos shown in folder ``path`` as shops in ``out`` and ``out/random``.

    Returns what was shown by log, and what came of it. Raises `DataError` if a file is missing or
    not as expected.
    """
    folder, version = _version(path)
    counts: dict[str, int] = {}
    with engine_in(out) as engine:
        (out / "events").mkdir()
        (out / "random").mkdir()
        files: list[Path] = []
        for log, split, place in (
            (_EARLY, "train", "events/early"),
            (_LATE, None, "events/late"),
            (_RANDOM, "test", "random/events"),
        ):
            for number, source in enumerate(_parts(folder, log, version)):
                files.append(out / f"{place}_{number}.parquet")
                _write_log(engine, source, split, files[-1], report)
        counts["users"] = _write_users(engine, folder, version, out)
        counts["videos"] = _write_videos(engine, folder, version, out, report)
        for name, lies in (("", out / "events"), ("random_", out / "random")):
            counts |= _count(engine, name, [file for file in files if file.parent == lies])
    words = {
        "encrypted": toml_list(_ENCRYPTED),
        "profile": toml_list(_PROFILE),
        "history": toml_list(list(_FEEDBACK)),
    }
    comment = "# KuaiRand: short videos as the app recommended them."
    write_toml(out, _TOML.format(comment=comment, name="kuairand", up="", more="", **words))
    comment = "# KuaiRand: short videos shown at random, after two weeks of recommended ones."
    write_toml(
        out / "random",
        _TOML.format(comment=comment, name="kuairand-random", up="../", more=_RANDOM_MORE, **words),
    )
    return counts


def _version(path: Path) -> tuple[Path, str]:
    """The folder of the files, and which of the three versions they are: pure, 1k or 27k."""
    for folder in (folder_of(path), folder_of(path) / "data"):
        for found in sorted(folder.glob(f"{_EARLY}_*.csv")):
            return folder, found.stem.removeprefix(f"{_EARLY}_").split("_")[0]
    raise DataError(f"{path}: looked for {_EARLY}_pure.csv and found none; get it from {_HOME}")


def _parts(folder: Path, log: str, version: str) -> list[Path]:
    parts = sorted(folder.glob(f"{log}_{version}_part*.csv"))
    return parts or [find_source(folder / f"{log}_{version}.csv", (), _HOME)]


def _write_log(engine: Engine, source: Path, split: str | None, file: Path, report: Report) -> None:
    kinds = ", ".join(
        f"CASE WHEN {column} = 1 THEN {quoted(kind)} END" for kind, column in _FEEDBACK.items()
    )
    word = quoted(split) if split else "CAST(NULL AS VARCHAR)"
    with reading(source, f"CSV with columns {', '.join(_LOG)}"):
        stream_parquet(
            engine,
            "SELECT user_id, video_id, make_timestamp(time_ms * 1000) AS time, kind, tab, "
            "CASE WHEN kind = 'long_view' THEN play_time_ms / 1000 END AS watched_s, "
            f"{word} AS split FROM (SELECT *, unnest(['shown', {kinds}]) AS kind "
            f"FROM {csv_rows(source, _LOG, _HOME)}) WHERE kind IS NOT NULL",
            file,
            report,
            about_lines(source) * _ROWS_PER_LINE,
        )


def _write_users(engine: Engine, folder: Path, version: str, out: Path) -> int:
    source = find_source(folder / f"user_features_{version}.csv", (), _HOME)
    columns = {"user_id": "BIGINT", **dict.fromkeys((*_PROFILE, *_ENCRYPTED), "VARCHAR")}
    with reading(source, f"CSV with columns {', '.join(columns)}"):
        rows = csv_rows(source, columns, _HOME)
        return write_parquet(engine, f"FROM {rows} ORDER BY user_id", out / "users.parquet")


def _write_videos(engine: Engine, folder: Path, version: str, out: Path, report: Report) -> int:
    source = find_source(folder / f"video_features_basic_{version}.csv", (), _HOME)
    with reading(source, f"CSV with columns {', '.join(_VIDEO)}"):
        return stream_parquet(
            engine,
            "SELECT video_id, author_id, video_type, "
            "date_diff('day', DATE '1970-01-01', try_cast(upload_dt AS DATE)) AS upload_day, "
            "upload_type, video_duration / 1000 AS duration_s, music_type, tag "
            f"FROM {csv_rows(source, _VIDEO, _HOME)}",
            out / "items.parquet",
            report,
            about_lines(source),
        )


def _count(engine: Engine, name: str, files: list[Path]) -> dict[str, int]:
    """What was shown and what came of it, under ``name`` and the kind."""
    listed = ", ".join(quoted(str(file)) for file in files)
    found = dict(engine.rows(f"SELECT kind, count(*) FROM read_parquet([{listed}]) GROUP BY kind"))
    return {f"{name}{kind}": int(found.get(kind, 0)) for kind in ("shown", *_FEEDBACK)}
