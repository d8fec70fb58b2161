"""A search by several processes, which share its trials as those that resume one folder do."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from daogou.learn.loop import Progress, quiet
from daogou.learn.settings import settings_of
from daogou.learn.tune import begin, tune
from daogou.scale.cluster import awaited, cluster
from daogou.scale.told import followed, teller
from daogou.schema import Shop

_TOLD: Final = "progress"  # a folder in the search's, while it runs
_OVER: Final = 1e-9  # minutes in which no trial begins
_AGAIN: Final = 3  # times that a process which died is started again


def tune_by(  # noqa: PLR0913 - as tune, and by whom
    shop: Shop,
    folder: Path | str,
    *,
    workers: int,
    address: str = "local",
    sampler: str = "tpe",
    trials: int = 40,
    minutes: float | None = None,
    resume: bool = False,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """`tune` by so many processes at once; returns what it returns.

    A proposal knows the trials that have ended, so that a search by several is another one than by
    one. ``folder`` and the shop's tables lie where all see them, on a file system that honours
    SQLite's locks. A trial whose process died is gone on with.

    Raises what `tune` raises, MissingExtra without Ray, ConfigError where no cluster answers.
    """
    folder = Path(folder).resolve()
    shop = replace(shop, root=shop.root.resolve())  # a process begins in a folder of its own
    asked: dict[str, Any] = {"sampler": sampler, "trials": trials, "minutes": minutes}
    threads = max(settings_of(shop)[0].threads, 1)
    with cluster(address, workers, threads=threads) as ray:
        begin(shop, folder, resume=resume, **asked)
        search = ray.remote(num_cpus=threads, max_retries=_AGAIN)(_search)
        with followed(folder / _TOLD, progress):
            running = [search.remote(shop, folder, rank, asked) for rank in range(workers)]
            try:
                awaited(lambda: ray.get(running))
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
    if minutes is not None:
        asked["minutes"] = _OVER
    return tune(shop, folder, resume=True, **asked)  # none is left to begin: it concludes


def _search(shop: Shop, folder: Path, rank: int, asked: dict[str, Any]) -> None:
    """What each process runs."""
    tune(shop, folder, resume=True, progress=teller(folder / _TOLD, rank), **asked)
