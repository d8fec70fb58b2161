from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.tables import Engine, prepare
from daogou.tables.public.myntra import import_myntra

HEADER = (
    "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,"
    "productDisplayName\n"
)
ROWS = (
    '30,Men,Apparel,Topwear,Shirts,Navy Blue,Fall,2011,Casual,"Turtle ""Check"", Navy Shirt"\n'
    "10,Women,Footwear,Shoes,Heels,NA,,2012,NA,NA\n"
    "20,Women,Footwear,Shoes,Heels,Red,Summer,,,NA\n"
)


def catalogue(folder: Path, text: str) -> Path:
    (folder / "catalog.csv").write_text(text, encoding="utf-8")
    return folder


def test_the_title_na_is_text_and_the_value_na_is_missing(tmp_path: Path) -> None:
    counts = import_myntra(catalogue(tmp_path, HEADER + ROWS), tmp_path / "out")
    items = pq.read_table(tmp_path / "out" / "items.parquet").to_pydict()
    assert items["item_id"] == [10, 20, 30]
    assert items["productDisplayName"] == ["NA", "NA", 'Turtle "Check", Navy Shirt']
    assert items["baseColour"] == [None, "Red", "Navy Blue"]
    assert items["season"] == [None, "Summer", "Fall"]
    assert items["usage"] == [None, None, "Casual"]
    assert (counts["products"], counts["titles"], counts["missing_usage"]) == (3, 2, 2)


def test_no_answer_is_an_input(tmp_path: Path) -> None:
    import_myntra(catalogue(tmp_path, HEADER + ROWS), tmp_path / "out")
    items = read_shop(tmp_path / "out").items
    assert items is not None
    assert items.columns == ()
    assert items.spans is None
    assert set(items.attributes) <= set(pq.read_schema(tmp_path / "out" / items.path).names)


def test_a_short_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the expected CSV with columns id, gender"):
        import_myntra(catalogue(tmp_path, HEADER + "30,Men\n"), tmp_path / "out")


def test_the_real_catalogue_has_the_counts_that_its_readme_states(
    tmp_path: Path, real: Callable[[str], Path]
) -> None:
    counts = import_myntra(real("myntra_fashion_catalog"), tmp_path / "out")
    assert (counts["products"], counts["titles"]) == (44446, 31136)
    missing = [counts[f"missing_{name}"] for name in ("usage", "baseColour", "season", "gender")]
    assert missing == [317, 15, 21, 0]
    titles = pq.read_table(tmp_path / "out" / "items.parquet")["productDisplayName"].to_pylist()
    assert titles.count("NA") == 7
    with Engine() as engine:
        prepare(engine, read_shop(tmp_path / "out"))
        # Repeats of a title stay together.
        assert not engine.rows(
            "SELECT productDisplayName FROM items JOIN title_split ON item = item_id "
            "GROUP BY 1 HAVING count(DISTINCT split) > 1"
        )
