"""The Myntra fashion catalogue to a shop of items whose attributes are to be read off titles.

Source: ``catalog.csv``, the 44,446 products of Kaggle's "Fashion Product Images"
(paramaggarwal), columns joined from github animmala3942/FashionProductRecommendationSystem.
Kaggle's page says MIT; the repository states no licence.

No attribute has spans: the spans are found later by distant supervision in the titles, and no
attribute is an input, because each is an answer. The title ``NA`` is kept as text; the attribute
values ``NA`` and blank mean that nobody filled them in and become NULL. ``year`` is left out: it
is the year of the listing, which no title says. 13,310 titles are repeats, so titles are split,
not rows.
"""

from pathlib import Path
from typing import Final

from daogou.tables.engine import Engine
from daogou.tables.public.folder import find_source, read_csv, write_parquet, write_toml

_HOME = (
    "github animmala3942/FashionProductRecommendationSystem (styles.csv beside styles_text.csv) "
    "or Kaggle's Fashion Product Images"
)
_COLUMNS: Final = (
    "id",
    "gender",
    "masterCategory",
    "subCategory",
    "articleType",
    "baseColour",
    "season",
    "year",
    "usage",
    "productDisplayName",
)
ATTRIBUTES: Final = (
    "gender",
    "articleType",
    "baseColour",
    "season",
    "usage",
    "subCategory",
    "masterCategory",
)

_TOML = """\
# A fashion catalogue: titles and seven attributes, spans by distant supervision.
name = "myntra"
seed = 0

[items]
path = "items.parquet"
key = "item_id"
text = ["productDisplayName"]
# The attributes are the answers, so none of them is an input ([items] columns is empty).
attributes = [
  "gender", "articleType", "baseColour", "season", "usage", "subCategory", "masterCategory",
]
"""


def import_myntra(path: Path, out: Path) -> dict[str, int]:
    """Write the catalogue at ``path`` as a shop in ``out``; returns products and missing values.

    Raises `DataError` if the file is missing or not the catalogue.
    """
    source = find_source(path, ("catalog.csv",), _HOME)
    out.mkdir(parents=True, exist_ok=True)
    with Engine() as engine:
        read_csv(engine, "catalogue", source, dict.fromkeys(_COLUMNS, "VARCHAR"))
        attributes = ", ".join(f"nullif({name}, 'NA') AS {name}" for name in ATTRIBUTES)
        engine.run(
            "CREATE TABLE items AS SELECT id::BIGINT AS item_id, "
            f"coalesce(productDisplayName, '') AS productDisplayName, {attributes} FROM catalogue"
        )
        counts = {
            "products": write_parquet(engine, "FROM items ORDER BY item_id", out / "items.parquet"),
            "titles": int(engine.value("SELECT count(DISTINCT productDisplayName) FROM items")),
        }
        for name in ATTRIBUTES:
            counts[f"missing_{name}"] = int(
                engine.value(f"SELECT count(*) FILTER ({name} IS NULL) FROM items")
            )
    write_toml(out, _TOML)
    return counts
