"""A folder of tables to what a sample of each says about its columns."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.names import USER_BEHAVIOR, plain
from daogou.tables.read.files import form_of
from daogou.tables.read.glance import glance
from daogou.tables.read.numbers import MONEY

_SAMPLE: Final = 200_000


@dataclass(frozen=True)
class Column:
    """What a sample says about a column."""

    name: str
    type: str
    filled: int
    values: int  # different ones, about
    is_number: bool

    @property
    def word(self) -> str:
        """The name as it is compared."""
        return plain(self.name)

    @property
    def is_nested(self) -> bool:
        """Whether a value is a list or a record."""
        return self.type.endswith("]") or self.type.startswith(("STRUCT", "MAP", "UNION"))


@dataclass(frozen=True)
class Table:
    """A file, or several of one form, and what a sample of the first says."""

    path: str  # relative to the folder; a glob for several
    relation: str
    rows: int
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()

    def find(self, words: Iterable[str]) -> Column | None:
        """The column whose name is the earliest of the words."""
        named = {column.word: column for column in reversed(self.columns)}
        return next((named[word] for word in words if word in named), None)


def tables_in(engine: Engine, folder: Path) -> list[Table]:
    """The folder's tables; files of one form and one set of columns are one table."""
    groups: dict[tuple[str | None, tuple[str, ...]], list[tuple[Path, int]]] = {}
    sampled: dict[int, tuple[str, tuple[str, ...]]] = {}
    for number, path in enumerate(_candidates(folder)):
        relation = f"sample_{number}"
        notes = _sample(engine, path, relation)
        key = (form_of(path), tuple(engine.columns(relation)))
        groups.setdefault(key, []).append((path, number))
        sampled[number] = (relation, notes)
    found = []
    for members in groups.values():
        paths = [path for path, _ in members]
        relation, notes = sampled[members[0][1]]
        together = _together(folder, paths) if len(paths) > 1 else None
        if together:
            found.append(_measure(engine, together, relation, notes))
            continue
        for path, number in members:
            relation, notes = sampled[number]
            place = _place(folder, path)
            found.append(_measure(engine, place, relation, notes))
    return found


def _candidates(folder: Path) -> list[Path]:
    """Files of the folder, and the first file of each of its subfolders of parts."""
    found = []
    for each in sorted(folder.iterdir()):
        if each.name.startswith((".", "truth")):
            continue
        if each.is_file() and form_of(each):
            found.append(each)
        elif each.is_dir():
            parts = sorted(part for part in each.rglob("*") if part.is_file() and form_of(part))
            found += parts[:1]
    return found


def _place(folder: Path, path: Path) -> str:
    """The path for shop.toml: the file, or the subfolder whose parts are one table."""
    return path.relative_to(folder).parts[0]


def _together(folder: Path, paths: list[Path]) -> str | None:
    """A glob that names just these files."""
    names = [_place(folder, path) for path in paths]
    start = _shared(names)
    end = _shared([name[::-1] for name in names])[::-1]
    pattern = f"{start}*{end}"
    return pattern if {each.name for each in folder.glob(pattern)} == set(names) else None


def _shared(names: list[str]) -> str:
    """The letters that all names begin with."""
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same)


def _sample(engine: Engine, path: Path, relation: str) -> tuple[str, ...]:
    """Keep the first rows of a file as ``relation``; name its columns if it does not."""
    header = list(glance(engine, path, relation, rows=_SAMPLE))
    if len(header) == 5 and header[3].lower() in ("pv", "buy", "cart", "fav"):
        renamed = ", ".join(
            f"{name_of(old)} AS {name_of(new)}"
            for old, new in zip(header, USER_BEHAVIOR, strict=True)
        )
        engine.run(f"CREATE OR REPLACE TABLE {relation} AS SELECT {renamed} FROM {relation}")
        return (
            "Taobao UserBehavior: the file has no line of column names. Put this line first:",
            f"  {','.join(USER_BEHAVIOR)}",
        )
    return ()


def _measure(engine: Engine, path: str, relation: str, notes: tuple[str, ...]) -> Table:
    columns = engine.columns(relation)
    counts = ", ".join(
        f"count({name_of(name)}), approx_count_distinct(CAST({name_of(name)} AS VARCHAR)), "
        f"count(*) FILTER (WHERE TRY_CAST(CAST({name_of(name)} AS VARCHAR) AS DOUBLE) IS NOT NULL "
        f"OR regexp_full_match(trim(CAST({name_of(name)} AS VARCHAR)), {quoted(MONEY)}))"
        for name in columns
    )
    rows, *found = engine.rows(f"SELECT count(*), {counts} FROM {relation}")[0]
    measured = []
    for i, (name, kind) in enumerate(columns.items()):
        filled, values, numbers = found[3 * i : 3 * i + 3]
        measured.append(Column(name, kind, filled, values, 0 < filled == numbers))
    return Table(path, relation, rows, tuple(measured), notes)
