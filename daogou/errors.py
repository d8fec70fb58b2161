"""Every error this package raises on purpose.

DaogouError
├── ConfigError     a setting is missing, misspelt or out of range
├── DataError       a table does not hold what its schema promises
├── ArtifactError   a saved run is incomplete, altered, or from another version
└── MissingExtra    an optional library is needed here and is not installed
"""

import difflib
import importlib
from collections.abc import Iterable
from typing import Any


class DaogouError(Exception):
    """The caller can fix this; the message says where, what was found and what to do."""


class ConfigError(DaogouError):
    """A setting is missing, misspelt or out of range."""


class DataError(DaogouError):
    """A table does not hold what its schema promises."""


class ArtifactError(DaogouError):
    """A saved run is incomplete, altered, or from another version."""


class MissingExtra(DaogouError):
    """An optional library is needed here and is not installed."""


def optional(name: str, *, extra: str, needed_by: str) -> Any:
    """A module of an optional library. Raises MissingExtra, with what to install, without it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(
            f"{error.name or name}: needed by {needed_by} and not installed; "
            f"pip install 'daogou[{extra}]'"
        ) from None


def short_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left: Python's, NumPy's, Arrow's or torch's.

    >>> short_of_memory(MemoryError()), short_of_memory(RuntimeError("Device index out of range"))
    (True, False)
    """
    words = ("out of memory", "not enough memory", "can't allocate memory", "bad_alloc",
             "bad allocation", "can't start new thread")  # fmt: skip
    told = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(each in told for each in words)
    )


def remedy_for_writing(error: BaseException) -> str:
    """What lets a failed write succeed: a right that is missing, or else room.

    >>> remedy_for_writing(OSError(28, "No space left on device"))
    'free some disk'
    >>> remedy_for_writing(PermissionError(13, "Permission denied"))
    'let this user write there'
    """
    refused = ("permission denied", "read-only file system", "not permitted", "access is denied")
    told = str(error).lower()  # some libraries have these words and no number
    return "let this user write there" if any(e in told for e in refused) else "free some disk"


def unknown(word: str, known: Iterable[str]) -> str:
    """The sentence about a name that is not among the legal ones, with the nearest that is.

    >>> unknown("purchse", ["click", "purchase"])
    "no 'purchse' here (did you mean 'purchase'?); known: click, purchase"
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    told = ", ".join(name if name.isprintable() else repr(name) for name in names)
    return f"no {word!r} here{hint}; known: {told or 'none'}"
