"""A log to tables by several processes: each reads, labels and compiles some of its users."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from daogou import artifact
from daogou.features.store import Ranges
from daogou.features.store.compile import compile_log
from daogou.features.store.writer import Writer
from daogou.features.together import open_part, user_ranks, write_together
from daogou.features.transform import Transform
from daogou.features.transform.fields import NO_FIELDS
from daogou.features.transform.seen import count_log, counted_tables
from daogou.features.vocab import NO_WORDS
from daogou.learn.loop import Progress, quiet
from daogou.learn.settings import Settings
from daogou.scale.share import shared
from daogou.schema import Shop
from daogou.tables import Counts
from daogou.tables.engine import Engine, quoted
from daogou.tables.parts import (
    Plan,
    deal,
    dealt,
    made_whole,
    plan,
    prepare_part,
    prepare_together,
    reopen_part,
    write_tables,
)

_PIECES: Final = 4  # of the files for each process, so that none waits long for another


@dataclass
class Sharing:
    """A log that ``workers`` processes prepare and compile, a part of its users at a time.

    What is done lies in ``folder`` until all is, so that a part is not made twice when everything
    dies. To be used within `cluster`.
    """

    folder: Path
    settings: Settings
    workers: int
    progress: Progress = quiet
    parts: list[Path] = field(default_factory=list)  # those that have events
    work: Callable[[], "_Work"] | None = None

    def prepare(self, engine: Engine, shop: Shop, validation_teaches: bool) -> Counts:
        """As `daogou.tables.prepare`; and the tables of `counted_tables`, of all parts."""
        decided, read = plan(
            engine, shop, least=self.workers, validation_teaches=validation_teaches
        )
        decided = self._begun(decided)
        straddling = self.folder / "straddling.parquet"
        engine.run(f"COPY straddling TO {quoted(str(straddling))} (FORMAT parquet)")
        self.work = partial(_Work, self.folder, self.settings, shop, decided)
        files = [path for path, *_ in decided.files]
        size = -(-len(files) // (decided.parts * _PIECES))
        pieces = [files[at : at + size] for at in range(0, len(files), size)]
        self._share("deal", "reading", [(f"{n:05}", piece) for n, piece in enumerate(pieces)])
        told = self._share("prepare", "preparing", list(range(decided.parts)))
        self.parts = [self.folder / f"part-{n}" for n, found in enumerate(told) if found]
        found = list(zip(self.parts, filter(None, told), strict=True))
        counts = prepare_together(engine, decided, shop, read, found)
        for name in counted_tables(shop):
            _add_up(engine, name, [part / f"{name}.parquet" for part in self.parts])
        return counts

    def write(self, engine: Engine, shop: Shop, transform: Transform, writer: Writer) -> Ranges:
        """What `compile_store` writes of the log."""
        asked, path = json.dumps(_of_log(transform).to_json()), self.folder / "transform.json"
        if not path.exists() or path.read_text("utf-8") != asked:
            for part in self.parts:  # of an earlier try, by another transform
                shutil.rmtree(part / "log", ignore_errors=True)
            artifact.write_whole(path, asked)
        self._share("compile", "compiling", [part.name for part in self.parts])
        parts = [open_part(engine, part / "log") for part in self.parts]
        return write_together(parts, user_ranks(engine), writer)

    def over(self) -> None:
        """Nothing of it is needed any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _begun(self, decided: Plan) -> Plan:
        """The plan, with the parts of an earlier try; what was made by another one goes."""
        path = self.folder / "plan.json"
        if path.exists():
            before = Plan.from_json(json.loads(path.read_text("utf-8")))
            if replace(decided, parts=before.parts) == before:
                return before
            shutil.rmtree(self.folder)
        (self.folder / "spill").mkdir(parents=True)
        artifact.write_whole(path, json.dumps(decided.to_json()))
        return decided

    def _share(self, what: str, words: str, asked: Sequence[Any]) -> list[Any]:
        assert self.work is not None
        answers: list[Any] = []
        pieces = [[what, each] for each in asked]
        threads = max(self.settings.threads, 1)
        for answer in shared(self.work, pieces, workers=self.workers, threads=threads):
            answers.append(answer)
            self.progress("parts", len(answers), len(pieces), words)
        return answers


@dataclass(frozen=True)
class _Work:
    """What a process does of the log: ``[what, which]``. What is there whole is left as it is."""

    folder: Path
    settings: Settings
    shop: Shop
    plan: Plan

    def __call__(self, asked: Sequence[Any]) -> Any:
        what, which = asked
        work: Mapping[str, Callable[[Any], Any]]
        work = {"deal": self.deal, "prepare": self.prepare, "compile": self.compile}
        return work[what](which)

    def deal(self, asked: tuple[str, list[str]]) -> None:
        """Put the events of some files to those of their part."""
        name, files = asked
        folder = self.folder / "events" / name
        if not folder.exists():
            with self._engine() as engine:
                deal(engine, self.plan, self.shop, files, folder)

    def prepare(self, number: int) -> Any:
        """A part's tables and what a transform is fitted on; counts, or nothing of no events."""
        folder = self.folder / f"part-{number}"
        files = dealt(self.folder / "events", number)
        if not files:
            return None
        if not folder.exists():
            with made_whole(folder) as partial_, self._engine() as engine:
                straddling = self.folder / "straddling.parquet"
                own, counts = prepare_part(engine, self.plan, self.shop, files, straddling)
                count_log(engine, own, self.plan.until)
                write_tables(engine, ("exposures", "history", *counted_tables(own)), partial_)
                (partial_ / "counts.json").write_text(json.dumps(counts))
        return json.loads((folder / "counts.json").read_text())

    def compile(self, name: str) -> None:
        """A part's arrays."""
        folder = self.folder / name
        if not (folder / "log").exists():
            document = json.loads((self.folder / "transform.json").read_text("utf-8"))
            with self._engine() as engine:
                own = reopen_part(engine, self.shop, folder)
                compile_log(engine, own, Transform.from_json(document), folder / "log")

    def _engine(self) -> Engine:
        return Engine(
            memory_limit=self.settings.memory_limit,
            threads=max(self.settings.threads, 1),
            spill=self.folder / "spill",
        )


def _add_up(engine: Engine, name: str, files: Sequence[Path]) -> None:
    """A table of counts from those of all parts."""
    listed = ", ".join(quoted(str(path)) for path in files)
    value = {"seen_items": "item", "seen_users": "user"}.get(name, "value")
    engine.run(
        f"CREATE OR REPLACE TABLE {name} AS SELECT {value}, sum(n)::BIGINT AS n "
        f"FROM read_parquet([{listed}]) GROUP BY 1"
    )


def _of_log(transform: Transform) -> Transform:
    """The transform without what no log is read by, which may be large."""
    return replace(
        transform, item_ids=NO_WORDS, user_ids=NO_WORDS, text=None,
        items=NO_FIELDS, users=NO_FIELDS, values=NO_FIELDS, traits=NO_FIELDS,
    )  # fmt: skip
