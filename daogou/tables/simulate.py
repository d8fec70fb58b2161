"""Settings and a seed to a made shop whose truth is known: tables, shop.toml and the truth."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from daogou.errors import ConfigError
from daogou.schema import HOUR_US
from daogou.tables.draw.lots import WINDOW_H
from daogou.tables.draw.outcomes import Outcomes, make_outcomes
from daogou.tables.draw.products import Items, make_items
from daogou.tables.draw.shoppers import CITIES, PROFILE, Users, make_users
from daogou.tables.draw.slates import DEVICES, EPOCH_US, Exposures, make_exposures
from daogou.tables.posterior import profile_posterior
from daogou.tables.titles import ATTRIBUTES, CATEGORIES, spelling
from daogou.tables.truth import STAGES, Floats
from daogou.tables.world import World, world_of

FILES: Final = ("items.parquet", "users.parquet", "events.parquet", "truth", "shop.toml")


def simulate(
    folder: Path | str, preset: str = "default", *, seed: int = 0, **overrides: Any
) -> dict[str, Any]:
    """Write a made shop into ``folder`` and say what was written.

    ``items.parquet``, ``users.parquet``, ``events.parquet`` and ``shop.toml`` are what a shop
    would have; ``truth/`` is what no shop has (see `daogou.tables.truth`). Same preset, seed and
    overrides (fields of `World`): same bytes. The folder appears whole or not at all; one that
    holds an earlier made shop is replaced.

    The answer: ``folder, preset, seed, users, items, exposures, events`` and ``rates`` by stage
    over all exposures. Raises `ConfigError` for an unknown preset or setting, a value out of
    range, or a folder with anything else in it.
    """
    folder = Path(folder)
    world = world_of(preset, overrides)
    _check_folder(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as partial:
        made = Path(partial) / "shop"
        (made / "truth").mkdir(parents=True)
        answer = _write_shop(made, world, preset, seed)
        if folder.exists():
            os.replace(folder, Path(partial) / "earlier")
        os.replace(made, folder)
    return {"folder": str(folder), "preset": preset, "seed": seed, **answer}


def _check_folder(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; name a folder that is new, empty or a made shop")
    inside = sorted(path.name for path in folder.iterdir())
    foreign = [name for name in inside if name not in FILES]
    if inside and (foreign or not (folder / "truth" / "truth.json").is_file()):
        raise ConfigError(
            f"{folder}: holds {(foreign or inside)[0]!r}, which is not part of a made shop; "
            "name a folder that is new, empty or a made shop"
        )


def _write_shop(folder: Path, world: World, preset: str, seed: int) -> dict[str, Any]:
    items, users = make_items(world, seed), make_users(world, seed)
    seen = make_exposures(world, users, items, seed)
    outcomes = make_outcomes(world, users, items, seen, seed)
    posterior = profile_posterior(world, users, items, seen, outcomes)
    _write_items(folder / "items.parquet", items, world.language)
    names = {name: pa.array(values).take(users.profile[name]) for name, values in PROFILE.items()}
    city = pa.array(CITIES).take(pa.array(users.city))
    pq.write_table(
        pa.table({"user_id": users.keys, "city": city, **names}), folder / "users.parquet"
    )
    n_events = _write_events(folder / "events.parquet", world, users, items, (seen, outcomes))
    _write_truth(folder / "truth", users, items, outcomes, posterior)
    document = {
        "made_by": "daogou simulate",
        "preset": preset,
        "seed": seed,
        "stages": outcomes.coefficients,
        "profile": PROFILE,
        "categories": [each.en[0] for each in CATEGORIES],
        "exam": [float(exam) for exam in (1.0 + np.arange(world.positions)) ** -world.theta],
        **dataclasses.asdict(world),
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / "truth" / "truth.json").write_text(text + "\n", encoding="utf-8")
    (folder / "shop.toml").write_text(_toml(preset, seed), encoding="utf-8")
    return {
        "users": world.users,
        "items": world.items,
        "exposures": len(seen.user),
        "events": n_events,
        "rates": {stage: float(outcomes.happened[stage].mean()) for stage in STAGES},
    }


def _write_items(path: Path, items: Items, language: str) -> None:
    columns: dict[str, Any] = {
        "item_id": items.keys,
        "title": [title.text for title in items.titles],
        "category": [
            CATEGORIES[row].zh[0] if language == "zh" else CATEGORIES[row].en[0]
            for row in items.category
        ],
        "brand": None,
        "price": items.price,
    }
    for name in ("brand", "colour", "material", "style"):
        columns[name] = [spelling(name, int(value), language) for value in items.values[name]]
    span = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("attribute", pa.string())])
    columns["spans"] = pa.array(
        [
            [{"start": start, "end": end, "attribute": name} for start, end, name in title.spans]
            for title in items.titles
        ],
        pa.list_(span),
    )
    pq.write_table(pa.table(columns), path)


def _write_events(
    path: Path, world: World, users: Users, items: Items, log: tuple[Exposures, Outcomes]
) -> int:
    seen, outcomes = log
    n = len(seen.user)
    # The log runs on after the last slate until its windows have closed.
    end_us = (world.days * 24 + WINDOW_H["purchase"]) * HOUR_US
    rows, times, kinds = [np.arange(n)], [seen.time_us], [np.zeros(n, dtype=np.int64)]
    for kind, stage in enumerate(STAGES, start=1):
        when = seen.time_us + outcomes.after_us[stage]
        found = np.flatnonzero(outcomes.happened[stage] & (when <= end_us))
        rows.append(found)
        times.append(when[found])
        kinds.append(np.full(len(found), kind))
    row, time_us, kind_of = np.concatenate(rows), np.concatenate(times), np.concatenate(kinds)
    order = np.argsort(time_us, kind="stable")
    row, time_us, kind_of = row[order], time_us[order], kind_of[order]
    later = kind_of > 0
    table = pa.table(
        {
            "id": pc.cast(pa.array(row, mask=later), pa.string()),
            "user_id": users.keys[seen.user[row]],
            "item_id": items.keys[seen.item[row]],
            "ts": pa.array(EPOCH_US + time_us).cast(pa.timestamp("us", tz="UTC")),
            "event": pa.array(("impression", *STAGES)).take(pa.array(kind_of)),
            "request": pc.cast(pa.array(seen.slate[row]), pa.string()),
            "position": pa.array(seen.position[row], mask=later),
            "device": pa.array(DEVICES).take(pa.array(seen.device[row])),
            "shuffled": pa.array(seen.shuffled[row], mask=later),
        }
    )
    pq.write_table(table, path)
    return len(table)


def _write_truth(
    folder: Path,
    users: Users,
    items: Items,
    outcomes: Outcomes,
    posterior: Mapping[str, Floats],
) -> None:
    n = len(outcomes.exam)
    ids = pc.cast(pa.array(np.arange(n)), pa.string())
    pq.write_table(pa.table({"id": ids, **outcomes.truth}), folder / "exposures.parquet")
    pq.write_table(
        pa.table(
            {
                "user_id": users.keys,
                "latent": _lists(users.latent),
                "later": _lists(users.later),
                "drift": _lists(users.drift),
                "bias_click": users.bias_click,
                "bias_later": users.bias_later,
                "sensitivity": users.sensitivity,
                "mix": _lists(users.mix),
                "activity": users.activity,
                "arrival": users.arrival,
                **posterior,
            }
        ),
        folder / "users.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "item_id": items.keys,
                "category": items.category,
                "latent": _lists(items.latent),
                "later": _lists(items.later),
                "bias_click": items.bias_click,
                "bias_later": items.bias_later,
                "bait": items.bait,
                "price_z": items.price_z,
                "log_weight": items.log_weight,
                "arrival": items.arrival,
            }
        ),
        folder / "items.parquet",
    )


def _lists(matrix: Floats) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


def _toml(preset: str, seed: int) -> str:
    windows = ", ".join(f"{stage} = {hours}" for stage, hours in WINDOW_H.items())
    funnel = ", ".join(f'"{kind}"' for kind in ("impression", *STAGES))
    attributes = ", ".join(f'"{name}"' for name in ATTRIBUTES)
    profile = ", ".join(f'"{name}"' for name in PROFILE)
    return f"""# Made by `daogou simulate`. The truth is planted, so ceilings can be reported.
name = "made-{preset}"
seed = {seed}

[items]
path = "items.parquet"
key = "item_id"
text = ["title"]
columns = ["category", "brand", "price"]
attributes = [{attributes}]
spans = "spans"

[users]
path = "users.parquet"
key = "user_id"
columns = ["city"]
profile = [{profile}]

[events]
path = "events.parquet"
user = "user_id"
item = "item_id"
time = "ts"
kind = "event"
funnel = [{funnel}]
window_h = {{ {windows} }}
context = ["position", "device"]
request = "request"
id = "id"

[truth]
path = "truth/"
"""
