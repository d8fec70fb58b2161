"""A category of Amazon Reviews 2023 to a shop: what was liked, and titles with their attributes.

Source: https://amazon-reviews-2023.github.io (McAuley Lab; no licence stated), a category's reviews
and products: ``All_Beauty.jsonl`` and ``meta_All_Beauty.jsonl`` (or .gz), or of any other of 33
categories; 571.54 million reviews of 48.19 million products in all. A line is an object with
``rating``, ``parent_asin``, ``user_id``, ``timestamp`` (milliseconds) and more, or of products
``parent_asin``, ``title``, ``main_category``, ``store``, ``price``, ``details`` and more.

* **There are no impressions.** A review is the exposure, ``liked`` is 4 stars or more and ``loved``
  is 5: what people think of what they chose to review, mostly because they bought it.
* The splits are the publisher's moments, one pair for all categories: validation from
  1628643414042, test from 1658002729837 (milliseconds).
* A product is its ``parent_asin``, as the publisher advises. ``title`` is its text, the main
  category and the store are inputs.
* ``details`` tells attributes (Brand, Color, Material, ...): those of up to eight keys whose values
  stand in most titles, in 20 at least, are what extraction learns to find, by where they stand.

Left out: ``average_rating`` and ``rating_number`` (of the day of the crawl in 2023: the future of
every review), what a review says and how helpful it was found (after it), descriptions, features
and pictures. ``price`` is of the crawl too: answers show it and the model does not read it.
"""

from pathlib import Path
from typing import Final

from daogou.errors import DataError
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.public.folder import (
    RATINGS_TOML,
    Report,
    about_lines,
    engine_in,
    folder_of,
    json_rows,
    kinds_of,
    n_different,
    rating_log,
    reading,
    say_nothing,
    stream_parquet,
    toml_list,
    write_toml,
)

_HOME = "https://amazon-reviews-2023.github.io"
_REVIEW: Final = {
    "rating": "DOUBLE",
    "parent_asin": "VARCHAR",
    "user_id": "VARCHAR",
    "timestamp": "BIGINT",
}
_PRODUCT: Final = {
    "parent_asin": "VARCHAR",
    "title": "VARCHAR",
    "main_category": "VARCHAR",
    "store": "VARCHAR",
    "price": "JSON",
    "details": "JSON",
}
_COLUMNS: Final = ("item_id", "title", "main_category", "store", "price")
_N_ATTRIBUTES: Final = 8
_FEW_TITLES: Final = 20  # fewer teach nothing of an attribute

_TOML = """\
# Amazon Reviews 2023: what was liked of what was reviewed. No impressions.
name = "amazon-reviews"
seed = 0

[items]
path = "items.parquet"
key = "item_id"
text = ["title"]
columns = ["main_category", "store"]
# Of the day of the crawl, years after most reviews: to look at, not to learn from.
shown = ["price"]
# Of the products' details, those whose values stand in titles.
attributes = {attributes}

"""
_SPLIT_TOML = """
[split]
# The publisher's, one pair of moments for all categories.
validation_from = "2021-08-11T00:56:54.042"
test_from = "2022-07-16T20:18:49.837"
"""


def import_amazon_reviews(path: Path, out: Path, report: Report = say_nothing) -> dict[str, int]:
    """Write the category in folder ``path`` as a shop in ``out``; returns reviews and products.

    Raises `DataError` if there is not one category, a file is missing or not as expected.
    """
    reviews, products = _sources(path)
    with engine_in(out) as engine:
        events = out / "events.parquet"
        with reading(reviews, f"JSON lines with {', '.join(_REVIEW)}"):
            stream_parquet(
                engine,
                rating_log(
                    "(SELECT user_id, parent_asin AS item_id, rating, "
                    'make_timestamp("timestamp" * 1000) AS time '
                    f"FROM {json_rows(reviews, _REVIEW, _HOME)})"
                ),
                events,
                report,
                about_lines(reviews) * 2,
            )
        with reading(products, f"JSON lines with {', '.join(_PRODUCT)}"):
            rows = json_rows(products, _PRODUCT, _HOME)
            attributes = _attributes(engine, rows)
            told = "".join(
                f", nullif(trim(details ->> {quoted(key)}), '') AS {name_of(key)}"
                for key in attributes
            )
            n_products = stream_parquet(
                engine,
                "SELECT parent_asin AS item_id, coalesce(title, '') AS title, main_category, "
                f"store, try_cast(price ->> '$' AS DOUBLE) AS price{told} FROM {rows}",
                out / "items.parquet",
                report,
                about_lines(products),
            )
        counts = {
            "products": n_products,
            "attributes": len(attributes),
            "users": n_different(engine, events, "user_id"),
            **kinds_of(engine, events, ("rated", "liked", "loved"), reviews, "rating"),
        }
    write_toml(out, _TOML.format(attributes=toml_list(attributes)) + RATINGS_TOML + _SPLIT_TOML)
    return counts


def _sources(path: Path) -> tuple[Path, Path]:
    """The reviews and the products of the one category that lies in a folder or below it."""
    folder = folder_of(path)
    metas = sorted({*folder.glob("**/meta_*.jsonl"), *folder.glob("**/meta_*.jsonl.gz")})
    if len(metas) != 1:
        names = ", ".join(meta.name for meta in metas) or "none"
        raise DataError(
            f"{path}: looked for one category's products, e.g. meta_All_Beauty.jsonl, and found "
            f"{names}; get it from {_HOME}, and give a folder for each category"
        )
    name = metas[0].name.removeprefix("meta_").removesuffix(".gz")
    found = sorted({*folder.glob(f"**/{name}"), *folder.glob(f"**/{name}.gz")})
    if not found:
        raise DataError(f"{path}: looked for {name} and found none; get it from {_HOME}")
    return found[0], metas[0]


def _attributes(engine: Engine, rows: str) -> list[str]:
    """The keys of details whose values stand in most titles, most frequent first."""
    found = engine.rows(
        "SELECT min(key), count(*) AS n FROM (SELECT title, key, details ->> key AS value "
        f"FROM (SELECT title, details, unnest(json_keys(details)) AS key FROM {rows})) "
        "WHERE length(trim(value)) >= 2 AND contains(lower(title), lower(trim(value))) "
        f"AND lower(key) NOT IN ({', '.join(map(quoted, _COLUMNS))}) "
        f"GROUP BY lower(key) HAVING n >= {_FEW_TITLES} ORDER BY n DESC, 1 LIMIT {_N_ATTRIBUTES}"
    )
    return [str(key) for key, _ in found]
