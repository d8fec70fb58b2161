from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.tables import Engine, prepare
from daogou.tables.public.aliexpress import import_aliexpress
from tests.tables.public.files import aliexpress


def line(search: int, n_fields: int, **changed: str) -> str:
    fields = [str(search), *("0" for _ in range(n_fields - 1))]
    for place, text in changed.items():
        fields[int(place[1:]) - 1] = text
    return ",".join(fields) + "\n"


def country(folder: Path, name: str, shown: str, pages: str) -> Path:
    folder.mkdir(exist_ok=True)
    for part in ("train", "test"):
        (folder / f"{name}_item_{part}.csv").write_text(shown, encoding="utf-8")
        (folder / f"{name}_user_{part}.csv").write_text(pages, encoding="utf-8")
    return folder


def test_a_row_is_a_product_with_its_page_and_label_two_is_click_and_purchase(
    tmp_path: Path,
) -> None:
    shown = line(7, 49, f2="0.5", f19="31", f49="2") + line(7, 49, f49="1") + line(8, 49, f49="0")
    counts = import_aliexpress(
        country(tmp_path / "nl", "nl", shown, line(7, 33, f8="4", f9="1.5")), tmp_path / "out"
    )
    assert counts == {
        "impressions": 6,
        "nl_train": 3,
        "nl_test": 3,
        "clicks": 4,
        "purchases": 2,
        "without_user_features": 2,
    }
    rows = pq.read_table(tmp_path / "out" / "events" / "nl_train.parquet").to_pylist()
    assert [(row["click"], row["purchase"]) for row in rows] == [(1, 1), (1, 0), (0, 0)]
    told = ("search", "country", "split", "item_2", "item_19", "user_8", "user_9")
    assert [rows[0][name] for name in told] == ["nl-train-7", "nl", "train", 0.5, "31", "4", 1.5]
    assert rows[2]["user_9"] is None


def test_sixteen_inputs_name_a_kind_and_sixty_three_are_numbers(tmp_path: Path) -> None:
    aliexpress(tmp_path)
    import_aliexpress(tmp_path, tmp_path / "out")
    shop = read_shop(tmp_path / "out")
    assert shop.events is not None
    schema = pq.read_schema(tmp_path / "out" / "events" / "us_test.parquet")
    types = [str(schema.field(name).type) for name in shop.events.context if name != "country"]
    assert (types.count("string"), types.count("double")) == (16, 63)


def test_the_countries_found_are_one_shop_and_a_page_is_in_one_split(tmp_path: Path) -> None:
    aliexpress(tmp_path)
    for path in list(tmp_path.glob("us_*.csv")):
        (tmp_path / "US").mkdir(exist_ok=True)
        path.rename(tmp_path / "US" / path.name)
    counts = import_aliexpress(tmp_path, tmp_path / "out")
    assert counts["nl_train"] == counts["us_train"] == 360
    with Engine() as engine:
        sizes = prepare(engine, read_shop(tmp_path / "out")).split.exposures
        apart = engine.value(
            "SELECT count(*) FROM (SELECT request FROM exposures GROUP BY request "
            "HAVING count(DISTINCT split) > 1)"
        )
    assert sizes["test"] == counts["nl_test"] + counts["us_test"]
    assert apart == 0


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (line(7, 49, f49="3"), "the label 3.0 is none of 0, 1, 2"),
        (line(7, 49, f49="1") + line(7, 48), "nl_item_train.csv: not the expected"),
        (line(7, 48), "first line should be 49 fields"),
        (line(7, 49, f2="x", f49="1"), "nl_item_train.csv: not the expected"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, shown: str, message: str) -> None:
    source = country(tmp_path / "nl", "nl", shown, line(7, 33))
    with pytest.raises(DataError, match=f"(?s){message}"):
        import_aliexpress(source, tmp_path / "out")
