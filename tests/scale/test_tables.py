"""A log in parts: the tables are those of one process, to the byte, however they are shared."""

import datetime
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import ConfigError, DataError
from daogou.features import together
from daogou.learn.compile import compile_by, compile_tables
from daogou.learn.loop import quiet
from daogou.learn.settings import settings_of
from daogou.scale import tables
from daogou.scale.tables import Sharing
from daogou.schema import Shop
from daogou.tables import parts
from daogou.tables.engine import Engine
from daogou.tables.parts import Plan, divisible, plan

LOG = """
[items]
path = "items.parquet"
key = "item"
columns = ["brand"]

[users]
path = "users.parquet"
key = "user"
columns = ["city"]
profile = ["tier"]

[events]
path = "events"
user = "user"
item = "item"
time = "time"
kind = "kind"
funnel = ["shown", "click", "buy"]
window_h = { click = 2, buy = 6 }
context = ["place", "device"]
value = "paid"
weight = "weight"
request = "request"

[split]
validation = 0.2
test = 0.2

[tasks.click]
loss = "dfm"
"""
WIDE = """
[events]
path = "events"
user = "user"
item = "item"
time = "time"
labels = ["click"]
context = ["place"]
"""
START = datetime.datetime(2024, 5, 1)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log in four files: users and items that no table knows, moments and requests of several
    users, events of nobody and of no time, amounts whose sum depends on their order."""
    folder = tmp_path_factory.mktemp("log")
    draw = np.random.default_rng(5)
    n = 3_000
    kinds = draw.choice(["shown", "click", "buy", "other"], n, p=[0.6, 0.25, 0.1, 0.05])
    minutes = np.sort(draw.integers(0, 3_000, n))
    user = draw.integers(1, 40, n)
    events = {
        "user": [None if u == 39 else int(u) * 7 for u in user],
        "item": [None if i == 0 else f"i{i}" for i in draw.integers(0, 12, n)],
        "time": [
            None if at % 97 == 0 else START + datetime.timedelta(minutes=int(m))
            for at, m in enumerate(minutes)
        ],
        "kind": kinds.tolist(),
        "place": [None if at % 11 == 0 else int(at % 7) for at in range(n)],
        "device": draw.choice(["phone", "desk", "手机"], n).tolist(),
        "paid": (10 ** draw.uniform(-8, 8, n)).tolist(),
        "weight": draw.choice([1.0, 2.5], n).tolist(),
        "request": [None if u % 5 else f"r{m // 700}" for u, m in zip(user, minutes, strict=True)],
        "row": [f"e{at}" for at in range(n)],
        "nothing": pa.array([None] * n, pa.string()),
        "click": [None if at % 13 == 0 else int(at % 3 == 0) for at in range(n)],
    }
    (folder / "events").mkdir()
    rows = pa.table(events)
    for place, at in enumerate(range(0, n, 800)):
        pq.write_table(rows.slice(at, 800), folder / "events" / f"{place}.parquet")
    known = [f"i{i}" for i in range(2, 30)]
    brands = pa.table({"item": known, "brand": ["b" + each[-1] for each in known]})
    pq.write_table(brands, folder / "items.parquet")
    users = [int(u) * 7 for u in range(10, 60)]
    of_users = {"user": users, "city": [f"c{u % 3}" for u in users]}
    of_users["tier"] = [f"t{u % 2}" for u in users]
    pq.write_table(pa.table(of_users), folder / "users.parquet")
    (folder / "log.toml").write_text(LOG, "utf-8")
    (folder / "wide.toml").write_text(WIDE, "utf-8")
    return folder


Asked = list[tuple[str, Any]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What processes would be asked; it is done here, with all that they would hear and say."""
    heard: Asked = []

    def here(make: Callable[[], Any], pieces: Sequence[Any], **_: Any) -> Iterator[Any]:
        work = make()
        for piece in pieces:
            heard.append(tuple(piece))
            yield json.loads(json.dumps(work(json.loads(json.dumps(piece)))))

    monkeypatch.setattr(tables, "shared", here)
    return heard


def by_parts(shop: Shop, folder: Path, workers: int, *, validation_teaches: bool = False) -> None:
    folder.mkdir(exist_ok=True)
    sharing = Sharing(folder / "parts", settings_of(shop)[0], workers)
    compile_by(sharing, shop, folder, validation_teaches=validation_teaches, progress=quiet)


def files(folder: Path) -> Mapping[str, Any]:
    """Every file's bytes, and of parquet, which may be written in other pieces, the rows."""
    return {
        str(path.relative_to(folder)): (
            pq.read_table(path) if path.suffix == ".parquet" else path.read_bytes()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def differing(one: Path, other: Path) -> list[str]:
    mine, others = files(one), files(other)
    return [name for name in {**mine, **others} if mine.get(name) != others.get(name)]


@pytest.mark.parametrize("toml", ["log", "wide"])
def test_parts_put_together_are_what_one_process_compiles(
    log: Path, toml: str, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = read_shop(log / f"{toml}.toml")
    made = compile_tables(shop, tmp_path / "one")
    monkeypatch.setattr(together.write_together, "__kwdefaults__", {"rows": 50})
    by_parts(shop, tmp_path / "two", 3)
    assert not differing(tmp_path / "one", tmp_path / "two")
    found = made.prepared["split"]["exposures"]
    assert min(found.values()) > 50, "each split is put together from several pieces"
    assert [what for what, _ in asked].count("prepare") == 3
    if toml == "log":
        assert made.prepared["split"]["dropped"], "some requests lie on both sides of a cut"
        assert made.prepared["read"]["orphans"].keys() == {"users", "items"}


@pytest.mark.slow
def test_validation_teaches_in_parts_as_in_one(log: Path, asked: Asked, tmp_path: Path) -> None:
    shop = read_shop(log / "log.toml", ["fit.refit=true"])
    by_parts(shop, tmp_path / "chosen", 2)
    by_parts(shop, tmp_path / "two", 2, validation_teaches=True)
    compile_tables(shop, tmp_path / "one")
    assert not differing(tmp_path / "one", tmp_path / "chosen")
    prepared = json.loads((tmp_path / "two" / "prepared.json").read_text())
    before = json.loads((tmp_path / "one" / "prepared.json").read_text())["split"]["exposures"]
    sizes = prepared["split"]["exposures"]
    assert sizes == {"train": before["train"] + before["validation"], "validation": 0,
                     "test": before["test"]}  # fmt: skip


@pytest.mark.slow
def test_what_is_whole_is_not_done_again(
    log: Path, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = read_shop(log / "log.toml")
    compile_tables(shop, tmp_path / "one")
    compile_log, done = tables.compile_log, []

    def dies(*arguments: Any) -> None:
        if len(done) == 1:
            raise KeyboardInterrupt
        compile_log(*arguments)
        done.append(arguments[-1].parent.name)

    monkeypatch.setattr(tables, "compile_log", dies)
    with pytest.raises(KeyboardInterrupt):
        by_parts(shop, tmp_path / "two", 3)
    made = tmp_path / "two" / "parts"
    first = made / "part-0" / "log" / "store.json"
    assert done == ["part-0"] and first.exists()

    def must_not(*_: Any) -> None:
        raise AssertionError("done before")

    monkeypatch.setattr(tables, "compile_log", compile_log)
    monkeypatch.setattr(tables, "deal", must_not)
    monkeypatch.setattr(tables, "prepare_part", must_not)
    stamp = first.stat().st_mtime_ns
    over = Sharing.over
    monkeypatch.setattr(Sharing, "over", lambda self: None)
    by_parts(shop, tmp_path / "two", 5)  # as many parts as before
    assert first.stat().st_mtime_ns == stamp
    over(Sharing(made, settings_of(shop)[0], 5))
    assert not differing(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_parts_of_another_log_are_made_anew(
    log: Path, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sharing, "over", lambda self: None)
    by_parts(read_shop(log / "log.toml"), tmp_path / "run", 2)
    (tmp_path / "run" / "transform.json").unlink()
    changed = read_shop(log / "log.toml", ["split.validation=0.3"])
    by_parts(changed, tmp_path / "run", 2)
    monkeypatch.undo()
    Sharing(tmp_path / "run" / "parts", settings_of(changed)[0], 2).over()
    compile_tables(changed, tmp_path / "one")
    assert not differing(tmp_path / "one", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["items", "columns"])
def test_what_changed_beside_the_log_is_read_again(
    what: str, log: Path, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(log, folder)
    monkeypatch.setattr(Sharing, "over", lambda self: None)
    by_parts(read_shop(folder / "log.toml"), tmp_path / "run", 2)
    (tmp_path / "run" / "transform.json").unlink()
    if what == "items":  # whose rows are then others
        items = pq.read_table(folder / "items.parquet")
        pq.write_table(items.slice(3), folder / "items.parquet")
    shop = read_shop(folder / "log.toml", ["fit.buckets=3"] if what == "columns" else [])
    by_parts(shop, tmp_path / "run", 2)
    shutil.rmtree(tmp_path / "run" / "parts")
    compile_tables(shop, tmp_path / "one")
    assert not differing(tmp_path / "one", tmp_path / "run")


def test_a_file_that_is_written_while_others_read_it_is_told(
    log: Path, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*given: Any) -> None:
        os.utime(given[3][0], (1, 1))
        deal(*given)

    deal = tables.deal
    shutil.copytree(log, tmp_path / "shop")
    monkeypatch.setattr(tables, "deal", meanwhile)
    with pytest.raises(DataError, match=r"parquet: was written while it was read; begin again"):
        by_parts(read_shop(tmp_path / "shop" / "log.toml"), tmp_path / "run", 2)
    assert not [*(tmp_path / "run").rglob("store.json")]


def test_a_part_fits_in_the_limit_of_memory(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ROW_BYTES", 2**20)
    with Engine(memory_limit="1GiB") as engine:  # so that 1,024 of 3,000 events fit
        assert plan(engine, read_shop(log / "wide.toml"))[0].parts == 3
        assert plan(engine, read_shop(log / "wide.toml"), least=5)[0].parts == 5


def test_a_plan_is_read_back(log: Path) -> None:
    with Engine() as engine:
        decided, _ = plan(engine, read_shop(log / "log.toml"))
    assert Plan.from_json(json.loads(json.dumps(decided.to_json()))) == decided


@pytest.mark.slow
def test_what_is_wrong_is_said_as_one_process_says_it(
    log: Path, asked: Asked, tmp_path: Path
) -> None:
    for sets, kind in (
        (["events.id='device'"], DataError),
        (["events.weight='place'", "events.id='row'"], DataError),
        (["events.value='row'"], DataError),
        (["events.kind='row'"], DataError),
        (["split.validation_from='2024-05-02'", "split.test_from='2024-05-01'"], ConfigError),
        (["split.test_from='2030-05-01'"], DataError),
        (["events.user='nobody'"], DataError),
        (["events.item='nothing'"], DataError),
    ):
        shop = read_shop(log / "log.toml", [*sets, "tasks.click.loss='conditional'"])
        with pytest.raises(kind) as one:
            compile_tables(shop, tmp_path / "one")
        with pytest.raises(kind) as two:
            by_parts(shop, tmp_path / "two", 2)
        assert str(one.value) == str(two.value)


def test_only_users_logs_in_time_and_parquet_are_divided(log: Path, tmp_path: Path) -> None:
    assert divisible(read_shop(log / "log.toml")) and divisible(read_shop(log / "wide.toml"))
    (log / "events.csv").write_text("user,item,time,click\n1,2,2024-01-01,1\n")
    for sets in (
        ["events.path='events.csv'"],
        ["events.path='none'"],
        ["events.split='device'"],
        ["events.path='sqlite:///shop.db'"],
    ):
        assert not divisible(read_shop(log / "wide.toml", sets))
