"""Ray for as long as a block runs: a cluster that is there, or one of this machine alone."""

import importlib
import importlib.util
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from daogou.errors import ConfigError, MissingExtra, unknown

Found = TypeVar("Found")

ADDRESSES: Final = ("local", "auto")


@contextmanager
def cluster(address: str, workers: int, *, threads: int = 1) -> Iterator[Any]:
    """The module `ray`, connected.

    ``local`` starts a cluster of this machine with ``threads`` processors for each of the
    ``workers``, whatever the machine has, and ends it; ``auto`` takes the one that ``ray start`` or
    ``RAY_ADDRESS`` names. Raises MissingExtra without Ray and ConfigError where no cluster answers.
    """
    check_call(address, workers)
    # Ray tells its makers what it is used for unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = ray_module()
    if ray.is_initialized():
        yield ray
        return
    said: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        n_cpus = workers * threads
        said |= {"address": "local", "num_cpus": n_cpus, "include_dashboard": False}
    else:
        said |= {"address": "auto"}
    _tell_on_stderr()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**said)
    except ConnectionError as error:
        raise ConfigError(
            f"--address auto: no cluster of Ray answers ({error}); `ray start --head` makes one, "
            "--address local needs none"
        ) from None
    _hear_again(before)
    try:
        yield ray
    finally:
        ray.shutdown()
        _hear_again(before)


def _hear_again(before: Any) -> None:
    """Put what hears of SIGTERM back, where Ray has put its own and later takes away any."""
    if threading.current_thread() is threading.main_thread() and before is not None:
        signal.signal(signal.SIGTERM, before)


def _tell_on_stderr() -> None:
    """Have Ray say on stderr that a process died: it says so on stdout, whatever it is asked for.

    There a command's answer is, and nothing else.
    """
    worker: Any = importlib.import_module("ray._private.worker")
    tell = getattr(worker, "print_to_stdstream", None)
    if tell is None or tell.__module__ == __name__:
        return  # another release of Ray's, or ours already

    def told(data: dict[str, Any], *given: Any, **named: Any) -> None:
        tell({**data, "is_err": True}, *given, **named)

    worker.print_to_stdstream = told


def awaited(call: Callable[[], Found]) -> Found:
    """What ``call`` returns or raises, while this thread waits for it where signals are heard.

    Ray hears of them in its own way: it ends the process by another number, or not at all.
    """
    done: Future[Found] = Future()

    def work() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, daemon=True).start()  # which ends with Ray
    return done.result()


def check_call(address: str, workers: int) -> None:
    """ConfigError unless both mean something."""
    if address not in ADDRESSES:
        raise ConfigError(f"--address: {unknown(address, ADDRESSES)}")
    if workers < 1:
        raise ConfigError(f"--workers: {workers}; give 1 or more")


def ray_module() -> Any:
    """`ray`, or MissingExtra with what to install."""
    if importlib.util.find_spec("ray") is None:
        raise MissingExtra("--workers needs ray, which is not installed; pip install 'daogou[ray]'")
    import ray

    return ray
