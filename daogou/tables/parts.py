"""A log in parts of its users: what they have to agree on, each part's tables, and all of them."""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import duckdb

from daogou.errors import DataError
from daogou.schema import Events, Shop
from daogou.tables import Counts
from daogou.tables.cuts import Cuts, bucket, cut_log, taught_until
from daogou.tables.engine import Engine, name_of, quoted
from daogou.tables.funnel import (
    Exposed,
    check_events,
    check_exposures,
    check_some,
    end_of,
    is_exposure,
    make_exposures,
)
from daogou.tables.read import Read, in_parquet, read_beside
from daogou.tables.read.files import rewritten, when_written
from daogou.tables.seam import apart
from daogou.tables.split import Divided, check_split, split_part, split_rest

ROW_BYTES: Final = 256  # of a limit of memory that a part's event may take
_ROW, _PART, _FILE = "@event", "@part", "@file"  # ours, beside columns that a shop names freely
_PARTIAL: Final = ".partial"
_UNITS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True)
class Plan:
    """What the parts of a log have to agree on, decided from the whole of it. Made by `plan`."""

    parts: int
    asked: str  # of events and stages
    files: tuple[tuple[str, int, int, int], ...]  # path, place of its first event, size, time
    columns: str  # SQL that types what the settings name
    relation: str  # SQL of all files, with each row's place in its file
    end: str | None  # when the log ends, UTC
    cuts: Cuts
    until: str | None  # the last moment that teaches
    validation_teaches: bool

    def to_json(self) -> dict[str, Any]:
        """A document from which `from_json` makes an equal plan."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Plan":
        """The plan of a document made by `to_json`."""
        first, last = document["cuts"]
        files = tuple((str(path), *map(int, told)) for path, *told in document["files"])
        return Plan(**{**document, "files": files, "cuts": (first, last)})


def divisible(shop: Shop) -> bool:
    """Whether a shop's log can be read in parts: events of users in time, in files of parquet."""
    events = shop.events
    if events is None or events.split or not (events.user and events.item and events.time):
        return False
    try:
        return in_parquet(shop)
    except DataError:
        return False  # which reading says, with whatever else is wrong


def plan(
    engine: Engine, shop: Shop, *, least: int = 1, validation_teaches: bool = False
) -> tuple[Plan, Read]:
    """Decide all that needs a look at the whole log.

    Leaves ``items`` and ``users``, ``events`` as a view of its files, and ``straddling``. A part's
    events fit in the engine's limit of memory, and there are ``least`` parts or more. Raises what
    `prepare` raises of whole tables.
    """
    events = _events(shop)
    read, log = read_beside(engine, shop)
    check_events(engine, shop)
    _view_exposures(engine, events)
    check_exposures(engine, events)
    check_split(shop.split)
    cuts: Cuts = (None, None)
    if engine.value("SELECT count(*) FROM (FROM exposures LIMIT 1)"):
        cuts = cut_log(engine, shop.split)
    else:  # which the parts will say, with the reasons
        engine.run("CREATE OR REPLACE TABLE straddling AS SELECT request FROM exposures")
    taught: Cuts = (None, cuts[1]) if validation_teaches else cuts
    room = _bytes(str(engine.value("SELECT current_setting('memory_limit')")))
    decided = Plan(
        parts=max(least, -(-read.rows["events"] * ROW_BYTES // room)),
        asked=repr((events, [(task.name, task.loss) for task in shop.of_family("funnel")])),
        files=_placed(engine, log.files),
        columns=log.columns,
        relation=log.with_places(),
        end=end_of(engine, events),
        cuts=cuts,
        until=taught_until(engine, taught),
        validation_teaches=validation_teaches,
    )
    return decided, read


def _view_exposures(engine: Engine, events: Events) -> None:
    """``exposures`` as far as a look at one event tells, ordered but not numbered."""
    user, time = name_of(events.user or ""), name_of(events.time or "")
    request = f"CAST({name_of(events.request) if events.request else 'NULL'} AS VARCHAR)"
    named = name_of(events.id) if events.id else f"concat_ws(' ', {user}, {time})"
    weight = name_of(events.weight) if events.weight else "1.0"
    engine.run(
        f"CREATE OR REPLACE VIEW exposures AS SELECT ({time}, {user}, {request}) AS exposure, "
        f"{named} AS id, {time} AS time, {request} AS request, {weight} AS weight "
        f"FROM events WHERE {is_exposure(events)}"
    )


def _events(shop: Shop) -> Events:
    assert shop.events is not None
    return shop.events


def _placed(engine: Engine, files: Sequence[str]) -> tuple[tuple[str, int, int, int], ...]:
    """Each file with the place of its first row, its bytes, and when it was written."""
    listed = ", ".join(map(quoted, files))
    sizes = dict(engine.rows(f"SELECT file_name, num_rows FROM parquet_file_metadata([{listed}])"))
    found, first = [], 0
    for path in files:
        found.append((path, first, *when_written(Path(path))))
        first += int(sizes[path])
    return tuple(found)


def _bytes(size: str) -> int:
    """Bytes of a size as the engine says it.

    >>> _bytes("1.5 KiB")
    1536
    """
    found = re.fullmatch(r"([0-9.]+) ([KMGT]?)i?B?(?:ytes)?", size)
    assert found is not None, size
    return int(float(found[1]) * 1024 ** _UNITS[found[2]])


def deal(engine: Engine, plan: Plan, shop: Shop, files: Sequence[str], folder: Path) -> None:
    """Write the typed events of some of the log's files into ``folder``, those of a part together.

    A user's events are of one part; those of nobody go by their time.
    """
    events = _events(shop)
    user, time = (name_of(name or "") for name in (events.user, events.time))
    firsts = {path: first for path, first, *_ in plan.files}
    first = " ".join(f"WHEN {quoted(path)} THEN {firsts[path]}" for path in files)
    row = f"(CASE {name_of(_FILE)} {first} END + file_row_number)"
    chosen = ", ".join(map(quoted, files))
    part = (
        f"coalesce({_by_hash(user, plan)}, {_by_hash(time, plan)}, {name_of(_ROW)} % {plan.parts})"
    )
    with made_whole(folder) as partial:
        engine.run(
            f"COPY (SELECT *, {part}::INTEGER AS {name_of(_PART)} FROM (SELECT {plan.columns}, "
            f"{row} AS {name_of(_ROW)} FROM {plan.relation} WHERE {name_of(_FILE)} IN ({chosen}))) "
            f"TO {quoted(str(partial))} (FORMAT parquet, PARTITION_BY ({name_of(_PART)}), "
            "OVERWRITE_OR_IGNORE)"
        )
        for path, _, *written in plan.files:
            if path in files and written != [*when_written(Path(path))]:
                raise rewritten(Path(path))


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder``, which becomes it when the block ends well.

    Raises DataError where the disk or the engine does not hold what the block writes.
    """
    partial = folder.with_name(folder.name + _PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except (duckdb.IOException, OSError) as error:
        raise DataError(
            f"{folder}: cannot be made ({str(error).splitlines()[0]}); see to disk and "
            "fit.memory_limit, and go on with --resume"
        ) from None
    partial.replace(folder)


def _by_hash(column: str, plan: Plan) -> str:
    return bucket("part", column, plan.parts)


def dealt(folder: Path, part: int) -> list[Path]:
    """The files that `deal` wrote of a part, into whole folders of this one."""
    found = folder.glob(f"*/*={part}/*.parquet")
    return sorted(path for path in found if not path.parts[-3].endswith(_PARTIAL))


def prepare_part(
    engine: Engine, plan: Plan, shop: Shop, files: Sequence[Path], straddling: Path
) -> tuple[Shop, Mapping[str, Any]]:
    """`prepare` of a part's events: ``exposures``, ``history`` and an empty ``earlier``.

    Returns the shop that these tables are of, which has no catalogue and no users, and counts for
    `prepare_together`.
    """
    listed = ", ".join(quoted(str(each)) for each in files)
    row = name_of(_ROW)
    engine.run(
        f"CREATE OR REPLACE TABLE events AS SELECT * REPLACE ({row}::VARCHAR AS {row}) FROM "
        f"(FROM read_parquet([{listed}], hive_partitioning = false) ORDER BY {row})"
    )
    engine.run(
        f"CREATE OR REPLACE TABLE straddling AS FROM read_parquet({quoted(str(straddling))})"
    )
    own = part_of(shop)
    made = make_exposures(engine, own, plan.end)
    divided = split_part(engine, own, plan.cuts, validation_teaches=plan.validation_teaches)
    apart(engine, own, None)
    return own, {"funnel": asdict(made), "split": asdict(divided)}


def part_of(shop: Shop) -> Shop:
    """A shop as its parts are: of a log alone, with a number of each event for an id."""
    events = _events(shop)
    return replace(shop, items=None, users=None, events=replace(events, id=events.id or _ROW))


def write_tables(engine: Engine, names: Iterable[str], folder: Path) -> None:
    """Write tables, each into a file of its name, the exposures in their order."""
    for name in names:
        path = quoted(str(folder / f"{name}.parquet"))
        order = " ORDER BY exposure" if name == "exposures" else ""
        engine.run(f"COPY (FROM {name}{order}) TO {path} (FORMAT parquet)")


def reopen_part(engine: Engine, shop: Shop, folder: Path) -> Shop:
    """The tables of `prepare_part` again, whose exposures and histories `write_tables` wrote."""
    for name in ("exposures", "history"):
        path = quoted(str(folder / f"{name}.parquet"))
        engine.run(f"CREATE OR REPLACE TABLE {name} AS FROM read_parquet({path})")
    own = part_of(shop)
    apart(engine, own, None)
    return own


def prepare_together(
    engine: Engine,
    plan: Plan,
    shop: Shop,
    read: Read,
    parts: Sequence[tuple[Path, Mapping[str, Any]]],
) -> Counts:
    """`prepare` of a shop of which all parts are prepared; each is its folder and its counts.

    ``exposures`` and ``history`` are views of the parts' files. Raises what `prepare` raises.
    """
    for name in ("exposures", "history"):
        files = ", ".join(quoted(str(folder / f"{name}.parquet")) for folder, _ in parts)
        engine.run(f"DROP VIEW IF EXISTS {name}")
        engine.run(f"CREATE VIEW {name} AS FROM read_parquet([{files}])")
    made = [Exposed(**found["funnel"]) for _, found in parts]
    funnel = Exposed(
        exposures=sum(each.exposures for each in made),
        history=sum(each.history for each in made),
        end=plan.end,
        dropped=_summed([each.dropped for each in made]),
        implied=_summed([each.implied for each in made]),
        uncredited=_summed([each.uncredited for each in made]),
        censored=_summed([each.censored for each in made]),
    )
    check_some(engine, funnel.dropped)
    apart(engine, shop, None)
    divided = split_rest(
        engine,
        shop,
        [Divided(**found["split"]) for _, found in parts],
        validation_teaches=plan.validation_teaches,
    )
    return Counts(read, funnel, divided)


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for each in counts for name in each)
    return {name: sum(each.get(name, 0) for each in counts) for name in names}
