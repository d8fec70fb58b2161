"""The transform benchmark's two pipelines do the same work, and its verdicts follow its numbers."""

import importlib
import json
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop

pytest.importorskip("pandas")
pytest.importorskip("sklearn")


transform = importlib.import_module("transform")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("made") / "shop"
    transform.make_shop(folder, 20_000)
    return folder


def test_both_pipelines_write_the_same_numbers(shop: Path, tmp_path: Path) -> None:
    clocks = {what: transform.Clock() for what in transform.WORKS}
    for what, work in transform.WORKS.items():
        work(shop, tmp_path / what, 1, clocks[what])
    names = transform.same_arrays(tmp_path / "ours", tmp_path / "pandas")
    assert {"exposures/labels", "queries/end", "items/fields", "history/action"} <= set(names)
    assert len(names) == 19
    assert list(clocks["ours"].seconds) == ["prepare", "check", "fit transform", "compile"]
    assert list(clocks["pandas"].seconds) == ["prepare", "fit transform", "compile"]


def test_numbers_that_differ_are_not_compared_in_seconds(tmp_path: Path) -> None:
    for what, value in (("ours", 1), ("pandas", 2)):
        (tmp_path / what).mkdir()
        transform.np.save(tmp_path / what / "a.npy", transform.np.array([value]))
    with pytest.raises(RuntimeError, match="a: the two pipelines differ"):
        transform.same_arrays(tmp_path / "ours", tmp_path / "pandas")


def test_a_copied_shop_has_other_users_and_stays_in_order_of_time(
    shop: Path, tmp_path: Path
) -> None:
    transform.copy_shop(shop, tmp_path, 3)
    one, three = (pq.read_table(folder / "events.parquet") for folder in (shop, tmp_path))
    assert three.schema == one.schema
    assert three.num_rows == 3 * one.num_rows
    for column in ("user_id", "request", "id"):
        assert (
            pc.count_distinct(three[column]).as_py() == 3 * pc.count_distinct(one[column]).as_py()
        )
    assert pc.count_distinct(three["item_id"]) == pc.count_distinct(one["item_id"])
    # Days are written one after another, so only at midnight may a copy be late, by seconds.
    time_us = three["ts"].cast("int64").to_numpy()
    assert (transform.np.diff(time_us) >= -3 * transform._APART_US).all()
    assert read_shop(tmp_path).truth is None
    assert pq.read_metadata(tmp_path / "users.parquet").num_rows == 3_000


def test_a_measurement_tells_seconds_by_stage_and_both_peaks(shop: Path, tmp_path: Path) -> None:
    def work(folder: Path, store: Path, threads: int, clock: Any) -> None:
        with clock("prepare"):
            kept = transform.np.ones(4_000_000)
            transform.time.sleep(0.06)  # longer than between two samples
            assert kept.all() and (folder, store, threads) == (shop, tmp_path, 1)

    found = json.loads(transform.measured(work, [str(shop), str(tmp_path), "1"]))
    assert found["seconds"] == pytest.approx(found["stages"]["prepare"])
    assert found["seconds"] >= 0.06
    assert 0.032 < found["anon_gb"] <= found["rss_gb"]


def test_bars_are_judged_by_the_median_pair_and_the_peaks() -> None:
    def run(seconds: float, peak: float) -> dict[str, float]:
        return {"seconds": seconds, "rss_gb": peak, "anon_gb": peak / 2}

    runs = [
        *[("ours", 1, run(1, 0.5)), ("pandas", 1, run(6, 1))],  # 6 times
        *[("ours", 1, run(2, 0.5)), ("pandas", 1, run(8, 1))],  # 4
        *[("ours", 1, run(1, 0.5)), ("pandas", 1, run(5, 1))],  # 5: the median
        ("ours", 10, run(20, 2.0)),
        ("ours", 50, run(99, 5.0)),
    ]
    bars = transform.judged(runs, [1, 10, 50])
    assert [(bar["value"], bar["holds"]) for bar in bars] == [
        (5.0, True),
        *[(5.0, False), (2.5, False)],  # rss above 4 GB, and 2.5 times that at 10
        *[(2.5, True), (2.5, False)],
    ]
