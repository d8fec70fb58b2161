import resource
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

QUICK = ("fit.epochs=2", "fit.rows_per_step=256", "fit.history_length=20", "fit.extra_items=32")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def file_limit() -> Iterator[Callable[[int], None]]:
    """Sets how many bytes a file may have, -1 for no limit: a disk that is full on demand."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size if size >= 0 else hard, hard))

    yield limit
    limit(-1)


@pytest.fixture
def quick_disk() -> Iterator[None]:
    """Optuna's files are written without waiting for the disk: safe from kills, not power cuts."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def hurry(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", hurry)
    yield
    event.remove(Engine, "connect", hurry)
