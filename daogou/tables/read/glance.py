"""The first rows of a file, before anything is known of it."""

import tempfile
from pathlib import Path

import duckdb

from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.read.files import damaged, form_of
from daogou.tables.read.texts import open_texts


def glance(engine: Engine, path: Path, relation: str, *, rows: int) -> dict[str, str]:
    """Make ``relation`` of a file's first rows, every column of a text file as text; its types.

    Raises `DataError` where the file is damaged.
    """
    if form_of(path) == "parquet":
        try:
            engine.run(
                f"CREATE OR REPLACE TABLE {name_of(relation)} AS "
                f"FROM read_parquet({quoted(str(path))}, binary_as_string = true) LIMIT {rows}"
            )
        except duckdb.Error as error:
            raise damaged(str(path), error) from None
        return engine.columns(relation)
    with tempfile.TemporaryDirectory(prefix="daogou-") as folder:
        texts = open_texts(engine, path, Path(folder))
        chosen = ", ".join(texts.value(name) for name in texts.header)
        texts.insert(
            engine,
            f"CREATE OR REPLACE TABLE {name_of(relation)} AS "
            f"SELECT {chosen} {texts.relation} LIMIT {rows}",
        )
    return engine.columns(relation)
