"""Work that is asked for piece by piece, by several processes: Ray Data hands it out in order."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from daogou import errors
from daogou.artifact import plain
from daogou.errors import DaogouError, DataError

_AGAIN: Final = 3  # times that a process which died is started again
Work = Callable[[Any], Any]


def shared(
    make: Callable[[], Work], asked: Sequence[Any], *, workers: int, threads: int = 1
) -> Iterator[Any]:
    """What the work answers to each piece, in order; questions and answers are as JSON has them.

    Each process makes the work once. One that dies is started again, and its piece is done anew.
    To be called within `cluster`. Raises what the work raises, and DataError where processes die
    more often.
    """
    from ray import data, exceptions

    rows = [{"asked": json.dumps(each)} for each in asked]
    if not rows:
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    with warnings.catch_warnings():
        # `max_restarts` is on its way out; what takes its place is not there yet.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        answered = data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,
            fn_constructor_args=(make,),
            compute=data.ActorPoolStrategy(size=min(workers, len(rows))),
            num_cpus=threads,
            max_restarts=_AGAIN,
        )
    try:
        for row in answered.iter_rows():
            if row["wrong"]:
                kind, text = json.loads(row["wrong"])
                raise getattr(errors, kind)(text)
            yield json.loads(row["answer"])
    except exceptions.RayActorError as error:
        raise died(error) from None


def died(error: Exception) -> DataError:
    """What to say of processes that die more often than they are started again."""
    return DataError(
        f"processes died again and again ({str(error).splitlines()[0]}); what is whole is "
        "kept: see to their memory and disk, and go on with --resume"
    )


class _Worker:
    """A process that has made the work."""

    def __init__(self, make: Callable[[], Work]) -> None:
        self.work = make()

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        try:
            answer = self.work(json.loads(row["asked"]))
        except DaogouError as error:  # of one that is raised Ray keeps the words alone
            return {"answer": "", "wrong": json.dumps([type(error).__name__, str(error)])}
        return {"answer": json.dumps(plain(answer)), "wrong": ""}
