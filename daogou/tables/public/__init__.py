"""Public data sets to shop folders: parquet files and a commented ``shop.toml``, as any shop.

Nothing is downloaded: each importer reads files that the reader has fetched, and says in its
docstring where they come from, under which licence as far as it is stated, and what it leaves
out and why.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from daogou.errors import ConfigError, DataError, unknown
from daogou.tables.public.adult import import_adult
from daogou.tables.public.ali_ccp import import_ali_ccp
from daogou.tables.public.aliexpress import import_aliexpress
from daogou.tables.public.amazon_reviews import import_amazon_reviews
from daogou.tables.public.census_income import import_census_income
from daogou.tables.public.completejourney import import_completejourney, installed_files
from daogou.tables.public.folder import Report, say_nothing
from daogou.tables.public.gms_ga4 import import_gms_ga4
from daogou.tables.public.kuairand import import_kuairand
from daogou.tables.public.movielens import import_movielens
from daogou.tables.public.myntra import import_myntra
from daogou.tables.public.oa_mine import import_oa_mine
from daogou.tables.public.otto import import_otto
from daogou.tables.public.rees46 import import_rees46
from daogou.tables.public.retailrocket import import_retailrocket
from daogou.tables.public.taobao_user_behavior import import_taobao_user_behavior
from daogou.tables.public.zh_ner import import_zh_ner

Importer = Callable[[Path, Path, Report], dict[str, int]]


def quick(importer: Callable[[Path, Path], dict[str, int]]) -> Importer:
    """The importer of a set so small that it has no progress to report."""
    return lambda path, out, report: importer(path, out)


IMPORTERS: Final[dict[str, Importer]] = {
    "adult": quick(import_adult),
    "ali-ccp": import_ali_ccp,
    "aliexpress": import_aliexpress,
    "amazon-reviews": import_amazon_reviews,
    "census-income": import_census_income,
    "completejourney": quick(import_completejourney),
    "gms-ga4": quick(import_gms_ga4),
    "kuairand": import_kuairand,
    "movielens": import_movielens,
    "myntra": quick(import_myntra),
    "oa-mine": quick(import_oa_mine),
    "otto": import_otto,
    "rees46": quick(import_rees46),
    "retailrocket": import_retailrocket,
    "taobao-user-behavior": import_taobao_user_behavior,
    "zh-ner": quick(import_zh_ner),
}

# Data sets that come as a Python package: where its files are when no path is given.
_INSTALLED: Final[dict[str, Callable[[], Path]]] = {"completejourney": installed_files}


def import_shop(
    name: str, path: Path | str | None, out: Path | str, report: Report = say_nothing
) -> dict[str, int]:
    """Write the public data set ``name``, found at ``path``, as the shop folder ``out``.

    ``path`` is the folder of its files; None means the installed package, for a data set that
    is one. ``out`` appears whole or not at all. ``report`` is told of the rows written so far.
    Returns the rows kept and dropped, by name.

    Raises `ConfigError` for an unknown name, a missing path or an ``out`` that holds files,
    `DataError` if the files are not there or not as expected, and `MissingExtra`.
    """
    if name not in IMPORTERS:
        raise ConfigError(f"import: {unknown(name, IMPORTERS)}")
    if path is None:
        if name not in _INSTALLED:
            raise ConfigError(f"import {name}: no path given; name the folder of its files")
        path = _INSTALLED[name]()
    path, out = Path(path), Path(out).absolute()
    if not path.exists():
        raise DataError(f"{path}: no such file or folder, so nothing to import as {name}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: not an empty folder; give a new one, nothing is overwritten")
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        counts = IMPORTERS[name](path, part, report)
        if out.exists():
            out.rmdir()  # os.replace puts a folder in the place of an empty one on POSIX only
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return counts
