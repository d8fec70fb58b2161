"""Exposures that are left, and what is numbered anew when others go."""

from daogou.tables.engine import Engine, name_of, quoted


def keep_latest(engine: Engine, n: int) -> None:
    """Leave the latest ``n`` training exposures, and no history from before them.

    The tables are then those of a shop that opened later: validation and test stay as they are.
    """
    oldest = engine.value(
        "SELECT min(exposure) FROM (SELECT exposure FROM exposures WHERE split = 'train' "
        f"ORDER BY exposure DESC LIMIT {n})"
    )
    start = engine.value(
        f"SELECT CAST(time AS VARCHAR) FROM exposures WHERE exposure = {oldest or 0}"
    )
    leave(engine, f"split IS DISTINCT FROM 'train' OR exposure >= {oldest or 0}")
    if start is not None:
        cut = f"CAST({quoted(str(start))} AS TIMESTAMP)"
        engine.run(f"CREATE OR REPLACE TABLE later AS SELECT * FROM history WHERE time >= {cut}")
        put(engine, "later", "history")


def leave(engine: Engine, where: str) -> None:
    """Leave the exposures for which the SQL condition holds, numbered anew in their order."""
    engine.run(
        "CREATE OR REPLACE TABLE placed AS SELECT * REPLACE ((row_number() OVER (ORDER BY exposure)"
        f" - 1)::BIGINT AS exposure) FROM exposures WHERE {where} ORDER BY exposure"
    )
    put(engine, "placed", "exposures")


def rewrite(engine: Engine, split: str) -> int:
    """Give every exposure its split, drop those without, number the rest; how many were dropped."""
    columns = ", ".join(
        name_of(name) for name in engine.columns("exposures") if name not in ("exposure", "split")
    )
    engine.run(
        f"CREATE OR REPLACE TABLE placed AS SELECT exposure, {columns}, {split} AS split "
        "FROM exposures"
    )
    dropped = int(engine.value("SELECT count(*) FROM placed WHERE split IS NULL"))
    if not dropped:  # the numbers stand; sorting again would cost as much as the funnel did
        put(engine, "placed", "exposures")
        return 0
    engine.run(
        "CREATE OR REPLACE TABLE exposures AS SELECT row_number() OVER (ORDER BY exposure) - 1 "
        f"AS exposure, {columns}, split FROM placed WHERE split IS NOT NULL "
        "ORDER BY placed.exposure"
    )
    engine.run("DROP TABLE placed")
    return dropped


def put(engine: Engine, table: str, place: str) -> None:
    """Put a table in the place of another."""
    engine.run(f"DROP TABLE {place}")
    engine.run(f"ALTER TABLE {table} RENAME TO {place}")
