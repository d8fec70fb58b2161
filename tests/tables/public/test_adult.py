from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.tables import Engine, prepare
from daogou.tables.public.adult import import_adult

COLUMNS = {
    "age": [25, 38, 28],
    "workclass": ["Private", "?", "Local-gov"],
    "fnlwgt": [226802, 89814, 336951],
    "education": ["11th", "HS-grad", "Assoc-acdm"],
    "educational-num": [7, 9, 12],
    "marital-status": ["Never-married", "Married-civ-spouse", "Never-married"],
    "occupation": ["Machine-op-inspct", "?", "Sales"],
    "relationship": ["Own-child", "Husband", "Not-in-family"],
    "race": ["Black", "White", "White"],
    "gender": ["Male", "Male", "Female"],
    "capital-gain": [0, 0, 7688],
    "capital-loss": [0, 0, 0],
    "hours-per-week": [40, 50, 40],
    "native-country": ["United-States", "United-States", "?"],
    "income": ["<=50K", "<=50K", ">50K"],
}


def people(folder: Path, **changed: list[object]) -> Path:
    pq.write_table(pa.table({**COLUMNS, **changed}), folder / "adult.parquet.brotli")
    return folder


def test_three_people_become_three_rows_with_two_labels(tmp_path: Path) -> None:
    counts = import_adult(people(tmp_path), tmp_path / "out")
    assert counts == {"rows": 3, "income_50k": 1, "never_married": 2}
    events = pq.read_table(tmp_path / "out" / "events.parquet").to_pydict()
    assert events["id"] == [0, 1, 2]
    assert events["income_50k"] == [0, 0, 1]
    assert events["never_married"] == [1, 0, 1]
    assert events["educational_num"] == [7, 9, 12]
    assert events["workclass"] == ["Private", None, "Local-gov"]
    assert events["native_country"] == ["United-States", "United-States", None]


def test_no_column_that_tells_a_label_is_an_input(tmp_path: Path) -> None:
    import_adult(people(tmp_path), tmp_path / "out")
    shop = read_shop(tmp_path / "out")
    assert shop.events is not None
    written = pq.read_schema(tmp_path / "out" / "events.parquet").names
    assert set(written) == {"id", *shop.events.labels, *shop.events.context}
    tells = {"income", "marital_status", "marital-status", "relationship", "fnlwgt"}
    assert not tells & set(written)


def test_an_income_of_another_spelling_is_refused_with_its_row(tmp_path: Path) -> None:
    source = people(tmp_path, income=["<=50K", ">50K.", ">50K"])
    with pytest.raises(DataError, match=r"row 1 has income '>50K\.'; known: <=50K, >50K"):
        import_adult(source, tmp_path / "out")


def test_a_table_without_the_columns_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"age": [1]}), tmp_path / "adult.parquet.brotli")
    with pytest.raises(DataError, match="not the Adult table"):
        import_adult(tmp_path, tmp_path / "out")


def test_the_real_file_has_48842_people_of_whom_11687_earn_more(
    tmp_path: Path, real: Callable[[str], Path]
) -> None:
    counts = import_adult(real("adult_census"), tmp_path / "out")
    assert counts == {"rows": 48842, "income_50k": 11687, "never_married": 16117}
    with Engine() as engine:
        assert prepare(engine, read_shop(tmp_path / "out")).funnel.exposures == 48842
