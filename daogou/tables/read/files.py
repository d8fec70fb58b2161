"""What a path names: files of one form, and how they lie in SQL."""

import gzip
from collections.abc import Mapping
from glob import glob
from pathlib import Path
from typing import BinaryIO, Final, cast

from daogou.errors import DataError
from daogou.tables.engine import quoted

FORMS: Final[Mapping[str, str]] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


def files_of(root: Path, table: str, *paths: str) -> tuple[list[Path], str]:
    """The files that paths, globs or folders name, each once and sorted; and their common form."""
    named: dict[Path, Path] = {}
    for path in paths:
        where = root / path
        if where.is_dir():
            found = sorted(each for each in where.rglob("*") if each.is_file() and form_of(each))
        elif where.exists():
            found = [where]
        else:
            found = sorted(Path(each) for each in glob(str(where), recursive=True))
        if not found:
            raise DataError(
                f"{table}.{'path' if path == paths[0] else 'more'}: no file at {where}; give a "
                "path, a glob or a folder, relative to shop.toml"
            )
        for each in found:
            named.setdefault(each.resolve(), each)
    found = list(named.values())
    forms = {form_of(each) for each in found}
    if None in forms or len(forms) > 1:
        odd = next((each for each in found if not form_of(each)), found[0])
        raise DataError(
            f"{table}.path: {odd} is not of one form with its neighbours; "
            f"give files that all end in one of {', '.join(FORMS)} (.gz allowed for text)"
        )
    return found, str(forms.pop())


def form_of(path: Path) -> str | None:
    """``parquet``, ``csv`` or ``jsonl`` by the file's name; None for anything else."""
    name = path.name.lower().removesuffix(".gz")
    return FORMS.get(Path(name).suffix)


def parquet(files: list[Path]) -> str:
    """Files of parquet as one relation in SQL, their columns by name."""
    names = ", ".join(quoted(str(each)) for each in files)
    return (
        f"read_parquet([{names}], union_by_name = true, hive_partitioning = true, "
        "binary_as_string = true)"
    )


def damaged(where: str, error: Exception) -> DataError:
    """What DuckDB or the disk says of a file, in its first sentence."""
    sentence = str(error).strip().split("\n")[0]
    return DataError(f"{where}: the file cannot be read ({sentence}); export it again")


def when_written(file: Path) -> tuple[int, int]:
    """A file's bytes, and when it was written."""
    told = file.stat()
    return told.st_size, told.st_mtime_ns


def rewritten(file: Path) -> DataError:
    """A file was written while it was read, so that what was read is of no one moment."""
    return DataError(
        f"{file}: was written while it was read; begin again when it is whole, and write such a "
        "file under another name and rename it, which takes no time"
    )


def bytes_of(path: Path) -> BinaryIO:
    """The file's bytes, unpacked where it ends in ``.gz``."""
    if path.name.lower().endswith(".gz"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")
