"""Many questions to a guide by several processes: Ray Data hands out blocks and keeps the order."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from daogou import errors
from daogou.artifact import plain, read_manifest
from daogou.errors import DaogouError
from daogou.guide import Guide
from daogou.scale.cluster import cluster

_AGAIN: Final = 3  # times that a process which died is started again


@dataclass(frozen=True)
class Recommending:
    """Asks a guide for the recommendations of users, with the wishes of `Guide.recommend`."""

    wishes: Mapping[str, Any]
    by_value: bool = False

    def __call__(self, guide: Guide, users: list[Any]) -> list[Any]:
        """An answer each."""
        asked = guide.following(by_value=True) if self.by_value else guide
        return list(asked.recommend_many(users, **self.wishes))


def answers_by(
    run: Path | str,
    blocks: Iterable[list[Any]],
    how: Recommending,
    *,
    workers: int,
    address: str = "local",
) -> Iterator[list[Any]]:
    """What ``how`` answers to each block of questions, in order, as JSON has it.

    Each process loads the guide once. ``run`` lies where all of them see it. A process that dies
    is started again, and its block is answered anew. Raises MissingExtra without Ray, ConfigError
    where no cluster answers, ArtifactError where there is no run, and what the answers raise.
    """
    read_manifest(Path(run))
    rows = [{"asked": json.dumps(block)} for block in blocks]
    if not rows:
        return
    with cluster(address, workers):
        from ray import data

        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        answered = data.from_items(rows, override_num_blocks=len(rows)).map(
            _Answering,
            fn_constructor_args=(Path(run).resolve(), how),
            compute=data.ActorPoolStrategy(size=workers),
            num_cpus=1,
            max_restarts=_AGAIN,
        )
        for row in answered.iter_rows():
            if row["wrong"]:
                kind, text = json.loads(row["wrong"])
                raise getattr(errors, kind)(text)
            yield json.loads(row["answers"])


class _Answering:
    """A process with a guide."""

    def __init__(self, run: Path, how: Recommending) -> None:
        self.guide, self.how = Guide.load(run), how

    def __call__(self, row: Mapping[str, Any]) -> dict[str, str]:
        try:
            answers = self.how(self.guide, json.loads(row["asked"]))
        except DaogouError as error:  # of one that is raised Ray keeps the words alone
            return {"answers": "", "wrong": json.dumps([type(error).__name__, str(error)])}
        return {"answers": json.dumps(plain(answers)), "wrong": ""}
