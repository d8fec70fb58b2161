"""Files of every form to typed tables, and a sentence for everything that is wrong with them."""

import gzip
import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from daogou.errors import DataError
from daogou.schema import Events, Items, Shop, Users
from daogou.tables import prepare
from daogou.tables import read as read_module
from daogou.tables.engine import Engine
from daogou.tables.read import Read, read_tables
from daogou.tables.read.typed import key_types

ABOVE = 2**53 + 1  # the first whole number that a double cannot hold


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as made:
        yield made


def read_items(engine: Engine, path: Path, **settings: Any) -> Read:
    items = Items(path.name, **{"key": "sku", **settings})
    return read_tables(engine, Shop(root=path.parent, items=items))


def read_log(engine: Engine, path: Path, times: list[Any] | pa.Array) -> Read:
    """A log whose rows differ only in their time."""
    n = len(times)
    table = pa.table({"u": [1] * n, "i": [2] * n, "t": times, "k": ["view"] * n})
    pq.write_table(table, path / "log.parquet")
    events = Events("log.parquet", user="u", item="i", time="t", kind="k", funnel=("view", "buy"))
    return read_tables(engine, Shop(root=path, events=events))


def moments(engine: Engine) -> list[datetime | None]:
    return [row[0] for row in engine.rows("SELECT t FROM events ORDER BY rowid")]


def test_ids_above_two_to_the_53rd_survive_in_every_form(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"sku,price\n{ABOVE},1.5\n{ABOVE + 1},\n")
    (tmp_path / "a.jsonl").write_text(
        f'{{"sku": {ABOVE}, "price": 1.5}}\n\n{{"sku": {ABOVE + 1}}}\n'
    )
    pq.write_table(
        pa.table({"sku": pa.array([ABOVE, ABOVE + 1], pa.uint64()), "price": [1.5, None]}),
        tmp_path / "a.parquet",
    )
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        read_items(engine, tmp_path / name, columns=("price",))
        assert engine.columns("items") == {"sku": "BIGINT", "price": "DOUBLE"}, name
        assert engine.rows("SELECT * FROM items") == [(ABOVE, 1.5), (ABOVE + 1, None)], name


def test_unsigned_ids_beyond_64_bits_with_a_sign_become_text(
    engine: Engine, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"sku": pa.array([2**64 - 1], pa.uint64())}), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text(f'{{"sku": {2**64 - 1}}}\n')
    for name in ("a.parquet", "a.jsonl"):
        read_items(engine, tmp_path / name)
        assert engine.rows("SELECT * FROM items") == [("18446744073709551615",)]


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.decimal128(10, 2)])
def test_a_float_key_is_refused_with_the_remedy(
    engine: Engine, tmp_path: Path, kind: pa.DataType
) -> None:
    values = pa.array([1, 2]).cast(pa.decimal128(21, 2)).cast(kind)
    pq.write_table(pa.table({"sku": values}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"items\.key: column 'sku' holds .*cast it to a whole"):
        read_items(engine, tmp_path / "a.parquet")


@pytest.mark.parametrize("text", ["sku\n1.0\n2.0\n", "sku\n1\n2.5\n"])
def test_a_key_written_as_floats_in_a_text_file_is_refused_too(
    engine: Engine, tmp_path: Path, text: str
) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match="which merge ids above"):
        read_items(engine, tmp_path / "a.csv")


def test_keys_with_leading_zeros_stay_text(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sku,zip\n007,01234\n7,98765\n")
    read_items(engine, tmp_path / "a.csv", columns=("zip",))
    assert engine.rows("SELECT * FROM items") == [("007", "01234"), ("7", "98765")]


def test_an_events_key_of_another_type_makes_both_text(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text("uid,g\n1,a\nx2,b\n")
    (tmp_path / "e.csv").write_text("user,y\n1,0\n3,1\n")
    shop = Shop(
        root=tmp_path,
        users=Users("u.csv", key="uid", profile=("g",)),
        events=Events("e.csv", user="user", labels=("y",)),
    )
    read = read_tables(engine, shop)
    assert engine.columns("events")["user"] == engine.columns("users")["uid"] == "VARCHAR"
    assert "users.uid is VARCHAR and events.user is BIGINT: both are compared as text" in read.notes
    assert read.orphans == {"users": 1}


TITLES = ["红色 连衣裙", 'Größe M, "neu"', "two\nlines"]
TABLE = "sku,title\n" + "".join(
    f'{i},"{title.replace(chr(34), chr(34) * 2)}"\n' for i, title in enumerate(TITLES)
)


@pytest.mark.parametrize(
    ("name", "content", "noted"),
    [
        ("a.csv", TABLE.encode(), False),
        ("a.csv", TABLE.replace("\n", "\r\n").replace("two\r\n", "two\n").encode(), False),
        ("a.csv", b"\xef\xbb\xbf" + TABLE.encode(), False),
        ("a.csv", TABLE.encode("gb18030"), True),
        ("a.csv", TABLE.encode("utf-16"), True),
        ("a.csv.gz", gzip.compress(TABLE.encode(), mtime=0), False),
        ("a.csv.gz", gzip.compress(TABLE.encode("gb18030"), mtime=0), True),
        ("a.tsv", TABLE.replace(",", "\t", 1).replace(',"', '\t"').encode(), False),
        ("b.csv", TABLE.replace(",", ";", 1).replace(',"', ';"').encode(), False),
        (
            "a.jsonl",
            b"\xef\xbb\xbf"
            + "".join(
                json.dumps({"sku": i, "title": title}, ensure_ascii=i == 0) + "\n"
                for i, title in enumerate(TITLES)
            ).encode(),
            False,
        ),
    ],
)
def test_a_text_file_reads_the_same_in_any_form_and_encoding(
    engine: Engine, tmp_path: Path, name: str, content: bytes, noted: bool
) -> None:
    (tmp_path / name).write_bytes(content)
    read = read_items(engine, tmp_path / name, text=("title",))
    assert engine.rows("SELECT * FROM items ORDER BY sku") == list(enumerate(TITLES))
    assert any("read as" in note for note in read.notes) == noted


def test_a_glob_a_folder_and_partitions_are_one_table(engine: Engine, tmp_path: Path) -> None:
    for day in (1, 2):
        folder = tmp_path / f"day={day}"
        folder.mkdir()
        pq.write_table(pa.table({"sku": [day]}), folder / "x.parquet")
        (folder / "_SUCCESS").touch()
    for path in (".", "day=*/*.parquet"):
        read_tables(engine, Shop(root=tmp_path, items=Items(path, "sku", columns=("day",))))
        assert engine.rows("SELECT sku, day FROM items ORDER BY sku") == [(1, 1), (2, 2)]


def test_partitioned_text_files_get_their_folders_value(engine: Engine, tmp_path: Path) -> None:
    for shop in ("north", "south"):
        (tmp_path / f"shop={shop}").mkdir()
        (tmp_path / f"shop={shop}" / "x.csv").write_text(f"sku\n{shop[0]}\n")
    read_tables(engine, Shop(root=tmp_path, items=Items(".", "sku", columns=("shop",))))
    assert engine.rows("SELECT * FROM items ORDER BY sku") == [("n", "north"), ("s", "south")]


def test_columns_that_no_setting_names_are_listed_and_not_read(
    engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("sku,title,secret,price\n1,a,b,2\n")
    read = read_items(engine, tmp_path / "a.csv", columns=("price",))
    assert read.unread == {"items": ("title", "secret")}
    assert engine.columns("items") == {"sku": "BIGINT", "price": "BIGINT"}
    assert read.rows == {"items": 1}


def test_a_column_of_numbers_with_a_few_words_stays_text_and_is_noted(
    engine: Engine, tmp_path: Path
) -> None:
    lines = [f"{i},{i}.5" for i in range(20)]
    lines[7] = "7,n/a"
    (tmp_path / "a.csv").write_text("sku,price\n" + "\n".join(lines) + "\n")
    read = read_items(engine, tmp_path / "a.csv", columns=("price",))
    assert engine.columns("items")["price"] == "VARCHAR"
    assert "1 of 20 values are not numbers" in read.notes[0]
    assert "a.csv line 9: 'n/a'" in read.notes[0]  # the header is line 1


def test_prices_as_people_write_them_are_numbers_and_codes_are_not(
    engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(
        'sku,price,code\n1,"¥1,299.00","¥007"\n2,￥ 12,¥12\n3,15元,¥1\n4,,¥2\n', encoding="utf-8"
    )
    read = read_items(engine, tmp_path / "a.csv", columns=("price", "code"))
    assert engine.columns("items") == {"sku": "BIGINT", "price": "DOUBLE", "code": "VARCHAR"}
    assert engine.rows("SELECT price FROM items") == [(1299.0,), (12.0,), (15.0,), (None,)]
    assert "'price' is read as numbers without signs of money and commas" in read.notes[0]


def test_an_amount_with_a_sign_of_money_weighs_and_two_decimals_commas_do_not(
    engine: Engine, tmp_path: Path
) -> None:
    for amounts, wanted in ((("¥2.50", "3"), [(2.5,), (3.0,)]), (("2,5", "3"), None)):
        lines = "".join(f'{i},"{amount}"\n' for i, amount in enumerate(amounts))
        (tmp_path / "e.csv").write_text(f"y,w\n{lines}", encoding="utf-8")
        shop = Shop(root=tmp_path, events=Events("e.csv", labels=("y",), weight="w"))
        if wanted is None:
            with pytest.raises(DataError, match="values of 'w' are not numbers"):
                read_tables(engine, shop)
        else:
            read_tables(engine, shop)
            assert engine.rows("SELECT w FROM events ORDER BY y") == wanted


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_names_that_sql_would_confuse_are_refused(
    engine: Engine, tmp_path: Path, form: str
) -> None:
    path = tmp_path / f"a.{form}"
    if form == "csv":
        path.write_text("sku,@key,Price,price\n1,2,3,4\n")
    else:
        pq.write_table(pa.table({"sku": [1], "@key": [2], "Price": [3], "price": [4]}), path)
    items = Items(path.name, key="sku", columns=("@key", "Price"), shown=("price", ""))
    with pytest.raises(DataError) as caught:
        read_tables(engine, Shop(root=tmp_path, items=items))
    assert str(caught.value) == (
        "items.shown: '' names no column; name one, or take the setting out\n"
        "items.columns: a name that begins with @, as '@key', is kept for columns of our own; "
        "rename it where the table is written\n"
        "items.columns: 'Price' and 'price' differ in nothing but capitals; rename one where the "
        "table is written"
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_column_s_name_may_have_several_lines(engine: Engine, tmp_path: Path, end: str) -> None:
    """As a spreadsheet writes a cell with a line break."""
    (tmp_path / "a.csv").write_bytes(f'sku,"价格\n(元)",n{end}1,2.5,3{end}'.encode())
    items = Items("a.csv", key="sku", columns=("价格\n(元)", "n"))
    read_tables(engine, Shop(root=tmp_path, items=items))
    assert engine.rows("FROM items") == [(1, 2.5, 3)]


def test_everything_missing_is_reported_at_once(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text("user_id,city\n1,x\n")
    (tmp_path / "e.csv").write_text("user_id,y\n1,0\n")
    shop = Shop(
        root=tmp_path,
        items=Items("i.csv", key="sku"),
        users=Users("u.csv", key="user_id", columns=("citty",)),
        events=Events("e.csv", user="usr_id", labels=("y",)),
    )
    with pytest.raises(DataError) as caught:
        read_tables(engine, shop)
    message = str(caught.value)
    assert "items.path: no file at" in message
    assert "users.columns" in message
    assert "did you mean 'city'?" in message
    assert "did you mean 'user_id'?" in message
    assert message.count("\n") == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"PAR1 not really", r"items\.path: the file cannot be read .*export it"),
        ("a.csv", b"", r"a\.csv: the file is empty"),
        ("a.csv", b"sku,title\n", r"a\.csv has no rows; export the table again"),
        ("a.csv", b"sku,title\n1,a\n2\n", r"a\.csv line 3: not a row .*Columns: 2 Found: 1"),
        ("a.csv", b'sku,title\n1,a\n2,"b\n', r"a\.csv line 3: .*unterminated quote"),
        ("a.csv", b"sku,sku\n1,2\n", r"column 'sku' is named twice"),
        ("a.csv", b"sku,Tag,tag\n1,2,3\n", r"'Tag' is named twice, whatever the capitals; rename"),
        ("a.csv", b"sku\n\xff\xff\n", r"neither UTF-8 nor GB18030"),
        ("a.csv.gz", b"not gzip at all", r"the file cannot be read \(Not a gzipped file"),
        ("a.jsonl", b'{"sku": 1}\n{"sku": 2\n', r"a\.jsonl line 2: not a JSON object"),
        ("a.xlsx", b"x", r"files that all end in one of \.parquet"),
        ("a.csv", b"sku,title\n1,a\n,b\n", r"items\.key: 1 rows have no 'sku'"),
        ("a.csv", b"sku,title\n1,a\n1,b\n", r"1 keys are repeated \(sku 1 is in 2 rows\)"),
    ],
)
def test_a_damaged_table_is_one_sentence_with_place_and_remedy(
    engine: Engine, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_items(engine, tmp_path / name, text=("title",) if b"title" in content else ())


@pytest.mark.parametrize("how", ["grows", "is replaced", "is taken away"])
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_file_that_is_written_while_it_is_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, form: str
) -> None:
    path = tmp_path / f"a.{form}"

    def write(n: int) -> None:
        rows = pa.table({"sku": list(range(n))})
        csv.write_csv(rows, path) if form == "csv" else pq.write_table(rows, path)

    def meanwhile(*given: Any) -> Any:
        if how == "grows":
            write(200)
        elif how == "is replaced":  # by one of as many bytes
            whole = path.read_bytes()
            path.rename(tmp_path / "old")
            path.write_bytes(whole)
            os.utime(path, (1, 1))
        else:
            path.rename(tmp_path / "old")
        monkeypatch.undo()
        return key_types(*given)

    write(100)
    monkeypatch.setattr(read_module, "key_types", meanwhile)
    with Engine(threads=1) as engine, pytest.raises(DataError) as told:
        read_items(engine, path)
    assert str(told.value).startswith(f"{path}: was written while it was read; begin again") or (
        how == "is taken away" and "the file cannot be read" in str(told.value)
    )


def test_a_file_that_comes_to_a_folder_meanwhile_waits_for_the_next_time(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*given: Any) -> Any:
        (tmp_path / "e" / "2.csv").write_text("y\n1\n")
        return key_types(*given)

    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "1.csv").write_text("y\n0\n1\n")
    monkeypatch.setattr(read_module, "key_types", meanwhile)
    read_tables(engine, Shop(root=tmp_path, events=Events("e", labels=("y",))))
    assert engine.value("SELECT count(*) FROM events") == 2


def test_a_truncated_parquet_file_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"sku": list(range(1000))}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"items\.path: the file cannot be read"):
        read_items(engine, path)
    path.write_bytes(whole[:60] + bytes(200) + whole[260:])
    with pytest.raises(DataError, match=r"items\.path: the file cannot be read"):
        read_items(engine, path)


NOON = datetime(2024, 5, 1, 12)
EPOCH = 1714564800  # 2024-05-01 12:00 UTC


@pytest.mark.parametrize(
    "value",
    [
        pa.array([NOON], pa.timestamp("ns")),
        pa.array([datetime(2024, 5, 1, 12, tzinfo=UTC)], pa.timestamp("us", "Asia/Shanghai")),
        [EPOCH],
        pa.array([EPOCH], pa.int32()),
        pa.array([EPOCH], pa.uint64()),
        [EPOCH * 10**3],
        [EPOCH * 10**6],
        [EPOCH * 10**9],
        [float(EPOCH)],
        [str(EPOCH)],
        ["2024-05-01T20:00:00+08:00"],
        ["2024-05-01 20:00:00+0800"],
        ["2024-05-01 20:00:00.000 +08"],
        ["2024-05-01 12:00:00 UTC"],
        ["2024-05-01T12:00:00Z"],
        ["2024-05-01 20:00:00 Asia/Shanghai"],
        ["2024-05-01 12:00:00"],
        [" 2024/05/01 12:00:00 "],
        ["2024-05-01 12"],
        ["2024/5/1 12:00"],
        ["2024年5月1日 12:00"],
        ["2024年05月01日 12:00:00"],
    ],
)
def test_a_time_in_any_form_is_the_same_moment(
    engine: Engine, tmp_path: Path, value: list[Any] | pa.Array
) -> None:
    read_log(engine, tmp_path, value)
    assert moments(engine) == [NOON]
    assert engine.columns("events")["t"] == "TIMESTAMP"


@pytest.mark.parametrize(
    "value", [[date(2024, 5, 1)], ["2024-05-01"], ["20240501"], [20240501], ["2024年5月1日"]]
)
def test_a_date_is_its_midnight(engine: Engine, tmp_path: Path, value: list[Any]) -> None:
    read_log(engine, tmp_path, value)
    assert moments(engine) == [datetime(2024, 5, 1)]


def test_a_guess_at_the_unit_is_noted(engine: Engine, tmp_path: Path) -> None:
    assert "read as milliseconds since 1970" in read_log(engine, tmp_path, [EPOCH * 1000]).notes[0]


def test_microseconds_survive(engine: Engine, tmp_path: Path) -> None:
    read_log(engine, tmp_path, [EPOCH * 10**6 + 1])
    assert moments(engine) == [NOON.replace(microsecond=1)]


def test_mixed_zones_are_refused_with_counts_and_examples(engine: Engine, tmp_path: Path) -> None:
    times = ["2024-05-01 12:00:00", "2024-05-01T12:00:00Z", "2024-05-01 12:00:00+08"]
    with pytest.raises(DataError, match=r"mixed zones: 2 times carry one \(row 2: .*and 1 do not"):
        read_log(engine, tmp_path, times)


def test_times_that_cannot_be_read_are_missing_and_counted(engine: Engine, tmp_path: Path) -> None:
    read = read_log(engine, tmp_path, ["2024-05-01 12:00:00", "soon", None])
    assert moments(engine) == [NOON, None, None]
    assert read.untimed == 2
    assert "1 of 2 times cannot be read (row 2: 'soon')" in read.notes[0]


def test_a_time_column_without_a_time_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"events\.time: no value of 't' is a time \(row 1: 'soon'"):
        read_log(engine, tmp_path, ["soon", "later"])
    with pytest.raises(DataError, match=r"column 't' is BOOLEAN; give timestamps"):
        read_log(engine, tmp_path, [True])


def test_kinds_that_nothing_uses_are_noted_and_a_missing_exposure_is_refused(
    engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "e.csv").write_text("u,i,t,k\n1,2,2024-05-01,view\n1,2,2024-05-01,scroll\n")
    events = Events("e.csv", user="u", item="i", time="t", kind="k", funnel=("view", "buy"))
    read = read_tables(engine, Shop(root=tmp_path, events=events))
    assert "events.kind: ignored scroll (1)" in read.notes
    assert "events.funnel: no event is a 'buy'" in read.notes
    wrong = Events(**{**vars(events), "funnel": ("veiw", "buy")})
    with pytest.raises(DataError, match=r"events\.funnel: .*did you mean 'view'"):
        read_tables(engine, Shop(root=tmp_path, events=wrong))


def test_spans_are_understood_as_structs_and_as_json(engine: Engine, tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 3, "attribute": "colour"}]
    pq.write_table(
        pa.table({"sku": [1], "title": ["red boot"], "spans": [spans], "known": [["colour"]]}),
        tmp_path / "a.parquet",
    )
    row = {"sku": 1, "title": "red boot", "spans": spans, "known": ["colour"]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    quoted = json.dumps(spans).replace('"', '""')
    (tmp_path / "a.csv").write_text(
        f'sku,title,spans,known\n1,red boot,"{quoted}","[""colour""]"\n'
    )
    for name in ("a.parquet", "a.jsonl", "a.csv"):
        read_items(
            engine,
            tmp_path / name,
            text=("title",),
            attributes=("colour",),
            spans="spans",
            annotated="known",
        )
        assert engine.rows("SELECT spans, known FROM items") == [(spans, ["colour"])], name
        assert engine.columns("items")["spans"].endswith('attribute" VARCHAR)[]') or (
            "attribute VARCHAR" in engine.columns("items")["spans"]
        )


def test_spans_that_are_no_list_are_refused_with_their_line(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sku,title,spans\n1,red,\n2,blue,0-4\n")
    with pytest.raises(DataError, match=r"items\.spans: 1 values .*a\.csv line 3: '0-4'"):
        read_items(engine, tmp_path / "a.csv", text=("title",), spans="spans")
    pq.write_table(pa.table({"sku": [1], "title": ["red"], "spans": [3]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"column 'spans' is BIGINT; a list of \{start, end"):
        read_items(engine, tmp_path / "a.parquet", text=("title",), spans="spans")


def test_a_weight_that_is_no_number_is_refused_with_its_line(
    engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "e.csv").write_text("y,w\n1,2.5\n0,heavy\n")
    shop = Shop(root=tmp_path, events=Events("e.csv", labels=("y",), weight="w"))
    with pytest.raises(DataError, match=r"events\.weight: 1 values .*e\.csv line 3: 'heavy'"):
        read_tables(engine, shop)


def test_lines_are_counted_in_the_file_they_stand_in(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "e1.csv").write_text("y,w\n1,2\n0,3\n")
    (tmp_path / "e2.csv").write_text("w,y\n1,0\nheavy,1\n")
    shop = Shop(root=tmp_path, events=Events("e*.csv", labels=("y",), weight="w"))
    with pytest.raises(DataError, match=r"e2\.csv line 3: 'heavy'"):
        read_tables(engine, shop)


def test_prepare_leaves_the_relations_of_the_contract(engine: Engine, tmp_path: Path) -> None:
    lines = "".join(
        f"{user},{item},2024-05-{day:02d} 12:00:00,{kind}\n"
        for day in range(1, 21)
        for user, item, kind in ((1, 7, "view"), (1, 7, "buy"), (2, 8, "view"))
    )
    (tmp_path / "e.csv").write_text("u,i,t,k\n" + lines)
    (tmp_path / "u.csv").write_text("u,g\n1,a\n2,b\n")
    (tmp_path / "i.csv").write_text("i,title\n7,boot\n8,clog\n")
    shop = Shop(
        root=tmp_path,
        items=Items("i.csv", key="i", text=("title",)),
        users=Users("u.csv", key="u", profile=("g",)),
        events=Events("e.csv", user="u", item="i", time="t", kind="k", funnel=("view", "buy")),
    )
    counts = prepare(engine, shop)
    assert list(engine.columns("exposures")) == [
        *("exposure", "id", "user", "item", "time", "request", "weight", "label_buy", "split"),
    ]
    assert list(engine.columns("history")) == ["user", "item", "action", "time"]
    assert counts.funnel.exposures == 40
    # 24 h windows: a day's exposure closes as the next split or the end begins, so all are known.
    assert counts.split.censored["train"] == {"buy": 0}
    assert counts.split.censored["test"] == {"buy": 2}  # the last day's
    json.dumps(counts.document())
    staged = "SELECT count(*) FROM information_schema.tables WHERE table_name LIKE 'staged%'"
    assert engine.value(staged) == 0
