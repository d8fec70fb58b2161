import gzip
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.tables import Engine, prepare
from daogou.tables.public.census_income import import_census_income
from tests.tables.public.files import census_income, person

RICH = person(41, f5="Masters degree(MA MS MEng MEd MSW MBA)", f26="?", f42="50000+.")
SINGLE = person(19, f5="Some college but no degree", f8="Never married")


def files(folder: Path, data: str, test: str) -> Path:
    (folder / "census-income.data").write_text(data, encoding="utf-8")
    (folder / "census-income.test").write_text(test, encoding="utf-8")
    return folder


def test_three_labels_are_read_and_a_question_mark_is_missing(tmp_path: Path) -> None:
    counts = import_census_income(files(tmp_path, RICH + SINGLE, SINGLE), tmp_path / "out")
    assert counts == {"rows": 3, "income_50k": 1, "never_married": 2, "college": 1}
    rows = pq.read_table(tmp_path / "out" / "events.parquet").to_pylist()
    told = ("id", "split", "income_50k", "never_married", "college", "age", "mig_chg_msa")
    assert [rows[0][name] for name in told] == ["data-1", "train", 1, 0, 1, 41.0, None]
    assert [rows[1][name] for name in told[:5]] == ["data-2", "train", 0, 1, 0]
    assert rows[1]["mig_chg_msa"] == "Not in universe"


def test_no_label_of_a_shop_is_among_its_inputs(tmp_path: Path) -> None:
    census_income(tmp_path)
    import_census_income(tmp_path, tmp_path / "out")
    first = read_shop(tmp_path / "out").events
    second = read_shop(tmp_path / "out" / "education").events
    assert first is not None and second is not None
    assert first.labels == ("income_50k", "never_married")
    assert second.labels == ("college", "never_married")
    assert not {"marital_stat", "instance_weight", "income_50k", "college"} & set(first.context)
    assert set(first.context) - set(second.context) == {"education"}
    # 40 fields beside the goal, as published, less the weight and marital status.
    assert len(first.context) == 39


def test_the_test_file_is_halved_and_the_train_file_is_train(tmp_path: Path) -> None:
    census_income(tmp_path)
    import_census_income(tmp_path, tmp_path / "out")
    with Engine() as engine:
        sizes = prepare(engine, read_shop(tmp_path / "out")).split.exposures
    assert sizes["train"] == 300
    assert sizes["validation"] + sizes["test"] == 300
    assert 110 < sizes["test"] < 190


def test_the_files_may_be_as_ucis_archive_has_them(tmp_path: Path) -> None:
    for part in ("data", "test"):
        (tmp_path / f"census-income.{part}.gz").write_bytes(gzip.compress(RICH.encode()))
    assert import_census_income(tmp_path, tmp_path / "out")["rows"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RICH + person(f42="50000"), r"line 2 has income '50000'; known: - 50000\., 50000\+\."),
        (person(f17="much"), "census-income.data: not the expected CSV.*much"),
        ("39, State-gov, 77516\n", "first line should be 42 fields"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=f"(?s){message}"):
        import_census_income(files(tmp_path, text, SINGLE), tmp_path / "out")
