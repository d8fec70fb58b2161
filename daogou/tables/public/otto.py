"""OTTO's sessions of clicks, carts and orders to a shop whose first stage is the click.

Source: ``otto-recsys-train.jsonl`` of Kaggle's otto/recsys-dataset (11.3 GB; ``train.jsonl`` in the
competition otto-recommender-system is the same), CC BY 4.0; format and facts from
https://github.com/otto-de/recsys-dataset: a line is
``{"session": 42, "events": [{"aid": 0, "ts": 1661200010000, "type": "clicks"}, ...]}``; 12,899,779
sessions of 1,855,603 products, 216,716,096 events of four weeks.

* A session is all that one user did in the four weeks, and so it is the user.
* A click is the exposure (nothing says what was shown and not clicked): a cart within 12 hours and
  an order within a day are its labels. An order implies a cart. A cart or an order without a click
  before it, from a wish list or from before the log, is no exposure; it enters the history.
* The splits are by time within the four weeks. The publisher cut the sessions off where its test
  begins; a label whose window lasts longer is missing.

Left out: the test file (other users; in the competition cut off at random, so that a label of it
would often be wrong). Products have no columns: an id is all that is known of one.
"""

from pathlib import Path
from typing import Final

from daogou.tables.engine import quoted
from daogou.tables.public.folder import (
    Report,
    about_lines,
    engine_in,
    find_source,
    json_rows,
    kinds_of,
    n_different,
    reading,
    say_nothing,
    stream_parquet,
    write_parquet,
    write_toml,
)

_HOME = "Kaggle, otto/recsys-dataset (described at https://github.com/otto-de/recsys-dataset)"
_KEYS: Final = {
    "session": "BIGINT",
    "events": "STRUCT(aid BIGINT, ts BIGINT, type VARCHAR)[]",
}
_KINDS: Final = ("clicks", "carts", "orders")
_PER_SESSION: Final = 17  # events on average, as the publisher counts them: for the bar alone

_TOML = """\
# OTTO: clicks, carts and orders of four weeks. No impressions: the click is the exposure.
name = "otto"
seed = 0

[items]
path = "items.parquet"
key = "aid"

[events]
path = "events.parquet"
# All that one user did in the four weeks.
user = "session"
item = "aid"
time = "time"
kind = "kind"
funnel = ["clicks", "carts", "orders"]
history = ["clicks", "carts", "orders"]
# Each split is of three days; a longer window would lose the labels of its end.
window_h = { carts = 12, orders = 24 }
"""


def import_otto(path: Path, out: Path, report: Report = say_nothing) -> dict[str, int]:
    """Write the sessions at ``path`` as a shop in ``out``; returns sessions and events by kind.

    Raises `DataError` if the file is missing, a line is no such session, or an event's type is
    another.
    """
    names = ("otto-recsys-train.jsonl", "train.jsonl")
    source = find_source(path, (*names, *(f"{name}.gz" for name in names)), _HOME)
    events = out / "events.parquet"
    with engine_in(out) as engine:
        with reading(source, "JSON lines of session and events"):
            stream_parquet(
                engine,
                "SELECT session, event.aid AS aid, make_timestamp(event.ts * 1000) AS time, "
                'event."type" AS kind FROM (SELECT session, unnest(events) AS event '
                f"FROM {json_rows(source, _KEYS, _HOME)})",
                events,
                report,
                about_lines(source) * _PER_SESSION,
            )
        kinds = kinds_of(engine, events, _KINDS, source, "type")
        n_items = write_parquet(
            engine,
            f"SELECT DISTINCT aid FROM read_parquet({quoted(str(events))}) ORDER BY aid",
            out / "items.parquet",
        )
        n_sessions = n_different(engine, events, "session")
    write_toml(out, _TOML)
    return {
        "items": n_items,
        "sessions": n_sessions,
        **kinds,
    }
