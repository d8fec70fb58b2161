"""One shop to several whose users differ: the same rows, each in one of them.

Users of one class (of profile columns together) are shared out by shares drawn from a Dirichlet
distribution of ``alpha`` (Hsu, Qi and Brown, 2019): the smaller, the less alike the shops. Each
shop's catalogue has the products that its events name.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb
import numpy as np

_SPLIT: Final = """
[split]
validation_from = "{}"
test_from = "{}"
"""


def part(
    shop: Path,
    out: Path,
    *,
    n: int = 5,
    by: Sequence[str] = ("gender", "age_band"),
    alpha: float = 0.3,
    seed: int = 0,
) -> list[Path]:
    """Write ``n`` shops of a made shop's folder under ``out``; each user is in one of them.

    All are split at the same moments, after 70 and 85 % of the events; the whole shop is told them.
    """
    rng = np.random.default_rng(seed)
    with duckdb.connect() as db:
        moments = db.execute(
            "SELECT strftime(quantile_disc(ts::TIMESTAMP, [0.7, 0.85])[1], '%Y-%m-%dT%H:%M:%S'), "
            "strftime(quantile_disc(ts::TIMESTAMP, [0.7, 0.85])[2], '%Y-%m-%dT%H:%M:%S') "
            f"FROM '{shop}/events.parquet'"
        ).fetchall()[0]
        toml = (shop / "shop.toml").read_text(encoding="utf-8")
        if "[split]" not in toml:
            (shop / "shop.toml").write_text(toml + _SPLIT.format(*moments), encoding="utf-8")
        columns = ", ".join(by)
        users = db.execute(
            f"SELECT user_id, dense_rank() OVER (ORDER BY {columns}) - 1 FROM "
            f"'{shop}/users.parquet' ORDER BY user_id"
        ).fetchnumpy()
        ids, classes = (np.asarray(column) for column in users.values())
        shares = rng.dirichlet(np.full(n, alpha), size=int(classes.max()) + 1)
        drawn = rng.random(len(ids))
        home = (shares.cumsum(1)[classes] < drawn[:, None]).sum(1).clip(max=n - 1)
        folders = [out / f"shop{number}" for number in range(n)]
        for number, folder in enumerate(folders):
            folder.mkdir(parents=True)
            shutil.copy(shop / "shop.toml", folder)
            if (shop / "truth").exists():
                shutil.copytree(shop / "truth", folder / "truth")
            mine = ", ".join(map(str, ids[home == number].tolist())) or "NULL"
            for table, which in (
                ("users", f"user_id IN ({mine})"),
                ("events", f"user_id IN ({mine})"),
                ("items", f"item_id IN (SELECT item_id FROM '{folder}/events.parquet')"),
            ):
                db.execute(
                    f"COPY (SELECT * FROM '{shop}/{table}.parquet' WHERE {which}) "
                    f"TO '{folder}/{table}.parquet' (FORMAT parquet)"
                ).fetchall()
    return folders
