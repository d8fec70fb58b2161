"""Shops small enough to train in a moment, which sell one product in common."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from daogou.schema import Shop
from tests import shops as tiny

NAMES: Final = ("east", "west")  # product 10 is sold by both, the others by one each
QUICK: Final = {
    "model": {"width": 8, "expert_widths": [8], "text_width": 8, "text_layers": 1},
    "fit": {"rows_per_step": 4, "extra_items": 2, "title_passes": 1.0, "waive": ["few_users"]},
}


def write_parties(folder: Path, names: Sequence[str] = NAMES) -> dict[str, Shop]:
    """The shops, each in a folder of its name; those of each next are known by 100 more."""
    return {name: _written(folder / name, place) for place, name in enumerate(names)}


def _written(folder: Path, place: int) -> Shop:
    base = 100 * place
    products = {10: 10, **{key: key + base for key in (11, 12, 13)}}
    items = [
        {**row, "item_id": products[row["item_id"]], "title": f"{row['title']} {folder.name}"}
        for row in tiny.ITEMS
    ]
    users = [{**row, "user_id": row["user_id"] + base} for row in tiny.USERS]
    events = [
        {**row, "user_id": row["user_id"] + base, "item_id": products[row["item_id"]]}
        for row in tiny.EVENTS
    ]
    return tiny.write_shop(folder, items=items, users=users, events=events)
