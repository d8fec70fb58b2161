"""Tables in a database are read as the same tables in files are."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from daogou.config import shop_of
from daogou.errors import ConfigError, DataError, MissingExtra
from daogou.schema import Items, Shop
from daogou.tables import duckdb_file, sql
from daogou.tables.engine import Engine
from daogou.tables.read import read_tables

ABOVE = 2**53 + 1  # the first whole number that a double cannot hold
ROWS = {
    "sku": [ABOVE, ABOVE + 1, ABOVE + 2],
    "title": ["红色 boot", "", None],
    "price": [1.5, None, 3.0],
    "stock": [3, 0, None],
    "seen": [datetime(2024, 1, 1, 8, 0, 0, 250_000), None, datetime(2025, 1, 1)],
}
COLUMNS = ("title", "price", "stock")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as made:
        yield made


def write(url: str, name: str = "items") -> None:
    """A table of `ROWS` in a database."""
    table = sa.Table(
        name, sa.MetaData(), sa.Column("sku", sa.BigInteger), sa.Column("title", sa.String),
        sa.Column("price", sa.Double), sa.Column("stock", sa.Integer),
        sa.Column("seen", sa.DateTime),
    )  # fmt: skip
    made = sa.create_engine(url)
    with made.begin() as connection:
        table.drop(connection, checkfirst=True)
        table.create(connection)
        rows = [dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)]
        connection.execute(table.insert(), rows)
    made.dispose()


def read(engine: Engine, folder: Path, path: str, **settings: Any) -> list[tuple[Any, ...]]:
    items = Items(path, "sku", columns=COLUMNS, **settings)
    read_tables(engine, Shop(root=folder, items=items))
    return engine.rows("SELECT * FROM items ORDER BY sku")


def test_a_table_of_sqlite_is_read_as_its_parquet_file_is(engine: Engine, tmp_path: Path) -> None:
    write(f"sqlite:///{tmp_path / 'shop.db'}")
    pq.write_table(pa.table(ROWS), tmp_path / "items.parquet")
    found = read(engine, tmp_path, "sqlite:///shop.db")
    types = engine.columns("items")
    assert found == [
        (ABOVE, "红色 boot", 1.5, 3), (ABOVE + 1, "", None, 0), (ABOVE + 2, None, 3.0, None),
    ]  # fmt: skip
    assert found == read(engine, tmp_path, "items.parquet")
    assert types == {"sku": "BIGINT", "title": "VARCHAR", "price": "DOUBLE", "stock": "BIGINT"}


def write_duckdb(file: Path) -> None:
    """A table of `ROWS`, and what else DuckDB has types for."""
    rows = pa.table(ROWS)
    with duckdb.connect(file) as made:
        assert rows.num_rows == made.sql("CREATE TABLE items AS FROM rows; FROM items").shape[0]
        made.execute(r"""
            CREATE TABLE kinds AS SELECT
                [1, 2] AS list, {'a': '红'} AS struct, 'nan'::DOUBLE AS nan, .1::DOUBLE AS double,
                1.50::DECIMAL(4, 2) AS decimal, true AS bool, encode('é') AS blob,
                '\xFF'::BLOB AS bytes, TIMESTAMPTZ '2024-01-02 02:00:00+02' AS zoned,
                DATE '2024-01-02' AS date, NULL AS nothing, 1 AS "a ""b"
        """)


def test_a_table_of_duckdb_is_read_as_its_parquet_file_is(engine: Engine, tmp_path: Path) -> None:
    write_duckdb(tmp_path / "shop.duckdb")
    pq.write_table(pa.table(ROWS), tmp_path / "items.parquet")
    found = read(engine, tmp_path, "duckdb:///shop.duckdb")
    types = engine.columns("items")
    assert found == read(engine, tmp_path, "items.parquet")
    assert types == {"sku": "BIGINT", "title": "VARCHAR", "price": "DOUBLE", "stock": "BIGINT"}


def test_duckdb_s_values_have_the_spelling_of_any_database(tmp_path: Path) -> None:
    write_duckdb(tmp_path / "shop.duckdb")
    empty, piece = sql.batches("x", tmp_path, "duckdb:///shop.duckdb", "FROM kinds")
    assert empty.num_rows == 0 and empty.schema == piece.schema
    assert piece.to_pylist() == [{
        "list": "[1,2]", "struct": '{"a":"红"}', "nan": None, "double": "0.1", "decimal": "1.50",
        "bool": "true", "blob": "é", "bytes": None, "zoned": "2024-01-02T00:00:00.000000+00:00",
        "date": "2024-01-02", "nothing": None, 'a "b': "1",
    }]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT sku, stock AS SKU FROM items", "'SKU' comes twice, whatever the capitals"),
        ("-- later", "the query asks for nothing; write a SELECT"),
    ],
)
def test_a_query_of_duckdb_that_is_no_table_is_told(
    engine: Engine, tmp_path: Path, query: str, message: str
) -> None:
    write_duckdb(tmp_path / "shop.duckdb")
    with pytest.raises(DataError, match=f"items.path: .*{message}"):
        read(engine, tmp_path, "duckdb:///shop.duckdb", query=query)


def test_duckdb_s_rows_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_duckdb(tmp_path / "shop.duckdb")
    monkeypatch.setattr(sql, "_ROWS", 4096)
    query = "SELECT range AS sku FROM range(10000)"
    pieces = list(sql.batches("x", tmp_path, "duckdb:///shop.duckdb", query))
    assert sum(piece.num_rows for piece in pieces) == 10_000
    assert max(piece.num_rows for piece in pieces) <= 4096


def test_a_sort_that_memory_does_not_hold_spills_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_duckdb(tmp_path / "shop.duckdb")
    monkeypatch.setitem(duckdb_file._CONFIG, "memory_limit", "40MB")
    query = "SELECT md5(range::VARCHAR) AS sku FROM range(1000000) ORDER BY sku"
    pieces = list(sql.batches("x", tmp_path, "duckdb:///shop.duckdb", query))
    assert sum(piece.num_rows for piece in pieces) == 1_000_000
    assert [each.name for each in tmp_path.iterdir()] == ["shop.duckdb"]


def test_a_strangers_query_reads_no_other_file(engine: Engine, tmp_path: Path) -> None:
    write_duckdb(tmp_path / "shop.duckdb")
    secret = tmp_path / "secret.csv"
    secret.write_text("sku\n1\n")
    for query in (f"FROM read_csv('{secret}')", f"FROM '{secret}'"):
        with pytest.raises(DataError, match=r"items.path: the database at .* refused \("):
            read(engine, tmp_path, "duckdb:///shop.duckdb", query=query)


@pytest.mark.parametrize("setting", ["SET threads = 1", "PRAGMA enable_profiling = 'json'"])
def test_a_strangers_query_sets_nothing(engine: Engine, tmp_path: Path, setting: str) -> None:
    write_duckdb(tmp_path / "shop.duckdb")
    with pytest.raises(DataError, match=r"items.path: .*refused \(.* has been locked"):
        read(engine, tmp_path, "duckdb:///shop.duckdb", query=f"{setting}; FROM items")


def test_a_file_that_another_process_writes_in_is_told(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "shop.duckdb"
    write_duckdb(file)
    holding = (
        f"import duckdb; held = duckdb.connect({str(file)!r}); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-uc", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "held\n"
        with pytest.raises(DataError, match="see that nobody writes in it"):
            read(engine, tmp_path, "duckdb:///shop.duckdb")
        writer.communicate("\n")


def test_rows_come_in_pieces_and_all_of_them(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(f"sqlite:///{tmp_path / 'shop.db'}")
    monkeypatch.setattr(sql, "_ROWS", 2)
    pieces = list(sql.batches("x", tmp_path, "sqlite:///shop.db", "SELECT sku FROM items"))
    assert [piece.num_rows for piece in pieces] == [0, 2, 1]
    assert len(read(engine, tmp_path, "sqlite:///shop.db")) == 3


def test_a_query_chooses_and_unfolds(engine: Engine, tmp_path: Path) -> None:
    write(f"sqlite:///{tmp_path / 'shop.db'}")
    query = (
        "SELECT sku, upper(title) AS title, price * 2 AS price, stock FROM items WHERE stock > 0"
    )
    assert read(engine, tmp_path, "sqlite:///shop.db", query=query) == [
        (ABOVE, "红色 BOOT", 3.0, 3)
    ]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, None), ("a", "a"), (True, "true"), (3, "3"), (0.1, "0.1"), (float("nan"), None),
        (float("inf"), None), (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00+00:00"),
        (["a", {"红": 1}], '["a", {"红": 1}]'), (b"a", "a"),
    ],
)  # fmt: skip
def test_each_value_has_one_spelling(value: Any, wanted: str | None) -> None:
    assert sql._text(value) == wanted


@pytest.mark.parametrize(
    ("path", "settings", "kind", "message"),
    [
        ("sqlite:///none.db", {}, DataError, "no database at .*none.db; give a path relative"),
        ("sqlite:///shop.db", {"query": "SELEC 1"}, DataError, "refused .*correct path or query"),
        ("sqlite:///shop.db", {"query": "SELECT 1 AS a, 2 AS a"}, DataError, "'a' comes twice"),
        ("sqlite:///shop.db", {"query": "SELECT 1 AS a, 2 AS A"}, DataError, "'A' comes twice"),
        ("sqlite:///shop.db", {"query": "SELECT 1 AS skuu"}, DataError, r"did you mean 'skuu'\?"),
        (
            "sqlite:///shop.db",
            {"query": "SELECT * FROM items WHERE sku < 0"},
            DataError,
            "sqlite:///shop.db has no rows",
        ),
        ("duckdb:///none.duckdb", {}, DataError, "no database at .*none.duckdb; give a path"),
        ("mysql://localhost/x", {}, ConfigError, "'mysql' is no database that is known"),
        ("what://", {}, ConfigError, "items.path: "),
        ("postgresql+psycopg://me:secret@h/x", {}, ConfigError, "holds a password"),
        ("postgresql+psycopg://me@127.0.0.1:1/x", {}, DataError, "refused"),
    ],
)
def test_what_cannot_be_read_is_told(
    engine: Engine, tmp_path: Path, path: str, settings: Any, kind: type[Exception], message: str
) -> None:
    write(f"sqlite:///{tmp_path / 'shop.db'}")
    with pytest.raises(kind, match=message) as told:
        read(engine, tmp_path, path, **settings)
    assert "secret" not in str(told.value)


def test_a_query_needs_a_database(tmp_path: Path) -> None:
    items = {"path": "items.csv", "key": "sku", "query": "SELECT 1"}
    with pytest.raises(ConfigError, match=r"items.query: items.path is no URL of a database"):
        shop_of({"items": items}, tmp_path)


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"pip install 'daogou\[postgres\]'"):
        list(sql.batches("items.path", tmp_path, "postgresql+psycopg://h/x", "SELECT 1"))
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingExtra, match=r"pip install 'daogou\[serve\]'"):
        list(sql.batches("items.path", tmp_path, "sqlite:///x.db", "SELECT 1"))
