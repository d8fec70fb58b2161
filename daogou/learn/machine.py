"""What training asks of the machine: a device, and memory that is not slow."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from daogou.errors import ConfigError

DEVICES: Final = ("auto", "cpu", "cuda")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_LARGEST_KEPT: Final = 32 << 20  # bytes: the most that glibc lets a kept block have


def device_of(name: str) -> torch.device:
    """The device that ``fit.device`` names; ``auto`` is a GPU where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("fit.device: 'cuda' is asked for and torch finds no GPU; say 'cpu'")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@contextmanager
def fast_memory() -> Iterator[None]:
    """Training's own way with memory; afterwards what was kept is given back.

    Numbers too small to be normal slow a processor down many times, so in this thread they become
    0. And the C library keeps what a step frees for the next one: giving it back and faulting it
    in again took a seventh of a step (docs/performance.md). Its thresholds, once set, no longer
    adapt by themselves: they are left where they would rise to, or all that computes in this
    process later would fault its memory in anew. Where the library is another, nothing is asked of
    it.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        if libc is not None:
            libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_KEPT)
            libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # TypeError is how Windows says that there is no such thing
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
