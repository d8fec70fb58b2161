"""Many questions to a guide by several processes, which answer a block each."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from daogou.artifact import read_manifest
from daogou.guide import Guide
from daogou.scale.cluster import cluster
from daogou.scale.share import shared


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
    asked = list(blocks)
    if not asked:
        return
    with cluster(address, workers):
        yield from shared(partial(_answering, Path(run).resolve(), how), asked, workers=workers)


def _answering(run: Path, how: Recommending) -> Callable[[list[Any]], list[Any]]:
    """What a process with the guide of a run does of each block."""
    return partial(how, Guide.load(run))
