"""The door to DuckDB: what goes in comes out, nothing leaks, no lock is left behind."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from daogou.errors import ConfigError, DataError
from daogou.tables.engine import Engine, name_of, quoted

ODD_NAMES = ["unit price", 'a "quoted" one', "it's", "价格", "select", "a;b", "semi--colon"]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as made:
        yield made


def test_rows_come_back_as_tuples_and_a_value_alone(engine: Engine) -> None:
    assert engine.rows("SELECT * FROM range(3)") == [(0,), (1,), (2,)]
    assert engine.value("SELECT 1 + ?", [41]) == 42


def test_a_value_of_nothing_is_refused_with_the_query(engine: Engine) -> None:
    with pytest.raises(DataError, match=r"no row came back from: SELECT 1 WHERE false"):
        engine.value("SELECT 1 WHERE false")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_table_and_a_column_may_have_any_name(engine: Engine, name: str) -> None:
    engine.add(name, pa.table({name: [1, 2]}))
    assert engine.columns(name) == {name: "BIGINT"}
    assert engine.rows(f"SELECT sum({name_of(name)}) FROM {name_of(name)}") == [(3,)]


@pytest.mark.parametrize("text", [*ODD_NAMES, "", "\\", "'; DROP TABLE x; --"])
def test_a_text_may_hold_anything(engine: Engine, text: str) -> None:
    assert engine.value(f"SELECT {quoted(text)}") == text


def test_a_table_added_again_replaces_the_first(engine: Engine) -> None:
    engine.add("twice", pa.table({"a": [1]}))
    engine.add("twice", pa.table({"b": ["x", None]}))
    assert engine.table("FROM twice").to_pydict() == {"b": ["x", None]}


def test_ids_above_two_to_the_53_come_back_exactly(engine: Engine) -> None:
    ids = [2**53, 2**53 + 1, 2**63 - 1, -(2**63), 0]
    engine.add("ids", pa.table({"id": pa.array(ids, pa.int64())}))
    assert engine.table("FROM ids")["id"].to_pylist() == ids
    assert [row[0] for row in engine.rows("FROM ids")] == ids
    assert engine.value("SELECT count(DISTINCT id) FROM ids") == len(ids)


def test_pieces_together_are_the_answer_in_order(engine: Engine) -> None:
    pieces = list(engine.batches("SELECT range AS n FROM range(10000) ORDER BY n", rows=1000))
    assert len(pieces) > 1
    assert [n for piece in pieces for n in piece["n"].to_pylist()] == list(range(10000))


def test_tables_can_change_while_pieces_are_read(engine: Engine) -> None:
    for piece in engine.batches("SELECT range AS n FROM range(5000)", rows=1000):
        engine.run("CREATE OR REPLACE TABLE meanwhile AS SELECT 1 AS one")
        assert len(piece) and engine.value("SELECT one FROM meanwhile") == 1


def test_an_abandoned_answer_locks_nothing(engine: Engine) -> None:
    pieces = engine.batches("SELECT range AS n FROM range(100000)", rows=1000)
    next(pieces)
    del pieces
    engine.run("CREATE OR REPLACE TABLE after AS SELECT 1 AS one")
    assert engine.value("SELECT one FROM after") == 1


def test_order_of_rows_in_a_file_is_kept(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "n.csv"
    path.write_text("n\n" + "\n".join(str(i * 7919 % 5000) for i in range(5000)))
    read = engine.rows(f"FROM read_csv({quoted(str(path))})")
    assert [row[0] for row in read] == [i * 7919 % 5000 for i in range(5000)]


def test_settings_hold_for_every_query_and_not_for_the_first_alone() -> None:
    with Engine(memory_limit="300MB", threads=1) as engine:
        assert engine.value("SELECT current_setting('TimeZone')") == "UTC"
        shown = engine.value("SELECT CAST(TIMESTAMPTZ '2024-01-01 07:00:00+08' AS VARCHAR)")
        assert shown == "2023-12-31 23:00:00+00"
        assert engine.value("SELECT current_setting('autoload_known_extensions')") is False
        assert engine.value("SELECT current_setting('threads')") == 1
        assert "MiB" in str(engine.value("SELECT current_setting('memory_limit')"))


def test_more_than_the_memory_limit_spills_to_disk() -> None:
    with Engine(memory_limit="60MB", threads=1) as engine:
        engine.run("CREATE TABLE wide AS SELECT hash(range) AS h, range AS n FROM range(3000000)")
        engine.run("CREATE TABLE sorted AS FROM wide ORDER BY h")
        assert engine.value("SELECT count(*) FROM sorted") == 3_000_000


def test_a_table_is_read_as_it_lies_whatever_the_threads() -> None:
    with Engine(threads=3) as engine:
        engine.run(
            "CREATE TABLE many AS SELECT row_number() OVER () - 1 AS n, h FROM "
            "(SELECT hash(range) AS h FROM range(500000) ORDER BY h)"
        )
        numbers = [batch["n"].to_numpy() for batch in engine.batches("SELECT n FROM many", rows=1)]
    assert np.array_equal(np.concatenate(numbers), np.arange(500_000))


def test_it_spills_where_it_is_told_and_leaves_nothing_there(tmp_path: Path) -> None:
    with Engine(memory_limit="60MB", threads=1, spill=tmp_path) as engine:
        engine.run("CREATE TABLE wide AS SELECT hash(range) AS h, range AS n FROM range(6000000)")
        assert sum(path.stat().st_size for path in tmp_path.rglob("*.tmp")) > 10**7
    assert list(tmp_path.iterdir()) == []


def test_two_engines_do_not_see_each_other() -> None:
    with Engine(threads=1) as one, Engine(threads=1) as other:
        one.run("CREATE TABLE mine AS SELECT 1 AS one")
        assert other.rows("SELECT table_name FROM information_schema.tables") == []


def test_closing_removes_what_was_on_disk() -> None:
    engine = Engine(threads=1)
    folder = Path(engine.value("SELECT current_setting('temp_directory')"))
    assert folder.exists()
    engine.close()
    assert not folder.exists()


def test_an_error_inside_still_closes() -> None:
    with pytest.raises(KeyError), Engine(threads=1) as engine:
        folder = Path(engine.value("SELECT current_setting('temp_directory')"))
        raise KeyError
    assert not folder.exists()


def test_on_disk_tables_are_compressed_and_gone_when_closed(tmp_path: Path) -> None:
    with Engine(threads=1, spill=tmp_path, on_disk=True) as made:
        made.run("CREATE TABLE t AS SELECT i, 'same words' AS text FROM range(1000000) r(i)")
        made.run("CHECKPOINT")
        (file,) = tmp_path.rglob("tables.duckdb")
        assert 0 < file.stat().st_size < 8_000_000  # of 24 MB
        assert made.value("SELECT sum(i) FROM t WHERE text = 'same words'") == 499999500000
    assert not list(tmp_path.iterdir())


def test_what_is_too_large_is_said_with_what_to_set(tmp_path: Path) -> None:
    with Engine(memory_limit="20MB", threads=1, spill=tmp_path) as engine:
        with pytest.raises(
            DataError, match=r"too large \(Out of .* raise fit.memory_limit from 20MB"
        ):
            engine.value("SELECT list(range) FROM range(20000000)")
        wide = "SELECT range, string_agg(range::VARCHAR, ',') OVER () FROM range(3000000)"
        with pytest.raises(DataError, match=r"raise fit\.memory_limit from 20MB"):
            list(engine.batches(wide))
        engine.run("SET max_temp_directory_size = '1MB'")
        with pytest.raises(DataError, match=f"free some disk at {tmp_path}"):
            engine.run("CREATE TABLE wide AS SELECT range::VARCHAR FROM range(3000000)")
        assert engine.value("SELECT 1") == 1, "and goes on"


@pytest.mark.parametrize(
    ("kind", "message", "remedy"),
    [
        ("OutOfMemoryException", "Out of Memory Error: Allocation failure", "lower fit.memory_l"),
        ("IOException", 'Could not write file "x": No space left on device', "free some disk at"),
    ],
)
def test_a_machine_s_memory_and_disk_are_not_the_limit_s(
    kind: str, message: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cursor:
        def __enter__(self) -> None:
            raise getattr(duckdb, kind)(message)

        def __exit__(self, *_: object) -> None: ...

    class Connection:
        cursor = Cursor

    with Engine(threads=1) as engine:
        with monkeypatch.context() as patch, pytest.raises(DataError, match=remedy):
            patch.setattr(engine, "_connection", Connection())
            engine.rows("SELECT 1")
        with pytest.raises(duckdb.IOException, match="No files found"):
            engine.rows("FROM 'no such file.parquet'")


def test_a_limit_that_is_no_size_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"fit.memory_limit: 'lots' .*; write it as 2GB or 500MB"):
        Engine(memory_limit="lots")
