"""Logs that are several times what a process may hold: they pass through, and are nowhere whole."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.serve.conftest import postgres  # noqa: F401 - a server of its own, where there is one

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by Linux"),
]
LIMIT_MB = 50  # of the tables' engine, whose reading and writing of pieces is beside it
LOG_MB = 230  # what a log may add of its own: twice that would be there if it were in memory
TABLE_MB = 110  # likewise what a database's table may add
DAY_US = 86_400_000_000
TOML = f"""\
[items]
path = "items.parquet"
key = "item"
columns = ["category"]

[users]
path = "users.parquet"
key = "user"

[events]
path = "events.parquet"
user = "user"
item = "item"
time = "time"
kind = "kind"
request = "request"
funnel = ["shown", "click"]

[tasks.match]
enabled = false

[model]
mixer = "shared_bottom"
size = "small"

[fit]
epochs = 1
rows_per_step = 4096
history_length = 1
memory_limit = "{LIMIT_MB}MB"
"""
# In a process of its own, so that nothing else is counted: the least log first, which loads all
# that any log needs, and then the larger one.
PASS = """
import json, sys
from pathlib import Path
from memory import peak_gb
import torch
from daogou import artifact
from daogou.config import read_shop
from daogou.guide import Guide
from daogou.learn.evaluate import evaluate
from daogou.learn.fit import fit
from daogou.tables import engine_for, prepare
from daogou.tables.check import check

torch.set_num_threads(1)
found = {}

def measured(name, work):
    with peak_gb() as peak:
        work()
    found.setdefault(name, []).append(1000 * peak["anon"])

def look(shop, limit):
    with engine_for(shop, memory_limit=limit) as engine:
        check(engine, shop, prepare(engine, shop))

def recommend(run, users):
    guide = Guide.load(run)
    with users.open() as lines:
        for line in lines:
            (answer,) = guide.recommend_many([line.strip()], k=3)
            assert len(answer["items"]) == 3

for folder in map(Path, sys.argv[1:]):
    shop, run = read_shop(folder), folder / "run"
    measured("check", lambda: look(shop, shop.fit["memory_limit"]))
    measured("fit", lambda: fit(shop, run))
    measured("evaluate", lambda: evaluate(artifact.load(run)))
    measured("recommend", lambda: recommend(run, folder / "users.txt"))
measured("unlimited", lambda: look(shop, "2GB"))
print(json.dumps(found))
"""
READ = """
import json, sys
from pathlib import Path
from memory import peak_gb
from daogou.schema import Events, Shop
from daogou.tables.engine import Engine
from daogou.tables.read import read_tables

path, query = sys.argv[1:]
found = []
for size, limit in ((60_000, "LIMIT"), (400_000, "LIMIT"), (400_000, "2GB")):
    events = Events(path, "user", "item", "time", "kind", funnel=("shown",), request="request",
                    query=query.format(n=size))
    with peak_gb() as peak, Engine(memory_limit=limit) as engine:
        assert read_tables(engine, Shop(Path(), events=events)).rows["events"] == size
    found.append(1000 * peak["anon"])
print(json.dumps(found))
""".replace("LIMIT", f"{LIMIT_MB}MB")


def write_log(folder: Path, n: int) -> None:
    """A shop of ``n`` exposures in order of time, ten to a request, of which some are clicked."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    n_users, n_items = 200 + n // 500, 300
    request = np.arange(n // 10).repeat(10)
    user = rng.integers(n_users, size=n // 10).repeat(10)
    item = rng.integers(n_items, size=n)
    time = np.sort(rng.integers(30 * DAY_US, size=n // 10)).repeat(10)
    clicked = rng.random(n) < np.where(item % 5, 0.02, 0.2)
    columns = {
        "user": user, "item": item, "time": time, "request": request,
    }  # fmt: skip
    both = {name: np.concatenate([array, array[clicked]]) for name, array in columns.items()}
    both["time"][n:] += 60_000_000
    kind = np.array(["shown", "click"])[(np.arange(len(both["time"])) >= n).astype(int)]
    order = np.argsort(both["time"], kind="stable")
    table = pa.table(
        {
            **{name: both[name][order] for name in ("user", "item")},
            "time": pa.array(both["time"][order], pa.timestamp("us")),
            "request": np.char.add("request-", both["request"][order].astype(str)),
            "kind": kind[order],
        }
    )
    pq.write_table(table, folder / "events.parquet", row_group_size=100_000)
    items = {"item": range(n_items), "category": [f"c{i % 5}" for i in range(n_items)]}
    pq.write_table(pa.table(items), folder / "items.parquet")
    pq.write_table(pa.table({"user": range(n_users)}), folder / "users.parquet")
    (folder / "users.txt").write_text("".join(f"{user}\n" for user in range(200)))
    (folder / "shop.toml").write_text(TOML)


def answer_of(script: str, *arguments: object) -> Any:
    paths = json.dumps([each for each in sys.path if each])
    answer = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths}\n{script}",
         *map(str, arguments)],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return json.loads(answer.stdout)


def test_a_log_of_several_times_the_memory_is_checked_learnt_judged_and_answered_from(
    tmp_path: Path,
) -> None:
    for name, n in (("little", 20_000), ("much", 1_200_000)):
        write_log(tmp_path / name, n)
    found = answer_of(PASS, tmp_path / "little", tmp_path / "much")
    without = found.pop("unlimited")[0] - found["check"][0]
    assert without > 2 * LOG_MB, f"the log would fit into memory: {without:.0f} MB"
    for stage, (little, much) in found.items():
        assert much - little < LOG_MB, f"{stage}: {found}"


GENERATED = {
    "sqlite": (
        "WITH RECURSIVE rows(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM rows WHERE n < {n}) "
        "SELECT n % 50 AS user, n % 90 AS item, '2024-01-01T00:00:00' AS time, 'shown' AS kind, "
        "hex(zeroblob(150)) || n AS request FROM rows"
    ),
    "postgresql": (
        "SELECT n % 50 AS user, n % 90 AS item, TIMESTAMP '2024-01-01' AS time, 'shown' AS kind, "
        "repeat('0', 300) || n AS request FROM generate_series(1, {n}) AS rows(n)"
    ),
}


@pytest.mark.parametrize("kind", GENERATED)
def test_a_table_of_a_database_streams_through(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What comes by is 120 MB of text, of which reading makes two tables."""
    if kind == "sqlite":
        (tmp_path / "shop.db").touch()
        path = f"sqlite:///{tmp_path / 'shop.db'}"
    else:
        path = request.getfixturevalue("postgres")
    little, much, without = answer_of(READ, path, GENERATED[kind])
    assert without - much > TABLE_MB, "the table would fit into memory"
    assert much - little < TABLE_MB
