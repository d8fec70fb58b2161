"""Files of questions, edits and dialogues that come with a question to a run."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from daogou.cli.say import answer
from daogou.errors import DataError

_LINES: Final = 256  # lines of a batch file that are answered at once


def answer_lines(
    path: Path,
    key: str,
    many: Callable[[Iterable[list[Any]]], Iterable[list[Any]]],
    size: int = _LINES,
) -> None:
    """One answer for each line of a batch file, in order; a bad line's is its error.

    ``many`` answers blocks of questions, in order.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give one with a line for each answer wanted")
    # Not str.splitlines: a title may hold characters that it, unlike JSON, takes for line ends.
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    blocks: list[list[Any]] = []
    wrong: dict[int, str] = {}
    for start in range(0, len(lines), size):
        asked: list[Any] = []
        for number, line in enumerate(lines[start : start + size], start):
            try:
                asked.append(value_of(line, key))
            except ValueError as error:
                wrong[number] = f"line {number + 1}: {error}"
        blocks.append(asked)
    number = 0
    for answers in many(blocks):
        for each in answers:
            while number in wrong:
                answer({"error": wrong[number]})
                number += 1
            answer(each)
            number += 1
    for late in range(number, len(lines)):
        answer({"error": wrong[late]})


def value_of(line: bytes, key: str) -> Any:
    """What a line asks about: ``{key: ...}``, a JSON text, or else the line itself.

    Raises ValueError with the reason.
    """
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start})") from None
    if not text:
        raise ValueError("empty")
    if text[0] not in '{"':
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # the latter of a nesting without end
        raise ValueError(f"not JSON ({error})") from None
    if isinstance(value, dict):
        if key not in value:
            raise ValueError(f"no {key!r} in it")
        return value[key]
    return value


def edits_in(path: Path | None) -> Any:
    """What a file of edits says; the guide checks what it means."""
    if path is None:
        return None
    if not path.is_file():
        raise DataError(f"{path}: no such file; write the edits there as JSON")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from None


def state_in(path: Path | None) -> dict[str, Any]:
    """What a file says of a dialogue: a list of answers, a document of `guide`, or its state."""
    if path is None:
        return {}
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no JSON can be read ({error})") from None
    if isinstance(found, list):
        return {"answers": found}
    state = found.get("state", found) if isinstance(found, dict) else None
    known = {"user", "query", "where", "answers", "edits", "lang"}
    if not isinstance(state, dict) or not set(state) <= known:
        raise DataError(f"{path}: a list of answers or a dialogue's state is wanted")
    return state
