"""Where an earlier run ended, by hand on the tiny shop: what teaches now, what taught before."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from daogou.config import read_shop
from daogou.errors import ConfigError, DataError
from daogou.schema import Shop
from daogou.tables import Counts, Engine, Seam, prepare
from daogou.tables.check import check
from tests.shops import EVENTS, START, TOML, write_shop

SEAM = Seam(taught_until=str(START + timedelta(hours=80)), end=str(START + timedelta(hours=120)))
WHOLE = TOML.split("[split]", maxsplit=1)[0] + "[split]\nvalidation = 0\ntest = 0\n"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """The tiny shop, none of which is held out; its longest window is a day."""
    return write_shop(tmp_path, toml=WHOLE)


def hours(engine: Engine, table: str) -> list[float]:
    first = f"TIMESTAMP '{START}'"
    sql = f"SELECT epoch_us(time) - epoch_us({first}) FROM {table} ORDER BY time"
    return [row[0] / 3_600_000_000 for row in engine.rows(sql)]


@contextmanager
def prepared(shop: Shop, seam: Seam | None = None) -> Iterator[tuple[Engine, Counts]]:
    with Engine(threads=1) as engine:
        yield engine, prepare(engine, shop, seam=seam)


def test_without_a_seam_nothing_is_earlier(shop: Shop) -> None:
    with prepared(shop) as (engine, _):
        assert hours(engine, "earlier") == []
        assert len(hours(engine, "exposures")) == 8


def test_what_had_not_taught_teaches_and_so_does_what_had_an_open_label(shop: Shop) -> None:
    with prepared(shop, SEAM) as (engine, _):
        # Whether the exposure of hour 60 is followed by a purchase was not known at hour 80.
        assert hours(engine, "exposures") == [60, 100, 200, 200]
        assert hours(engine, "earlier") == [0, 0, 30, 30]
        places = engine.rows("SELECT exposure FROM exposures ORDER BY time")
        assert [row[0] for row in places] == [0, 1, 2, 3]
        labels = engine.rows("SELECT label_click, label_buy FROM earlier ORDER BY time, item")
        assert labels == [(1, 1), (0, 0), (0, 0), (1, 0)]
        # The past of who is shown something now is what it is in any fit.
        assert len(hours(engine, "history")) == 6


def test_what_taught_before_fades_by_the_half_life(shop: Shop) -> None:
    with prepared(shop, replace(SEAM, half_life_days=1.0)) as (engine, _):
        worth = [float(row[0]) for row in engine.rows("SELECT worth FROM earlier ORDER BY time")]
    # Counted back from hour 56, a day before hour 80.
    assert worth == pytest.approx([0.5 ** (56 / 24)] * 2 + [0.5 ** (26 / 24)] * 2, abs=1e-9)


def test_a_replayed_day_teaches_whole_or_not_at_all(shop: Shop) -> None:
    with prepared(shop, replace(SEAM, replay=1.0)) as (engine, _):
        assert hours(engine, "earlier") == []
    drawn = set()
    for seed in range(9):
        with prepared(shop, replace(SEAM, replay=0.5, seed=seed)) as (engine, _):
            kept = tuple(hours(engine, "exposures"))
        assert kept[-4:] == (60, 100, 200, 200)
        assert kept.count(0) in (0, 2)
        drawn.add(kept)
    assert len(drawn) == 4  # of two days each may come or not


def test_a_run_is_judged_by_what_it_could_not_know(shop: Shop) -> None:
    with prepared(shop, replace(SEAM, judged=True)) as (engine, counts):
        assert hours(engine, "exposures") == [100, 200, 200]
        assert counts.split.exposures == {"train": 0, "validation": 0, "test": 3}


def test_shares_are_of_what_came_since(made_shop: Path) -> None:
    shop = read_shop(made_shop)
    with prepared(shop) as (_, counts):
        cuts = [counts.split.validation_from, counts.split.test_from]
    seam = Seam(str(cuts[0]), str(cuts[1]))
    with prepared(shop, seam) as (engine, counts):
        since = engine.value(f"SELECT count(*) FROM exposures WHERE time > TIMESTAMP '{seam.end}'")
    found = counts.split.exposures
    assert found["test"] == pytest.approx(0.1 * since, abs=10)
    assert found["validation"] == pytest.approx(0.1 * since, abs=10)
    assert found["train"] > since  # the old validation and test teach now


def test_nothing_new_and_no_time_are_refused(shop: Shop, tmp_path: Path) -> None:
    late = replace(SEAM, end=str(START + timedelta(hours=200)))
    with (
        pytest.raises(DataError, match=r"no exposure after 2024-01-09 08:00:00 UTC.*--events"),
        prepared(shop, late),
    ):
        pass
    rows = [{"x": "a", "y": place % 2} for place in range(20)]
    toml = '[events]\npath = "events.parquet"\nlabels = ["y"]\ncontext = ["x"]\n'
    timeless = write_shop(tmp_path / "flat", items=(), users=(), events=rows, toml=toml)
    with pytest.raises(ConfigError, match=r"events\.time"), prepared(timeless, SEAM):
        pass


def test_later_files_that_reach_back_are_counted_and_fail_a_check(shop: Shop) -> None:
    again = replace(SEAM, events=("events.parquet",))
    for seam, n, level in ((again, 11, "FAIL"), (SEAM, 0, "PASS")):
        with prepared(shop, seam) as (engine, counts):
            assert counts.late == n  # those until hour 101
            found = [each for each in check(engine, shop, counts) if each.name == "late_events"]
            assert [each.level for each in found] == [level]


def test_events_of_several_paths_are_read_and_no_file_twice(tmp_path: Path) -> None:
    for name, events in (("first", EVENTS[:9]), ("later", EVENTS[9:])):
        write_shop(tmp_path, toml=WHOLE, events=events)
        (tmp_path / "events.parquet").rename(tmp_path / f"{name}.parquet")
    again = f"../{tmp_path.name}/later.parquet"
    paths = f'"first.parquet"\nmore = ["later.parquet", "{again}", "[fl]*.parquet"]'
    toml = WHOLE.replace('"events.parquet"', paths)
    (tmp_path / "shop.toml").write_text(toml, encoding="utf-8")
    with prepared(read_shop(tmp_path)) as (_, counts):
        assert counts.read.rows["events"] == len(EVENTS)
    gone = read_shop(tmp_path, ['events.more=["gone.parquet"]'])
    with pytest.raises(DataError, match=r"events\.more: no file at .*gone"), prepared(gone):
        pass
    with pytest.raises(ConfigError, match=r"events\.more: events\.path is a database"):
        read_shop(tmp_path, ['events.path="sqlite:///shop.db"'])
